//! rsync over our own connections to peers that are less than an OpenSSH with its defaults: few sessions, few connections, slow, noisy,
//! without an rsync, another program altogether.

use std::net::TcpStream;
use std::time::Duration;

use integration_tests::dropbear::Dropbear;
use integration_tests::peers::Proxy;
use integration_tests::wait::Stopwatch;
use integration_tests::{Finished, Sandbox, Sshd, wait};

use crate::syncs::assert_same;

/// There and back, with a lock and a block there.
const BOTH_WAYS: &str = "jobs:
- {id: j, type: remote, <peer>, lock_files: [{type: remote, <peer>, path: @/j.lock}], blocks_on: [{type: remote, <peer>, path: @/b}],
   actions: [
    {action: sync, id: push, source: @/src/, dest: @/dst, opts: ['-a']},
    {action: sync, id: pull, direction: pull, source: @/dst/, dest: @/back, opts: ['-a']}]}
";

fn with_source() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("src/file", "content");
    sandbox.write_big("src/big", 2);
    sandbox
}

#[track_caller]
fn works_both_ways(sandbox: &Sandbox) {
    sandbox.once(&sandbox.config(BOTH_WAYS)).expect_code(0);
    assert_same(sandbox, "src", "dst");
    assert_same(sandbox, "src", "back");
    assert!(!sandbox.exists("j.lock"));
}

const PUSH: &str = "jobs:
- {id: j, type: remote, <peer>, actions: [{action: sync, id: push, source: @/src/, dest: @/dst, opts: ['-a']}]}
";

/// A sync to a peer that runs this script for every command.
fn push_to(script: &str) -> Finished {
    let sandbox = with_source();
    let forced = sandbox.script("forced", script);
    let _peer = Sshd::start_with(&sandbox, "peer", &format!("ForceCommand {}", forced.display()));
    sandbox.once(&sandbox.config(PUSH))
}

#[test]
fn of_one_session_a_connection() {
    let sandbox = with_source();
    let _peer = Sshd::start_with(&sandbox, "peer", "MaxSessions 1");
    works_both_ways(&sandbox);
}

#[test]
fn of_one_session_a_connection_with_several_jobs_at_once() {
    let sandbox = with_source();
    let _peer = Sshd::start_with(&sandbox, "peer", "MaxSessions 1");
    let job = |n| {
        format!(
            "- {{id: j{n}, cron_schedule: '0 0 1 {n} *', type: remote, <peer>, lock_files: [{{type: remote, <peer>, path: @/j{n}.lock}}], blocks_on: [{{type: remote, <peer>, path: @/b}}],
   actions: [{{action: sync, id: push, source: @/src/, dest: @/dst{n}, opts: ['-a']}}, {{action: command, id: c, command: sleep 2}}]}}\n"
        )
    };
    let config = sandbox.config(&format!("jobs:\n{}", (1..=4).map(job).collect::<String>()));
    let director = sandbox.start(&config);
    director.hup();
    director.wait_for_runs(4);
    assert_eq!(director.samples().sum("rsyncdirector_job_failures_total"), 0.0);
    (1..=4).for_each(|n| assert_same(&sandbox, "src", &format!("dst{n}")));
}

#[test]
fn that_gives_no_session_at_all() {
    let sandbox = with_source();
    let _peer = Sshd::start_with(&sandbox, "peer", "MaxSessions 0");
    let ended = sandbox.once(&sandbox.config(PUSH));
    ended.expect_code(1).expect_said("opening a session on").expect_said("exit code 255");
}

#[test]
fn that_is_busy_with_logins_for_a_moment() {
    let sandbox = with_source();
    let (sshd, proxy) = Proxy::before_new(&sandbox, "peer", "");
    proxy.be_busy_for(3);
    sandbox.once(&sandbox.config(PUSH)).expect_code(0);
    assert_same(&sandbox, "src", "dst");
    assert_eq!(sshd.connections(), 1);
}

/// Lets one log in at a time, and somebody is about to.
#[test]
fn that_is_busy_with_logins() {
    let sandbox = with_source();
    let peer = Sshd::start_with(&sandbox, "peer", "MaxStartups 1:100:1");
    let _occupant = TcpStream::connect(peer.addr()).expect("it accepts");
    wait::until("it is there", || peer.connections() == 1);
    let ended = sandbox.once(&sandbox.config(PUSH));
    ended.expect_code(1).expect_said("exit code 255").expect_said("lost the connection while key exchange with");
}

#[test]
fn that_is_slow_to_start_a_command() {
    let finished = push_to("sleep 2; exec sh -c \"$SSH_ORIGINAL_COMMAND\"");
    finished.expect_code(0);
}

#[test]
fn that_is_slow_to_log_in() {
    let sandbox = Sandbox::new();
    sandbox.write("src/file", "content");
    let (_sshd, proxy) = Proxy::before_new(&sandbox, "peer", "");
    proxy.delay(Duration::from_millis(100));
    sandbox.once(&sandbox.config(BOTH_WAYS)).expect_code(0);
    assert_same(&sandbox, "src", "back");
}

#[test]
fn that_is_noisy_at_login() {
    let finished = push_to("echo Welcome; exec sh -c \"$SSH_ORIGINAL_COMMAND\"");
    finished.expect_code(1).expect_said("is your shell clean?").expect_said("exit code 2");
}

#[test]
fn without_an_rsync() {
    let finished = push_to("PATH=/nowhere; export PATH; exec /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"");
    finished.expect_code(1).expect_said("rsync: not found").expect_said("exit code 127");
}

#[test]
fn that_allows_another_command_only() {
    let finished = push_to("echo 'only backups are allowed here' >&2; exit 3");
    finished.expect_code(1).expect_said("only backups are allowed here").expect_said("exit code 12");
}

#[test]
fn that_says_something_after_rsync_has_ended() {
    let finished = push_to("sh -c \"$SSH_ORIGINAL_COMMAND\"; status=$?; sleep 1; echo bye; sleep 1; exit $status");
    finished.expect_code(0);
}

#[test]
fn that_never_stops_to_say_something() {
    let finished = push_to("sh -c \"$SSH_ORIGINAL_COMMAND\"; while sleep 0.3; do echo more; done");
    finished.expect_code(1).expect_said("exit code 255");
}

#[test]
fn that_ends_a_command_at_once() {
    let watch = Stopwatch::start();
    push_to("exit 0").expect_code(1);
    assert!(watch.elapsed() < Duration::from_secs(10), "it took {:?}", watch.elapsed());
}

#[test]
fn dropbear() {
    let sandbox = with_source();
    let _peer = Dropbear::start(&sandbox, "peer");
    works_both_ways(&sandbox);
    let watch = Stopwatch::start();
    let director = sandbox.start(&sandbox.config(BOTH_WAYS));
    director.run_now(1);
    director.run_now(2);
    assert_eq!(director.samples().sum("rsyncdirector_job_failures_total"), 0.0, "its connections are kept");
    assert!(watch.elapsed() < Duration::from_secs(10), "it took {:?}", watch.elapsed());
}
