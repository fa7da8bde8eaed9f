//! The client against a real sshd.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::TcpListener;

use super::keys::Sources;
use super::native::STDOUT_MAX;
use super::test_sshd::{TestSshd, chmod, free_port, keygen, run};
use super::*;
use crate::clock::Ticks;
use crate::config::{HostKeyPolicy, Peer, SshPolicy};
use crate::event::{Events, ExitStatus, Observer, RunEvent};

const LONG: Duration = Duration::from_secs(30);

/// Counts what the pool reports.
#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl Observer for Recorder {
    fn observe(&self, _at: Timestamp, event: &RunEvent) {
        let text = match event {
            RunEvent::PeerConnected { .. } => "connected".to_owned(),
            RunEvent::PeerFailed { reason, .. } => (*reason).to_owned(),
            other => panic!("unexpected {other:?}"),
        };
        self.0.lock().unwrap().push(text);
    }
}

struct Fixture {
    pool: Pool,
    recorder: Arc<Recorder>,
}

impl Fixture {
    fn new(policy: SshPolicy) -> Self {
        Self::with(policy, Sources::default(), LONG)
    }

    fn with(policy: SshPolicy, sources: Sources, idle_max: Duration) -> Self {
        let recorder = Arc::new(Recorder::default());
        let events = Events::new(vec![Arc::clone(&recorder) as Arc<dyn Observer>]);
        Self { pool: Pool::with(policy, events, sources, idle_max), recorder }
    }

    async fn run(&self, peer: &Peer, command: &str) -> Output {
        self.pool.exec(peer, command, b"", LONG).await.unwrap()
    }

    async fn fail(&self, peer: &Peer) -> SshError {
        self.pool.exec(peer, "true", b"", LONG).await.unwrap_err()
    }

