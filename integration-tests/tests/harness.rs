//! The parts that the other tests stand on do what their names say, tried by OpenSSH's own client.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use integration_tests::peers::{BlackHole, Mute, Proxy, Refusing};
use integration_tests::prometheus::Prometheus;
use integration_tests::{Sandbox, Sshd, procs, sandbox, wait};

/// The system's ssh, running a command at an address.
fn ssh(sandbox: &Sandbox, addr: SocketAddr, command: &str) -> Child {
    let known = sandbox.expand("UserKnownHostsFile=@/known_hosts");
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", &known, "-i"]).arg(sandbox.user_key());
    ssh.args(["-p", &addr.port().to_string(), &format!("{}@{}", sandbox::user(), addr.ip()), command]);
    ssh.stdin(Stdio::null()).spawn().expect("ssh starts")
}

fn succeeds(mut child: Child) -> bool {
    child.wait().expect("wait for our child").success()
}

#[test]
fn an_sshd_takes_the_sandboxes_key_and_counts_connections() {
    let sandbox = Sandbox::new();
    let sshd = Sshd::start(&sandbox, "peer");
    assert!(succeeds(ssh(&sandbox, sshd.addr(), "true")));
    assert!(succeeds(ssh(&sandbox, sshd.addr(), "true")));
    assert_eq!(sshd.connections(), 2);
}

#[test]
fn a_remote_shell_has_the_sandbox_for_its_home() {
    let sandbox = Sandbox::new();
    let sshd = Sshd::start(&sandbox, "peer");
    assert!(succeeds(ssh(&sandbox, sshd.addr(), "touch ~/here")));
    assert!(sandbox.exists("home/here"));
}

#[test]
fn an_sshd_of_unknown_key_is_not_known() {
    let sandbox = Sandbox::new();
    let sshd = Sshd::start_unknown(&sandbox, "peer");
    assert!(!succeeds(ssh(&sandbox, sshd.addr(), "true")));
}

#[test]
fn an_sshd_takes_its_sessions_along() {
    let sandbox = Sandbox::new();
    let sshd = Sshd::start(&sandbox, "peer");
    let mut client = ssh(&sandbox, sshd.addr(), &sandbox.expand("touch @/started; exec sleep 1000"));
    wait::until("the session runs", || sandbox.exists("started"));
    let sessions = procs::descendants(sshd.pid());
    assert!(!sessions.is_empty());
    drop(sshd);
    wait::until("they are gone", || sessions.iter().all(|session| !procs::alive(session.pid)));
    client.wait().expect("wait for our child");
}

#[test]
fn a_proxy_passes_stalls_and_cuts() {
    let sandbox = Sandbox::new();
    let sshd = Sshd::start(&sandbox, "peer");
    let proxy = Proxy::before(&sandbox, &sshd);
    assert!(succeeds(ssh(&sandbox, proxy.addr(), "true")));

    proxy.stall();
    let mut stalled = ssh(&sandbox, proxy.addr(), "true");
    wait::until("it is connected", || sshd.connections() == 2);
    assert!(stalled.try_wait().expect("wait for our child").is_none());
    proxy.resume();
    assert!(succeeds(stalled));

    let held = ssh(&sandbox, proxy.addr(), &sandbox.expand("touch @/held; exec sleep 1000"));
    wait::until("the session runs", || sandbox.exists("held"));
    proxy.cut();
    assert!(!succeeds(held));
    proxy.refuse();
    assert!(!succeeds(ssh(&sandbox, proxy.addr(), "true")));
    proxy.accept();
    assert!(succeeds(ssh(&sandbox, proxy.addr(), "true")));
}

#[test]
fn a_black_hole_answers_nothing_and_a_mute_host_accepts() {
    let limit = Duration::from_millis(300);
    let hole = BlackHole::open();
    let answer = TcpStream::connect_timeout(&hole.addr(), limit);
    assert_eq!(answer.expect_err("no connection").kind(), std::io::ErrorKind::TimedOut);
    let mute = Mute::open();
    let _connection = TcpStream::connect_timeout(&mute.addr(), limit).expect("it accepts");
    assert_eq!(procs::established_to(mute.addr()), 1);
}

#[test]
fn a_prometheus_answers_queries() {
    let sandbox = Sandbox::new();
    let target = Refusing::open();
    let prometheus = Prometheus::scraping(&sandbox, target.addr());
    assert!(matches!(prometheus.query("vector(2)")[..], [(_, 2.0)]));
    wait::until("it has tried to scrape", || matches!(prometheus.query("up")[..], [(_, 0.0)]));
}
