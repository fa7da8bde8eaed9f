//! What is known of one name in a tree.

use serde::{Deserialize, Serialize};

use crate::rsync::filter::Kept;

/// A file, directory or whatever else has a name below the root of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// From the root, without a slash at either end; empty for the root itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Length of a file, bytes; of anything else 0.
    pub size: u64,
    /// When its content was last changed.
    pub mtime: Mtime,
    /// When anything of it was last changed, by its host's clock; 0 where that is not known.
    pub ctime: Mtime,
    /// A number for the file itself, whatever its name: device and inode; 0 where that is not known.
    pub id: u64,
    /// What keeps it from being deleted, and so from being too much, at a destination.
    pub kept: Kept,
    /// Everything else about it, where that was asked for.
    pub meta: Option<Box<Meta>>,
    /// Why nothing is known of what it holds: a directory that could not be read, a name that could not be looked at.
    pub problem: Option<String>,
}

impl Entry {
    /// One of which no more is known than what it is.
    pub fn of(path: Vec<u8>, kind: Kind) -> Self {
        let (mtime, ctime, kept) = Default::default();
        Self { path, kind, size: 0, mtime, ctime, id: 0, kept, meta: None, problem: None }
    }
}

impl Entry {
    /// When its content was last changed, where it is not known when anything was.
    pub fn mtime_if_alone(&self) -> Mtime {
        if self.ctime == Mtime::default() { self.mtime } else { Mtime::default() }
    }
}

/// A time in the life of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Mtime {
    /// Since the epoch.
    pub seconds: i64,
    /// And nanoseconds, below 10⁹.
    pub nanos: u32,
}

impl Mtime {
    /// Milliseconds since the epoch.
    pub fn millis(self) -> i64 {
        self.seconds.saturating_mul(1000).saturating_add(i64::from(self.nanos / 1_000_000))
    }
}

/// The kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A block device with this number, as makedev(3) puts it together.
    Block(u64),
    /// A character device.
    Character(u64),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A name that could not be looked at.
    Unknown,
}

/// What rsync keeps of a file beside its content and time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Meta {
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Number of the owner.
    pub owner: u32,
    /// Number of the group.
    pub group: u32,
    /// What a symbolic link says.
    pub target: Option<Vec<u8>>,
    /// A digest of the names and values of extended attributes, ACLs among them; `None` when it has none.
    pub attributes: Option<[u8; 16]>,
    /// Names of one file have the same number here, which means something within one scan only; `None` for a file with one name.
    pub links: Option<u64>,
}

/// The order in which a scan tells entries: a directory, then all of it, then what comes behind it; siblings by the bytes of their names.
pub fn order(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    // A slash comes before every byte that a name may have.
    let rank = |byte: &u8| if *byte == b'/' { 0 } else { u16::from(*byte) + 1 };
    a.iter().map(rank).cmp(b.iter().map(rank))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_followed_by_all_of_it() {
        let mut paths: Vec<&[u8]> = vec![b"b", b"a-b", b"a/c", b"", b"a", b"a/b/x", b"a/b", b"a\x01"];
        paths.sort_by(|a, b| order(a, b));
        let expected: Vec<&[u8]> = vec![b"", b"a", b"a/b", b"a/b/x", b"a/c", b"a\x01", b"a-b", b"b"];
        assert_eq!(paths, expected);
    }
}
