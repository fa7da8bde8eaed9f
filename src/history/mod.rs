//! What happened, kept: every run, job and action of an instance in an SQLite database, with what the actions printed.
//!
//! [`History::open`] prepares the database ([`schema`]) and gives an observer. Each event is handed to a thread of its own
//! (`writer`), which writes what has gathered in one transaction. When an action or a job is over, what comes next waits for its record for
//! 50 ms at most, so a kill loses no more than what is known of the running action, and a slow disk delays nothing. What an action prints is collected in memory, bounded (`capture`), and written when it ends.
//! [`read`] asks questions; it opens the database for reading only, while it is written.
//!
//! No trouble with the database is ever trouble of a run: one that cannot be read is set aside and begun anew; one that cannot be
//! written is said once, and tried again with the next run. What ended meanwhile is interrupted there (`rows` knows what goes on), and a
//! job's last times are caught up on (`times`).
//!
//! Deliberately absent: progress, which nobody wants to know afterwards, and a record of every look at a block.

mod capture;
pub mod read;
mod rows;
pub mod schema;
#[cfg(test)]
mod tests;
mod times;
mod writer;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::oneshot;

use self::capture::Capture;
use crate::config::{ActionId, JobId};
use crate::event::{JobEvent, Observer, RunEvent, RunId};
use crate::logging::OutputTap;

/// Events that wait for the disk; what comes while so many wait is not recorded.
const WAITING_MAX: usize = 10_000;
/// Bytes of output that wait for the disk; what actions print while so much waits is left out.
const OUTPUT_WAITING_MAX: usize = 32 << 20;
/// Those who wait for the disk at a time.
const WAITERS_MAX: usize = 64;
/// How long the next action waits for the record of the last: a kill then finds it written. A disk that takes longer delays nothing more.
const SETTLE_MAX: Duration = Duration::from_millis(50);
/// How long the end of the process waits for what is not written yet.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// What is kept, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The database; its directory is made where it lacks.
    pub path: PathBuf,
    /// Runs that ended longer ago are forgotten.
    pub max_age: Duration,
    /// Bound on the database's size, bytes; the oldest runs are forgotten when it is reached.
    pub max_size: u64,
    /// Bound on what is kept of one action's output, bytes before compression: the first and the last of it.
    pub output_max: usize,
}

/// An action of a run.
type Key = (RunId, JobId, ActionId);

/// The recorder of one instance.
pub struct History {
    queue: SyncSender<Note>,
    hurry: SyncSender<Waiting>,
    output: Mutex<HashMap<Key, Capture>>,
    output_max: usize,
    /// Bytes of output that wait for the disk.
    waiting: Arc<AtomicUsize>,
    /// Whether it was said that the disk cannot keep up: with what happens, and with what is printed.
    overflowed: AtomicBool,
    output_overflowed: AtomicBool,
}

/// A part of the output that waits for the disk, bytes.
struct Share(usize, Arc<AtomicUsize>);

