//! A walk through a tree, in an order that two hosts share, in memory that does not grow with it.
//!
//! [`Walk`] is an iterator of [`Entry`]s: the root, then depth first, siblings by the bytes of their names ([`order`]), so that two walks can be
//! merged as they come. Directories are opened each from its parent, never through a symbolic link, so that what is exchanged meanwhile
//! leads nowhere else.
//!
//! At the source, what the [`Scope`] does not admit is neither told nor entered. At the destination every name is told, with what keeps it from
//! being deleted, since the source may send what is kept, and what is kept keeps its directories; entered is all but what is neither sent nor deleted.
//!
//! What cannot be read is told with its problem, and the walk goes on. A name that vanishes between being read and being looked at was never there;
//! one that becomes something else meanwhile is looked at again.
//!
//! Deliberately absent: contents (`hash` reads those), threads, and any guess about what a difference means.

mod directory;
mod entry;
mod look;
mod meta;
#[cfg(test)]
mod tests;

use std::ffi::{CStr, CString};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{CWD, FileType, Mode, OFlags, Statx, openat};
use rustix::io::Errno;

pub use entry::{Entry, Kind, Meta, Mtime, order};
pub use look::Tree;
pub use meta::Attributes;

use self::directory::Names;
use self::meta::Links;
use crate::rsync::filter::{FilterError, Kept, Scope, Side};

/// So many directories of the way down are kept open; those above are opened again when the walk comes back to them.
const OPEN_MAX: usize = 64;
/// So often is a name looked at that becomes something else under our hands.
const LOOKS: usize = 5;
/// What stays in any case.
const KEPT: Kept = Kept { alone: true, with_directory: true };
/// A file of filter rules is not larger than this, bytes.
const RULES_MAX: u64 = 4 * 1024 * 1024;

/// What a walk is to look at.
#[derive(Debug, Clone)]
pub struct Terms {
    /// What belongs to the tree: the scope above its root.
    pub scope: Scope,
    /// For which side of a sync.
    pub side: Side,
    /// Whether to stay on the file system of the root (`--one-file-system`).
    pub one_file_system: bool,
    /// Whether to tell more than kind, size and time.
    pub meta: bool,
    /// Which extended attributes to look at, too.
    pub attributes: Attributes,
    /// The names in the root that are looked at; empty is all, and then the root itself is told, too.
    pub only: Vec<Vec<u8>>,
}

/// A walk. Each item is an entry, or the end of the walk by rules that cannot be followed.
pub struct Walk {
    terms: Terms,
    root: Rc<OwnedFd>,
    device: (u32, u32),
    /// The directories on the way to the next entry.
    stack: Vec<Level>,
    /// The path of the innermost, with a slash at its end unless it is the root.
    path: Vec<u8>,
    links: Links,
    first: Option<Entry>,
    first_named: Option<CString>,
}

struct Level {
    /// `None` where too many are open.
    file: Option<Rc<OwnedFd>>,
    /// Its name in its parent; of the root empty.
    name: CString,
    names: Names,
    scope: Rc<Scope>,
    /// The length of [`Walk::path`] without it.
    above: usize,
}

