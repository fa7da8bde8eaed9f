//! Peers behind others.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::*;
use crate::config::{LeftToSsh, Reach};
use crate::error_chain;
use crate::ssh::test_sshd::{ClosedPort, TestSshd, children, keygen};

/// The peer of an sshd by way of others, each of which accepts its own key.
fn behind(sshd: &TestSshd, hops: &[&TestSshd]) -> Peer {
    let reach = Reach { jumps: hops.iter().map(|hop| hop.peer()).collect(), ..Reach::default() };
    Peer { reach: Arc::new(reach), ..sshd.peer() }
}

/// The policy that knows all of them.
fn policy_of(sshds: &[&TestSshd]) -> SshPolicy {
    let known_hosts = sshds.iter().map(|sshd| sshd.path("known_hosts")).collect();
    SshPolicy { known_hosts, ..sshds[0].policy() }
}

#[tokio::test]
async fn a_peer_behind_one_and_behind_two_others_is_reached() {
    let (first, second) = (TestSshd::start(), TestSshd::start());
    let peer = TestSshd::start_with("Subsystem sftp internal-sftp");
    let fixture = Fixture::new(policy_of(&[&first, &second, &peer]));
    let near = behind(&second, &[&first]);
    let far = behind(&peer, &[&first, &second]);
    assert_eq!(text(&fixture.run(&near, "echo ${SSH_CONNECTION##* }").await.stdout), format!("{}\n", second.port));
    assert_eq!(text(&fixture.run(&far, "echo ${SSH_CONNECTION##* }").await.stdout), format!("{}\n", peer.port));
    assert_eq!(text(&fixture.run(&far, "cat; head -c 1000000 /dev/zero | wc -c").await.stdout), "1000000\n");
    assert_eq!([first.logins(), second.logins(), peer.logins()], [2, 2, 1]);
    assert_eq!(fixture.events(), ["connected", "connected"]);
    fixture.pool.sftp(&far, LONG).await.unwrap();
    fixture.pool.close(LONG).await;
}

#[tokio::test]
async fn a_wrong_host_key_on_the_way_or_behind_it_is_refused() {
    let (first, peer) = (TestSshd::start(), TestSshd::start());
    let policy = policy_of(&[&first, &peer]);
    let far = behind(&peer, &[&first]);
    first.write_known_hosts("known_hosts", "user");
    let error = Fixture::new(policy.clone()).fail(&far).await;
    assert_eq!(error.reason(), "host_key");
    let told = error_chain(&error);
    let begin =
        format!("could not reach {far} by way of {}: host key of [127.0.0.1]:{} has changed", first.peer(), first.port);
    assert!(told.starts_with(&begin), "{told}");

    first.write_known_hosts("known_hosts", "host_ed25519");
    fs::write(peer.path("known_hosts"), "").unwrap();
    let error = Fixture::new(policy).fail(&far).await;
    let told = error_chain(&error);
    assert!(told.starts_with(&format!("host key of [127.0.0.1]:{} is not known", peer.port)), "{told}");
    let way = format!("`ssh ssh://root@127.0.0.1:{} ssh-keyscan -p {} 127.0.0.1 >> ", first.port, peer.port);
    assert!(told.contains(&way), "{told}");
    let login = format!("`ssh -J root@127.0.0.1:{} -p {} root@127.0.0.1`", first.port, peer.port);
    assert!(told.contains(&login), "{told}");
}

/// What is said when `hop` does not take us to `peer`.
async fn why_not(hop: &TestSshd, peer: &Peer) -> String {
    let error = Fixture::new(hop.policy()).fail(peer).await;
    assert_eq!(error.reason(), "unreachable");
    error_chain(&error)
}

#[tokio::test]
async fn a_host_on_the_way_that_does_not_take_us_on_says_why() {
    let (hop, peer) = (TestSshd::start_with("AllowTcpForwarding no"), TestSshd::start());
    let told = why_not(&hop, &behind(&peer, &[&hop])).await;
    let target = format!("[127.0.0.1]:{}", peer.port);
    assert!(
        told.contains(&format!(
            "by way of {}: it does not open a connection to {target}: its sshd forbids that",
            hop.peer()
        )),
        "{told}"
    );

    let hop = TestSshd::start();
    let closed = ClosedPort::new();
    let nobody = Peer { port: closed.port, ..behind(&peer, &[&hop]) };
    let told = why_not(&hop, &nobody).await;
    assert!(told.ends_with(&format!("[127.0.0.1]:{}: it gets no connection there", nobody.port)), "{told}");

    let absent = Peer { port: closed.port, ..hop.peer() };
    let reach = Reach { jumps: vec![absent.clone()], ..Reach::default() };
    let told = why_not(&hop, &Peer { reach: Arc::new(reach), ..peer.peer() }).await;
    assert!(
        told.starts_with(&format!("could not reach {} by way of {absent}: could not connect to", peer.peer())),
        "{told}"
    );
}

#[tokio::test]
async fn a_login_that_is_refused_on_the_way_names_the_host() {
    let (hop, peer) = (TestSshd::start(), TestSshd::start());
    keygen(hop.dir.path(), "stranger", "ed25519", "");
    let reach = Reach { jumps: vec![hop.peer_with_key("stranger")], ..Reach::default() };
    let error = Fixture::new(policy_of(&[&hop, &peer])).fail(&Peer { reach: Arc::new(reach), ..peer.peer() }).await;
    assert_eq!(error.reason(), "auth");
    assert!(error_chain(&error).contains(&format!("by way of {0}: {0} refused the login", hop.peer())), "{error:?}");
}

