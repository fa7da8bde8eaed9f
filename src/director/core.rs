//! What decides when jobs run: events and the time in, commands out. Pure.
//!
//! Jobs without a schedule of their own share a *lane* and run one after the other; a job with its own schedule is a lane of
//! its own. A lane does one run at a time. While it runs, a tick of its schedule is skipped and said so, and SIGHUP queues
//! exactly one more run.
//!
//! A tick is on time up to [`GRACE`] late. Older ones were missed, since the daemon was not awake: they are counted. A clock
//! set back does not run a tick twice, unless it was set back so far that the plan made before means nothing any more.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::event::{RunId, SkipReason, Trigger};
use crate::schedule::{Schedule, count_between};

/// How late a tick may be seen and still be run: cron's own granularity.
pub const GRACE: SignedDuration = SignedDuration::from_secs(60);
/// A clock that is set back by more than this is a correction, as for cron: everything is planned anew.
const CORRECTION: SignedDuration = SignedDuration::from_hours(3);
/// Missed ticks are counted up to here.
const MISSED_CAP: u64 = 100_000;

/// Index of a lane.
pub type LaneId = usize;

/// What a lane needs to be planned.
#[derive(Debug, Clone)]
pub struct LanePlan {
    /// When it runs; `None` never by itself.
    pub schedule: Option<Schedule>,
    /// The zone of the schedule.
    pub timezone: TimeZone,
    /// Added to each scheduled time: this lane's share of the jitter.
    pub delay: Duration,
}

/// What the core is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The daemon has started.
    Started,
    /// Run everything once, now (`--once`).
    Once,
    /// The time of [`Core::next_wakeup`] may have come, or the clock was set.
    Woke,
    /// SIGHUP.
    Hup,
    /// SIGTERM or SIGINT.
    Terminate,
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
        /// The new run.
        run: RunId,
        /// Why.
        trigger: Trigger,
    },
    /// A lane is due and is not run.
    Skip {
        /// Which lane.
        lane: LaneId,
        /// What wanted to run it.
        trigger: Trigger,
        /// Why not.
        reason: SkipReason,
    },
    /// A lane's ticks went by unseen.
    Missed {
        /// Which lane.
        lane: LaneId,
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
    /// A HUP found a run under way and has queued one, or one was queued already.
    Queued {
        /// Which lane.
        lane: LaneId,
        /// Whether this HUP is the one that runs.
        new: bool,
    },
    /// End what runs, politely.
    Stop,
    /// End what runs, at once.
    Kill,
    /// Nothing runs and nothing will: leave.
    Exit,
}

#[derive(Debug, Clone)]
enum State {
    Idle,
    Running { queued: Option<Trigger> },
}

#[derive(Debug, Clone)]
struct Lane {
    plan: LanePlan,
    /// The tick that is waited for, by the schedule; the delay is not in it.
    tick: Option<Timestamp>,
    state: State,
}

impl Lane {
    fn due(&self) -> Option<Timestamp> {
        self.tick.map(|tick| tick.saturating_add(self.plan.delay).expect("a delay is a plain duration"))
    }

    fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        self.plan.schedule.as_ref()?.next_after(time, &self.plan.timezone)
    }

    fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }
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
}

impl Core {
    /// All lanes idle; nothing is planned before [`Event::Started`].
    pub fn new(lanes: Vec<LanePlan>, now: Timestamp) -> Self {
        let lanes = lanes.into_iter().map(|plan| Lane { plan, tick: None, state: State::Idle }).collect();
        Self { lanes, phase: Phase::Working, last_run: RunId(0), last_seen: now }
    }

