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
#[cfg(test)]
mod tests;
mod wire;

use std::collections::HashMap;
use std::io;
use std::iter;
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
use super::native::{Begun, Ends, ExecError, Passed, Session};
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
/// Bound on saying goodbye to a peer.
const GOODBYE_MAX: Duration = Duration::from_secs(2);
/// A connection that waited gets this long to begin a command, until another is made: it may have died unnoticed.
const KEPT_OPEN_MAX: Duration = Duration::from_secs(5);
/// A new one gets this long; it may have to wait for a peer that allows few sessions and is slow to end the last one.
const OPEN_MAX: Duration = Duration::from_secs(20);
/// A peer that breaks off a login is asked again after these pauses: sshd drops connections while many log in at once (MaxStartups).
const BUSY_PAUSES: [Duration; 3] = [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1)];
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

    /// Removes the connections that waited for too long; and tells when the next one will have, if any is left.
    fn too_old(&self) -> (Vec<Arc<Session>>, Option<Duration>) {
        let mut idle = self.idle();
        let mut old = Vec::new();
        for sessions in idle.values_mut() {
            old.extend(sessions.extract_if(.., |(_, since)| since.elapsed() >= IDLE_MAX).map(|(session, _)| session));
        }
        idle.retain(|_, sessions| !sessions.is_empty());
        let longest = idle.values().flatten().map(|(_, since)| since.elapsed()).max();
        (old, longest.map(|longest| IDLE_MAX.saturating_sub(longest)))
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
        let heard = match tokio::time::timeout(HELLO_MAX, self.hear(&shim)).await {
            Ok(Ok(Some(heard))) => heard,
            Ok(Err(error)) => return tracing::debug!("a shim said no hello: {error}"),
            Ok(Ok(None)) | Err(_) => return,
        };
        let (offer, Hello { input, output, .. }, command) = heard;
        // rsync sees the end of its stream when these are closed, too.
        let held = (input.try_clone(), output.try_clone());
        let status = tokio::select! {
            status = self.run(&offer, &command, Ends::new(input, output), &shim) => status,
            () = self.inner.ended.cancelled() => CONNECTION_FAILED,
        };
        // Fails when the shim is gone.
        let _ = wire::send_status(&shim, status).await;
        if let Some(process) = process {
            let _ = tokio::time::timeout(EXIT_MAX, process.exited()).await;
        }
        drop(held);
    }

    /// What a shim wants; `None` from one whose token is not good.
    async fn hear(&self, shim: &UnixStream) -> io::Result<Option<(Offer, Hello, Vec<u8>)>> {
        let hello = wire::receive_hello(shim).await?;
        // One-time: whoever shows it again is refused.
        let Some(offer) = self.inner.offers().remove(&hello.token) else { return Ok(None) };
        let command = wire::receive_command(shim, &hello).await?;
        Ok(Some((offer, hello, command)))
    }

    /// Runs the command of a shim; the exit status to tell it.
    async fn run(&self, offer: &Offer, command: &[u8], ends: io::Result<Ends>, shim: &UnixStream) -> i32 {
        let mut ends = match ends {
            Ok(ends) => ends,
            Err(error) => return fail(shim, &format!("rsync's streams cannot be used: {error}")).await,
        };
        let begun = tokio::select! {
            begun = self.begin(&offer.peer, command, &mut ends) => begun,
            () = offer.cut.cancelled() => return CONNECTION_FAILED,
            () = wire::gone(shim) => return CONNECTION_FAILED,
        };
        let result = match begun {
            Ok((session, begun)) => self.pass(&session, begun, offer, ends, shim).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(ExitStatus::Code(code)) => code,
            Ok(ExitStatus::Signal(signal)) => {
                fail(shim, &format!("rsync on {} was ended by signal {signal}", offer.peer)).await
            }
            Err(error) => fail(shim, &crate::error_chain(&error)).await,
        }
    }

    /// Starts a command on a data connection: one that waits, or a new one where none does or those have died unnoticed.
    async fn begin(&self, peer: &Peer, command: &[u8], ends: &mut Ends) -> Result<(Arc<Session>, Begun), SshError> {
        while let Some(session) = self.waiting(peer) {
            match tokio::time::timeout(KEPT_OPEN_MAX, session.begin(command, ends)).await {
                Ok(Ok(begun)) => return Ok((session, begun)),
                // Nothing has come of it.
                Ok(Err(ExecError::NotSent(_))) | Err(_) => session.reset(),
                Ok(Err(ExecError::Failed(error))) => return Err(error),
            }
        }
        let session = Arc::new(self.connect(peer).await?);
        let begun = tokio::time::timeout(OPEN_MAX, session.begin(command, ends)).await;
        let doing = "opening a session on";
        let begun = begun.map_err(|_| SshError::Timeout { peer: peer.to_string(), doing, limit: OPEN_MAX })?;
        Ok((session, begun?))
    }

    /// A new data connection.
    async fn connect(&self, peer: &Peer) -> Result<Session, SshError> {
        let mut pauses = BUSY_PAUSES.iter();
        loop {
            match (self.inner.pool.data_session(peer).await, pauses.next()) {
                (Err(SshError::Lost { .. }), Some(pause)) => tokio::time::sleep(*pause).await,
                (result, _) => return result,
            }
        }
    }

    async fn pass(
        &self,
        session: &Arc<Session>,
        begun: Begun,
        offer: &Offer,
        ends: Ends,
        shim: &UnixStream,
    ) -> Result<ExitStatus, SshError> {
        let passed = tokio::select! {
            passed = session.pass(begun, ends, |bytes: Vec<u8>| async move { wire::send_error(shim, &bytes).await }) => passed,
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

    /// A connection that waits for an rsync to this peer.
    fn waiting(&self, peer: &Peer) -> Option<Arc<Session>> {
        let mut idle = self.inner.idle();
        let sessions = idle.get_mut(peer)?;
        iter::from_fn(|| sessions.pop()).map(|(session, _)| session).find(|session| !session.is_closed())
    }

    /// Keeps a connection for the next rsync, for a while.
    fn keep(&self, peer: &Peer, session: &Arc<Session>) {
        let mut idle = self.inner.idle();
        if self.inner.ended.is_cancelled() {
            return;
        }
        let was_empty = idle.is_empty();
        let sessions = idle.entry(peer.clone()).or_default();
        sessions.retain(|(session, _)| !session.is_closed());
        if sessions.len() < IDLE_COUNT {
            sessions.push((Arc::clone(session), Ticks::now()));
        }
        // Under the lock: the one that ran has ended, or sees this connection.
        if was_empty {
            self.inner.tasks.spawn(self.clone().retire());
        }
    }

    /// Closes connections that waited for too long, until none waits.
    async fn retire(self) {
        let mut pause = IDLE_MAX;
        loop {
            tokio::select! {
                () = clock::sleep(pause) => {}
                () = self.inner.ended.cancelled() => return,
            }
            let (old, next) = self.inner.too_old();
            let goodbyes = old.iter().map(|session| tokio::time::timeout(GOODBYE_MAX, session.disconnect()));
            futures_util::future::join_all(goodbyes).await;
            match next {
                Some(due) => pause = due,
                None => return,
            }
        }
    }
}

/// Has the shim say why, and tells its exit status.
async fn fail(shim: &UnixStream, why: &str) -> i32 {
    // Fails when the shim is gone, and nobody hears it.
    let _ = wire::send_error(shim, format!("rsyncdirector: {why}\n").as_bytes()).await;
    CONNECTION_FAILED
}
