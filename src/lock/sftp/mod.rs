//! Lock files on a peer that gives no shell, over its connection's SFTP session.
//!
//! The protocol, the names and the answers are those of `local`: a temporary file that is linked to the lock's name, a claim
//! for whoever replaces or removes an old lock, a take-over by rename. All three backends work together on one file. `files`
//! looks at files and `temporary` makes some; `protocol`, `take` and `claim` put such steps together; `ages` knows how old a
//! file is by the server's clock. This module performs batches: neighbours on different files at the same time, but takes one
//! after the other once all are prepared.
//!
//! A shell's script runs where the file is; here each step is decided on this host and executed on that one, so a step may be
//! late: our decision is old by then, and another may have replaced what we looked at. The rule that makes this safe: **all
//! of one operation, from its first request to the last answer, happens within half a lease**, by the clock of this host that
//! counts through suspends. When that time passes, or when an operation is given up between a check and the answer of what
//! depends on it (a rename over a stale lock, a removal), the connection is ended by a reset, which discards what was not
//! delivered; the operation is then [`Unreachable`], also if its answer came in the same moment. So a rename or a removal happens
//! while its claim is younger than half a lease and cannot be stepped over.
//!
//! What stays: a request that was delivered, but is executed by a server that then stands still for longer than that (a
//! stopped virtual machine). And where the peer's file system has no hard links, a connection that ends between the
//! creation of a lock and the writing of its content leaves an empty file, which a person must remove.

mod ages;
mod claim;
mod files;
mod protocol;
mod take;
mod temporary;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;

use super::backend::{Answer, Answers, LockBackend, Op, Unreachable, may_repeat, of_repeated};
use super::record::Record;
use crate::clock::{self, Ticks};
use crate::config::Peer;
use crate::ssh::{Pool, Sftp, SshError};

use ages::Ages;
use files::Trouble;
use protocol::Operation;

/// Who gives up an operation after this much time wants another connection for the next.
const PATIENCE: Duration = Duration::from_secs(5);

/// A peer's files, reached by SFTP.
#[derive(Clone)]
pub struct SftpBackend {
    pool: Pool,
    peer: Peer,
    timeout: Duration,
    ages: Arc<Ages>,
    /// So many requests reach the peer, whatever the number of batches; then every connection is dead.
    #[cfg(test)]
    fuse: Option<Arc<std::sync::atomic::AtomicUsize>>,
}

impl LockBackend for SftpBackend {
    fn perform(&self, batch: Vec<Op>) -> Answers {
        let this = self.clone();
        Box::pin(async move { this.try_perform(&batch).await.map_err(Unreachable::from) })
    }
}

impl SftpBackend {
    /// The files of `peer`; a batch, connecting included, may take `timeout`.
    pub fn new(pool: Pool, peer: Peer, timeout: Duration) -> Self {
        Self {
            pool,
            peer,
            timeout,
            ages: Arc::default(),
            #[cfg(test)]
            fuse: None,
        }
    }

    /// [`LockBackend::perform`] with the error as it is. [`SshError::Protocol`] says that the peer has no SFTP.
    pub(super) async fn try_perform(&self, batch: &[Op]) -> Result<Vec<Answer>, SshError> {
        let began = Ticks::now();
        match self.attempt(batch, began).await {
            // A connection that had died unnoticed.
            Err(SshError::Lost { .. }) if may_repeat(batch) => {
                self.attempt(batch, began).await.map(|answers| of_repeated(batch, answers))
            }
            result => result,
        }
    }

    async fn attempt(&self, batch: &[Op], began: Ticks) -> Result<Vec<Answer>, SshError> {
        let sftp = self.pool.sftp(&self.peer, self.left(began)).await?;
        #[cfg(test)]
        let sftp = sftp.with_fuse(self.fuse.clone());
        let mut answers = Vec::with_capacity(batch.len());
        let mut rest = batch;
        while !rest.is_empty() {
            let (together, later) = rest.split_at(independent(rest));
            answers.extend(try_join_all(together.iter().map(|op| self.one(&sftp, op, began))).await?);
            let mut paths = HashSet::new();
            let takes: Vec<_> =
                later.iter().map_while(|op| Taking::of(op).filter(|take| paths.insert(take.path))).collect();
            rest = &later[takes.len()..];
            if !self.takes(&sftp, &takes, began, &mut answers).await? {
                break;
            }
        }
        Ok(answers)
    }

