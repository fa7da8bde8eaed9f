//! Peers behind other hosts, and what ssh_config says of them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use integration_tests::sandbox::user;
use integration_tests::{Sandbox, Sshd, procs, wait};

use crate::syncs::assert_same;

/// A peer, and a host that stands before it; `<way>` is the key that goes by it.
fn behind_a_gate(sandbox: &Sandbox, options: &str) -> (Sshd, Sshd) {
    let (gate, peer) = (Sshd::start_with(sandbox, "gate", options), Sshd::start(sandbox, "peer"));
    sandbox.define("way", format!("proxy_jump: '{}@{}'", user(), gate.addr()));
    sandbox.write("src/file", "content");
    (gate, peer)
}

/// Writes the `~/.ssh/config` of the sandbox.
fn write_ssh_config(sandbox: &Sandbox, text: &str) {
    let file = sandbox.write("home/.ssh/config", sandbox.expand(text));
    fs::set_permissions(file, Permissions::from_mode(0o600)).expect("chmod");
}

const COPY: &str = "jobs:
- {id: copy, type: remote, <peer>, <way>,
   lock_files: [{type: remote, <peer>, <way>, path: @/l/1}],
   blocks_on: [{type: remote, <peer>, <way>, path: @/busy, wait_time: 1, timeout: 3}], actions: [
    {action: sync, id: push, source: @/src/, dest: @/dst, opts: ['-a']},
    {action: sync, id: pull, direction: pull, source: @/dst/, dest: @/back, opts: ['-a']}]}
";

#[test]
fn locks_and_syncs_go_by_way_of_a_jump() {
    let sandbox = Sandbox::new();
    let (gate, peer) = behind_a_gate(&sandbox, "");
    sandbox.once(&sandbox.config(&format!("transport: native\n{COPY}"))).expect_code(0);
    assert_same(&sandbox, "src", "back");
    assert!(sandbox.tree("l").is_empty());
    assert_eq!((gate.connections(), peer.connections()), (2, 2), "one for the locks, one for the data");
}

#[test]
fn the_system_s_ssh_goes_by_way_of_the_jump_too() {
    let sandbox = Sandbox::new();
    let (gate, peer) = behind_a_gate(&sandbox, "");
    sandbox.once(&sandbox.config(&format!("transport: openssh\n{COPY}"))).expect_code(0);
    assert_same(&sandbox, "src", "back");
    assert_eq!((gate.connections(), peer.connections()), (3, 3), "one for the locks, one for each rsync");
}

#[test]
fn a_jump_that_forwards_nothing_is_named() {
    for transport in ["native", "openssh"] {
        let sandbox = Sandbox::new();
        let (gate, _peer) = behind_a_gate(&sandbox, "AllowTcpForwarding no");
        let config = sandbox.config(&format!(
            "transport: {transport}\njobs:
- {{id: copy, type: remote, <peer>, <way>, actions: [{{action: sync, id: push, source: @/src/, dest: @/dst, opts: ['-a']}}]}}
"
        ));
        let finished = sandbox.once(&config);
        finished
            .expect_code(1)
            .expect_said(&format!("by way of {}@{}", user(), gate.addr()))
            .expect_said("its sshd forbids that");
        assert!(!sandbox.exists("dst"));
    }
}

#[test]
fn a_killed_jump_ends_the_rsync_on_both_sides() {
    let sandbox = Sandbox::new();
    let (mut gate, _peer) = behind_a_gate(&sandbox, "");
    sandbox.write_big("src/big", 64);
    let director = sandbox.start(&sandbox.config(
        "jobs:
- {id: copy, type: remote, <peer>, <way>, actions: [
    {action: sync, id: push, source: @/src/, dest: @/dst, opts: ['-a --bwlimit=2000']}]}
",
    ));
    director.hup();
    wait::until("the other side writes", || {
        fs::read_dir(sandbox.path("dst")).is_ok_and(|mut dst| dst.next().is_some())
    });
    gate.kill();
    director.wait_for_runs(1);
    director.wait_for_log("lost the connection");
    wait::until("nothing of it is left", || procs::running(sandbox.dir(), "rsync").is_empty());
}

#[test]
fn a_host_is_reached_as_ssh_config_says() {
    let sandbox = Sandbox::new();
    let (gate, peer) = behind_a_gate(&sandbox, "");
    sandbox.define("user", user());
    sandbox.define("key", sandbox.user_key().display().to_string());
    sandbox.define("gate port", gate.addr().port().to_string());
    sandbox.define("peer port", peer.addr().port().to_string());
    write_ssh_config(
        &sandbox,
        "Host nas gate\n  HostName 127.0.0.1\n  User <user>\n  IdentityFile <key>\n  IdentitiesOnly yes\n\
         Host nas\n  Port <peer port>\n  ProxyJump gate\n\
         Host gate\n  Port <gate port>\n",
    );
    let config = sandbox.config(
        "jobs:
- {id: copy, type: remote, host: nas, lock_files: [{type: remote, host: nas, path: @/l/1}], actions: [
    {action: sync, id: push, source: @/src/, dest: @/dst, opts: ['-a']}]}
",
    );
    sandbox.once(&config).expect_code(0);
    assert_same(&sandbox, "src", "dst");
    assert_eq!((gate.connections(), peer.connections()), (2, 2));
}

const NAS: &str = "jobs:
- {id: copy, type: remote, host: nas, actions: [{action: sync, id: push, source: /a, dest: /b}]}
";

#[test]
fn what_of_ssh_config_is_not_followed_is_named_with_its_line() {
    let sandbox = Sandbox::new();
    write_ssh_config(&sandbox, "Host nas\n  Port 2222\n  ProxyCommand nc %h %p\n");
    let check = |body: &str| sandbox.cli(&["check", &sandbox.config(body).display().to_string()]);
    let named = check(NAS);
    named.expect_code(0).expect_said("home/.ssh/config:3: `ProxyCommand` is not followed");
    named.expect_said("main.yaml:").expect_said("transport: openssh");
    assert!(named.stdout.contains("1 warning"), "{}", named.stdout);
    let silent = check(&format!("transport: openssh\n{NAS}"));
    silent.expect_code(0);
    assert_eq!(silent.stderr, "");
}

#[test]
fn an_ssh_config_that_others_can_write_is_refused() {
    let sandbox = Sandbox::new();
    write_ssh_config(&sandbox, "Port 2222\n");
    fs::set_permissions(sandbox.path("home/.ssh/config"), Permissions::from_mode(0o666)).expect("chmod");
    let config = sandbox.config(NAS);
    sandbox.once(&config).expect_code(2).expect_said("home/.ssh/config:1: bad owner or permissions");
}