impl Share {
    fn new(size: usize, waiting: &Arc<AtomicUsize>) -> Self {
        waiting.fetch_add(size, Ordering::Relaxed);
        Self(size, Arc::clone(waiting))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// Somebody who waits until all is written.
type Waiting = Box<dyn FnOnce() + Send>;

/// What the writing thread is told.
enum Note {
    Event {
        at: Timestamp,
        event: Box<RunEvent>,
        output: Option<(Capture, Share)>,
    },
    /// Somebody waits for what was told so far.
    Hurry,
}

impl History {
    /// Prepares the database and starts the thread that writes it. Whatever was under way according to it is marked as interrupted.
    pub fn open(options: Options) -> Arc<Self> {
        let (queue, notes) = mpsc::sync_channel(WAITING_MAX);
        let (hurry, hurried) = mpsc::sync_channel(WAITERS_MAX);
        let output_max = options.output_max;
        let spawned =
            std::thread::Builder::new().name("history".into()).spawn(move || writer::run(options, &notes, &hurried));
        if let Err(error) = spawned {
            tracing::error!("no history is kept: there is no thread to be had: {error}");
        }
        Arc::new(Self::new(queue, hurry, output_max))
    }

    fn new(queue: SyncSender<Note>, hurry: SyncSender<Waiting>, output_max: usize) -> Self {
        let (output, waiting) = (Mutex::default(), Arc::default());
        let (overflowed, output_overflowed) = (AtomicBool::default(), AtomicBool::default());
        Self { queue, hurry, output, output_max, waiting, overflowed, output_overflowed }
    }

    /// Waits, for a while, until all that was told is written.
    pub fn flush(&self) {
        self.flush_within(FLUSH_MAX);
    }

    /// What an action that runs has printed so far, as far as it is kept; nothing of one that has ended, which is in the database.
    pub fn printed(&self, run: RunId, job: &JobId, action: &ActionId) -> Vec<read::OutputLine> {
        let key = (run, job.clone(), action.clone());
        self.output().get(&key).map(Capture::so_far).unwrap_or_default()
    }

    fn flush_within(&self, limit: Duration) {
        let (done, wait) = mpsc::sync_channel(1);
        // Who waits may have gone.
        if self.call_when_written(Box::new(move || {
            let _ = done.send(());
        })) {
            let _ = wait.recv_timeout(limit);
        }
    }

    /// Has the thread write at once what was told so far. `false` if it cannot.
    fn call_when_written(&self, waiting: Waiting) -> bool {
        self.hurry.try_send(waiting).is_ok() && self.queue.try_send(Note::Hurry).is_ok()
    }

    fn output(&self) -> MutexGuard<'_, HashMap<Key, Capture>> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an action that ended has printed, if anything, and its share of what waits: nothing of it where too much does.
    fn take_output(&self, key: &Key) -> Option<(Capture, Share)> {
        let mut capture = self.output().remove(key)?;
        let waiting = self.waiting.load(Ordering::Relaxed);
        if waiting == 0 {
            self.output_overflowed.store(false, Ordering::Relaxed);
        } else if waiting + capture.size() > OUTPUT_WAITING_MAX {
            capture.empty();
            if !self.output_overflowed.swap(true, Ordering::Relaxed) {
                tracing::error!("the history cannot be written fast enough: what actions print now is not kept");
            }
        }
        let share = Share::new(capture.size(), &self.waiting);
        Some((capture, share))
    }

    fn tell(&self, note: Note) {
        match self.queue.try_send(note) {
            Ok(()) => self.overflowed.store(false, Ordering::Relaxed),
            Err(TrySendError::Full(_)) if !self.overflowed.swap(true, Ordering::Relaxed) => {
                tracing::error!("the history cannot be written fast enough: some of what happens now is not recorded");
            }
            // No thread: that was said.
            Err(_) => {}
        }
    }
}

/// What the database remembers of each job for ever, which is brought up to date for that; nothing when it cannot be read, which the
/// recorder will say.
pub fn last(path: &Path) -> Vec<(String, read::Last)> {
    schema::open(path).ok().and_then(|database| read::last(&database).ok()).unwrap_or_default()
}

impl Observer for History {
    fn observe(&self, at: Timestamp, event: &RunEvent) {
        let RunEvent::Job { run, job, event: job_event, .. } = event else {
            return self.tell(Note::Event { at, event: Box::new(event.clone()), output: None });
        };
        let output = match (job_event, run) {
            (JobEvent::Progress { .. }, _) => return,
            (JobEvent::ActionFinished { action, .. }, Some(run)) => {
                self.take_output(&(*run, job.clone(), action.clone()))
            }
            _ => None,
        };
        self.tell(Note::Event { at, event: Box::new(event.clone()), output });
    }

    fn settle(&self) -> BoxFuture<'_, ()> {
        let (done, written) = oneshot::channel();
        let called = self.call_when_written(Box::new(move || {
            let _ = done.send(());
        }));
        Box::pin(async move {
            if called {
                let _ = tokio::time::timeout(SETTLE_MAX, written).await;
            }
        })
    }
}

impl OutputTap for History {
    fn output(&self, run: RunId, job: &JobId, action: &ActionId, stderr: bool, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        let mut captures = self.output();
        let capture = captures.entry((run, job.clone(), action.clone()));
        capture.or_insert_with(|| Capture::new(self.output_max)).add(stderr, lines);
    }
}
