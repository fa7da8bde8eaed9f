//! `rsyncdirector_` series about jobs, their blocks and their locks.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use prometheus::{GaugeVec, HistogramVec, IntCounterVec};

use super::registrar::Registrar;
use crate::config::{Job, JobId};
use crate::event::{JobEvent, JobFailure, JobOutcome, Obstacle, SkipReason, Trigger};
use crate::history::read::Last;

const JOB: &[&str] = &["job_id"];
const LOCAL: &str = "local";
const REMOTE: &str = "remote";

/// All families about jobs.
pub(super) struct Families {
    known: RwLock<HashSet<JobId>>,
    info: GaugeVec,
    runs: IntCounterVec,
    failures: IntCounterVec,
    skipped: IntCounterVec,
    missed: IntCounterVec,
    retries: IntCounterVec,
    running: GaugeVec,
    last_start: GaugeVec,
    last_completion: GaugeVec,
    last_success: GaugeVec,
    next_run: GaugeVec,
    max_age: GaugeVec,
    duration: HistogramVec,
    block_waits: IntCounterVec,
    lock_waits: IntCounterVec,
    locks_held: GaugeVec,
    lock_wait: HistogramVec,
    lock_lost: IntCounterVec,
    lock_takeovers: IntCounterVec,
}

impl Families {
    pub(super) fn new(registrar: &Registrar, jobs: &[Arc<Job>]) -> Self {
        let families = Self::register(registrar);
        families.set_jobs(jobs);
        families
    }

    /// Makes these the jobs that count. What is known of one that is none of them any more is forgotten, but for its counters.
    pub(super) fn set_jobs(&self, jobs: &[Arc<Job>]) {
        let now: HashSet<JobId> = jobs.iter().map(|job| job.id.clone()).collect();
        let before = std::mem::replace(&mut *self.known.write().unwrap_or_else(PoisonError::into_inner), now.clone());
        for gone in before.difference(&now) {
            self.forget(gone.as_str());
        }
        self.info.reset();
        for job in jobs {
            // A zone of the system without a name is one that `/etc/localtime` does not tell.
            let timezone = job.schedule.timezone.iana_name().unwrap_or("local");
            self.info.with_label_values(&[job.id.as_str(), &job.schedule.expression, timezone]).set(1.0);
            match job.max_age {
                Some(max_age) => self.max_age.with_label_values(&[job.id.as_str()]).set(max_age.as_secs_f64()),
                // The only error is that there is no such series.
                None => drop(self.max_age.remove_label_values(&[job.id.as_str()])),
            }
            if !before.contains(&job.id) {
                self.start_at_zero(job);
            }
        }
    }

    fn forget(&self, id: &str) {
        for gauge in
            [&self.max_age, &self.running, &self.last_start, &self.last_completion, &self.last_success, &self.next_run]
        {
            // The only error is that there is no such series.
            let _ = gauge.remove_label_values(&[id]);
        }
        for scope in [LOCAL, REMOTE] {
            let _ = self.locks_held.remove_label_values(&[id, scope]);
        }
    }