impl Walk {
    /// Begins at a directory. A link to it is followed, as by rsync when a slash stands behind it.
    ///
    /// # Errors
    /// When it cannot be read, or has rules that cannot be followed.
    pub fn new(root: &Path, mut terms: Terms) -> Result<Self, WalkError> {
        terms.scope = terms.scope.at(terms.side);
        let failed = |source: io::Error| WalkError::Root { root: root.display().to_string(), source };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(CWD, root, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        let about = directory::look_at(&opened).map_err(failed)?;
        let mut walk = Self {
            device: (about.stx_dev_major, about.stx_dev_minor),
            root: Rc::new(opened),
            stack: Vec::new(),
            path: Vec::new(),
            links: Links::default(),
            first: None,
            first_named: None,
            terms,
        };
        let root = Rc::clone(&walk.root);
        let (scope, names) = if walk.terms.only.is_empty() {
            let entry = walk.entry(Vec::new(), root.as_fd(), c"", &about);
            walk.first = Some(entry.map_err(|_| failed(io::ErrorKind::NotFound.into()))?);
            (walk.enter(&walk.terms.scope, &[], &root)?, Names::read(root.as_fd()))
        } else {
            walk.first_named = walk.first_named(&root);
            (walk.terms.scope.named(), Names::of(&walk.terms.only))
        };
        let names = names.map_err(failed)?;
        walk.stack.push(Level { file: Some(root), name: CString::default(), names, scope: Rc::new(scope), above: 0 });
        Ok(walk)
    }

    /// The scope of a directory, by the files of rules in it.
    fn enter(&self, scope: &Scope, path: &[u8], directory: &OwnedFd) -> Result<Scope, WalkError> {
        let mut read = |file: &[u8]| {
            let name = file.rsplit(|&byte| byte == b'/').next().unwrap_or(file);
            read_rules(directory, name)
        };
        Ok(scope.enter(path, &mut read)?)
    }

    /// The first of the directories that are named in the root: rsync reads the files of rules above it, and forgets them behind it.
    fn first_named(&self, root: &OwnedFd) -> Option<CString> {
        if !self.terms.scope.looks_above() {
            return None;
        }
        let scope = self.terms.scope.named();
        let is_first = |name: &&Vec<u8>| {
            let is_directory = |about: Statx| kind(&about) == Kind::Directory;
            let name = CString::new(&name[..]).unwrap_or_default();
            directory::look(root, &name).is_ok_and(is_directory) && !scope.is_never_sent(name.to_bytes(), true)
        };
        // In rsync's order, in which a directory's name ends in a slash.
        let first = self.terms.only.iter().filter(is_first).min_by_key(|name| [&name[..], b"/"].concat())?;
        CString::new(&first[..]).ok()
    }

    /// What holds in the root for this name in it, if that is a directory: its own rules are those of its parent, but for one that is named.
    fn above(&self, name: &CStr, scope: &Rc<Scope>) -> Result<Rc<Scope>, WalkError> {
        if self.stack.len() > 1 || self.first_named.as_deref() != Some(name) {
            return Ok(Rc::clone(scope));
        }
        let root = &self.root;
        Ok(Rc::new(self.terms.scope.enter_above(b"", &mut |name| read_rules(root, name))?))
    }

    /// The innermost directory, opened again if need be.
    fn open_innermost(&mut self) -> io::Result<()> {
        if self.stack.last().is_none_or(|level| level.file.is_some()) {
            return Ok(());
        }
        let mut file = Rc::clone(&self.root);
        for level in &self.stack[1..] {
            file = Rc::new(directory::open(&file, &level.name)?);
        }
        if let Some(level) = self.stack.last_mut() {
            level.file = Some(file);
        }
        Ok(())
    }

    fn leave(&mut self) {
        if let Some(level) = self.stack.pop() {
            self.path.truncate(level.above);
        }
    }

    /// What is told of a name.
    ///
    /// # Errors
    /// When it is not there any more, or something else.
    fn entry(&mut self, path: Vec<u8>, parent: BorrowedFd<'_>, name: &CStr, about: &Statx) -> Result<Entry, Moved> {
        let attributes = self.terms.attributes;
        entry_of(path, parent, name, about, self.terms.meta.then_some((attributes, &mut self.links)))
    }

    /// What comes of a name; `None` when it does not belong to the tree, or is not there any more.
    fn told(&mut self, name: &CStr) -> Result<Option<Entry>, WalkError> {
        for _ in 0..LOOKS {
            match self.told_at_once(name)? {
                Told::Entry(entry) => return Ok(Some(entry)),
                Told::Nothing => return Ok(None),
                Told::Moved => {}
            }
        }
        let path = [&self.path[..], name.to_bytes()].concat();
        Ok(Some(unknown(path, &io::Error::other("it does not stay what it is"))))
    }

    fn told_at_once(&mut self, name: &CStr) -> Result<Told, WalkError> {
        let Some(level) = self.stack.last() else { return Ok(Told::Nothing) };
        let Some(parent) = level.file.clone() else { return Ok(Told::Nothing) };
        let scope = Rc::clone(&level.scope);
        let side = self.terms.side;
        let admits = |path: &[u8], is_directory| side == Side::Receiver || scope.admits(path, is_directory, side);
        let mut path = Vec::with_capacity(self.path.len() + name.count_bytes());
        path.extend_from_slice(&self.path);
        path.extend_from_slice(name.to_bytes());
        let about = match directory::look(&parent, name) {
            Ok(about) => about,
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => return Ok(Told::Nothing),
            Err(error) => {
                let kept = self.kept(&scope, &path, false, false);
                return Ok(match admits(&path, false) {
                    true => Told::Entry(Entry { kept, ..unknown(path, &error) }),
                    false => Told::Nothing,
                });
            }
        };
        let is_directory = kind(&about) == Kind::Directory;
        if !admits(&path, is_directory) {
            return Ok(Told::Nothing);
        }
        let Ok(mut entry) = self.entry(path, parent.as_fd(), name, &about) else { return Ok(Told::Moved) };
        entry.kept = self.kept(&scope, &entry.path, is_directory, is_directory && self.is_mount(&about));
        let stays = entry.kept == KEPT && scope.is_never_sent(&entry.path, is_directory);
        if is_directory && !stays && !self.is_border(&about) {
            match directory::open(&parent, name).and_then(|opened| Ok((Names::read(opened.as_fd())?, opened))) {
                Ok((names, opened)) => {
                    let scope = self.enter(&*self.above(name, &scope)?, &entry.path, &opened)?;
                    self.descend(name.to_owned(), names, opened, Rc::new(scope));
                }
                Err(error) => match Moved::or_problem(&error) {
                    Ok(problem) => entry.problem = Some(problem),
                    Err(Moved) => return Ok(Told::Moved),
                },
            }
        }
        Ok(Told::Entry(entry))
    }

    /// Whether a directory is on another file system that does not belong to the tree. What is mounted below a destination is written to
    /// all the same.
    fn is_border(&self, about: &Statx) -> bool {
        self.terms.side == Side::Sender && self.is_mount(about)
    }

    /// Whether it is on another file system than the root, where that matters.
    fn is_mount(&self, about: &Statx) -> bool {
        self.terms.one_file_system && (about.stx_dev_major, about.stx_dev_minor) != self.device
    }

    /// What keeps a name at the destination.
    fn kept(&self, scope: &Scope, path: &[u8], is_directory: bool, is_mount: bool) -> Kept {
        // rsync deletes in the directories that it is given, and not those; nor what is mounted where it stays on one file system.
        let is_named = self.stack.len() == 1 && !self.terms.only.is_empty();
        match self.terms.side {
            Side::Sender => Kept::default(),
            Side::Receiver if is_named || is_mount => KEPT,
            Side::Receiver => scope.kept(path, is_directory),
        }
    }

    fn descend(&mut self, name: CString, names: Names, opened: OwnedFd, scope: Rc<Scope>) {
        let depth = self.stack.len();
        if depth > OPEN_MAX {
            // The root stays open by itself.
            self.stack[depth - OPEN_MAX].file = None;
        }
        let above = self.path.len();
        self.path.extend_from_slice(name.to_bytes());
        self.path.push(b'/');
        self.stack.push(Level { file: Some(Rc::new(opened)), name, names, scope, above });
    }
}

impl Iterator for Walk {
    type Item = Result<Entry, WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(root) = self.first.take() {
            return Some(Ok(root));
        }
        loop {
            let Some(name) = self.stack.last_mut()?.names.pop() else {
                self.leave();
                continue;
            };
            let name = name.get();
            if let Err(error) = self.open_innermost() {
                let Ok(_) = Moved::or_problem(&error) else {
                    // What is not told yet of a directory that is gone has gone with it.
                    self.leave();
                    continue;
                };
                let mut path = self.path.clone();
                path.extend_from_slice(name.to_bytes());
                return Some(Ok(unknown(path, &error)));
            }
            match self.told(name) {
                Ok(None) => {}
                Ok(Some(entry)) => return Some(Ok(entry)),
                Err(error) => {
                    self.stack.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}

/// What comes of a look at a name.
enum Told {
    Entry(Entry),
    /// It does not belong to the tree, or is not there any more.
    Nothing,
    Moved,
}

/// A name is not there any more, or something else than a moment ago.
struct Moved;

impl Moved {
    /// What an error says of a name that was there; or that it was moved.
    fn or_problem(error: &io::Error) -> Result<String, Self> {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            // EINVAL: readlink(2) of what is no link.
            Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::INVAL) => Err(Self),
            _ => Ok(error.to_string()),
        }
    }
}

/// Why a tree cannot be walked.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// Its root cannot be read.
    #[error("could not read {root}")]
    Root {
        /// Which.
        root: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its rules cannot be followed.
    #[error(transparent)]
    Filter(#[from] FilterError),
}

/// All about a name in an open directory (the directory itself, where the name is empty), with more than the kernel says at once if that is wanted.
fn entry_of(
    path: Vec<u8>,
    parent: BorrowedFd<'_>,
    name: &CStr,
    about: &Statx,
    more: Option<(Attributes, &mut Links)>,
) -> Result<Entry, Moved> {
    let kind = kind(about);
    let size = if kind == Kind::File { about.stx_size } else { 0 };
    let time = |time: &rustix::fs::StatxTimestamp| Mtime { seconds: time.tv_sec, nanos: time.tv_nsec };
    let (mtime, ctime) = (time(&about.stx_mtime), time(&about.stx_ctime));
    let meta = more.map(|(attributes, links)| meta::of(parent, name, about, attributes, links));
    let (meta, problem) = match meta.transpose() {
        Ok(meta) => (meta.map(Box::new), None),
        Err(error) => (None, Some(Moved::or_problem(&error)?)),
    };
    Ok(Entry { path, kind, size, mtime, ctime, id: identity(about), kept: Kept::default(), meta, problem })
}

fn unknown(path: Vec<u8>, error: &io::Error) -> Entry {
    let problem = Some(error.to_string());
    Entry { problem, ..Entry::of(path, Kind::Unknown) }
}

/// A number for the file itself: no other of this host has it while this one lives, as far as 64 bits go.
fn identity(about: &Statx) -> u64 {
    let device = (u64::from(about.stx_dev_major) << 32) | u64::from(about.stx_dev_minor);
    about.stx_ino ^ device.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn kind(about: &Statx) -> Kind {
    let device = || rustix::fs::makedev(about.stx_rdev_major, about.stx_rdev_minor);
    match FileType::from_raw_mode(about.stx_mode.into()) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::BlockDevice => Kind::Block(device()),
        FileType::CharacterDevice => Kind::Character(device()),
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::Unknown => Kind::Unknown,
    }
}

/// A file of rules in a directory; `None` if there is none.
fn read_rules(directory: &OwnedFd, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let name = std::ffi::OsStr::from_bytes(name);
    let file = match openat(directory, name, flags, Mode::empty()) {
        Ok(file) => std::fs::File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut text = Vec::new();
    file.take(RULES_MAX).read_to_end(&mut text)?;
    Ok(Some(text))
}
