//! The short form of the fault-injection suite; `bench/locks` is the long one. `LOCK_FAULTS_SEED=N` sets the seed.

use std::env;

use integration_tests::faults::suite::{self, Limit, Options};

#[test]
fn no_fault_lets_two_in_or_keeps_one_out() {
    let seed = env::var("LOCK_FAULTS_SEED").ok();
    let seed = seed.map_or_else(|| u64::from(std::process::id()), |text| text.parse().expect("a number"));
    println!("LOCK_FAULTS_SEED={seed}");
    let keep = env::temp_dir().join("lock-faults");
    let report = suite::run(&Options { seed, arenas: 8, limit: Limit::Histories(24), only: None, keep });
    println!("{report}");
    assert!(report.failures.is_empty(), "seed {seed}\n{}", report.failures.join("\n"));
    assert!(report.histories == 24 && report.sections >= 48, "too little happened:\n{report}");
}
