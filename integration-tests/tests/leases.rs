//! Locks are leases: kept while the holder lives, taken over when it is gone, given up when they are lost.

use std::time::Duration;

use integration_tests::peers::Proxy;
use integration_tests::wait::Stopwatch;
use integration_tests::{Director, Sandbox, Sshd, procs, wait};
use rustix::process::Signal;

/// A job that holds one lock until the file `go` is there.
fn holding(place: &str) -> String {
    format!(
        "jobs:
- {{id: j, type: local, lock_files: [{{{place}, path: @/a.lock, wait_time: 1}}], actions: [
    {{action: command, id: hold, command: '<hold>'}}, {{action: command, id: done, command: 'touch @/done'}}]}}
"
    )
}

fn started(sandbox: &Sandbox, place: &str) -> Director {
    sandbox.define_hold();
    let director = sandbox.start(&sandbox.config(&holding(place)));
    director.hup();
    wait::until("the action runs", || sandbox.exists("started"));
    director
}

/// A sandbox whose `<peer>` is an sshd behind a proxy.
fn behind_proxy() -> (Sandbox, Sshd, Proxy) {
    let sandbox = Sandbox::new();
    let (sshd, proxy) = Proxy::before_new(&sandbox, "peer", "");
    (sandbox, sshd, proxy)
}

/// The lock is lost: the action is killed, the job fails for that reason, and the daemon goes on.
#[track_caller]
fn loses_the_lock(sandbox: &Sandbox, director: &Director) {
    director.wait_for_runs(1);
    assert_eq!(director.metric("rsyncdirector_job_failures_total job_id=j reason=lock_lost"), 1.0);
    assert!(director.samples().sum("rsyncdirector_lock_lost_total") >= 1.0);
    assert!(!sandbox.exists("done"));
    assert!(procs::running(sandbox.dir(), "hold").is_empty(), "the action is killed");
}

#[track_caller]
fn is_taken_over(sandbox: &Sandbox, place: &str) {
    let mut killed = started(sandbox, place);
    killed.kill();
    assert!(sandbox.exists("a.lock"), "a killed director cannot give its lock back");
    sandbox.write("go", "");

    let successor = sandbox.start(&sandbox.config_of("successor", &holding(place)));
    successor.run_now(1);

    assert!(sandbox.exists("done") && !sandbox.exists("a.lock"));
    assert_eq!(successor.samples().sum("rsyncdirector_lock_takeovers_total"), 1.0);
    successor.wait_for_log(" of main@");
}

#[test]
fn the_local_lock_of_a_killed_director_is_taken_over_when_its_lease_ran_out() {
    is_taken_over(&Sandbox::new(), "type: local");
}

#[test]
fn the_remote_lock_of_a_killed_director_is_taken_over_when_its_lease_ran_out() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    is_taken_over(&sandbox, "type: remote, <peer>");
}

#[test]
fn one_of_several_contenders_takes_a_stale_lock_over() {
    let sandbox = Sandbox::new();
    started(&sandbox, "type: local").kill();
    let jobs = holding("type: local").replace("'<hold>'", "<record>");
    one_takes_over(&sandbox, &jobs);
}

/// Of three that want the lock of a killed director, one takes it over, and they run one after the other.
#[track_caller]
pub fn one_takes_over(sandbox: &Sandbox, jobs: &str) {
    sandbox.define_record("0.3");
    let contenders = ["one", "two", "three"].map(|id| sandbox.start(&sandbox.config_of(id, jobs)));
    contenders.iter().for_each(Director::hup);
    contenders.iter().for_each(|contender| contender.wait_for_runs(1));
    assert_eq!(sandbox.lines("ran").len(), 3);
    assert!(sandbox.lines("clashes").is_empty(), "two ran at the same time");
    let takeovers: f64 = contenders.iter().map(|c| c.samples().sum("rsyncdirector_lock_takeovers_total")).sum();
    assert_eq!(takeovers, 1.0);
}

#[track_caller]
fn outlives_its_lease(sandbox: &Sandbox, place: &str) {
    sandbox.define_record("5");
    let jobs = holding(place).replace("'<hold>'", "<record>");
    let first = sandbox.start(&sandbox.config_of("first", &jobs));
    first.hup();
    wait::until("the first runs", || sandbox.lines("ran").len() == 1);
    let second = sandbox.start(&sandbox.config_of("second", &jobs));
    second.hup();
    wait::until("the second runs", || sandbox.lines("ran").len() == 2);
    assert!(sandbox.lines("clashes").is_empty(), "the second did not wait");
    assert_eq!(second.samples().sum("rsyncdirector_lock_takeovers_total"), 0.0);
}

