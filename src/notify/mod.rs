//! Telling people and programs what became of jobs.
//!
//! [`Notifier`] observes: `watch` makes letters of events, each a [`Notice`] for a target that asks for it, and the letters go into a
//! bounded queue, so nobody who works ever waits. [`Courier`] takes them from there to their targets, by `http` (with `tls`), or by
//! `child`, a program or sendmail with a `mail`. [`Lateness`] finds what did *not* happen.
//!
//! Absent on purpose: letters that survive the process (the history has what happened, and a recovery is told by it), proxies, redirects,
//! and notices about anything but jobs.

mod child;
mod courier;
mod http;
mod late;
mod mail;
mod notice;
mod secret;
mod tail;
pub mod template;
mod tls;
mod watch;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::mpsc;

pub use self::courier::{Courier, DeliveryError, deliver};
pub use self::late::Lateness;
pub use self::notice::Notice;
use self::watch::{Letter, Watch};
use crate::config::{ActionId, Config, JobId};
use crate::event::{Observer, RunEvent, RunId};
use crate::history::read::Last;
use crate::logging::OutputTap;
use crate::metrics::{Notifications, Telling};
use crate::process::Spawner;

/// Letters between the events and the courier, which only sorts them.
const HANDOVER_MAX: usize = 1024;

/// Hands over what is to be told.
pub struct Notifier {
    watch: Mutex<Watch>,
    queue: mpsc::Sender<Letter>,
    counts: Notifications,
    /// Whether it was said that too much is to be told.
    overflowed: AtomicBool,
}

impl Notifier {
    /// The notifier of a configuration on this host, and who carries its letters. `last` is what is known of jobs from before.
    pub fn new(
        config: &Config,
        host: &str,
        last: &[(String, Last)],
        counts: Notifications,
        spawner: Spawner,
    ) -> (Arc<Self>, Courier) {
        let (queue, incoming) = mpsc::channel(HANDOVER_MAX);
        let courier = Courier::new(incoming, spawner, counts.clone());
        let watch = Mutex::new(Watch::new(config, host, last));
        (Arc::new(Self { watch, queue, counts, overflowed: AtomicBool::new(false) }), courier)
    }

    /// Takes another configuration of the instance; what is known of its jobs stays.
    pub fn reload(&self, config: &Config) {
        self.watch().reload(config);
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand_over(&self, letter: Letter) {
        let kind = letter.0.way.kind();
        match self.queue.try_send(letter) {
            Ok(()) => self.overflowed.store(false, Ordering::Relaxed),
            Err(_) => {
                self.counts.count(kind, Telling::Dropped);
                if !self.overflowed.swap(true, Ordering::Relaxed) {
                    tracing::error!("too much is to be told at once: some notifications are dropped");
                }
            }
        }
    }
}

impl Observer for Notifier {
    fn observe(&self, at: Timestamp, event: &RunEvent) {
        let letters = self.watch().observe(at, event);
        letters.into_iter().for_each(|letter| self.hand_over(letter));
    }

    fn configured(&self, config: &Config) {
        self.reload(config);
    }
}

impl OutputTap for Notifier {
    fn output(&self, _: RunId, job: &JobId, _: &ActionId, stderr: bool, lines: &[u8]) {
        if stderr {
            self.watch().stderr(job, lines);
        }
    }
}
