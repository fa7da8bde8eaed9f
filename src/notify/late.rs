//! Jobs whose last success is too old. [`Lateness`] is told what happens and knows when a job gets late; [`Lateness::run`] waits for that
//! and sends [`JobEvent::Late`], once until the next success.
//!
//! Times are those of the wall clock, which goes on while the host sleeps or is down: what got late meanwhile is told at the next look. A
//! job that never succeeded counts from the first time that is known of it, at the latest from the start of the daemon.
//! The history keeps when a job was told to be late, so a restart does not tell it again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::config::{Config, JobId};
use crate::event::{Events, JobEvent, JobOutcome, Observer, RunEvent};
use crate::history::read::Last;

/// The jobs of an instance: also those without a `max_age`, which may get one.
pub struct Lateness {
    jobs: Mutex<HashMap<JobId, Age>>,
    changed: Notify,
}

/// How old a job's last success is, and may be.
#[derive(Debug, Clone, Copy)]
struct Age {
    max: Option<Duration>,
    success: Option<Timestamp>,
    /// What counts for a job that never succeeded.
    since: Timestamp,
    /// Whether it was told since.
    told: bool,
}

impl Lateness {
    /// The jobs of a configuration; `last` is what is known of them from before.
    pub fn new(config: &Config, last: &[(String, Last)], now: Timestamp) -> Arc<Self> {
        let known = last.iter().map(|(job, last)| (JobId::new(job.as_str()), Age::remembered(last, now)));
        let lateness = Self { jobs: Mutex::new(known.collect()), changed: Notify::new() };
        lateness.reload(config, now);
        Arc::new(lateness)
    }

    /// Takes another configuration of the instance; what is known of its jobs stays.
    pub fn reload(&self, config: &Config, now: Timestamp) {
        let mut jobs = self.jobs();
        jobs.values_mut().for_each(|age| age.max = None);
        for job in &config.jobs {
            jobs.entry(job.id.clone()).or_insert_with(|| Age::new(now)).max = job.max_age;
        }
        drop(jobs);
        self.changed.notify_one();
    }

    /// Tells which jobs get late until `end` is cancelled. Sleeps without waking up in between.
    pub async fn run(&self, events: &Events, end: &CancellationToken) {
        loop {
            for (job, event) in self.told_at(clock::now()) {
                events.send(RunEvent::Job { run: None, job, event });
            }
            let due = self.jobs().values().filter_map(Age::due).min();
            tokio::select! {
                () = end.cancelled() => return,
                () = self.changed.notified() => {}
                () = clock::sleep_until(due), if due.is_some() => {}
            }
        }
    }

