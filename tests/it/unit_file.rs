//! The systemd unit and its drop-ins: systemd accepts them, what they promise agrees with the program, and they are as strict
//! as they say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const UNIT: &str = include_str!("../../systemd/rsyncdirector@.service");

/// Every drop-in with the exposure that `systemd-analyze security` may find at most, in tenths. `host.conf` takes the
/// restrictions back, so only its being accepted is of interest.
const DROP_INS: [(&str, &str, u32); 4] = [
    ("reader", include_str!("../../systemd/reader.conf"), 20),
    ("unprivileged", include_str!("../../systemd/unprivileged.conf"), 15),
    ("receiver", include_str!("../../systemd/receiver.conf"), 30),
    ("host", include_str!("../../systemd/host.conf"), 100),
];

/// The same for the unit alone.
const EXPOSURE: u32 = 35;

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
    assert!(values("Environment").any(|value| value == "RSYNCMANANGER_CONFIG=/etc/rsyncdirector/%i.yaml"));
    assert_eq!(value("EnvironmentFile"), "-/etc/rsyncdirector/rsyncdirector-%i.env");
    assert!(!UNIT.lines().any(|line| line.starts_with("Exec") && line.contains("--config")), "an option would win");
}

#[test]
fn the_unit_is_as_strict_as_it_says() {
    let found = exposure("");
    assert!(found <= EXPOSURE, "exposure {found} tenths");
    assert!(UNIT.contains("says 3.5 to that"), "the comment names the number");
    assert!(exposure("NoNewPrivileges=no\n") > found, "what is measured is the unit with its drop-in");
}

#[test]
fn each_drop_in_is_as_strict_as_it_says() {
    for (name, text, bar) in DROP_INS {
        let found = exposure(text);
        assert!(found <= bar, "{name}: exposure {found} tenths");
    }
}

#[test]
fn systemd_accepts_each_drop_in() {
    for (name, text, _) in DROP_INS {
        assert_eq!(verify_with(UNIT, text), Ok(()), "{name}");
    }
    let wrong = verify_with(UNIT, "[Service]\nProtectSystem=perhaps\n").expect_err("an unknown value");
    assert!(wrong.contains("perhaps"), "{wrong}");
}

#[test]
fn every_drop_in_is_measured() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let entries = fs::read_dir(directory).expect("the directory").map(|entry| entry.expect("an entry").path());
    let is_drop_in = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "conf");
    let mut names: Vec<_> =
        entries.filter(is_drop_in).filter_map(|path| path.file_stem().map(|s| s.to_owned())).collect();
    names.sort();
    let mut known: Vec<_> = DROP_INS.iter().map(|(name, ..)| std::ffi::OsString::from(name)).collect();
    known.sort();
    assert_eq!(names, known);
}

/// What would make a backup lack something, or a job wait for nothing, without a word.
#[test]
fn nothing_is_hidden_from_a_sender() {
    let senders = DROP_INS.iter().filter(|(name, ..)| matches!(*name, "reader" | "receiver")).map(|(_, text, _)| *text);
    for text in senders.chain([UNIT]) {
        for hides in
            ["PrivateTmp=yes", "ProtectHome=yes", "ProtectHome=tmpfs", "ProtectKernelModules=yes", "PrivateUsers=yes"]
        {
            assert!(!text.lines().any(|line| line == hides), "{hides}");
        }
    }
}

/// The value of a key that stands once in the unit.
fn value(key: &str) -> &'static str {
    let mut values = values(key);
    let value = values.next().unwrap_or_else(|| panic!("{key} is set"));
    assert_eq!(values.next(), None, "{key} is set once");
    value
}

fn values(key: &str) -> impl Iterator<Item = &'static str> {
    UNIT.lines().filter_map(move |line| line.strip_prefix(key)?.strip_prefix('='))
}

/// The unit, naming a program that exists, with a drop-in beside it; the file of the unit.
fn write(unit: &str, drop_in: &str) -> (TempDir, PathBuf) {
    assert!(unit.contains(INSTALLED));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("rsyncdirector@test.service");
    fs::write(&file, unit.replace(INSTALLED, env!("CARGO_BIN_EXE_rsyncdirector"))).expect("write the unit");
    if !drop_in.is_empty() {
        let beside = directory.path().join("rsyncdirector@test.service.d");
        fs::create_dir(&beside).expect("make the directory");
        let section = if drop_in.contains("[Service]") { "" } else { "[Service]\n" };
        fs::write(beside.join("mode.conf"), section.to_owned() + drop_in).expect("write the drop-in");
    }
    (directory, file)
}

/// What `systemd-analyze security` says of the unit with a drop-in, in tenths; 0 is best, 100 worst.
fn exposure(drop_in: &str) -> u32 {
    let (_directory, file) = write(UNIT, drop_in);
    let mut analyze = Command::new("systemd-analyze");
    let output = analyze.args(["security", "--offline=true", "--no-pager"]).arg(&file).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().find(|line| line.contains("Overall exposure level")).expect("a verdict");
    let number = line.split_whitespace().find_map(|word| word.parse::<f32>().ok()).expect("a number");
    (number * 10.0).round() as u32
}

/// What `systemd-analyze verify` says against a unit, which it only judges when the program that it names exists.
fn verify(unit: &str) -> Result<(), String> {
    verify_with(unit, "")
}

fn verify_with(unit: &str, drop_in: &str) -> Result<(), String> {
    let (_directory, file) = write(unit, drop_in);
    let analyze = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output();
    let output = analyze.expect("systemd-analyze runs; Debian's package systemd has it");
    let said = String::from_utf8_lossy(&output.stderr);
    // It also reports on the machine's other units that ours names.
    let ours: Vec<_> = said.lines().filter(|line| line.contains("rsyncdirector")).collect();
    if output.status.success() && ours.is_empty() { Ok(()) } else { Err(said.into_owned()) }
}
