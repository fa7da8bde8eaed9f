//! One open directory of a walk: its names in order, and what is beside them.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, Statx, StatxFlags, openat, statx};

const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// The buffer into which the kernel puts names, bytes.
const BUFFER: usize = 64 * 1024;

/// The names of a directory, one buffer for all: a directory may have a million.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Each ends with a NUL.
    bytes: Rc<Vec<u8>>,
    /// The next to be told is the last.
    places: Vec<Place>,
}

/// Where a name is among the bytes, and its length without the NUL.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: u32,
    length: u32,
}

impl Place {
    fn of(self, bytes: &[u8]) -> &[u8] {
        let start = self.start as usize;
        &bytes[start..start + self.length as usize]
    }
}

/// One name of a directory.
pub(super) struct Name {
    bytes: Rc<Vec<u8>>,
    place: Place,
}

impl Name {
    /// It, as the kernel takes it.
    pub(super) fn get(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes[self.place.start as usize..]).unwrap_or_default()
    }
}

impl Names {
    /// Reads a directory.
    pub(super) fn read(directory: BorrowedFd<'_>) -> io::Result<Self> {
        let mut buffer = Vec::new();
        buffer.resize(BUFFER, MaybeUninit::uninit());
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        let mut entries = RawDir::new(directory, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                places.push(push(&mut bytes, name)?);
            }
        }
        Ok(Self::sorted(bytes, places))
    }

    /// These names.
    pub(super) fn of(wanted: &[Vec<u8>]) -> io::Result<Self> {
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        for name in wanted {
            places.push(push(&mut bytes, &CString::new(&name[..])?)?);
        }
        Ok(Self::sorted(bytes, places))
    }

    fn sorted(bytes: Vec<u8>, mut places: Vec<Place>) -> Self {
        places.sort_unstable_by(|a, b| b.of(&bytes).cmp(a.of(&bytes)));
        Self { bytes: Rc::new(bytes), places }
    }

    /// The next one, in the order of bytes.
    pub(super) fn pop(&mut self) -> Option<Name> {
        let place = self.places.pop()?;
        Some(Name { bytes: Rc::clone(&self.bytes), place })
    }
}

/// Puts a name behind the others.
fn push(bytes: &mut Vec<u8>, name: &CStr) -> io::Result<Place> {
    let too_many = || io::Error::other("a directory with more than 4 GiB of names");
    let start = u32::try_from(bytes.len()).map_err(|_| too_many())?;
    let length = u32::try_from(name.count_bytes()).map_err(|_| too_many())?;
    bytes.extend_from_slice(name.to_bytes_with_nul());
    Ok(Place { start, length })
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
