//! What decides when jobs run: events and the time in, commands out. Pure.
//!
//! Jobs without a schedule of their own share a *lane* and run one after the other; a job with its own schedule is a lane of
//! its own. A lane does one run at a time. While it runs, a tick of its schedule is skipped and said so, or queued for the jobs that want
//! that (`overlap: queue`); SIGHUP, and whoever asks by name, queues exactly one more run. A job that another configuration moves to
//! another lane while it runs waits there for the end of that run.
//!
//! A tick is on time up to [`GRACE`] late. Older ones were missed, since the daemon was not awake: they are counted, and made good once for
//! the jobs that want that (`catch_up: one`). A clock set back does not run a tick twice, unless it was set back so far that the plan
//! made before means nothing any more.

mod lane;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use self::lane::Lane;
use crate::config::{CatchUp, Overlap};
use crate::event::{RunId, SkipReason, Trigger};
use crate::schedule::Schedule;

/// How late a tick may be seen and still be run: cron's own granularity.
pub const GRACE: SignedDuration = SignedDuration::from_secs(60);
/// Who leaves to be started anew does not when something is due sooner than this: a service manager takes its time (the unit has
/// `RestartSec=10s`), and a tick that nobody sees is missed.
pub const RENEWAL_TAKES: SignedDuration = SignedDuration::from_secs(20);
/// A clock that is set back by more than this is a correction, as for cron: everything is planned anew.
const CORRECTION: SignedDuration = SignedDuration::from_hours(3);

/// Index of a lane.
pub type LaneId = usize;

/// Jobs of a lane, by their index in it.
pub type Jobs = BTreeSet<usize>;

/// What a lane needs to be planned.
#[derive(Debug, Clone)]
pub struct LanePlan {
    /// When it runs; `None` never by itself.
    pub schedule: Option<Schedule>,
    /// The zone of the schedule.
    pub timezone: TimeZone,
    /// Added to each scheduled time: this lane's share of the jitter.
    pub delay: Duration,
    /// Its jobs, in order.
    pub jobs: Vec<JobPlan>,
}

/// What of a job matters for when it runs.
#[derive(Debug, Clone, Default)]
pub struct JobPlan {
    /// What becomes of a tick while the lane runs.
    pub overlap: Overlap,
    /// Whether a missed tick is owed.
    pub catch_up: Option<CatchUp>,
    /// Whether its schedule is suspended.
    pub paused: bool,
    /// Up to when its ticks were dealt with before this process; `None` if it never was known.
    pub seen_until: Option<Timestamp>,
    /// The other lane whose run, which is under way, it is still part of.
    pub elsewhere: Option<LaneId>,
}

/// A lane as a new configuration has it.
#[derive(Debug, Clone)]
pub struct Replan {
    /// Which; one beyond the last is a new one.
    pub lane: LaneId,
    /// Its plan. `paused` and `seen_until` of jobs that it had before do not count.
    pub plan: LanePlan,
    /// For each job that it had before: what its index is now.
    pub moved: Vec<Option<usize>>,
    /// Of a new one: the lane that its jobs were part of before.
    pub from: Option<LaneId>,
}

/// What the core is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The daemon has started.
    Started,
    /// Run everything once, now (`--once`).
    Once,
    /// The time of [`Core::next_wakeup`] may have come, or the clock was set.
    Woke,
    /// SIGHUP: all jobs that are not paused.
    Hup,
    /// Somebody wants these jobs to run now, paused or not.
    Now(Vec<(LaneId, Jobs)>),
    /// What was queued for these jobs before they came to this lane.
    Requeue(LaneId, Jobs, Trigger),
    /// Somebody does not want these jobs to run that are queued.
    Unqueue(Vec<(LaneId, Jobs)>),
    /// The schedule of these jobs is suspended, or not any more.
    Pause(Vec<(LaneId, Jobs)>, bool),
    /// SIGTERM or SIGINT.
    Terminate,
    /// Leave, to be started anew, as soon as nothing runs; until then all goes on as ever.
    Renew,
    /// A run that was started is over.
    RunFinished(LaneId),
}