    fn events(&self) -> Vec<String> {
        self.recorder.0.lock().unwrap().clone()
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_command_gets_its_input_and_gives_output_and_status() {
    let sshd = TestSshd::start();
    let fixture = Fixture::new(sshd.policy());
    let command = "cat; echo oops >&2; exit 3";
    let output = fixture.pool.exec(&sshd.peer(), command, b"in\0put\n", LONG).await.unwrap();
    let expected = Output { status: ExitStatus::Code(3), stdout: b"in\0put\n".to_vec(), stderr: b"oops\n".to_vec() };
    assert_eq!(output, expected);
    assert_eq!(fixture.run(&sshd.peer(), "kill -TERM $$").await.status, ExitStatus::Signal(15));
    // A command that ends without reading a large input.
    let large = vec![b'x'; 8 << 20];
    let output = fixture.pool.exec(&sshd.peer(), "echo done", &large, LONG).await.unwrap();
    assert_eq!(text(&output.stdout), "done\n");
    // One that writes while it is fed.
    let output = fixture.pool.exec(&sshd.peer(), "cat", &large[..STDOUT_MAX], LONG).await.unwrap();
    assert_eq!(output.stdout.len(), STDOUT_MAX);
    assert_eq!(fixture.events(), ["connected"]);
}

#[tokio::test]
async fn output_beyond_the_bounds_is_an_error_or_cut() {
    let sshd = TestSshd::start();
    let fixture = Fixture::new(sshd.policy());
    let command = format!("head -c {} /dev/zero", STDOUT_MAX + 1);
    let error = fixture.pool.exec(&sshd.peer(), &command, b"", LONG).await.unwrap_err();
    assert_eq!(error.reason(), "protocol");
    let endless = fixture.pool.exec(&sshd.peer(), "cat /dev/zero", b"", LONG).await.unwrap_err();
    assert_eq!(endless.reason(), "protocol");
    let noisy = fixture.run(&sshd.peer(), "head -c 1000000 /dev/zero >&2; echo fine").await;
    assert_eq!((text(&noisy.stdout), noisy.stderr.len()), ("fine\n", 64 * 1024));
    assert_eq!(fixture.events(), ["connected"]);
}

#[tokio::test]
async fn twenty_commands_at_once_share_one_connection() {
    let mut sshd = TestSshd::start();
    let fixture = Fixture::new(sshd.policy());
    let peer = sshd.peer();
    let commands: Vec<_> = (0..20).map(|n| format!("sleep 0.05; echo {n}")).collect();
    let outputs =
        futures_util::future::join_all(commands.iter().map(|command| fixture.pool.exec(&peer, command, b"", LONG)));
    for (n, output) in outputs.await.into_iter().enumerate() {
        assert_eq!(text(&output.unwrap().stdout), format!("{n}\n"));
    }
    assert_eq!((sshd.logins(), fixture.events()), (1, vec!["connected".to_owned()]));
}

#[tokio::test]
async fn a_server_with_fewer_slots_than_commands_is_waited_for() {
    let mut sshd = TestSshd::start_with("MaxSessions 2");
    let fixture = Fixture::new(sshd.policy());
    let peer = sshd.peer();
    let commands = (0..8).map(|_| fixture.pool.exec(&peer, "sleep 0.02; echo ok", b"", LONG));
    for output in futures_util::future::join_all(commands).await {
        assert_eq!(text(&output.unwrap().stdout), "ok\n");
    }
    assert_eq!(sshd.logins(), 1);
}

#[tokio::test]
async fn peers_have_connections_of_their_own() {
    let (mut one, mut two) = (TestSshd::start(), TestSshd::start());
    let mut policy = one.policy();
    policy.known_hosts.extend(two.policy().known_hosts);
    let fixture = Fixture::new(policy);
    let command = "echo $SSH_CONNECTION";
    for sshd in [&mut one, &mut two] {
        let output = fixture.run(&sshd.peer(), command).await;
        assert!(text(&output.stdout).trim().ends_with(&sshd.port.to_string()), "{output:?}");
        assert_eq!(sshd.logins(), 1);
    }
}

#[tokio::test]
async fn a_dead_pooled_connection_is_replaced() {
    let mut sshd = TestSshd::start();
    let fixture = Fixture::new(sshd.policy());
    let peer = sshd.peer();
    let server = text(&fixture.run(&peer, "echo $PPID").await.stdout).trim().parse::<u32>().unwrap();
    for _ in 0..3 {
        let server = text(&fixture.run(&peer, "echo $PPID").await.stdout).trim().to_owned();
        run("kill", &["-KILL", &server]);
        assert_eq!(text(&fixture.run(&peer, "echo again").await.stdout), "again\n");
    }
    assert!(!Path::new(&format!("/proc/{server}")).exists());
    assert_eq!(sshd.logins(), 4);
}

#[tokio::test]
async fn a_command_whose_connection_dies_is_not_repeated() {
    let sshd = TestSshd::start();
    let fixture = Fixture::new(sshd.policy());
    let marks = sshd.path("marks");
    let command = format!("echo mark >> {}; kill -KILL $PPID; sleep 60", marks.display());
    let warm = fixture.run(&sshd.peer(), "true").await;
    assert_eq!(warm.status, ExitStatus::Code(0));
    let error = fixture.pool.exec(&sshd.peer(), &command, b"", LONG).await.unwrap_err();
    assert_eq!(error.reason(), "unreachable", "{error:?}");
    assert_eq!(fs::read_to_string(marks).unwrap(), "mark\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_command_that_takes_too_long_ends_with_its_connection() {
    let mut sshd = TestSshd::start();
    let fixture = Fixture::new(sshd.policy());
    fixture.run(&sshd.peer(), "true").await;
    let error = fixture.pool.exec(&sshd.peer(), "exec cat", b"", Duration::ZERO).await.unwrap_err();
    assert_eq!(error.reason(), "timeout");
    let error = fixture.pool.exec(&sshd.peer(), "sleep 60", b"", Duration::from_millis(200)).await.unwrap_err();
    assert_eq!(error.to_string(), format!("running a command on root@127.0.0.1:{} took longer than 200ms", sshd.port));
    sshd.wait_for_log("Connection closed by");
    fixture.run(&sshd.peer(), "true").await;
}

#[tokio::test]
async fn dropped_calls_leave_a_connection_that_works() {
    let mut sshd = TestSshd::start();
    let fixture = Fixture::new(sshd.policy());
    let peer = sshd.peer();
    // In the middle of connecting, at all stages of it; then in the middle of commands, more of them than there are slots.
    for milliseconds in [0, 1, 2, 5, 10, 20, 40] {
        let call = fixture.pool.warm(&peer);
        let _ = tokio::time::timeout(Duration::from_millis(milliseconds), call).await;
    }
    fixture.pool.warm(&peer).await.unwrap();
    let before = fixture.events().len();
    for microseconds in (0..60).map(|n| n * 100) {
        let call = fixture.pool.exec(&peer, "exec cat >/dev/null", b"x", LONG);
        let _ = tokio::time::timeout(Duration::from_micros(microseconds), call).await;
    }
    assert_eq!(text(&fixture.run(&peer, "echo fine").await.stdout), "fine\n");
    assert_eq!(fixture.events().len(), before, "no new connection was needed");
    assert!(sshd.logins() >= 1);
}

#[tokio::test]
async fn waiters_share_one_failure_and_the_next_tries_anew() {
    let port = free_port();
    let peer = Peer { user: "root".into(), host: "127.0.0.1".into(), port, private_key: None };
    let policy = SshPolicy { connect_timeout: LONG, host_key_policy: HostKeyPolicy::Strict, known_hosts: Vec::new() };
    let fixture = Fixture::new(policy);
    let calls = (0..5).map(|_| fixture.fail(&peer));
    for error in futures_util::future::join_all(calls).await {
        assert_eq!(error.to_string(), format!("could not connect to root@127.0.0.1:{port} (127.0.0.1:{port})"));
        assert_eq!(error.reason(), "unreachable");
    }
    assert_eq!(fixture.events(), ["unreachable"]);
    fixture.fail(&peer).await;
    assert_eq!(fixture.events(), ["unreachable", "unreachable"]);
}

#[tokio::test]
async fn a_name_without_address_is_unreachable() {
    let sshd = TestSshd::start();
    let fixture = Fixture::new(sshd.policy());
    let peer = Peer { host: "no-such-host.invalid".into(), ..sshd.peer() };
    let error = fixture.fail(&peer).await;
    assert_eq!(error.to_string(), "could not resolve host name no-such-host.invalid");
    assert_eq!(error.reason(), "unreachable");
}

#[tokio::test]
async fn a_listener_that_never_answers_is_bounded() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let peer = Peer { user: "root".into(), host: "127.0.0.1".into(), port, private_key: None };
    let policy = SshPolicy {
        connect_timeout: Duration::from_millis(300),
        host_key_policy: HostKeyPolicy::Strict,
        known_hosts: Vec::new(),
    };
    let fixture = Fixture::new(policy);
    let begin = Ticks::now();
    let error = fixture.fail(&peer).await;
    assert!((Duration::from_millis(300)..Duration::from_secs(5)).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    assert_eq!(error.to_string(), format!("key exchange with root@127.0.0.1:{port} took longer than 300ms"));
    // One that introduces itself and then falls silent must not be held on to either.
    let (silent, _) = listener.accept().await.unwrap();
    drop(silent);
    let call = tokio::time::timeout(LONG, fixture.fail(&peer));
    let introduce = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"SSH-2.0-silent\r\n").await.unwrap();
        let mut received = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut received).await.unwrap();
        received
    };
    let (error, received) = tokio::join!(call, introduce);
    assert_eq!(error.unwrap().reason(), "timeout");
    assert!(received.starts_with(b"SSH-2.0-rsyncdirector_"));
}

