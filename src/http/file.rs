//! Files that may change while we run.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

/// Of a secret's mode: write by the group, anything by others.
const TOO_OPEN: u32 = 0o027;
/// More of a secret is not read, bytes.
const SECRET_MAX: u64 = 4096;

/// What tells a file's content from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: (u64, u64),
    size: u64,
    /// Seconds and nanoseconds.
    changed: (i64, i64),
}

impl Stamp {
    /// That of a file as it is now.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        let changed = (found.ctime(), found.ctime_nsec());
        Ok(Self { inode: (found.dev(), found.ino()), size: found.size(), changed })
    }
}

/// The first line of a file with a secret, without its end.
///
/// # Errors
/// When it cannot be read, or others can, or can write it.
pub(super) fn first_line(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut file = fs::File::open(path)?;
    let mode = file.metadata()?.mode() & 0o7777;
    if mode & TOO_OPEN != 0 {
        return Err(io::Error::other(format!("its mode {mode:04o} lets others in: `chmod 0600` it, or 0640")));
    }
    // Of the final size from the start: a buffer that grows would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_MAX as usize + 1));
    file.by_ref().take(SECRET_MAX).read_to_end(&mut bytes)?;
    let end = memchr::memchr2(b'\n', b'\r', &bytes).unwrap_or(bytes.len());
    bytes.truncate(end);
    Ok(bytes)
}
