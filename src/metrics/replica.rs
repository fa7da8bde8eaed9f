//! `rsyncdirector_` series about replicas: what their last verification found, which survives a restart, and how often they were verified.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use prometheus::{GaugeVec, IntCounterVec};

use super::registrar::Registrar;
use crate::config::{ActionId, ActionKind, Job, JobId};
use crate::event::JobEvent;
use crate::verify::Class;
use crate::verify::order::Replica;
use crate::verify::report::{Count, Report, Verdict};

const REPLICA: &[&str] = &["job_id", "sync"];
const IN_STEP: &str = "in_step";

/// All families about replicas.
pub(super) struct Families {
    known: Mutex<Known>,
    ratio: GaugeVec,
    entries: GaugeVec,
    bytes: GaugeVec,
    lag: GaugeVec,
    last_agreement: GaugeVec,
    last_verification: GaugeVec,
    duration: GaugeVec,
    verdict: GaugeVec,
    verifications: IntCounterVec,
    errors: IntCounterVec,
    drill_failures: IntCounterVec,
}

#[derive(Default)]
struct Known {
    /// Of the configuration.
    replicas: HashSet<Replica>,
    /// What an action verifies.
    by_action: HashMap<(JobId, ActionId), Replica>,
    /// Actions that run and have not come to a result yet.
    open: HashSet<(JobId, ActionId)>,
}

impl Families {
    pub(super) fn new(registrar: &Registrar, jobs: &[Arc<Job>]) -> Self {
        let families = Self::register(registrar);
        families.set_jobs(jobs);
        families
    }

