//! A peer whose key is good for lock files and for rsync in some directories alone.

use integration_tests::gate::{gated, put_behind, ssh};
use integration_tests::{Director, Sandbox, Sshd, wait};

use crate::leases::one_takes_over;
use crate::syncs::assert_same;

const POLICY: &str = "locks: [@/locks/*.lock]\nread: [@/there]\nwrite: [@/dst]\n";

fn with_gate(policy: &str) -> (Sandbox, Sshd) {
    let sandbox = Sandbox::new();
    sandbox.write("src/one", "1");
    sandbox.write("src/deep/er/two words; $(and) 'more'", "22");
    sandbox.write("there/three", "333");
    sandbox.write("there/four.txt", "4444");
    sandbox.mkdir("dst");
    sandbox.mkdir("outside");
    let peer = gated(&sandbox, "peer", policy);
    (sandbox, peer)
}

/// A job with a lock and a block there, a push and a pull.
fn job(more: &str) -> String {
    format!(
        "jobs:
- {{id: j, type: remote, <peer>, lock_files: [{{type: remote, <peer>, path: @/locks/a.lock, wait_time: 1}}],
   blocks_on: [{{type: remote, <peer>, path: @/locks/b.lock, wait_time: 1, timeout: 30}}], actions: [
    {{action: sync, id: push, source: @/src/, dest: @/dst/new, opts: ['-a', --mkpath]}},
    {{action: command, id: look, command: 'cp @/locks/a.lock @/seen'}},
    {{action: sync, id: pull, direction: pull, source: '@/there/*', dest: @/pulled, opts: ['-a'{more}]}}]}}
"
    )
}

#[test]
fn jobs_lock_push_and_pull_through_it_over_either_transport() {
    for transport in ["native", "openssh"] {
        let (sandbox, _peer) = with_gate(POLICY);
        let config = sandbox.config(&format!("transport: {transport}\n{}", job("")));
        sandbox.once(&config).expect_code(0);
        assert_same(&sandbox, "src", "dst/new");
        assert_same(&sandbox, "there", "pulled");
        assert_eq!(sandbox.lines("seen").len(), 2, "the lock was there, and is a director's");
        assert!(sandbox.tree("locks").is_empty(), "nothing is left: {:?}", sandbox.tree("locks"));
    }
}

#[test]
fn a_shared_sync_goes_through_it() {
    let (sandbox, _peer) = with_gate(POLICY);
    for big in 0..4 {
        sandbox.write_big(&format!("src/big{big}"), 5);
    }
    for number in 0..200 {
        sandbox.write(format!("src/dir{}/{number}", number % 10), number.to_string());
    }
    let config = sandbox.config(
        "jobs:
- {id: j, type: remote, <peer>, actions: [
    {action: sync, id: push, source: @/src/, dest: @/dst, opts: ['-a', --delete], parallel: 3, max_delete: 10}]}
",
    );
    sandbox.once(&config).expect_code(0).expect_said("3 rsyncs at once");
    assert_same(&sandbox, "src", "dst");
}