/// What the core wants done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Begin a run of a lane.
    Start {
        /// Which lane.
        lane: LaneId,
        /// Which of its jobs.
        jobs: Jobs,
        /// The new run.
        run: RunId,
        /// Why.
        trigger: Trigger,
    },
    /// Jobs are due and are not run.
    Skip {
        /// Of which lane.
        lane: LaneId,
        /// Which.
        jobs: Jobs,
        /// What wanted to run them.
        trigger: Trigger,
        /// Why not.
        reason: SkipReason,
    },
    /// Ticks of jobs went by unseen.
    Missed {
        /// Of which lane.
        lane: LaneId,
        /// Which.
        jobs: Jobs,
        /// How many.
        count: u64,
    },
    /// A lane's next due time has changed.
    Due {
        /// Which lane.
        lane: LaneId,
        /// When; `None` is never.
        at: Option<Timestamp>,
    },
    /// A run is under way, and one more was queued behind it.
    Queued {
        /// Of which lane.
        lane: LaneId,
        /// Whether something is queued that was not before.
        new: bool,
    },
    /// End what runs, politely.
    Stop,
    /// End what runs, at once.
    Kill,
    /// Nothing runs and nothing will: leave.
    Exit,
    /// Nothing runs, and nothing is due soon: leave, to be started anew.
    Renew,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Working,
    /// `--once`: leave when what runs is over.
    LastRun,
    Stopping,
    Killing,
}

/// The state of all lanes.
#[derive(Debug, Clone)]
pub struct Core {
    lanes: Vec<Lane>,
    phase: Phase,
    last_run: RunId,
    last_seen: Timestamp,
    /// Whether to leave as soon as nothing runs.
    renewal: bool,
}

impl Core {
    /// All lanes idle; nothing is planned before [`Event::Started`].
    pub fn new(lanes: Vec<LanePlan>, now: Timestamp) -> Self {
        let lanes = lanes.into_iter().map(Lane::new).collect();
        Self { lanes, phase: Phase::Working, last_run: RunId(0), last_seen: now, renewal: false }
    }