    /// When [`Event::Woke`] is wanted next.
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Working => self.lanes.iter().filter_map(Lane::due).min(),
            Phase::LastRun | Phase::Stopping | Phase::Killing => None,
        }
    }

    /// Takes in what happened at `now`; says what to do.
    pub fn handle(&mut self, event: Event, now: Timestamp) -> Vec<Command> {
        let mut commands = Vec::new();
        match (event, self.phase) {
            (Event::Started, Phase::Working) => self.start_up(now, &mut commands),
            (Event::Once, Phase::Working) => {
                self.phase = Phase::LastRun;
                (0..self.lanes.len()).for_each(|lane| self.start(lane, Trigger::Once, now, &mut commands));
            }
            (Event::Woke, Phase::Working) => self.wake(now, &mut commands),
            (Event::Hup, Phase::Working) => {
                (0..self.lanes.len()).for_each(|lane| self.hup(lane, now, &mut commands));
            }
            (Event::RunFinished(lane), _) => self.finished(lane, now, &mut commands),
            (Event::Terminate, Phase::Working | Phase::LastRun) => {
                self.phase = Phase::Stopping;
                commands.push(Command::Stop);
            }
            (Event::Terminate, Phase::Stopping) => {
                self.phase = Phase::Killing;
                commands.push(Command::Kill);
            }
            // The last run is under way or the end is near: nothing new begins.
            (Event::Terminate, Phase::Killing) | (Event::Started | Event::Once | Event::Woke | Event::Hup, _) => {}
        }
        self.last_seen = now;
        if self.phase != Phase::Working && !self.lanes.iter().any(Lane::is_running) {
            commands.push(Command::Exit);
        }
        commands
    }

    fn start_up(&mut self, now: Timestamp, commands: &mut Vec<Command>) {
        for lane in 0..self.lanes.len() {
            self.plan_after(lane, now, commands);
            if self.lanes[lane].plan.schedule == Some(Schedule::Reboot) {
                self.start(lane, Trigger::Cron, now, commands);
            }
        }
    }

    fn wake(&mut self, now: Timestamp, commands: &mut Vec<Command>) {
        if self.last_seen.duration_since(now) > CORRECTION {
            (0..self.lanes.len()).for_each(|lane| self.plan_after(lane, now, commands));
            return;
        }
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].due().is_some_and(|due| due <= now) {
                self.tick(lane, now, commands);
            }
        }
    }

    /// A lane's tick has come, and perhaps more of them since.
    fn tick(&mut self, id: LaneId, now: Timestamp, commands: &mut Vec<Command>) {
        let lane = &self.lanes[id];
        let (Some(first), Some(schedule)) = (lane.tick, &lane.plan.schedule) else { return };
        // On the schedule's own time line, which the delay is not part of.
        let line = now.saturating_sub(lane.plan.delay).expect("a delay is a plain duration");
        let on_time = line.saturating_sub(GRACE).expect("the grace is a plain duration");
        let is_on_time = lane.next_after(on_time.max(before(first))).is_some_and(|tick| tick <= line);
        let passed = count_between(schedule, before(first), line, &lane.plan.timezone, MISSED_CAP);
        let missed = passed.saturating_sub(u64::from(is_on_time));
        if missed > 0 {
            commands.push(Command::Missed { lane: id, count: missed });
        }
        if is_on_time {
            match lane.state {
                State::Idle => self.start(id, Trigger::Cron, now, commands),
                State::Running { .. } => {
                    let (trigger, reason) = (Trigger::Cron, SkipReason::Overlap);
                    commands.push(Command::Skip { lane: id, trigger, reason });
                }
            }
        }
        self.plan_after(id, line, commands);
    }

    fn plan_after(&mut self, id: LaneId, time: Timestamp, commands: &mut Vec<Command>) {
        let lane = &mut self.lanes[id];
        lane.tick = lane.next_after(time);
        commands.push(Command::Due { lane: id, at: lane.due() });
    }

    fn hup(&mut self, lane: LaneId, now: Timestamp, commands: &mut Vec<Command>) {
        match &mut self.lanes[lane].state {
            State::Idle => self.start(lane, Trigger::Hup, now, commands),
            State::Running { queued } => {
                let new = queued.replace(Trigger::Hup).is_none();
                commands.push(Command::Queued { lane, new });
            }
        }
    }

    fn start(&mut self, lane: LaneId, trigger: Trigger, now: Timestamp, commands: &mut Vec<Command>) {
        let clock = u64::try_from(now.as_millisecond()).unwrap_or(0);
        self.last_run = RunId(clock.max(self.last_run.0 + 1));
        self.lanes[lane].state = State::Running { queued: None };
        commands.push(Command::Start { lane, run: self.last_run, trigger });
    }

    fn finished(&mut self, lane: LaneId, now: Timestamp, commands: &mut Vec<Command>) {
        let state = std::mem::replace(&mut self.lanes[lane].state, State::Idle);
        if let (State::Running { queued: Some(trigger) }, Phase::Working) = (state, self.phase) {
            self.start(lane, trigger, now, commands);
        }
    }
}

