//! `verify`: whether replicas are what their syncs make, asked now and without a daemon.
//!
//! Each verification is the same process that a job's `action: verify` starts. Nothing is locked for looking: what runs meanwhile is
//! told as in flight. `repair` mends what differs, under the job's locks.

mod listed;
mod progress;
mod repair;
mod show;

use std::io::{IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::instance::{Which, runtime};
use super::{Exit, complain, complain_of, print};
use crate::action::Runner;
use crate::action::verify::Told;
use crate::config::{self, Action, ActionKind, Config, Job, Verify};
use crate::event::{Events, ExitStatus};
use crate::lock::inventory::{self, State};
use crate::lock::record::Holder;
use crate::logging::{self, Log, escaped};
use crate::process::{EndedBy, OutputSink, Spawner, Spec, Stop, Stream};
use crate::ssh::{Pool, Transport};
use crate::verify::order::Order;
use crate::verify::report::{Report, Verdict};
use crate::verify::terms::Depth;
use crate::{account, clock, daemon, error_chain};
use listed::{List, Listed};
use progress::Line;

/// What the program exits with, of several replicas the worst: what nobody knows is worse than what is known.
pub(super) const EXIT_CODES: &str = "\
Exit codes, of several replicas the worst, which is 1, then 2, then 3:
  0  everything is in step
  1  it could not tell: something could not be read, or a peer not be reached
  2  more differs than may (max_drift, max_lag; without them, anything)
  3  something differs, no more than may
  4  the configuration is wrong, or it could not start";

/// The program exits with this when nothing was verified.
const NOT_STARTED: u8 = 4;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// Which: a job's, or one, by the id of the verification or of the sync; without any, all verifications, or all syncs where there are none
    #[arg(value_name = "JOB[/ACTION]")]
    what: Vec<String>,
    /// How closely to look, in place of what is configured: quick, meta, deep, or deep:5%/day
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    level: Option<(Depth, Option<f64>)>,
    /// List every path that differs, and how
    #[arg(long)]
    diff: bool,
    /// Print JSON instead of text: each report on a line, and with --diff each difference behind it
    #[arg(long)]
    json: bool,
    /// Read again what was read before
    #[arg(long)]
    fresh: bool,
    /// Copy so many files back, drawn at random, and compare them
    #[arg(long, value_name = "N")]
    restore: Option<usize>,
    /// Mend what differs after a question, under the job's locks; `all`: also overwrite what is newer at the target
    #[arg(long, value_name = "WHICH", num_args = 0..=1, require_equals = true, default_missing_value = "behind")]
    repair: Option<Repair>,
    /// With --repair: do not ask
    #[arg(long, short, requires = "repair")]
    yes: bool,
}

/// What is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Repair {
    /// All but what is newer at the target.
    Behind,
    /// That, too.
    All,
}

fn level(text: &str) -> Result<(Depth, Option<f64>), String> {
    config::level(text).ok_or_else(|| "quick, meta, deep, or deep:5%/day".to_owned())
}

/// What is to be verified: a job, and the verification, which may be that of another job's sync.
struct Chosen {
    job: Arc<Job>,
    verify: Verify,
}

pub(super) fn run(args: &Args) -> ExitCode {
    ExitCode::from(prepare_and_run(args).unwrap_or(NOT_STARTED))
}

fn prepare_and_run(args: &Args) -> Result<u8, Exit> {
    let config = args.which.config()?;
    let chosen = chosen(&config, args).map_err(|problem| {
        complain_of(&problem);
        Exit::Configuration
    })?;
    if chosen.is_empty() {
        complain_of("there is nothing to verify: no job has a sync");
        return Err(Exit::Configuration);
    }
    let log = start_log()?;
    log.set_rsync_id(&config.rsync_id);
    let runtime = runtime()?;
    let worst = runtime.block_on(async {
        let desk = Desk::open(&config, args, log.clone())?;
        let mut worst = 0;
        for chosen in &chosen {
            let code = desk.one(chosen).await;
            worst = [0, 3, 2, 1].into_iter().rfind(|rank| [worst, code].contains(rank)).unwrap_or(1);
            if desk.stop.term.is_cancelled() {
                break;
            }
        }
        desk.close().await;
        Ok(worst)
    });
    runtime.shutdown_background();
    log.flush();
    worst
}