#[tokio::test]
async fn an_unknown_host_key_is_refused_with_the_command_that_accepts_it() {
    let sshd = TestSshd::start();
    fs::write(sshd.path("known_hosts"), "").unwrap();
    let fixture = Fixture::new(sshd.policy());
    let error = fixture.fail(&sshd.peer()).await;
    let (port, file) = (sshd.port, sshd.path("known_hosts"));
    let message = error.to_string();
    assert_eq!(error.reason(), "host_key");
    assert!(
        message.starts_with(&format!("host key of [127.0.0.1]:{port} is not known: it offered ssh-ed25519 SHA256:"))
    );
    assert!(message.contains(&format!("`ssh-keyscan -p {port} 127.0.0.1 >> {}`", file.display())), "{message}");
    assert!(message.contains(&format!("`ssh -p {port} root@127.0.0.1`")), "{message}");
    assert_eq!(fs::read_to_string(file).unwrap(), "");
    assert_eq!(fixture.events(), ["host_key"]);
}

#[tokio::test]
async fn a_changed_or_revoked_host_key_is_refused_under_every_policy() {
    let sshd = TestSshd::start();
    let file = sshd.path("known_hosts");
    let fixture = Fixture::new(SshPolicy { host_key_policy: HostKeyPolicy::AcceptNew, ..sshd.policy() });
    sshd.write_known_hosts("known_hosts", "user");
    let error = fixture.fail(&sshd.peer()).await.to_string();
    assert!(error.starts_with(&format!("host key of [127.0.0.1]:{} has changed", sshd.port)), "{error}");
    assert!(error.contains(&format!("{}:1 lists another", file.display())), "{error}");
    let command = format!("`ssh-keygen -R '[127.0.0.1]:{}' -f {}`", sshd.port, file.display());
    assert!(error.contains(&command), "{error}");

    fs::write(&file, format!("# revoked\n@revoked * {}", sshd.public_key("host_ed25519"))).unwrap();
    let error = fixture.fail(&sshd.peer()).await;
    assert!(error.to_string().contains(&format!("is revoked: {}:2", file.display())), "{error}");
    assert_eq!(fixture.events(), ["host_key", "host_key"]);
}