#[test]
fn a_path_that_no_shell_may_see_goes_through_it() {
    let (sandbox, _peer) = with_gate(POLICY);
    let config = sandbox.config(
        "jobs:
- {id: j, type: remote, <peer>, actions: [
    {action: sync, id: push, source: @/src/, dest: \"@/dst/a\\nb $(id)\", opts: ['-a']},
    {action: sync, id: secluded, source: @/src/, dest: @/dst/c, opts: ['-as']}]}
",
    );
    sandbox.once(&config).expect_code(0);
    assert_same(&sandbox, "src", "dst/a\nb $(id)");
    assert_same(&sandbox, "src", "dst/c");
}

#[test]
fn attributes_links_and_owners_survive_it() {
    let (sandbox, _peer) = with_gate(POLICY);
    sandbox.script(
        "fill",
        "cd @/src && ln one hard && ln -s /nowhere soft && mkfifo pipe && chmod 6755 one && chown 1234:5678 one
         mkdir setgid && chmod 2775 setgid && setfattr -n user.note -v text one && setfacl -m u:1234:rw one && touch -d 2001-02-03 deep",
    );
    let filled = std::process::Command::new(sandbox.path("fill")).output().expect("filled");
    assert!(filled.status.success(), "{filled:?}");
    let config = sandbox.config(
        "jobs:
- {id: j, type: remote, <peer>, actions: [{action: sync, id: push, source: @/src/, dest: @/dst/, opts: ['-aAXH', --numeric-ids]}]}
",
    );
    sandbox.once(&config).expect_code(0);
    let (source, dest) = (format!("{}/", sandbox.path("src").display()), sandbox.path("dst"));
    let mut compare = std::process::Command::new("rsync");
    compare.args(["-aAXHnic", "--delete", "--numeric-ids", &source]).arg(dest);
    let differences = compare.output().expect("compared");
    assert_eq!(String::from_utf8_lossy(&differences.stdout), "");
}

#[test]
fn a_refusal_is_told_to_the_one_who_asked() {
    let (sandbox, _peer) = with_gate(POLICY);
    let sync = |action: &str| {
        let job = format!("jobs:\n- {{id: j, type: remote, <peer>, actions: [{{action: sync, id: s, {action}}}]}}\n");
        sandbox.once(&sandbox.config(&job))
    };
    sync("source: @/src/, dest: @/outside/x, opts: ['-a']")
        .expect_code(1)
        .expect_said("gate: refused:")
        .expect_said("outside/x is in no directory that the policy opens to be written");
    sync("direction: pull, source: /etc/passwd, dest: @/pulled, opts: ['-a']")
        .expect_code(1)
        .expect_said("gate: refused: /etc/passwd is in no directory that the policy opens to be read");
    sync("source: @/src/, dest: @/dst, opts: ['-a', '-M--log-file=/tmp/x']")
        .expect_code(1)
        .expect_said("gate: refused: --log-file writes a file");
    let lock = "jobs:
- {id: j, type: local, lock_files: [{type: remote, <peer>, path: @/outside/x.lock, wait_time: 1}], actions: [
    {action: command, id: c, command: 'touch @/ran'}]}
";
    sandbox.once(&sandbox.config(lock)).expect_code(1).expect_said("x.lock is no lock file of the policy");
    assert!(!sandbox.exists("ran") && sandbox.tree("outside").is_empty());
}

#[test]
fn a_policy_that_cannot_be_used_lets_nothing_through() {
    let (sandbox, peer) = with_gate(POLICY);
    sandbox.write("peer.gate.yaml", "reed: [/]\n");
    ssh(&sandbox, &peer, &["127.0.0.1", "rsync", "--version"])
        .expect_code(126)
        .expect_said("its policy cannot be used");
    let told = sandbox.cli(&["gate", "check", "--policy", sandbox.path("peer.gate.yaml").to_str().expect("text")]);
    told.expect_code(2).expect_said("reed");
    sandbox.write("peer.gate.yaml", sandbox.expand(POLICY));
    sandbox.chmod("peer.gate.yaml", 0o666);
    ssh(&sandbox, &peer, &["127.0.0.1", "rsync", "--version"]).expect_code(126).expect_said("gate: refused");
    sandbox.chmod("peer.gate.yaml", 0o644);
    ssh(&sandbox, &peer, &["127.0.0.1", "rsync", "--version"]).expect_code(0).expect_printed("protocol version");
}

#[test]
fn nothing_else_is_to_be_had_with_the_key() {
    let (sandbox, peer) = with_gate(POLICY);
    let refused = |args: &[&str]| {
        let finished = ssh(&sandbox, &peer, args);
        assert_ne!(finished.status.code(), Some(0), "{args:?}: {finished:?}");
        finished
    };
    refused(&["127.0.0.1"]).expect_said("gate: refused: no command");
    refused(&["-tt", "127.0.0.1"]).expect_said("PTY allocation request failed");
    for command in ["id", "cat /etc/shadow", "rsync --daemon", "exec /bin/sh -i", "rsync --server . /etc; id"] {
        refused(&["127.0.0.1", command]).expect_code(126).expect_said("gate: refused");
    }
    // What a subsystem says on its standard error, sshd drops.
    refused(&["-s", "127.0.0.1", "sftp"]).expect_code(126);
    refused(&["-W", "127.0.0.1:22", "127.0.0.1"]).expect_said("administratively prohibited");
    refused(&["-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:22", "127.0.0.1", "rsync --version"])
        .expect_said("remote port forwarding failed");
    // A shell that would have been started for lock operations is none.
    let mut shell = std::process::Command::new("sh");
    let known_hosts = sandbox.path("known_hosts");
    shell.arg("-c").arg(format!(
        "echo 'touch {}' | ssh -F none -o UserKnownHostsFile={} -o IdentitiesOnly=yes -i {} -p {} 127.0.0.1 'exec /bin/sh'",
        sandbox.path("escaped").display(),
        known_hosts.display(),
        sandbox.user_key().display(),
        peer.addr().port()
    ));
    let finished = integration_tests::Finished::of(shell);
    finished.expect_code(126).expect_said("gate: refused: not a lock operation");
    assert!(!sandbox.exists("escaped"));
}

#[test]
fn locks_behind_it_exclude_and_are_taken_over() {
    let (sandbox, _peer) = with_gate(POLICY);
    sandbox.define_hold();
    let holding = |command: &str| {
        format!(
            "jobs:
- {{id: j, type: local, lock_files: [{{type: remote, <peer>, path: @/locks/a.lock, wait_time: 1}}], actions: [
    {{action: command, id: c, command: '{command}'}}]}}
"
        )
    };
    let mut killed = sandbox.start(&sandbox.config(&holding("<hold>")));
    killed.hup();
    wait::until("the action runs", || sandbox.exists("started"));
    killed.kill();
    assert!(sandbox.exists("locks/a.lock"), "a killed director cannot give its lock back");
    one_takes_over(&sandbox, &holding("<record>"));
}

#[test]
fn one_who_has_a_shell_and_one_behind_it_exclude_each_other() {
    let (sandbox, _peer) = with_gate(POLICY);
    let open = Sshd::start(&sandbox, "open");
    sandbox.define_record("0.5");
    let job = |peer: &str| {
        format!(
            "cron_schedule: '* * * * *'
jobs:
- {{id: j, type: local, lock_files: [{{type: remote, <{peer}>, path: @/locks/a.lock, wait_time: 1}}], actions: [
    {{action: command, id: c, command: <record>}}]}}
"
        )
    };
    let both = [("one", "peer"), ("two", "open")].map(|(id, peer)| sandbox.start(&sandbox.config_of(id, &job(peer))));
    both.iter().for_each(Director::hup);
    both.iter().for_each(|director| director.wait_for_runs(1));
    assert!(sandbox.lines("ran").len() >= 2 && sandbox.lines("clashes").is_empty(), "{:?}", sandbox.lines("ran"));
    drop(open);
}

#[test]
fn a_line_for_authorized_keys_names_what_is_there() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    put_behind(&sandbox, "peer", &sandbox.write("p.yaml", "locks: [/x]"));
    let line = sandbox.read("sshd-peer/authorized_keys");
    assert!(line.starts_with("restrict,command=\"") && line.contains(" gate --policy "), "{line}");
    let private = sandbox.user_key();
    let args = ["gate", "keyline", "--policy", "/x", private.to_str().expect("text")];
    sandbox.cli(&args).expect_code(2).expect_said("not a public key");
    sandbox.cli(&["gate", "keyline", "--policy", "x", "/y"]).expect_code(2);
    sandbox.cli(&["gate"]).expect_code(2).expect_said("--policy");
}
