//! The SSH library behind a small interface: connect, run a command, disconnect.
//!
//! [`Session::open`] dials, exchanges keys (`Gate` judges the host key) and logs in (`login`), at each host on the `way`. [`Session::exec`] runs one
//! command (`exec`), a script by a shell that stays (`shell`); [`Session::sftp`] gives the connection's one SFTP
//! session (`sftp`); [`Session::pass`] passes the data of an rsync (`pipe`). `line` notices a dead peer and holds a fast one back.
//! Nothing outside this module uses the library's connection types.
//!
//! The library serves each connection from a task of its own, which ends when the session's handle is dropped and the
//! socket is shut down; both happen when the [`Session`] is dropped.

mod candidates;
mod exec;
mod line;
mod login;
mod pipe;
mod sftp;
mod shell;
mod way;

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use russh::client::{self, DisconnectReason, Handle, Msg};
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{Channel, ChannelId, Limits, Preferred, SshId, cipher};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

#[cfg(test)]
pub(super) use exec::STDOUT_MAX;
pub(super) use exec::{ExecError, Request};
pub(super) use pipe::{Begun, Ends, Passed};
pub(super) use sftp::SftpChannel;

use self::line::{SILENCE_MAX, Terms};
use self::way::{Arrived, Entered};
use super::dial::Lifeline;
use super::error::{HostKeyError, SshError};
use super::keys::Sources;
use super::known_hosts::HostCheck;
use crate::clock::Ticks;
use crate::config::{Peer, SshPolicy};
use crate::warrant::Warrant;

/// The peer is asked for a sign of life after this much silence. With [`KEEPALIVE_MAX`], `ssh` notices a dead peer after 40 s; how
/// our own connections do is told in `line`.
pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// So many unanswered questions end a connection of `ssh`.
pub(super) const KEEPALIVE_MAX: usize = 3;
/// Sent data that stays unacknowledged, or finds no room at the peer, for this long ends the connection. While nobody reads it, this is
/// what notices that a line is dead, up to [`KEEPALIVE_INTERVAL`] later.
const UNACKNOWLEDGED_MAX: Duration = SILENCE_MAX;
/// Commands at once on a connection: sshd's default of MaxSessions is 10, and it frees a slot late.
const CONCURRENT_COMMANDS: usize = 8;
/// A connection serves until so many channels were abandoned on it, of each of which the library keeps 3 KB.
pub(super) const ABANDONED_MAX: usize = if cfg!(test) { 70 } else { 300 };

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Commands and their answers, which are small.
    Commands,
    /// The data of one rsync at a time.
    Data,
}

impl Use {
    /// Bytes that are read from the socket at once.
    fn read_buffer(self) -> usize {
        match self {
            Self::Commands => 32 * 1024,
            Self::Data => 256 * 1024,
        }
    }

    /// Bytes that the peer may send before we take them: on a line of 20 ms, 2 MiB allow a third of what 16 do.
    const fn window(self) -> u32 {
        match self {
            Self::Commands => 2 << 20,
            Self::Data => 16 << 20,
        }
    }

    /// When keys are renewed.
    fn limits(self) -> Limits {
        // Tests say less than a GiB.
        const FOR_TESTS: usize = 32 << 20;
        match self {
            Self::Data if cfg!(test) => {
                Limits { rekey_write_limit: FOR_TESTS, rekey_read_limit: FOR_TESTS, ..Limits::default() }
            }
            _ => Limits::default(),
        }
    }
}

/// The largest that the library allows.
const MAX_PACKET: u32 = 65_535;

