//! How an instance stands now: an observer that keeps, for each job, what it does, what it waits for, and how it last ended.
//!
//! The control socket, and whoever shows people what goes on, read a [`Status`], which is a copy.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::config::{Config, JobId};
use crate::event::{JobEvent, JobOutcome, Observer, Obstacle, RunEvent, RunId};
use crate::history::read::Last;
use crate::logging::Causes;
use crate::verify::Depth;
use crate::verify::report::{Report, Verdict};

/// An instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its `rsync_id`.
    pub instance: String,
    /// The program's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Since when it runs.
    pub since: Timestamp,
    /// Its configuration file.
    #[serde(default)]
    pub config: std::path::PathBuf,
    /// Its jobs, in the order of the configuration.
    pub jobs: Vec<JobStatus>,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Its id.
    pub job: String,
    /// What it does.
    pub state: State,
    /// The run that it is in.
    pub run: Option<u64>,
    /// What caused that.
    pub trigger: Option<String>,
    /// Since when it runs.
    pub since: Option<Timestamp>,
    /// How it ended last, in the life of this process.
    pub last: Option<Ended>,
    /// When it last succeeded.
    pub last_success: Option<Timestamp>,
    /// When it is due next; none if never.
    pub next_run: Option<Timestamp>,
    /// Since when its schedule is suspended; none if it is not.
    #[serde(default)]
    pub paused: Option<Timestamp>,
    /// What is known of the replicas that it makes, of those that were ever verified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<ReplicaStatus>,
}

/// A replica, as its last verification found it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// The id of the sync that makes it.
    pub sync: String,
    /// When that verification began.
    pub verified: Timestamp,
    /// How closely it looked.
    pub depth: Depth,
    /// What is to be thought of it.
    pub verdict: Verdict,
    /// The part of all entries that agreed, 0 to 1.
    pub ratio: f64,
    /// How many differed.
    pub differing: u64,
    /// The age of the oldest change that was not at the target, seconds; none when there was none.
    pub lag: Option<f64>,
    /// When everything was last in step.
    pub last_agreement: Option<Timestamp>,
}

impl From<&Report> for ReplicaStatus {
    fn from(report: &Report) -> Self {
        Self {
            sync: report.replica.sync.clone(),
            verified: report.at,
            depth: report.depth,
            verdict: report.verdict,
            ratio: report.ratio(),
            differing: report.differing(),
            lag: report.lag,
            last_agreement: report.last_agreement,
        }
    }
}

/// What a job does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "name")]
pub enum State {
    /// Nothing.
    Idle,
    /// It waits for its turn, behind what runs.
    Pending {
        /// Since when.
        since: Timestamp,
    },
    /// It is between two steps.
    Busy,
    /// It waits.
    Waiting {
        /// `block` or `lock`.
        on: WaitsOn,
        /// The file, `host:path`.
        file: String,
        /// Whose it is, or why that is not known.
        obstacle: String,
        /// When it found that first.
        since: Timestamp,
    },
    /// An action runs.
    Acting {
        /// Which.
        action: String,
        /// Its command line, for people.
        command: String,
        /// Since when.
        since: Timestamp,
        /// How far an rsync is that tells.
        progress: Option<Progress>,
    },
}

/// What a job waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitsOn {
    /// A block is to go away.
    Block,
    /// A lock held by another.
    Lock,
}

/// How far an rsync is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes moved so far.
    pub bytes: u64,
    /// Share of the whole, 0 to 100, as far as rsync knows the whole.
    pub percent: u8,
    /// Bytes per second.
    pub rate: u64,
}

/// The end of a job's run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Which run; none for one that did not start.
    pub run: Option<u64>,
    /// When.
    pub at: Timestamp,
    /// `succeeded`, `failed`, `skipped`.
    pub outcome: String,
    /// Why not `succeeded`, for people.
    pub detail: Option<String>,
    /// How long it took, seconds.
    pub seconds: f64,
}

/// Keeps the status.
pub struct Board {
    inner: Mutex<Inner>,
    /// Counts what changed it, for who wants to be woken; costs nothing while nobody does.
    changes: watch::Sender<u64>,
}

struct Inner {
    status: Status,
    causes: Causes,
}

impl Board {
    /// The board of an instance that begins now; `last` is what is known of its jobs from before.
    pub fn new(config: &Config, version: &str, last: &[(String, Last)]) -> Arc<Self> {
        let job = |id: &JobId| {
            let known = last.iter().find(|(job, _)| job == id.as_str());
            JobStatus::new(id, known.and_then(|(_, last)| last.success))
        };
        let status = Status {
            instance: config.rsync_id.to_string(),
            version: version.to_owned(),
            pid: std::process::id(),
            since: crate::clock::now(),
            config: std::path::absolute(&config.path).unwrap_or_else(|_| config.path.clone()),
            jobs: config.jobs.iter().map(|config| job(&config.id)).collect(),
        };
        let inner = Mutex::new(Inner { status, causes: Causes::default() });
        Arc::new(Self { inner, changes: watch::Sender::new(0) })
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        self.inner().status.clone()
    }

