//! What is left when the daemon ends in the midst of its work: nothing.

use std::time::Duration;

use integration_tests::wait::Stopwatch;
use integration_tests::{Director, Sandbox, Sshd, procs, wait};

/// A job with one lock and a sync of a big file that takes minutes, told to run and under way.
fn throttled(sandbox: &Sandbox, job: &str, lock: &str, more: &str) -> Director {
    sandbox.write_big("src/big", 32);
    sandbox.mkdir("dst");
    let director = sandbox.start(&sandbox.config(&format!(
        "kill_grace: 60
jobs:
- {{id: slow, {job}, lock_files: [{{{lock}, path: @/a.lock}}], actions: [
    {{action: sync, id: files, {more} source: @/src/, dest: @/dst, opts: ['-a --bwlimit=200']}},
    {{action: command, id: never, command: 'echo never >> @/ran'}}]}}
- {{id: later, type: local, actions: [{{action: command, id: c, command: 'echo later >> @/ran'}}]}}
"
    )));
    director.hup();
    // Not before there is data in it: between creating the file and noting its name an rsync cannot remove it.
    wait::until("rsync writes its temporary file", || sandbox.tree("dst").values().any(|data| !data.is_empty()));
    assert!(sandbox.exists("a.lock"));
    director
}

/// Far below what the sync would take, and the grace of one that does not obey TERM.
const SOON: Duration = Duration::from_secs(15);

/// Terminates it; no process, no lock, no pid file, no temporary file is left, and nothing else ran.
#[track_caller]
fn leaves_nothing(sandbox: &Sandbox, mut director: Director) {
    let watch = Stopwatch::start();
    director.stop();
    let took = watch.elapsed();
    assert!(!sandbox.exists("a.lock"), "the lock is left");
    assert!(!sandbox.pid_file("main").exists(), "the pid file is left");
    wait::until("the far side is gone too", || procs::running(sandbox.dir(), "rsync").is_empty());
    assert!(procs::running(sandbox.dir(), "ssh").is_empty());
    assert!(sandbox.tree("dst").is_empty(), "left: {:?}", sandbox.tree("dst").keys());
    assert!(!sandbox.exists("ran"));
    assert!(took < SOON, "it took {took:?}");
}

#[test]
fn term_during_a_throttled_local_sync_leaves_nothing() {
    let sandbox = Sandbox::new();
    let director = throttled(&sandbox, "type: local", "type: local", "");
    leaves_nothing(&sandbox, director);
}

#[test]
fn term_during_a_throttled_push_leaves_nothing() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    let director = throttled(&sandbox, "type: remote, <peer>", "type: remote, <peer>", "");
    leaves_nothing(&sandbox, director);
}

#[test]
fn term_during_a_throttled_pull_leaves_nothing() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    let director = throttled(&sandbox, "type: remote, <peer>", "type: local", "direction: pull,");
    leaves_nothing(&sandbox, director);
}

/// Kills the daemon with SIGKILL; the kernel ends its rsync.
#[track_caller]
fn kill_leaves_no_rsync(sandbox: &Sandbox, mut director: Director) {
    assert!(!procs::running(sandbox.dir(), "rsync").is_empty());
    director.kill();
    let gone = wait::within(SOON, || {
        let left = ["rsync", "ssh"].iter().any(|comm| !procs::running(sandbox.dir(), comm).is_empty());
        (!left).then_some(())
    });
    assert!(gone.is_some(), "left: {:?}", procs::running(sandbox.dir(), "rsync"));
}

#[test]
fn kill_of_the_daemon_leaves_no_local_rsync() {
    let sandbox = Sandbox::new();
    let director = throttled(&sandbox, "type: local", "type: local", "");
    kill_leaves_no_rsync(&sandbox, director);
}

#[test]
fn kill_of_the_daemon_leaves_no_rsync_of_a_push() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    let director = throttled(&sandbox, "type: remote, <peer>", "type: local", "");
    kill_leaves_no_rsync(&sandbox, director);
}

/// A job whose one command ignores TERM, under way.
fn stubborn(sandbox: &Sandbox, kill_grace: u32) -> Director {
    sandbox.script("stubborn", "trap '' TERM\ntouch @/started\nwhile :; do sleep 0.1; done");
    let director = sandbox.start(&sandbox.config(&format!(
        "kill_grace: {kill_grace}
jobs:
- {{id: j, type: local, lock_files: [{{type: local, path: @/a.lock}}], actions: [
    {{action: command, id: c, command: @/stubborn}}]}}
"
    )));
    director.hup();
    wait::until("the command runs", || sandbox.exists("started"));
    director
}

#[test]
fn what_ignores_term_is_killed_after_the_grace() {
    let sandbox = Sandbox::new();
    let mut director = stubborn(&sandbox, 1);
    let watch = Stopwatch::start();
    director.stop();
    let took = watch.elapsed();
    // Without the key it would be 10 s.
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(10), "it took {took:?}");
    assert!(!sandbox.exists("a.lock") && procs::running(sandbox.dir(), "stubborn").is_empty());
}

#[test]
fn a_second_term_kills_at_once() {
    let sandbox = Sandbox::new();
    let mut director = stubborn(&sandbox, 600);
    director.term();
    director.wait_for_log("SIGTERM");
    assert!(procs::alive(director.pid()), "the first TERM waits for the command");
    let watch = Stopwatch::start();
    director.stop();
    assert!(watch.elapsed() < SOON, "it took {:?}", watch.elapsed());
    assert!(!sandbox.exists("a.lock") && procs::running(sandbox.dir(), "stubborn").is_empty());
}

#[test]
fn term_when_nothing_runs_ends_it_at_once() {
    let took = (0..3).map(|_| {
        let sandbox = Sandbox::new();
        let mut director = sandbox.start(&sandbox.config(crate::syncs::COPY));
        let watch = Stopwatch::start();
        director.stop();
        watch.elapsed()
    });
    let least = took.min().expect("some");
    assert!(least < Duration::from_secs(2), "it took {least:?}");
}

#[test]
fn term_during_a_single_run_ends_it_and_releases_its_locks() {
    let sandbox = Sandbox::new();
    sandbox.define_hold();
    let config = sandbox.config(
        "jobs:
- {id: j, type: local, lock_files: [{type: local, path: @/a.lock}], actions: [
    {action: command, id: c, command: '<hold>'}]}
",
    );
    let mut command = sandbox.command();
    command.args(["run", "--once", "--config"]).arg(config);
    let mut once = Director::spawn(&sandbox, command);
    wait::until("the command runs", || sandbox.exists("started"));
    once.term();
    once.ended(wait::DEADLINE);
    assert!(!sandbox.exists("a.lock") && !sandbox.pid_file("main").exists());
    assert!(procs::running(sandbox.dir(), "hold").is_empty());
}