    fn knows(&self, job: &JobId) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).contains(job)
    }

    #[rustfmt::skip] // One family a line, as a table.
    fn register(r: &Registrar) -> Self {
        Self {
            known: RwLock::default(),
            info: r.gauges("rsyncdirector_job_info", "The job's schedule and time zone, as labels; always 1.", &["job_id", "schedule", "timezone"]),
            runs: r.counters("rsyncdirector_job_runs_total", "Starts of the job, by what caused the run.", &["job_id", "trigger"]),
            failures: r.counters("rsyncdirector_job_failures_total", "Times the job failed.", &["job_id", "reason"]),
            skipped: r.counters("rsyncdirector_job_skipped_total", "Times the job was due and performed no action.", &["job_id", "reason"]),
            missed: r.counters("rsyncdirector_job_missed_total", "Scheduled times that passed while nobody was awake to see them.", JOB),
            retries: r.counters("rsyncdirector_job_retries_total", "Attempts of the job's actions that failed and were repeated.", JOB),
            running: r.gauges("rsyncdirector_job_running", "1 while the job runs or waits for its blocks and locks, else 0.", JOB),
            last_start: r.gauges("rsyncdirector_job_last_start_timestamp_seconds", "When the job last started; absent before the first start.", JOB),
            last_completion: r.gauges("rsyncdirector_job_last_completion_timestamp_seconds", "When the job last succeeded or failed; absent before.", JOB),
            last_success: r.gauges("rsyncdirector_job_last_success_timestamp_seconds", "When the job last succeeded; absent before.", JOB),
            next_run: r.gauges("rsyncdirector_job_next_run_timestamp_seconds", "When the job is due next; absent if never.", JOB),
            max_age: r.gauges("rsyncdirector_job_max_age_seconds", "The job's max_age: it is late when its last success is older; absent if it has none.", JOB),
            duration: r.histograms("rsyncdirector_job_duration_seconds", "Time from the job's start to its end, waits included, however it ended.", JOB),
            block_waits: r.counters("rsyncdirector_job_block_waits_total", "Looks at a block that found it in the way, or could not tell.", JOB),
            locks_held: r.gauges("rsyncdirector_locks_held", "Lock files that the job holds, on this host (local) or others (remote).", &["job_id", "scope"]),
            lock_waits: r.counters("rsyncdirector_lock_waits_total", "Attempts to take the job's lock files that found one held by another.", JOB),
            lock_wait: r.histograms("rsyncdirector_lock_wait_duration_seconds", "Time that the job took to get all of its lock files.", JOB),
            lock_lost: r.counters("rsyncdirector_lock_lost_total", "Lock files that were lost while the job held them.", JOB),
            lock_takeovers: r.counters("rsyncdirector_lock_takeovers_total", "Stale lock files that the job took over.", JOB),
        }
    }

    fn start_at_zero(&self, job: &Job) {
        let id = job.id.as_str();
        for trigger in Trigger::ALL {
            self.runs.with_label_values(&[id, trigger.as_str()]);
        }
        for reason in JobFailure::LABELS {
            self.failures.with_label_values(&[id, reason]);
        }
        for reason in SkipReason::ALL {
            self.skipped.with_label_values(&[id, reason.as_str()]);
        }
        for counter in
            [&self.missed, &self.retries, &self.block_waits, &self.lock_waits, &self.lock_lost, &self.lock_takeovers]
        {
            counter.with_label_values(&[id]);
        }
        self.running.with_label_values(&[id]).set(0.0);
        self.duration.with_label_values(&[id]);
        self.hold(id, 0, 0);
        if !job.lock_files.is_empty() {
            self.lock_wait.with_label_values(&[id]);
        }
    }

    /// What is known of a job from before this process.
    pub(super) fn restore(&self, job: &str, last: &Last) {
        if !self.knows(&JobId::new(job)) {
            return;
        }
        let gauges = [
            (&self.last_start, last.start),
            (&self.last_completion, last.completion),
            (&self.last_success, last.success),
        ];
        for (gauge, at) in gauges {
            if let Some(at) = at {
                gauge.with_label_values(&[job]).set(unix_seconds(at));
            }
        }
    }

    /// Takes note of what happened in a job at this wall-clock time.
    pub(super) fn observe(&self, at: Timestamp, job: &JobId, event: &JobEvent) {
        if !self.knows(job) {
            return;
        }
        let id = job.as_str();
        match event {
            JobEvent::Started { trigger } => self.started(at, id, *trigger),
            JobEvent::BlockWait { .. } => self.block_waits.with_label_values(&[id]).inc(),
            JobEvent::LockWait { obstacle: Obstacle::Present(_), .. } => self.lock_waits.with_label_values(&[id]).inc(),
            JobEvent::LockTakenOver { .. } => self.lock_takeovers.with_label_values(&[id]).inc(),
            JobEvent::Locked { local, remote, waited } => {
                self.hold(id, *local, *remote);
                if local + remote > 0 {
                    self.lock_wait.with_label_values(&[id]).observe(waited.as_secs_f64());
                }
            }
            JobEvent::LockLost { .. } => self.lock_lost.with_label_values(&[id]).inc(),
            JobEvent::Released { .. } => self.hold(id, 0, 0),
            JobEvent::Retry { .. } => self.retries.with_label_values(&[id]).inc(),
            JobEvent::Finished { outcome, duration } => {
                self.running.with_label_values(&[id]).set(0.0);
                self.duration.with_label_values(&[id]).observe(duration.as_secs_f64());
                self.finished(at, id, outcome);
            }
            JobEvent::NotRun { reason, .. } => self.skipped.with_label_values(&[id, reason.as_str()]).inc(),
            JobEvent::Missed { count } => self.missed.with_label_values(&[id]).inc_by(*count),
            JobEvent::NextRun(next) => self.due(id, *next),
            JobEvent::BlocksDone { .. }
            | JobEvent::LockWait { .. }
            | JobEvent::Unmet { .. }
            | JobEvent::Again { .. }
            | JobEvent::Paused { .. }
            | JobEvent::Pending
            | JobEvent::ActionStarted { .. }
            | JobEvent::Split { .. }
            | JobEvent::Progress { .. }
            | JobEvent::RsyncExit { .. }
            | JobEvent::Stalled { .. }
            | JobEvent::Late { .. }
            | JobEvent::Verified { .. }
            | JobEvent::ActionFinished { .. } => {}
        }
    }

    fn started(&self, at: Timestamp, id: &str, trigger: Trigger) {
        self.runs.with_label_values(&[id, trigger.as_str()]).inc();
        self.running.with_label_values(&[id]).set(1.0);
        self.last_start.with_label_values(&[id]).set(unix_seconds(at));
    }

    fn finished(&self, at: Timestamp, id: &str, outcome: &JobOutcome) {
        match outcome {
            JobOutcome::Succeeded => {
                self.last_completion.with_label_values(&[id]).set(unix_seconds(at));
                self.last_success.with_label_values(&[id]).set(unix_seconds(at));
            }
            JobOutcome::Failed(failure) => {
                self.last_completion.with_label_values(&[id]).set(unix_seconds(at));
                self.failures.with_label_values(&[id, failure.as_str()]).inc();
            }
            JobOutcome::Skipped(reason) => self.skipped.with_label_values(&[id, reason.as_str()]).inc(),
        }
    }

    fn hold(&self, id: &str, local: usize, remote: usize) {
        self.locks_held.with_label_values(&[id, LOCAL]).set(local as f64);
        self.locks_held.with_label_values(&[id, REMOTE]).set(remote as f64);
    }

    fn due(&self, id: &str, next: Option<Timestamp>) {
        match next {
            Some(at) => self.next_run.with_label_values(&[id]).set(unix_seconds(at)),
            // The only error is that there is no such series, which is what is wanted.
            None => drop(self.next_run.remove_label_values(&[id])),
        }
    }
}

/// Seconds since the Unix epoch, to the millisecond.
fn unix_seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}
