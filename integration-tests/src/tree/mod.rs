//! Pairs of trees whose differences are known: what a verification must tell of them, no less and no more.
//!
//! A [`Tree`] is a model; [`disk`] makes it real. A [`Case`] draws the options of a sync, a source, and the target that such a sync leaves behind,
//! which differs from the source in whatever the options do not promise. Then `fault` changes the target, and notes for each
//! change which paths are to be told, in which class and from which level on. Everything comes from one seed, and is small.
//!
//! The rules are those of rsync(1), written down a second time: nothing here knows the program that is tested.

mod case;
pub mod disk;
mod draw;
mod fault;
mod options;

use std::collections::BTreeMap;

pub use case::{Case, Level, Told};
pub use options::Options;

/// A file, directory or other thing, whatever its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub what: What,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Number of the owner.
    pub owner: u32,
    /// Number of the group.
    pub group: u32,
    /// Seconds since the epoch, and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes, but for ACLs.
    pub attributes: BTreeMap<&'static str, Vec<u8>>,
    /// A further user with rights to it: its number and these rights, 0 to 7.
    pub acl: Option<(u32, u8)>,
}

/// The kinds of things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A regular file: its bytes follow from the seed.
    File {
        /// Two files with the same one agree as far as both go.
        seed: u64,
        /// Length, bytes.
        size: u64,
        /// Whether most of it is a hole.
        hole: bool,
    },
    /// A directory.
    Directory,
    /// A symbolic link that says this.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A device with this minor number.
    Device {
        /// Else it is one of characters.
        block: bool,
        /// Its number.
        minor: u32,
    },
}

/// Everything below a directory, which is the empty path itself.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    names: BTreeMap<Path, usize>,
    nodes: Vec<Node>,
}

/// Bytes between slashes, in the order in which a walk tells them: a directory, all of it, and then what comes behind it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(Vec<Vec<u8>>);

impl Path {
    /// The root.
    pub fn root() -> Self {
        Self(Vec::new())
    }

    /// A name in this directory.
    pub fn join(&self, name: &[u8]) -> Self {
        Self(self.0.iter().cloned().chain([name.to_vec()]).collect())
    }

    /// Its directory; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        let (_, above) = self.0.split_last()?;
        Some(Self(above.to_vec()))
    }

    /// Its beginning, of so many names.
    pub fn first(&self, parts: usize) -> Self {
        Self(self.0[..parts].to_vec())
    }

    /// Whether it is this one or below it.
    pub fn is_in(&self, directory: &Self) -> bool {
        self.0.starts_with(&directory.0)
    }

    /// Its names.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// With slashes between them.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.join(&b'/')
    }
}

impl std::fmt::Debug for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.bytes().escape_ascii())
    }
}

impl Tree {
    /// What has a name; `None` where nothing is.
    pub fn get(&self, path: &Path) -> Option<&Node> {
        self.names.get(path).map(|node| &self.nodes[*node])
    }

    fn get_mut(&mut self, path: &Path) -> Option<&mut Node> {
        self.names.get(path).map(|node| &mut self.nodes[*node])
    }

    /// Puts something under a name.
    pub fn put(&mut self, path: Path, node: Node) {
        self.nodes.push(node);
        self.names.insert(path, self.nodes.len() - 1);
    }

    /// Gives something one more name.
    fn link(&mut self, path: Path, of: &Path) {
        let node = self.names[of];
        self.names.insert(path, node);
    }

    /// All paths, in order.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.names.keys()
    }

    /// All names of what has this one.
    pub fn names_of(&self, path: &Path) -> Vec<Path> {
        let node = self.names.get(path);
        self.names.iter().filter(|(_, other)| Some(*other) == node).map(|(path, _)| path.clone()).collect()
    }

    /// The paths of a directory and all that is in it.
    fn below(&self, directory: &Path) -> Vec<Path> {
        self.paths().filter(|path| path.is_in(directory)).cloned().collect()
    }

    fn remove(&mut self, directory: &Path) {
        self.names.retain(|path, _| !path.is_in(directory));
    }
}

impl Node {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.what == What::Directory
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        matches!(self.what, What::File { .. })
    }
}
