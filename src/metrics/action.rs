//! `rsyncdirector_` series about actions and the rsyncs among them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use prometheus::{GaugeVec, HistogramVec, IntCounterVec};

use super::registrar::Registrar;
use crate::config::{Action, ActionId, ActionKind, Job, JobId};
use crate::event::{ActionFailure, ActionReport, JobEvent};
use crate::rsync::stats::Stats;

const ACTION: &[&str] = &["job_id", "action_id"];

/// All families about actions.
pub(super) struct Families {
    known: RwLock<HashMap<JobId, HashSet<ActionId>>>,
    duration: HistogramVec,
    failures: IntCounterVec,
    rsync: RsyncFamilies,
}

impl Families {
    pub(super) fn new(registrar: &Registrar, jobs: &[Arc<Job>]) -> Self {
        let families = Self {
            known: RwLock::default(),
            duration: registrar.histograms(
                "rsyncdirector_action_duration_seconds",
                "Time from the start of an action's first attempt to the end of its last.",
                ACTION,
            ),
            failures: registrar.counters(
                "rsyncdirector_action_failures_total",
                "Times the action failed.",
                &["job_id", "action_id", "reason"],
            ),
            rsync: RsyncFamilies::new(registrar),
        };
        families.set_jobs(jobs);
        families
    }

    /// Makes these the jobs whose actions count.
    pub(super) fn set_jobs(&self, jobs: &[Arc<Job>]) {
        let ids = |job: &Arc<Job>| job.steps().map(|action| action.id.clone()).collect();
        *self.known.write().unwrap_or_else(PoisonError::into_inner) =
            jobs.iter().map(|job| (job.id.clone(), ids(job))).collect();
        for job in jobs {
            job.steps().for_each(|action| self.start_at_zero(job.id.as_str(), action));
        }
    }

    fn start_at_zero(&self, job: &str, action: &Action) {
        let labels = [job, action.id.as_str()];
        self.duration.with_label_values(&labels);
        for reason in ActionFailure::ALL {
            self.failures.with_label_values(&[labels[0], labels[1], reason.as_str()]);
        }
        match action.kind {
            ActionKind::Sync(_) => self.rsync.start_at_zero(labels),
            ActionKind::Command(_) | ActionKind::Verify(_) => {}
        }
    }

    /// Takes note of what happened in a job, as far as it is about an action.
    pub(super) fn observe(&self, job: &JobId, event: &JobEvent) {
        match event {
            JobEvent::RsyncExit { action, code } if self.knows(job, action) => {
                self.rsync.exited([job.as_str(), action.as_str()], *code);
            }
            JobEvent::Stalled { action, .. } if self.knows(job, action) => {
                self.rsync.stalls.with_label_values(&[job.as_str(), action.as_str()]).inc();
            }
            JobEvent::ActionFinished { action, report } if self.knows(job, action) => {
                self.finished([job.as_str(), action.as_str()], report);
            }
            _ => {}
        }
    }

    fn knows(&self, job: &JobId, action: &ActionId) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(job).is_some_and(|actions| actions.contains(action))
    }

    fn finished(&self, labels: [&str; 2], report: &ActionReport) {
        self.duration.with_label_values(&labels).observe(report.duration.as_secs_f64());
        if let Some(failure) = report.failure {
            self.failures.with_label_values(&[labels[0], labels[1], failure.as_str()]).inc();
        }
        if let Some(stats) = &report.stats {
            self.rsync.add(labels, stats);
        }
    }
}

struct RsyncFamilies {
    exits: IntCounterVec,
    stalls: IntCounterVec,
    sent_bytes: IntCounterVec,
    received_bytes: IntCounterVec,
    transferred_bytes: IntCounterVec,
    transferred_files: IntCounterVec,
    created_files: IntCounterVec,
    deleted_files: IntCounterVec,
    source_files: GaugeVec,
    source_bytes: GaugeVec,
}

impl RsyncFamilies {
    #[rustfmt::skip] // One family a line, as a table.
    fn new(r: &Registrar) -> Self {
        Self {
            exits: r.counters("rsyncdirector_rsync_exits_total", "Attempts of an rsync that ended, by exit code; other codes than 0 appear with their first.", &["job_id", "action_id", "code"]),
            stalls: r.counters("rsyncdirector_rsync_stalls_total", "Rsyncs that made no progress for the stall_timeout and were killed, those that were tried again included.", ACTION),
            sent_bytes: r.counters("rsyncdirector_rsync_sent_bytes_total", "Bytes that rsync sent, as its statistics say.", ACTION),
            received_bytes: r.counters("rsyncdirector_rsync_received_bytes_total", "Bytes that rsync received, as its statistics say.", ACTION),
            transferred_bytes: r.counters("rsyncdirector_rsync_transferred_bytes_total", "Size of the files that rsync transferred.", ACTION),
            transferred_files: r.counters("rsyncdirector_rsync_files_transferred_total", "Regular files that rsync transferred.", ACTION),
            created_files: r.counters("rsyncdirector_rsync_files_created_total", "Files, directories and other entries that rsync created.", ACTION),
            deleted_files: r.counters("rsyncdirector_rsync_files_deleted_total", "Files, directories and other entries that rsync deleted.", ACTION),
            source_files: r.gauges("rsyncdirector_rsync_source_files", "Entries of the source at the last rsync that told; absent before.", ACTION),
            source_bytes: r.gauges("rsyncdirector_rsync_source_bytes", "Size of the source at the last rsync that told; absent before.", ACTION),
        }
    }

    fn start_at_zero(&self, labels: [&str; 2]) {
        self.exits.with_label_values(&[labels[0], labels[1], "0"]);
        self.stalls.with_label_values(&labels);
        for (counter, _) in self.counted(&Stats::default()) {
            counter.with_label_values(&labels);
        }
    }

    /// An exit code is one byte, which bounds the label; anything else is no exit code and is left out.
    fn exited(&self, labels: [&str; 2], code: i32) {
        if let Ok(code) = u8::try_from(code) {
            self.exits.with_label_values(&[labels[0], labels[1], &code.to_string()]).inc();
        }
    }

    fn add(&self, labels: [&str; 2], stats: &Stats) {
        for (counter, value) in self.counted(stats) {
            counter.with_label_values(&labels).inc_by(value);
        }
        self.source_files.with_label_values(&labels).set(stats.files as f64);
        self.source_bytes.with_label_values(&labels).set(stats.source_bytes as f64);
    }

    /// The counters with what these statistics add to each.
    fn counted(&self, stats: &Stats) -> [(&IntCounterVec, u64); 6] {
        [
            (&self.sent_bytes, stats.sent_bytes),
            (&self.received_bytes, stats.received_bytes),
            (&self.transferred_bytes, stats.transferred_bytes),
            (&self.transferred_files, stats.transferred),
            (&self.created_files, stats.created),
            (&self.deleted_files, stats.deleted),
        ]
    }
}