#[tokio::test]
async fn accept_new_records_the_key_once() {
    let sshd = TestSshd::start();
    let file = sshd.path("new/dir/known_hosts");
    let policy = SshPolicy {
        host_key_policy: HostKeyPolicy::AcceptNew,
        known_hosts: vec![file.clone(), sshd.path("absent")],
        ..sshd.policy()
    };
    Fixture::new(policy.clone()).run(&sshd.peer(), "true").await;
    let key = sshd.public_key("host_ed25519");
    let key = key.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let line = format!("[127.0.0.1]:{} {key}\n", sshd.port);
    assert_eq!(fs::read_to_string(&file).unwrap(), line);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(file.parent().unwrap()), mode(&file)), (0o700, 0o600));

    Fixture::new(SshPolicy { host_key_policy: HostKeyPolicy::Strict, ..policy.clone() })
        .run(&sshd.peer(), "true")
        .await;
    assert_eq!(fs::read_to_string(&file).unwrap(), line);
    // A file whose last line is not ended, as editors leave it.
    fs::write(&file, "other.example ssh-ed25519 AAAA").unwrap();
    Fixture::new(policy).run(&sshd.peer(), "true").await;
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("other.example ssh-ed25519 AAAA\n{line}"));
}

#[tokio::test]
async fn accept_new_without_a_place_to_record_refuses() {
    let sshd = TestSshd::start();
    let policy = SshPolicy {
        host_key_policy: HostKeyPolicy::AcceptNew,
        known_hosts: vec![sshd.path("user").join("known_hosts")],
        ..sshd.policy()
    };
    let error = Fixture::new(policy).fail(&sshd.peer()).await;
    assert_eq!(error.reason(), "host_key");
    assert!(error.to_string().starts_with("could not record the host key of [127.0.0.1]:"), "{error}");
}

#[tokio::test]
async fn the_type_of_host_key_that_is_known_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    for (name, key_type) in [("host_ed25519", "ed25519"), ("host_rsa", "rsa"), ("user", "ed25519")] {
        keygen(dir.path(), name, key_type, "");
    }
    fs::copy(dir.path().join("user.pub"), dir.path().join("authorized_keys")).unwrap();
    let sshd = TestSshd::run_in(dir, "");
    for key in ["host_rsa", "host_ed25519"] {
        sshd.write_known_hosts("known_hosts", key);
        Fixture::new(sshd.policy()).run(&sshd.peer(), "true").await;
    }
}

