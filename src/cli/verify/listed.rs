//! The list of what differs, as a verification writes it: a JSON object a line.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding};
use rustix::fs::{CWD, Mode, OFlags, openat};
use serde::Deserialize;

use crate::verify::Class;

/// A path that differs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Listed {
    /// In which way.
    pub class: Class,
    path: String,
    /// The path itself, where it is not UTF-8.
    path_base64: Option<String>,
    /// More about it.
    pub detail: String,
    /// Length of the file.
    pub bytes: u64,
}

impl Listed {
    /// From the root of the transfer.
    pub fn path(&self) -> Vec<u8> {
        let exact = self.path_base64.as_ref().and_then(|text| Base64::decode_vec(text).ok());
        exact.unwrap_or_else(|| self.path.clone().into_bytes())
    }
}

/// A file without a name, for a list: nothing of it stays behind.
pub(super) struct List(File);

impl List {
    /// An empty one, where files come and go.
    ///
    /// # Errors
    /// When that has no room, or no such files.
    pub(super) fn new() -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        Ok(Self(openat(CWD, std::env::temp_dir(), flags, Mode::RUSR | Mode::WUSR)?.into()))
    }

    /// By which our children open it.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }
}

/// Reads a list, one difference at a time.
///
/// # Errors
/// When the file cannot be opened; each item when it cannot be read, or is none.
pub(super) fn read(list: &Path) -> io::Result<impl Iterator<Item = io::Result<Listed>>> {
    let lines = BufReader::new(File::open(list)?).lines();
    Ok(lines.map(|line| serde_json::from_str(&line?).map_err(io::Error::from)))
}