#[test]
fn a_local_lock_is_refreshed_while_an_action_takes_longer_than_the_lease() {
    outlives_its_lease(&Sandbox::new(), "type: local");
}

#[test]
fn a_remote_lock_is_refreshed_while_an_action_takes_longer_than_the_lease() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    outlives_its_lease(&sandbox, "type: remote, <peer>");
}

#[test]
fn a_lock_that_someone_removed_is_lost_and_the_action_is_killed() {
    let sandbox = Sandbox::new();
    let director = started(&sandbox, "type: local");
    sandbox.remove("a.lock");
    loses_the_lock(&sandbox, &director);
}

#[test]
fn a_lock_that_another_replaced_is_lost_and_left_to_the_other() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    let director = started(&sandbox, "type: remote, <peer>");
    sandbox.remove("a.lock");
    sandbox.write("a.lock", "4711\n");
    loses_the_lock(&sandbox, &director);
    assert_eq!(sandbox.read("a.lock"), "4711\n");
}

#[test]
fn a_lock_that_another_replaced_at_the_last_moment_is_not_deleted() {
    let sandbox = Sandbox::new();
    sandbox.once(&sandbox.config(
        "jobs:
- {id: j, type: local, lock_files: [{type: local, path: @/a.lock}], actions: [
    {action: command, id: c, command: 'rm @/a.lock; echo 4711 > @/a.lock'}]}
",
    ));
    assert_eq!(sandbox.read("a.lock"), "4711\n");
}

#[test]
fn losing_the_connection_for_less_than_the_lease_loses_nothing() {
    let (sandbox, _sshd, proxy) = behind_proxy();
    let director = started(&sandbox, "type: remote, <peer>");
    proxy.cut();
    wait::until("it is connected again", || proxy.open() > 0);
    sandbox.write("go", "");
    director.wait_for_runs(1);
    assert!(sandbox.exists("done") && !sandbox.exists("a.lock"));
    assert_eq!(director.samples().sum("rsyncdirector_lock_lost_total"), 0.0);
}

#[test]
fn losing_the_connection_for_longer_than_the_lease_loses_the_lock() {
    let (sandbox, _sshd, proxy) = behind_proxy();
    let director = started(&sandbox, "type: remote, <peer>");
    proxy.refuse();
    loses_the_lock(&sandbox, &director);
}

#[test]
fn a_connection_that_stalls_for_longer_than_the_lease_loses_the_lock() {
    let (sandbox, _sshd, proxy) = behind_proxy();
    let mut director = started(&sandbox, "type: remote, <peer>");
    proxy.stall();
    let watch = Stopwatch::start();
    wait::until("the action is killed", || procs::running(sandbox.dir(), "hold").is_empty());
    assert!(watch.elapsed() < Duration::from_secs(3), "another may hold the lock already: {:?}", watch.elapsed());
    director.stop();
    assert!(!sandbox.exists("done"));
}

#[test]
fn a_log_that_nobody_reads_lets_no_other_director_in() {
    let sandbox = Sandbox::new();
    sandbox.define_record("6");
    let noisy = holding("type: local").replace("'<hold>'", "'<record> & seq 1000000; wait'");
    let mut command = sandbox.command();
    command.args(["run", "--config"]).arg(sandbox.config_of("stuck", &noisy));
    let (unread, writer) = std::io::pipe().expect("a pipe");
    let stuck = Director::spawn_logging_to(&sandbox, command, writer);
    wait::until("it handles signals", || procs::catches(stuck.pid(), Signal::HUP));
    stuck.hup();
    wait::until("its action runs", || sandbox.lines("ran").len() == 1);

    // The action stands still, and its lock stays fresh for much longer than a lease.
    let free = holding("type: local").replace("'<hold>'", "<record>");
    let other = sandbox.start(&sandbox.config_of("other", &free));
    other.hup();
    other.until("it waits", |other| other.log().matches("waiting to lock").count() > 8);
    assert_eq!(sandbox.lines("ran").len(), 1);
    drop(unread);
    other.wait_for_runs(1);
    assert_eq!(sandbox.lines("ran").len(), 2);
    assert!(sandbox.lines("clashes").is_empty(), "both ran at the same time");
}