#[tokio::test]
async fn a_host_certificate_of_a_listed_authority_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["host_ed25519", "ca", "user"] {
        keygen(dir.path(), name, "ed25519", "");
    }
    fs::copy(dir.path().join("user.pub"), dir.path().join("authorized_keys")).unwrap();
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    run("ssh-keygen", &["-q", "-s", &path("ca"), "-I", "t", "-h", "-n", "127.0.0.1", &path("host_ed25519.pub")]);
    let config = format!("HostCertificate {}", path("host_ed25519-cert.pub"));
    let sshd = TestSshd::run_in(dir, &config);
    fs::write(sshd.path("known_hosts"), format!("@cert-authority * {}", sshd.public_key("ca"))).unwrap();
    Fixture::new(sshd.policy()).run(&sshd.peer(), "true").await;
    fs::write(sshd.path("known_hosts"), format!("@cert-authority * {}", sshd.public_key("user"))).unwrap();
    assert_eq!(Fixture::new(sshd.policy()).fail(&sshd.peer()).await.reason(), "host_key");
}

#[tokio::test]
async fn key_files_that_cannot_be_used_are_named() {
    let sshd = TestSshd::start();
    let fixture = Fixture::new(sshd.policy());
    keygen(sshd.dir.path(), "locked", "ed25519", "secret");
    fs::write(sshd.path("junk"), "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n").unwrap();
    fs::write(sshd.path("open"), fs::read(sshd.path("user")).unwrap()).unwrap();
    chmod(&sshd.path("junk"), 0o600);
    chmod(&sshd.path("open"), 0o640);
    chmod(&sshd.path("user.pub"), 0o600);
    for (key, expected) in [
        ("open", "permissions 0640 of private key DIR/open are too open: `chmod 600 DIR/open`"),
        ("absent", "could not read private key DIR/absent"),
        ("junk", "DIR/junk is not a private key that can be used"),
        ("user.pub", "DIR/user.pub is a public key; name the private key that belongs to it (the file without `.pub`)"),
        (
            "locked",
            "private key DIR/locked has a passphrase and there is no agent (SSH_AUTH_SOCK is not set): load it by \
             `ssh-add DIR/locked`, or use a key without one",
        ),
    ] {
        let error = fixture.fail(&sshd.peer_with_key(key)).await;
        assert_eq!(error.to_string().replace(&*sshd.dir.path().to_string_lossy(), "DIR"), expected);
        assert_eq!(error.reason(), "key");
    }
    assert_eq!(fixture.events(), ["key"; 5]);
}

#[tokio::test]
async fn every_kind_of_key_logs_in() {
    let sshd = TestSshd::start();
    let mut accepted = String::new();
    for (name, key_type) in [("rsa", "rsa"), ("ecdsa", "ecdsa"), ("pem", "rsa"), ("pkcs8", "ecdsa")] {
        keygen(sshd.dir.path(), name, key_type, "");
        if name != key_type {
            let path = sshd.path(name).to_string_lossy().into_owned();
            run("ssh-keygen", &["-q", "-p", "-N", "", "-m", name, "-f", &path]);
        }
        accepted.push_str(&sshd.public_key(name));
    }
    fs::write(sshd.path("authorized_keys"), accepted).unwrap();
    for name in ["rsa", "ecdsa", "pem", "pkcs8"] {
        let output = Fixture::new(sshd.policy()).run(&sshd.peer_with_key(name), "echo in").await;
        assert_eq!(text(&output.stdout), "in\n", "{name}");
    }
}

