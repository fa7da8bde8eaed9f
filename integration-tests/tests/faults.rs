//! The short form of the fault-injection suite; `bench/locks` is the long one. `LOCK_FAULTS_SEED=N` sets the seed.

use std::env;

use integration_tests::faults::arena::Arena;
use integration_tests::faults::course::Outcome;
use integration_tests::faults::fault::Fault;
use integration_tests::faults::plan::{History, Locks, Moment, Party, Setup, Way, Work};
use integration_tests::faults::suite::{self, Limit, Options};

#[test]
fn no_fault_lets_two_in_or_keeps_one_out() {
    let seed = env::var("LOCK_FAULTS_SEED").ok();
    let seed = seed.map_or_else(suite::any_seed, |text| text.parse().expect("a number"));
    println!("LOCK_FAULTS_SEED={seed}");
    let keep = env::temp_dir().join("lock-faults");
    let limit = Limit::Histories(24);
    let options = Options { seed, arenas: 8, leases: &[5, 5, 8], limit, only: None, late_delivery: false, keep };
    let report = suite::run(&options);
    println!("{report}");
    assert!(report.failures.is_empty(), "seed {seed}\n{}", report.failures.join("\n"));
    assert!(report.histories == 24 && report.sections >= 48, "too little happened:\n{report}");
}

/// What contenders without locks do, as soon as they meet: nothing makes them, so that they may miss each other some times.
fn without_locks(contenders: Vec<Party>, triggers: &[(u64, usize)], meet: impl Fn(&Outcome) -> bool) -> Outcome {
    let mut arena = Arena::new(&Setup { lease: 3, locks: Locks::Shared(0), contenders, late_delivery: false });
    let history = History { triggers: triggers.to_vec(), faults: Vec::new(), foreign: None };
    let mut outcomes = (0..10).map(|_| arena.run(&history));
    outcomes.find(meet).expect("one of ten histories in which they meet")
}

#[test]
fn without_locks_the_judge_sees_an_overlap_by_every_way() {
    let work = Work::Syncs { count: 2, inplace: false };
    let contenders = [Way::Local, Way::Exec, Way::Sftp].map(|way| Party { way, work, wait: 300 }).to_vec();
    let triggers = [(0, 0), (200, 1), (400, 2)];
    let outcome = without_locks(contenders, &triggers, |outcome| !outcome.verdict.overlaps.is_empty());
    assert!(outcome.violations.iter().any(|violation| violation.starts_with("OVERLAP")));
}

#[test]
fn without_locks_the_judge_sees_an_overlap_in_the_journal() {
    let contenders = [Work::Script, Work::Stubborn].map(|work| Party { way: Way::Local, work, wait: 300 }).to_vec();
    // Told by both recorders.
    without_locks(contenders, &[(0, 0), (0, 1)], |outcome| outcome.verdict.overlaps.len() == 2);
}

#[test]
fn a_command_that_ignores_term_writes_nothing_after_its_host_was_suspended_for_longer_than_the_lease() {
    let party = |work| Party { way: Way::Local, work, wait: 200 };
    let contenders = vec![party(Work::Stubborn), party(Work::Syncs { count: 3, inplace: false })];
    let mut arena = Arena::new(&Setup { lease: 3, locks: Locks::Shared(1), contenders, late_delivery: false });
    let outcome = arena.run(&History {
        // The second is in its section for most of the time from 3.5 s on.
        triggers: vec![(0, 0), (600, 1), (3600, 1), (5000, 1)],
        faults: vec![(Moment::Writing(0, 50), Fault::Freeze { who: 0, time: 4300 })],
        foreign: None,
    });
    assert!(outcome.violations.is_empty(), "{:?}\n{}", outcome.violations, outcome.record);
    assert!(outcome.verdict.sections >= 3, "the second ran meanwhile:\n{}", outcome.record);
}

#[test]
fn what_a_suspended_host_had_still_to_say_stays_unsaid_when_it_wakes_after_its_lease() {
    let party = |way| Party { way, work: Work::Syncs { count: 1, inplace: false }, wait: 200 };
    let contenders = vec![party(Way::Exec), party(Way::Local)];
    let mut arena = Arena::new(&Setup { lease: 3, locks: Locks::Shared(1), contenders, late_delivery: false });
    let outcome = arena.run(&History {
        triggers: vec![(0, 0), (500, 1)],
        // Its rsync says the next part some 340 ms after the first: when the director stands still already, and it does not yet.
        faults: vec![(Moment::Writing(0, 280), Fault::Freeze { who: 0, time: 4400 })],
        foreign: None,
    });
    assert!(outcome.violations.is_empty(), "{:?}\n{}", outcome.violations, outcome.record);
    assert!(outcome.verdict.sections >= 3, "the second ran meanwhile:\n{}", outcome.record);
}
