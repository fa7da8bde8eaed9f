//! The lock protocol as a state machine, explored over every order in which its steps can happen.
//!
//! `state` is one moment, `ops` the steps on the host that stores the files, `steps` all that can happen next, `rules` the protocol
//! as switches, `explorer` goes through all states breadth first and tells a shortest counterexample through `trace`. What a look means comes
//! from the program's own `judge` and `in_the_way`.
//!
//! Bounded, in each row of [`SCENARIOS`]: contenders, crashes, lost connections, and *stalls*, which are operations (or contenders between
//! two) in the middle of which time passes, however much. Within a tick all steps interleave freely. Time is not bounded: ages
//! are cut at the lease. A holder's fence and its kill are on time; everything else may take any time, except that less than half a
//! lease passes between a check and the step that relies on it (`Rules::prompt`). Not in the model: several locks of one job, SFTP's
//! finer steps, a person who breaks a lock, clocks that run at different rates.
//!
//! `LOCK_MODEL_DEPTH=1` explores larger bounds for minutes, `=2` for longer and with several gigabytes.

mod explorer;
mod ops;
mod rules;
mod state;
mod steps;
mod trace;

use explorer::{Outcome, explore};
use ops::Violation;
use rules::{Rules, Scenario};
use steps::Model;

const QUIET: Scenario =
    Scenario { wants: [Some(0); 3], blocks: [None; 3], crashes: 0, cuts: 0, stalls: 0, visits: 0, locks_stay: true };
/// Three want one lock.
const SAME_LOCK: Scenario = QUIET;
/// Two want one lock.
const PAIR: Scenario = Scenario { wants: [Some(0), Some(0), None], ..QUIET };
/// A blocks on B's lock, B blocks on A's.
const MUTUAL: Scenario = Scenario { wants: [Some(0), Some(1), None], blocks: [Some(1), Some(0), None], ..QUIET };
/// The same, and C wants A's lock.
const MUTUAL_AND_ONE: Scenario = Scenario { wants: [Some(0), Some(1), Some(0)], ..MUTUAL };

/// What is explored, by the `LOCK_MODEL_DEPTH` that it takes.
const SCENARIOS: &[(u8, &str, Scenario)] = &[
    (0, "same lock, three, a stall", Scenario { stalls: 1, ..SAME_LOCK }),
    (0, "same lock, three, a crash", Scenario { crashes: 1, ..SAME_LOCK }),
    (0, "same lock, three, a lost connection", Scenario { cuts: 1, ..SAME_LOCK }),
    (0, "same lock, three, a stall, a person's file", Scenario { stalls: 1, visits: 1, ..SAME_LOCK }),
    (0, "same lock, two, two stalls", Scenario { stalls: 2, ..PAIR }),
    (0, "same lock, two, a crash and a stall", Scenario { crashes: 1, stalls: 1, ..PAIR }),
    (0, "same lock, two, a lost connection and a stall", Scenario { cuts: 1, stalls: 1, ..PAIR }),
    (0, "mutual blocks, two stalls", Scenario { stalls: 2, ..MUTUAL }),
    (0, "mutual blocks, a crash", Scenario { crashes: 1, ..MUTUAL }),
    (0, "mutual blocks, a lost connection", Scenario { cuts: 1, ..MUTUAL }),
    (0, "mutual blocks and a third, a stall", Scenario { stalls: 1, ..MUTUAL_AND_ONE }),
    (1, "same lock, three, two stalls", Scenario { stalls: 2, ..SAME_LOCK }),
    (1, "same lock, two, a crash and a lost connection", Scenario { crashes: 1, cuts: 1, ..PAIR }),
    (1, "mutual blocks, a crash and a stall", Scenario { crashes: 1, stalls: 1, ..MUTUAL }),
    (1, "mutual blocks, a lost connection and a stall", Scenario { cuts: 1, stalls: 1, ..MUTUAL }),
    (1, "mutual blocks and a third, a crash", Scenario { crashes: 1, ..MUTUAL_AND_ONE }),
    (1, "mutual blocks and a third, a lost connection", Scenario { cuts: 1, ..MUTUAL_AND_ONE }),
    (2, "same lock, three, a crash and a stall", Scenario { crashes: 1, stalls: 1, ..SAME_LOCK }),
    (2, "same lock, three, a lost connection and a stall", Scenario { cuts: 1, stalls: 1, ..SAME_LOCK }),
    (2, "same lock, three, a crash and a lost connection", Scenario { crashes: 1, cuts: 1, ..SAME_LOCK }),
    (2, "same lock, three, three stalls", Scenario { stalls: 3, ..SAME_LOCK }),
    (2, "same lock, two, everything", Scenario { crashes: 1, cuts: 1, stalls: 1, ..PAIR }),
    (2, "mutual blocks and a third, two stalls", Scenario { stalls: 2, ..MUTUAL_AND_ONE }),
];

/// States at most; more is a mistake in the bounds.
const LIMIT: usize = 12_000_000;

/// How an exploration must end when a rule is broken.
#[derive(Debug, PartialEq)]
enum Ends {
    /// Two at the data at once, although locks that only go away early are let pass.
    Overlap,
    /// The lock of one whose action runs goes away.
    LockGone,
    /// A file that no director wrote goes away.
    PersonsFile,
    /// Someone waits for a person.
    Stuck,
}

