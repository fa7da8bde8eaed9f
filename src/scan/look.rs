//! Single names of a tree, looked at and opened by their paths, never through a link.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use super::entry::Entry;
use super::meta::{Attributes, Links};
use super::{directory, entry_of, unknown};

const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// A tree whose root is open.
pub struct Tree {
    root: OwnedFd,
    /// The directory that was asked for last: questions come in the order of paths.
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl Tree {
    /// Opens it; `None` when it is not there.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(root: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(CWD, root, flags, Mode::empty()) {
            Ok(root) => Ok(Some(Self { root, last: None })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What is at a path from the root; `None` when nothing is. What cannot be looked at is told with its problem. Names of one file are not
    /// recognised.
    pub fn look(&mut self, path: &[u8], meta: bool, attributes: Attributes) -> Option<Entry> {
        match self.try_look(path, meta, attributes) {
            Ok(entry) => Some(entry),
            Err(error) if is_absent(&error) => None,
            Err(error) => Some(unknown(path.to_owned(), &error)),
        }
    }

    fn try_look(&mut self, path: &[u8], meta: bool, attributes: Attributes) -> io::Result<Entry> {
        let (parent, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        let name = CString::new(name)?;
        let parent = self.directory(parent)?;
        let about = if path.is_empty() { directory::look_at(parent)? } else { directory::look(parent, &name)? };
        let mut links = Links::default();
        let more = meta.then_some((attributes, &mut links));
        let entry = entry_of(path.to_owned(), parent.as_fd(), &name, &about, more);
        // What goes away while it is looked at was not there.
        let mut entry = entry.map_err(|_| io::Error::from(Errno::NOENT))?;
        if let Some(meta) = &mut entry.meta {
            meta.links = None;
        }
        Ok(entry)
    }

    fn directory(&mut self, path: &[u8]) -> io::Result<&OwnedFd> {
        if path.is_empty() {
            return Ok(&self.root);
        }
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = openat2(&self.root, OsStr::from_bytes(path), flags, Mode::empty(), BENEATH)?;
            self.last = Some((path.to_owned(), opened));
        }
        Ok(self.last.as_ref().map_or(&self.root, |(_, opened)| opened))
    }

    /// Opens a file for reading, without a trace in its access time where that is allowed.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn read(&self, path: &[u8]) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let open = |flags| openat2(&self.root, OsStr::from_bytes(path), flags, Mode::empty(), BENEATH);
        let opened = match open(flags | OFlags::NOATIME) {
            Err(Errno::PERM) => open(flags),
            result => result,
        };
        Ok(opened?.into())
    }

    /// What is known of an open file of it.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn about(file: &File) -> io::Result<Entry> {
        let about = directory::look_at(file)?;
        entry_of(Vec::new(), file.as_fd(), c"", &about, None).map_err(|_| Errno::NOENT.into())
    }
}

/// Whether a path leads nowhere: neither it nor, maybe, what it went through is there any more.
fn is_absent(error: &io::Error) -> bool {
    let absent = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| absent.contains(&code))
}