#[tokio::test]
async fn default_keys_are_tried_in_order_and_a_refusal_lists_them() {
    let sshd = TestSshd::start();
    fs::create_dir(sshd.path(".ssh")).unwrap();
    for (name, key_type, passphrase) in
        [("id_rsa", "rsa", ""), ("id_ecdsa", "ecdsa", "secret"), ("id_ed25519", "ed25519", "")]
    {
        keygen(&sshd.path(".ssh"), name, key_type, passphrase);
    }
    let sources = Sources { agent: None, home: Some(sshd.dir.path().to_path_buf()) };
    let fixture = Fixture::with(sshd.policy(), sources.clone(), LONG);
    let peer = Peer { private_key: None, ..sshd.peer() };
    let error = fixture.fail(&peer).await;
    let message = error.to_string().replace(&*sshd.dir.path().to_string_lossy(), "HOME");
    assert_eq!(error.reason(), "auth");
    let (rsa, ed25519) = (message.find("HOME/.ssh/id_rsa SHA256:"), message.find("HOME/.ssh/id_ed25519 SHA256:"));
    assert!(rsa.is_some() && rsa < ed25519, "{message}");
    assert!(message.ends_with("; not usable: HOME/.ssh/id_ecdsa has a passphrase"), "{message}");

    fs::copy(sshd.path(".ssh/id_ed25519.pub"), sshd.path("authorized_keys")).unwrap();
    fixture.run(&peer, "true").await;
    assert_eq!(fixture.events(), ["auth", "connected"]);

    let nothing = Fixture::with(sshd.policy(), Sources::default(), LONG).fail(&peer).await;
    assert!(nothing.to_string().contains("no key to offer"), "{nothing}");
}

#[tokio::test]
async fn a_refused_login_is_not_taken_for_a_lost_connection() {
    let sshd = TestSshd::start_with("MaxAuthTries 1");
    keygen(sshd.dir.path(), "stranger", "ed25519", "");
    let error = Fixture::new(sshd.policy()).fail(&sshd.peer_with_key("stranger")).await;
    assert_eq!(error.reason(), "auth", "{error}");
    assert!(error.to_string().contains(&format!("{} SHA256:", sshd.path("stranger").display())), "{error}");
}

/// A private ssh-agent, ended when dropped.
struct Agent(std::process::Child, Sources);

