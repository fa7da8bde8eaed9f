//! What ssh_config(5) says of a host: the part of it that the director's own connections follow, and the names of what they do not.
//!
//! `lookup` reads `~/.ssh/config`, then `/etc/ssh/ssh_config`, as ssh does: of each keyword the first value holds, a `Host` or `Match`
//! that does not apply hides what follows it, `Include` reads other files in its place. Values come out as they are written (`Settings`);
//! `expand` replaces their tokens, `validate::reach` makes a peer of them.
//!
//! What cannot be followed is never passed over in silence: a keyword that would change whether or how a host is reached is a
//! `Complaint` with its place, and so is a `Match` that cannot be judged here (`exec` and the like) but holds something that matters.
//! Where ssh ends with an error (bad owner, unclosed quote, wrong value), this does.
//!
//! Pure: files come in by [`Files`]. Deliberately absent: canonical host names, `~user`, and the check of lines that do not apply, beyond
//! their quotes.

pub(super) mod expand;
pub(super) mod jump;
mod keywords;
mod pattern;
mod reading;
#[cfg(test)]
pub(super) mod tests;
mod values;
mod words;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::jump::Jump;
use super::diagnostics::Severity;
use super::model::AddressFamily;

/// The system's file.
const SYSTEM_FILE: &str = "/etc/ssh/ssh_config";

/// A file of ssh_config(5).
#[derive(Debug, Clone)]
pub struct File {
    /// Its contents; what is not UTF-8 in them is replaced.
    pub text: String,
    /// Number of the user whom it belongs to.
    pub owner: u32,
    /// Its permission bits.
    pub mode: u32,
}

/// Where files of ssh_config(5) come from.
pub trait Files {
    /// Reads a file.
    ///
    /// # Errors
    /// Those of the system; [`io::ErrorKind::NotFound`] is an empty file.
    fn read(&self, path: &Path) -> io::Result<File>;

    /// The files that an absolute path with wildcards stands for, as glob(3); none is no error.
    ///
    /// # Errors
    /// When a directory cannot be read.
    fn matching(&self, pattern: &str) -> io::Result<Vec<PathBuf>>;
}

/// No file at all.
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &Path) -> io::Result<File> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn matching(&self, _: &str) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

/// Whom to look up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query<'a> {
    /// The host as the user calls it.
    pub host: &'a str,
    /// The login name there, if it is given otherwise.
    pub user: Option<&'a str>,
    /// Our name.
    pub local_user: &'a str,
    /// Our home directory.
    pub home: Option<&'a Path>,
}

/// A line of a file. Displays as `file:line`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed<T> {
    pub value: T,
    pub at: Place,
}

/// How the peer is to be reached, of `ProxyJump` and `ProxyCommand` whichever comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// Directly.
    Direct,
    /// By way of these hosts, the first one first.
    Jumps(Vec<Jump>),
    /// By a command, which is a [`Complaint`] too.
    Command,
}

/// What the files say of a host, as written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub host_name: Option<Placed<String>>,
    pub user: Option<Placed<String>>,
    pub port: Option<u16>,
    pub identity_files: Vec<Placed<String>>,
    pub identities_only: Option<bool>,
    pub user_known_hosts: Option<Placed<Vec<String>>>,
    pub global_known_hosts: Option<Placed<Vec<String>>>,
    pub host_key_alias: Option<String>,
    pub address_family: Option<AddressFamily>,
    /// The inner `None` is no bound, written as such.
    pub connect_timeout: Option<Option<Duration>>,
    pub way: Option<Placed<Way>>,
}

/// What is to be said of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    pub severity: Severity,
    pub at: Place,
    /// What it is: a fragment that goes on after `file:line: `.
    pub message: String,
    pub remedy: Remedy,
}

/// What helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// rsync by the system's ssh, which follows everything.
    OpenSsh,
    /// Advice for what the system's ssh follows.
    Followed(&'static str),
    /// The configuration's own policy, which holds for the system's ssh, too.
    HostKeyPolicy,
    /// A word of advice.
    Advice(&'static str),
}

/// Everything that the files say of a host.
pub(super) fn lookup(files: &dyn Files, query: &Query<'_>) -> (Settings, Vec<Complaint>) {
    let mut reader = reading::Reader::new(files, query);
    reader.read_all();
    let wants_final = reader.wants_final();
    if wants_final {
        let host = match &reader.settings.host_name {
            Some(name) => expand::host_name(&name.value, query.host).unwrap_or_else(|_| name.value.clone()),
            None => query.host.to_owned(),
        };
        reader.read_all_again(host.to_lowercase());
    }
    reader.finish()
}
