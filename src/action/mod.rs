//! One step of a job: an rsync, a command or a verification, with its retries.
//!
//! [`Runner::run`] makes the command line (`sync`, `command`, `verify`), looks whether it may delete what it would (`guard`), starts it (`attempt`;
//! before it several rsyncs that share its work, `shards`; with an eye on its progress, `stall`), streams its output to the log, and reports how it ended. It never returns while a process of the action lives.

mod attempt;
mod command;
mod guard;
mod look;
mod output;
mod shards;
mod stall;
mod sync;
#[cfg(test)]
mod tests;
pub mod verify;

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::clock::{self, Ticks};
use crate::config::{Action, ActionKind, JobId, Peer};
use crate::event::{ActionFailure, ActionReport, Events, ExitStatus, JobEvent, RunEvent, RunId};
use crate::logging::Log;
use crate::process::{EndedBy, Exit, SpawnError, Spawner, Stop};
use crate::redact;
use crate::rsync;
use crate::ssh::{Pool, Transport};
use crate::warrant::Warrant;
use attempt::Attempt;
use guard::Guard;
use shards::Split;
use verify::Verification;

/// A retry's pause doubles up to this.
const LONGEST_RETRY_WAIT: Duration = Duration::from_secs(3600);

/// What executing actions needs; the same for all actions of an instance.
#[derive(Clone)]
pub struct Runner {
    /// Starts processes.
    pub spawner: Spawner,
    /// Connections to peers, for the policy of an rsync's ssh.
    pub pool: Pool,
    /// What rsyncs reach their peers by; `None` where all use the system's `ssh`.
    pub transport: Option<Transport>,
    /// Where output goes.
    pub log: Log,
    /// Where events go.
    pub events: Events,
    /// The instance's name.
    pub rsync_id: String,
    /// Time between TERM and KILL.
    pub kill_grace: Duration,
    /// Whether rsyncs only say what they would do, and commands are not executed.
    pub dry_run: bool,
    /// Whether rsyncs report progress.
    pub progress: bool,
    /// The user's home directory, for `~`.
    pub home: Option<PathBuf>,
    /// Variables for the children beside those of our own environment: what a hook is told.
    pub env: Vec<(OsString, OsString)>,
    /// Where the instance keeps what it knows of its replicas, and for how long; `None` keeps nothing.
    pub state: Option<(PathBuf, Duration)>,
}

/// How often the output of an rsync that prints only statistics is looked at, in case that it says more. At its end rsync
/// looks for its own children every 20 ms; being read in that moment made it miss them, and take 20 ms longer, one time in four.
const SILENT_LOOK: Duration = Duration::from_secs(1);

/// What is to be performed, and for how long it may be.
#[derive(Clone, Copy)]
pub struct Assignment<'a> {
    /// In which run.
    pub run: RunId,
    /// Of which job.
    pub job: &'a JobId,
    /// What.
    pub action: &'a Action,
    /// Ends it when it is cancelled.
    pub stop: &'a Stop,
    /// When this is lost, nothing is begun any more, and nothing more is passed on to a peer.
    pub warrant: &'a Warrant,
}

/// The process to be started.
struct Plan {
    program: OsString,
    args: Vec<OsString>,
    is_rsync: bool,
    /// Whether it prints nothing while it works.
    is_silent: bool,
    /// The host that an rsync talks to.
    peer: Option<Peer>,
    /// Whether it does so over our own connections.
    native: bool,
    /// How several rsyncs share the work before this one.
    split: Option<Split>,
    /// What is looked at before.
    guard: Option<Guard>,
    /// Its standard input.
    stdin: Option<Arc<File>>,
    /// What is verified in place of all that.
    verification: Option<Verification>,
}

impl Plan {
    /// A process that is no rsync, and nothing beside it.
    fn of(program: OsString, args: Vec<OsString>) -> Self {
        Self {
            program,
            args,
            is_rsync: false,
            is_silent: false,
            peer: None,
            native: false,
            split: None,
            guard: None,
            stdin: None,
            verification: None,
        }
    }
}

