//! rsync over our own connections.
//!
//! rsync starts a program to reach the peer (`--rsh`): our own binary, as the [`shim`]. It hands its standard input and output
//! to the daemon and waits. The daemon runs rsync's command on a data connection and passes the bytes on, so the one place
//! that checks host keys and logs in is ours, and the data stops when the daemon goes.
//!
//! The way of one rsync: [`Transport::offer`] draws a one-time token, which rsync inherits in its environment; the shim shows it on
//! the daemon's socket (abstract, so that no file stays behind; peers of another user are refused), together with the
//! descriptors and the command; a data connection of the peer is leased for it alone, since the library stops reading for all
//! channels when one of them is not read; `native` passes on; the shim ends with the command's exit status.
//!
//! rsync asks for its child's exit status only at the moment at which its stream ends, and does not wait for it. So the stream's end
//! comes after the shim's: the daemon keeps rsync's descriptors open until the shim, told its status, has exited.
//!
//! A [`Ticket`] that is dropped while its rsync is connected cuts the data connection with a reset: what was not delivered yet
//! never is.

mod exit;
pub mod shim;
mod wire;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdUnixListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::exit::Process;
use self::wire::Hello;
use super::error::SshError;
use super::native::{Ends, Passed, Session};
use super::pool::Pool;
use crate::clock::{self, Ticks};
use crate::config::Peer;
use crate::event::ExitStatus;
use crate::random;

/// The variable that tells the shim the socket and its token.
pub const VARIABLE: &str = "RSYNCDIRECTOR_TRANSPORT";
/// The first argument that makes the binary the shim.
pub const SHIM: &str = "__rsh";

/// A shim that has connected says who it is within this time.
const HELLO_MAX: Duration = Duration::from_secs(10);
/// A shim that knows its exit status exits within this time.
const EXIT_MAX: Duration = Duration::from_secs(2);
/// A data connection that nobody uses is closed after this time.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// How many data connections to a peer are kept: those of one sync that is shared by as many rsyncs as may be.
const IDLE_COUNT: usize = crate::config::MOST_PARALLEL;
/// What ssh exits with when the connection is at fault.
const CONNECTION_FAILED: i32 = 255;

/// Where shims report, and the data connections. Clones share them.
#[derive(Clone)]
pub struct Transport {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    name: String,
    offers: Mutex<HashMap<String, Offer>>,
    idle: Mutex<Idle>,
    tasks: TaskTracker,
    ended: CancellationToken,
}

/// Data connections that wait for an rsync, and since when.
type Idle = HashMap<Peer, Vec<(Arc<Session>, Ticks)>>;

/// What a token is good for.
struct Offer {
    peer: Peer,
    cut: CancellationToken,
}

/// The right of one rsync to one connection.
pub struct Ticket {
    transport: Transport,
    token: String,
    _cut: DropGuard,
}

impl Ticket {
    /// What the rsync must find in its environment.
    pub fn variable(&self) -> (String, String) {
        (VARIABLE.into(), format!("{} {}", self.transport.inner.name, self.token))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.transport.inner.offers().remove(&self.token);
    }
}

impl Inner {
    fn offers(&self) -> MutexGuard<'_, HashMap<String, Offer>> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport {
    /// Opens the socket and serves it until [`Transport::close`].
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn start(pool: Pool) -> io::Result<Self> {
        let name = format!("rsyncdirector-{}-{}", std::process::id(), random::word());
        let listener = StdUnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let (offers, idle) = Default::default();
        let inner = Inner { pool, name, offers, idle, tasks: TaskTracker::new(), ended: CancellationToken::new() };
        let this = Self { inner: Arc::new(inner) };
        this.inner.tasks.spawn(this.clone().accept(listener));
        Ok(this)
    }

    /// A ticket for one rsync to this peer.
    pub fn offer(&self, peer: &Peer) -> Ticket {
        let (token, cut) = (random::word(), CancellationToken::new());
        self.inner.offers().insert(token.clone(), Offer { peer: peer.clone(), cut: cut.clone() });
        Ticket { transport: self.clone(), token, _cut: cut.drop_guard() }
    }

    /// The value of `--rsh` for an rsync that has a ticket: this very program, also when its file was replaced meanwhile.
    pub fn rsh(&self) -> Vec<std::ffi::OsString> {
        vec![format!("/proc/{}/exe", std::process::id()).into(), SHIM.into()]
    }

    /// Ends all connections, for `within` at most politely.
    pub async fn close(&self, within: Duration) {
        self.inner.ended.cancel();
        let idle: Vec<_> = self.inner.idle().drain().flat_map(|(_, sessions)| sessions).collect();
        self.inner.tasks.close();
        let goodbyes = async {
            futures_util::future::join_all(idle.iter().map(|(session, _)| session.disconnect())).await;
            self.inner.tasks.wait().await;
        };
        let _ = tokio::time::timeout(within, goodbyes).await;
    }

