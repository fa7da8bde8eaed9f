//! Which events of a job are happenings that someone wants to hear of. Pure: events and times in, notices out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::notice::Notice;
use super::tail::Tail;
use crate::config::{Config, Happening, JobId, Target};
use crate::event::{JobEvent, JobOutcome, RunEvent, RunId, SkipReason, Trigger};
use crate::history::read::Last;
use crate::logging::{Causes, late_text, skip_text};

/// Something to be told to someone.
pub type Letter = (Arc<Target>, Arc<Notice>);

/// All jobs of an instance.
pub struct Watch {
    instance: String,
    host: String,
    jobs: HashMap<JobId, Job>,
    causes: Causes,
}

/// What is known of a job.
struct Job {
    targets: Vec<Known>,
    /// Whether its last run failed.
    failed: bool,
    trigger: Option<Trigger>,
    next_run: Option<Timestamp>,
    stderr: Tail,
}

/// A target, and when it was last told of a failure in the present row of them.
struct Known {
    target: Arc<Target>,
    told: Option<Timestamp>,
}

impl Watch {
    /// The jobs of a configuration; `last` is what is known of them from before.
    pub fn new(config: &Config, host: &str, last: &[(String, Last)]) -> Self {
        let mut watch = Self {
            instance: config.rsync_id.to_string(),
            host: host.to_owned(),
            jobs: HashMap::new(),
            causes: Causes::default(),
        };
        watch.reload(config);
        for (job, last) in last {
            if let Some(job) = watch.jobs.get_mut(&JobId::new(job.as_str())) {
                job.failed = last.failed;
            }
        }
        watch
    }

    /// Takes another configuration of the instance; what is known of its jobs stays.
    pub fn reload(&mut self, config: &Config) {
        let mut before = std::mem::take(&mut self.jobs);
        for job in &config.jobs {
            let known = before.remove(&job.id);
            let (failed, trigger, next_run, stderr) = match known {
                Some(known) => (known.failed, known.trigger, known.next_run, known.stderr),
                None => (false, None, None, Tail::default()),
            };
            let targets = job.notify.iter().map(|target| Known { target: Arc::clone(target), told: None }).collect();
            self.jobs.insert(job.id.clone(), Job { targets, failed, trigger, next_run, stderr });
        }
    }

    /// What a job wrote to standard error.
    pub fn stderr(&mut self, job: &JobId, lines: &[u8]) {
        if let Some(job) = self.jobs.get_mut(job).filter(|job| !job.targets.is_empty()) {
            job.stderr.add(lines);
        }
    }

    /// What an event gives to tell.
    pub fn observe(&mut self, at: Timestamp, event: &RunEvent) -> Vec<Letter> {
        self.causes.observe(event);
        let RunEvent::Job { run, job: id, event } = event else { return Vec::new() };
        let Some(job) = self.jobs.get_mut(id) else { return Vec::new() };
        let explain = |outcome: &JobOutcome| self.causes.explain(id, outcome);
        let Some(told) = job.apply(event, explain) else { return Vec::new() };
        let notice = Notice {
            event: told.event,
            test: false,
            instance: self.instance.clone(),
            host: self.host.clone(),
            job: id.to_string(),
            run: run.map(|RunId(run)| run),
            trigger: told.trigger.map(|trigger| trigger.to_string()),
            outcome: told.outcome,
            reason: told.reason,
            detail: told.detail,
            duration: told.duration,
            stderr: if told.event == Happening::Failure { job.stderr.text() } else { String::new() },
            next_run: job.next_run,
            at,
        };
        job.letters(at, notice)
    }
}

/// What an event tells beside what is known.
struct Told {
    event: Happening,
    trigger: Option<Trigger>,
    outcome: Option<&'static str>,
    reason: Option<&'static str>,
    detail: Option<String>,
    duration: Option<Duration>,
}

impl Told {
    fn new(event: Happening, trigger: Option<Trigger>) -> Self {
        Self { event, trigger, outcome: None, reason: None, detail: None, duration: None }
    }

    fn skip(trigger: Option<Trigger>, reason: SkipReason, detail: Option<String>) -> Option<Self> {
        let (outcome, reason_label) = (Some("skipped"), Some(reason.as_str()));
        // The end of the daemon is not the job's doing.
        let told = Self { outcome, reason: reason_label, detail, ..Self::new(Happening::Skip, trigger) };
        (reason != SkipReason::Shutdown).then_some(told)
    }
}