#[tokio::test]
async fn one_bound_holds_for_the_whole_way() {
    let hop = TestSshd::start();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let peer = Peer { port, ..behind(&hop, &[&hop]) };
    let policy = SshPolicy { connect_timeout: Duration::from_millis(1500), ..hop.policy() };
    let error = Fixture::new(policy).fail(&peer).await;
    assert_eq!(error.reason(), "timeout");
    // Where it comes to an end depends on how long the way is to the silent one.
    assert!(error.to_string().ends_with(" took longer than 1.5s"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_through_a_jump_ends_the_command_and_the_connections_on_the_way() {
    let (hop, peer) = (TestSshd::start(), TestSshd::start());
    let fixture = Fixture::new(policy_of(&[&hop, &peer]));
    let far = behind(&peer, &[&hop]);
    fixture.pool.warm(&far).await.unwrap();
    let error = fixture.pool.exec(&far, "exec sleep 600", b"", Duration::from_secs(3)).await.unwrap_err();
    assert_eq!(error.reason(), "timeout");
    hop.wait_for_log("Connection reset by");
    // The next command finds a way of its own.
    fixture.run(&far, "true").await;
    assert_eq!(hop.logins(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jump_that_dies_ends_the_command_behind_it() {
    let (hop, peer) = (TestSshd::start(), TestSshd::start());
    let fixture = Fixture::new(policy_of(&[&hop, &peer]));
    let (pool, far) = (fixture.pool.clone(), behind(&peer, &[&hop]));
    // More than every window on the way, to a command that reads none of it.
    let stdin = vec![b'x'; 16 << 20];
    let mut stuck = JoinSet::new();
    stuck.spawn(async move { pool.exec(&far, "exec sleep 600", &stdin, LONG * 2).await });
    peer.wait_for_log("Starting session: command");
    for pid in children(hop.pid()) {
        kill(pid);
    }
    let ended = tokio::time::timeout(LONG, stuck.join_next()).await.expect("it ends").expect("a task");
    let error = ended.unwrap().unwrap_err();
    assert!(matches!(error, SshError::Lost { .. }), "{error:?}");
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn the_system_s_ssh_goes_the_same_way_under_the_same_policy() {
    let (first, second, peer) = (TestSshd::start(), TestSshd::start(), TestSshd::start());
    fs::create_dir(first.path("odd 100% 'dir\\")).unwrap();
    fs::rename(first.path("known_hosts"), first.path("odd 100% 'dir\\/known")).unwrap();
    let mut policy = policy_of(&[&first, &second, &peer]);
    policy.known_hosts[0] = first.path("odd 100% 'dir\\/known");
    let run_ssh = |policy: &SshPolicy, peer: &Peer| {
        let argv = Fixture::new(policy.clone()).pool.openssh_command(peer);
        let mut command = Command::new(&argv[0]);
        command.args(["-F", "none"]).args(&argv[1..]).args(["-l", "root", "127.0.0.1", "echo ${SSH_CONNECTION##* }"]);
        command.env_remove("SSH_AUTH_SOCK").env("HOME", first.dir.path()).output().unwrap()
    };
    for hops in [&[&first][..], &[&first, &second]] {
        let output = run_ssh(&policy, &behind(&peer, hops));
        assert_eq!(text(&output.stdout), format!("{}\n", peer.port), "{}", text(&output.stderr));
    }
    policy.known_hosts.remove(0);
    let output = run_ssh(&policy, &behind(&peer, &[&first, &second]));
    assert!(text(&output.stderr).contains("Host key verification failed"), "{}", text(&output.stderr));
}

#[test]
fn the_system_s_ssh_is_told_only_what_the_configuration_says() {
    let policy = SshPolicy {
        connect_timeout: Duration::from_secs(10),
        host_key_policy: crate::config::HostKeyPolicy::Strict,
        known_hosts: vec!["/k".into()],
        unsaid: crate::config::Unsaid { connect_timeout: true, known_hosts: true },
    };
    let pool = Pool::new(policy, Events::new(Vec::new()));
    let command = |reach: Reach| {
        let peer = Peer { user: "u".into(), host: "h".into(), port: 7, private_key: None, reach: Arc::new(reach) };
        let argv: Vec<_> = pool.openssh_command(&peer).into_iter().map(|arg| arg.into_string().unwrap()).collect();
        argv.join(" ")
    };
    let policy = "-o BatchMode=yes -o StrictHostKeyChecking=yes";
    let rest =
        "-o ServerAliveInterval=10 -o ServerAliveCountMax=3 -o Ciphers=^aes128-gcm@openssh.com,aes256-gcm@openssh.com";
    let left = LeftToSsh { port: true, way: true };
    let timeout = Some(Duration::from_secs(3));
    let all_left =
        Reach { left, host_name: Some("n".into()), connect_timeout: timeout, jumps: vec![], ..Reach::default() };
    assert_eq!(command(all_left), format!("ssh {policy} {rest}"));
    assert_eq!(command(Reach { left, ..Reach::default() }), format!("ssh {policy} -o ConnectTimeout=10 {rest}"));
    let direct = command(Reach::default());
    assert_eq!(direct, format!("ssh -p 7 {policy} -o ConnectTimeout=10 {rest} -o ProxyCommand=none"));
}