    async fn accept(self, listener: UnixListener) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.inner.ended.cancelled() => return,
            };
            match accepted {
                Ok((shim, _)) => {
                    let serve = self.clone().serve(shim);
                    self.inner.tasks.spawn(serve);
                }
                Err(error) => {
                    tracing::warn!("an rsync could not reach us: {error}");
                    clock::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// One shim, from its hello to its exit status.
    async fn serve(self, shim: UnixStream) {
        let ours = rustix::process::geteuid().as_raw();
        let Ok(cred) = shim.peer_cred() else { return };
        if cred.uid() != ours {
            return;
        }
        let process = cred.pid().and_then(Process::open);
        let hello = match tokio::time::timeout(HELLO_MAX, wire::receive_hello(&shim)).await {
            Ok(Ok(hello)) => hello,
            Ok(Err(error)) => return tracing::debug!("a shim said no hello: {error}"),
            Err(_) => return,
        };
        // One-time: whoever shows it again is refused.
        let Some(offer) = self.inner.offers().remove(&hello.token) else { return };
        // rsync sees the end of its stream when these are closed, too.
        let held = (hello.input.try_clone(), hello.output.try_clone());
        let status = tokio::select! {
            status = self.run(&offer, hello, &shim) => status,
            () = self.inner.ended.cancelled() => CONNECTION_FAILED,
        };
        // Fails when the shim is gone.
        let _ = wire::send_status(&shim, status).await;
        if let Some(process) = process {
            let _ = tokio::time::timeout(EXIT_MAX, process.exited()).await;
        }
        drop(held);
    }

    /// Runs the command of a shim; the exit status to tell it.
    async fn run(&self, offer: &Offer, hello: Hello, shim: &UnixStream) -> i32 {
        let Hello { command, input, output, .. } = hello;
        let session = tokio::select! {
            session = self.lease(&offer.peer) => session,
            () = offer.cut.cancelled() => return CONNECTION_FAILED,
            () = wire::gone(shim) => return CONNECTION_FAILED,
        };
        let result = match session {
            Ok(session) => self.pass(&session, offer, &command, (input, output), shim).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(ExitStatus::Code(code)) => code,
            Ok(ExitStatus::Signal(_)) => CONNECTION_FAILED,
            Err(error) => {
                let text = format!("rsyncdirector: {}\n", crate::error_chain(&error));
                let _ = wire::send_error(shim, text.as_bytes()).await;
                CONNECTION_FAILED
            }
        }
    }

    async fn pass(
        &self,
        session: &Arc<Session>,
        offer: &Offer,
        command: &[u8],
        (input, output): (OwnedFd, OwnedFd),
        shim: &UnixStream,
    ) -> Result<ExitStatus, SshError> {
        let ends = Ends { input, output };
        let passed = tokio::select! {
            passed = session.pass(command, ends, |bytes: Vec<u8>| async move { wire::send_error(shim, &bytes).await }) => passed,
            () = offer.cut.cancelled() => {
                session.reset();
                return Ok(ExitStatus::Code(CONNECTION_FAILED));
            }
            () = wire::gone(shim) => {
                session.reset();
                return Ok(ExitStatus::Code(CONNECTION_FAILED));
            }
        };
        match passed {
            Ok(Passed { status, is_clean }) => {
                if is_clean {
                    self.keep(&offer.peer, session);
                } else {
                    session.reset();
                }
                Ok(status)
            }
            Err(error) => {
                session.reset();
                Err(error)
            }
        }
    }

    /// A data connection for one rsync: one that waits, or a new one.
    async fn lease(&self, peer: &Peer) -> Result<Arc<Session>, SshError> {
        loop {
            let waiting = self.inner.idle().get_mut(peer).and_then(Vec::pop);
            match waiting {
                Some((session, _)) if session.is_closed() => {}
                Some((session, _)) => return Ok(session),
                None => return self.inner.pool.data_session(peer).await.map(Arc::new),
            }
        }
    }

    /// Keeps a connection for the next rsync, for a while.
    fn keep(&self, peer: &Peer, session: &Arc<Session>) {
        {
            let mut idle = self.inner.idle();
            let sessions = idle.entry(peer.clone()).or_default();
            if sessions.len() >= IDLE_COUNT || self.inner.ended.is_cancelled() {
                return;
            }
            sessions.push((Arc::clone(session), Ticks::now()));
        }
        let (this, peer, ended) = (self.clone(), peer.clone(), self.inner.ended.clone());
        self.inner.tasks.spawn(async move {
            tokio::select! {
                () = clock::sleep(IDLE_MAX) => this.close_idle(&peer).await,
                () = ended.cancelled() => {}
            }
        });
    }

    async fn close_idle(&self, peer: &Peer) {
        let old: Vec<_> = {
            let mut idle = self.inner.idle();
            let Some(sessions) = idle.get_mut(peer) else { return };
            let (old, young) = sessions.drain(..).partition(|(_, since)| since.elapsed() >= IDLE_MAX);
            *sessions = young;
            if sessions.is_empty() {
                idle.remove(peer);
            }
            old
        };
        for (session, _) in &old {
            let _ = tokio::time::timeout(Duration::from_secs(2), session.disconnect()).await;
        }
    }
}