    /// An operation other than a take.
    async fn one(&self, sftp: &Sftp, op: &Op, began: Ticks) -> Result<Answer, SshError> {
        let since = Ticks::now();
        let bound = Bound { sftp, since, limit: self.limit(began, lease(op)) };
        let answer = self.within(bound, Operation { sftp, ages: &self.ages }.perform(op)).await?;
        Ok(answer.unwrap_or_else(Answer::Failed))
    }

    /// Takes, up to the first that fails; whether none did.
    async fn takes(
        &self,
        sftp: &Sftp,
        takes: &[Taking<'_>],
        began: Ticks,
        answers: &mut Vec<Answer>,
    ) -> Result<bool, SshError> {
        let since = Ticks::now();
        let operation = Operation { sftp, ages: &self.ages };
        let bound = |take: &Taking<'_>| Bound { sftp, since, limit: self.limit(began, Some(take.lease())) };
        let preparing = takes.iter().map(|take| self.within(bound(take), operation.prepare(take.path, take.record)));
        let prepared = try_join_all(preparing).await?;
        for (take, prepared) in takes.iter().zip(prepared) {
            let answer = match prepared {
                Ok(prepared) => {
                    let done = operation.take(take.path, take.record, take.replaces, prepared);
                    self.within(bound(take), done).await?.unwrap_or_else(Answer::Failed)
                }
                Err(why) => Answer::Failed(why),
            };
            answers.push(answer);
            if answers.last() != Some(&Answer::Taken) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn left(&self, began: Ticks) -> Duration {
        self.timeout.saturating_sub(began.elapsed())
    }

    /// What an operation may take at most, from its first request to its end.
    fn limit(&self, began: Ticks, lease: Option<Duration>) -> Duration {
        lease.map_or(self.left(began), |lease| self.left(began).min(lease / 2))
    }

    /// Does something within its bound; cuts the connection otherwise. The inner error is the text of [`Answer::Failed`].
    async fn within<T>(
        &self,
        Bound { sftp, since, limit }: Bound<'_>,
        work: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<Result<T, String>, SshError> {
        let patience = Patience { sftp, since, ended: false };
        let result = tokio::select! {
            result = work => Some(result),
            () = clock::sleep(limit.saturating_sub(since.elapsed())) => None,
        };
        patience.end();
        match result.filter(|_| since.elapsed() <= limit) {
            Some(Ok(done)) => Ok(Ok(done)),
            Some(Err(Trouble::Failed(why))) => Ok(Err(why)),
            Some(Err(Trouble::Broken(error))) => Err(error),
            None => {
                sftp.cut();
                Err(SshError::Timeout { peer: self.peer.to_string(), doing: "a lock operation on", limit })
            }
        }
    }
}

/// Until when something must be over.
struct Bound<'a> {
    sftp: &'a Sftp,
    since: Ticks,
    limit: Duration,
}

/// The fields of an [`Op::Take`].
struct Taking<'a> {
    path: &'a Path,
    record: &'a Record,
    replaces: Option<&'a Record>,
}

impl<'a> Taking<'a> {
    fn of(op: &'a Op) -> Option<Self> {
        match op {
            Op::Take { path, record, replaces } => Some(Self { path, record, replaces: replaces.as_ref() }),
            _ => None,
        }
    }

    /// The shorter one of its own and of what it replaces.
    fn lease(&self) -> Duration {
        self.replaces.map_or(self.record.lease(), |stale| stale.lease().min(self.record.lease()))
    }
}

/// Takes a peer for dead whose answer was awaited for longer than [`PATIENCE`] and then given up.
struct Patience<'a> {
    sftp: &'a Sftp,
    since: Ticks,
    ended: bool,
}

impl Patience<'_> {
    fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        if !self.ended && self.since.elapsed() > PATIENCE {
            self.sftp.cut();
        }
    }
}

/// How many operations at the beginning of a batch may be done at the same time: no take, no path twice.
fn independent(batch: &[Op]) -> usize {
    let mut paths = HashSet::new();
    let dependent = batch.iter().position(|op| match op {
        Op::Take { .. } => true,
        Op::Look { path } | Op::Refresh { path, .. } | Op::Remove { path, .. } | Op::Break { path, .. } => {
            !paths.insert(path)
        }
    });
    dependent.unwrap_or(batch.len())
}

/// The lease by which an operation is bounded.
fn lease(op: &Op) -> Option<Duration> {
    match op {
        Op::Look { .. } => None,
        Op::Take { .. } => Taking::of(op).map(|take| take.lease()),
        Op::Refresh { record, .. } | Op::Remove { record, .. } => Some(record.lease()),
        Op::Break { seen, .. } => seen.as_ref().map(Record::lease),
    }
}
