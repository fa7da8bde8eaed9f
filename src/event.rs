//! What happens in an instance, as data: the one stream that logs, metrics, progress bars and (later) the history and
//! the pages are made from.
//!
//! Whoever performs a step sends a [`RunEvent`]; the daemon hands each to every [`Observer`]. Observers only look: one
//! that fails is logged and never fails a run.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;

use crate::config::{ActionId, Config, JobId, Peer};
use crate::rsync::stats::Stats;
use crate::verify::report::Report;

/// One pass over jobs. The number is the start in milliseconds since the Unix epoch, made unique and increasing within
/// an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(pub u64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What caused a run; displays as the value of the label `trigger`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// The schedule.
    Cron,
    /// SIGHUP.
    Hup,
    /// `run --once`.
    Once,
    /// The command `now`.
    Now,
    /// The schedule, for a time that the daemon missed.
    CatchUp,
}

impl Trigger {
    /// Every trigger, for series that start at 0.
    pub const ALL: [Self; 5] = [Self::Cron, Self::Hup, Self::Once, Self::Now, Self::CatchUp];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cron => "cron",
            Self::Hup => "hup",
            Self::Once => "once",
            Self::Now => "now",
            Self::CatchUp => "catch_up",
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a job was not run although it was due; displays as the label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SkipReason {
    /// It was still running from an earlier trigger.
    Overlap,
    /// A block file stayed for the whole `timeout`.
    BlockTimeout,
    /// Another held a lock file for the whole `timeout`.
    LockTimeout,
    /// The daemon is shutting down.
    Shutdown,
    /// Somebody paused its schedule.
    Paused,
    /// Somebody cancelled it before it did anything.
    Cancelled,
    /// A condition of its `when` does not hold.
    Condition,
    /// A job of its `after` did not succeed in this run.
    After,
}

impl SkipReason {
    /// Every reason, for series that start at 0.
    pub const ALL: [Self; 8] = [
        Self::Overlap,
        Self::BlockTimeout,
        Self::LockTimeout,
        Self::Shutdown,
        Self::Paused,
        Self::Cancelled,
        Self::Condition,
        Self::After,
    ];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overlap => "overlap",
            Self::BlockTimeout => "block_timeout",
            Self::LockTimeout => "lock_timeout",
            Self::Shutdown => "shutdown",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
            Self::Condition => "condition",
            Self::After => "after",
        }
    }
}

/// Why an action failed; displays as the label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActionFailure {
    /// It ended with an exit code that does not count as success, or by a signal that we did not send.
    Exit,
    /// It ran longer than its `timeout` and was killed.
    Timeout,
    /// It could not be started: program missing, a source that cannot be expanded.
    Start,
    /// The run lost a lock, so the action was killed.
    LockLost,
    /// The daemon was told to stop, or the job was cancelled, so the action was killed.
    Cancelled,
    /// It would have deleted more than `max_delete` allows.
    DeleteGuard,
    /// It would have deleted because a source is empty or not mounted.
    EmptySource,
    /// It made no progress for its `stall_timeout` and was killed.
    Stalled,
    /// The replica differs by more than may be.
    Drift,
}

impl ActionFailure {
    /// Every reason, for series that start at 0.
    pub const ALL: [Self; 9] = [
        Self::Exit,
        Self::Timeout,
        Self::Start,
        Self::LockLost,
        Self::Cancelled,
        Self::DeleteGuard,
        Self::EmptySource,
        Self::Stalled,
        Self::Drift,
    ];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Timeout => "timeout",
            Self::Start => "start",
            Self::LockLost => "lock_lost",
            Self::Cancelled => "cancelled",
            Self::DeleteGuard => "delete_guard",
            Self::EmptySource => "empty_source",
            Self::Stalled => "stalled",
            Self::Drift => "drift",
        }
    }
}

/// Why a job failed; displays as the label `reason`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobFailure {
    /// An action failed.
    Action {
        /// Which.
        action: ActionId,
        /// How.
        failure: ActionFailure,
    },
    /// A lock file could not be taken, for a reason that waiting does not mend.
    Lock,
    /// A lock was lost while the job ran and no action was under way to be killed.
    LockLost,
    /// Something that should not happen: a panic of ours. It ends the job, never the daemon.
    Internal,
}

