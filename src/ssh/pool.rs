//! One connection per peer, made when it is first needed and shared by all.
//!
//! A connection attempt is a shared future: whoever waits for it drives it, all get its one result, and it is given up when
//! nobody waits any more. Its failure is not kept; the next caller tries anew. A connection that no command used for a while
//! is closed by a task of the pool.
//!
//! The lock in here is held for map operations only, never across an await.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared, join_all};
use tokio_util::task::TaskTracker;

use super::error::SshError;
use super::keys::Sources;
use super::native::{ExecError, Request, Session, Use};
use super::openssh;
use super::precedence::Precedence;
use super::sftp::Sftp;
use crate::config::{Peer, SshPolicy};
use crate::event::{Events, ExitStatus, RunEvent};

/// What a peer is told to start for scripts: the login shell sees no more than this, and a gate knows by it what is wanted.
pub const SHELL: &str = "exec /bin/sh";

/// A connection without commands is closed after this much time.
const IDLE_MAX: Duration = Duration::from_secs(5 * 60);

/// Bound on saying goodbye to a peer.
const GOODBYE_MAX: Duration = Duration::from_secs(2);

/// What a command left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended. A signal that the protocol has no name for is `Signal(0)`.
    pub status: ExitStatus,
    /// Its standard output, at most 1 MiB: a command that writes more fails with a protocol error.
    pub stdout: Vec<u8>,
    /// Its standard error, the first 64 KiB of it.
    pub stderr: Vec<u8>,
}

/// The connections to all peers. Clones share them.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    policy: SshPolicy,
    events: Events,
    sources: Sources,
    idle_max: Duration,
    slots: Mutex<HashMap<Peer, Slot>>,
    tasks: TaskTracker,
    precedence: Precedence,
}

type Attempt = BoxFuture<'static, Result<Arc<Session>, SshError>>;

/// A peer's connection.
enum Slot {
    /// Somebody is connecting, unless all who waited have gone away.
    Connecting(WeakShared<Attempt>),
    Connected(Arc<Session>),
}

/// A connection and whether it was there before.
struct Lease {
    session: Arc<Session>,
    pooled: bool,
}

impl Pool {
    /// A pool without connections. `events` are told of each connection made (`PeerConnected`) and not made (`PeerFailed`).
    pub fn new(policy: SshPolicy, events: Events) -> Self {
        Self::with(policy, events, Sources::of_process(), IDLE_MAX)
    }

    pub(super) fn with(policy: SshPolicy, events: Events, sources: Sources, idle_max: Duration) -> Self {
        let (slots, tasks) = (Mutex::default(), TaskTracker::new());
        Self {
            inner: Arc::new(Inner {
                policy,
                events,
                sources,
                idle_max,
                slots,
                tasks,
                precedence: Precedence::default(),
            }),
        }
    }

    /// Runs `command` by the peer's login shell with `stdin` as its standard input, then end of file.
    ///
    /// `timeout` bounds the whole call, connecting included; when it passes, the connection is cut too, so that a command that
    /// was not delivered yet never is. Others that use it get [`SshError::Lost`]. It should exceed [`Pool::connect_timeout_of`] the peer: an attempt to connect that nobody waits for any more is
    /// given up without an event. A pooled connection that turns out dead before the command was sent is replaced once. After that point
    /// nothing is repeated: an error then means that the command may have run.
    pub async fn exec(&self, peer: &Peer, command: &str, stdin: &[u8], timeout: Duration) -> Result<Output, SshError> {
        let request = Request { command: command.to_owned(), stdin: stdin.to_vec(), end: None };
        self.exec_bounded(peer, request, timeout).await
    }

    /// Runs a script by the peer's `/bin/sh`. The login shell sees only `exec /bin/sh`. The script must not read its standard input
    /// nor exit, and the last of its output must be `end`, which nothing else in it is: the shell then stays for the next script, which
    /// takes one round trip. When the shell exits all the same, the output is what there was. Else as [`Pool::exec`].
    pub async fn script(&self, peer: &Peer, script: &[u8], end: &[u8], timeout: Duration) -> Result<Output, SshError> {
        let request = Request { command: SHELL.into(), stdin: script.to_vec(), end: Some(end.to_vec()) };
        self.exec_bounded(peer, request, timeout).await
    }

