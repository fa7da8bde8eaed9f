//! `why`: why a job does not run now, and why it did not the last time.

use jiff::tz::TimeZone;
use serde_json::json;

use super::instance::{Which, ask};
use super::{Exit, complain, complain_of, print};
use crate::config::{Config, Job};
use crate::control::{self, Client, ClientError};
use crate::history::read::{self, Filter, JobRun};
use crate::history::schema;
use crate::logging::escaped;
use crate::status::Status;
use crate::why::{Why, why};
use crate::{clock, daemon};

/// Arguments of `why`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which job
    #[arg(value_name = "JOB")]
    job: String,
    #[command(flatten)]
    which: Which,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Exit {
    match answer(args) {
        Ok(why) if args.json => print(&format!("{:#}", json!(why))),
        Ok(why) => print(describe(&why).trim_end()),
        Err(exit) => exit,
    }
}

fn answer(args: &Args) -> Result<Why, Exit> {
    let config = args.which.config()?;
    let Some(job) = config.jobs.iter().find(|job| job.id.as_str() == args.job) else {
        complain_of(&super::run::unknown_job(&args.job, &config));
        return Err(Exit::Configuration);
    };
    let status = ask(async {
        match Client::new(control::find(&config)).get::<Status>("/v1/status").await {
            Err(ClientError::NotRunning(_)) => Ok(None),
            answer => answer.map(Some),
        }
    })?;
    let known = status.as_ref().and_then(|status| status.jobs.iter().find(|known| known.job == args.job));
    if status.is_some() && known.is_none() {
        complain_of(&format!("the running instance does not know job {:?} yet: `reload` tells it", args.job));
        return Err(Exit::NotFound);
    }
    Ok(why(job, known, latest(&config, job)?.as_ref(), clock::now()))
}

/// The newest of the job in the history.
fn latest(config: &Config, job: &Job) -> Result<Option<JobRun>, Exit> {
    let Some(path) = daemon::history_of(config) else { return Ok(None) };
    let failed = |error: &dyn std::error::Error| {
        complain(error);
        Exit::NotFound
    };
    let Some(database) = schema::open_read_only(&path).map_err(|error| failed(&error))? else { return Ok(None) };
    let filter = Filter { job: Some(job.id.to_string()), failed: false, limit: 1 };
    read::jobs(&database, &filter).map(|jobs| jobs.into_iter().next()).map_err(|error| failed(&error))
}

fn describe(why: &Why) -> String {
    let mut lines = vec![format!("{}: {}", why.job, why.now.text)];
    match &why.last {
        Some(last) => lines.push(format!("last: {}", last.text)),
        None => lines.push("last: nothing is known of an earlier occurrence".to_owned()),
    }
    if let Some(next) = why.next {
        let zoned = next.to_zoned(TimeZone::system());
        lines.push(format!("next: {}", zoned.strftime("%Y-%m-%d %H:%M:%S %:z")));
    }
    lines.iter().map(|line| format!("{}\n", escaped(line))).collect()
}