impl Runner {
    /// Performs an action. When it was stopped, the report says [`ActionFailure::Cancelled`]; whatever fails when the warrant is lost is
    /// [`ActionFailure::LockLost`].
    pub async fn run(&self, assignment: &Assignment<'_>) -> ActionReport {
        let Assignment { run, job, action, warrant, .. } = *assignment;
        let started = Ticks::now();
        let send = |event| self.events.send(RunEvent::Job { run: Some(run), job: job.clone(), event });
        let mut report = match self.plan(assignment).await {
            Ok(plan) => {
                let command = match &plan.verification {
                    Some(verification) => verification.command.clone(),
                    None => rsync::args::display(&plan.program, &attempt::paced(action, &plan.args, 1)),
                };
                let command = redact::command_line(&command).into_owned();
                send(JobEvent::ActionStarted { action: action.id.clone(), command });
                self.attempts(assignment, &plan).await
            }
            Err((failure, message)) => {
                send(JobEvent::ActionStarted { action: action.id.clone(), command: String::new() });
                failed(failure, message, matches!(action.kind, ActionKind::Sync(_)))
            }
        };
        report.duration = started.elapsed();
        if let Some(failure) = report.failure
            && warrant.is_lost()
        {
            report.message = match failure {
                // An rsync whose connection was cut for it may have been faster than the signal.
                ActionFailure::Cancelled | ActionFailure::Exit => "killed: a lock was lost".into(),
                _ => format!("a lock was lost: {}", report.message),
            };
            report.failure = Some(ActionFailure::LockLost);
        }
        send(JobEvent::ActionFinished { action: action.id.clone(), report: report.clone() });
        self.events.settle().await;
        report
    }

    /// What is to be started. A file system that does not answer may keep a source from being found for ever: then the action ends before it
    /// has begun, when it is told to stop or has no time any more.
    async fn plan(&self, assignment: &Assignment<'_>) -> Result<Plan, (ActionFailure, String)> {
        let Assignment { action, stop, .. } = *assignment;
        let plan = async {
            match &action.kind {
                ActionKind::Sync(sync) => sync::plan(self, sync).await,
                ActionKind::Command(command) => Ok(command::plan(command)),
                ActionKind::Verify(verify) => verify::plan(self, verify).await,
            }
        };
        let timeout = action.timeout.map(|timeout| (timeout, ActionFailure::Timeout));
        let stall = action.stall_timeout().map(|timeout| (timeout, ActionFailure::Stalled));
        let bound = timeout.into_iter().chain(stall).min_by_key(|(timeout, _)| *timeout);
        let (patience, failure) = bound.unwrap_or((Duration::MAX, ActionFailure::Timeout));
        tokio::select! {
            biased;
            plan = plan => plan.map_err(|message| (ActionFailure::Start, message)),
            () = stop.told() => Err((ActionFailure::Cancelled, "killed: it was told to stop".into())),
            () = clock::sleep(patience) => {
                let seconds = patience.as_secs_f64();
                Err((failure, format!("the source was not found within {seconds} s: its file system does not answer")))
            }
        }
    }

    async fn attempts(&self, assignment: &Assignment<'_>, plan: &Plan) -> ActionReport {
        let Assignment { run, job, action, stop, warrant } = *assignment;
        // A verification changes nothing anyway.
        if self.dry_run && !plan.is_rsync && plan.verification.is_none() {
            return ActionReport {
                failure: None,
                status: None,
                message: "not executed: dry run".into(),
                stats: None,
                is_rsync: false,
                duration: Duration::ZERO,
            };
        }
        let mut pause = action.retry_wait;
        let mut left = action.retries;
        loop {
            let report = self.attempt(assignment, plan).await;
            if left == 0 || !can_be_mended(&report) || stop.term.is_cancelled() || warrant.is_lost() {
                return report;
            }
            let event = JobEvent::Retry { action: action.id.clone(), message: report.message.clone(), pause };
            self.events.send(RunEvent::Job { run: Some(run), job: job.clone(), event });
            tokio::select! {
                () = clock::sleep(pause) => {}
                () = stop.term.cancelled() => return report,
            }
            left -= 1;
            pause = (pause * 2).min(LONGEST_RETRY_WAIT);
        }
    }

