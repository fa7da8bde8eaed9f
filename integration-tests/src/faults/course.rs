//! The course of a history: who is told what when, what is seen, and whether everyone gets through.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use super::arena::Arena;
use super::checker::{self, Deed, Mark, Verdict};
use super::contender::{Contender, Doing, Said};
use super::fault::{Fault, Step};
use super::host::Foreign;
use super::plan::{History, LAST_FAULT, Moment};
use super::recorder;
use crate::wait::Stopwatch;

/// A job that waits gets its section within this many leases after the last fault. The time that others spend in their
/// sections meanwhile is theirs.
const LEASES: f64 = 2.0;
/// After this many it is stuck.
const LEASES_STUCK: f64 = 20.0;
/// So often a contender is triggered again after the last fault, since its job failed for what the fault left behind.
const MOST_FAILURES: u32 = 8;
/// A pause of the driver that is longer means that the machine had no time for it, nor for the directors: not more than this
/// counts as their waiting.
const LONGEST_TICK: Duration = Duration::from_millis(50);
/// Nothing happens for this long: the history is over.
const QUIET: Duration = Duration::from_millis(200);

/// What came of a history.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What the recorder and the journal say.
    pub verdict: Verdict,
    /// Whatever else must not happen, for people; with the overlaps.
    pub violations: Vec<String>,
    /// Faults that began while someone was in its section.
    pub hits: u64,
    /// Contenders that did not get through.
    pub stuck: usize,
    /// Those that did, but not within two leases.
    pub late: usize,
    /// Foreign locks that were touched.
    pub foreign_lost: usize,
    /// Longest wait for a section after the last fault, in leases.
    pub slowest: f64,
    /// Time in which the driver was kept from working, by a busy machine.
    pub starved: Duration,
    /// Files beside the locks that crashed directors left.
    pub leftovers: usize,
    /// What happened in the protected directory, by time.
    pub record: String,
}

/// How far a contender is that must get through.
#[derive(Debug, Clone, Copy)]
enum Progress {
    /// It has to. For how long it has waited while nobody was in a section, and how often its job failed since the last
    /// fault.
    Waiting { waited: Duration, failures: u32 },
    /// It did, or was given up.
    Done,
}

/// A fault that waits for a contender to be in its section.
struct Aimed {
    who: usize,
    /// For how long it must have been there, milliseconds.
    after: u64,
    /// Whether it must have written there, too.
    writing: bool,
    /// Since when that is so, milliseconds.
    since: Option<u64>,
    fault: Fault,
}

/// A history under way.
pub(super) struct Course<'a> {
    arena: &'a mut Arena,
    watch: Stopwatch,
    /// Latest first.
    steps: Vec<(u64, Step)>,
    aimed: Vec<Aimed>,
    foreign: Option<Foreign>,
    /// Empty until the last fault is over.
    progress: BTreeMap<usize, Progress>,
    taking_part: Vec<usize>,
    healed: Option<Duration>,
    last_tick: Duration,
    last_event: Duration,
    record: Vec<Mark>,
    outcome: Outcome,
}

impl<'a> Course<'a> {
    /// The beginning of one.
    pub fn of(arena: &'a mut Arena, history: &History) -> Self {
        let foreign = history.foreign.map(|lock| arena.host.touch(lock));
        let mut aimed = Vec::new();
        let mut steps: Vec<_> = history.triggers.iter().map(|&(at, who)| (at, Step::Trigger(who))).collect();
        for &(moment, fault) in &history.faults {
            match moment {
                Moment::At(at) => steps.extend(fault.steps(at)),
                Moment::Inside(who, after) => aimed.push(Aimed { who, after, writing: false, since: None, fault }),
                Moment::Writing(who, after) => aimed.push(Aimed { who, after, writing: true, since: None, fault }),
            }
        }
        steps.sort_by_key(|(at, _)| Reverse(*at));
        Self {
            arena,
            watch: Stopwatch::start(),
            steps,
            aimed,
            foreign,
            progress: BTreeMap::new(),
            taking_part: history.taking_part(),
            healed: None,
            last_tick: Duration::ZERO,
            last_event: Duration::ZERO,
            record: Vec::new(),
            outcome: Outcome::default(),
        }
    }

