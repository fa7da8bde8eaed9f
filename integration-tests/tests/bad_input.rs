//! What is wrong outside of the configuration: ports, keys, hosts, programs, disks. A clear line, and nothing is lost.

use std::net::TcpListener;
use std::time::Duration;

use integration_tests::wait::{self, Stopwatch};
use integration_tests::{Finished, Sandbox, Sshd, keys};

use crate::syncs::COPY;

/// A job that syncs to `<peer>` under a remote lock, then a job without a peer that must run whatever becomes of it.
const PUSH: &str = "jobs:
- {id: copy, type: remote, <peer>, lock_files: [{type: local, path: @/a.lock}], actions: [
    {action: sync, id: files, retries: 0, source: @/src/, dest: @/dst, opts: ['-a']}]}
- {id: next, type: local, actions: [{action: command, id: c, command: 'echo next >> @/ran'}]}
";

/// A job that blocks on a file of `<peer>`.
const BLOCKED: &str = "jobs:
- {id: waits, type: local, blocks_on: [{type: remote, <peer>, path: @/free, wait_time: 1, timeout: 1}], actions: [
    {action: command, id: c, command: 'echo waits >> @/ran'}]}
- {id: next, type: local, actions: [{action: command, id: c, command: 'echo next >> @/ran'}]}
";

/// A sync to the peer fails and a block there counts as blocked; both say `texts`; the next job runs, no lock is left.
#[track_caller]
fn peer_is_refused(sandbox: &Sandbox, texts: &[&str]) {
    sandbox.write("src/file", "content");
    for jobs in [PUSH, BLOCKED] {
        let finished = sandbox.once(&sandbox.config(jobs));
        finished.expect_code(1);
        for text in texts {
            finished.expect_said(text);
        }
        assert_eq!(sandbox.lines("ran"), ["next"]);
        assert!(!sandbox.exists("a.lock") && !sandbox.exists("dst"));
        sandbox.remove("ran");
    }
}

#[test]
fn a_metrics_port_in_use_is_fatal_within_the_bounds_of_the_start() {
    let sandbox = Sandbox::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    let config = sandbox.config(&format!(
        "metrics: {{addr: 127.0.0.1, port: {port}, startup_timeout_seconds: 1, startup_retry_wait_seconds: 1,
    startup_retry_limit: 30}}\n{COPY}"
    ));
    let mut command = sandbox.command();
    command.args(["run", "--config"]).arg(config);
    let watch = Stopwatch::start();
    Finished::of(command).expect_code(4).expect_said(&port.to_string());
    assert!(watch.elapsed() < Duration::from_secs(15), "it took {:?}", watch.elapsed());
    assert!(!sandbox.pid_file("main").exists());
}

#[test]
fn a_metrics_port_that_becomes_free_within_the_bounds_is_used() {
    let sandbox = Sandbox::new();
    // No other test takes a port of this address when it becomes free.
    let taken = TcpListener::bind("127.0.28.1:0").expect("a port");
    let addr = taken.local_addr().expect("its address");
    let config = sandbox.config(&format!(
        "metrics: {{addr: {}, port: {}, startup_timeout_seconds: 30, startup_retry_wait_seconds: 1,
    startup_retry_limit: 30}}\n{COPY}",
        addr.ip(),
        addr.port()
    ));
    let director = sandbox.spawn(&config);
    director.wait_for_log(&addr.port().to_string());
    drop(taken);
    director.wait_until_ready();
    assert_eq!(director.metrics_addr(), addr);
}

#[test]
fn an_unknown_host_key_is_refused_with_the_command_that_accepts_it() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start_unknown(&sandbox, "peer");
    peer_is_refused(&sandbox, &["ssh-keyscan"]);
    assert_eq!(sandbox.read("known_hosts"), "");
}

#[test]
fn an_unknown_host_key_is_recorded_where_that_is_wanted() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start_unknown(&sandbox, "peer");
    sandbox.write("src/file", "content");
    let key = keys::public(&sandbox.path("sshd-peer/host_key"));
    for (first, then) in [(BLOCKED, PUSH), (PUSH, BLOCKED)] {
        sandbox.write("known_hosts", "");
        sandbox.once(&sandbox.config(&format!("host_key_policy: accept-new\n{first}"))).expect_code(0);
        assert!(sandbox.read("known_hosts").contains(&key), "{}", sandbox.read("known_hosts"));
        sandbox.once(&sandbox.config(then)).expect_code(0);
    }
    crate::syncs::assert_same(&sandbox, "src", "dst");
}

#[test]
fn a_changed_host_key_is_refused() {
    let sandbox = Sandbox::new();
    let peer = Sshd::start_unknown(&sandbox, "peer");
    keys::generate(&sandbox.path("other_key"), "");
    let before = peer
        .known_hosts_line()
        .replace(&keys::public(&sandbox.path("sshd-peer/host_key")), &keys::public(&sandbox.path("other_key")));
    for policy in ["strict", "accept-new"] {
        sandbox.write("known_hosts", &before);
        sandbox.write("src/file", "content");
        for jobs in [PUSH, BLOCKED] {
            let finished = sandbox.once(&sandbox.config(&format!("host_key_policy: {policy}\n{jobs}")));
            finished.expect_code(1).expect_said("changed").expect_said("ssh-keygen").expect_said("-R");
            assert_eq!(sandbox.lines("ran"), ["next"]);
            assert_eq!(sandbox.read("known_hosts"), before);
            sandbox.remove("ran");
        }
        assert!(!sandbox.exists("dst"));
    }
}

