//! rsync over our own connections.
//!
//! rsync starts a program to reach the peer (`--rsh`): our own binary, as the [`shim`]. It hands its standard streams to the daemon and
//! exits. The daemon runs rsync's command on a data connection and passes the bytes on, so the one place that checks host keys
//! and logs in is ours, and the data stops when the daemon goes.
//!
//! The way of one rsync: [`Transport::offer`] draws a one-time token, which rsync inherits in its environment; the shim shows it on
//! the daemon's socket (abstract, so that no file stays behind; peers of another user are refused), together with the
//! descriptors and the command; a data connection of the peer is leased for it alone, since the library stops reading for all
//! channels when one of them is not read; `native` passes on; [`Ticket::end`] tells the command's exit status.
//!
//! The shim does not wait for that status: rsync looks for its child's end every 20 ms, so a child that has long exited makes each sync
//! up to 40 ms shorter. Nor could rsync be sure to learn it: it asks once, when its stream ends, and an `ssh` that exits a moment later
//! is asked in vain. So whoever executes rsync joins its exit code and the command's, as rsync does with that of `ssh`: the greater counts.
//!
//! A [`Ticket`] that is dropped while its rsync is connected cuts the data connection with a reset: what was not delivered yet
//! never is. And a data connection asks before each write whether the warrant by which its rsync acts still holds: what an rsync said
//! before its host was suspended is not passed on when the host wakes after the lease.

pub mod shim;
#[cfg(test)]
mod tests;
mod voice;
mod wire;

use std::collections::HashMap;
use std::io;
use std::iter;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdUnixListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::voice::Voice;
use self::wire::Hello;
use super::error::SshError;
use super::native::{Begun, Ends, ExecError, Passed, Session};
use super::pool::Pool;
use crate::clock::{self, Ticks};
use crate::config::Peer;
use crate::event::ExitStatus;
use crate::random;
use crate::warrant::Warrant;

/// The variable that tells the shim the socket and its token.
pub const VARIABLE: &str = "RSYNCDIRECTOR_TRANSPORT";
/// The first argument that makes the binary the shim.
pub const SHIM: &str = "__rsh";

/// A shim that has connected says who it is within this time.
const HELLO_MAX: Duration = Duration::from_secs(10);
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
    warrant: Warrant,
    cut: CancellationToken,
    /// Told how the command ended; dropped when nobody knows.
    end: oneshot::Sender<End>,
}

/// How the command on the peer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Its exit code, 255 when the connection was at fault.
    pub code: i32,
    /// Whether rsync here took all of its output: one that had ended before did not wait for this.
    pub was_heard: bool,
}

/// What an rsync wants to be run, and for how long it may.
struct Errand {
    peer: Peer,
    warrant: Warrant,
    command: Vec<u8>,
}

/// The right of one rsync to one connection.
pub struct Ticket {
    transport: Transport,
    token: String,
    end: Option<oneshot::Receiver<End>>,
    _cut: DropGuard,
}

impl Ticket {
    /// What the rsync must find in its environment.
    pub fn variable(&self) -> (String, String) {
        (VARIABLE.into(), format!("{} {}", self.transport.inner.name, self.token))
    }

