//! `rsyncdirector locks` and `locks break`: who holds what, and how a person ends it.

use std::fs;

use integration_tests::{Director, Finished, Sandbox, Sshd, procs, wait};
use serde_json::Value;

use crate::leases::SHORT;

/// A job that holds a local and a remote lock until the file `go` is there; a block of another job is the same remote file.
const JOBS: &str = "jobs:
- {id: holds, type: local, lock_files: [{type: local, path: @/one.lock}, {type: remote, <peer>, path: @/two.lock}],
   actions: [{action: command, id: hold, command: '<hold>'}]}
- {id: waits, type: local, blocks_on: [{type: remote, <peer>, path: @/two.lock}, {type: local, path: @/three}], actions: []}
";

fn with_peer() -> (Sandbox, Sshd) {
    let sandbox = Sandbox::new();
    let peer = Sshd::start(&sandbox, "peer");
    sandbox.define_hold();
    sandbox.config(JOBS);
    (sandbox, peer)
}

fn holding(sandbox: &Sandbox) -> Director {
    let director = sandbox.start(&sandbox.path("main.yaml"));
    director.hup();
    wait::until("the action runs", || sandbox.exists("started"));
    director
}

fn locks(sandbox: &Sandbox, arguments: &[&str]) -> Finished {
    let config = sandbox.path("main.yaml").display().to_string();
    sandbox.cli(&[&["locks", "--config", &config], arguments].concat())
}

/// This host's name, as the kernel tells it.
fn read_host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").expect("the host's name").trim().to_owned()
}

fn name(sandbox: &Sandbox, file: &str) -> String {
    sandbox.path(file).display().to_string()
}

#[test]
fn every_lock_and_block_is_listed_with_its_holder() {
    let (sandbox, peer) = with_peer();
    sandbox.write("three", "");
    let listed = locks(&sandbox, &[]);
    listed.expect_code(0).expect_printed("lock of holds\n  free");
    listed.expect_printed("lock of holds; block of waits\n  free");
    listed.expect_printed("block of waits\n  held by someone else (an empty file, ");

    let director = holding(&sandbox);
    let listed = locks(&sandbox, &[]);
    listed.expect_code(0);
    let held = format!("held by main@{} for job holds, ", read_host());
    assert_eq!(listed.stdout.matches(&held).count(), 2, "{}", listed.stdout);
    listed.expect_printed("lease fresh").expect_printed(&format!("(pid {}, ", director.pid()));

    drop(peer);
    let listed = locks(&sandbox, &[]);
    listed.expect_code(1).expect_printed("lock of holds; block of waits\n  cannot be asked: could not connect");
    listed.expect_printed(&held);
}

#[test]
fn the_list_is_there_as_json() {
    let (sandbox, _peer) = with_peer();
    let _director = holding(&sandbox);
    let listed: Value = serde_json::from_str(&locks(&sandbox, &["--json"]).stdout).expect("JSON");
    let [local, remote, block] = listed.as_array().expect("a list").as_slice() else { panic!("three: {listed}") };
    assert_eq!(local["state"], "held");
    assert_eq!(local["holder"]["instance"], "main");
    assert_eq!(local["peer"], Value::Null);
    assert!(local["lease_left_seconds"].as_u64().is_some_and(|left| left <= 60), "{local}");
    assert_eq!(remote["lock_of"][0], "holds");
    assert_eq!(remote["block_of"][0], "waits");
    assert_eq!(remote["path"], name(&sandbox, "two.lock"));
    assert!(remote["peer"].as_str().is_some_and(|peer| peer.contains("@127.0.0.1:")), "{remote}");
    assert_eq!((&block["state"], &block["holder"]), (&Value::from("free"), &Value::Null));
}

#[test]
fn a_lock_that_a_person_breaks_ends_the_run_that_held_it_and_says_by_whom() {
    for (file, shown) in [("one.lock", ""), ("two.lock", "127.0.0.1:")] {
        let (sandbox, _peer) = with_peer();
        sandbox.config(&format!("{SHORT}{JOBS}"));
        let director = holding(&sandbox);
        let shown = format!("{shown}{}", name(&sandbox, file));
        locks(&sandbox, &["break", &shown, "--yes"]).expect_code(0).expect_printed(&format!("broke {shown}"));
        director.wait_for_runs(1);
        assert_eq!(director.metric("rsyncdirector_job_failures_total job_id=holds reason=lock_lost"), 1.0);
        assert!(procs::running(sandbox.dir(), "hold").is_empty(), "the action is killed");
        director.wait_for_log("it was broken by ");
        let note: Value = serde_json::from_str(&sandbox.read(&format!(".{file}.broken"))).expect("a note");
        assert!(note["by"].as_str().is_some_and(|by| by.contains('@')), "{note}");
        assert!(note["holder"].as_str().is_some_and(|holder| holder.starts_with("main@")), "{note}");
        assert!(!sandbox.exists("one.lock") && !sandbox.exists("two.lock"));
    }
}

#[test]
fn without_a_terminal_and_without_yes_nothing_is_broken() {
    let (sandbox, _peer) = with_peer();
    sandbox.write("three", "4711\n");
    let three = name(&sandbox, "three");
    locks(&sandbox, &["break", &three]).expect_code(1).expect_said("--yes").expect_said("says \"4711\"");
    assert_eq!(sandbox.read("three"), "4711\n");
    locks(&sandbox, &["break", &three, "--yes"]).expect_code(0);
    assert!(!sandbox.exists("three"));
    locks(&sandbox, &["break", &three, "--yes"]).expect_code(0).expect_printed("is free");
}

#[test]
fn what_is_no_lock_of_the_configuration_is_not_broken() {
    let (sandbox, _peer) = with_peer();
    let other = name(&sandbox, "other");
    sandbox.write("other", "");
    locks(&sandbox, &["break", &other, "--yes"]).expect_code(2).expect_said("one.lock");
    assert!(sandbox.exists("other"));
    fs::create_dir(sandbox.path("three")).expect("a directory");
    locks(&sandbox, &["break", &name(&sandbox, "three"), "--yes"]).expect_code(1).expect_said("there is a directory");
    assert!(sandbox.exists("three"));
}