    /// Does what is due; true when the history is over.
    pub fn tick(&mut self) -> bool {
        let now = self.watch.elapsed();
        let ms = now.as_millis() as u64;
        self.aim(ms);
        while let Some((_, step)) = self.steps.pop_if(|(at, _)| *at <= ms) {
            if let Step::ThawChildren(who) = step
                && !self.arena.contenders[who].may_thaw_children()
            {
                self.put([(ms + 1, step)]);
                continue;
            }
            self.note(now, &format!("{step:?}"));
            if step.harms() && self.arena.contenders.iter().any(Contender::inside) {
                self.outcome.hits += 1;
            }
            self.take(step);
        }
        self.see(now);
        self.listen(now);
        if self.steps.is_empty() && self.aimed.is_empty() && self.healed.is_none() {
            self.heal(now);
        }
        self.outcome.starved += (now - self.last_tick).saturating_sub(LONGEST_TICK);
        let since_heal = self.healed.map(|healed| now - healed);
        let over = since_heal.is_some_and(|since| self.drive(now, since));
        self.last_tick = now;
        over || !self.outcome.violations.is_empty()
    }

    /// Turns the aimed faults whose moment has come into steps.
    fn aim(&mut self, ms: u64) {
        let contenders = &self.arena.contenders;
        let last = self.record.last().map(|mark| mark.run.contender.as_str());
        let due = self.aimed.extract_if(.., |aimed| {
            let contender = &contenders[aimed.who];
            if contender.inside() && (!aimed.writing || last == Some(contender.name())) {
                aimed.since.get_or_insert(ms);
            }
            aimed.since.map_or(LAST_FAULT, |since| since + aimed.after) <= ms
        });
        let steps: Vec<_> = due.flat_map(|aimed| aimed.fault.steps(ms)).collect();
        self.put(steps);
    }

    fn put(&mut self, steps: impl IntoIterator<Item = (u64, Step)>) {
        self.steps.extend(steps);
        self.steps.sort_by_key(|(at, _)| Reverse(*at));
    }

    fn take(&mut self, step: Step) {
        let Arena { contenders, host, .. } = &mut *self.arena;
        match step {
            Step::Trigger(who) => contenders[who].trigger(),
            Step::Kill(who) => contenders[who].kill(),
            Step::Start(who) => contenders[who].start(),
            Step::Terminate(who) => contenders[who].terminate(),
            Step::SetClock(who, days) => contenders[who].set_clock(days),
            Step::FreezeDirector(who) => contenders[who].freeze(),
            Step::FreezeChildren(who) => contenders[who].freeze_children(),
            Step::ThawDirector(who) => contenders[who].thaw(),
            Step::ThawChildren(who) => contenders[who].thaw_children(),
            Step::StopSshd => host.stop_sshd(),
            Step::StartSshd => host.start_sshd(),
            Step::Fill => host.fill(),
            Step::Free => host.free(),
            Step::Cut(who) | Step::Stall(who, _) | Step::Resume(who) | Step::Delay(who, _) => {
                let Some(proxy) = contenders[who].proxy() else { return };
                match step {
                    Step::Cut(_) => proxy.cut(),
                    Step::Stall(_, Some(direction)) => proxy.stall_only(direction),
                    Step::Stall(_, None) => proxy.stall(),
                    Step::Delay(_, by) => proxy.delay(Duration::from_millis(by)),
                    _ => proxy.resume(),
                }
            }
        }
    }

    fn see(&mut self, now: Duration) {
        for change in self.arena.host.changes() {
            self.note(now, &change.to_string());
            self.record.extend(Mark::named(&change.name));
            self.last_event = now;
        }
    }

    fn listen(&mut self, now: Duration) {
        for who in 0..self.arena.contenders.len() {
            let Arena { contenders, sandbox, .. } = &mut *self.arena;
            let name = contenders[who].name();
            match contenders[who].tick(sandbox) {
                Err(ended) => self.outcome.violations.push(ended),
                Ok(all) => {
                    for said in all {
                        self.note(now, &format!("{name}: {said:?}"));
                        self.last_event = now;
                        self.hear(who, &said);
                    }
                }
            }
        }
    }