impl Job {
    fn apply(&mut self, event: &JobEvent, explain: impl FnOnce(&JobOutcome) -> Option<String>) -> Option<Told> {
        match event {
            JobEvent::Started { trigger } => {
                self.trigger = Some(*trigger);
                self.stderr = Tail::default();
                Some(Told::new(Happening::Start, self.trigger))
            }
            JobEvent::Finished { outcome, duration } => self.finished(outcome, *duration, explain(outcome)),
            JobEvent::NotRun { reason, trigger } => {
                Told::skip(Some(*trigger), *reason, Some(skip_text(*reason).to_owned()))
            }
            JobEvent::Late { last_success, max_age } => {
                let detail = Some(late_text(*last_success, *max_age));
                Some(Told { detail, ..Told::new(Happening::Late, None) })
            }
            JobEvent::NextRun(next) => {
                self.next_run = *next;
                None
            }
            _ => None,
        }
    }

    fn finished(&mut self, outcome: &JobOutcome, duration: Duration, detail: Option<String>) -> Option<Told> {
        let trigger = self.trigger.take();
        let (event, word, reason) = match outcome {
            JobOutcome::Succeeded if self.failed => (Happening::Recovery, "succeeded", None),
            JobOutcome::Succeeded => (Happening::Success, "succeeded", None),
            JobOutcome::Failed(failure) => (Happening::Failure, "failed", Some(failure.as_str())),
            JobOutcome::Skipped(reason) => {
                let told = Told::skip(trigger, *reason, detail)?;
                return Some(Told { duration: Some(duration), ..told });
            }
        };
        self.failed = event == Happening::Failure;
        let (outcome, duration) = (Some(word), Some(duration));
        Some(Told { outcome, reason, detail, duration, ..Told::new(event, trigger) })
    }

    /// The notice for each target that asks for it. A recovery is a success for who asks for successes alone.
    fn letters(&mut self, at: Timestamp, notice: Notice) -> Vec<Letter> {
        let notice = Arc::new(notice);
        let plain = Arc::new(Notice { event: Happening::Success, ..(*notice).clone() });
        let mut letters = Vec::new();
        for known in &mut self.targets {
            if matches!(notice.event, Happening::Success | Happening::Recovery) {
                known.told = None;
            }
            let asks = |event| known.target.on.contains(&event);
            let letter = match notice.event {
                Happening::Recovery if !asks(Happening::Recovery) => asks(Happening::Success).then_some(&plain),
                event => asks(event).then_some(&notice),
            };
            if let Some(letter) = letter
                && known.is_time(at, notice.event)
            {
                letters.push((Arc::clone(&known.target), Arc::clone(letter)));
            }
        }
        letters
    }
}

impl Known {
    /// Whether `every` allows this one now.
    fn is_time(&mut self, at: Timestamp, event: Happening) -> bool {
        if event != Happening::Failure {
            return true;
        }
        let every = self.target.every.and_then(|every| SignedDuration::try_from(every).ok());
        let is_time = match (every, self.told) {
            (Some(every), Some(told)) => at.duration_since(told) >= every || at < told,
            _ => true,
        };
        if is_time {
            self.told = Some(at);
        }
        is_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ActionId, Command, Way};
    use crate::event::{ActionFailure, JobFailure};
    use crate::logging::tests_support::{action_finished, failed_report, job_event};
    use crate::metrics::tests::config;

    fn target(on: &[Happening], every: Option<u64>) -> Arc<Target> {
        Arc::new(Target {
            on: on.to_vec(),
            way: Way::Command(Command::Shell("true".into())),
            every: every.map(Duration::from_secs),
            timeout: Duration::from_secs(1),
            retries: 0,
            retry_wait: Duration::ZERO,
        })
    }

    fn watch(targets: Vec<Arc<Target>>, last: Last) -> Watch {
        let mut config = config();
        let job = crate::config::Job { notify: targets, ..(*config.jobs[0]).clone() };
        config.jobs = vec![Arc::new(job)];
        Watch::new(&config, "nas", &[("photos".into(), last)])
    }

