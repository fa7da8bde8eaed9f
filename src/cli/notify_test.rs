//! `notify-test`: whether those who are to be told can be told.

use std::path::PathBuf;
use std::sync::Arc;

use super::instance::runtime;
use super::run::unknown_job;
use super::{Exit, complain_of, config_path, load, print};
use crate::config::{Config, Happening, Job, Target};
use crate::notify::{Notice, deliver};
use crate::process::{Spawner, Stop};
use crate::{clock, daemon};

/// Arguments of `notify-test`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only those who are told of this job
    #[arg(long, value_name = "ID")]
    job: Option<String>,
    /// What to tell of: start, success, failure, recovery, skip or late
    #[arg(long, value_name = "EVENT", default_value = "failure", value_parser = happening)]
    event: Happening,
}

fn happening(word: &str) -> Result<Happening, String> {
    Happening::from_word(word).ok_or_else(|| "it is one of start, success, failure, recovery, skip and late".to_owned())
}

pub(super) fn run(args: &Args) -> Exit {
    try_run(args).unwrap_or_else(|exit| exit)
}

fn try_run(args: &Args) -> Result<Exit, Exit> {
    let config = load(&config_path(args.config.as_ref())?)?.config;
    if let Some(id) = args.job.as_ref().filter(|id| !config.jobs.iter().any(|job| job.id.as_str() == id.as_str())) {
        complain_of(&unknown_job(id, &config));
        return Err(Exit::Configuration);
    }
    let letters = letters(&config, args);
    if letters.is_empty() {
        complain_of("there is nobody to tell: the configuration has no `notify`");
        return Err(Exit::NotFound);
    }
    let runtime = runtime()?;
    let spawner = Spawner::start().map_err(|error| {
        complain_of(&format!("could not start what starts children: {error}"));
        Exit::CannotStart
    })?;
    let results = runtime.block_on(tell_all(&spawner, &letters));
    // At worst a name that is still being resolved.
    runtime.shutdown_background();
    Ok(if results { Exit::Success } else { Exit::NotTold })
}

/// One for each target, of the first job that has it.
fn letters(config: &Config, args: &Args) -> Vec<(Arc<Target>, Notice)> {
    let wanted = |job: &&Arc<Job>| args.job.as_ref().is_none_or(|id| job.id.as_str() == id);
    let mut letters: Vec<(Arc<Target>, Notice)> = Vec::new();
    for job in config.jobs.iter().filter(wanted) {
        for target in &job.notify {
            if !letters.iter().any(|(known, _)| Arc::ptr_eq(known, target)) {
                letters.push((Arc::clone(target), notice(config, job, args.event)));
            }
        }
    }
    letters
}

fn notice(config: &Config, job: &Job, event: Happening) -> Notice {
    let outcome = match event {
        Happening::Success | Happening::Recovery => Some("succeeded"),
        Happening::Failure => Some("failed"),
        Happening::Skip => Some("skipped"),
        Happening::Start | Happening::Late => None,
    };
    Notice {
        event,
        test: true,
        instance: config.rsync_id.to_string(),
        host: daemon::host_name(),
        job: job.id.to_string(),
        run: None,
        trigger: None,
        outcome,
        reason: None,
        detail: Some("a test by `rsyncdirector notify-test`".to_owned()),
        duration: None,
        stderr: String::new(),
        next_run: None,
        at: clock::now(),
    }
}

/// Tells one after the other, once each, and prints how that went. Whether all were told.
async fn tell_all(spawner: &Spawner, letters: &[(Arc<Target>, Notice)]) -> bool {
    let mut all = true;
    for (target, notice) in letters {
        let line = match deliver(spawner, target, notice, &Stop::default()).await {
            Ok(()) => format!("{}: {}: told", notice.job, target.way),
            Err(error) => {
                all = false;
                format!("{}: {}: FAILED: {}", notice.job, target.way, crate::error_chain(&error))
            }
        };
        print(&line);
    }
    all
}