    async fn exec_bounded(&self, peer: &Peer, request: Request, timeout: Duration) -> Result<Output, SshError> {
        let request = Arc::new(request);
        let mut used = None;
        let _first = self.inner.precedence.command();
        let result = tokio::time::timeout(timeout, self.exec_unbounded(peer, request, &mut used)).await;
        result.unwrap_or_else(|_| {
            if let Some(session) = used {
                self.cut(peer, &session);
            }
            Err(SshError::Timeout { peer: peer.to_string(), doing: "running a command on", limit: timeout })
        })
    }

    async fn exec_unbounded(
        &self,
        peer: &Peer,
        request: Arc<Request>,
        used: &mut Option<Arc<Session>>,
    ) -> Result<Output, SshError> {
        let tasks = &self.inner.tasks;
        let lease = self.lease(peer).await?;
        *used = Some(Arc::clone(&lease.session));
        match lease.session.exec(tasks, Arc::clone(&request)).await {
            Err(ExecError::NotSent(_)) if lease.pooled => {
                self.inner.forget(peer, &lease.session);
                let lease = self.lease(peer).await?;
                *used = Some(Arc::clone(&lease.session));
                Ok(lease.session.exec(tasks, request).await?)
            }
            result => Ok(result?),
        }
    }

    /// The SFTP session of the peer's connection, both made if need be, within `timeout`. When it passes, the connection is
    /// cut. A pooled connection that turns out dead is replaced once.
    pub async fn sftp(&self, peer: &Peer, timeout: Duration) -> Result<Sftp, SshError> {
        let mut used = None;
        let result = tokio::time::timeout(timeout, self.sftp_unbounded(peer, &mut used)).await;
        result.unwrap_or_else(|_| {
            if let Some(session) = used {
                self.cut(peer, &session);
            }
            Err(SshError::Timeout { peer: peer.to_string(), doing: "opening an SFTP session on", limit: timeout })
        })
    }

