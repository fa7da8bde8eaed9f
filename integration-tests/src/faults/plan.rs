//! What is done to whom, and when: pure values, drawn from a seed and printed when a history fails.
//!
//! A [`Setup`] holds for several histories: who contends, how each reaches the protected host, what it does there. A
//! [`History`] says who is triggered when and which faults happen; [`Fault::steps`] is what the arena then does. Times are
//! milliseconds from the beginning of the history.

use std::fmt;

use super::fault::Fault;
use super::random::Random;

/// The first trigger of a contender comes before this.
const LAST_TRIGGER: u64 = 1500;
/// No fault begins later than this.
pub const LAST_FAULT: u64 = 3500;
/// How a contender reaches the protected host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It runs there.
    Local,
    /// Over SSH through a proxy of its own; locks by `exec` of a shell.
    Exec,
    /// The same; locks by SFTP.
    Sftp,
}

/// What a contender does while it holds the locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Several rsyncs of three files each, the middle one of them slow.
    Syncs {
        /// How many.
        count: u64,
        /// By `--inplace`: without a temporary file.
        inplace: bool,
    },
    /// A shell script that writes three times.
    Script,
    /// One that ignores TERM and writes often.
    Stubborn,
}

/// One contender.
#[derive(Debug, Clone)]
pub struct Party {
    /// How it reaches the protected host.
    pub way: Way,
    /// What it does there.
    pub work: Work,
    /// Time between two looks at a lock or block, milliseconds.
    pub wait: u64,
}

/// What excludes the contenders from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locks {
    /// All want this many common lock files.
    Shared(usize),
    /// Each has a lock file of its own and blocks on those of all others.
    Mutual,
}

/// Who contends for what.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Of all locks, seconds.
    pub lease: u64,
    /// What excludes them.
    pub locks: Locks,
    /// Two to four.
    pub contenders: Vec<Party>,
    /// Whether a stalled connection delivers what a killed end had sent when it passes bytes again. Not drawn.
    pub late_delivery: bool,
}

/// When a fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// At this time of the history.
    At(u64),
    /// This long after the contender with this index is first seen in its section; if it does not get there in time,
    /// [`LAST_FAULT`] is the moment.
    Inside(usize, u64),
    /// This long after it is first seen writing in a section, with the same bound.
    Writing(usize, u64),
}

/// Who is triggered when, and what goes wrong.
#[derive(Debug, Clone)]
pub struct History {
    /// Moment and contender; each that takes part has one or more.
    pub triggers: Vec<(u64, usize)>,
    /// Moment and fault.
    pub faults: Vec<(Moment, Fault)>,
    /// A person's lock file stands there from the beginning to the end of the faults: the index of the lock.
    pub foreign: Option<usize>,
}

impl Setup {
    /// Draws one with one of these leases, seconds.
    pub fn draw(leases: &[u64], random: &mut Random) -> Self {
        let count = random.between(2, 4) as usize;
        let locks = random.pick(&[Locks::Shared(1), Locks::Shared(1), Locks::Shared(2), Locks::Mutual]);
        let contenders = (0..count).map(|_| Party::draw(random)).collect();
        Self { lease: random.pick(leases), locks, contenders, late_delivery: false }
    }

    /// The lease in milliseconds.
    pub(super) fn lease_ms(&self) -> u64 {
        self.lease * 1000
    }
}

impl Party {
    fn draw(random: &mut Random) -> Self {
        let way = match random.between(1, 20) {
            1..=7 => Way::Local,
            8..=15 => Way::Exec,
            _ => Way::Sftp,
        };
        let work = match random.between(1, 10) {
            1 => Work::Stubborn,
            2..=4 => Work::Script,
            _ => Work::Syncs {
                count: random.between(1, if way == Way::Local { 3 } else { 2 }),
                // The rsync on the far side of a line that broke writes what it has when it learns of that, and with
                // `--inplace` into the file itself: docs/locks.md does not promise that this comes in time.
                inplace: way == Way::Local && random.chance(50),
            },
        };
        Self { way, work, wait: random.between(200, 500) }
    }
}

impl History {
    /// Draws one for these contenders.
    pub fn draw(setup: &Setup, random: &mut Random) -> Self {
        let mut taking_part: Vec<usize> = (0..setup.contenders.len()).collect();
        while taking_part.len() > 2 && random.chance(30) {
            taking_part.remove(random.index(taking_part.len()));
        }
        let mut triggers = Vec::new();
        for &who in &taking_part {
            // Half of them at once: a race for a free lock.
            let first = if random.chance(50) { 0 } else { random.between(0, LAST_TRIGGER) };
            triggers.push((first, who));
            if random.chance(30) {
                triggers.push((first + random.between(300, 3000), who));
            }
        }
        let faults = (0..random.between(0, 3)).map(|_| {
            let moment = match random.between(1, 3) {
                1 => Moment::Inside(random.pick(&taking_part), random.between(0, 600)),
                2 => Moment::Writing(random.pick(&taking_part), random.between(0, 400)),
                _ => Moment::At(random.between(0, LAST_FAULT)),
            };
            (moment, Fault::draw(setup, &taking_part, moment, random))
        });
        let faults = faults.collect();
        let foreign = random.chance(8).then(|| match setup.locks {
            Locks::Shared(count) => random.index(count),
            Locks::Mutual => random.pick(&taking_part),
        });
        Self { triggers, faults, foreign }
    }