impl JobFailure {
    /// The label's value.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Action { failure: ActionFailure::LockLost, .. } | Self::LockLost => "lock_lost",
            Self::Action { failure: ActionFailure::Cancelled, .. } => "cancelled",
            Self::Action { .. } => "action",
            Self::Lock => "lock",
            Self::Internal => "internal",
        }
    }

    /// Every label value, for series that start at 0.
    pub const LABELS: [&'static str; 5] = ["action", "lock", "lock_lost", "cancelled", "internal"];
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobOutcome {
    /// All actions succeeded.
    Succeeded,
    /// It began its locks or actions and did not get through.
    Failed(JobFailure),
    /// It never got as far as an action.
    Skipped(SkipReason),
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
}

/// How an action ended.
#[derive(Debug, Clone)]
pub struct ActionReport {
    /// `None` is success.
    pub failure: Option<ActionFailure>,
    /// How the last attempt's process ended; `None` when none started.
    pub status: Option<ExitStatus>,
    /// One line for people: what the exit code means, or what went wrong. Empty for plain success.
    pub message: String,
    /// What rsync's `--stats` said; `None` for commands and for an rsync that did not get that far.
    pub stats: Option<Stats>,
    /// Whether it was an rsync.
    pub is_rsync: bool,
    /// Time from the start of the first attempt to the end of the last.
    pub duration: Duration,
}

/// What stands in the way of a job.
#[derive(Debug, Clone)]
pub enum Obstacle {
    /// The file is there. The text says whose it is, as far as its content tells.
    Present(String),
    /// The host or file could not be looked at; that counts as blocked, never as free.
    Unknown(String),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present(holder) => write!(f, "held by {holder}"),
            Self::Unknown(error) => write!(f, "cannot be asked: {error}"),
        }
    }
}

