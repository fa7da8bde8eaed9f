//! The files that the protocol makes beside a lock, and the one way in which a name is given: only if nobody has it.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, RenameFlags};
use rustix::io::Errno;

use super::crash;
use crate::lock::record::Record;

/// A hidden name in the lock's own directory: `.<name>.<kind><token>`.
pub(in crate::lock) fn beside(path: &Path, kind: &str, token: &str) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no file name"))?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{kind}{token}"));
    Ok(path.with_file_name(hidden))
}

/// A file that was created by us and goes away again with this value.
pub(super) struct Temporary {
    pub(super) path: PathBuf,
}

impl Temporary {
    pub(super) fn write(path: PathBuf, record: &Record) -> io::Result<Self> {
        // From here on the file goes away also when the write fails.
        let (mut file, created) = create(path)?;
        crash::point();
        file.write_all(record.encode().as_bytes())?;
        crash::point();
        Ok(created)
    }
}

fn create(path: PathBuf) -> io::Result<(fs::File, Temporary)> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path)?;
    Ok((file, Temporary { path }))
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        crash::point();
    }
}

/// Gives `path` the content of `temporary`, which says `record`, if nothing is there: `Ok(false)` if something is.
pub(super) fn give_name(temporary: &Path, path: &Path, record: &Record) -> io::Result<bool> {
    let named = match rustix::fs::linkat(CWD, temporary, CWD, path, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(_no_hard_links_here) => without_hard_links(path, record),
    };
    crash::point();
    named
}

/// The same by a rename that replaces nothing, and where the file system does not know that either, by an exclusive create. The
/// latter is the only way here on which a lock is for a moment without its content.
pub(super) fn without_hard_links(path: &Path, record: &Record) -> io::Result<bool> {
    let copy = Temporary::write(beside(path, "new-", &record.token)?, record)?;
    match rustix::fs::renameat_with(CWD, &copy.path, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => return Ok(true),
        Err(Errno::EXIST) => return Ok(false),
        Err(_not_known_here) => {}
    }
    match Temporary::write(path.to_owned(), record) {
        Ok(created) => {
            std::mem::forget(created);
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}
