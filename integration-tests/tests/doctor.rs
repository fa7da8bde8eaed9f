//! `doctor`: each failure is made for real, and said with what mends it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use integration_tests::network::Network;
use integration_tests::peers::{BlackHole, Mute};
use integration_tests::sandbox::user;
use integration_tests::sshd::{free_addr, peer_at};
use integration_tests::wait::Stopwatch;
use integration_tests::{Finished, Sandbox, Sshd, keys};
use serde_json::Value;

/// A job that copies there and back with a lock and a block there and here.
const JOBS: &str = "jobs:
- {id: j, type: remote, <peer>,
   lock_files: [{type: remote, <peer>, path: @/locks/j.lock}, {type: local, path: @/here/j.lock}],
   blocks_on: [{type: remote, <peer>, path: @/locks/b.lock}], actions: [
    {action: sync, id: push, source: @/src/, dest: @/dst, opts: ['-aX']},
    {action: sync, id: pull, direction: pull, source: @/dst/, dest: @/back, opts: ['-a']}]}
";

/// Everything that the job needs, but the peer.
fn prepared() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("src/file", "content");
    ["dst", "locks", "here"].iter().for_each(|name| drop(sandbox.mkdir(name)));
    // Never this machine's own systemd.
    sandbox.script("bin/systemctl", "exit 1");
    sandbox
}

fn doctor_with(sandbox: &Sandbox, config: &Path, arguments: &[&str]) -> Finished {
    let mut command = sandbox.command();
    command.env("PATH", format!("{}:{}", sandbox.path("bin").display(), integration_tests::sandbox::PATH));
    command.args(["doctor", "--config"]).arg(config).args(arguments);
    Finished::of(command)
}

fn doctor(sandbox: &Sandbox, body: &str) -> Finished {
    doctor_with(sandbox, &sandbox.config(body), &[])
}

/// The one line about a check on a host that is not well.
#[track_caller]
fn expect(finished: &Finished, grade: &str, check: &str, parts: &[&str]) {
    let begin = format!("{grade:<4}  ");
    let lines: Vec<&str> = finished.stdout.lines().filter(|line| line.starts_with(&begin)).collect();
    let about = lines.iter().filter(|line| line.split("  ").nth(2).is_some_and(|rest| rest.starts_with(&format!("{check}:"))));
    let found = about.clone().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(found, "no {grade} line of {check} with {parts:?} in:\n{}\n{}", finished.stdout, finished.stderr);
}

/// No other line is a failure but these.
#[track_caller]
fn expect_failures(finished: &Finished, checks: &[&str]) {
    let failed = finished.stdout.lines().filter(|line| line.starts_with("fail"));
    let names: Vec<&str> = failed.filter_map(|line| line.split("  ").nth(1 + 1)?.split(':').next()).collect();
    assert_eq!(names, checks, "{}\n{}", finished.stdout, finished.stderr);
    finished.expect_code(i32::from(!checks.is_empty()));
}

#[test]
fn all_well_is_said_line_by_line_and_nothing_is_left_behind() {
    let sandbox = prepared();
    let peer = Sshd::start(&sandbox, "peer");
    let before = ["src", "dst", "locks", "here"].map(|name| sandbox.tree(name));
    let finished = doctor(&sandbox, JOBS);
    finished.expect_code(0);
    for line in finished.stdout.lines() {
        let is_about_room = line.contains("  space: ") || line.contains("  rsync-security: ");
        assert!(line.starts_with("ok    ") || is_about_room, "{}", finished.stdout);
    }
    let place = format!("{}@127.0.0.1:{}", user(), peer.addr().port());
    for (check, text) in [
        ("connect", "it takes connections"),
        ("host-key", "it proves to be the host that is known"),
        ("login", "id_user SHA256:"),
        ("shell", "it executes what we ask for"),
        ("clock", "agrees with ours"),
        ("rsync", "rsync is rsync 3."),
        ("rsync-features", "it knows all"),
        ("source", "/dst/ can be read (job j, action pull)"),
        ("destination", "/dst can be written (job j, action push)"),
        ("lock", "/locks/j.lock can be made and removed (lock of job j)"),
        ("block", "/locks/b.lock can be looked at"),
    ] {
        let line = finished.stdout.lines().find(|line| line.starts_with(&format!("ok    {place}  {check}: ")));
        assert!(line.is_some_and(|line| line.contains(text)), "{check} of {place} in\n{}", finished.stdout);
    }
    for check in ["unit", "time-zone", "control-socket", "metrics-port", "pid-file", "state", "key", "known-hosts", "lock"] {
        expect(&finished, "ok", check, &["ok    here  "]);
    }
    assert_eq!(["src", "dst", "locks", "here"].map(|name| sandbox.tree(name)), before);
    assert!(!sandbox.exists("back"), "what a sync makes is not made");
}