/// The instant just before, for intervals that include their start.
fn before(time: Timestamp) -> Timestamp {
    time.saturating_sub(SignedDuration::from_nanos(1)).expect("a nanosecond is a plain duration")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn core(expressions: &[&str]) -> Core {
        let lanes = expressions.iter().map(|expression| LanePlan {
            schedule: Some(Schedule::parse(expression).unwrap()),
            timezone: TimeZone::UTC,
            delay: Duration::ZERO,
        });
        let mut core = Core::new(lanes.collect(), at("2028-01-01T00:00:30Z"));
        core.handle(Event::Started, at("2028-01-01T00:00:30Z"));
        core
    }

    /// What a core does, without plans and run numbers.
    fn acts(commands: Vec<Command>) -> Vec<String> {
        commands
            .into_iter()
            .filter_map(|command| match command {
                Command::Start { lane, trigger, .. } => Some(format!("start {lane} {trigger}")),
                Command::Skip { lane, reason, .. } => Some(format!("skip {lane} {}", reason.as_str())),
                Command::Missed { lane, count } => Some(format!("missed {lane} {count}")),
                Command::Queued { lane, new } => Some(format!("queued {lane} {new}")),
                Command::Due { .. } => None,
                other => Some(format!("{other:?}").to_lowercase()),
            })
            .collect()
    }

    #[track_caller]
    fn check(core: &mut Core, event: Event, now: &str, expected: &[&str]) {
        assert_eq!(acts(core.handle(event, at(now))), expected, "{event:?} at {now}");
    }

    #[test]
    fn a_tick_starts_a_run_and_a_tick_during_it_is_skipped() {
        let mut core = core(&["*/5 * * * *"]);
        assert_eq!(core.next_wakeup(), Some(at("2028-01-01T00:05:00Z")));
        check(&mut core, Event::Woke, "2028-01-01T00:04:59.999Z", &[]);
        check(&mut core, Event::Woke, "2028-01-01T00:05:00Z", &["start 0 cron"]);
        check(&mut core, Event::Woke, "2028-01-01T00:05:00.001Z", &[]);
        check(&mut core, Event::Woke, "2028-01-01T00:10:00Z", &["skip 0 overlap"]);
        check(&mut core, Event::RunFinished(0), "2028-01-01T00:11:00Z", &[]);
        check(&mut core, Event::Woke, "2028-01-01T00:15:00Z", &["start 0 cron"]);
    }

    #[test]
    fn hup_runs_now_and_during_a_run_queues_exactly_one_more() {
        let mut core = core(&["0 3 * * *"]);
        check(&mut core, Event::Hup, "2028-01-01T00:01:00Z", &["start 0 hup"]);
        check(&mut core, Event::Hup, "2028-01-01T00:01:01Z", &["queued 0 true"]);
        check(&mut core, Event::Hup, "2028-01-01T00:01:01Z", &["queued 0 false"]);
        check(&mut core, Event::RunFinished(0), "2028-01-01T00:02:00Z", &["start 0 hup"]);
        check(&mut core, Event::RunFinished(0), "2028-01-01T00:03:00Z", &[]);
    }

    #[test]
    fn lanes_do_not_wait_for_each_other() {
        let mut core = core(&["0 3 * * *", "30 3 * * *"]);
        check(&mut core, Event::Woke, "2028-01-01T03:00:00Z", &["start 0 cron"]);
        check(&mut core, Event::Woke, "2028-01-01T03:30:00Z", &["start 1 cron"]);
        check(&mut core, Event::Hup, "2028-01-01T03:31:00Z", &["queued 0 true", "queued 1 true"]);
    }

    #[test]
    fn terminate_stops_then_kills_and_leaves_when_nothing_runs() {
        let mut core = core(&["0 3 * * *"]);
        check(&mut core, Event::Hup, "2028-01-01T00:01:00Z", &["start 0 hup"]);
        check(&mut core, Event::Hup, "2028-01-01T00:01:01Z", &["queued 0 true"]);
        check(&mut core, Event::Terminate, "2028-01-01T00:02:00Z", &["stop"]);
        check(&mut core, Event::Hup, "2028-01-01T00:02:00Z", &[]);
        check(&mut core, Event::Terminate, "2028-01-01T00:02:01Z", &["kill"]);
        check(&mut core, Event::RunFinished(0), "2028-01-01T00:02:02Z", &["exit"]);
    }

    #[test]
    fn an_idle_daemon_leaves_at_once() {
        check(&mut core(&["0 3 * * *"]), Event::Terminate, "2028-01-01T00:02:00Z", &["stop", "exit"]);
    }

    #[test]
    fn once_runs_everything_once_and_leaves() {
        let mut core = Core::new(
            vec![LanePlan { schedule: None, timezone: TimeZone::UTC, delay: Duration::ZERO }],
            at("2028-01-01T00:00:00Z"),
        );
        check(&mut core, Event::Once, "2028-01-01T00:00:00Z", &["start 0 once"]);
        check(&mut core, Event::Hup, "2028-01-01T00:00:01Z", &[]);
        check(&mut core, Event::RunFinished(0), "2028-01-01T00:00:02Z", &["exit"]);
    }

    #[test]
    fn ticks_that_passed_in_a_suspend_are_counted_and_not_run() {
        let mut core = core(&["0 * * * *"]);
        check(&mut core, Event::Woke, "2028-01-01T05:30:00Z", &["missed 0 5"]);
        assert_eq!(core.next_wakeup(), Some(at("2028-01-01T06:00:00Z")));
        check(&mut core, Event::Woke, "2028-01-01T09:00:20Z", &["missed 0 3", "start 0 cron"]);
    }

    #[test]
    fn a_clock_set_back_does_not_run_twice() {
        let mut core = core(&["0 3 * * *"]);
        check(&mut core, Event::Woke, "2028-01-01T03:00:00Z", &["start 0 cron"]);
        check(&mut core, Event::RunFinished(0), "2028-01-01T03:05:00Z", &[]);
        check(&mut core, Event::Woke, "2028-01-01T02:30:00Z", &[]);
        check(&mut core, Event::Woke, "2028-01-01T03:00:00Z", &[]);
        assert_eq!(core.next_wakeup(), Some(at("2028-01-02T03:00:00Z")));
    }

    #[test]
    fn a_clock_set_back_by_a_day_is_planned_anew() {
        let mut core = core(&["0 3 * * *"]);
        check(&mut core, Event::Woke, "2028-01-05T03:00:00Z", &["missed 0 4", "start 0 cron"]);
        check(&mut core, Event::RunFinished(0), "2028-01-05T03:05:00Z", &[]);
        check(&mut core, Event::Woke, "2028-01-02T12:00:00Z", &[]);
        assert_eq!(core.next_wakeup(), Some(at("2028-01-03T03:00:00Z")));
    }

    #[test]
    fn the_delay_moves_a_tick_and_does_not_miss_it() {
        let mut core = core(&["0 * * * *"]);
        core.lanes[0].plan.delay = Duration::from_secs(600);
        assert_eq!(core.next_wakeup(), Some(at("2028-01-01T01:10:00Z")));
        check(&mut core, Event::Woke, "2028-01-01T01:10:00Z", &["start 0 cron"]);
        assert_eq!(core.next_wakeup(), Some(at("2028-01-01T02:10:00Z")));
    }

    #[test]
    fn reboot_runs_when_the_daemon_starts_and_never_again() {
        let plan = LanePlan {
            schedule: Some(Schedule::parse("@reboot").unwrap()),
            timezone: TimeZone::UTC,
            delay: Duration::ZERO,
        };
        let mut core = Core::new(vec![plan], at("2028-01-01T00:00:00Z"));
        check(&mut core, Event::Started, "2028-01-01T00:00:00Z", &["start 0 cron"]);
        assert_eq!(core.next_wakeup(), None);
    }

    #[test]
    fn run_numbers_grow_even_when_the_clock_does_not() {
        let mut core = core(&["0 3 * * *", "0 3 * * *"]);
        let runs: Vec<u64> = core
            .handle(Event::Hup, at("2028-01-01T00:01:00Z"))
            .into_iter()
            .filter_map(|command| match command {
                Command::Start { run, .. } => Some(run.0),
                _ => None,
            })
            .collect();
        assert!(runs.len() == 2 && runs[0] < runs[1], "{runs:?}");
    }

    /// Walks a leap year in Berlin from wake-up to wake-up, with runs that last, and compares with what the calendar says.
    #[test]
    fn a_simulated_year_runs_every_tick_exactly_once() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let plan = |expression: &str| LanePlan {
            schedule: Some(Schedule::parse(expression).unwrap()),
            timezone: berlin.clone(),
            delay: Duration::ZERO,
        };
        let mut now = at("2027-12-31T22:59:59Z");
        let end = at("2028-12-31T22:59:59Z");
        let plans = ["30 2 * * *", "0 */6 * * *", "0 4 1 * *", "15 3 * * sun"].map(plan);
        let mut core = Core::new(plans.to_vec(), now);
        core.handle(Event::Started, now);
        let mut starts = [0; 4];
        let mut last_days: [Option<jiff::civil::Date>; 4] = [None; 4];
        while let Some(wakeup) = core.next_wakeup().filter(|wakeup| *wakeup <= end) {
            assert!(wakeup > now, "time does not stand still");
            now = wakeup;
            for command in core.handle(Event::Woke, now) {
                match command {
                    Command::Start { lane, .. } => {
                        starts[lane] += 1;
                        let day = now.to_zoned(berlin.clone()).date();
                        assert!(lane != 0 || last_days[0] != Some(day), "twice on {day}");
                        last_days[lane] = Some(day);
                        let over = now + Duration::from_secs(1200);
                        assert_eq!(acts(core.handle(Event::RunFinished(lane), over.min(now))), [""; 0]);
                    }
                    Command::Due { .. } => {}
                    other => panic!("{other:?} at {now}"),
                }
            }
        }
        assert_eq!(starts, [366, 4 * 366, 12, 53]);
    }
}
