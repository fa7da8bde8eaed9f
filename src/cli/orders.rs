//! `now`, `cancel`, `pause`, `resume`, `reload`, `renew`: orders to a running instance.

use serde_json::json;

use super::instance::{Which, ask};
use super::{Exit, print};
use crate::director::Done;
use crate::logging::escaped;

/// Arguments of an order about jobs.
#[derive(Debug, clap::Args)]
pub(super) struct JobArgs {
    /// Which jobs; all, if none is named
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    #[command(flatten)]
    common: Common,
}

/// Arguments of every order.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    #[command(flatten)]
    which: Which,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Gives an order about jobs.
pub(super) fn order(args: &JobArgs, what: &str) -> Exit {
    give(&args.common, what, &args.jobs)
}

/// Has the configuration read again.
pub(super) fn reload(args: &Common) -> Exit {
    give(args, "reload", &[])
}

/// Has it leave when nothing runs, to be started anew.
pub(super) fn renew(args: &Common) -> Exit {
    give(args, "renew", &[])
}

fn give(args: &Common, what: &str, jobs: &[String]) -> Exit {
    let done = args.which.client().and_then(|client| ask(client.post::<Done>(&format!("/v1/{what}"), jobs)));
    match done {
        Ok(done) if args.json => print(&format!("{:#}", json!(done))),
        Ok(done) => print(describe(&done, what).trim_end()),
        Err(exit) => exit,
    }
}

fn describe(done: &Done, what: &str) -> String {
    let jobs = done.jobs.iter().map(|job| match job.run {
        Some(run) => format!("{}: {} (run {run})", job.job, job.result),
        None => format!("{}: {}", job.job, job.result),
    });
    let lines: Vec<String> = jobs.chain(done.notes.iter().cloned()).map(|line| escaped(&line).into_owned()).collect();
    match (lines.is_empty(), what) {
        (false, _) => lines.join("\n"),
        (true, "cancel") => "nothing of that runs or is queued".to_owned(),
        (true, "reload") => "nothing has changed".to_owned(),
        (true, _) => "there is no such job".to_owned(),
    }
}
