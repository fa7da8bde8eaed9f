//! Verifications against the truth: of trees whose differences are known, exactly those are told, at every level, in the right class.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use integration_tests::tree::{Case, Level};
use rsyncdirector::verify::Depth;
use rsyncdirector::verify::engine::{Sides, verify};
use rsyncdirector::verify::here::Here;
use rsyncdirector::verify::order::{Order, Replica};
use rsyncdirector::verify::report::By;

/// Pairs of trees in each run, and how many more of which rsync makes the target; `RD_TRUTH_TREES` asks for more of the first.
const TREES: u64 = 2_000;
const BY_RSYNC: u64 = 160;
const THREADS: u64 = 4;
/// Faults of a tree, at most.
const FAULTS: u64 = 6;

fn depth(level: Level) -> Depth {
    match level {
        Level::Quick => Depth::Quick,
        Level::Meta => Depth::Meta,
        Level::Deep => Depth::Deep,
    }
}

fn order(case: &Case, directory: &Path, level: Level) -> Order {
    let mut source = directory.join("source").into_os_string();
    source.push("/");
    Order {
        replica: Replica { job: "job".into(), sync: "sync".into() },
        sources: vec![source],
        dest: directory.join("target").into(),
        opts: case.options.words().iter().map(OsString::from).collect(),
        depth: depth(level),
        ..Order::default()
    }
}

/// What is wrong with a case; empty when all is as it should be.
fn check(seed: u64, by_rsync: bool) -> String {
    let case = Case::draw(seed, FAULTS, by_rsync);
    let directory = tempfile::tempdir().expect("a directory");
    case.make(directory.path(), by_rsync);
    let mut wrong = String::new();
    for level in Level::ALL {
        let order = order(&case, directory.path(), level);
        let sides = Sides { source: Box::new(Here::default()), target: Box::new(Here::default()), by: By::Here };
        let outcome = verify(&order, sides, &mut |_| {}).unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        let found: Vec<_> = outcome.differences().expect("put aside").collect();
        let told = found.len() as u64;
        let found: BTreeSet<_> = found.into_iter().map(|found| (found.path, found.class.name().to_owned())).collect();
        assert_eq!(found.len() as u64, told, "seed {seed}: something is told twice");
        let report = outcome.report;
        wrong += &case.compare(level, &found);
        assert_eq!(report.differing(), told, "seed {seed}");
        assert_eq!(report.in_step == report.all, found.is_empty(), "seed {seed}: {report:?}");
    }
    wrong
}

#[track_caller]
fn check_all(seeds: std::ops::Range<u64>, by_rsync: bool) {
    let only = std::env::var("RD_TRUTH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = only.map_or(seeds, |seed| seed..seed + 1);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let part = |thread: u64| seeds.clone().filter(move |seed| seed % THREADS == thread);
        let check = move |seeds: &mut dyn Iterator<Item = u64>| -> Vec<String> {
            seeds.map(|seed| check(seed, by_rsync)).filter(|wrong| !wrong.is_empty()).collect()
        };
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || check(&mut part(thread)))).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let few: String = wrong.iter().take(5).map(String::as_str).collect();
    assert!(wrong.is_empty(), "{} trees; RD_TRUTH_SEED=… tries one alone:\n{few}", wrong.len());
}

#[test]
fn exactly_the_faults_are_told() {
    let trees = std::env::var("RD_TRUTH_TREES").ok().and_then(|trees| trees.parse().ok()).unwrap_or(TREES);
    check_all(0..trees, false);
}

#[test]
fn what_rsync_makes_is_in_step_but_for_the_faults() {
    check_all(1_000_000..1_000_000 + BY_RSYNC, true);
}