fn start_log() -> Result<Log, Exit> {
    // What children print is told where it matters.
    let level = logging::parse_level("error").map_err(|error| {
        complain(&error);
        Exit::CannotStart
    })?;
    let color = std::io::stderr().is_terminal();
    logging::init(logging::Options { level, format: logging::Format::Human, color }).map_err(|error| {
        complain(&error);
        Exit::CannotStart
    })
}

/// What the command line means.
fn chosen(config: &Config, args: &Args) -> Result<Vec<Chosen>, String> {
    let mut chosen = Vec::new();
    if args.what.is_empty() {
        chosen = verifications(config.jobs.iter());
        if chosen.is_empty() {
            chosen = syncs(config.jobs.iter());
        }
    }
    for name in &args.what {
        chosen.extend(named(config, name)?);
    }
    for Chosen { verify, .. } in &mut chosen {
        if let Some((depth, share)) = args.level {
            (verify.depth, verify.share) = (depth, share);
        }
        verify.restore = args.restore.unwrap_or(verify.restore);
    }
    Ok(chosen)
}

fn verifications<'a>(jobs: impl Iterator<Item = &'a Arc<Job>>) -> Vec<Chosen> {
    of_kind(jobs, |action| matches!(action.kind, ActionKind::Verify(_)))
}

fn syncs<'a>(jobs: impl Iterator<Item = &'a Arc<Job>>) -> Vec<Chosen> {
    of_kind(jobs, |action| matches!(action.kind, ActionKind::Sync(_)))
}

fn of_kind<'a>(jobs: impl Iterator<Item = &'a Arc<Job>>, is_wanted: fn(&&Action) -> bool) -> Vec<Chosen> {
    let of = |job: &'a Arc<Job>| job.actions.iter().filter(is_wanted).filter_map(|action| verified_by(job, action));
    jobs.flat_map(of).collect()
}

/// The verification that an action is, or that of the sync that it is.
fn verified_by(job: &Arc<Job>, action: &Action) -> Option<Chosen> {
    let verify = match &action.kind {
        ActionKind::Verify(verify) => verify.clone(),
        ActionKind::Sync(sync) => Verify::quick(&job.id, &action.id, sync),
        ActionKind::Command(_) => return None,
    };
    Some(Chosen { job: Arc::clone(job), verify })
}

/// Those of `JOB` or `JOB/ACTION`.
fn named(config: &Config, name: &str) -> Result<Vec<Chosen>, String> {
    if let Some(job) = config.jobs.iter().find(|job| job.id.as_str() == name) {
        let found = verifications(std::iter::once(job));
        let found = if found.is_empty() { syncs(std::iter::once(job)) } else { found };
        return if found.is_empty() { Err(format!("job {name} has nothing to verify")) } else { Ok(found) };
    }
    for job in &config.jobs {
        let Some(id) = name.strip_prefix(job.id.as_str()).and_then(|rest| rest.strip_prefix('/')) else { continue };
        let Some(action) = job.actions.iter().find(|action| action.id.as_str() == id) else { continue };
        let chosen = verified_by(job, action);
        return chosen
            .map(|chosen| vec![chosen])
            .ok_or_else(|| format!("{name} is a command: there is nothing to verify"));
    }
    let all = verifications(config.jobs.iter()).into_iter().chain(syncs(config.jobs.iter()));
    let names: Vec<String> = all.map(|chosen| format!("{}/{}", chosen.verify.job, chosen.verify.of)).collect();
    let mut known: Vec<&str> = names.iter().map(String::as_str).collect();
    known.dedup();
    Err(format!("there is no {name:?} in {}; there are: {}", config.path.display(), known.join(", ")))
}

/// What verifications need.
struct Desk<'a> {
    config: &'a Config,
    args: &'a Args,
    runner: Runner,
    stop: Stop,
    _signals: tokio::task::JoinSet<()>,
}