/// What happened in a job of a run.
#[derive(Debug, Clone)]
pub enum JobEvent {
    /// It is to run, in this run if one is told or else in a next one, and waits for its turn.
    Pending,
    /// It begins with its blocks.
    Started {
        /// What caused the run.
        trigger: Trigger,
    },
    /// A look at a block found something in the way; the job waits.
    BlockWait {
        /// `host:path`.
        file: String,
        /// What was found.
        obstacle: Obstacle,
        /// Time until the next look; `None` when the timeout has passed and the job gives up.
        next_look: Option<Duration>,
    },
    /// The blocks of a job that has some are behind it, or it gave up on them.
    BlocksDone {
        /// Time from the first look on.
        waited: Duration,
    },
    /// A lock is held by another, or its host cannot be asked; the job waits.
    LockWait {
        /// `host:path`.
        file: String,
        /// What was found.
        obstacle: Obstacle,
        /// Time until the next attempt; `None` when the timeout has passed and the job gives up.
        next_look: Option<Duration>,
    },
    /// A stale lock was taken over.
    LockTakenOver {
        /// `host:path`.
        file: String,
        /// Whose it was.
        holder: String,
    },
    /// All lock files are ours.
    Locked {
        /// Number of them on this host.
        local: usize,
        /// Number of them on other hosts.
        remote: usize,
        /// Time since the blocks were behind the job.
        waited: Duration,
    },
    /// A lock file is no longer ours, or could not be refreshed in time.
    LockLost {
        /// `host:path`.
        file: String,
        /// How.
        reason: String,
    },
    /// All lock files are given back, or given up.
    Released {
        /// The ones that could not be removed, with the error; their lease ends them.
        left_behind: Vec<String>,
    },
    /// A condition of `when` does not hold, so the job is skipped.
    Unmet {
        /// Which, and what was found instead: one sentence for people.
        condition: String,
    },
    /// A job that failed is run once more at the end of this run.
    Again {
        /// Times that are left after that.
        left: u32,
    },
    /// An action begins.
    ActionStarted {
        /// Which.
        action: ActionId,
        /// The command line, for people: quoted as for a shell.
        command: String,
    },
    /// The files of a sync are shared out to several rsyncs.
    Split {
        /// Which action.
        action: ActionId,
        /// How many rsyncs run at once.
        rsyncs: usize,
        /// Files whose data is to be moved.
        files: usize,
        /// Their size, bytes.
        bytes: u64,
    },
    /// A running rsync reported progress.
    Progress {
        /// Which.
        action: ActionId,
        /// How far it is.
        progress: crate::rsync::progress::Progress,
    },
    /// An attempt failed with a code that a retry can mend.
    Retry {
        /// Which.
        action: ActionId,
        /// What the attempt ended with.
        message: String,
        /// Pause before the next attempt.
        pause: Duration,
    },
    /// An rsync makes no progress and is killed.
    Stalled {
        /// Of which action.
        action: ActionId,
        /// For how long there was none.
        idle: Duration,
    },
    /// An attempt of an rsync ended.
    RsyncExit {
        /// Which.
        action: ActionId,
        /// rsync's exit code.
        code: i32,
    },
    /// A verification has come to a result.
    Verified {
        /// By which action.
        action: ActionId,
        /// What it found.
        report: Arc<Report>,
    },
    /// An action is over.
    ActionFinished {
        /// Which.
        action: ActionId,
        /// How it went.
        report: ActionReport,
    },
    /// The job is over.
    Finished {
        /// How it ended.
        outcome: JobOutcome,
        /// Time since it started.
        duration: Duration,
    },
    /// The job is not run although it was wanted; it did not even start.
    NotRun {
        /// Why.
        reason: SkipReason,
        /// What wanted to run it.
        trigger: Trigger,
    },
    /// Scheduled times passed without the daemon being awake to see them.
    Missed {
        /// How many.
        count: u64,
    },
    /// Its schedule is suspended, since when; or not any more.
    Paused {
        /// `None` when it is not any more.
        since: Option<Timestamp>,
    },
    /// The job's last success is older than its `max_age`. Told once until it succeeds again.
    Late {
        /// When it last succeeded; `None` if that is not known.
        last_success: Option<Timestamp>,
        /// Its `max_age`.
        max_age: Duration,
    },
    /// When the job is due next; `None` is never.
    NextRun(Option<Timestamp>),
}

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum RunEvent {
    /// A run begins.
    RunStarted {
        /// Which.
        run: RunId,
        /// What caused it.
        trigger: Trigger,
    },
    /// Something happened in a job; `run` is `None` outside of runs.
    Job {
        /// In which run.
        run: Option<RunId>,
        /// In which job.
        job: JobId,
        /// What.
        event: JobEvent,
    },
    /// A run is over, however its jobs ended.
    RunFinished {
        /// Which.
        run: RunId,
        /// Time since it began.
        duration: Duration,
    },
    /// A connection to a peer was made.
    PeerConnected {
        /// Which.
        peer: Peer,
    },
    /// A peer could not be connected to.
    PeerFailed {
        /// Which.
        peer: Peer,
        /// Label `reason`: `unreachable`, `timeout`, `host_key`, `auth`, `key`, `protocol`.
        reason: &'static str,
    },
}

/// Something that is told everything that happens, in order.
pub trait Observer: Send + std::marker::Sync {
    /// Called once for each event, with the wall-clock time at which it happened.
    fn observe(&self, at: Timestamp, event: &RunEvent);

    /// Waits, not for long, until what was told so far outlives the process. Whoever keeps nothing is ready at once.
    fn settle(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Called when another configuration of the instance takes the place of the first.
    fn configured(&self, _config: &Config) {}
}

/// The way by which events reach the observers. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    observers: Arc<[Arc<dyn Observer>]>,
}

impl Events {
    /// A way to these observers.
    pub fn new(observers: Vec<Arc<dyn Observer>>) -> Self {
        Self { observers: observers.into() }
    }

    /// Tells every observer that another configuration holds now.
    pub fn configured(&self, config: &Config) {
        self.observers.iter().for_each(|observer| observer.configured(config));
    }

    /// Waits, not for long, until what was told so far outlives the process.
    pub async fn settle(&self) {
        for observer in self.observers.iter() {
            observer.settle().await;
        }
    }

    /// Tells every observer.
    pub fn send(&self, event: RunEvent) {
        let at = crate::clock::now();
        for observer in self.observers.iter() {
            observer.observe(at, &event);
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Events({} observers)", self.observers.len())
    }
}
