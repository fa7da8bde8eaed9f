//! The four things that can be done to a lock file, whichever host stores it.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use super::record::{BreakNote, Found, Record, WAS_REMOVED};
use crate::ssh::SshError;

/// One operation on one file.
#[derive(Debug, Clone)]
pub enum Op {
    /// Reads it, with its age. Changes nothing.
    Look {
        /// The file.
        path: PathBuf,
    },
    /// Creates it with this content if nothing is there. An answer other than [`Answer::Taken`] ends the batch.
    Take {
        /// The file.
        path: PathBuf,
        /// What to write.
        record: Record,
        /// A stale lock, by its token, that was judged before and may be replaced if it still is that one and still stale.
        replaces: Option<Record>,
    },
    /// Renews its age if it is still ours and its lease has not run out.
    Refresh {
        /// The file.
        path: PathBuf,
        /// What we wrote.
        record: Record,
    },
    /// Removes it if it is still ours.
    Remove {
        /// The file.
        path: PathBuf,
        /// What we wrote.
        record: Record,
    },
    /// Removes it on a person's behalf, if it is still what the person saw, after a note beside it of who did so.
    Break {
        /// The file.
        path: PathBuf,
        /// The director's lock that was seen; `None` when it was another's file.
        seen: Option<Record>,
        /// How old it was when it was seen: one that is younger now is another.
        age: Duration,
        /// What to note.
        note: BreakNote,
    },
}

impl Op {
    /// The file that it is about.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Look { path }
            | Self::Take { path, .. }
            | Self::Refresh { path, .. }
            | Self::Remove { path, .. }
            | Self::Break { path, .. } => path,
        }
    }
}

/// What came of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// What is there: of a look, of a take that found something in the way, or of a break that found something else.
    Found(Found),
    /// The take succeeded: the file is ours.
    Taken,
    /// The refresh succeeded.
    Refreshed,
    /// The removal succeeded.
    Removed,
    /// A refresh or a removal found that the file is not ours any more; the text says how.
    Lost(String),
    /// The operation could not be done; the text is the system's.
    Failed(String),
}

/// The host could not be asked at all, or broke off: nothing is known of what it did.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Unreachable {
    /// Why.
    pub why: String,
    /// Whether a connection ended that stood before, so that another attempt may well succeed.
    pub broke_off: bool,
}

impl Unreachable {
    /// For a reason that another attempt does not mend.
    pub fn because(why: impl Into<String>) -> Self {
        Self { why: why.into(), broke_off: false }
    }
}

impl From<SshError> for Unreachable {
    fn from(error: SshError) -> Self {
        Self { why: crate::error_chain(&error), broke_off: matches!(error, SshError::Lost { .. }) }
    }
}

/// Whether a batch whose answer was lost may be asked for again as it is.
pub(super) fn may_repeat(batch: &[Op]) -> bool {
    !batch.iter().any(|op| matches!(op, Op::Take { .. }))
}

/// What the answers to a batch that was asked for twice mean: a lock that is gone was removed the first time.
pub(super) fn of_repeated(batch: &[Op], answers: Vec<Answer>) -> Vec<Answer> {
    let meant = |(op, answer): (&Op, Answer)| match (op, answer) {
        (Op::Remove { .. }, Answer::Lost(why)) if why == WAS_REMOVED => Answer::Removed,
        (_, answer) => answer,
    };
    batch.iter().zip(answers).map(meant).collect()
}

/// The answers to a batch, one per operation and in its order; shorter when a take ended the batch.
pub type Answers = Pin<Box<dyn Future<Output = Result<Vec<Answer>, Unreachable>> + Send>>;

/// A host that stores lock files.
pub trait LockBackend: Send + Sync {
    /// Performs a batch in order, in one round trip where the host is another one. Each operation is atomic; the batch is
    /// not. A batch whose answer was lost is done once more by the backend, unless it has a take: a take is never asked for
    /// twice under one token, since the first may still be on its way.
    fn perform(&self, batch: Vec<Op>) -> Answers;
}
