//! Commands and the connections that they share.

use std::fs;
use std::path::Path;

use tokio::net::TcpListener;

use super::*;
use crate::clock::Ticks;
use crate::config::HostKeyPolicy;
use crate::event::ExitStatus;
use crate::ssh::native::{ABANDONED_MAX, STDOUT_MAX};
use crate::ssh::test_sshd::{ClosedPort, TestSshd, run};

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
    let sshd = TestSshd::start();
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
    let sshd = TestSshd::start_with("MaxSessions 2");
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
    let sshd = TestSshd::start();
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

/// Runs a script that ends with `.`.
async fn script(fixture: &Fixture, peer: &Peer, script: &str) -> Result<Output, SshError> {
    fixture.pool.script(peer, format!("{script}\nprintf .\n").as_bytes(), b".", LONG).await
}

#[tokio::test]
async fn scripts_one_after_the_other_share_a_shell_and_those_at_once_do_not() {
    let sshd = TestSshd::start();
    let fixture = Fixture::new(sshd.policy());
    let peer = sshd.peer();
    let mut shells = Vec::new();
    for round in 0..5 {
        let output = script(&fixture, &peer, &format!("echo oops >&2; printf '%s ' {round} $$")).await.unwrap();
        let (said, shell) = text(&output.stdout).split_once(' ').unwrap();
        assert_eq!((said, output.status), (round.to_string().as_str(), ExitStatus::Code(0)));
        shells.push(shell.to_owned());
    }
    shells.dedup();
    assert_eq!(shells.len(), 1);
    let at_once = (0..20).map(|_| script(&fixture, &peer, "printf $$"));
    let mut shells: Vec<_> =
        futures_util::future::join_all(at_once).await.into_iter().map(|output| output.unwrap().stdout).collect();
    shells.sort();
    shells.dedup();
    assert_eq!((shells.len(), sshd.logins()), (20, 1), "each script has a shell of its own");
}

/// The channel of a shell that nobody needs is not abandoned.
#[tokio::test]
async fn scripts_at_once_do_not_wear_the_connection_out() {
    let sshd = TestSshd::start();
    let fixture = Fixture::new(sshd.policy());
    let peer = sshd.peer();
    for _ in 0..ABANDONED_MAX + 5 {
        let (one, other) = tokio::join!(script(&fixture, &peer, "sleep 0.01"), script(&fixture, &peer, "sleep 0.01"));
        assert_eq!((text(&one.unwrap().stdout), text(&other.unwrap().stdout)), (".", "."));
    }
    assert_eq!(sshd.logins(), 1);
}

#[tokio::test]
async fn a_connection_on_which_many_commands_were_given_up_is_replaced() {
    let sshd = TestSshd::start();
    let fixture = Fixture::new(sshd.policy());
    let peer = sshd.peer();
    for _ in 0..ABANDONED_MAX.div_ceil(7) {
        let calls = (0..7).map(|_| fixture.pool.exec(&peer, "exec cat /dev/zero", b"", LONG));
        let failed = futures_util::future::join_all(calls).await;
        failed.into_iter().for_each(|result| assert_eq!(result.unwrap_err().reason(), "protocol"));
    }
    assert_eq!(sshd.logins(), 1);
    fixture.run(&peer, "true").await;
    fixture.run(&peer, "true").await;
    assert_eq!(sshd.logins(), 2);
}

#[tokio::test]
async fn a_shell_that_ended_meanwhile_is_replaced() {
    let sshd = TestSshd::start();
    let fixture = Fixture::new(sshd.policy());
    let peer = sshd.peer();
    let mut last = String::new();
    for _ in 0..5 {
        let shell = text(&script(&fixture, &peer, "printf $$").await.unwrap().stdout).trim_end_matches('.').to_owned();
        assert_ne!(shell, last);
        run("kill", &["-KILL", &shell]);
        last = shell;
    }
    let output = script(&fixture, &peer, "echo said; exit 3").await.unwrap();
    assert_eq!((text(&output.stdout), output.status), ("said\n", ExitStatus::Code(3)), "it ended under the script");
}

#[tokio::test]
async fn a_shell_that_stays_leaves_its_place_to_a_command() {
    let sshd = TestSshd::start_with("MaxSessions 1");
    let fixture = Fixture::new(sshd.policy());
    for _ in 0..3 {
        assert_eq!(text(&script(&fixture, &sshd.peer(), "printf a").await.unwrap().stdout), "a.");
        assert_eq!(text(&fixture.run(&sshd.peer(), "printf b").await.stdout), "b");
    }
}

