//! Locks are leases: kept while the holder lives, taken over when it is gone, given up when they are lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use integration_tests::peers::Proxy;
use integration_tests::wait::Stopwatch;
use integration_tests::{Director, Sandbox, Sshd, procs, wait};
use rustix::process::Signal;

/// Keys of an instance that refreshes its locks each 3 s, and loses one that it cannot refresh for 9.8 s.
pub const SHORT: &str = "lease: 12\nkill_grace: 1\n";

/// The lease of [`SHORT`].
const LEASE: Duration = Duration::from_secs(12);

/// A job that holds one lock until the file `go` is there.
fn holding(place: &str) -> String {
    format!(
        "jobs:
- {{id: j, type: local, lock_files: [{{{place}, path: @/a.lock, wait_time: 1}}], actions: [
    {{action: command, id: hold, command: '<hold>'}}, {{action: command, id: done, command: 'touch @/done'}}]}}
"
    )
}

fn started(sandbox: &Sandbox, jobs: &str) -> Director {
    sandbox.define_hold();
    let director = sandbox.start(&sandbox.config(jobs));
    director.hup();
    wait::until("the action runs", || sandbox.exists("started"));
    director
}

/// The same with a [`SHORT`] lease.
fn started_shortly(sandbox: &Sandbox, place: &str) -> Director {
    started(sandbox, &format!("{SHORT}{}", holding(place)))
}

/// The one lock file, in either place where tests have it.
fn lock_file(sandbox: &Sandbox) -> PathBuf {
    let places = ["a.lock", "locks/a.lock"];
    sandbox.path(places.into_iter().find(|place| sandbox.exists(place)).expect("a lock file"))
}

fn modified(lock: &Path) -> SystemTime {
    fs::metadata(lock).and_then(|about| about.modified()).expect("its time")
}

/// Waits until the lock is fresh when a [`SHORT`] lease would be over.
#[track_caller]
fn is_kept(sandbox: &Sandbox) {
    let lock = lock_file(sandbox);
    let taken = modified(&lock);
    wait::until("a refresh after the lease", || modified(&lock) >= taken + LEASE);
}

/// Makes the lock of a killed director so old that of its lease of a minute 3 s are left.
pub fn age(lock: &Path) {
    let before = modified(lock) - Duration::from_secs(57);
    fs::File::options().write(true).open(lock).and_then(|it| it.set_modified(before)).expect("its time");
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
    let mut killed = started(sandbox, &holding(place));
    killed.kill();
    assert!(sandbox.exists("a.lock"), "a killed director cannot give its lock back");
    age(&lock_file(sandbox));
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
    started(&sandbox, &holding("type: local")).kill();
    let jobs = holding("type: local").replace("'<hold>'", "<record>");
    one_takes_over(&sandbox, &jobs);
}

/// Of three that want the lock of a killed director, one takes it over, and they run one after the other.
#[track_caller]
pub fn one_takes_over(sandbox: &Sandbox, jobs: &str) {
    age(&lock_file(sandbox));
    sandbox.define_record("0.3");
    let contenders = ["one", "two", "three"].map(|id| sandbox.start(&sandbox.config_of(id, jobs)));
    contenders.iter().for_each(Director::hup);
    contenders.iter().for_each(|contender| contender.wait_for_runs(1));
    assert_eq!(sandbox.lines("ran").len(), 3);
    assert!(sandbox.lines("clashes").is_empty(), "two ran at the same time");
    let takeovers: f64 = contenders.iter().map(|c| c.samples().sum("rsyncdirector_lock_takeovers_total")).sum();
    assert_eq!(takeovers, 1.0);
}

/// One that runs these jobs holds its lock for longer than the lease, and one that runs the others waits for it.
#[track_caller]
pub fn outlives_its_lease(sandbox: &Sandbox, jobs: &str, others: &str) {
    let first = started(sandbox, &format!("{SHORT}{jobs}"));
    let second = sandbox.start(&sandbox.config_of("second", &others.replace("<hold>", "touch @/second")));
    second.hup();
    second.wait_for_log("waiting to lock");
    is_kept(sandbox);
    assert!(!sandbox.exists("second"), "the second did not wait");
    sandbox.write("go", "");
    first.wait_for_runs(1);
    second.wait_for_runs(1);
    assert!(sandbox.exists("second") && sandbox.exists("done"));
    assert_eq!(second.samples().sum("rsyncdirector_lock_takeovers_total"), 0.0);
}

#[test]
fn a_local_lock_is_refreshed_while_an_action_takes_longer_than_the_lease() {
    let jobs = holding("type: local");
    outlives_its_lease(&Sandbox::new(), &jobs, &jobs);
}

#[test]
fn a_remote_lock_is_refreshed_while_an_action_takes_longer_than_the_lease() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    let jobs = holding("type: remote, <peer>");
    outlives_its_lease(&sandbox, &jobs, &jobs);
}

#[test]
fn a_lock_that_someone_removed_is_lost_and_the_action_is_killed() {
    let sandbox = Sandbox::new();
    let director = started_shortly(&sandbox, "type: local");
    sandbox.remove("a.lock");
    loses_the_lock(&sandbox, &director);
}

#[test]
fn a_lock_that_another_replaced_is_lost_and_left_to_the_other() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    let director = started_shortly(&sandbox, "type: remote, <peer>");
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
    // A refresh comes after 5 s, and must get through within 8 s more.
    let director = started(&sandbox, &format!("lease: 20\n{}", holding("type: remote, <peer>")));
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
    let director = started_shortly(&sandbox, "type: remote, <peer>");
    proxy.refuse();
    loses_the_lock(&sandbox, &director);
}

#[test]
fn a_connection_that_stalls_for_longer_than_the_lease_loses_the_lock() {
    let (sandbox, _sshd, proxy) = behind_proxy();
    // The action is told to end after 13 s.
    let mut director = started(&sandbox, &format!("lease: 20\n{}", holding("type: remote, <peer>")));
    proxy.stall();
    let watch = Stopwatch::start();
    wait::until("the action is killed", || procs::running(sandbox.dir(), "hold").is_empty());
    assert!(watch.elapsed() < Duration::from_secs(20), "another may hold the lock already: {:?}", watch.elapsed());
    proxy.resume();
    director.stop();
    assert!(!sandbox.exists("done"));
}

#[test]
fn a_log_that_nobody_reads_lets_no_other_director_in() {
    let sandbox = Sandbox::new();
    sandbox.define_record("1");
    let noisy = holding("type: local").replace("'<hold>'", "'<record> & seq 1000000; wait'");
    let noisy = format!("{SHORT}{noisy}");
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
    other.wait_for_log("waiting to lock");
    is_kept(&sandbox);
    assert_eq!(sandbox.lines("ran").len(), 1);
    drop(unread);
    other.wait_for_runs(1);
    assert_eq!(sandbox.lines("ran").len(), 2);
    assert!(sandbox.lines("clashes").is_empty(), "both ran at the same time");
}
