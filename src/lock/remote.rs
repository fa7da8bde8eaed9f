//! Lock files on a peer, over its pooled connection.
//!
//! A batch is one `exec /bin/sh` whose standard input is a small POSIX script (`script.sh`: the protocol of `local`, with
//! nothing but coreutils or busybox) followed by one line per operation. So no login shell ever sees a path, and one round
//! trip does it. Each answer stands behind a line that carries a random word, so that neither a talkative login script nor
//! the content of a file can pass for one.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::backend::{Answer, Answers, LockBackend, Op, Unreachable, may_repeat, of_repeated};
use super::record::{BreakNote, Content, Found, describe_loss};
use crate::config::Peer;
use crate::ssh::{Pool, SshError};

const SCRIPT: &str = include_str!("script.sh");
/// Of the lines behind the functions, for who reads them without a shell (`served`).
pub(super) const VERSION: &str = "v=1\n";
/// What follows an operation: a file that is not needed any more is removed in one go with the others, at the end.
pub(super) const SWEEP: &str = "\n[ -z \"$g\" ] || { set -- \"$@\" \"$g\"; g=; }\n";
/// What ends a batch.
pub(super) const END: &str = "[ $# = 0 ] || rm -f \"$@\"\nset --\ncur=end\nsay end\n";

/// A peer's files.
#[derive(Clone)]
pub struct RemoteBackend {
    pool: Pool,
    peer: Peer,
    timeout: Duration,
}

impl RemoteBackend {
    /// The files of `peer`; a batch, connecting included, may take `timeout`.
    pub fn new(pool: Pool, peer: Peer, timeout: Duration) -> Self {
        Self { pool, peer, timeout }
    }
}

impl LockBackend for RemoteBackend {
    fn perform(&self, batch: Vec<Op>) -> Answers {
        let this = self.clone();
        Box::pin(async move { this.try_perform(&batch).await.map_err(Unreachable::from) })
    }
}

/// Why a batch has no answers.
#[derive(Debug)]
pub(super) enum ShellError {
    /// The peer was reached, but did not let the script say a word: there is no shell for us.
    NoShell(String),
    /// Anything else.
    Unreachable(Unreachable),
}

impl From<ShellError> for Unreachable {
    fn from(error: ShellError) -> Self {
        match error {
            ShellError::NoShell(why) => Self::because(why),
            ShellError::Unreachable(error) => error,
        }
    }
}

impl RemoteBackend {
    /// [`LockBackend::perform`] with an error that tells whether there is a shell.
    pub(super) async fn try_perform(&self, batch: &[Op]) -> Result<Vec<Answer>, ShellError> {
        let nonce = crate::random::word();
        let script = script(batch, &nonce);
        let end = format!("\n@{nonce} end end\n");
        let ask = || self.pool.script(&self.peer, script.as_bytes(), end.as_bytes(), self.timeout);
        let (output, again) = match ask().await {
            // A connection that had died unnoticed.
            Err(SshError::Lost { .. }) if may_repeat(batch) => (ask().await, true),
            answer => (answer, false),
        };
        let output = output.map_err(|error| match error {
            SshError::Protocol { .. } => ShellError::NoShell(crate::error_chain(&error)),
            error => ShellError::Unreachable(error.into()),
        })?;
        let answers = parse(batch, &nonce, &output.stdout);
        answers.map(|answers| if again { of_repeated(batch, answers) } else { answers }).ok_or_else(|| {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let hint = stderr.lines().last().unwrap_or("no answer from its shell").trim();
            let why = format!("{} could not perform a lock operation: {hint}", self.peer);
            match sections(&nonce, &output.stdout).is_empty() {
                true => ShellError::NoShell(why),
                false => ShellError::Unreachable(Unreachable::because(why)),
            }
        })
    }
}

pub(super) fn script(batch: &[Op], nonce: &str) -> Script {
    let mut script = Script(Vec::with_capacity(SCRIPT.len() + 512 * batch.len()));
    script.raw(SCRIPT).raw(VERSION).raw("n=").raw(nonce).raw("\n");
    for (index, op) in batch.iter().enumerate() {
        script.raw("cur=").raw(&index.to_string()).raw("\n");
        match op {
            // What follows a take that failed is not done.
            Op::Look { path } => script.raw("[ $go = 0 ] || look").path(path),
            Op::Take { path, record, replaces } => {
                script.raw("take").path(path).word(&record.token).word(&record.pid.to_string()).word(&record.json());
                match replaces {
                    Some(stale) => script.word(&stale.token).word(&stale.lease_seconds.to_string()),
                    None => script.word("").word(""),
                }
            }
            Op::Refresh { path, record } => {
                script.raw("refresh").path(path).word(&record.token).word(&record.lease_seconds.to_string())
            }
            Op::Remove { path, record } => {
                script.raw("remove").path(path).word(&record.token).word(&record.lease_seconds.to_string())
            }
            Op::Break { path, seen: Some(record), note, .. } => {
                script.raw("crack").path(path).word(&record.token).word(&record.lease_seconds.to_string());
                script.word(note.line().trim_end())
            }
            Op::Break { path, seen: None, age, note } => {
                script.raw("crack").path(path).word("").word(&age.as_secs().to_string());
                script.word(note.line().trim_end())
            }
        }
        .raw(SWEEP);
        if let Some(temporary) = temporary(op) {
            script.raw("set -- \"$@\"").path(&temporary).raw("\n");
        }
    }
    script.raw(END);
    script
}