    async fn attempt(&self, assignment: &Assignment<'_>, plan: &Plan) -> ActionReport {
        let Assignment { run, job, action, stop, warrant } = *assignment;
        let (started, stalled) = (Ticks::now(), AtomicBool::new(false));
        let attempt = Attempt { runner: self, run, job, action, plan, stop, warrant, started, stalled };
        let report = attempt.perform().await;
        self.diagnose(plan, report, stop).await
    }

    /// When the connection of an rsync by the system's `ssh` was at fault, our own attempt to connect tells why, and what to do about it.
    /// Our own connections have told by themselves.
    async fn diagnose(&self, plan: &Plan, mut report: ActionReport, stop: &Stop) -> ActionReport {
        let of_the_connection = matches!(report.status, Some(ExitStatus::Code(12 | 255)));
        let asks = of_the_connection && report.failure.is_some() && !plan.native;
        if let Some(peer) = plan.peer.as_ref().filter(|_| asks) {
            let diagnosis = tokio::select! {
                result = self.pool.warm(peer) => result.err(),
                () = stop.term.cancelled() => None,
            };
            if let Some(error) = diagnosis {
                report.message = format!("{}: {}", report.message, crate::error_chain(&error));
            }
        }
        report
    }
}

fn judge(action: &Action, plan: &Plan, exit: Result<Exit, SpawnError>, last_words: &str) -> ActionReport {
    let exit = match exit {
        Ok(exit) => exit,
        Err(error) => return failed(ActionFailure::Start, crate::error_chain(&error), plan.is_rsync),
    };
    let success = matches!(exit.status, ExitStatus::Code(code) if action.success_exit_codes.contains(&code));
    let failure = match exit.ended_by {
        EndedBy::Timeout => Some(ActionFailure::Timeout),
        EndedBy::Stop => Some(ActionFailure::Cancelled),
        EndedBy::Itself => (!success).then_some(ActionFailure::Exit),
    };
    let message = match failure {
        Some(ActionFailure::Timeout) => {
            format!("killed: it ran longer than {} s", action.timeout.unwrap_or_default().as_secs_f64())
        }
        Some(ActionFailure::Cancelled) => "killed: it was told to stop".into(),
        _ => describe(exit.status, plan.is_rsync, failure.is_some(), last_words),
    };
    ActionReport {
        failure,
        status: Some(exit.status),
        message,
        stats: None,
        is_rsync: plan.is_rsync,
        duration: Duration::ZERO,
    }
}

/// `exit code 23 (some files could not be transferred): rsync: ... No such file or directory`; empty for code 0.
fn describe(status: ExitStatus, is_rsync: bool, failed: bool, last_words: &str) -> String {
    let status = match status {
        ExitStatus::Code(0) if !failed => return String::new(),
        ExitStatus::Code(code) => match rsync::exit::meaning(code).filter(|_| is_rsync) {
            Some(meaning) => format!("exit code {code} ({meaning})"),
            None => format!("exit code {code}"),
        },
        ExitStatus::Signal(signal) => format!("ended by signal {signal}"),
    };
    if last_words.is_empty() { status } else { format!("{status}: {last_words}") }
}

fn can_be_mended(report: &ActionReport) -> bool {
    match (report.failure, report.status) {
        (Some(ActionFailure::Stalled), _) => true,
        (Some(ActionFailure::Exit), Some(ExitStatus::Code(code))) => !report.is_rsync || rsync::exit::retry_mends(code),
        _ => false,
    }
}

fn failed(failure: ActionFailure, message: String, is_rsync: bool) -> ActionReport {
    ActionReport { failure: Some(failure), status: None, message, stats: None, is_rsync, duration: Duration::ZERO }
}
