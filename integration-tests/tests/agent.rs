//! The agent on a peer that a verification asks: over either transport, behind the gate, noisy, absent, slow, of a user that may not see all.

use std::os::unix::fs::{PermissionsExt, chown};

use integration_tests::gate::{gated, put_behind};
use integration_tests::{Finished, Sandbox, Sshd, director, procs, wait};
use rsyncdirector::verify::Class;
use rsyncdirector::verify::report::{By, Report, Verdict};
use rsyncdirector::verify::store::Store;
use rustix::process::Signal;

const TRANSPORTS: [&str; 2] = ["native", "openssh"];
/// What sshd starts for whatever it is asked; AGENT is done before an agent only.
const FORCED: &str =
    "ForceCommand case $SSH_ORIGINAL_COMMAND in *agent) AGENT;; esac; exec sh -c \"$SSH_ORIGINAL_COMMAND\"";

fn source(sandbox: &Sandbox) {
    sandbox.write("src/one", "1");
    sandbox.write("src/deep/er/two words; $(and) 'more'", "22");
    sandbox.mkdir("dst");
}

/// A push to the peer, and what verifies it.
fn job(transport: &str, verify: &str) -> String {
    let program = director::binary();
    let agent = if verify.contains("agent:") { String::new() } else { format!("agent: {}, ", program.display()) };
    format!(
        "transport: {transport}
state_dir: @/state
jobs:
- {{id: j, type: remote, <peer>, actions: [
    {{action: sync, id: push, source: @/src/, dest: @/dst, opts: ['-rt', --delete]}},
    {{action: verify, id: proof, of: push, {agent}{verify}}}]}}
"
    )
}

fn verified(sandbox: &Sandbox, transport: &str, verify: &str) -> Finished {
    sandbox.once(&sandbox.config(&job(transport, verify)))
}

/// The last report of a verification.
fn report(sandbox: &Sandbox) -> Report {
    let store = Store::open_read_only(&sandbox.path("state/main")).expect("it can be read").expect("it is there");
    store.latest().expect("read").pop().expect("a report")
}

#[test]
fn it_tells_what_a_peer_has_over_either_transport() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let _peer = Sshd::start(&sandbox, "peer");
        source(&sandbox);
        verified(&sandbox, transport, "level: deep").expect_code(0).expect_said("100 % of");
        let report = report(&sandbox);
        assert_eq!((report.by, report.verdict), (By::Agent, Verdict::InStep), "{transport}: {report:?}");
        assert_eq!(report.read.entries, 4, "both files on both sides: {report:?}");
    }
}

#[test]
fn it_is_let_through_the_gate() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let _peer = gated(&sandbox, "peer", "write: [@/dst]\n");
        source(&sandbox);
        verified(&sandbox, transport, "level: deep").expect_code(0);
        assert_eq!((report(&sandbox).by, report(&sandbox).verdict), (By::Agent, Verdict::InStep), "{transport}");
    }
}

#[test]
fn a_gate_keeps_it_from_what_its_policy_does_not_open() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    source(&sandbox);
    verified(&sandbox, "native", "level: quick").expect_code(0);
    let policy = sandbox.write("other.yaml", sandbox.expand("read: [@/src]\n"));
    put_behind(&sandbox, "peer", &policy);
    let verify =
        job("native", "level: quick").replace("{action: sync, id: push,", "{action: sync, id: push, max_delete: 1,");
    sandbox.once(&sandbox.config(&verify)).expect_code(1);
    let config = sandbox.path("main.yaml");
    let told = sandbox.cli(&["verify", "--config", config.to_str().expect("text"), "j/push"]);
    told.expect_code(1).expect_said("gate: refused").expect_said("is in no directory that the policy opens to be read");
}

#[test]
fn what_a_start_file_prints_is_quoted() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let _peer = Sshd::start_with(&sandbox, "peer", &FORCED.replace("AGENT", "echo Welcome to nas"));
        source(&sandbox);
        verified(&sandbox, transport, "level: quick")
            .expect_code(1)
            .expect_said("something else than the agent spoke first: \"Welcome to nas\"");
    }
}