#[test]
fn the_protocol_lets_one_at_a_time_and_everyone_in_time() {
    let depth = std::env::var("LOCK_MODEL_DEPTH").ok().and_then(|depth| depth.parse().ok()).unwrap_or(0);
    for (_, name, scenario) in SCENARIOS.iter().filter(|(at, ..)| *at <= depth) {
        match explore(&Model::new(Rules::PROTOCOL, *scenario), LIMIT) {
            Outcome::Holds { states, steps } => println!("{name}: {states} states, {steps} steps"),
            Outcome::Broken { trace, .. } => panic!("{name}: broken\n{trace}"),
            Outcome::Stuck { trace } => panic!("{name}: stuck\n{trace}"),
            Outcome::TooMany => panic!("{name}: more than {LIMIT} states"),
        }
    }
}

/// `rule` broken, and nothing else: how does it end?
fn check(name: &str, rule: impl FnOnce(&mut Rules), scenario: Scenario, ends: Ends) {
    let mut rules = Rules::PROTOCOL;
    rule(&mut rules);
    let scenario = Scenario { locks_stay: ends == Ends::LockGone, ..scenario };
    let (end, trace) = match explore(&Model::new(rules, scenario), LIMIT) {
        Outcome::Broken { violation: Violation::Overlap(..), trace } => (Ends::Overlap, trace),
        Outcome::Broken { violation: Violation::PersonsFile, trace } => (Ends::PersonsFile, trace),
        Outcome::Broken { violation: Violation::LockGone(_), trace } => (Ends::LockGone, trace),
        Outcome::Stuck { trace } => (Ends::Stuck, trace),
        Outcome::Holds { states, .. } => panic!("{name}: no counterexample in {states} states"),
        Outcome::TooMany => panic!("{name}: more than {LIMIT} states"),
    };
    println!("{name}:\n{trace}");
    assert_eq!(end, ends, "{name}:\n{trace}");
}

/// Two, of whom operations stall.
const STALLS: Scenario = Scenario { stalls: 2, ..PAIR };

#[test]
fn a_take_over_needs_its_claim_and_its_checks() {
    check("no claim", |rules| rules.claim = false, STALLS, Ends::Overlap);
    check("no look under the claim", |rules| rules.check = false, STALLS, Ends::Overlap);
    check("an old claim is relied on", |rules| rules.young_claim = false, STALLS, Ends::Overlap);
    check("a fresh claim is stepped over", |rules| rules.step_over_stale_only = false, STALLS, Ends::Overlap);
    check("a claim is removed while its lock is there", |rules| rules.unclaim_gone = false, STALLS, Ends::Overlap);
    check("claims of others are removed", |rules| rules.keep_others_claims = false, STALLS, Ends::Overlap);
    check("ages by the contender's clock", |rules| rules.storing_clock = false, STALLS, Ends::Overlap);
    check("one token for all takes of a run", |rules| rules.token_per_take = false, STALLS, Ends::Overlap);
}

#[test]
fn a_holder_needs_its_fence() {
    check("the fence is at the lease's end", |rules| rules.fence = rules.lease, STALLS, Ends::Overlap);
    check("an action is started after the fence", |rules| rules.start_before_fence = false, STALLS, Ends::Overlap);
    check("a late refresh counts", |rules| rules.fresh_before_fence = false, STALLS, Ends::Overlap);
}

#[test]
fn a_removal_needs_its_look_and_its_claim() {
    let person = Scenario { visits: 1, cuts: 1, ..PAIR };
    let cut = Scenario { cuts: 1, ..PAIR };
    check("no look", |rules| rules.remove_looks = false, STALLS, Ends::Overlap);
    check("no claim", |rules| rules.remove_claims = false, STALLS, Ends::Overlap);
    check("no claim, asked for again", |rules| rules.remove_claims = false, cut, Ends::LockGone);
    check("no claim, a person's file", |rules| rules.remove_claims = false, person, Ends::PersonsFile);
}

#[test]
fn blocks_need_a_second_look() {
    check("no second look", |rules| rules.second_look = false, MUTUAL, Ends::Overlap);
}

#[test]
fn a_check_and_its_act_belong_together() {
    check("half a lease between", |rules| rules.prompt = false, STALLS, Ends::Overlap);
    let late = |rules: &mut Rules| (rules.prompt, rules.late_expires) = (false, true);
    check("the same, a late take-over left to expire", late, STALLS, Ends::Overlap);
    let late = |rules: &mut Rules| (rules.young_claim, rules.late_expires) = (false, true);
    check("an old claim, a late take-over left to expire", late, STALLS, Ends::Overlap);
}

#[test]
fn without_hard_links_a_crash_may_need_a_person() {
    let crash = Scenario { crashes: 1, ..PAIR };
    check("a lock without content", |rules| rules.hard_links = false, crash, Ends::Stuck);
}

/// The fence makes these two superfluous: they only tell earlier that a lock is lost.
#[test]
fn a_refresh_is_safe_without_its_own_judgement() {
    for rule in [|rules: &mut Rules| rules.refresh_judges = false, |rules: &mut Rules| rules.refresh_verifies = false] {
        let mut rules = Rules::PROTOCOL;
        rule(&mut rules);
        for scenario in [STALLS, Scenario { stalls: 1, ..MUTUAL }] {
            let outcome = explore(&Model::new(rules, scenario), LIMIT);
            assert!(matches!(outcome, Outcome::Holds { .. }), "{rules:?}");
        }
    }
}