    fn success() -> JobEvent {
        JobEvent::Finished { outcome: JobOutcome::Succeeded, duration: Duration::from_secs(1) }
    }

    fn failure() -> JobEvent {
        let failed = JobFailure::Action { action: ActionId::new("copy"), failure: ActionFailure::Exit };
        JobEvent::Finished { outcome: JobOutcome::Failed(failed), duration: Duration::from_secs(1) }
    }

    fn skipped(reason: SkipReason) -> JobEvent {
        JobEvent::NotRun { reason, trigger: Trigger::Cron }
    }

    /// The words of what each target is told, one event a second.
    #[track_caller]
    fn check(watch: &mut Watch, events: &[(JobEvent, &[&str])]) {
        for (second, (event, expected)) in events.iter().enumerate() {
            let at = Timestamp::from_second(second as i64).expect("a time");
            let told = watch.observe(at, &job_event("photos", event.clone()));
            let words: Vec<_> = told.iter().map(|(_, notice)| notice.event.as_str()).collect();
            assert_eq!(words, *expected, "event {second}: {event:?}");
        }
    }

    #[test]
    fn each_failure_is_told_and_the_first_success_after_it() {
        let mut watch = watch(vec![target(&[Happening::Failure, Happening::Recovery], None)], Last::default());
        check(
            &mut watch,
            &[
                (success(), &[]),
                (failure(), &["failure"]),
                (failure(), &["failure"]),
                (success(), &["recovery"]),
                (success(), &[]),
            ],
        );
    }

    #[test]
    fn a_recovery_is_one_after_a_restart_too() {
        let last = Last { failed: true, ..Last::default() };
        let mut watch = watch(vec![target(&[Happening::Recovery], None)], last);
        check(&mut watch, &[(skipped(SkipReason::Overlap), &[]), (success(), &["recovery"]), (success(), &[])]);
    }

    #[test]
    fn who_asks_for_successes_hears_of_each_once() {
        let both = target(&[Happening::Success, Happening::Recovery], None);
        let mut watch = watch(vec![target(&[Happening::Success], None), both], Last::default());
        check(
            &mut watch,
            &[(success(), &["success", "success"]), (failure(), &[]), (success(), &["success", "recovery"])],
        );
    }

    #[test]
    fn failures_in_a_row_are_told_only_so_often() {
        let mut watch = watch(vec![target(&[Happening::Failure], Some(2))], Last::default());
        let told: &[&str] = &["failure"];
        check(
            &mut watch,
            &[(failure(), told), (failure(), &[]), (failure(), told), (success(), &[]), (failure(), told)],
        );
    }

    #[test]
    fn a_skip_is_told_unless_the_daemon_ends() {
        let mut watch = watch(vec![target(&[Happening::Skip], None)], Last::default());
        let gave_up = JobOutcome::Skipped(SkipReason::BlockTimeout);
        check(
            &mut watch,
            &[
                (skipped(SkipReason::Overlap), &["skip"]),
                (skipped(SkipReason::Shutdown), &[]),
                (JobEvent::Finished { outcome: gave_up, duration: Duration::ZERO }, &["skip"]),
            ],
        );
    }

    #[test]
    fn a_failure_says_why_with_the_last_words() {
        let mut watch = watch(vec![target(&[Happening::Failure], None)], Last::default());
        let at = Timestamp::UNIX_EPOCH;
        let next = Timestamp::from_second(99).ok();
        watch.observe(at, &job_event("photos", JobEvent::NextRun(next)));
        watch.observe(at, &job_event("photos", JobEvent::Started { trigger: Trigger::Hup }));
        watch.stderr(&JobId::new("photos"), b"rsync: no \x1b[1mroom\n");
        watch.observe(at, &action_finished("photos", "copy", failed_report()));
        let letters = watch.observe(at, &job_event("photos", failure()));
        let notice = &letters[0].1;
        assert_eq!(
            (notice.outcome, notice.reason, notice.trigger.as_deref()),
            (Some("failed"), Some("action"), Some("hup"))
        );
        assert!(notice.detail.as_deref().is_some_and(|detail| detail.contains("exit code 23")), "{notice:?}");
        assert_eq!((notice.stderr.as_str(), notice.next_run), ("rsync: no \\x1b[1mroom\n", next));
    }
}
