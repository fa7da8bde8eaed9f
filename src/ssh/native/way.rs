//! The way to a peer: a TCP connection to the first host on it, there a channel to the next, which carries that one's SSH, and so on.
//!
//! The connections on the way belong to the one session that made them, so its end is theirs: when the TCP connection is cut, each
//! host on the way and the peer lose theirs, and nothing more leaves this host.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use russh::ChannelOpenFailure;
use russh::ChannelStream;
use russh::client::{self, Handle, Msg};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::line::{Line, Terms};
use super::{Gate, UNACKNOWLEDGED_MAX, Use, configuration, from_library, login, lost, protocol};
use crate::clock::Ticks;
use crate::config::{Peer, SshPolicy};
use crate::patient;
use crate::ssh::dial::{Lifeline, dial, tune};
use crate::ssh::error::SshError;
use crate::ssh::keys::{Offer, Sources};
use crate::ssh::known_hosts::HostCheck;

/// A host that let us in.
pub(super) struct Entered {
    pub(super) handle: Handle<Gate>,
    /// Cancelled when the connection is over.
    pub(super) ended: CancellationToken,
    pub(super) terms: Arc<Terms>,
    /// What failed when the connection ended by itself.
    pub(super) failure: Arc<OnceLock<String>>,
    /// The key that it accepted, for people.
    pub(super) key: String,
}

/// A peer that was reached.
pub(super) struct Arrived {
    pub(super) peer: Entered,
    /// The hosts on the way, the nearest last.
    pub(super) hops: Vec<Entered>,
    /// The TCP connection that carries all of them.
    pub(super) lifeline: Arc<Lifeline>,
}

/// Connects and logs in, at the hosts on the way too. May be dropped at any point.
pub(super) async fn travel(
    peer: &Peer,
    policy: &SshPolicy,
    sources: &Sources,
    purpose: Use,
) -> Result<Arrived, SshError> {
    let bound = Bound { limit: policy.connect_timeout_of(peer), since: Ticks::now() };
    let traveller = Traveller { bound, policy, sources, purpose, target: peer };
    let (first, others) = match peer.reach.jumps.split_first() {
        Some((first, others)) => (first, others),
        None => (peer, &[][..]),
    };
    let on_the_way = |hop: &Peer, error| if hop == peer { error } else { blocked(peer, hop, error) };

    let entered = traveller.start(first).await.map_err(|error| on_the_way(first, error));
    let (mut entered, lifeline) = entered?;
    let (mut last, mut hops) = (first, Vec::new());
    let rest = others.iter().chain(Some(peer).filter(|_| !peer.reach.jumps.is_empty()));
    for next in rest {
        let stream = traveller.go_on(&entered, last, next).await.map_err(|error| blocked(peer, last, error))?;
        hops.push(entered);
        entered = traveller.enter(next, stream, &lifeline).await.map_err(|error| on_the_way(next, error))?;
        last = next;
    }
    Ok(Arrived { peer: entered, hops, lifeline })
}

/// A failure at a host on the way to the peer.
fn blocked(peer: &Peer, hop: &Peer, error: SshError) -> SshError {
    let (peer, hop, reason) = (peer.to_string().into(), hop.to_string().into(), error.reason());
    SshError::Jump { peer, hop, reason, source: Arc::new(error) }
}

struct Traveller<'a> {
    bound: Bound,
    policy: &'a SshPolicy,
    sources: &'a Sources,
    purpose: Use,
    /// Where the way ends. Only there somebody asks for signs of life and says what was taken: the hosts on the way live as long as
    /// it answers.
    target: &'a Peer,
}