impl<'a> Desk<'a> {
    fn open(config: &'a Config, args: &'a Args, log: Log) -> Result<Self, Exit> {
        let failed = |what: &'static str| {
            move |error: std::io::Error| {
                complain_of(&format!("could not {what}: {error}"));
                Exit::CannotStart
            }
        };
        let stop = Stop::default();
        let signals = listen(&stop).map_err(failed("register for signals"))?;
        let spawner = Spawner::start_guarded().map_err(failed("start what starts and guards children"))?;
        let events = Events::new(Vec::new());
        let pool = Pool::new(config.ssh.clone(), events.clone());
        let transport = match config.uses_native_transport() {
            true => Some(Transport::start(pool.clone()).map_err(failed("open the socket for connections"))?),
            false => None,
        };
        let runner = Runner {
            spawner,
            pool,
            transport,
            log,
            events,
            rsync_id: config.rsync_id.to_string(),
            kill_grace: config.kill_grace,
            dry_run: false,
            progress: false,
            home: account::home(),
            env: Vec::new(),
            state: daemon::state_of(config).filter(|(directory, _)| keeps(directory)),
        };
        Ok(Self { config, args, runner, stop, _signals: signals })
    }

    async fn close(self) {
        if let Some(transport) = &self.runner.transport {
            transport.close(daemon::GOODBYE).await;
        }
        self.runner.pool.close(daemon::GOODBYE).await;
    }

    /// One replica, from the look at its locks to its repair; the exit code.
    async fn one(&self, chosen: &Chosen) -> u8 {
        self.warn_of_locks(chosen).await;
        let wants_list = self.args.diff || self.args.repair.is_some();
        let list = match wants_list.then(List::new).transpose() {
            Ok(list) => list,
            Err(error) => return self.could_not(&chosen.verify, &format!("a file for what differs: {error}")),
        };
        let path = list.as_ref().map(List::path);
        let list = path.as_deref();
        let report = match self.verify(&chosen.verify, self.args.fresh, list).await {
            Ok(report) => report,
            Err(why) => return self.could_not(&chosen.verify, &why),
        };
        self.show(&report, list);
        match (self.args.repair, list) {
            (Some(which), Some(list)) if report.verdict != Verdict::InStep => {
                match repair::repair(self, chosen, &report, list, which).await {
                    Ok(Some(report)) => report.verdict.exit_code(),
                    Ok(None) => report.verdict.exit_code(),
                    Err(why) => self.could_not(&chosen.verify, &why),
                }
            }
            _ => report.verdict.exit_code(),
        }
    }

    fn could_not(&self, verify: &Verify, why: &str) -> u8 {
        if self.args.json {
            print(
                &json!({ "replica": { "job": verify.job.as_str(), "sync": verify.of.as_str() }, "error": why })
                    .to_string(),
            );
        }
        complain_of(&format!("{}/{}: {}", verify.job, verify.of, escaped(why)));
        Verdict::Unknown.exit_code()
    }

    fn show(&self, report: &Report, list: Option<&Path>) {
        if self.args.json {
            print(&serde_json::to_string(report).unwrap_or_default());
        } else {
            print(show::report(report, std::io::stdout().is_terminal()).trim_end());
        }
        if let Some(list) = list.filter(|_| self.args.diff)
            && let Err(error) = show::differences(list, self.args.json)
        {
            complain_of(&format!("could not read what differs: {error}"));
        }
    }

    /// Says which locks are held at the moment: differences may be in flight.
    async fn warn_of_locks(&self, chosen: &Chosen) {
        let jobs = [&chosen.job.id, &chosen.verify.job];
        let of_job = |job: &&Arc<Job>| jobs.contains(&&job.id) && !job.lock_files.is_empty();
        let jobs: Vec<Arc<Job>> = self.config.jobs.iter().filter(of_job).cloned().collect();
        if jobs.is_empty() {
            return;
        }
        let config = Config { jobs, ..self.config.clone() };
        let stores = daemon::stores(self.runner.pool.clone());
        let held = tokio::select! {
            files = inventory::list(&config, &stores) => files,
            () = self.stop.term.cancelled() => return,
        };
        for file in held.iter().filter(|file| !file.lock_of.is_empty()) {
            if let State::Held(holder @ Holder::Director { .. }) = &file.state {
                complain_of(&format!(
                    "{} is held by {}: what differs may be in flight",
                    escaped(&file.location.to_string()),
                    escaped(&holder.describe(clock::now())),
                ));
            }
        }
    }

    /// What is to be verified. A file system that does not answer may keep its source from being found for ever.
    async fn order(&self, verify: &Verify) -> Result<Order, String> {
        tokio::select! {
            order = self.runner.order(verify) => order,
            () = self.stop.told() => Err("stopped".to_owned()),
        }
    }

    /// Verifies; why that is not known, in one line.
    async fn verify(&self, verify: &Verify, fresh: bool, list: Option<&Path>) -> Result<Report, String> {
        let mut order = self.order(verify).await?;
        let line = Line::on_stderr(&format!("{}/{}", verify.job, verify.of));
        (order.fresh, order.list) = (fresh, list.map(Path::to_owned));
        self.execute(verify, &order, line).await
    }

    async fn execute(&self, verify: &Verify, order: &Order, line: Option<Line>) -> Result<Report, String> {
        let (stdin, _tickets) = self.runner.hand_over(order, verify.sync.peer()).map_err(|error| error.to_string())?;
        let (program, args) = self.runner.verifier();
        let spec = Spec {
            program,
            args,
            env: Vec::new(),
            stdin: Some(stdin),
            cwd: None,
            kill_grace: self.runner.kill_grace,
            timeout: None,
            stdout_every: None,
        };
        let mut told = Told::new(Errors::default());
        told.on_progress = line.map(|mut line| Box::new(move |progress| line.show(progress)) as Box<_>);
        let exit = self.runner.spawner.run(&spec, &self.stop, &mut told).await.map_err(|error| error_chain(&error))?;
        let Told { inner, report, on_progress, .. } = told;
        drop(on_progress);
        match (report, exit.ended_by, exit.status) {
            (_, EndedBy::Stop, _) => Err("stopped".to_owned()),
            (Some(report), ..) => Ok(report),
            (None, _, ExitStatus::Signal(signal)) => Err(format!("it was ended by signal {signal}")),
            (None, ..) => Err(inner.last_words()),
        }
    }
}

