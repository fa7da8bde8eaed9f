//! The metric names of RsyncDirector 1.x with their old labels, buckets and meaning.
//!
//! Two of them mean less than their names: `runs_completed_total` counts failed runs too, and
//! `job_aborted_for_failed_process_err_total` never rises, because it was about the helper process of an action, which
//! this program does not have (the old one counted an action that failed, in whatever way, as `failed_action`). An
//! action that was stopped because the daemon was told to stop is not counted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use prometheus::{Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec};

use super::registrar::Registrar;
use crate::config::{ActionId, Config, Job, JobId};
use crate::event::{ActionFailure, JobEvent, JobFailure, JobOutcome, RunEvent, SkipReason};

/// All families of the old set.
pub(super) struct Families {
    runs_completed: IntCounter,
    all: JobFamilies,
    jobs: RwLock<HashMap<JobId, JobSeries>>,
}

struct JobSeries {
    duration: Histogram,
    skipped_for_block_timeout: IntCounter,
    blocked: IntCounter,
    blocked_seconds: Option<Histogram>,
    lock_files: Gauge,
    actions: HashMap<ActionId, ActionSeries>,
    /// The action that is under way, to which an internal error is charged.
    running: Mutex<Option<ActionId>>,
}

struct ActionSeries {
    failed: IntCounter,
    exception: IntCounter,
}

impl Families {
    pub(super) fn new(registrar: &Registrar, config: &Config) -> Self {
        let runs_completed = registrar.counters(
            "runs_completed_total",
            "Runs that are over, whether their jobs succeeded or not.",
            &["rsync_id"],
        );
        let all = JobFamilies::new(registrar);
        Self {
            runs_completed: runs_completed.with_label_values(&[&config.rsync_id]),
            jobs: RwLock::new(all.series(&config.jobs)),
            all,
        }
    }

    /// Makes these the jobs that count.
    pub(super) fn set_jobs(&self, jobs: &[Arc<Job>]) {
        *self.jobs.write().unwrap_or_else(PoisonError::into_inner) = self.all.series(jobs);
    }

    pub(super) fn observe(&self, event: &RunEvent) {
        match event {
            RunEvent::RunFinished { .. } => self.runs_completed.inc(),
            RunEvent::Job { job, event, .. } => {
                if let Some(series) = self.jobs.read().unwrap_or_else(PoisonError::into_inner).get(job) {
                    series.observe(event);
                }
            }
            RunEvent::RunStarted { .. } | RunEvent::PeerConnected { .. } | RunEvent::PeerFailed { .. } => {}
        }
    }
}

const JOB: &[&str] = &["job_id"];
const ACTION: &[&str] = &["job_id", "action_id"];

/// The families of which each job has its series.
struct JobFamilies {
    duration: HistogramVec,
    skipped: IntCounterVec,
    blocked: IntCounterVec,
    blocked_seconds: HistogramVec,
    lock_files: GaugeVec,
    failed_process: IntCounterVec,
    failed_action: IntCounterVec,
    exception: IntCounterVec,
}

impl JobFamilies {
    #[rustfmt::skip] // One family a line, as a table.
    fn new(r: &Registrar) -> Self {
        Self {
            duration: r.histograms("job_duration_seconds", "Time from a job's start to its end, waits included.", JOB),
            skipped: r.counters("job_skipped_for_block_timeout_total", "Times a job was skipped because a block stayed for its whole timeout.", JOB),
            blocked: r.counters("blocked_total", "Looks at a block that found it in the way.", JOB),
            blocked_seconds: r.histograms("blocked_seconds", "Time that a job with blocks spent on them, in each run.", JOB),
            lock_files: r.gauges("lock_files", "Lock files that the job holds.", JOB),
            // For its name alone: it stays at 0.
            failed_process: r.counters("job_aborted_for_failed_process_err_total", "Always 0: it counted failures of a kind of process that is no longer used.", ACTION),
            failed_action: r.counters("job_aborted_for_failed_action_err_total", "Jobs that ended because the action failed.", ACTION),
            exception: r.counters("job_aborted_for_exception_err_total", "Jobs that ended because of an internal error during the action.", ACTION),
        }
    }

