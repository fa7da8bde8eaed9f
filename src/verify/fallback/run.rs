//! One rsync: its arguments, its way to the peer, what it says.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader, Seek};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::{Command, Stdio};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::line::{self, Problem};
use crate::rsync::options::{self, COMPRESSION, Fate, REACH, RULES};
use crate::rsync::{args, exit};
use crate::ssh::transport;
use crate::verify::order::Elsewhere;
use crate::verify::side::SideError;

/// Beside the way to the peer: how names and owners are read there, and how files are compared.
const READING: [&str; 5] = ["bwlimit", "numeric-ids", "checksum-choice", "cc", "checksum-seed"];
/// Those that a dry run of it does without: what bounds or hides what it would do, reads everything, or does something else.
const DROPPED: [&str; 11] = [
    "rsh",
    "max-delete",
    "checksum",
    "ignore-times",
    "dry-run",
    "remove-source-files",
    "remove-sent-files",
    "list-only",
    "write-batch",
    "only-write-batch",
    "read-batch",
];

/// The options by which the peer is reached.
pub(super) fn reach(opts: &[OsString]) -> Vec<OsString> {
    options::keep(opts, |opt| [&REACH[..], &COMPRESSION, &READING].iter().any(|names| opt.is_of(names)))
}

/// The options that say which names there are.
pub(super) fn rules(opts: &[OsString]) -> Vec<OsString> {
    options::keep(opts, |opt| opt.is_of(&RULES) || opt.is_of(&["from0"]))
}

/// The options of a dry run of the sync.
pub(super) fn whole(opts: &[OsString]) -> Vec<OsString> {
    options::keep(opts, |opt| opt.entry().is_some_and(|entry| entry.fate != Fate::Output) && !opt.is_of(&DROPPED))
}

/// How the peer is reached.
#[derive(Debug)]
pub(super) struct Way {
    elsewhere: Elsewhere,
    tickets: VecDeque<String>,
}

impl Way {
    /// `used` of the tickets are used already.
    pub(super) fn new(elsewhere: &Elsewhere, used: usize) -> Self {
        Self { tickets: elsewhere.tickets.iter().skip(used).cloned().collect(), elsewhere: elsewhere.clone() }
    }

    pub(super) fn is_source(&self) -> bool {
        self.elsewhere.is_source
    }

    pub(super) fn user(&self) -> &str {
        &self.elsewhere.user
    }

    /// The peer, for people.
    pub(super) fn failed(&self, what: impl Into<String>) -> SideError {
        SideError::Peer { who: self.elsewhere.host.clone(), what: what.into() }
    }

    /// A path there, as rsync takes it.
    pub(super) fn there(&self, path: &OsStr) -> OsString {
        let Elsewhere { user, host, .. } = &self.elsewhere;
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.clone() };
        // `host::x` would be an rsync daemon's module.
        let prefix = if path.as_bytes().starts_with(b":") { "./" } else { "" };
        let mut operand = OsString::from(format!("{user}@{host}:{prefix}"));
        operand.push(path);
        operand
    }

    /// Runs an rsync to its end with these options and paths; each line of its output is told. What it says on standard error is returned.
    pub(super) fn run(
        &mut self,
        opts: Vec<OsString>,
        operands: Vec<OsString>,
        stdin: Option<File>,
        told: &mut dyn FnMut(&[u8]) -> Result<(), SideError>,
    ) -> Result<Complaints, SideError> {
        let failed = |error| SideError::io("could not run rsync", error);
        let complaints = nameless().map_err(failed)?;
        let mut command = Command::new("rsync");
        command.args(opts).args(["-n", "--no-human-readable", "--outbuf=B"]);
        command.arg("-e").arg(args::rsh_command(&self.elsewhere.rsh));
        if operands.iter().any(|path| path.as_bytes().contains(&b'\n')) {
            // Up to 3.5 its escaping for the other side's shell loses a newline.
            command.arg("--secluded-args");
        }
        command.arg("--").args(operands);
        command.env("LC_ALL", "C").env("TZ", "UTC");
        if !self.elsewhere.tickets.is_empty() {
            let Some(ticket) = self.tickets.pop_front() else {
                return Err(self.failed("more connections are needed than were offered: verify fewer sources at once"));
            };
            command.env(transport::VARIABLE, ticket);
        }
        command.stdin(stdin.map_or_else(Stdio::null, Stdio::from)).stdout(Stdio::piped());
        let mut child = command.stderr(complaints.try_clone().map_err(failed)?).spawn().map_err(failed)?;
        let read = match child.stdout.take() {
            Some(stdout) => each_line(stdout, told),
            None => Ok(()),
        };
        if read.is_err() {
            // It waits for someone who reads. That it has ended already is fine.
            let _ = child.kill();
        }
        let status = child.wait().map_err(failed)?;
        read?;
        let complaints = Complaints { file: complaints };
        match status.code() {
            Some(0 | 23 | 24) => Ok(complaints),
            code => Err(self.failed(complaints.last_words(code)?)),
        }
    }
}

fn each_line(from: impl std::io::Read, told: &mut dyn FnMut(&[u8]) -> Result<(), SideError>) -> Result<(), SideError> {
    let mut lines = BufReader::with_capacity(256 * 1024, from);
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = lines.read_until(b'\n', &mut line).map_err(|error| SideError::io("rsync broke off", error))?;
        if length == 0 {
            return Ok(());
        }
        told(line.strip_suffix(b"\n").unwrap_or(&line))?;
    }
}

/// What an rsync said on standard error.
pub(super) struct Complaints {
    file: File,
}

impl Complaints {
    /// Each that is about a path.
    pub(super) fn problems(mut self, told: &mut dyn FnMut(Problem) -> Result<(), SideError>) -> Result<(), SideError> {
        self.file.rewind().map_err(|error| SideError::io("what rsync said", error))?;
        each_line(self.file, &mut |text| line::problem(text).map_or(Ok(()), &mut *told))
    }

    /// The line that tells most, for people.
    fn last_words(mut self, code: Option<i32>) -> Result<String, SideError> {
        self.file.rewind().map_err(|error| SideError::io("what rsync said", error))?;
        let mut words: Option<(u8, String)> = None;
        each_line(self.file, &mut |text| {
            let text = String::from_utf8_lossy(text).trim().to_owned();
            // What others say tells more than what rsync says, and that more than that it ended.
            let is_end = text.starts_with("rsync error: ") || text.contains("connection unexpectedly closed");
            let rank = if is_end { 1 } else { 3 - u8::from(text.starts_with("rsync: ")) };
            if !text.is_empty() && words.as_ref().is_none_or(|(best, _)| rank >= *best) {
                words = Some((rank, text));
            }
            Ok(())
        })?;
        let code = code.unwrap_or(-1);
        let meaning = exit::meaning(code).unwrap_or("it was ended");
        let words = words
            .map(|(_, words)| format!(": {words}"))
            .unwrap_or_default()
            .replace(|c: char| c.is_control(), "\u{fffd}");
        Ok(format!("rsync ended with {code}, {meaning}{words}"))
    }
}

/// A file without a name.
pub(super) fn nameless() -> std::io::Result<File> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    Ok(openat(CWD, std::env::temp_dir(), flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// A directory as rsync takes it for all that is in it.
pub(super) fn inside(root: &[u8]) -> OsString {
    let root = if root.is_empty() { b"." } else { root };
    let slash: &[u8] = if root.ends_with(b"/") { b"" } else { b"/" };
    OsString::from_vec([root, slash].concat())
}

/// A destination that is not there, so that everything is listed; nobody can make it.
pub(super) const NOWHERE: &str = "/proc/self/nowhere";