#[test]
fn a_revoked_host_key_is_refused() {
    let sandbox = Sandbox::new();
    let peer = Sshd::start_unknown(&sandbox, "peer");
    let line = peer.known_hosts_line();
    sandbox.write("known_hosts", format!("{line}@revoked {line}"));
    peer_is_refused(&sandbox, &["revoked"]);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    sandbox.chmod("id_user", 0o666);
    peer_is_refused(&sandbox, &["id_user"]);
}

#[test]
fn a_missing_key_is_named() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    sandbox.remove("id_user");
    peer_is_refused(&sandbox, &["id_user"]);
}

#[test]
fn an_encrypted_key_without_an_agent_is_refused() {
    let sandbox = Sandbox::new();
    let peer = Sshd::start(&sandbox, "plain");
    keys::generate(&sandbox.path("id_locked"), "secret");
    sandbox.write("sshd-plain/authorized_keys", keys::public(&sandbox.path("id_locked")));
    sandbox.define("peer", peer.peer_with("@/id_locked"));
    peer_is_refused(&sandbox, &["id_locked"]);
}

#[test]
fn a_key_that_the_host_does_not_accept_is_refused() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    sandbox.write("sshd-peer/authorized_keys", "");
    peer_is_refused(&sandbox, &["127.0.0.1"]);
}

#[test]
fn a_missing_rsync_here_fails_its_job_only() {
    let sandbox = Sandbox::new();
    sandbox.write("src/file", "content");
    sandbox.mkdir("empty");
    let config = sandbox.config(&format!(
        "{COPY}- {{id: next, type: local, actions: [{{action: command, id: c, command: 'echo next >> @/ran'}}]}}\n"
    ));
    let mut command = sandbox.command();
    command.env("PATH", sandbox.path("empty")).args(["run", "--once", "--config"]).arg(config);
    Finished::of(command).expect_code(1).expect_said("rsync");
    assert_eq!(sandbox.lines("ran"), ["next"]);
}

#[test]
fn a_missing_rsync_there_fails_its_job_only() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start_with(&sandbox, "peer", "ForceCommand exec env -i no-such-rsync");
    sandbox.write("src/file", "content");
    let finished = sandbox.once(&sandbox.config(PUSH));
    finished.expect_code(1).expect_said("no-such-rsync");
    assert_eq!(sandbox.lines("ran"), ["next"]);
    assert!(!sandbox.exists("a.lock") && !sandbox.exists("dst"));
}

#[test]
fn a_missing_source_fails_its_job_only() {
    for source in ["@/missing/", "'@/missing/*'"] {
        let sandbox = Sandbox::new();
        let config = sandbox.config(&format!(
            "{}- {{id: next, type: local, actions: [{{action: command, id: c, command: 'echo next >> @/ran'}}]}}\n",
            COPY.replace("@/src/", source)
        ));
        sandbox.once(&config).expect_code(1).expect_said("missing");
        assert_eq!(sandbox.lines("ran"), ["next"], "{source}");
    }
}

#[test]
fn a_full_destination_fails_its_job_only_and_releases_its_locks() {
    let sandbox = Sandbox::new();
    sandbox.write_big("src/big", 4);
    sandbox.mkdir("small");
    let config = sandbox.config(
        "jobs:
- {id: copy, type: local, lock_files: [{type: local, path: @/a.lock}], actions: [
    {action: sync, id: files, retries: 0, source: @/src/, dest: @/small/dst, opts: ['-a']}]}
- {id: next, type: local, actions: [{action: command, id: c, command: 'ls @/a.lock >> @/ran 2>&1'}]}
",
    );
    // The mount exists only in the namespace of this process, so that nothing has to be unmounted.
    let mount = sandbox.expand("mount -t tmpfs -o size=1m none @/small && exec \"$0\" \"$@\"");
    let mut command = sandbox.command_via(&["unshare", "--mount", "sh", "-c", &mount]);
    command.args(["run", "--once", "--config"]).arg(config);
    Finished::of(command).expect_code(1).expect_said("No space left on device");
    assert!(sandbox.read("ran").contains("No such file"), "the next job ran, and the lock was gone by then");
}

#[test]
fn a_job_that_cannot_work_does_not_stop_later_runs() {
    let sandbox = Sandbox::new();
    let config = sandbox.config(&format!(
        "{COPY}- {{id: next, type: local, actions: [{{action: command, id: c, command: 'echo next >> @/ran'}}]}}\n"
    ));
    let director = sandbox.start(&config);
    director.run_now(1);
    director.run_now(2);
    assert_eq!(sandbox.lines("ran"), ["next", "next"]);
    sandbox.write("src/file", "content");
    director.run_now(3);
    crate::syncs::assert_same(&sandbox, "src", "dst");
    wait::until("healthy", || director.get("/healthz").status == 200);
}