    fn hear(&mut self, who: usize, said: &Said) {
        let Some(Progress::Waiting { waited, failures }) = self.progress.get(&who).copied() else { return };
        let next = match said {
            Said::Entered => return,
            Said::Succeeded => {
                self.judge_wait(who, waited);
                Progress::Done
            }
            Said::Failed(_) => Progress::Waiting { waited: Duration::ZERO, failures: failures + 1 },
        };
        self.progress.insert(who, next);
    }

    fn judge_wait(&mut self, who: usize, waited: Duration) {
        let leases = waited.as_secs_f64() / self.arena.setup.lease as f64;
        self.outcome.slowest = self.outcome.slowest.max(leases);
        if leases > LEASES {
            self.outcome.late += 1;
            let name = self.arena.contenders[who].name();
            self.outcome.violations.push(format!("{name} waited {leases:.1} leases after the last fault"));
        }
    }

    /// The last fault is over: whoever takes part must get through from now on.
    fn heal(&mut self, now: Duration) {
        self.note(now, "the last fault is over");
        self.healed = Some(now);
        if let Some(foreign) = self.foreign.take() {
            if let Some(first) = self.record.iter().find(|mark| mark.deed == Deed::Write) {
                self.outcome.violations.push(format!("{} ran although a person's lock stood there", first.run));
            }
            if !foreign.take_away() {
                self.outcome.foreign_lost += 1;
                self.outcome.violations.push("a person's lock was removed or replaced".into());
            }
        }
        let waiting = Progress::Waiting { waited: Duration::ZERO, failures: 0 };
        self.progress = self.taking_part.iter().map(|&who| (who, waiting)).collect();
    }

    /// Triggers who is idle and has not got through; true when all have and are quiet.
    fn drive(&mut self, now: Duration, since_heal: Duration) -> bool {
        let too_long = since_heal.as_secs_f64() > LEASES_STUCK * self.arena.setup.lease as f64;
        let busy = self.arena.contenders.iter().any(Contender::inside);
        for (&who, progress) in &mut self.progress {
            let Progress::Waiting { waited, failures } = progress else { continue };
            let contender = &mut self.arena.contenders[who];
            if !busy {
                *waited += LONGEST_TICK.min(now - self.last_tick);
            }
            if *failures > MOST_FAILURES || too_long {
                self.outcome.stuck += 1;
                self.outcome.violations.push(format!(
                    "{} did not get through: {failures} failures, {waited:.1?} of waiting, {:?}",
                    contender.name(),
                    contender.doing()
                ));
                *progress = Progress::Done;
            } else if contender.doing() == Doing::Idle {
                contender.trigger();
            }
        }
        let through = self.progress.values().all(|progress| matches!(progress, Progress::Done));
        let idle = self.arena.contenders.iter().all(|contender| contender.doing() == Doing::Idle);
        through && idle && now.saturating_sub(self.last_event) > QUIET
    }

    fn note(&mut self, now: Duration, what: &str) {
        self.outcome.record.push_str(&format!("{:8.3} {what}\n", now.as_secs_f64()));
    }

    /// Judges what is left and what was recorded.
    pub fn close(mut self) -> Outcome {
        let (locks, others) = self.arena.host.left();
        if self.outcome.violations.is_empty() && !locks.is_empty() {
            self.outcome.violations.push(format!("left behind: {}", locks.join(", ")));
        }
        self.outcome.leftovers = others.len();
        self.outcome.verdict = checker::judge(&self.record);
        let journal = fs::read_to_string(self.arena.host.journal()).unwrap_or_default();
        self.outcome.verdict.overlaps.extend(checker::judge(&recorder::journal(&journal)).overlaps);
        for (first, second) in &self.outcome.verdict.overlaps {
            self.outcome.violations.push(format!("OVERLAP of {first} and {second}"));
        }
        self.outcome
    }
}