    /// Waits for the end of the command on the peer, after rsync's own. `None` when rsync did not even ask for the peer.
    pub async fn end(&mut self) -> Option<End> {
        if self.transport.inner.offers().contains_key(&self.token) {
            return None;
        }
        match self.end.take() {
            Some(end) => end.await.ok(),
            None => None,
        }
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

    /// A ticket for one rsync to this peer, which may say something to it as long as the warrant is not lost.
    pub fn offer(&self, peer: &Peer, warrant: &Warrant) -> Ticket {
        let (token, cut) = (random::word(), CancellationToken::new());
        let (tell, end) = oneshot::channel();
        let offer = Offer { peer: peer.clone(), warrant: warrant.clone(), cut: cut.clone(), end: tell };
        self.inner.offers().insert(token.clone(), offer);
        Ticket { transport: self.clone(), token, end: Some(end), _cut: cut.drop_guard() }
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

    /// One shim, and what it hands over.
    async fn serve(self, shim: UnixStream) {
        let ours = rustix::process::geteuid().as_raw();
        if !shim.peer_cred().is_ok_and(|cred| cred.uid() == ours) {
            return;
        }
        let heard = match tokio::time::timeout(HELLO_MAX, self.hear(&shim)).await {
            Ok(Ok(Some(heard))) => heard,
            Ok(Err(error)) => return tracing::debug!("a shim said no hello: {error}"),
            Ok(Ok(None)) | Err(_) => return,
        };
        drop(shim);
        let (Offer { peer, warrant, cut, end }, Hello { input, output, error, .. }, command) = heard;
        let errand = Errand { peer, warrant, command };
        let mut voice = Voice::new(&error);
        drop(error);
        let how = tokio::select! {
            how = self.run(&errand, Ends::new(input, output), &mut voice) => how,
            () = cut.cancelled() => return,
            () = self.inner.ended.cancelled() => return,
        };
        // Nobody waits for the status of an rsync that was given up.
        let _ = end.send(how);
    }

    /// What a shim wants; `None` from one whose token is not good.
    async fn hear(&self, shim: &UnixStream) -> io::Result<Option<(Offer, Hello, Vec<u8>)>> {
        let hello = wire::receive_hello(shim).await?;
        // One-time: whoever shows it again is refused.
        let Some(offer) = self.inner.offers().remove(&hello.token) else { return Ok(None) };
        let command = wire::receive_command(shim, &hello).await?;
        wire::take(shim).await?;
        Ok(Some((offer, hello, command)))
    }

    /// Runs a command. When this is dropped, what the peer has not received yet, it never will.
    async fn run(&self, errand: &Errand, ends: io::Result<Ends>, voice: &mut Voice) -> End {
        let result = match ends {
            Ok(ends) => self.pass(errand, ends, voice).await.map_err(|error| crate::error_chain(&error)),
            Err(error) => Err(format!("rsync's streams cannot be used: {error}")),
        };
        let (why, was_heard) = match result {
            Ok(Passed { status: ExitStatus::Code(code), was_heard }) => return End { code, was_heard },
            Ok(Passed { status: ExitStatus::Signal(signal), was_heard }) => {
                (format!("rsync on {peer} was ended by signal {signal}", peer = errand.peer), was_heard)
            }
            Err(why) => (why, true),
        };
        // Fails when nobody listens any more.
        let _ = voice.say(format!("rsyncdirector: {why}\n").as_bytes()).await;
        End { code: CONNECTION_FAILED, was_heard }
    }

    /// Starts a command on a data connection: one that waits, or a new one where none does or those have died unnoticed.
    async fn begin(&self, errand: &Errand, ends: &mut Ends) -> Result<(Arc<Session>, Begun), SshError> {
        let Errand { peer, warrant, command } = errand;
        while let Some(session) = self.waiting(peer) {
            session.lend(Some(warrant));
            match tokio::time::timeout(KEPT_OPEN_MAX, session.begin(command, ends)).await {
                Ok(Ok(begun)) => return Ok((session, begun)),
                // Nothing has come of it.
                Ok(Err(ExecError::NotSent(_))) | Err(_) => session.reset(),
                Ok(Err(ExecError::Failed(error))) => return Err(error),
            }
        }
        let session = Arc::new(self.connect(peer).await?);
        session.lend(Some(warrant));
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

    async fn pass(&self, errand: &Errand, mut ends: Ends, voice: &mut Voice) -> Result<Passed, SshError> {
        let (session, begun) = self.begin(errand, &mut ends).await?;
        let session = Leased(Some(session));
        let voice = AsyncMutex::new(voice);
        let say = |bytes: Vec<u8>| async { voice.lock().await.say(&{ bytes }).await };
        let passed = session.pass(begun, ends, self.inner.pool.precedence(), say).await?;
        self.keep(&errand.peer, session.unharmed());
        Ok(passed)
    }

    /// A connection that waits for an rsync to this peer.
    fn waiting(&self, peer: &Peer) -> Option<Arc<Session>> {
        let mut idle = self.inner.idle();
        let sessions = idle.get_mut(peer)?;
        iter::from_fn(|| sessions.pop()).map(|(session, _)| session).find(|session| !session.is_closed())
    }

    /// Keeps a connection for the next rsync, for a while.
    fn keep(&self, peer: &Peer, session: Arc<Session>) {
        let mut idle = self.inner.idle();
        if self.inner.ended.is_cancelled() {
            return;
        }
        session.lend(None);
        let was_empty = idle.is_empty();
        let sessions = idle.entry(peer.clone()).or_default();
        sessions.retain(|(session, _)| !session.is_closed());
        if sessions.len() < IDLE_COUNT {
            sessions.push((session, Ticks::now()));
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

/// A data connection while an rsync has it: reset when dropped.
struct Leased(Option<Arc<Session>>);

impl Leased {
    /// Gives it back for another.
    fn unharmed(mut self) -> Arc<Session> {
        self.0.take().expect("it is taken once")
    }
}

impl std::ops::Deref for Leased {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.0.as_ref().expect("it is there until it is taken")
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        if let Some(session) = &self.0 {
            session.reset();
        }
    }
}