/// The file from which a take makes its lock.
fn temporary(op: &Op) -> Option<PathBuf> {
    match op {
        Op::Take { path, record, .. } => super::local::beside(path, "", &record.token).ok(),
        _ => None,
    }
}

/// Shell text made of bytes, since a path may hold any.
pub(super) struct Script(Vec<u8>);

impl Script {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn raw(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn word(&mut self, text: &str) -> &mut Self {
        self.raw(" ").quoted(text.as_bytes())
    }

    /// A path; `~/` at its beginning is the home of the user there.
    fn path(&mut self, path: &Path) -> &mut Self {
        let bytes = path.as_os_str().as_bytes();
        match bytes.strip_prefix(b"~/") {
            Some(below) => self.raw(" \"$HOME\"/").quoted(below),
            None => self.raw(" ").quoted(bytes),
        }
    }

    fn quoted(&mut self, bytes: &[u8]) -> &mut Self {
        self.raw("'");
        for &byte in bytes {
            match byte {
                b'\'' => self.0.extend_from_slice(b"'\\''"),
                _ => self.0.push(byte),
            }
        }
        self.0.push(b'\'');
        self
    }
}

/// Reads the answers; `None` when the script did not get to its end.
pub(super) fn parse(batch: &[Op], nonce: &str, stdout: &[u8]) -> Option<Vec<Answer>> {
    let sections = sections(nonce, stdout);
    let (last, sections) = sections.split_last()?;
    if last.index != "end" {
        return None;
    }
    let mut answers: Vec<Answer> = Vec::with_capacity(batch.len());
    let mut sections = sections.iter().peekable();
    while let Some(section) = sections.next() {
        // A loss is followed by what is there now, and by the note of who broke the lock, if someone did.
        let below = sections.next_if(|next| next.index == section.index);
        let note = sections.next_if(|next| next.index == section.index);
        let op = batch.get(answers.len())?;
        if section.index.parse() != Ok(answers.len()) {
            return None;
        }
        answers.push(match note.and_then(|note| broken(op, note)) {
            Some(note) => Answer::Lost(note.describe()),
            None => answer(op, section, below)?,
        });
    }
    let ended_early = answers.last().is_some_and(|last| *last != Answer::Taken);
    (answers.len() == batch.len() || ended_early).then_some(answers)
}

fn broken(op: &Op, section: &Section<'_>) -> Option<BreakNote> {
    match op {
        Op::Refresh { record, .. } | Op::Remove { record, .. } if section.word == "broken" => {
            BreakNote::of(section.rest, record)
        }
        _ => None,
    }
}

fn answer(op: &Op, section: &Section<'_>, below: Option<&Section<'_>>) -> Option<Answer> {
    Some(match section.word {
        "taken" => Answer::Taken,
        "refreshed" => Answer::Refreshed,
        "removed" => Answer::Removed,
        "expired" => Answer::Lost("its lease ran out".into()),
        // Who serves without a shell says itself how.
        "lost" if !section.rest.is_empty() => Answer::Lost(section.rest.to_owned()),
        "lost" => match (op, below.and_then(found)) {
            (Op::Refresh { record, .. } | Op::Remove { record, .. }, Some(found)) => {
                Answer::Lost(describe_loss(&found, record))
            }
            _ => Answer::Lost("it is not ours any more".into()),
        },
        "failed" => Answer::Failed(section.rest.to_owned()),
        _ => Answer::Found(found(section)?),
    })
}

fn found(section: &Section<'_>) -> Option<Found> {
    Some(match section.word {
        "absent" => Found::Absent,
        "directory" => Found::Other("a directory"),
        "link" => Found::Other("a symbolic link"),
        "other" => Found::Other("not a regular file"),
        "file" => {
            Found::File { content: Content::parse(section.body), age: Duration::from_secs(section.rest.parse().ok()?) }
        }
        _ => return None,
    })
}

/// `@<nonce> <index> <word> <rest>`, and the bytes up to the next such line.
struct Section<'a> {
    index: &'a str,
    word: &'a str,
    rest: &'a str,
    body: &'a [u8],
}

fn sections<'a>(nonce: &str, stdout: &'a [u8]) -> Vec<Section<'a>> {
    let marker = format!("\n@{nonce} ");
    let starts: Vec<usize> = memchr::memmem::find_iter(stdout, marker.as_bytes()).collect();
    let ends = starts.iter().skip(1).copied().chain([stdout.len()]);
    starts
        .iter()
        .zip(ends)
        .filter_map(|(start, end)| {
            let section = &stdout[start + marker.len()..end];
            let line_end = memchr::memchr(b'\n', section)?;
            let head = std::str::from_utf8(&section[..line_end]).ok()?;
            let mut words = head.splitn(3, ' ');
            let (index, word) = (words.next()?, words.next().unwrap_or_default());
            Some(Section { index, word, rest: words.next().unwrap_or_default(), body: &section[line_end + 1..] })
        })
        .collect()
}

#[cfg(test)]
mod tests;