    /// Tells of changes. What it holds is only a count of them.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Takes over what verifications found before this process.
    pub fn restore_replicas(&self, reports: &[Report]) {
        let status = &mut self.inner().status;
        reports.iter().for_each(|report| status.verified(report));
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Board {
    fn configured(&self, config: &Config) {
        let status = &mut self.inner().status;
        let known = std::mem::take(&mut status.jobs);
        let job = |id: &JobId| known.iter().find(|known| known.job == id.as_str()).cloned();
        let jobs = config.jobs.iter().map(|config| job(&config.id).unwrap_or_else(|| JobStatus::new(&config.id, None)));
        status.jobs = jobs.collect();
        self.changes.send_modify(|count| *count += 1);
    }

    fn observe(&self, at: Timestamp, event: &RunEvent) {
        let RunEvent::Job { run, job, event: told } = event else { return };
        self.note(at, *run, job, (event, told));
        self.changes.send_modify(|count| *count += 1);
    }
}

impl Board {
    fn note(&self, at: Timestamp, run: Option<RunId>, job: &JobId, (event, told): (&RunEvent, &JobEvent)) {
        let Inner { status, causes } = &mut *self.inner();
        causes.observe(event);
        if let JobEvent::Verified { report, .. } = told {
            status.verified(report);
        }
        let Some(known) = status.jobs.iter_mut().find(|known| known.job == job.as_str()) else { return };
        let explain = |outcome: &JobOutcome| causes.explain(job, outcome);
        known.apply(at, run, told, explain);
    }
}

impl Status {
    /// Takes note of what a verification found, in whichever job it was.
    fn verified(&mut self, report: &Report) {
        let job = self.jobs.iter_mut().find(|job| job.job == report.replica.job);
        job.into_iter().for_each(|job| job.verified(report));
    }
}

impl JobStatus {
    /// A job of which no more is known.
    pub(crate) fn new(id: &JobId, last_success: Option<Timestamp>) -> Self {
        Self {
            job: id.to_string(),
            state: State::Idle,
            run: None,
            trigger: None,
            since: None,
            last: None,
            last_success,
            next_run: None,
            paused: None,
            replicas: Vec::new(),
        }
    }

    /// Takes note of what a verification found.
    fn verified(&mut self, report: &Report) {
        let now = ReplicaStatus::from(report);
        match self.replicas.iter_mut().find(|known| known.sync == now.sync) {
            Some(known) => *known = now,
            None => self.replicas.push(now),
        }
    }

    fn apply(
        &mut self,
        at: Timestamp,
        run: Option<RunId>,
        event: &JobEvent,
        explain: impl FnOnce(&JobOutcome) -> Option<String>,
    ) {
        match event {
            JobEvent::Started { trigger } => {
                self.run = run.map(|run| run.0);
                self.trigger = Some(trigger.to_string());
                self.since = Some(at);
                self.state = State::Busy;
            }
            JobEvent::BlockWait { file, obstacle, next_look: Some(_) } => {
                self.waits(at, WaitsOn::Block, file, obstacle)
            }
            JobEvent::LockWait { file, obstacle, next_look: Some(_) } => self.waits(at, WaitsOn::Lock, file, obstacle),
            JobEvent::BlocksDone { .. } | JobEvent::Locked { .. } => self.state = State::Busy,
            JobEvent::ActionStarted { action, command } => {
                let (action, command) = (action.to_string(), command.clone());
                self.state = State::Acting { action, command, since: at, progress: None };
            }
            JobEvent::Progress { progress: now, .. } => {
                if let State::Acting { progress, .. } = &mut self.state {
                    *progress = Some(Progress { bytes: now.bytes, percent: now.percent, rate: now.rate });
                }
            }
            JobEvent::ActionFinished { .. } => self.state = State::Busy,
            JobEvent::Finished { outcome, duration } => self.ends(at, run, outcome, *duration, explain(outcome)),
            JobEvent::NotRun { reason, .. } if self.run.is_none() => {
                let outcome = JobOutcome::Skipped(*reason);
                let detail = explain(&outcome);
                self.ends(at, run, &outcome, Duration::ZERO, detail);
            }
            JobEvent::NextRun(next) => self.next_run = *next,
            JobEvent::Pending if matches!(self.state, State::Idle) => self.state = State::Pending { since: at },
            JobEvent::Paused { since } => self.paused = *since,
            _ => {}
        }
    }

    fn waits(&mut self, at: Timestamp, on: WaitsOn, file: &str, obstacle: &Obstacle) {
        let since = match &self.state {
            State::Waiting { on: before, file: same, since, .. } if *before == on && same == file => *since,
            _ => at,
        };
        self.state = State::Waiting { on, file: file.to_owned(), obstacle: obstacle.to_string(), since };
    }

    fn ends(
        &mut self,
        at: Timestamp,
        run: Option<RunId>,
        outcome: &JobOutcome,
        duration: Duration,
        detail: Option<String>,
    ) {
        let word = match outcome {
            JobOutcome::Succeeded => "succeeded",
            JobOutcome::Failed(_) => "failed",
            JobOutcome::Skipped(_) => "skipped",
        };
        if *outcome == JobOutcome::Succeeded {
            self.last_success = Some(at);
        }
        let run = run.map(|run| run.0);
        self.last = Some(Ended { run, at, outcome: word.to_owned(), detail, seconds: duration.as_secs_f64() });
        (self.state, self.run, self.trigger, self.since) = (State::Idle, None, None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ActionId;
    use crate::event::{ActionFailure, JobFailure};
    use crate::event::{SkipReason, Trigger};
    use crate::logging::tests_support::{action_finished, failed_report, job_event};
    use crate::metrics::tests::config;

    fn board() -> Arc<Board> {
        Board::new(
            &config(),
            "2",
            &[("photos".into(), Last { success: Some(Timestamp::UNIX_EPOCH), ..Last::default() })],
        )
    }

    fn tell(board: &Board, second: i64, event: &RunEvent) -> JobStatus {
        board.observe(Timestamp::from_second(second).expect("a time"), event);
        let RunEvent::Job { job, .. } = event else { panic!("of a job") };
        board.status().jobs.into_iter().find(|known| known.job == job.as_str()).expect("known")
    }

    #[test]
    fn a_job_is_followed_from_its_start_to_its_end() {
        let board = board();
        let job = board.status().jobs[0].job.clone();
        let (job, action) = (job.as_str(), ActionId::new("mirror"));
        let now = tell(&board, 1, &job_event(job, JobEvent::Started { trigger: Trigger::Hup }));
        assert_eq!((now.trigger.as_deref(), &now.state), (Some("hup"), &State::Busy));
        let wait = |second| {
            let obstacle = Obstacle::Present("photos@laptop".into());
            let event =
                JobEvent::BlockWait { file: "nas:/x".into(), obstacle, next_look: Some(Duration::from_secs(9)) };
            tell(&board, second, &job_event(job, event)).state
        };
        wait(2);
        let State::Waiting { on, since, obstacle, .. } = wait(5) else { panic!("it waits") };
        assert_eq!((on, since.as_second(), obstacle.as_str()), (WaitsOn::Block, 2, "held by photos@laptop"));
        tell(&board, 6, &job_event(job, JobEvent::BlocksDone { waited: Duration::from_secs(4) }));
        let started = JobEvent::ActionStarted { action: action.clone(), command: "rsync -a a b".into() };
        tell(&board, 7, &job_event(job, started));
        let progress = crate::rsync::progress::Progress { bytes: 5, percent: 50, rate: 1, to_check: None };
        let now = tell(&board, 8, &job_event(job, JobEvent::Progress { action: action.clone(), progress }));
        assert!(matches!(now.state, State::Acting { progress: Some(Progress { percent: 50, .. }), .. }), "{now:?}");
        tell(&board, 9, &action_finished(job, "mirror", failed_report()));
        let outcome = JobOutcome::Failed(JobFailure::Action { action, failure: ActionFailure::Exit });
        let now = tell(&board, 10, &job_event(job, JobEvent::Finished { outcome, duration: Duration::from_secs(9) }));
        let last = now.last.expect("it ended");
        assert_eq!((now.state, now.run, last.outcome.as_str()), (State::Idle, None, "failed"));
        assert!(last.detail.expect("a reason").contains("exit code 23"));
    }

    #[test]
    fn a_skipped_tick_does_not_end_what_runs() {
        let board = board();
        let job = board.status().jobs[0].job.clone();
        let skipped = || job_event(&job, JobEvent::NotRun { reason: SkipReason::Overlap, trigger: Trigger::Cron });
        tell(&board, 1, &job_event(&job, JobEvent::Started { trigger: Trigger::Cron }));
        assert_eq!(tell(&board, 2, &skipped()).state, State::Busy);
    }

    #[test]
    fn what_a_verification_found_stands_at_the_job_of_the_sync() {
        let board = board();
        let found = |verdict| Report::sample("photos", "copy", verdict, &[]);
        board.restore_replicas(&[found(Verdict::Unknown), Report::sample("gone", "x", Verdict::InStep, &[])]);
        assert_eq!(board.status().jobs[0].replicas[0].verdict, Verdict::Unknown);
        let event = JobEvent::Verified { action: ActionId::new("v"), report: found(Verdict::InStep).into() };
        board.observe(Timestamp::UNIX_EPOCH, &job_event("another job", event));
        let replicas = &board.status().jobs[0].replicas;
        assert_eq!((replicas.len(), replicas[0].verdict, replicas[0].ratio), (1, Verdict::InStep, 1.0));
    }

    #[test]
    fn it_survives_the_way_over_the_socket() {
        let board = board();
        board.restore_replicas(&[Report::sample("photos", "copy", Verdict::InStep, &[])]);
        let status = board.status();
        let text = serde_json::to_string(&status).expect("JSON");
        assert_eq!(serde_json::from_str::<Status>(&text).expect("the same"), status);
    }
}