    fn series(&self, jobs: &[Arc<Job>]) -> HashMap<JobId, JobSeries> {
        jobs.iter().map(|job| (job.id.clone(), self.series_of(job))).collect()
    }

    fn series_of(&self, job: &Job) -> JobSeries {
        let id = job.id.as_str();
        let action_series = |action: &ActionId| {
            let labels = [id, action.as_str()];
            self.failed_process.with_label_values(&labels);
            ActionSeries {
                failed: self.failed_action.with_label_values(&labels),
                exception: self.exception.with_label_values(&labels),
            }
        };
        JobSeries {
            duration: self.duration.with_label_values(&[id]),
            skipped_for_block_timeout: self.skipped.with_label_values(&[id]),
            blocked: self.blocked.with_label_values(&[id]),
            blocked_seconds: (!job.blocks_on.is_empty()).then(|| self.blocked_seconds.with_label_values(&[id])),
            lock_files: self.lock_files.with_label_values(&[id]),
            actions: job.steps().map(|action| (action.id.clone(), action_series(&action.id))).collect(),
            running: Mutex::new(None),
        }
    }
}

impl JobSeries {
    fn observe(&self, event: &JobEvent) {
        match event {
            JobEvent::Started { .. } => *self.running() = None,
            JobEvent::BlockWait { .. } => self.blocked.inc(),
            JobEvent::BlocksDone { waited } => {
                if let Some(seconds) = &self.blocked_seconds {
                    seconds.observe(waited.as_secs_f64());
                }
            }
            JobEvent::Locked { local, remote, .. } => self.lock_files.set((local + remote) as f64),
            JobEvent::Released { .. } => self.lock_files.set(0.0),
            JobEvent::ActionStarted { action, .. } => *self.running() = Some(action.clone()),
            JobEvent::ActionFinished { action, report } => {
                *self.running() = None;
                if let Some(failure) = report.failure {
                    self.action_failed(action, failure);
                }
            }
            JobEvent::Finished { outcome, duration } => {
                self.duration.observe(duration.as_secs_f64());
                self.finished(outcome);
            }
            JobEvent::LockWait { .. }
            | JobEvent::LockTakenOver { .. }
            | JobEvent::LockLost { .. }
            | JobEvent::Progress { .. }
            | JobEvent::Split { .. }
            | JobEvent::Unmet { .. }
            | JobEvent::Again { .. }
            | JobEvent::Paused { .. }
            | JobEvent::Pending
            | JobEvent::Retry { .. }
            | JobEvent::Stalled { .. }
            | JobEvent::RsyncExit { .. }
            | JobEvent::Late { .. }
            | JobEvent::Verified { .. }
            | JobEvent::NotRun { .. }
            | JobEvent::Missed { .. }
            | JobEvent::NextRun(_) => {}
        }
    }

    fn action_failed(&self, action: &ActionId, failure: ActionFailure) {
        match failure {
            ActionFailure::Exit
            | ActionFailure::Timeout
            | ActionFailure::Start
            | ActionFailure::LockLost
            | ActionFailure::DeleteGuard
            | ActionFailure::EmptySource
            | ActionFailure::Stalled
            | ActionFailure::Drift => {
                if let Some(series) = self.actions.get(action) {
                    series.failed.inc();
                }
            }
            ActionFailure::Cancelled => {}
        }
    }

    fn finished(&self, outcome: &JobOutcome) {
        let running = self.running().take();
        match outcome {
            JobOutcome::Skipped(SkipReason::BlockTimeout) => self.skipped_for_block_timeout.inc(),
            JobOutcome::Failed(JobFailure::Internal) => {
                if let Some(series) = running.and_then(|action| self.actions.get(&action)) {
                    series.exception.inc();
                }
            }
            JobOutcome::Succeeded | JobOutcome::Failed(_) | JobOutcome::Skipped(_) => {}
        }
    }

    fn running(&self) -> MutexGuard<'_, Option<ActionId>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