/// Whether what is found is kept in the instance's directory of state; if not, that is said.
fn keeps(directory: &Path) -> bool {
    let why = match belongs_to_us(directory) {
        Ok(true) => return true,
        Ok(false) => "belongs to another user".to_owned(),
        Err(error) => format!("cannot be written: {error}"),
    };
    complain_of(&format!(
        "what is found is not kept, since {} {why}; an action `verify` of the instance keeps it",
        escaped(&directory.display().to_string())
    ));
    false
}

/// Whether a directory that we write, or make, is ours. Root may write that of another user, who could not change any more what root makes there.
fn belongs_to_us(directory: &Path) -> std::io::Result<bool> {
    let (directory, user) = (std::path::absolute(directory)?, rustix::process::geteuid());
    let there = directory.ancestors().find(|place| place.exists()).unwrap_or(&directory);
    let is_ours = std::fs::metadata(there)?.uid() == user.as_raw();
    // What others make in a directory is their own, whoever has that.
    if !is_ours && (there == directory || user.is_root()) {
        return Ok(false);
    }
    rustix::fs::access(there, rustix::fs::Access::WRITE_OK)?;
    Ok(true)
}

/// The first signal stops politely, the second at once.
fn listen(stop: &Stop) -> std::io::Result<tokio::task::JoinSet<()>> {
    let mut listeners = tokio::task::JoinSet::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let (mut signals, stop) = (signal(kind)?, stop.clone());
        listeners.spawn(async move {
            while signals.recv().await.is_some() {
                if stop.term.is_cancelled() {
                    stop.kill.cancel();
                }
                stop.term.cancel();
            }
        });
    }
    Ok(listeners)
}

/// Keeps what a verification says to standard error; what it says to people otherwise is said better by its report.
#[derive(Default)]
struct Errors(Vec<u8>);

impl Errors {
    fn last_words(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        text.lines().next_back().map_or_else(|| "it told no result".to_owned(), str::to_owned)
    }
}

impl OutputSink for Errors {
    fn output(&mut self, stream: Stream, lines: &[u8]) {
        const MOST: usize = 16 << 10;
        if stream == Stream::Stderr {
            self.0.extend_from_slice(lines);
            self.0.drain(..self.0.len().saturating_sub(MOST));
        }
    }
}

/// Asks a question on the terminal. Without one, nobody can say yes.
fn confirmed(question: &str) -> bool {
    if !std::io::stdin().is_terminal() {
        complain_of("not on a terminal: use --yes to repair without a question");
        return false;
    }
    let mut out = std::io::stderr();
    let _ = write!(out, "{question} [y/N] ").and_then(|()| out.flush());
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// All that differs, in the order of paths.
fn read_list(list: &Path) -> std::io::Result<Vec<Listed>> {
    listed::read(list)?.collect()
}
