//! A lane: its plan, and whether it runs.

use jiff::{SignedDuration, Timestamp};

use super::{JobPlan, Jobs, LanePlan};
use crate::event::Trigger;
use crate::schedule::count_between;

/// Missed ticks are counted up to here.
const MISSED_CAP: u64 = 100_000;

#[derive(Debug, Clone)]
pub(super) struct Lane {
    pub(super) plan: LanePlan,
    /// The tick that is waited for, by the schedule; the delay is not in it.
    pub(super) tick: Option<Timestamp>,
    pub(super) is_running: bool,
    /// What runs once more behind that, or behind another lane's run that some of it is still part of; and why.
    pub(super) queued: Option<(Trigger, Jobs)>,
}

impl Lane {
    pub(super) fn new(plan: LanePlan) -> Self {
        Self { plan, tick: None, is_running: false, queued: None }
    }

    /// All of its jobs.
    pub(super) fn all(&self) -> Jobs {
        (0..self.plan.jobs.len()).collect()
    }

    /// Those of `jobs` for which something holds, and the others.
    pub(super) fn part(&self, jobs: Jobs, holds: impl Fn(&JobPlan) -> bool) -> (Jobs, Jobs) {
        jobs.into_iter().partition(|&job| holds(&self.plan.jobs[job]))
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        self.tick.map(|tick| tick.saturating_add(self.plan.delay).expect("a delay is a plain duration"))
    }

    /// A time on the schedule's own time line, which the delay is not part of.
    pub(super) fn line(&self, now: Timestamp) -> Timestamp {
        now.saturating_sub(self.plan.delay).expect("a delay is a plain duration")
    }

    pub(super) fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        self.plan.schedule.as_ref()?.next_after(time, &self.plan.timezone)
    }

    /// Ticks after `from`, up to and with `until`.
    pub(super) fn count_between(&self, from: Timestamp, until: Timestamp) -> u64 {
        let schedule = self.plan.schedule.as_ref();
        schedule.map_or(0, |schedule| count_between(schedule, from, until, &self.plan.timezone, MISSED_CAP))
    }

    /// Whether a job is owed a run for a tick after `from`, up to and with `until`, that is not too old by then.
    pub(super) fn owes(&self, job: usize, from: Timestamp, until: Timestamp) -> bool {
        let Some(catch_up) = &self.plan.jobs[job].catch_up else { return false };
        let oldest = catch_up.max_age.and_then(|age| until.checked_sub(SignedDuration::try_from(age).ok()?).ok());
        let from = oldest.map_or(from, |oldest| oldest.max(from));
        self.next_after(from).is_some_and(|tick| tick <= until)
    }

    /// Whether a run that is under way has to end before these jobs of the lane may run.
    pub(super) fn is_in_the_way_of(&self, job: &JobPlan) -> bool {
        self.is_running || job.elsewhere.is_some()
    }

    /// The queue, as far as a run that is under way is not in the way of it; the rest stays queued.
    pub(super) fn unqueue_ready(&mut self) -> Option<(Trigger, Jobs)> {
        let (trigger, jobs) = self.queued.take()?;
        let (waiting, ready) = self.part(jobs, |job| self.is_in_the_way_of(job));
        self.queued = Some((trigger, waiting)).filter(|(_, jobs)| !jobs.is_empty());
        Some((trigger, ready)).filter(|(_, jobs)| !jobs.is_empty())
    }

    /// Takes over another plan. Whether the ticks are others now.
    pub(super) fn replan(&mut self, mut plan: LanePlan, moved: &[Option<usize>]) -> bool {
        for (before, now) in self.plan.jobs.iter().zip(moved) {
            if let Some(job) = now.and_then(|now| plan.jobs.get_mut(now)) {
                job.paused = before.paused;
            }
        }
        let jobs = |jobs: Jobs| jobs.into_iter().filter_map(|job| moved.get(job).copied().flatten()).collect::<Jobs>();
        let queued = self.queued.take();
        self.queued = queued.map(|(trigger, queued)| (trigger, jobs(queued))).filter(|(_, jobs)| !jobs.is_empty());
        let times = |plan: &LanePlan| (plan.schedule.clone(), plan.timezone.clone());
        let changed = times(&self.plan) != times(&plan);
        self.plan = plan;
        changed
    }

    /// Does not run any more, unless it gets another plan.
    pub(super) fn retire(&mut self) {
        self.plan.schedule = None;
        self.plan.jobs.clear();
        self.tick = None;
        self.queued = None;
    }
}