    /// The contenders that take part.
    pub fn taking_part(&self) -> Vec<usize> {
        let mut all: Vec<usize> = self.triggers.iter().map(|(_, who)| *who).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "lease {} s, locks {:?}", self.lease, self.locks)?;
        for (who, party) in self.contenders.iter().enumerate() {
            writeln!(f, "contender {who}: {party:?}")?;
        }
        Ok(())
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, who) in &self.triggers {
            writeln!(f, "{at:6} ms: trigger {who}")?;
        }
        for (moment, fault) in &self.faults {
            match moment {
                Moment::At(at) => writeln!(f, "{at:6} ms: {fault:?}")?,
                Moment::Inside(who, after) => writeln!(f, "{after:6} ms in the section of {who}: {fault:?}")?,
                Moment::Writing(who, after) => writeln!(f, "{after:6} ms after the first write of {who}: {fault:?}")?,
            }
        }
        match self.foreign {
            Some(lock) => writeln!(f, "a person's file in the place of lock {lock}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fault::Step;
    use super::*;

    type Is = fn(&Step) -> bool;

    fn many() -> impl Iterator<Item = (Setup, History)> {
        (0..2000).map(|number| {
            let setup = Setup::draw(&[3, 5], &mut Random::of(&[number]));
            let history = History::draw(&setup, &mut Random::of(&[number, 1]));
            (setup, history)
        })
    }

    #[test]
    fn a_seed_gives_the_same_plan_again() {
        let text = || many().take(20).map(|(setup, history)| format!("{setup}{history}")).collect::<String>();
        assert_eq!(text(), text());
    }

    #[test]
    fn every_kind_of_fault_work_and_exclusion_is_drawn() {
        let mut kinds: Vec<_> = many().flat_map(|(_, history)| history.faults).map(|(_, fault)| fault.kind()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), Fault::KINDS.len() - 1, "{kinds:?}");
        let setups: String = many().map(|(setup, _)| setup.to_string()).collect();
        for word in ["Local", "Exec", "Sftp", "Script", "Stubborn", "inplace: true", "Mutual", "Shared(2)", "lease 5"] {
            assert!(setups.contains(word), "{word}");
        }
        assert!(many().any(|(_, history)| history.foreign.is_some()));
    }

    #[test]
    fn at_least_two_take_part_and_faults_hit_only_those() {
        for (setup, history) in many() {
            let taking_part = history.taking_part();
            assert!(taking_part.len() >= 2 && taking_part.len() <= setup.contenders.len(), "{history}");
            for (_, fault) in &history.faults {
                for (_, step) in fault.steps(0) {
                    let (Step::Kill(who) | Step::Terminate(who) | Step::FreezeDirector(who) | Step::Stall(who, _)) =
                        step
                    else {
                        continue;
                    };
                    assert!(taking_part.contains(&who), "{history}");
                    let by_connection = matches!(step, Step::Stall(..));
                    assert!(!by_connection || setup.contenders[who].way != Way::Local, "{setup}{history}");
                }
            }
        }
    }

    #[test]
    fn whatever_a_fault_takes_away_it_gives_back() {
        let give_back = |steps: &[Step]| {
            let count = |wanted: Is| steps.iter().filter(|step| wanted(step)).count();
            let pairs: [(Is, Is); 6] = [
                (|s| matches!(s, Step::Kill(_)), |s| matches!(s, Step::Start(_))),
                (|s| matches!(s, Step::FreezeDirector(_)), |s| matches!(s, Step::ThawDirector(_))),
                (|s| matches!(s, Step::FreezeDirector(_)), |s| matches!(s, Step::ThawChildren(_))),
                (|s| matches!(s, Step::Stall(..)), |s| matches!(s, Step::Resume(_))),
                (|s| matches!(s, Step::StopSshd), |s| matches!(s, Step::StartSshd)),
                (|s| matches!(s, Step::Fill), |s| matches!(s, Step::Free)),
            ];
            pairs.iter().all(|(take, give)| count(*take) == count(*give))
        };
        for (_, history) in many() {
            for (_, fault) in history.faults {
                let steps = fault.steps(7);
                assert!(steps.iter().all(|(at, _)| *at >= 7) && steps.is_sorted_by_key(|(at, _)| *at), "{fault:?}");
                let steps: Vec<Step> = steps.into_iter().map(|(_, step)| step).collect();
                assert!(give_back(&steps) && steps[0].harms(), "{fault:?}");
                assert_eq!(steps.iter().filter(|step| step.harms()).count(), 1, "{fault:?}");
            }
        }
    }
}
