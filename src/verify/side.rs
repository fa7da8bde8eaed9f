//! One of the two trees of a replica, wherever it is: what a verification asks of it.
//!
//! `here` answers from this host's file systems, the agent's client for a peer, and `fallback` by rsync alone.
//! Everything blocks: a verification is a process of its own, and ends by being killed.

use serde::{Deserialize, Serialize};

use crate::agent::proto::message::Volume;
use crate::rsync::filter::{Filters, Side as End};
use crate::scan::{Attributes, Entry, Mtime};

/// What belongs to a tree, and what is to be told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// The directory that paths begin at: the root of the transfer. As rsync would be given it: below the home of the user when it is relative.
    pub root: Vec<u8>,
    /// The names in it that are looked at; empty is all, and then the root itself is told, too.
    pub only: Vec<Vec<u8>>,
    /// The rules of the sync.
    pub filters: Filters,
    /// Which end of the sync the tree is.
    pub end: End,
    /// Whether to stay on the file system of the root.
    pub one_file_system: bool,
    /// Whether to tell more than kind, size and time.
    pub meta: bool,
    /// Which extended attributes to look at, too.
    pub attributes: Attributes,
}

/// A file that is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// From the root.
    pub path: Vec<u8>,
    /// Which state of it: what is not in this state any more is [`Read::Changed`].
    pub state: State,
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// [`Entry::id`].
    pub id: u64,
    /// [`Entry::ctime`].
    pub ctime: Mtime,
    /// [`Entry::mtime`].
    pub mtime: Mtime,
    /// Length, bytes.
    pub size: u64,
}

impl State {
    /// The state that was looked at.
    pub fn of(entry: &Entry) -> Self {
        Self { id: entry.id, ctime: entry.ctime, mtime: entry.mtime, size: entry.size }
    }
}

/// What came of reading a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// The BLAKE3 digest of its content.
    Digest([u8; 32]),
    /// It changed meanwhile, or is not there, or is no file any more.
    Changed,
    /// It cannot be read: why.
    Unreadable(String),
}

/// What a side knows of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The program's version there; empty where it does not matter.
    pub version: String,
    /// How far its clock is before ours, seconds; `None` where that is not known.
    pub clock_offset: Option<f64>,
    /// The user that looks: 0 sees everything.
    pub user: u32,
    /// Names of users, with their numbers.
    pub users: Vec<(String, u32)>,
    /// Names of groups, with their numbers.
    pub groups: Vec<(String, u32)>,
}

/// Reads of a tree, in the order of [`crate::scan::order`].
pub type Entries<'a> = Box<dyn Iterator<Item = Result<Entry, SideError>> + Send + 'a>;

/// One of the two trees.
pub trait Side: Send {
    /// What it knows of itself.
    fn about(&self) -> About;

    /// What it knows of the file system of a directory; `None` where that cannot be told.
    fn volume(&mut self, _root: &[u8]) -> Option<Volume> {
        None
    }

    /// Tells all entries. A root that is not there has none.
    ///
    /// # Errors
    /// [`SideError`]; so has each entry.
    fn scan(&mut self, scan: &Scan) -> Result<Entries<'_>, SideError>;

    /// Looks once more at some paths of a tree that was scanned; answers in their order, `None` where nothing is.
    ///
    /// # Errors
    /// [`SideError`].
    fn look(&mut self, scan: &Scan, paths: &[Vec<u8>]) -> Result<Vec<Option<Entry>>, SideError>;

    /// Whether it can read files for us. Who cannot is compared by rsync.
    fn reads(&self) -> bool {
        true
    }

    /// Reads files of a tree that was scanned, several at a time; `told` hears of each, in their order. At most `rate` bytes per second are
    /// read, if it is given.
    ///
    /// # Errors
    /// [`SideError`]; and that of `told`.
    fn hash(
        &mut self,
        scan: &Scan,
        wanted: &mut (dyn Iterator<Item = Wanted> + Send),
        rate: Option<u64>,
        told: &mut (dyn FnMut(Wanted, Read) -> Result<(), SideError> + Send),
    ) -> Result<(), SideError>;
}

/// Why a tree could not be told.
#[derive(Debug, thiserror::Error)]
pub enum SideError {
    /// It cannot be walked.
    #[error(transparent)]
    Walk(#[from] crate::scan::WalkError),
    /// The other end is gone, or does not speak as it should.
    #[error("{who}: {what}")]
    Peer {
        /// The peer.
        who: String,
        /// What was seen of it.
        what: String,
    },
    /// Something here failed.
    #[error("{doing}")]
    Io {
        /// What was tried.
        doing: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl SideError {
    /// Of something here.
    pub fn io(doing: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io { doing: doing.into(), source }
    }
}
