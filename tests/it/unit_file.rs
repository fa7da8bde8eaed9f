//! The systemd unit: systemd accepts it, and what it promises agrees with the program.

use std::fs;
use std::process::Command;

const UNIT: &str = include_str!("../../systemd/rsyncdirector@.service");

/// Where a package puts the program; the unit names it so.
const INSTALLED: &str = "/usr/bin/rsyncdirector";

#[test]
fn systemd_accepts_the_unit() {
    assert_eq!(verify(UNIT), Ok(()));
}

#[test]
fn systemd_would_have_refused_a_wrong_unit() {
    let wrong = UNIT.replace("KillMode=mixed", "KillMode=gently");
    let message = verify(&wrong).expect_err("an unknown KillMode");
    assert!(message.contains("gently"), "{message}");
}

#[test]
fn stopping_leaves_time_for_the_default_kill_grace_and_the_release_of_locks() {
    let seconds = value("TimeoutStopSec").trim_end_matches('s').parse::<u32>().expect("seconds");
    let default_kill_grace = 10;
    assert!(seconds >= 3 * default_kill_grace, "TimeoutStopSec={seconds}");
    assert_eq!(value("KillMode"), "mixed", "the director ends its own children");
}

#[test]
fn an_environment_file_of_1_x_wins_over_the_default_configuration() {
    assert_eq!(value("Environment"), "RSYNCMANANGER_CONFIG=/etc/rsyncdirector/%i.yaml");
    assert_eq!(value("EnvironmentFile"), "-/etc/rsyncdirector/rsyncdirector-%i.env");
    assert!(!UNIT.lines().any(|line| line.starts_with("Exec") && line.contains("--config")), "an option would win");
}

/// The value of a key that stands once in the unit.
fn value(key: &str) -> &'static str {
    let mut values = UNIT.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let value = values.next().unwrap_or_else(|| panic!("{key} is set"));
    assert_eq!(values.next(), None, "{key} is set once");
    value
}

/// What `systemd-analyze verify` says against a unit, which it only judges when the program that it names exists.
fn verify(unit: &str) -> Result<(), String> {
    assert!(unit.contains(INSTALLED));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("rsyncdirector@test.service");
    fs::write(&file, unit.replace(INSTALLED, env!("CARGO_BIN_EXE_rsyncdirector"))).expect("write the unit");
    let analyze = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output();
    let output = analyze.expect("systemd-analyze runs; Debian's package systemd has it");
    let said = String::from_utf8_lossy(&output.stderr);
    // It also reports on the machine's other units that ours names.
    let ours: Vec<_> = said.lines().filter(|line| line.contains("rsyncdirector")).collect();
    if output.status.success() && ours.is_empty() { Ok(()) } else { Err(said.into_owned()) }
}