impl Traveller<'_> {
    /// Enters the first host.
    async fn start(&self, peer: &Peer) -> Result<(Entered, Arc<Lifeline>), SshError> {
        let papers = self.papers(peer).await?;
        let stream = self.bound.over(peer, "connecting to", dial(peer)).await?;
        let tuned = tune(&stream, UNACKNOWLEDGED_MAX);
        let lifeline = Arc::new(tuned.map_err(|source| lost(peer, "connecting to", source))?);
        Ok((self.enter_with(peer, papers, stream, &lifeline).await?, lifeline))
    }

    /// Opens a channel to the next host.
    async fn go_on(&self, entered: &Entered, hop: &Peer, next: &Peer) -> Result<Relay, SshError> {
        const DOING: &str = "connecting onwards from";
        let (host, port) = (next.dialled(), u32::from(next.port));
        let open = async {
            let opened = entered.handle.channel_open_direct_tcpip(host, port, "127.0.0.1", 0).await;
            opened.map_err(|error| match error {
                russh::Error::ChannelOpenFailure(why) => {
                    SshError::Forward { target: crate::ssh::host_keys::listed_name(host, next.port), why: why_not(why) }
                }
                error => from_library(hop, DOING, error),
            })
        };
        let channel = self.bound.over(hop, DOING, open).await?;
        Ok(Relay::new(channel.into_stream(), &entered.ended))
    }

    async fn enter(&self, peer: &Peer, stream: Relay, lifeline: &Arc<Lifeline>) -> Result<Entered, SshError> {
        let papers = self.papers(peer).await?;
        self.enter_with(peer, papers, stream, lifeline).await
    }

    /// Key exchange and login.
    async fn enter_with(
        &self,
        peer: &Peer,
        (check, offer): (HostCheck, Offer),
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        lifeline: &Arc<Lifeline>,
    ) -> Result<Entered, SshError> {
        let (ended, terms) = (CancellationToken::new(), Arc::<Terms>::default());
        let (farewell, failure) = Default::default();
        let is_counted = self.purpose == Use::Data && std::ptr::eq(peer, self.target);
        let config = Arc::new(configuration(&check, self.purpose));
        let gate = Gate {
            check,
            lifeline: Arc::downgrade(lifeline),
            farewell: Arc::clone(&farewell),
            failure: Arc::clone(&failure),
            terms: is_counted.then(|| Arc::clone(&terms)),
            _ended: ended.clone().drop_guard(),
        };
        let stream = BufReader::with_capacity(self.purpose.read_buffer(), stream);
        let stream = Line::new(stream, Arc::clone(&terms));
        let exchange = async {
            let connected = client::connect_stream(config, stream, gate).await;
            connected.map_err(|error| error.into_ssh(peer, "key exchange with"))
        };
        let mut handle = self.bound.over(peer, "key exchange with", exchange).await?;
        let login = login::login(&mut handle, peer, offer, self.sources, &farewell);
        let key = self.bound.over(peer, "login to", login).await?;
        Ok(Entered { handle, ended, terms, failure, key })
    }

    /// Reads known_hosts and key files, off the runtime's threads: a home directory may be on a file server.
    async fn papers(&self, peer: &Peer) -> Result<(HostCheck, Offer), SshError> {
        const DOING: &str = "reading keys for";
        let (for_thread, policy, sources) = (peer.clone(), self.policy.clone(), self.sources.clone());
        let read = async {
            // Those that all peers share first: where they are not answered, no other needs a thread.
            let keys = Offer::files(peer, &sources);
            for file in policy.known_hosts_of(peer).iter().cloned().chain(keys) {
                let answered = patient::look(vec![file.clone()], move || try_to_read(&file)).await;
                answered.map_err(|panicked| protocol(peer, DOING, panicked))?;
            }
            let read = tokio::task::spawn_blocking(move || {
                let offer = Offer::prepare(&for_thread, &sources)?;
                Ok((HostCheck::read(&for_thread, &policy), offer))
            });
            read.await.unwrap_or_else(|panicked| Err(protocol(peer, DOING, panicked)))
        };
        self.bound.over(peer, DOING, read).await
    }
}

/// Returns when the file system of a file answers, whatever that is. A pipe is left to who needs what is in it.
fn try_to_read(file: &Path) {
    if fs::metadata(file).is_ok_and(|found| found.is_file()) {
        let _ = File::open(file).and_then(|mut file| file.read(&mut [0]));
    }
}

fn why_not(failure: ChannelOpenFailure) -> &'static str {
    match failure {
        ChannelOpenFailure::AdministrativelyProhibited => {
            "its sshd forbids that (AllowTcpForwarding, PermitOpen, DisableForwarding, or an option of the key)"
        }
        ChannelOpenFailure::ConnectFailed => "it gets no connection there",
        ChannelOpenFailure::ResourceShortage => "it has no room for another",
        _ => "it does not know how",
    }
}

/// The time that connecting may take, shared by its steps.
struct Bound {
    limit: Duration,
    since: Ticks,
}

impl Bound {
    async fn over<T>(
        &self,
        peer: &Peer,
        doing: &'static str,
        step: impl Future<Output = Result<T, SshError>>,
    ) -> Result<T, SshError> {
        let left = self.limit.saturating_sub(self.since.elapsed());
        tokio::time::timeout(left, step)
            .await
            .unwrap_or_else(|_| Err(SshError::Timeout { peer: peer.to_string(), doing, limit: self.limit }))
    }
}

/// A channel through a host as a connection. It ends when that host's connection does; the channel alone would not tell a writer who waits
/// for room.
struct Relay {
    channel: ChannelStream<Msg>,
    // Each wakes the side that waits for it.
    over_for_reader: Pin<Box<WaitForCancellationFutureOwned>>,
    over_for_writer: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Relay {
    fn new(channel: ChannelStream<Msg>, over: &CancellationToken) -> Self {
        let wait = || Box::pin(over.clone().cancelled_owned());
        Self { channel, over_for_reader: wait(), over_for_writer: wait() }
    }

    /// What the channel says, or that it is over.
    fn or_over<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_pending() && self.over_for_writer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        polled
    }
}

impl AsyncRead for Relay {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.channel).poll_read(cx, buf);
        match polled {
            // The end of the stream.
            Poll::Pending if self.over_for_reader.as_mut().poll(cx).is_ready() => Poll::Ready(Ok(())),
            polled => polled,
        }
    }
}

impl AsyncWrite for Relay {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.channel).poll_write(cx, buf);
        self.or_over(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.channel).poll_flush(cx);
        self.or_over(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.channel).poll_shutdown(cx);
        self.or_over(cx, polled)
    }
}
