//! Local children. Each is the leader of a process group of its own, and [`Spawner::run`] comes back when nothing of it lives any
//! more.
//!
//! - `spawn` starts a thread for each child.
//! - `wait` is that thread. It forks, and lives longer than the child: the parent-death signal, by which the kernel ends a child whose
//!   director was killed, follows the *thread* that forked (prctl(2)). Then it waits for the whole group, since rsync is several processes
//!   and the leader's end is not theirs. We are the subreaper of our descendants, so what loses its parent becomes our child and can be
//!   waited for.
//! - `clone` is how it forks, for the price of a `posix_spawn`. It stands still until the program is executed, which may take for ever on a
//!   file system that does not answer; no other child waits for that.
//! - `sweep` finds what left the group by setsid(2): it still carries a cookie in its environment.
//! - `cookie` tells whether a process does.
//! - `guard` is a process that ends all of them when the director is killed and cannot do so.
//! - `lines` cuts output into chunks of whole lines, of bounded size.
//! - `run` is the conversation between them: output, end, stop, timeout.
//!
//! Deliberately absent: a shell, a terminal, a conversation by standard input.

mod clone;
mod cookie;
pub mod guard;
mod lines;
pub mod moved;
mod run;
mod spawn;
mod sweep;
#[cfg(test)]
mod tests;
mod wait;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::event::ExitStatus;
pub use spawn::Spawner;

/// How a child is told to stop. Cancelling `term` sends SIGTERM to its group, and SIGKILL when the grace is over; cancelling `kill`
/// sends SIGKILL at once.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Politely.
    pub term: CancellationToken,
    /// At once.
    pub kill: CancellationToken,
}

impl Stop {
    /// Completes as soon as it is told, in whatever way.
    pub async fn told(&self) {
        tokio::select! {
            () = self.term.cancelled() => {}
            () = self.kill.cancelled() => {}
        }
    }
}

/// What to execute.
#[derive(Debug, Clone)]
pub struct Spec {
    /// A path, or a name to be found in `PATH`.
    pub program: OsString,
    /// Its arguments, one element each, without the program's name.
    pub args: Vec<OsString>,
    /// Variables beside those of our own environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its standard input, from where this stands now; `None` is nothing.
    pub stdin: Option<Arc<File>>,
    /// Where it runs; `None` is our own working directory.
    pub cwd: Option<PathBuf>,
    /// Time between SIGTERM and SIGKILL.
    pub kill_grace: Duration,
    /// It is stopped after this long; `None` is no bound.
    pub timeout: Option<Duration>,
    /// Standard output is read only so often, and at the end; `None` reads it as it comes. For a child that says little and
    /// that is in a hurry at its end: being read takes time from it.
    pub stdout_every: Option<Duration>,
}

/// One of a child's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Who takes a child's output.
pub trait OutputSink: Send {
    /// Resolves when more can be taken. Asked before each read while the child runs, so a sink that is not ready slows the child
    /// down, and nothing else. Cancel-safe.
    fn ready(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// The child runs: its process id, which is that of its group.
    fn started(&mut self, _leader: u32) {}

    /// Takes a chunk of at most 64 KiB: whole lines, each ending in `\n` or `\r`; but a line longer than that comes in pieces,
    /// and the last one may lack its end. Must not wait.
    fn output(&mut self, stream: Stream, lines: &[u8]);
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The leader's status.
    pub status: ExitStatus,
    /// On whose account.
    pub ended_by: EndedBy,
}

/// On whose account a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// Its own.
    Itself,
    /// [`Stop`] was cancelled before it ended.
    Stop,
    /// It ran longer than its timeout.
    Timeout,
}

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// There is no such program.
    #[error("there is no program {} (PATH is {path})", program.display())]
    NotFound {
        /// As named.
        program: OsString,
        /// Where it was searched.
        path: String,
    },
    /// The system refused.
    #[error("could not execute {}", program.display())]
    Other {
        /// As named.
        program: OsString,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}
