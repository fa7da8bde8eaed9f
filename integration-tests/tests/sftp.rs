//! Locks and blocks on a peer whose account has no shell, but SFTP.

use integration_tests::{Sandbox, Sshd, procs, wait};
use serde_json::Value;

use crate::leases::{SHORT, one_takes_over, outlives_its_lease};
use crate::syncs::assert_same;

/// An account that is confined to SFTP.
const CONFINED: &str = "Subsystem sftp internal-sftp\nForceCommand internal-sftp";

fn confined() -> (Sandbox, Sshd) {
    let sandbox = Sandbox::new();
    let peer = Sshd::start_with(&sandbox, "peer", CONFINED);
    (sandbox, peer)
}

/// A job that holds one lock while it executes `command`.
fn holding(more: &str, command: &str) -> String {
    format!(
        "jobs:
- {{id: j, type: local, lock_files: [{{type: remote, <peer>, path: @/locks/a.lock, wait_time: 1{more}}}], actions: [
    {{action: command, id: c, command: '{command}'}}, {{action: command, id: done, command: 'touch @/done'}}]}}
"
    )
}

#[test]
fn creates_and_removes_a_lock_and_says_how() {
    let (sandbox, _peer) = confined();
    let config = sandbox.config(&holding("", "cp @/locks/a.lock @/seen; echo $PPID > @/director"));
    sandbox.once(&config).expect_code(0).expect_said("127.0.0.1 gives no shell: its lock files are reached by SFTP");
    assert!(sandbox.exists("done"));
    assert!(sandbox.tree("locks").is_empty(), "it is given back, and nothing is left: {:?}", sandbox.tree("locks"));
    let seen = sandbox.lines("seen");
    assert_eq!(seen[0], sandbox.read("director").trim(), "the first line is the director's pid");
    let record: Value = serde_json::from_str(&seen[1]).expect("the second line is JSON");
    assert_eq!((&record["job"], &record["instance"]), (&"j".into(), &"main".into()));
}

#[test]
fn a_lock_is_refreshed_while_an_action_takes_longer_than_the_lease() {
    let (sandbox, _peer) = confined();
    // The second names the way; it would not be found by the first one's memory anyhow.
    outlives_its_lease(&sandbox, &holding("", "<hold>"), &holding(", via: sftp", "<hold>"));
}

#[test]
fn the_lock_of_a_killed_director_is_taken_over_by_one_contender() {
    let (sandbox, _peer) = confined();
    sandbox.define_hold();
    let mut killed = sandbox.start(&sandbox.config(&holding("", "<hold>")));
    killed.hup();
    wait::until("the action runs", || sandbox.exists("started"));
    killed.kill();
    assert!(sandbox.exists("locks/a.lock"), "a killed director cannot give its lock back");

    one_takes_over(&sandbox, &holding("", "<record>"));
}

#[test]
fn a_lock_that_another_replaced_is_lost_and_left_to_the_other() {
    let (sandbox, _peer) = confined();
    sandbox.define_hold();
    let director = sandbox.start(&sandbox.config(&format!("{SHORT}{}", holding("", "<hold>"))));
    director.hup();
    wait::until("the action runs", || sandbox.exists("started"));
    sandbox.remove("locks/a.lock");
    sandbox.write("locks/a.lock", "4711\n");
    director.wait_for_runs(1);
    assert_eq!(director.metric("rsyncdirector_job_failures_total job_id=j reason=lock_lost"), 1.0);
    assert!(!sandbox.exists("done"));
    assert!(procs::running(sandbox.dir(), "hold").is_empty(), "the action is killed");
    assert_eq!(sandbox.read("locks/a.lock"), "4711\n");
}

#[test]
fn waits_for_a_block_on_a_confined_account() {
    let (sandbox, _peer) = confined();
    sandbox.write("src/file", "content");
    sandbox.write("busy", "");
    let director = sandbox.start(&sandbox.config(
        "jobs:
- {id: copy, type: local, blocks_on: [{type: remote, <peer>, path: @/busy, wait_time: 1}], actions: [
    {action: sync, id: files, source: @/src/, dest: @/dst, opts: ['-a']}]}
",
    ));
    director.hup();
    director.wait_for_metric("blocked_total job_id=copy", 2.0);
    assert!(!sandbox.exists("dst"));
    sandbox.remove("busy");
    director.wait_for_runs(1);
    assert_same(&sandbox, "src", "dst");
}

#[test]
fn the_way_by_exec_fails_on_a_confined_account_and_says_why() {
    let (sandbox, peer) = confined();
    let finished = sandbox.once(&sandbox.config(&holding(", via: exec, timeout: 1", "true")));
    let text =
        format!("@127.0.0.1:{} could not perform a lock operation: no answer from its shell", peer.addr().port());
    finished.expect_code(1).expect_said(&text);
    assert!(!finished.stderr.contains("SFTP"), "{}", finished.stderr);
    assert!(!sandbox.exists("done") && !sandbox.exists("locks"));
}

#[test]
fn a_peer_with_neither_way_fails_and_says_both() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start_with(&sandbox, "peer", "ForceCommand /bin/false");
    let finished = sandbox.once(&sandbox.config(&holding(", timeout: 1", "true")));
    finished.expect_code(1).expect_said("could not perform a lock operation: no answer from its shell");
    finished.expect_said("SFTP was tried too: ").expect_said("the peer has no SFTP");
    assert!(!sandbox.exists("done"));
}
