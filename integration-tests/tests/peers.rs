//! Peers that cannot be asked: their blocks count as blocked, never as free, and the daemon can still be stopped.

use std::net::SocketAddr;
use std::time::Duration;

use integration_tests::keys::{self, Agent};
use integration_tests::peers::{BlackHole, Mute, Proxy, Refusing};
use integration_tests::sshd::peer_at;
use integration_tests::wait::{self, Stopwatch};
use integration_tests::{Director, Finished, Sandbox, Sshd, procs};

/// A daemon with a job that blocks on a file of the peer `<peer>`, told to run.
fn blocked(sandbox: &Sandbox, connect_timeout: u32) -> Director {
    let director = sandbox.start(&sandbox.config(&format!(
        "connect_timeout: {connect_timeout}
jobs:
- {{id: waits, type: local, blocks_on: [{{type: remote, <peer>, path: @/free, wait_time: 1}}], actions: [
    {{action: command, id: c, command: 'echo waits >> @/ran'}}]}}
"
    )));
    director.hup();
    director
}

fn define_peer(sandbox: &Sandbox, addr: SocketAddr) {
    sandbox.define("peer", peer_at(addr, &sandbox.user_key().display().to_string()));
}

/// Obeys TERM, however long a connect may take.
#[track_caller]
fn stops_at_once(director: &mut Director) {
    let watch = Stopwatch::start();
    director.stop();
    assert!(watch.elapsed() < Duration::from_secs(15), "it took {:?}", watch.elapsed());
}

/// The peer's block counts as blocked, look after look, with its address in the log, and TERM is obeyed.
#[track_caller]
fn counts_as_blocked(sandbox: &Sandbox, addr: SocketAddr) {
    define_peer(sandbox, addr);
    let mut director = blocked(sandbox, 1);
    director.wait_for_metric("blocked_total job_id=waits", 2.0);
    director.wait_for_log(&addr.port().to_string());
    stops_at_once(&mut director);
    assert!(!sandbox.exists("ran"));
}

#[test]
fn a_host_that_refuses_connections_counts_as_blocked() {
    let refusing = Refusing::open();
    counts_as_blocked(&Sandbox::new(), refusing.addr());
}

#[test]
fn a_host_that_drops_packets_counts_as_blocked() {
    let hole = BlackHole::open();
    counts_as_blocked(&Sandbox::new(), hole.addr());
}

#[test]
fn a_host_that_accepts_and_says_nothing_counts_as_blocked() {
    let mute = Mute::open();
    counts_as_blocked(&Sandbox::new(), mute.addr());
}

#[test]
fn shutdown_interrupts_a_connect_to_a_host_that_drops_packets() {
    let sandbox = Sandbox::new();
    let hole = BlackHole::open();
    define_peer(&sandbox, hole.addr());
    let mut director = blocked(&sandbox, 600);
    wait::until("it connects", || procs::connecting_to(hole.addr()) > 0);
    stops_at_once(&mut director);
}

#[test]
fn shutdown_interrupts_a_login_to_a_host_that_says_nothing() {
    let sandbox = Sandbox::new();
    let mute = Mute::open();
    define_peer(&sandbox, mute.addr());
    let mut director = blocked(&sandbox, 600);
    wait::until("it is connected", || procs::established_to(mute.addr()) > 0);
    stops_at_once(&mut director);
}

#[test]
fn a_timeout_of_a_block_holds_for_a_host_that_drops_packets_too() {
    let sandbox = Sandbox::new();
    let hole = BlackHole::open();
    define_peer(&sandbox, hole.addr());
    let config = sandbox.config(
        "connect_timeout: 1
jobs:
- {id: waits, type: local, blocks_on: [{type: remote, <peer>, path: @/free, wait_time: 1, timeout: 2}], actions: [
    {action: command, id: c, command: 'echo waits >> @/ran'}]}
- {id: next, type: local, actions: [{action: command, id: c, command: 'echo next >> @/ran'}]}
",
    );
    let watch = Stopwatch::start();
    sandbox.once(&config).expect_code(1);
    assert!(watch.elapsed() < Duration::from_secs(15), "it took {:?}", watch.elapsed());
    assert_eq!(sandbox.lines("ran"), ["next"]);
}

#[test]
fn a_sync_to_a_host_that_drops_packets_fails_within_the_connect_timeout() {
    let sandbox = Sandbox::new();
    let hole = BlackHole::open();
    define_peer(&sandbox, hole.addr());
    sandbox.write("src/file", "content");
    let config = sandbox.config(
        "connect_timeout: 1
jobs:
- {id: copy, type: remote, <peer>, actions: [
    {action: sync, id: files, retries: 0, source: @/src/, dest: @/dst, opts: ['-a']}]}
- {id: next, type: local, actions: [{action: command, id: c, command: 'echo next >> @/ran'}]}
",
    );
    let watch = Stopwatch::start();
    sandbox.once(&config).expect_code(1).expect_said("took longer than 1s");
    assert!(watch.elapsed() < Duration::from_secs(15), "it took {:?}", watch.elapsed());
    assert_eq!(sandbox.lines("ran"), ["next"]);
}