    async fn sftp_unbounded(&self, peer: &Peer, used: &mut Option<Arc<Session>>) -> Result<Sftp, SshError> {
        let mut lease = self.lease(peer).await?;
        loop {
            let session = Arc::clone(&lease.session);
            *used = Some(Arc::clone(&session));
            match session.sftp(&self.inner.tasks).await {
                Ok(channel) => return Ok(Sftp::new(self.clone(), peer.clone(), session, channel)),
                Err(ExecError::NotSent(_)) if lease.pooled => {
                    self.inner.forget(peer, &session);
                    lease = Lease { pooled: false, ..self.lease(peer).await? };
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Ends a connection with a reset, so that nothing that was given up is done later.
    pub(super) fn cut(&self, peer: &Peer, session: &Arc<Session>) {
        self.inner.forget(peer, session);
        session.reset();
    }

    /// What bulk data must give way to.
    pub(super) fn precedence(&self) -> &Precedence {
        &self.inner.precedence
    }

    /// Connects ahead of the first command, if there is no connection yet.
    pub async fn warm(&self, peer: &Peer) -> Result<(), SshError> {
        self.lease(peer).await.map(drop)
    }

    /// Connects as [`Pool::warm`] does, and tells for people which key let us in at each host of the way, the peer last.
    pub async fn enter(&self, peer: &Peer) -> Result<Vec<String>, SshError> {
        let lease = self.lease(peer).await?;
        Ok(lease.session.keys().map(str::to_owned).collect())
    }

    /// Says goodbye to all peers and waits until the connections are closed, for `within` at most; then they are cut.
    /// Commands that still run on them fail.
    pub async fn close(&self, within: Duration) {
        let sessions: Vec<_> = self.inner.lock().drain().filter_map(|(_, slot)| slot.connected()).collect();
        let tasks = &self.inner.tasks;
        tasks.close();
        let goodbyes = async {
            join_all(sessions.iter().map(|session| session.disconnect())).await;
            tasks.wait().await;
        };
        if tokio::time::timeout(within, goodbyes).await.is_err() {
            sessions.iter().for_each(|session| session.cut());
        }
        tasks.reopen();
    }

    /// The bound on making a connection to a peer.
    pub fn connect_timeout_of(&self, peer: &Peer) -> Duration {
        self.inner.policy.connect_timeout_of(peer)
    }

    /// A connection of its own for the data of one rsync at a time.
    pub(super) async fn data_session(&self, peer: &Peer) -> Result<Session, SshError> {
        let result = Session::open(peer, &self.inner.policy, &self.inner.sources, Use::Data).await;
        self.inner.tell(peer, result.as_ref().err());
        result
    }

    /// The system's `ssh` under the same policy, for `rsync -e`: program and arguments, without user and host. An element may
    /// contain spaces and double quotes, so each must be quoted where they are joined to one string.
    ///
    /// What the director's configuration does not say, `ssh` finds in its own configuration files.
    pub fn openssh_command(&self, peer: &Peer) -> Vec<OsString> {
        openssh::command(peer, &self.inner.policy)
    }

    /// The peer's connection, made if need be.
    async fn lease(&self, peer: &Peer) -> Result<Lease, SshError> {
        let attempt = {
            let mut slots = self.inner.lock();
            match slots.get(peer).and_then(Slot::usable) {
                Some(Usable::Connected(session)) => {
                    // Under the lock, so that the connection cannot be closed as idle from here on.
                    session.touch();
                    return Ok(Lease { session, pooled: true });
                }
                Some(Usable::Connecting(attempt)) => attempt,
                None => {
                    let attempt = Inner::connect(Arc::clone(&self.inner), peer.clone()).boxed().shared();
                    let weak = attempt.downgrade().expect("a future that was not polled is not finished");
                    slots.insert(peer.clone(), Slot::Connecting(weak));
                    attempt
                }
            }
        };
        attempt.await.map(|session| Lease { session, pooled: false })
    }
}

enum Usable {
    Connecting(Shared<Attempt>),
    Connected(Arc<Session>),
}

impl Slot {
    fn usable(&self) -> Option<Usable> {
        match self {
            Self::Connecting(attempt) => attempt.upgrade().map(Usable::Connecting),
            Self::Connected(session) if session.is_worn() => None,
            Self::Connected(session) => Some(Usable::Connected(Arc::clone(session))),
        }
    }

    fn connected(self) -> Option<Arc<Session>> {
        match self {
            Self::Connecting(_) => None,
            Self::Connected(session) => Some(session),
        }
    }

    fn holds(&self, session: &Arc<Session>) -> bool {
        matches!(self, Self::Connected(held) if Arc::ptr_eq(held, session))
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, HashMap<Peer, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a connection and puts its result into the peer's slot.
    async fn connect(self: Arc<Self>, peer: Peer) -> Result<Arc<Session>, SshError> {
        let result = Session::open(&peer, &self.policy, &self.sources, Use::Commands).await.map(Arc::new);
        match &result {
            Ok(session) => {
                self.lock().insert(peer.clone(), Slot::Connected(Arc::clone(session)));
                self.tasks.spawn(retire_when_idle(Arc::downgrade(&self), peer.clone(), session));
            }
            Err(_) => {
                self.lock().remove(&peer);
            }
        }
        self.tell(&peer, result.as_ref().err());
        result
    }

    /// What came of connecting.
    fn tell(&self, peer: &Peer, error: Option<&SshError>) {
        let peer = peer.clone();
        self.events.send(match error {
            None => RunEvent::PeerConnected { peer },
            Some(error) => RunEvent::PeerFailed { peer, reason: error.reason() },
        });
    }

    /// Gives up a connection: no further command gets it, and it ends with the last one that has it.
    fn forget(&self, peer: &Peer, session: &Arc<Session>) {
        let mut slots = self.lock();
        if slots.get(peer).is_some_and(|slot| slot.holds(session)) {
            slots.remove(peer);
        }
    }

    /// Gives up a connection that is still idle for `idle_max`; tells for how long otherwise.
    fn forget_if_idle(&self, peer: &Peer, session: &Arc<Session>) -> Option<Duration> {
        let mut slots = self.lock();
        let idle = session.idle();
        if idle < self.idle_max {
            return Some(idle);
        }
        if slots.get(peer).is_some_and(|slot| slot.holds(session)) {
            slots.remove(peer);
        }
        None
    }
}

/// Closes the connection once it is idle for the pool's bound; ends when it is over for another reason.
fn retire_when_idle(pool: Weak<Inner>, peer: Peer, session: &Arc<Session>) -> impl Future<Output = ()> + use<> {
    let ended = session.ended().clone();
    let session = Arc::downgrade(session);
    async move {
        let mut idle = Duration::ZERO;
        loop {
            let Some(idle_max) = pool.upgrade().map(|pool| pool.idle_max) else { return };
            let over = tokio::time::timeout(idle_max.saturating_sub(idle), ended.cancelled()).await.is_ok();
            let (Some(pool), Some(session)) = (pool.upgrade(), session.upgrade()) else { return };
            if over {
                return pool.forget(&peer, &session);
            }
            match pool.forget_if_idle(&peer, &session) {
                Some(time) => idle = time,
                None => {
                    // What did not end politely is cut when the session is dropped.
                    let _ = tokio::time::timeout(GOODBYE_MAX, session.disconnect()).await;
                    return;
                }
            }
        }
    }
}