    /// What is to be told now, and is told then.
    fn told_at(&self, now: Timestamp) -> Vec<(JobId, JobEvent)> {
        let mut jobs = self.jobs();
        let told = jobs.iter_mut().filter_map(|(job, age)| {
            age.confine_to(now);
            let max_age = age.max.filter(|_| age.due().is_some_and(|due| due <= now))?;
            age.told = true;
            Some((job.clone(), JobEvent::Late { last_success: age.success, max_age }))
        });
        told.collect()
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<JobId, Age>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Age {
    /// Of a job of which nothing is known from before.
    fn new(now: Timestamp) -> Self {
        Self { max: None, success: None, since: now, told: false }
    }

    fn remembered(last: &Last, now: Timestamp) -> Self {
        let since = last.first_start.unwrap_or(now);
        let mut age = Self { success: last.success, since, ..Self::new(now) };
        age.confine_to(now);
        age.told = last.late.is_some_and(|late| late > age.from() && late <= now);
        age
    }

    /// What seems to come was under a clock that was ahead, and counts from now.
    fn confine_to(&mut self, now: Timestamp) {
        self.success = self.success.map(|success| success.min(now));
        self.since = self.since.min(now);
    }

    fn from(&self) -> Timestamp {
        self.success.unwrap_or(self.since)
    }

    /// When it gets late; `None` when that is told already, or it may be of any age.
    fn due(&self) -> Option<Timestamp> {
        let max = self.max.filter(|_| !self.told)?;
        self.from().checked_add(SignedDuration::try_from(max).ok()?).ok()
    }
}

impl Observer for Lateness {
    fn configured(&self, config: &Config) {
        self.reload(config, clock::now());
    }

    fn observe(&self, at: Timestamp, event: &RunEvent) {
        let RunEvent::Job { job, event: JobEvent::Finished { outcome: JobOutcome::Succeeded, .. }, .. } = event else {
            return;
        };
        if let Some(age) = self.jobs().get_mut(job) {
            (age.success, age.told) = (Some(at), false);
            self.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::tests_support::job_event;
    use crate::metrics::tests::config;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn bounded() -> Config {
        let mut config = config();
        let job = crate::config::Job { max_age: Some(Duration::from_secs(100)), ..(*config.jobs[0]).clone() };
        config.jobs = vec![Arc::new(job)];
        config
    }

    fn lateness(last: Last) -> Arc<Lateness> {
        Lateness::new(&bounded(), &[("photos".into(), last)], at(1000))
    }

    /// At which of these seconds it is told that the job is late.
    #[track_caller]
    fn check(lateness: &Lateness, seconds: &[i64], expected: &[i64]) {
        let told: Vec<_> = seconds.iter().copied().filter(|second| !lateness.told_at(at(*second)).is_empty()).collect();
        assert_eq!(told, expected);
    }

    fn succeed(lateness: &Lateness, second: i64) {
        let outcome = JobOutcome::Succeeded;
        let event = JobEvent::Finished { outcome, duration: Duration::from_secs(1) };
        lateness.observe(at(second), &job_event("photos", event));
    }

    #[test]
    fn a_late_job_is_told_once_until_it_succeeds() {
        let lateness = lateness(Last { success: Some(at(950)), ..Last::default() });
        check(&lateness, &[1000, 1049, 1050, 1051, 2000], &[1050]);
        succeed(&lateness, 2001);
        check(&lateness, &[2002, 2100, 2101, 2102], &[2101]);
    }

    #[test]
    fn what_got_late_while_nobody_looked_is_told_at_the_first_look() {
        check(&lateness(Last { success: Some(at(500)), ..Last::default() }), &[1000, 1001], &[1000]);
    }

    #[test]
    fn what_was_told_before_a_restart_is_not_told_again() {
        let told = Last { success: Some(at(500)), late: Some(at(600)), ..Last::default() };
        check(&lateness(told), &[1000, 5000], &[]);
        let before_the_success = Last { success: Some(at(650)), late: Some(at(600)), ..Last::default() };
        check(&lateness(before_the_success), &[1000], &[1000]);
    }

    #[test]
    fn what_was_told_or_succeeded_while_the_clock_was_ahead_does_not_silence() {
        let told = || Last { success: Some(at(500)), late: Some(at(9000)), ..Last::default() };
        check(&lateness(told()), &[1000, 1001], &[1000]);
        let ahead = lateness(Last { success: Some(at(8000)), ..told() });
        check(&ahead, &[1099, 1100, 1101], &[1100]);
        let running = lateness(Last { success: Some(at(950)), ..Last::default() });
        check(&running, &[9000], &[9000]);
        succeed(&running, 2000);
        check(&running, &[2099, 2100, 2101], &[2100]);
        succeed(&running, 9000);
        check(&running, &[3000, 3099, 3100, 3101], &[3100]);
    }

    #[test]
    fn a_max_age_that_comes_later_counts_from_the_last_success() {
        let later = |last: &[(String, Last)], success| {
            let lateness = Lateness::new(&config(), last, at(1000));
            if let Some(second) = success {
                succeed(&lateness, second);
            }
            check(&lateness, &[5000], &[]);
            lateness.reload(&bounded(), at(5000));
            lateness
        };
        let last = Last { success: Some(at(500)), ..Last::default() };
        check(&later(&[("photos".into(), last)], None), &[5000, 5001], &[5000]);
        check(&later(&[], Some(4950)), &[5049, 5050, 5051], &[5050]);
        check(&later(&[], None), &[5000], &[5000]);
    }

    #[test]
    fn one_whose_max_age_goes_is_not_late() {
        let lateness = lateness(Last { success: Some(at(500)), ..Last::default() });
        lateness.reload(&config(), at(1000));
        check(&lateness, &[1000], &[]);
    }

    #[test]
    fn one_that_never_succeeded_counts_from_when_it_was_first_known() {
        check(&lateness(Last::default()), &[1000, 1099, 1100], &[1100]);
        check(&lateness(Last { first_start: Some(at(10)), ..Last::default() }), &[1000], &[1000]);
    }

    #[test]
    fn one_without_a_max_age_is_never_late() {
        let lateness = Lateness::new(&config(), &[], at(0));
        check(&lateness, &[1_000_000], &[]);
    }

    #[tokio::test]
    async fn it_waits_and_tells() {
        struct Sent(std::sync::Mutex<tokio::sync::mpsc::UnboundedSender<RunEvent>>);
        impl Observer for Sent {
            fn observe(&self, _: Timestamp, event: &RunEvent) {
                let sender = self.0.lock().expect("no panic");
                sender.send(event.clone()).expect("somebody listens");
            }
        }
        let (sender, mut sent) = tokio::sync::mpsc::unbounded_channel();
        let events = Events::new(vec![Arc::new(Sent(std::sync::Mutex::new(sender)))]);
        let lateness = lateness(Last { success: Some(clock::now()), ..Last::default() });
        lateness.jobs().values_mut().for_each(|age| age.max = Some(Duration::from_millis(30)));
        let end = CancellationToken::new();
        let first = async {
            let event = sent.recv().await;
            end.cancel();
            event
        };
        let (event, ()) = tokio::join!(first, lateness.run(&events, &end));
        assert!(matches!(event, Some(RunEvent::Job { event: JobEvent::Late { .. }, .. })), "{event:?}");
    }
}
