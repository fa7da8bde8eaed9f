//! The thread that forks.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process_group, set_child_subreaper, waitpid};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use super::clone::{Cloned, Image};
use super::guard::Guard;
use super::sweep::Sweep;
use super::wait::{self, News};
use super::{SpawnError, Spec};
use crate::random;

/// Starts children. Clones share the forking thread.
#[derive(Clone)]
pub struct Spawner {
    requests: mpsc::Sender<Request>,
    /// What the cookies of this director begin with.
    pub(super) word: Arc<str>,
    /// Ends with the last clone.
    _guard: Option<Arc<Guard>>,
}

struct Request {
    image: Image,
    sweep: Sweep,
    reply: oneshot::Sender<io::Result<Started>>,
}

/// A child that runs and is waited for, with our ends of its pipes.
pub(super) struct Started {
    pub(super) group: Group,
    pub(super) news: UnboundedReceiver<News>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// The group of a child. Killed when dropped before it is known to be empty.
pub(super) struct Group {
    pub(super) leader: Pid,
    pub(super) live: bool,
}

impl Group {
    pub(super) fn signal(&self, signal: Signal) {
        if self.live {
            // No such group: its last process ended in this moment.
            let _ = kill_process_group(self.leader, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// The process groups of the actions that run. Whoever reaps a child that is not of its own group holds the lock, so that no
/// other action loses its leader's status.
#[derive(Clone, Default)]
pub(super) struct Groups(Arc<Mutex<HashSet<Pid>>>);

impl Groups {
    pub(super) fn lock(&self) -> MutexGuard<'_, HashSet<Pid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spawner {
    /// Starts the forking thread and makes this process the subreaper of its descendants.
    ///
    /// # Errors
    /// When the kernel refuses either.
    pub fn start() -> io::Result<Self> {
        Self::start_with(|_word| None)
    }

    /// The same with a guard, for a binary that knows how to be one.
    ///
    /// # Errors
    /// When the kernel refuses one of them.
    pub fn start_guarded() -> io::Result<Self> {
        let mut failed = None;
        let started = Self::start_with(|word| Guard::start(word).map_err(|error| failed = Some(error)).ok())?;
        failed.map_or(Ok(started), Err)
    }

    fn start_with(guard: impl FnOnce(&str) -> Option<Guard>) -> io::Result<Self> {
        set_child_subreaper(Some(getpid()))?;
        let word: Arc<str> = random::word().into();
        let guard = guard(&word).map(Arc::new);
        let (requests, incoming) = mpsc::channel::<Request>();
        let registry = Groups::default();
        thread::Builder::new().name("fork".into()).stack_size(256 * 1024).spawn(move || {
            for request in incoming {
                // A caller that has gone away, or goes before it takes what it is sent, drops the group, which ends it.
                let _ = request.reply.send(start(&request.image, request.sweep, &registry));
            }
        })?;
        Ok(Self { requests, word, _guard: guard })
    }

    /// A cookie that no other action has.
    pub(super) fn cookie(&self) -> String {
        format!("{}-{}", self.word, random::word())
    }

    /// Starts a child as the leader of its own group.
    pub(super) async fn spawn(&self, spec: &Spec, sweep: Sweep) -> Result<Started, SpawnError> {
        let (reply, answer) = oneshot::channel();
        let gone = || io::Error::other("the forking thread has ended");
        let image = Image::new(spec, &sweep.cookie).map_err(|source| failure(spec, source))?;
        let result = match self.requests.send(Request { image, sweep, reply }) {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(gone())),
            Err(_) => Err(gone()),
        };
        result.map_err(|source| failure(spec, source))
    }
}

/// Starts a child, and a thread that reaps it whatever becomes of the caller.
fn start(image: &Image, sweep: Sweep, groups: &Groups) -> io::Result<Started> {
    // Registered under the lock under which it was forked: nobody sees a child without its group.
    let mut registered = groups.lock();
    let Cloned { leader, stdout, stderr } = image.start()?;
    registered.insert(leader);
    drop(registered);
    let group = Group { leader, live: true };
    let news = wait::watch(leader, groups.clone(), sweep).inspect_err(|_no_thread| {
        group.signal(Signal::KILL);
        let _ = waitpid(Some(leader), WaitOptions::empty());
        groups.lock().remove(&leader);
    })?;
    Ok(Started { group, news, stdout, stderr })
}

fn failure(spec: &Spec, source: io::Error) -> SpawnError {
    let program = spec.program.clone();
    if source.kind() == io::ErrorKind::NotFound {
        let path = std::env::var("PATH").unwrap_or_else(|_| "not set".into());
        SpawnError::NotFound { program, path }
    } else {
        SpawnError::Other { program, source }
    }
}
