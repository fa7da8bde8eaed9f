//! One protected host and its contenders, and the course of a history among them.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::checker::{self, Deed, Mark, Run, Verdict};
use super::contender::{Contender, Doing, Said};
use super::host::{Foreign, Host};
use super::plan::{History, Setup, Step};
use super::recorder;
use crate::sandbox::Sandbox;
use crate::wait::{self, Stopwatch};

/// A job that waits gets its section within this many leases after the last fault.
const LEASES: f64 = 2.0;
/// After this many it is stuck.
const LEASES_STUCK: f64 = 8.0;
/// So often a contender is triggered again after the last fault, since its job failed for what the fault left behind.
const MOST_FAILURES: u32 = 3;
/// Nothing happens for this long: the history is over.
const QUIET: Duration = Duration::from_millis(200);

/// One of them.
pub struct Arena {
    // In the order in which they go away.
    contenders: Vec<Contender>,
    host: Host,
    sandbox: Sandbox,
    setup: Setup,
}

/// What came of a history.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What the recorder and the journal say.
    pub verdict: Verdict,
    /// Whatever else must not happen, for people; with the overlaps.
    pub violations: Vec<String>,
    /// Contenders that did not get through.
    pub stuck: usize,
    /// Those that did, but not within two leases.
    pub late: usize,
    /// Foreign locks that were touched.
    pub foreign_lost: usize,
    /// Longest wait for a section after the last fault, in leases.
    pub slowest: f64,
    /// Files beside the locks that crashed directors left.
    pub leftovers: usize,
    /// What happened in the protected directory, by time.
    pub record: String,
}

impl Arena {
    /// Builds one and starts its directors.
    pub fn new(setup: &Setup) -> Self {
        let sandbox = Sandbox::new();
        let host = Host::start(&sandbox);
        let contenders =
            (0..setup.contenders.len()).map(|index| Contender::new(&sandbox, &host, setup, index)).collect();
        Self { contenders, host, sandbox, setup: setup.clone() }
    }

    /// Lets a history happen.
    pub fn run(&mut self, history: &History) -> Outcome {
        self.host.clear();
        let mut course = Course::of(self, history);
        while wait::within(Duration::from_secs(1), || course.tick().then_some(())).is_none() {}
        course.close()
    }

    /// Copies the logs into a directory.
    pub fn keep_logs(&self, dir: &Path) {
        for contender in &self.contenders {
            let name = contender.name();
            // A copy is for whoever looks into it later; the verdict stands without.
            let _ = fs::copy(contender.log(), dir.join(format!("{name}.log")));
            let _ = fs::copy(self.sandbox.path(format!("{name}.yaml")), dir.join(format!("{name}.yaml")));
        }
        let _ = fs::copy(self.sandbox.path("sshd-protected/log"), dir.join("sshd.log"));
    }
}

/// How far a contender is that must get through.
#[derive(Debug, Clone, Copy)]
enum Progress {
    /// It has to, from this moment on; its job failed this often since the last fault.
    Waiting { since: Duration, failures: u32 },
    /// It did, or was given up.
    Done,
}

/// A history under way.
struct Course<'a> {
    arena: &'a mut Arena,
    watch: Stopwatch,
    steps: VecDeque<(Duration, Step)>,
    foreign: Option<Foreign>,
    /// Empty until the last fault is over.
    progress: BTreeMap<usize, Progress>,
    taking_part: Vec<usize>,
    healed: bool,
    last_event: Duration,
    record: Vec<Mark>,
    first_seen: BTreeMap<Run, Duration>,
    outcome: Outcome,
}

impl<'a> Course<'a> {
    fn of(arena: &'a mut Arena, history: &History) -> Self {
        let foreign = history.foreign.map(|lock| arena.host.touch(lock));
        let steps = history.timeline().into_iter().map(|(at, step)| (Duration::from_millis(at), step)).collect();
        Self {
            arena,
            watch: Stopwatch::start(),
            steps,
            foreign,
            progress: BTreeMap::new(),
            taking_part: history.taking_part(),
            healed: false,
            last_event: Duration::ZERO,
            record: Vec::new(),
            first_seen: BTreeMap::new(),
            outcome: Outcome::default(),
        }
    }