#[tokio::test]
async fn a_shell_that_stayed_is_lost_with_its_connection_and_the_next_is_not() {
    let sshd = TestSshd::start();
    let fixture = Fixture::new(sshd.policy());
    let peer = sshd.peer();
    for _ in 0..3 {
        let server =
            text(&script(&fixture, &peer, "printf $PPID").await.unwrap().stdout).trim_end_matches('.').to_owned();
        run("kill", &["-KILL", &server]);
        match script(&fixture, &peer, "printf $PPID").await {
            Ok(output) => assert_ne!(text(&output.stdout).trim_end_matches('.'), server),
            Err(error) => assert_eq!(error.reason(), "unreachable", "{error:?}"),
        }
    }
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
    let sshd = TestSshd::start();
    let fixture = Fixture::new(sshd.policy());
    fixture.run(&sshd.peer(), "true").await;
    let error = fixture.pool.exec(&sshd.peer(), "sleep 60", b"", Duration::ZERO).await.unwrap_err();
    assert_eq!(error.reason(), "timeout");
    let error = fixture.pool.exec(&sshd.peer(), "sleep 60", b"", Duration::from_millis(200)).await.unwrap_err();
    assert_eq!(error.to_string(), format!("running a command on root@127.0.0.1:{} took longer than 200ms", sshd.port));
    sshd.wait_for_log("Connection reset by");
    fixture.run(&sshd.peer(), "true").await;
}

#[tokio::test]
async fn dropped_calls_leave_a_connection_that_works() {
    let sshd = TestSshd::start();
    let fixture = Fixture::new(sshd.policy());
    let peer = sshd.peer();
    // In the middle of connecting, at all stages of it; then in the middle of commands, more of them than there are slots.
    for milliseconds in [0, 1, 2, 5, 10, 20, 40] {
        let call = fixture.pool.warm(&peer);
        let _ = tokio::time::timeout(Duration::from_millis(milliseconds), call).await;
    }
    fixture.pool.warm(&peer).await.unwrap();
    // They would run for ever, and hold the server's slots, if their channels stayed open.
    for microseconds in (0..60).map(|n| n * 100) {
        let call = fixture.pool.exec(&peer, "exec cat /dev/zero", b"x", LONG);
        let _ = tokio::time::timeout(Duration::from_micros(microseconds), call).await;
    }
    assert_eq!(text(&fixture.run(&peer, "echo fine").await.stdout), "fine\n");
    assert_eq!(fixture.events(), ["connected"], "the connection survived");
}

#[tokio::test]
async fn waiters_share_one_failure_and_the_next_tries_anew() {
    let closed = ClosedPort::new();
    let port = closed.port;
    let peer =
        Peer { user: "root".into(), host: "127.0.0.1".into(), port, private_key: None, reach: Default::default() };
    let policy = SshPolicy {
        connect_timeout: LONG,
        host_key_policy: HostKeyPolicy::Strict,
        known_hosts: Vec::new(),
        unsaid: Default::default(),
    };
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
    let peer =
        Peer { user: "root".into(), host: "127.0.0.1".into(), port, private_key: None, reach: Default::default() };
    let policy = SshPolicy {
        connect_timeout: Duration::from_millis(300),
        host_key_policy: HostKeyPolicy::Strict,
        known_hosts: Vec::new(),
        unsaid: Default::default(),
    };
    let fixture = Fixture::new(policy);
    let begin = Ticks::now();
    let error = fixture.fail(&peer).await;
    assert!((Duration::from_millis(300)..Duration::from_secs(20)).contains(&begin.elapsed()), "{:?}", begin.elapsed());
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
    let (error, received) = tokio::join!(call, tokio::time::timeout(LONG, introduce));
    assert_eq!(error.unwrap().reason(), "timeout");
    assert!(received.expect("the connection is given up").starts_with(b"SSH-2.0-rsyncdirector_"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_idle_connection_is_closed_politely() {
    let sshd = TestSshd::start();
    let fixture = Fixture::with(sshd.policy(), Sources::default(), Duration::from_secs(2));
    // Longer than the bound, so not idle.
    assert_eq!(text(&fixture.run(&sshd.peer(), "sleep 3; echo late").await.stdout), "late\n");
    sshd.wait_for_log("Received disconnect from");
    fixture.run(&sshd.peer(), "true").await;
    assert_eq!(sshd.logins(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn close_says_goodbye_and_is_bounded() {
    let sshd = TestSshd::start();
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
