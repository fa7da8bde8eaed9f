//! rsync over the director's own connections.

use std::os::unix::fs::symlink;
use std::process::Command;

use integration_tests::peers::Proxy;
use integration_tests::{Finished, Sandbox, Sshd, procs, wait};

use crate::syncs::assert_same;

const PUSH: &str = "transport: native
jobs:
- {id: push, type: remote, <peer>, actions: [{action: sync, id: s, source: @/src/, dest: @/dst, opts: ['-a']}]}
";

fn with_source() -> (Sandbox, Sshd) {
    let sandbox = Sandbox::new();
    let peer = Sshd::start(&sandbox, "peer");
    sandbox.write("src/file", "content");
    sandbox.write("src/with space and 'quote", "x");
    (sandbox, peer)
}

/// The program where no `ssh` is to be found.
fn without_ssh(sandbox: &Sandbox) -> Command {
    let bin = sandbox.mkdir("only-rsync");
    symlink("/usr/bin/rsync", bin.join("rsync")).expect("a link");
    let mut command = sandbox.command();
    command.env("PATH", bin);
    command
}

#[test]
fn no_openssh_client_is_needed() {
    let (sandbox, peer) = with_source();
    let config = sandbox.config(&format!(
        "{PUSH}- {{id: pull, type: remote, <peer>, actions: [{{action: sync, id: s, direction: pull, source: @/dst/, dest: @/back, opts: ['-a']}}]}}
"
    ));
    let mut command = without_ssh(&sandbox);
    command.args(["run", "--once", "--config"]).arg(config);
    Finished::of(command).expect_code(0);
    assert_same(&sandbox, "src", "dst");
    assert_same(&sandbox, "src", "back");
    assert_eq!(peer.connections(), 1, "the second rsync took the connection of the first");
}

#[test]
fn the_exit_code_of_the_other_side_is_told() {
    let (sandbox, _peer) = with_source();
    let config = sandbox.config(
        "transport: native
jobs:
- {id: pull, type: remote, <peer>, actions: [{action: sync, id: s, direction: pull, source: @/none, dest: @/back, opts: ['-a']}]}
",
    );
    sandbox.once(&config).expect_code(1).expect_said("exit code 23").expect_said("No such file or directory");
}

#[test]
fn a_connection_that_fails_is_said_as_it_is() {
    let (sandbox, peer) = with_source();
    sandbox.write("known_hosts", "");
    sandbox.once(&sandbox.config(PUSH)).expect_code(1).expect_said("is not known").expect_said("exit code 255");
    drop(peer);
    sandbox.once(&sandbox.config(PUSH)).expect_code(1).expect_said("could not connect");
}

#[test]
fn a_killed_connection_ends_the_rsync_on_both_sides() {
    let sandbox = Sandbox::new();
    let (_sshd, proxy) = Proxy::before_new(&sandbox, "peer", "");
    sandbox.write_big("src/big", 64);
    let director = sandbox.start(&sandbox.config(&PUSH.replace("'-a'", "'-a --bwlimit=2000'")));
    director.hup();
    wait::until("the other side writes", || {
        std::fs::read_dir(sandbox.path("dst")).is_ok_and(|mut dst| dst.next().is_some())
    });
    proxy.cut();
    director.wait_for_runs(1);
    director.wait_for_log("lost the connection");
    wait::until("nothing of it is left", || procs::running(sandbox.dir(), "rsync").is_empty());
}

#[test]
fn what_rsync_started_to_reach_its_peer_does_not_stay() {
    let (sandbox, _peer) = with_source();
    sandbox.write_big("src/big", 64);
    let mut director = sandbox.start(&sandbox.config(&PUSH.replace("'-a'", "'-a --bwlimit=2000'")));
    director.hup();
    wait::until("the other side writes", || {
        std::fs::read_dir(sandbox.path("dst")).is_ok_and(|mut dst| dst.next().is_some())
    });
    let left: Vec<_> =
        procs::descendants(director.pid()).into_iter().filter(|it| it.cmdline.contains("__rsh")).collect();
    assert!(left.iter().all(|it| it.cmdline.starts_with("rsync")), "{left:?}");
    director.term();
    director.stop();
    wait::until("nothing of it is left", || procs::running(sandbox.dir(), "rsync").is_empty());
}

#[test]
fn the_system_s_ssh_is_used_on_request() {
    let (sandbox, _peer) = with_source();
    let config = sandbox.config(&PUSH.replace("native", "openssh"));
    let mut command = without_ssh(&sandbox);
    command.args(["run", "--once", "--config"]).arg(&config);
    Finished::of(command).expect_code(1).expect_said("ssh");
    sandbox.once(&config).expect_code(0);
    assert_same(&sandbox, "src", "dst");
}

#[test]
fn rsync_tells_the_exit_code_of_its_connection_every_time() {
    let sandbox = Sandbox::new();
    let peer = Sshd::start(&sandbox, "peer");
    sandbox.write("src/file", "content");
    sandbox.write("known_hosts", "");
    let job = |n| {
        format!(
            "- {{id: j{n}, type: remote, <peer>, actions: [{{action: sync, id: s, source: @/src/, dest: @/dst, opts: ['-a']}}]}}\n"
        )
    };
    let config = sandbox.config(&format!("transport: native\njobs:\n{}", (0..30).map(job).collect::<String>()));
    let run = sandbox.once(&config);
    run.expect_code(1);
    let failures =
        run.stderr.lines().filter(|line| line.contains("/s: failed after") && line.contains("exit code 255"));
    assert_eq!(failures.count(), 30, "{}", run.stderr);
    drop(peer);
}

#[test]
fn a_peer_that_allows_one_channel_at_a_time_serves_one_rsync_after_the_other() {
    let sandbox = Sandbox::new();
    let peer = Sshd::start_with(&sandbox, "peer", "MaxSessions 1");
    sandbox.write("src/file", "content");
    let syncs: Vec<_> =
        (0..5).map(|n| format!("{{action: sync, id: s{n}, source: @/src/, dest: @/dst-{n}, opts: ['-a']}}")).collect();
    let job = format!("- {{id: push, type: remote, <peer>, actions: [{}]}}\n", syncs.join(", "));
    let config = sandbox.config(&format!("transport: native\njobs:\n{job}"));
    sandbox.once(&config).expect_code(0);
    (0..5).for_each(|n| assert_same(&sandbox, "src", &format!("dst-{n}")));
    assert_eq!(peer.connections(), 1, "{}", peer.log());
    assert!(peer.log().contains("no more sessions"), "the channel that is opened ahead was refused: {}", peer.log());
}