    /// Does what is due; true when the history is over.
    fn tick(&mut self) -> bool {
        let now = self.watch.elapsed();
        while self.steps.front().is_some_and(|(at, _)| *at <= now) {
            let (_, step) = self.steps.pop_front().expect("it is there");
            self.note(now, &format!("{step:?}"));
            self.take(step);
        }
        self.see(now);
        self.listen(now);
        if self.steps.is_empty() && !self.healed {
            self.heal(now);
        }
        self.healed && (self.drive(now) || !self.outcome.violations.is_empty())
    }

    fn take(&mut self, step: Step) {
        let Arena { contenders, host, .. } = &mut *self.arena;
        match step {
            Step::Trigger(who) => contenders[who].trigger(),
            Step::Kill(who) => contenders[who].kill(),
            Step::Start(who) => contenders[who].start(),
            Step::Terminate(who) => contenders[who].terminate(),
            Step::SetClock(who, days) => contenders[who].set_clock(days),
            Step::Freeze(who) => contenders[who].freeze(),
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
        for (name, deed) in self.arena.host.deeds() {
            self.note(now, &format!("{} {name}", if deed == Deed::Write { "write" } else { "cleanup" }));
            if let Some(mark) = Mark::named(&name, deed) {
                self.first_seen.entry(mark.run.clone()).or_insert(now);
                self.record.push(mark);
            }
            self.last_event = now;
        }
    }

    fn listen(&mut self, now: Duration) {
        for who in 0..self.arena.contenders.len() {
            let name = self.arena.contenders[who].name();
            match self.arena.contenders[who].tick() {
                Err(ended) => self.outcome.violations.push(ended),
                Ok(all) => {
                    for said in all {
                        self.note(now, &format!("{name}: {said:?}"));
                        self.last_event = now;
                        self.hear(who, &said, now);
                    }
                }
            }
        }
    }

    fn hear(&mut self, who: usize, said: &Said, now: Duration) {
        let Some(Progress::Waiting { since, failures }) = self.progress.get(&who).copied() else { return };
        let next = match said {
            Said::Succeeded => {
                let entered = self.entered(who).unwrap_or(now);
                self.judge_wait(who, entered.saturating_sub(since));
                Progress::Done
            }
            Said::Failed(_) => Progress::Waiting { since: now, failures: failures + 1 },
        };
        self.progress.insert(who, next);
    }

    /// When its latest run first wrote.
    fn entered(&self, who: usize) -> Option<Duration> {
        let name = self.arena.contenders[who].name();
        self.first_seen.iter().filter(|(run, _)| run.contender == name).map(|(_, at)| *at).max()
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
        self.healed = true;
        if let Some(foreign) = self.foreign.take() {
            if let Some(first) = self.record.first() {
                self.outcome.violations.push(format!("{} ran although a person's lock stood there", first.run));
            }
            if !foreign.take_away() {
                self.outcome.foreign_lost += 1;
                self.outcome.violations.push("a person's lock was removed or replaced".into());
            }
        }
        let waiting = Progress::Waiting { since: now, failures: 0 };
        self.progress = self.taking_part.iter().map(|&who| (who, waiting)).collect();
    }

    /// Triggers who is idle and has not got through; true when all have and are quiet.
    fn drive(&mut self, now: Duration) -> bool {
        let lease = self.arena.setup.lease as f64;
        for (&who, progress) in &mut self.progress {
            let Progress::Waiting { since, failures } = *progress else { continue };
            let contender = &mut self.arena.contenders[who];
            let waited = now.saturating_sub(since).as_secs_f64();
            if failures > MOST_FAILURES || waited > LEASES_STUCK * lease {
                self.outcome.stuck += 1;
                self.outcome.violations.push(format!(
                    "{} did not get through: {failures} failures, {waited:.1} s of waiting, {:?}",
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
    fn close(mut self) -> Outcome {
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
