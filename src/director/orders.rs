//! What people order while an instance runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::config::{Config, JobId};

/// Orders that wait for the director.
const WAITING_MAX: usize = 16;

/// An order. No jobs are all of them.
#[derive(Debug)]
pub enum Order {
    /// Run these jobs now, or once more behind what runs.
    Now(Vec<JobId>),
    /// End these jobs, and take them out of the queue.
    Cancel(Vec<JobId>),
    /// Suspend the schedule of these jobs.
    Pause(Vec<JobId>),
    /// End that.
    Resume(Vec<JobId>),
    /// Use another configuration of the same instance.
    Reload(Box<Config>),
    /// Leave, to be started anew, as soon as nothing runs.
    Renew,
}

/// What an order came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Of each job that it touched.
    pub jobs: Vec<JobDone>,
    /// What else is to be said, for people.
    pub notes: Vec<String>,
}

/// What an order came to, of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobDone {
    /// Its id.
    pub job: String,
    /// `started`, `queued`, `already queued`, `cancelled`, `paused`, `resumed`, `added`, `changed`, `removed`, `waited for`.
    pub result: String,
    /// In which run, where that is known.
    pub run: Option<u64>,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such job.
    #[error("there is no job {job:?}; there are: {known}")]
    UnknownJob {
        /// The one that was named.
        job: String,
        /// All that there are.
        known: String,
    },
    /// It could not be remembered.
    #[error("could not remember it in {path}")]
    Unwritten {
        /// The file.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The instance ends.
    #[error("the instance is stopping")]
    Stopping,
}

/// An order on its way.
pub(super) type Ordered = (Order, oneshot::Sender<Result<Done, Refusal>>);

/// The way of orders to a director. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Orders(mpsc::Sender<Ordered>);

/// The director's end of it.
#[derive(Debug)]
pub struct Inbox(mpsc::Receiver<Ordered>);

/// A way for orders.
pub fn orders() -> (Orders, Inbox) {
    let (send, receive) = mpsc::channel(WAITING_MAX);
    (Orders(send), Inbox(receive))
}

impl Orders {
    /// Gives an order and waits for what it comes to: not for what it begins.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn give(&self, order: Order) -> Result<Done, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.0.send((order, reply)).await.map_err(|_| Refusal::Stopping)?;
        answer.await.unwrap_or(Err(Refusal::Stopping))
    }
}

impl Inbox {
    /// The next order; never, when nobody can give one any more.
    pub(super) async fn next(&mut self) -> Ordered {
        match self.0.recv().await {
            Some(ordered) => ordered,
            None => std::future::pending().await,
        }
    }
}

impl Done {
    pub(super) fn note(&mut self, job: &JobId, result: &str, run: Option<u64>) {
        self.jobs.push(JobDone { job: job.to_string(), result: result.to_owned(), run });
    }
}

/// What differs between two configurations of one instance.
pub(super) fn differences(before: &Config, now: &Config) -> Done {
    let mut done = Done::default();
    let jobs = |config: &Config| -> BTreeMap<JobId, _> {
        config.jobs.iter().map(|job| (job.id.clone(), std::sync::Arc::clone(job))).collect()
    };
    let (old, new) = (jobs(before), jobs(now));
    for job in &now.jobs {
        match old.get(&job.id) {
            None => done.note(&job.id, "added", None),
            Some(before) if before != job => done.note(&job.id, "changed", None),
            Some(_) => {}
        }
    }
    old.keys().filter(|id| !new.contains_key(*id)).for_each(|id| done.note(id, "removed", None));
    let fixed = [
        ("rsync_id", before.rsync_id != now.rsync_id),
        ("pid_file_dir", before.pid_file_dir != now.pid_file_dir),
        ("metrics", before.metrics != now.metrics),
        ("history and state_dir", before.history != now.history),
        ("connect_timeout, host_key_policy and known_hosts", before.ssh != now.ssh),
    ];
    let fixed = fixed.into_iter().filter(|(_, differs)| *differs);
    done.notes.extend(fixed.map(|(what, _)| format!("what {what} says now holds after a restart")));
    done
}

/// What differs, in a line for people.
pub(super) fn summary(done: &Done) -> String {
    let jobs = done.jobs.iter().map(|job| format!("{} {}", job.job, job.result));
    let all: Vec<String> = jobs.chain(done.notes.iter().cloned()).collect();
    if all.is_empty() { "nothing that matters has changed".to_owned() } else { all.join(", ") }
}
