//! Who may use the socket, and what comes of who may not.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream as Shim;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tempfile::TempDir;

use super::*;
use crate::config::{HostKeyPolicy, SshPolicy};
use crate::event::Events;
use crate::ssh::test_sshd::ClosedPort;

/// A transport, and a peer that refuses connections.
fn transport() -> (Transport, Peer, (TempDir, ClosedPort)) {
    let dir = tempfile::tempdir().expect("a directory");
    let policy = SshPolicy {
        known_hosts: vec![dir.path().join("known_hosts")],
        host_key_policy: HostKeyPolicy::Strict,
        connect_timeout: Duration::from_secs(5),
        unsaid: Default::default(),
    };
    let closed = ClosedPort::new();
    let (port, reach) = (closed.port, Default::default());
    let peer = Peer { user: "nobody".into(), host: "127.0.0.1".into(), port, private_key: None, reach };
    let transport = Transport::start(Pool::new(policy, Events::new(Vec::new()))).expect("a socket");
    (transport, peer, (dir, closed))
}

/// A connection to the socket, as of a shim, and the token that its ticket has.
fn connect(ticket: &Ticket) -> (Shim, String) {
    let (_, value) = ticket.variable();
    let (name, token) = value.split_once(' ').expect("a name and a token");
    let address = SocketAddr::from_abstract_name(name).expect("a name");
    (Shim::connect_addr(&address).expect("it listens"), token.to_owned())
}

fn send(shim: &Shim, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    rustix::net::sendmsg(shim, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).expect("it is sent");
}

fn hello(token: &str, length: u32) -> Vec<u8> {
    [token.as_bytes(), &length.to_le_bytes(), b"true"].concat()
}

/// What the daemon answers, to its end. The runtime's time, if it is paused, stands still meanwhile.
async fn answer(shim: Shim) -> Vec<u8> {
    let mut shim = shim;
    let read = move || {
        shim.set_read_timeout(Some(Duration::from_secs(30))).expect("a bound");
        let mut bytes = Vec::new();
        match shim.read_to_end(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no end in time"),
            // A reset instead of an end: there was more than it wanted to hear.
            Ok(_) | Err(_) => bytes,
        }
    };
    tokio::task::spawn_blocking(read).await.expect("no panic")
}

#[tokio::test]
async fn who_has_a_token_is_served_once() {
    let (transport, peer, _held) = transport();
    let mut ticket = transport.offer(&peer, &Warrant::without_locks());
    let (ours, _theirs) = Shim::pair().expect("rsync's stream");
    let (mut complaints, error) = std::io::pipe().expect("rsync's standard error");
    let (first, token) = connect(&ticket);
    send(&first, &hello(&token, 4), &[ours.as_fd(), ours.as_fd(), error.as_fd()]);
    assert_eq!(answer(first).await, [1]);
    assert_eq!(ticket.end().await, Some(End { code: 255, was_heard: true }));
    drop(error);
    let mut said = String::new();
    complaints.read_to_string(&mut said).expect("text");
    assert!(said.starts_with("rsyncdirector: could not connect"), "{said:?}");
    let (second, token) = connect(&ticket);
    send(&second, &hello(&token, 4), &[ours.as_fd(), ours.as_fd(), ours.as_fd()]);
    assert!(answer(second).await.is_empty(), "a token is good for one");
}

#[tokio::test]
async fn a_ticket_that_nobody_showed_has_no_end_to_wait_for() {
    let (transport, peer, _held) = transport();
    assert_eq!(transport.offer(&peer, &Warrant::without_locks()).end().await, None);
}

#[tokio::test]
async fn nobody_else_is_served() {
    let (transport, peer, _held) = transport();
    let (ours, _theirs) = Shim::pair().expect("rsync's stream");
    let fd = ours.as_fd();
    let old = {
        let ticket = transport.offer(&peer, &Warrant::without_locks());
        connect(&ticket).1
    };
    let ticket = transport.offer(&peer, &Warrant::without_locks());
    let good = connect(&ticket).1;
    let cases: [(&str, Vec<u8>, &[BorrowedFd<'_>]); 8] = [
        ("another token", hello(&"0".repeat(32), 4), &[fd, fd, fd]),
        ("a token whose rsync has ended", hello(&old, 4), &[fd, fd, fd]),
        ("no descriptors", hello(&good, 4), &[]),
        ("one descriptor", hello(&good, 4), &[fd]),
        ("more than three", hello(&good, 4), &[fd, fd, fd, fd]),
        ("a command that is too long", hello(&good, u32::MAX), &[fd, fd, fd]),
        ("no text", hello(&good, 4).iter().map(|byte| byte | 0x80).collect(), &[fd, fd, fd]),
        ("less than a hello", good.as_bytes()[..10].to_vec(), &[fd, fd, fd]),
    ];
    for (case, bytes, descriptors) in cases {
        let (shim, _) = connect(&ticket);
        send(&shim, &bytes, descriptors);
        shim.shutdown(std::net::Shutdown::Write).expect("an end");
        assert!(answer(shim).await.is_empty(), "{case}");
    }
}

/// Time stands still, so that none of the crowd is sent away for its silence.
#[tokio::test(start_paused = true)]
async fn a_crowd_of_mute_strangers_keeps_nobody_away() {
    let (transport, peer, _held) = transport();
    let ticket = transport.offer(&peer, &Warrant::without_locks());
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(connect(&ticket).0);
        // The daemon is served by this very thread.
        tokio::task::yield_now().await;
    }
    let (ours, _theirs) = Shim::pair().expect("rsync's stream");
    let (mut shim, token) = connect(&ticket);
    let words = hello(&token, 4);
    send(&shim, &words[..1], &[ours.as_fd(), ours.as_fd(), ours.as_fd()]);
    shim.write_all(&words[1..]).expect("the rest");
    assert!(!answer(shim).await.is_empty());
    drop(crowd);
}

#[tokio::test]
async fn another_user_is_refused_whatever_it_knows() {
    let (transport, peer, _held) = transport();
    let ticket = transport.offer(&peer, &Warrant::without_locks());
    let (ours, _theirs) = Shim::pair().expect("rsync's stream");
    let nobody = rustix::process::Uid::from_raw(65_534);
    let foreign = std::thread::scope(|scope| {
        let connecting = scope.spawn(|| {
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).expect("another user (the test needs root)");
            connect(&ticket)
        });
        connecting.join().expect("it connects")
    });
    let (shim, token) = foreign;
    // Fails when it was sent away before it could say anything.
    let _ = (&shim).write_all(&hello(&token, 4));
    assert!(answer(shim).await.is_empty());
    let (shim, token) = connect(&ticket);
    send(&shim, &hello(&token, 4), &[ours.as_fd(), ours.as_fd(), ours.as_fd()]);
    assert!(!answer(shim).await.is_empty(), "the token is as good as before");
}