impl Agent {
    fn start(dir: &Path) -> Self {
        let socket = dir.join("agent");
        let mut command = Command::new("ssh-agent");
        let child = command.arg("-D").arg("-a").arg(&socket).stdout(Stdio::piped()).spawn().expect("ssh-agent");
        let mut agent = Self(child, Sources { agent: Some(socket), home: None });
        // It announces its socket when that is there.
        let stdout = agent.0.stdout.as_mut().expect("a piped standard output");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut String::new()).unwrap();
        agent
    }

    fn add(&self, key: &Path) {
        let socket = self.1.agent.as_ref().unwrap();
        let status = Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", socket).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_agent_signs_for_default_and_for_locked_keys() {
    let sshd = TestSshd::start();
    let agent = Agent::start(sshd.dir.path());
    let sources = agent.1.clone();
    let fixture = Fixture::with(sshd.policy(), sources, LONG);
    fs::copy(sshd.path("user"), sshd.path("locked")).unwrap();
    let locked = sshd.path("locked").to_string_lossy().into_owned();
    run("ssh-keygen", &["-q", "-p", "-N", "secret", "-f", &locked]);

    let error = fixture.fail(&sshd.peer_with_key("locked")).await;
    assert!(error.to_string().contains("has a passphrase and the agent does not have it"), "{error}");
    agent.add(&sshd.path("user"));
    fixture.run(&sshd.peer_with_key("locked"), "true").await;
    fixture.run(&Peer { private_key: None, ..sshd.peer() }, "true").await;
    assert_eq!(fixture.events(), ["key", "connected", "connected"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_idle_connection_is_closed_politely() {
    let mut sshd = TestSshd::start();
    let fixture = Fixture::with(sshd.policy(), Sources::default(), Duration::from_millis(300));
    // Longer than the bound, so not idle.
    assert_eq!(text(&fixture.run(&sshd.peer(), "sleep 0.6; echo late").await.stdout), "late\n");
    sshd.wait_for_log("Received disconnect from");
    fixture.run(&sshd.peer(), "true").await;
    assert_eq!(sshd.logins(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn close_says_goodbye_and_is_bounded() {
    let mut sshd = TestSshd::start();
    let fixture = Fixture::new(sshd.policy());
    fixture.pool.warm(&sshd.peer()).await.unwrap();
    let peer = sshd.peer();
    let running = fixture.pool.exec(&peer, "sleep 60", b"", LONG);
    let close = async {
        fixture.run(&sshd.peer(), "true").await;
        fixture.pool.close(LONG).await;
    };
    let (running, ()) = tokio::join!(running, close);
    assert_eq!(running.unwrap_err().reason(), "unreachable");
    sshd.wait_for_log("Received disconnect from");
    // A server that is stopped does not take part.
    fixture.run(&sshd.peer(), "true").await;
    let server = text(&fixture.run(&sshd.peer(), "echo $PPID").await.stdout).trim().to_owned();
    run("kill", &["-STOP", &server]);
    let begin = Ticks::now();
    fixture.pool.close(Duration::from_millis(300)).await;
    run("kill", &["-CONT", &server]);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn the_command_for_rsync_follows_the_same_policy() {
    let sshd = TestSshd::start();
    fs::create_dir(sshd.path("odd dir 100%")).unwrap();
    fs::rename(sshd.path("known_hosts"), sshd.path("odd dir 100%/known \"hosts\"")).unwrap();
    fs::copy(sshd.path("user"), sshd.path("odd dir 100%/key")).unwrap();
    chmod(&sshd.path("odd dir 100%/key"), 0o600);
    let known_hosts = vec![sshd.path("absent"), sshd.path("odd dir 100%/known \"hosts\"")];
    let fixture = Fixture::new(SshPolicy { known_hosts, ..sshd.policy() });
    let run_ssh = |fixture: &Fixture, key: &str| {
        let argv = fixture.pool.openssh_command(&sshd.peer_with_key(key));
        let mut command = Command::new(&argv[0]);
        command.args(["-F", "none"]).args(&argv[1..]).args(["-l", "root", "127.0.0.1", "echo there"]);
        command.env_remove("SSH_AUTH_SOCK").output().unwrap()
    };
    let output = run_ssh(&fixture, "odd dir 100%/key");
    assert_eq!(text(&output.stdout), "there\n", "{}", text(&output.stderr));
    keygen(sshd.dir.path(), "stranger", "ed25519", "");
    assert!(text(&run_ssh(&fixture, "stranger").stderr).contains("Permission denied"));
    let empty = Fixture::new(SshPolicy { known_hosts: Vec::new(), ..sshd.policy() });
    assert!(text(&run_ssh(&empty, "user").stderr).contains("Host key verification failed"));
}

#[test]
fn the_command_for_rsync_is_as_documented() {
    let policy = SshPolicy {
        connect_timeout: Duration::from_millis(2500),
        host_key_policy: HostKeyPolicy::AcceptNew,
        known_hosts: vec!["/root/.ssh/known_hosts".into(), "/etc/ssh/ssh_known_hosts".into()],
    };
    let pool = Pool::new(policy, Events::new(Vec::new()));
    let key = Some("/root/.ssh/backup".into());
    let peer = Peer { user: "root".into(), host: "backup01".into(), port: 22000, private_key: key };
    let argv: Vec<_> = pool.openssh_command(&peer).into_iter().map(|arg| arg.into_string().unwrap()).collect();
    let expected = [
        "ssh",
        "-p 22000",
        "-o IdentityFile=/root/.ssh/backup",
        "-o IdentitiesOnly=yes",
        "-o BatchMode=yes",
        "-o StrictHostKeyChecking=accept-new",
        "-o UserKnownHostsFile=/root/.ssh/known_hosts /etc/ssh/ssh_known_hosts",
        "-o GlobalKnownHostsFile=/dev/null",
        "-o ConnectTimeout=3",
        "-o ServerAliveInterval=15",
        "-o ServerAliveCountMax=3",
        "-o Ciphers=^aes128-gcm@openssh.com,aes256-gcm@openssh.com",
    ];
    assert_eq!(argv.join(" "), expected.join(" "));
}