#[test]
fn a_host_that_comes_back_is_no_longer_blocked() {
    let sandbox = Sandbox::new();
    let (_sshd, proxy) = Proxy::before_new(&sandbox, "peer", "");
    proxy.refuse();
    let director = blocked(&sandbox, 5);
    director.wait_for_metric("blocked_total job_id=waits", 1.0);
    proxy.accept();
    director.wait_for_runs(1);
    assert_eq!(sandbox.lines("ran"), ["waits"]);
}

#[test]
fn a_connection_that_stalls_between_looks_counts_as_blocked_and_can_be_stopped() {
    let sandbox = Sandbox::new();
    let (_sshd, proxy) = Proxy::before_new(&sandbox, "peer", "");
    sandbox.write("free", "not yet");
    let mut director = blocked(&sandbox, 2);
    director.wait_for_metric("blocked_total job_id=waits", 1.0);
    proxy.stall();
    sandbox.remove("free");
    let looks = director.metric("blocked_total job_id=waits");
    director.wait_for_metric("blocked_total job_id=waits", looks + 1.0);
    stops_at_once(&mut director);
    assert!(!sandbox.exists("ran"));
}

#[test]
fn a_connection_that_is_cut_between_looks_is_made_anew() {
    let sandbox = Sandbox::new();
    let (_sshd, proxy) = Proxy::before_new(&sandbox, "peer", "");
    sandbox.write("free", "not yet");
    let director = blocked(&sandbox, 5);
    director.wait_for_metric("blocked_total job_id=waits", 1.0);
    proxy.cut();
    sandbox.remove("free");
    director.wait_for_runs(1);
    assert_eq!(sandbox.lines("ran"), ["waits"]);
}

#[test]
fn four_locks_and_two_blocks_on_one_peer_need_one_connection() {
    let sandbox = Sandbox::new();
    let sshd = Sshd::start(&sandbox, "peer");
    let file = |name: &str| format!("{{type: remote, <peer>, path: @/{name}}}");
    let locks = ["l/1", "l/2", "l/3", "l/4"].map(file).join(", ");
    let blocks = ["b/1", "b/2"].map(file).join(", ");
    let director = sandbox.start(&sandbox.config(&format!(
        "jobs:
- {{id: j, type: local, lock_files: [{locks}], blocks_on: [{blocks}], actions: [
    {{action: command, id: c, command: 'ls @/l >> @/seen'}}]}}
"
    )));
    director.run_now(1);
    director.run_now(2);
    assert_eq!(sandbox.lines("seen"), ["1", "2", "3", "4", "1", "2", "3", "4"]);
    assert!(sandbox.tree("l").is_empty());
    assert_eq!(sshd.connections(), 1);
}

#[test]
fn a_peer_that_allows_one_session_a_connection_is_enough() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start_with(&sandbox, "peer", "MaxSessions 1");
    sandbox.write("src/file", "content");
    let config = sandbox.config(
        "jobs:
- {id: copy, type: remote, <peer>,
   lock_files: [{type: remote, <peer>, path: @/l/1}, {type: remote, <peer>, path: @/l/2}],
   blocks_on: [{type: remote, <peer>, path: @/busy, wait_time: 1, timeout: 3}], actions: [
    {action: sync, id: files, source: @/src/, dest: @/dst, opts: ['-a']}]}
",
    );
    sandbox.once(&config).expect_code(0);
    crate::syncs::assert_same(&sandbox, "src", "dst");
    assert!(sandbox.tree("l").is_empty());
}

#[test]
fn an_encrypted_key_that_the_agent_holds_is_used() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    let agent = Agent::holding(&sandbox.user_key(), sandbox.path("agent"));
    keys::encrypt(&sandbox.user_key(), "secret");
    sandbox.write("src/file", "content");
    let config = sandbox.config(
        "jobs:
- {id: copy, type: remote, <peer>, lock_files: [{type: remote, <peer>, path: @/l/1, timeout: 1}], actions: [
    {action: sync, id: files, source: @/src/, dest: @/dst, opts: ['-a']}]}
",
    );
    let mut command = sandbox.command();
    command.env("SSH_AUTH_SOCK", agent.socket()).args(["run", "--once", "--config"]).arg(config);
    Finished::of(command).expect_code(0);
    crate::syncs::assert_same(&sandbox, "src", "dst");
}

#[test]
fn peers_at_other_addresses_are_reached() {
    for address in ["::1", "127.0.0.77"] {
        let sandbox = Sandbox::new();
        let _peer = Sshd::start_on(&sandbox, "peer", address.parse().expect("an address"));
        sandbox.write("src/file", "content");
        let jobs = |more: &str, source: &str, dest: &str| {
            sandbox.config(&format!(
                "jobs:
- {{id: copy, type: remote, <peer>, lock_files: [{{type: remote, <peer>, path: @/a.lock}}], actions: [
    {{action: sync, id: files, {more} source: @/{source}/, dest: @/{dest}, opts: ['-a']}}]}}
"
            ))
        };
        sandbox.once(&jobs("", "src", "pushed")).expect_code(0);
        sandbox.once(&jobs("direction: pull,", "pushed", "pulled")).expect_code(0);
        crate::syncs::assert_same(&sandbox, "src", "pulled");
    }
}
