//! One open directory of a walk: its names in order, and what is beside them.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, Statx, StatxFlags, openat, statx};

const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// The buffer into which the kernel puts names, bytes.
const BUFFER: usize = 64 * 1024;

/// The names of a directory, one buffer for all: a directory may have a million.
#[derive(Debug, Default)]
pub(super) struct Names {
    bytes: Vec<u8>,
    /// Where each begins; it ends with a NUL. The next to be told is the last.
    starts: Vec<u32>,
}

impl Names {
    /// Reads a directory.
    pub(super) fn read(directory: BorrowedFd<'_>) -> io::Result<Self> {
        let mut buffer = Vec::new();
        buffer.resize(BUFFER, MaybeUninit::uninit());
        let mut names = Self::default();
        let mut entries = RawDir::new(directory, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes_with_nul();
            if name != b".\0" && name != b"..\0" {
                names.push(name)?;
            }
        }
        Ok(names.sorted())
    }

    /// These names.
    pub(super) fn of(wanted: &[Vec<u8>]) -> io::Result<Self> {
        let mut names = Self::default();
        for name in wanted {
            names.push(CString::new(&name[..])?.as_bytes_with_nul())?;
        }
        Ok(names.sorted())
    }

    /// `name` ends with its NUL.
    fn push(&mut self, name: &[u8]) -> io::Result<()> {
        let start = u32::try_from(self.bytes.len());
        self.starts.push(start.map_err(|_| io::Error::other("a directory with more than 4 GiB of names"))?);
        self.bytes.extend_from_slice(name);
        Ok(())
    }

    fn sorted(mut self) -> Self {
        let Self { bytes, starts } = &mut self;
        starts.sort_unstable_by(|a, b| name_at(bytes, *b).cmp(name_at(bytes, *a)));
        self
    }

    /// The next one, in the order of bytes.
    pub(super) fn pop(&mut self) -> Option<CString> {
        let start = self.starts.pop()?;
        CString::new(name_at(&self.bytes, start)).ok()
    }
}

fn name_at(bytes: &[u8], start: u32) -> &[u8] {
    CStr::from_bytes_until_nul(&bytes[start as usize..]).map(CStr::to_bytes).unwrap_or_default()
}

/// Opens a directory below another, never through a link.
pub(super) fn open(parent: impl AsFd, name: &CStr) -> io::Result<OwnedFd> {
    Ok(openat(parent, name, OPEN, Mode::empty())?)
}

/// What the kernel knows of a name.
pub(super) fn look(parent: impl AsFd, name: &CStr) -> io::Result<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    Ok(statx(parent, name, flags, StatxFlags::BASIC_STATS)?)
}

/// What it knows of an open file.
pub(super) fn look_at(file: impl AsFd) -> io::Result<Statx> {
    Ok(statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?)
}
