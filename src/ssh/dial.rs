//! From a host name to a TCP connection.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::Shutdown;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;

use super::error::SshError;
use crate::config::{AddressFamily, Peer};

/// An address that does not answer holds up the next one by this much (RFC 8305, section 5, recommends 250 ms).
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to whichever of the host's addresses answers first, in the resolver's order with a head start of [`STAGGER`]
/// each. Without a bound of its own.
pub(super) async fn dial(peer: &Peer) -> Result<TcpStream, SshError> {
    let resolve = |error: io::Error| SshError::Resolve { host: peer.dialled().to_owned(), source: Arc::new(error) };
    let counts = |address: &SocketAddr| match peer.reach.address_family {
        AddressFamily::Any => true,
        AddressFamily::V4 => address.is_ipv4(),
        AddressFamily::V6 => address.is_ipv6(),
    };
    let addresses = lookup_host((peer.dialled(), peer.port)).await.map_err(resolve)?;
    let addresses: VecDeque<_> = addresses.filter(counts).collect();
    let tried = addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ");
    first_to_answer(addresses).await.map_err(|error| match error {
        Some(error) => SshError::Connect { peer: peer.to_string(), tried, source: Arc::new(error) },
        None => resolve(io::Error::new(io::ErrorKind::NotFound, "the name has no address that can be used")),
    })
}

async fn first_to_answer(mut waiting: VecDeque<SocketAddr>) -> Result<TcpStream, Option<io::Error>> {
    let mut attempts = JoinSet::new();
    let mut last = None;
    loop {
        if let Some(address) = waiting.pop_front() {
            attempts.spawn(TcpStream::connect(address));
        }
        let answer = tokio::select! {
            answer = attempts.join_next() => answer,
            () = tokio::time::sleep(STAGGER), if !waiting.is_empty() => continue,
        };
        match answer {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(error))) => last = Some(error),
            Some(Err(panicked)) => last = Some(io::Error::other(panicked)),
            None => return Err(last),
        }
    }
}

/// Prepares a connection for commands: no delay of small packets, and an end to it when sent data stays unacknowledged for
/// `unacknowledged`, which keepalives do not notice while the send buffer is full.
pub(super) fn tune(stream: &TcpStream, unacknowledged: Duration) -> io::Result<Lifeline> {
    stream.set_nodelay(true)?;
    let milliseconds = u32::try_from(unacknowledged.as_millis()).unwrap_or(u32::MAX);
    rustix::net::sockopt::set_tcp_user_timeout(stream, milliseconds)?;
    Ok(Lifeline(rustix::io::fcntl_dupfd_cloexec(stream, 0)?))
}

/// Ends the TCP connection when dropped, whoever else holds it: the SSH library's task would otherwise go on reading for a
/// peer that never answers.
#[derive(Debug)]
pub(super) struct Lifeline(OwnedFd);

impl Lifeline {
    /// Acknowledges what has arrived, which the kernel otherwise does after up to 40 ms.
    pub(super) fn acknowledge(&self) {
        // A matter of speed only.
        let _ = rustix::net::sockopt::set_tcp_quickack(&self.0, true);
    }

    /// Ends the connection now.
    pub(super) fn cut(&self) {
        // Fails when the peer has already ended it, which is as good.
        let _ = rustix::net::shutdown(&self.0, Shutdown::Both);
    }

    /// Ends the connection now, and discards what is still to be sent: connect(2) dissolves an association so, for TCP with a
    /// reset.
    pub(super) fn reset(&self) {
        // Fails when the connection has ended already, which is as good.
        let _ = rustix::net::connect_unspec(&self.0);
        self.cut();
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        self.cut();
    }
}