    #[rustfmt::skip] // One family a line, as a table.
    fn register(r: &Registrar) -> Self {
        Self {
            known: Mutex::default(),
            ratio: r.gauges("rsyncdirector_replica_in_step_ratio", "Part of the entries that agreed at the last verification, 0 to 1; absent before the first.", REPLICA),
            entries: r.gauges("rsyncdirector_replica_entries", "Entries at the last verification, by class; in_step is what agreed.", &["job_id", "sync", "class"]),
            bytes: r.gauges("rsyncdirector_replica_bytes", "Length of the files at the last verification, by class; in_step is what agreed.", &["job_id", "sync", "class"]),
            lag: r.gauges("rsyncdirector_replica_lag_seconds", "Age, at the last verification, of the oldest change that was not at the target; 0 for none.", REPLICA),
            last_agreement: r.gauges("rsyncdirector_replica_last_agreement_timestamp_seconds", "When a verification last found everything in step; absent before.", REPLICA),
            last_verification: r.gauges("rsyncdirector_replica_last_verification_timestamp_seconds", "When the last verification that came to a result began; absent before the first.", REPLICA),
            duration: r.gauges("rsyncdirector_replica_scan_seconds", "How long the last verification took.", REPLICA),
            verdict: r.gauges("rsyncdirector_replica_verdict", "1 for the verdict of the last verification, 0 for the others.", &["job_id", "sync", "verdict"]),
            verifications: r.counters("rsyncdirector_replica_verifications_total", "Verifications that came to a result, by verdict.", &["job_id", "sync", "verdict"]),
            errors: r.counters("rsyncdirector_replica_verification_errors_total", "Verifications that could not tell: they failed, or could not look at everything.", REPLICA),
            drill_failures: r.counters("rsyncdirector_replica_drill_failures_total", "Files that were copied back from the replica and were not what they should be.", REPLICA),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes these the jobs that count. What is known of a replica that is none of theirs any more is forgotten, but for its counters.
    pub(super) fn set_jobs(&self, jobs: &[Arc<Job>]) {
        let mut known = self.known();
        let before = std::mem::take(&mut known.replicas);
        known.by_action.clear();
        for job in jobs {
            for action in &job.actions {
                if let ActionKind::Sync(_) = action.kind {
                    known.replicas.insert(Replica { job: job.id.to_string(), sync: action.id.to_string() });
                }
                if let Some(replica) = action.verifies() {
                    self.start_at_zero(&replica);
                    known.by_action.insert((job.id.clone(), action.id.clone()), replica);
                }
            }
        }
        before.difference(&known.replicas).for_each(|gone| self.forget(gone));
    }

    fn start_at_zero(&self, replica: &Replica) {
        let labels = labels(replica);
        for verdict in Verdict::ALL {
            self.verifications.with_label_values(&[labels[0], labels[1], verdict.name()]);
        }
        self.errors.with_label_values(&labels);
        self.drill_failures.with_label_values(&labels);
    }

    fn forget(&self, replica: &Replica) {
        let labels = labels(replica);
        // The only error is that there is no such series.
        for gauge in [&self.ratio, &self.lag, &self.last_agreement, &self.last_verification, &self.duration] {
            let _ = gauge.remove_label_values(&labels);
        }
        for verdict in Verdict::ALL {
            let _ = self.verdict.remove_label_values(&[labels[0], labels[1], verdict.name()]);
        }
        for class in classes() {
            let _ = self.entries.remove_label_values(&[labels[0], labels[1], class]);
            let _ = self.bytes.remove_label_values(&[labels[0], labels[1], class]);
        }
    }

    /// What a verification found before this process.
    pub(super) fn restore(&self, report: &Report) {
        if self.known().replicas.contains(&report.replica) {
            self.found(report);
        }
    }

    /// Takes note of what happened in a job, as far as it is about a verification.
    pub(super) fn observe(&self, job: &JobId, event: &JobEvent) {
        match event {
            JobEvent::ActionStarted { action, .. } => {
                let this = (job.clone(), action.clone());
                let mut known = self.known();
                if known.by_action.contains_key(&this) {
                    known.open.insert(this);
                }
            }
            JobEvent::Verified { action, report } => {
                let mut known = self.known();
                known.open.remove(&(job.clone(), action.clone()));
                if known.replicas.contains(&report.replica) {
                    self.start_at_zero(&report.replica);
                    self.found(report);
                    self.count(report);
                }
            }
            JobEvent::ActionFinished { action, report } => {
                let this = (job.clone(), action.clone());
                let mut known = self.known();
                if known.open.remove(&this)
                    && report.failure.is_some()
                    && let Some(replica) = known.by_action.get(&this)
                {
                    self.errors.with_label_values(&labels(replica)).inc();
                }
            }
            _ => {}
        }
    }

    fn count(&self, report: &Report) {
        let labels = labels(&report.replica);
        self.verifications.with_label_values(&[labels[0], labels[1], report.verdict.name()]).inc();
        if report.verdict == Verdict::Unknown {
            self.errors.with_label_values(&labels).inc();
        }
        if let Some(drill) = &report.drill {
            self.drill_failures.with_label_values(&labels).inc_by(drill.failed.len() as u64);
        }
    }

    fn found(&self, report: &Report) {
        let labels = labels(&report.replica);
        self.ratio.with_label_values(&labels).set(report.ratio());
        self.lag.with_label_values(&labels).set(report.lag.unwrap_or(0.0));
        self.last_verification.with_label_values(&labels).set(unix_seconds(report.at));
        self.duration.with_label_values(&labels).set(report.seconds);
        if let Some(at) = report.last_agreement {
            self.last_agreement.with_label_values(&labels).set(unix_seconds(at));
        }
        for verdict in Verdict::ALL {
            let is_it = f64::from(u8::from(report.verdict == verdict));
            self.verdict.with_label_values(&[labels[0], labels[1], verdict.name()]).set(is_it);
        }
        let of_class = |class| report.classes.get(&class).copied().unwrap_or_default();
        let counts = Class::ALL.map(|class| (class.name(), of_class(class)));
        for (class, Count { entries, bytes }) in counts.into_iter().chain([(IN_STEP, report.in_step)]) {
            self.entries.with_label_values(&[labels[0], labels[1], class]).set(entries as f64);
            self.bytes.with_label_values(&[labels[0], labels[1], class]).set(bytes as f64);
        }
    }
}

fn labels(replica: &Replica) -> [&str; 2] {
    [&replica.job, &replica.sync]
}

fn classes() -> impl Iterator<Item = &'static str> {
    Class::ALL.into_iter().map(Class::name).chain([IN_STEP])
}

/// Seconds since the Unix epoch, to the millisecond.
fn unix_seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Action, Config, Verify};
    use crate::event::{ActionFailure, Observer, RunEvent};
    use crate::logging::tests_support::{action_finished, failed_report, job_event};
    use crate::metrics::Metrics;
    use crate::metrics::tests::config;
    use crate::verify::report::Drill;

    /// The job `photos`, whose sync `copy` is verified by its action `look`.
    fn verifying() -> Config {
        let mut config = config();
        let mut job = (*config.jobs[0]).clone();
        let ActionKind::Sync(sync) = &job.actions[0].kind else { panic!("a sync") };
        let kind = ActionKind::Verify(Verify::quick(&job.id, &job.actions[0].id, sync));
        job.actions.push(Action { id: ActionId::new("look"), kind, ..job.actions[0].clone() });
        config.jobs = vec![Arc::new(job)];
        config
    }

    fn verified(report: Report) -> RunEvent {
        job_event("photos", JobEvent::Verified { action: ActionId::new("look"), report: report.into() })
    }

    fn began() -> RunEvent {
        job_event("photos", JobEvent::ActionStarted { action: ActionId::new("look"), command: String::new() })
    }

    fn ended() -> RunEvent {
        let report = crate::event::ActionReport { failure: Some(ActionFailure::Exit), ..failed_report() };
        action_finished("photos", "look", report)
    }

    /// The lines about replicas after these events, without the labels that are always the same.
    fn page(metrics: &Metrics, events: &[RunEvent]) -> Vec<String> {
        events.iter().for_each(|event| metrics.observe(Timestamp::UNIX_EPOCH, event));
        let page = metrics.encode();
        let lines = page.lines().filter_map(|line| line.strip_prefix("rsyncdirector_replica_"));
        let short =
            |line: &str| line.replace("job_id=\"photos\",sync=\"copy\"", "").replace(",}", "}").replace("{}", "");
        lines.map(short).collect()
    }

    #[track_caller]
    fn check(events: &[RunEvent], expected: &[&str]) {
        let lines = page(&Metrics::new(&verifying(), "1"), events);
        for expected in expected {
            assert!(lines.iter().any(|line| line == expected), "{expected}: {lines:#?}");
        }
    }

    #[test]
    fn counters_of_what_is_verified_begin_at_0_and_gauges_are_absent() {
        let lines = page(&Metrics::new(&verifying(), "1"), &[]);
        assert_eq!(lines.len(), Verdict::ALL.len() + 2, "{lines:#?}");
        assert!(lines.iter().all(|line| line.ends_with(" 0")), "{lines:#?}");
        assert_eq!(page(&Metrics::new(&config(), "1"), &[]), [""; 0]);
    }

    #[test]
    fn a_report_becomes_gauges_with_all_classes() {
        let mut drift = Report::sample("photos", "copy", Verdict::Drift, &[(Class::Content, 1)]);
        drift.lag = Some(3.5);
        let failed = vec![("a".into(), "b".into()), ("c".into(), "d".into())];
        drift.drill = Some(Drill { failed, ..Drill::default() });
        let expected = [
            "in_step_ratio 0.75",
            "lag_seconds 3.5",
            "scan_seconds 1.5",
            "last_verification_timestamp_seconds 1800000000",
            "entries{class=\"content\",job_id=\"photos\",sync=\"copy\"} 1",
            "bytes{class=\"in_step\",job_id=\"photos\",sync=\"copy\"} 30",
            "entries{class=\"in_flight\",job_id=\"photos\",sync=\"copy\"} 0",
            "verdict{job_id=\"photos\",sync=\"copy\",verdict=\"drift\"} 1",
            "verdict{job_id=\"photos\",sync=\"copy\",verdict=\"in_step\"} 0",
            "verifications_total{job_id=\"photos\",sync=\"copy\",verdict=\"drift\"} 1",
            "drill_failures_total 2",
            "verification_errors_total 0",
        ];
        let expected = expected.map(|line| line.replace("job_id=\"photos\",sync=\"copy\"", "").replace(",}", "}"));
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        check(&[began(), verified(drift), ended()], &expected);
        check(
            &[verified(Report::sample("photos", "copy", Verdict::InStep, &[]))],
            &["lag_seconds 0", "last_agreement_timestamp_seconds 1800000000"],
        );
    }

    #[test]
    fn what_could_not_tell_is_an_error() {
        check(&[began(), ended()], &["verification_errors_total 1"]);
        let unknown = Report::sample("photos", "copy", Verdict::Unknown, &[(Class::Unreadable, 1)]);
        check(&[began(), verified(unknown), ended()], &["verification_errors_total 1"]);
    }

    #[test]
    fn what_was_found_survives_a_restart_and_goes_with_its_sync() {
        let metrics = Metrics::new(&verifying(), "1");
        let of = |job, sync| Report::sample(job, sync, Verdict::InStep, &[]);
        metrics.restore_replicas(&[of("photos", "copy"), of("photos", "gone"), of("nobody", "copy")]);
        let gauges = |lines: &[String]| lines.iter().filter(|line| !line.contains("_total")).count();
        let restored = page(&metrics, &[]);
        assert_eq!(gauges(&restored), 5 + Verdict::ALL.len() + 2 * (Class::ALL.len() + 1), "{restored:#?}");
        assert!(restored.contains(&"in_step_ratio 1".to_owned()), "{restored:#?}");
        let mut config = verifying();
        config.jobs.clear();
        metrics.configured(&config);
        assert_eq!(gauges(&page(&metrics, &[])), 0);
    }
}