#[test]
fn a_peer_without_one_is_said_to_have_none() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let _peer = Sshd::start(&sandbox, "peer");
        source(&sandbox);
        verified(&sandbox, transport, "agent: /nowhere/rsyncdirector")
            .expect_code(0)
            .expect_said("has no agent: ")
            .expect_said("/nowhere/rsyncdirector")
            .expect_said("; rsync compares instead, which takes longer");
        assert_eq!((report(&sandbox).by, report(&sandbox).verdict), (By::Rsync, Verdict::InStep), "{transport}");
    }
}

#[test]
fn a_peer_that_is_gone_is_not_one_without_an_agent() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let peer = Sshd::start(&sandbox, "peer");
        source(&sandbox);
        verified(&sandbox, transport, "level: quick").expect_code(0);
        drop(peer);
        let config = sandbox.path("main.yaml");
        let told = sandbox.cli(&["verify", "--config", config.to_str().expect("text"), "j/push"]);
        told.expect_code(1).expect_said("could not connect to");
    }
}

#[test]
fn another_users_directory_is_unreadable_and_never_in_step() {
    let sandbox = Sandbox::new();
    let nobody = "exec setpriv --reuid 65534 --regid 65534 --clear-groups sh -c \"$SSH_ORIGINAL_COMMAND\"";
    let _peer = Sshd::start_with(&sandbox, "peer", &FORCED.replace("AGENT", nobody));
    source(&sandbox);
    sandbox.write("src/locked/secret", "x");
    sandbox.chmod("src/locked", 0o700);
    sandbox.chmod("", 0o755);
    let program = sandbox.path("rsyncdirector");
    std::fs::copy(director::binary(), &program).expect("a copy that others can execute");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let verify = format!("level: quick, agent: {}", program.display());
    let job = job("native", &verify).replace("'-rt'", "'-rtp'");
    sandbox.once(&sandbox.config(&job)).expect_code(1);
    let report = report(&sandbox);
    assert_eq!((report.by, report.verdict), (By::Agent, Verdict::Unknown), "{report:?}");
    assert_eq!(report.classes.get(&Class::Unreadable).map(|count| count.entries), Some(1), "{report:?}");
    chown(sandbox.path("dst/locked"), Some(65534), Some(65534)).expect("chown");
    chown(sandbox.path("dst/locked/secret"), Some(65534), Some(65534)).expect("chown");
    sandbox
        .once(
            &sandbox
                .config(&job.replace("dest: @/dst, opts: ['-rtp', --delete]", "dest: @/dst, opts: ['-rt', --delete]")),
        )
        .expect_code(0);
}

#[test]
fn an_agent_goes_when_whoever_asked_it_is_killed() {
    for (transport, whole) in [("native", true), ("native", false), ("openssh", true), ("openssh", false)] {
        let sandbox = Sandbox::new();
        let peer = Sshd::start(&sandbox, "peer");
        sandbox.write_big("src/big", 8);
        sandbox.mkdir("dst");
        // It would take hours.
        let mut director = sandbox.start(&sandbox.config(&job(transport, "level: deep, rate: 1k")));
        director.hup();
        let agents = || below(peer.pid(), b"/rsyncdirector\0agent\0");
        wait::until("the agent reads", || agents().len() == 1);
        match whole {
            true => director.kill(),
            false => {
                below(director.pid(), b"\0__verify\0").into_iter().for_each(|pid| procs::signal(pid, Signal::KILL))
            }
        }
        wait::until("the agent has gone", || agents().is_empty());
    }
}

/// The processes below this one whose arguments end with these.
fn below(pid: u32, arguments: &[u8]) -> Vec<u32> {
    let pids = procs::descendants(pid).into_iter().map(|process| process.pid);
    pids.filter(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.ends_with(arguments)))
        .collect()
}