/// AES-GCM first: it is the fastest where the processor has instructions for AES.
const CIPHERS: &[cipher::Name] = &[
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

/// As OpenSSH since 8.8: no signatures by SHA-1, no DSA.
const HOST_KEY_ALGORITHMS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// An authenticated connection to a peer.
pub(super) struct Session {
    peer: Peer,
    handle: Handle<Gate>,
    permits: Semaphore,
    ended: CancellationToken,
    last_used: Mutex<Ticks>,
    shell: Mutex<Option<exec::Started>>,
    sftp: tokio::sync::Mutex<Option<Arc<SftpChannel>>>,
    /// How many channels were closed whose end was not awaited.
    abandoned: AtomicUsize,
    /// Opened before it is needed, for the next command whose data is passed on.
    ahead: Mutex<Option<Channel<Msg>>>,
    terms: Arc<Terms>,
    /// What failed when the connection ended by itself.
    failure: Arc<OnceLock<String>>,
    /// The key that the peer accepted, for people.
    key: String,
    /// The hosts on the way, the nearest to the peer last.
    hops: Vec<Entered>,
    // Last, so that the handles are gone before the socket is shut down.
    lifeline: Arc<Lifeline>,
}

impl Session {
    /// Connects and logs in; the `connect_timeout` that holds for the peer bounds all of it. May be dropped at any point.
    pub(super) async fn open(
        peer: &Peer,
        policy: &SshPolicy,
        sources: &Sources,
        purpose: Use,
    ) -> Result<Self, SshError> {
        let Arrived { peer: Entered { handle, ended, terms, failure, key }, hops, lifeline } =
            way::travel(peer, policy, sources, purpose).await?;
        terms.ask(purpose == Use::Commands);
        let (peer, permits, last_used) = (peer.clone(), Semaphore::new(CONCURRENT_COMMANDS), Mutex::new(Ticks::now()));
        let (shell, sftp, abandoned, ahead) = Default::default();
        Ok(Self {
            peer,
            handle,
            permits,
            ended,
            last_used,
            shell,
            sftp,
            abandoned,
            ahead,
            terms,
            failure,
            key,
            hops,
            lifeline,
        })
    }

    /// From now on something is said to the peer only as long as this warrant is not lost; `None` takes the bound away.
    pub(super) fn lend(&self, warrant: Option<&Warrant>) {
        let way = self.hops.iter().map(|hop| &hop.terms).chain([&self.terms]);
        way.for_each(|terms| terms.lend(warrant.cloned()));
    }

    /// Whether the connection is over.
    pub(super) fn is_closed(&self) -> bool {
        self.handle.is_closed() || self.ended.is_cancelled()
    }

    /// Whether another should be made for what comes next.
    pub(super) fn is_worn(&self) -> bool {
        self.is_closed() || self.abandoned.load(Ordering::Relaxed) >= ABANDONED_MAX
    }

    /// The error of who used the connection when it ended: with what failed, if that is known.
    fn ended_under(&self, doing: &'static str) -> SshError {
        let why = self.failure.get().map_or("the connection ended before the command", String::as_str);
        lost(&self.peer, doing, std::io::Error::new(std::io::ErrorKind::ConnectionAborted, why))
    }

    /// The keys that let us in, for people: those of the hosts on the way, the nearest last, and the peer's.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.hops.iter().map(|hop| hop.key.as_str()).chain([self.key.as_str()])
    }

    /// Cancelled when the connection is over.
    pub(super) fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    /// Notes that somebody is about to use the connection, or has done so.
    pub(super) fn touch(&self) {
        *self.last_used.lock().unwrap_or_else(PoisonError::into_inner) = Ticks::now();
    }

    /// Time since the last command; zero while one runs.
    pub(super) fn idle(&self) -> Duration {
        if self.permits.available_permits() < CONCURRENT_COMMANDS {
            return Duration::ZERO;
        }
        self.last_used.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Says goodbye and waits until the connection is over; without a bound of its own. What was asked of its SFTP session is
    /// done before.
    pub(super) async fn disconnect(&self) {
        let sftp = self.sftp.try_lock().ok().and_then(|slot| slot.clone());
        if let Some(sftp) = sftp {
            sftp.flush().await;
        }
        // An error says that the connection is over, which is what is wanted.
        let _ = self.handle.disconnect(russh::Disconnect::ByApplication, "", "").await;
        self.ended.cancelled().await;
        for hop in self.hops.iter().rev() {
            let _ = hop.handle.disconnect(russh::Disconnect::ByApplication, "", "").await;
            hop.ended.cancelled().await;
        }
    }

    /// Ends the connection without a goodbye.
    pub(super) fn cut(&self) {
        self.lifeline.cut();
    }

    /// Ends the connection with a reset: what the peer has not received yet, it never will.
    pub(super) fn reset(&self) {
        self.lifeline.reset();
    }
}

fn configuration(check: &HostCheck, purpose: Use) -> client::Config {
    let certificates = if check.wants_certificates() { HOST_KEY_ALGORITHMS } else { &[] };
    client::Config {
        client_id: SshId::Standard(concat!("SSH-2.0-rsyncdirector_", env!("CARGO_PKG_VERSION")).into()),
        maximum_packet_size: MAX_PACKET,
        window_size: purpose.window(),
        preferred: Preferred {
            key: Cow::Owned(check.ordered(HOST_KEY_ALGORITHMS)),
            host_key_certificates: Cow::Borrowed(certificates),
            cipher: Cow::Borrowed(CIPHERS),
            ..Preferred::DEFAULT
        },
        // For data `pipe` asks.
        keepalive_interval: (purpose == Use::Commands).then_some(KEEPALIVE_INTERVAL),
        // `line` judges.
        keepalive_max: 0,
        nodelay: true,
        limits: purpose.limits(),
        ..client::Config::default()
    }
}

fn lost(peer: &Peer, doing: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> SshError {
    SshError::Lost { peer: peer.to_string(), doing, source: Arc::new(source) }
}

fn protocol(peer: &Peer, doing: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> SshError {
    SshError::Protocol { peer: peer.to_string(), doing, source: Arc::new(source) }
}

/// Sorts the library's errors: a connection that ended, or a peer that we cannot work with.
fn from_library(peer: &Peer, doing: &'static str, error: russh::Error) -> SshError {
    use russh::Error as E;
    match error {
        E::IO(_) | E::HUP | E::Disconnect | E::SendError | E::RecvError | E::KeepaliveTimeout => {
            lost(peer, doing, error)
        }
        _ => protocol(peer, doing, error),
    }
}

/// The library's view of us: asked about the host key, told of the end.
struct Gate {
    check: HostCheck,
    /// Weak, because the session decides when the connection ends.
    lifeline: Weak<Lifeline>,
    /// What the peer said when it ended the connection by itself.
    farewell: Arc<OnceLock<String>>,
    /// What failed when the connection ended by itself.
    failure: Arc<OnceLock<String>>,
    /// Told of what comes in for a channel, where somebody tells it what is taken.
    terms: Option<Arc<Terms>>,
    /// Goes with the library's task, whatever ends it.
    _ended: DropGuard,
}

/// Why the key exchange ended.
#[derive(Debug)]
enum GateError {
    HostKey(Box<HostKeyError>),
    Library(russh::Error),
}

impl From<russh::Error> for GateError {
    fn from(error: russh::Error) -> Self {
        Self::Library(error)
    }
}

impl GateError {
    fn into_ssh(self, peer: &Peer, doing: &'static str) -> SshError {
        match self {
            Self::HostKey(error) => error.into(),
            Self::Library(error) => from_library(peer, doing, error),
        }
    }
}

impl client::Handler for Gate {
    type Error = GateError;

    async fn check_server_key(&mut self, offered: &PublicKeyOrCertificate) -> Result<bool, GateError> {
        let checked = match offered {
            PublicKeyOrCertificate::PublicKey { key, .. } => self.check.check_key(key),
            PublicKeyOrCertificate::Certificate(certificate) => self.check.check_certificate(certificate),
        };
        checked.map(|()| true).map_err(GateError::HostKey)
    }

    /// OpenSSH sends this right after the login, unasked. It has Nagle's algorithm on until the first command runs, so its
    /// answer to the first command waits until this message is acknowledged.
    async fn openssh_ext_host_keys_announced(
        &mut self,
        _keys: Vec<PublicKey>,
        _session: &mut client::Session,
    ) -> Result<(), GateError> {
        if let Some(lifeline) = self.lifeline.upgrade() {
            lifeline.acknowledge();
        }
        Ok(())
    }

    /// After it was put into the channel's queue.
    async fn data(&mut self, _: ChannelId, data: &[u8], _: &mut client::Session) -> Result<(), GateError> {
        self.terms.iter().for_each(|terms| terms.intake.came(data.len()));
        Ok(())
    }

    async fn extended_data(
        &mut self,
        _: ChannelId,
        _: u32,
        data: &[u8],
        _: &mut client::Session,
    ) -> Result<(), GateError> {
        self.terms.iter().for_each(|terms| terms.intake.came(data.len()));
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<GateError>) -> Result<(), GateError> {
        match reason {
            DisconnectReason::ReceivedDisconnect(farewell) => {
                // Called once per connection, so nothing is there yet.
                let _ = self.farewell.set(farewell.message.escape_debug().to_string());
                Ok(())
            }
            DisconnectReason::Error(error) => {
                if let GateError::Library(russh::Error::IO(failure)) = &error {
                    let _ = self.failure.set(failure.to_string());
                }
                Err(error)
            }
        }
    }
}