    /// When [`Event::Woke`] is wanted next.
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Working => self.lanes.iter().filter_map(Lane::due).min(),
            Phase::LastRun | Phase::Stopping | Phase::Killing => None,
        }
    }

    /// The jobs of a lane that run once more when it is free.
    pub fn queued(&self, lane: LaneId) -> Jobs {
        self.lanes[lane].queued.as_ref().map(|(_, jobs)| jobs.clone()).unwrap_or_default()
    }

    /// Why they do.
    pub fn queued_by(&self, lane: LaneId) -> Option<Trigger> {
        self.lanes[lane].queued.as_ref().map(|(trigger, _)| *trigger)
    }

    /// Takes in what happened at `now`; says what to do.
    pub fn handle(&mut self, event: Event, now: Timestamp) -> Vec<Command> {
        let mut commands = Vec::new();
        if self.phase == Phase::Working && self.last_seen.duration_since(now) > CORRECTION {
            (0..self.lanes.len()).for_each(|lane| self.plan_after(lane, self.lanes[lane].line(now), &mut commands));
        }
        match (event, self.phase) {
            (Event::Started, Phase::Working) => self.start_up(now, &mut commands),
            (Event::Once, Phase::Working) => {
                self.phase = Phase::LastRun;
                for lane in 0..self.lanes.len() {
                    self.start(lane, self.lanes[lane].all(), Trigger::Once, now, &mut commands);
                }
            }
            (Event::Woke, Phase::Working) => self.wake(now, &mut commands),
            (Event::Hup, Phase::Working) => {
                for lane in 0..self.lanes.len() {
                    let (paused, ready) = self.lanes[lane].part(self.lanes[lane].all(), |job| job.paused);
                    skip(lane, paused, Trigger::Hup, SkipReason::Paused, &mut commands);
                    self.start_or_queue(lane, ready, Trigger::Hup, now, &mut commands);
                }
            }
            (Event::Now(wanted), Phase::Working) => {
                for (lane, jobs) in wanted {
                    self.start_or_queue(lane, jobs, Trigger::Now, now, &mut commands);
                }
            }
            (Event::Requeue(lane, jobs, trigger), Phase::Working) => {
                self.start_or_queue(lane, jobs, trigger, now, &mut commands);
            }
            (Event::Unqueue(unwanted), _) => {
                for (lane, jobs) in unwanted {
                    self.unqueue(lane, &jobs, SkipReason::Cancelled, &mut commands);
                }
            }
            (Event::Pause(jobs, paused), _) => {
                for (lane, jobs) in jobs {
                    jobs.into_iter().for_each(|job| self.lanes[lane].plan.jobs[job].paused = paused);
                }
            }
            (Event::RunFinished(lane), _) => self.finished(lane, now, &mut commands),
            (Event::Terminate, Phase::Working | Phase::LastRun) => {
                self.phase = Phase::Stopping;
                for lane in 0..self.lanes.len() {
                    self.unqueue(lane, &self.queued(lane), SkipReason::Shutdown, &mut commands);
                }
                commands.push(Command::Stop);
            }
            (Event::Terminate, Phase::Stopping) => {
                self.phase = Phase::Killing;
                commands.push(Command::Kill);
            }
            (Event::Renew, Phase::Working) => self.renewal = true,
            // The last run is under way or the end is near: nothing new begins.
            (Event::Terminate, Phase::Killing)
            | (Event::Started | Event::Once | Event::Woke | Event::Hup | Event::Now(_), _)
            | (Event::Requeue(..) | Event::Renew, _) => {}
        }
        self.last_seen = now;
        if self.phase != Phase::Working && !self.is_busy() {
            commands.push(Command::Exit);
        } else if self.renewal && !self.is_busy() && !self.is_due_by(now + RENEWAL_TAKES) {
            self.phase = Phase::Stopping;
            commands.push(Command::Renew);
        }
        commands
    }

    fn is_busy(&self) -> bool {
        self.lanes.iter().any(|lane| lane.is_running)
    }

    fn is_due_by(&self, time: Timestamp) -> bool {
        self.lanes.iter().filter_map(Lane::due).any(|due| due <= time)
    }

    /// Takes over another configuration. What runs is not touched; what was queued stays so, as far as its jobs are still there. A lane
    /// that is not named is not any more.
    pub fn replan(&mut self, plans: Vec<Replan>, now: Timestamp) -> Vec<Command> {
        let mut commands = Vec::new();
        let named: BTreeSet<LaneId> = plans.iter().map(|plan| plan.lane).collect();
        // Up to when ticks were dealt with, on the line of the schedule that they were of.
        let lines: Vec<Timestamp> = self.lanes.iter().map(|lane| lane.line(now)).collect();
        for (id, lane) in self.lanes.iter_mut().enumerate() {
            if !named.contains(&id) {
                lane.retire();
            }
        }
        for Replan { lane, plan, moved, from } in plans {
            let changed = match self.lanes.get_mut(lane) {
                Some(known) => known.replan(plan, &moved),
                None => {
                    self.lanes.push(Lane::new(plan));
                    true
                }
            };
            if changed {
                let dealt_with = lines.get(from.unwrap_or(lane)).copied();
                // A tick whose delay is not over is not lost.
                let line = self.lanes[lane].line(now);
                self.plan_after(lane, dealt_with.map_or(line, |dealt_with| line.max(dealt_with)), &mut commands);
            } else {
                commands.push(Command::Due { lane, at: self.lanes[lane].due() });
            }
        }
        commands
    }

    fn start_up(&mut self, now: Timestamp, commands: &mut Vec<Command>) {
        for id in 0..self.lanes.len() {
            // A tick whose delay is not over is not missed.
            self.plan_after(id, self.lanes[id].line(now), commands);
            let lane = &self.lanes[id];
            if lane.plan.schedule == Some(Schedule::Reboot) {
                self.start_or_queue(id, lane.part(lane.all(), |job| !job.paused).0, Trigger::Cron, now, commands);
                continue;
            }
            let line = lane.line(now);
            let mut owed = Jobs::new();
            for (index, job) in lane.plan.jobs.iter().enumerate() {
                let Some(seen) = job.seen_until.map(|seen| lane.line(seen)).filter(|seen| *seen < line) else {
                    continue;
                };
                let count = lane.count_between(seen, line);
                if count > 0 {
                    commands.push(Command::Missed { lane: id, jobs: Jobs::from([index]), count });
                }
                if lane.owes(index, seen, line) {
                    owed.insert(index);
                }
            }
            self.due(id, owed, Trigger::CatchUp, now, commands);
        }
    }

    fn wake(&mut self, now: Timestamp, commands: &mut Vec<Command>) {
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].due().is_some_and(|due| due <= now) {
                self.tick(lane, now, commands);
            }
        }
    }

    /// A lane's tick has come, and perhaps more of them since.
    fn tick(&mut self, id: LaneId, now: Timestamp, commands: &mut Vec<Command>) {
        let lane = &self.lanes[id];
        let Some(first) = lane.tick else { return };
        let line = lane.line(now);
        let on_time = line.saturating_sub(GRACE).expect("the grace is a plain duration");
        let is_on_time = lane.next_after(on_time.max(before(first))).is_some_and(|tick| tick <= line);
        let missed = lane.count_between(before(first), line).saturating_sub(u64::from(is_on_time));
        if missed > 0 {
            commands.push(Command::Missed { lane: id, jobs: lane.all(), count: missed });
        }
        if is_on_time {
            self.due(id, lane.all(), Trigger::Cron, now, commands);
        } else {
            let owed = lane.all().into_iter().filter(|&job| lane.owes(job, before(first), line)).collect();
            self.due(id, owed, Trigger::CatchUp, now, commands);
        }
        self.plan_after(id, line, commands);
    }

    /// Jobs are due by their schedule.
    fn due(&mut self, id: LaneId, jobs: Jobs, trigger: Trigger, now: Timestamp, commands: &mut Vec<Command>) {
        let lane = &self.lanes[id];
        let (paused, ready) = lane.part(jobs, |job| job.paused);
        skip(id, paused, trigger, SkipReason::Paused, commands);
        let is_in_the_way = |job: &JobPlan| lane.is_in_the_way_of(job) && job.overlap == Overlap::Skip;
        let (overlapping, ready) = lane.part(ready, is_in_the_way);
        skip(id, overlapping, trigger, SkipReason::Overlap, commands);
        self.start_or_queue(id, ready, trigger, now, commands);
    }

    fn plan_after(&mut self, id: LaneId, time: Timestamp, commands: &mut Vec<Command>) {
        let lane = &mut self.lanes[id];
        lane.tick = lane.next_after(time);
        commands.push(Command::Due { lane: id, at: lane.due() });
    }

    fn start_or_queue(
        &mut self,
        id: LaneId,
        jobs: Jobs,
        trigger: Trigger,
        now: Timestamp,
        commands: &mut Vec<Command>,
    ) {
        if jobs.is_empty() {
            return;
        }
        let lane = &mut self.lanes[id];
        let (held, ready) = lane.part(jobs, |job| lane.is_in_the_way_of(job));
        if !held.is_empty() {
            let (_, waiting) = lane.queued.get_or_insert_with(|| (trigger, Jobs::new()));
            let new = !held.is_subset(waiting);
            waiting.extend(held);
            commands.push(Command::Queued { lane: id, new });
        }
        if !ready.is_empty() {
            self.start(id, ready, trigger, now, commands);
        }
    }

    fn unqueue(&mut self, id: LaneId, jobs: &Jobs, reason: SkipReason, commands: &mut Vec<Command>) {
        let queued = &mut self.lanes[id].queued;
        let Some((trigger, waiting)) = queued else { return };
        let (trigger, gone) = (*trigger, waiting.intersection(jobs).copied().collect());
        waiting.retain(|job| !jobs.contains(job));
        if waiting.is_empty() {
            *queued = None;
        }
        skip(id, gone, trigger, reason, commands);
    }

    fn start(&mut self, lane: LaneId, jobs: Jobs, trigger: Trigger, now: Timestamp, commands: &mut Vec<Command>) {
        let clock = u64::try_from(now.as_millisecond()).unwrap_or(0);
        self.last_run = RunId(clock.max(self.last_run.0 + 1));
        self.lanes[lane].is_running = true;
        commands.push(Command::Start { lane, jobs, run: self.last_run, trigger });
    }

    fn finished(&mut self, lane: LaneId, now: Timestamp, commands: &mut Vec<Command>) {
        self.lanes[lane].is_running = false;
        for other in &mut self.lanes {
            other.plan.jobs.iter_mut().for_each(|job| job.elsewhere = job.elsewhere.filter(|run| *run != lane));
        }
        for lane in 0..self.lanes.len() {
            if let Some((trigger, jobs)) = self.lanes[lane].unqueue_ready() {
                self.start(lane, jobs, trigger, now, commands);
            }
        }
    }
}

fn skip(lane: LaneId, jobs: Jobs, trigger: Trigger, reason: SkipReason, commands: &mut Vec<Command>) {
    if !jobs.is_empty() {
        commands.push(Command::Skip { lane, jobs, trigger, reason });
    }
}

/// The instant just before, for intervals that include their start.
fn before(time: Timestamp) -> Timestamp {
    time.saturating_sub(SignedDuration::from_nanos(1)).expect("a nanosecond is a plain duration")
}
