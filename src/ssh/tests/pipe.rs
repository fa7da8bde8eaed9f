//! Data that goes both ways at once.

use std::os::fd::OwnedFd;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::super::keys::Sources;
use super::super::native::{Ends, Session, Use};
use super::super::precedence::Precedence;
use super::super::test_sshd::TestSshd;
use crate::event::ExitStatus;

/// A bound on what moves some ten megabytes.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);
const MIB: usize = 1 << 20;

fn end(stream: UnixStream) -> OwnedFd {
    stream.into_std().expect("a socket").into()
}

/// Says so many MiB to a command that says 24 meanwhile, and reads only then: as rsync, whose sender does not read what its generator on the peer
/// says long before it is its turn.
async fn say_before_reading(config: &str, mib: usize) {
    let sshd = TestSshd::start_with(config);
    let session = Session::open(&sshd.peer(), &sshd.policy(), &Sources::default(), Use::Data).await.unwrap();
    let ((mut to, input), (mut from, output)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
    let mut ends = Ends::new(end(input), end(output)).unwrap();
    let begun = session.begin(b"head -c 24M /dev/zero & cat >/dev/null; wait", &mut ends).await.unwrap();
    let precedence = Precedence::default();
    let pass = session.pass(begun, ends, &precedence, |_| async { Ok(()) });
    let rsync = async {
        let piece = vec![b'x'; MIB];
        for said in 0..mib {
            let say = timeout(PATIENCE, to.write_all(&piece)).await;
            say.unwrap_or_else(|_| panic!("stuck after {said} MiB")).unwrap();
        }
        drop(to);
        let mut heard = Vec::new();
        from.read_to_end(&mut heard).await.unwrap();
        heard.len()
    };
    let both = async { tokio::join!(pass, rsync) };
    let (passed, heard) = timeout(2 * PATIENCE, both).await.expect("it comes to an end");
    assert_eq!(passed.unwrap().status, ExitStatus::Code(0));
    assert_eq!(heard, 24 * MIB);
}

#[tokio::test]
async fn a_command_that_says_much_first_is_still_heard() {
    say_before_reading("", 24).await;
}

#[tokio::test]
async fn keys_are_renewed_by_us_while_nobody_takes_the_output() {
    say_before_reading("", 80).await;
}

#[tokio::test]
async fn keys_are_renewed_by_the_peer_while_nobody_takes_the_output() {
    say_before_reading("RekeyLimit 8M", 24).await;
}
