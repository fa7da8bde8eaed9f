//! What starts children.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, getpid, kill_process_group, set_child_subreaper};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use super::clone::{Birth, Image};
use super::guard::Guard;
use super::sweep::Sweep;
use super::wait::{self, News};
use super::{SpawnError, Spec};
use crate::random;

/// Starts children.
#[derive(Clone)]
pub struct Spawner {
    groups: Groups,
    /// What the cookies of this director begin with.
    pub(super) word: Arc<str>,
    /// Ends with the last clone.
    _guard: Option<Arc<Guard>>,
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
    /// Makes this process the subreaper of its descendants.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn start() -> io::Result<Self> {
        Self::start_with(|_word| None)
    }

    /// The same with a guard, for a binary that knows how to be one.
    ///
    /// # Errors
    /// When the kernel refuses either.
    pub fn start_guarded() -> io::Result<Self> {
        let mut failed = None;
        let started = Self::start_with(|word| Guard::start(word).map_err(|error| failed = Some(error)).ok())?;
        failed.map_or(Ok(started), Err)
    }

    fn start_with(guard: impl FnOnce(&str) -> Option<Guard>) -> io::Result<Self> {
        set_child_subreaper(Some(getpid()))?;
        let word: Arc<str> = random::word().into();
        let guard = guard(&word).map(Arc::new);
        Ok(Self { groups: Groups::default(), word, _guard: guard })
    }

    /// A cookie that no other action has.
    pub(super) fn cookie(&self) -> String {
        format!("{}-{}", self.word, random::word())
    }

    /// Starts a child as the leader of its own group. Whoever does not wait for that gives up the birth.
    pub(super) async fn spawn(&self, spec: &Spec, sweep: Sweep, birth: &Arc<Birth>) -> Result<Started, SpawnError> {
        let failed = |source| failure(spec, source);
        let image = Image::new(spec, &sweep.cookie).map_err(failed)?;
        let (reply, answer) = oneshot::channel();
        wait::start(image, sweep, self.groups.clone(), Arc::clone(birth), reply).map_err(failed)?;
        let gone = |_| Err(io::Error::other("the thread that was to start it has ended"));
        answer.await.unwrap_or_else(gone).map_err(failed)
    }
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
