//! `run`: an instance, by schedule or once.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::progress::ProgressBars;
use super::summary::Summary;
use super::{Exit, complain, complain_of, config_path, environment, load};
use crate::config::{Config, JobId};
use crate::daemon::{self, StartError};
use crate::director::{Ending, Mode, Signals};
use crate::event::Observer;
use crate::logging::{self, EventLog, Log};

/// How long the end of the process waits for a slow terminal.
const BARS_PATIENCE: Duration = Duration::from_secs(1);

/// Arguments of `run`.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Args {
    /// The configuration file
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Run all jobs once, now, in the order of the file, and end
    #[arg(long)]
    once: bool,
    /// Change nothing: rsync only says what it would do, commands are not executed
    #[arg(long)]
    dry_run: bool,
    /// Only this job; may be given several times
    #[arg(long, value_name = "ID")]
    job: Vec<String>,
    /// With --once: write metrics to this file, at the start and at the end, for node_exporter's textfile collector
    #[arg(long, value_name = "FILE")]
    metrics_file: Option<PathBuf>,
    /// How to log: for people, one JSON object a line, or to systemd's journal [default: journald when systemd reads our
    /// standard error, else human]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<logging::Format>,
    /// What to log: error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

pub(super) fn run(args: Args) -> Exit {
    prepare_and_run(args).unwrap_or_else(|exit| exit)
}

fn prepare_and_run(args: Args) -> Result<Exit, Exit> {
    // As early as can be: until then a signal has its default effect. One worker beside the director itself: there is little to
    // compute, and every further thread that wakes takes time from the rsyncs.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(64)
        .enable_all()
        .build()
        .map_err(cannot_start("start the runtime"))?;
    let signals = runtime.block_on(async { Signals::register() }).map_err(cannot_start("register for signals"))?;
    let switch = |name, argument: bool| match environment::is_on(name) {
        Ok(on) => Ok(argument || on),
        Err(message) => Err(wrong_usage(&message)),
    };
    let once = switch("RUNONCE", args.once)?;
    if args.metrics_file.is_some() && !once {
        return Err(wrong_usage("--metrics-file goes with --once only: a daemon serves its metrics"));
    }
    let dry_run = switch("DRYRUN", args.dry_run)?;
    let mut config = load(&config_path(args.config.as_ref())?)?.config;
    select_jobs(&mut config, &args.job)?;

    let log = start_log(&args)?;
    log.set_rsync_id(&config.rsync_id);
    let summary = once.then(|| Arc::new(Summary::new()));
    let bars = if once { ProgressBars::on_stderr().map(Arc::new) } else { None };
    if let Some(bars) = &bars {
        log.attach_progress(bars.multi());
    }
    let mut observers: Vec<Arc<dyn Observer>> = vec![Arc::new(EventLog::new(log.clone()))];
    observers.extend(summary.clone().map(|summary| summary as Arc<dyn Observer>));
    observers.extend(bars.clone().map(|bars| bars as Arc<dyn Observer>));
    let options = daemon::Options {
        mode: if once { Mode::Once } else { Mode::Daemon },
        dry_run,
        progress: bars.is_some(),
        metrics_file: args.metrics_file.clone(),
        observers,
    };
    let result = runtime.block_on(daemon::run(&config, options, log.clone(), signals));
    // Nothing is left on the blocking threads but, at worst, a file system that does not answer.
    runtime.shutdown_background();
    if let Some(bars) = bars {
        bars.flush(BARS_PATIENCE);
    }
    let exit = finish(result, &log, summary.as_deref());
    log.flush();
    exit
}

fn finish(result: Result<Ending, StartError>, log: &Log, summary: Option<&Summary>) -> Result<Exit, Exit> {
    match result {
        Ok(Ending::Over) => {}
        Ok(Ending::Renewal) => return Ok(Exit::Renewal),
        Err(error) => {
            tracing::error!("{}", crate::error_chain(&error));
            return Err(match error {
                StartError::PidFile(crate::pid_file::PidFileError::Live { .. }) => Exit::AlreadyRunning,
                _ => Exit::CannotStart,
            });
        }
    }
    let Some(summary) = summary else { return Ok(Exit::Success) };
    log.flush();
    let terminal = std::io::stdout().is_terminal();
    super::print(summary.table(80, terminal).trim_end());
    Ok(if summary.failed() { Exit::JobFailed } else { Exit::Success })
}

fn start_log(args: &Args) -> Result<Log, Exit> {
    let level = args.log_level.clone().or_else(|| environment::get("LOGLEVEL")?.into_string().ok());
    let options = logging::Options {
        level: logging::parse_level(level.as_deref().unwrap_or("info")).map_err(|error| {
            complain(&error);
            Exit::Configuration
        })?,
        format: args.log_format.unwrap_or_else(logging::detect_format),
        color: std::io::stderr().is_terminal(),
    };
    logging::init(options).map_err(|error| {
        complain(&error);
        Exit::CannotStart
    })
}

/// Leaves only the named jobs, in the order of the file.
fn select_jobs(config: &mut Config, only: &[String]) -> Result<(), Exit> {
    let known = |id: &String| config.jobs.iter().any(|job| job.id == JobId::new(id.as_str()));
    if let Some(unknown) = only.iter().find(|id| !known(id)) {
        return Err(wrong_usage(&unknown_job(unknown, config)));
    }
    if !only.is_empty() {
        config.jobs.retain(|job| only.iter().any(|id| id == job.id.as_str()));
    }
    Ok(())
}

/// What to say of a job that is not there.
pub(super) fn unknown_job(id: &str, config: &Config) -> String {
    let ids: Vec<&str> = config.jobs.iter().map(|job| job.id.as_str()).collect();
    format!("there is no job {id:?} in {}; there are: {}", config.path.display(), ids.join(", "))
}

fn wrong_usage(message: &str) -> Exit {
    complain_of(message);
    Exit::Configuration
}

fn cannot_start(operation: &'static str) -> impl Fn(std::io::Error) -> Exit {
    move |error| {
        complain_of(&format!("could not {operation}: {error}"));
        Exit::CannotStart
    }
}
