//! What a lock file says, and what that means. Pure: content and age in, verdict out.
//!
//! A lock file has two lines: the director's pid (people's scripts read it), and one line of JSON, the [`Record`]. A file
//! without such a second line is not ours: a person's `touch`, or the old program's. It is respected until someone removes
//! it, however old it is.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Who holds a lock: the second line of a lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The `rsync_id` of the holder.
    pub instance: String,
    /// The host on which the holder runs.
    pub host: String,
    /// The user that it runs as.
    pub user: String,
    /// Its process there.
    pub pid: u32,
    /// The boot of that host in which the pid means something.
    pub boot_id: String,
    /// Random, drawn for each run of a job: the proof of ownership.
    pub token: String,
    /// The lock is stale when it was not refreshed for this long, seconds.
    pub lease_seconds: u64,
    /// When it was taken, by the holder's clock; for people.
    pub taken_at: Timestamp,
    /// For which job.
    pub job: String,
}

impl Record {
    /// The file's content.
    pub fn encode(&self) -> String {
        format!("{}\n{}\n", self.pid, self.json())
    }

    /// The second line.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("a record of strings and numbers is always JSON")
    }

    /// The lease as a duration.
    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds)
    }

    /// `photos@laptop for job nightly`.
    pub fn holder(&self) -> String {
        format!("{}@{} for job {}", self.instance, self.host, self.job)
    }
}

/// A lock file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A director wrote it.
    Director(Record),
    /// Someone else did; the text is its first line, shortened.
    Foreign(String),
}

impl Content {
    /// Reads a file's first bytes. Whatever is not exactly ours is foreign.
    pub fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        match lines.next().map(serde_json::from_str::<Record>) {
            Some(Ok(record)) => Self::Director(record),
            _ => Self::Foreign(first.chars().filter(|c| !c.is_control()).take(60).collect()),
        }
    }
}

/// What a look at a lock or block file found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing is there.
    Absent,
    /// A regular file.
    File {
        /// What it says.
        content: Content,
        /// Time since its last change, by the clock of the host that stores it.
        age: Duration,
    },
    /// Something that can never be a lock file, named: `a directory`, `a symbolic link`, `not a regular file`.
    Other(&'static str),
}

/// What a found file means for whoever carries `token`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is in the way.
    Free,
    /// It is our own.
    Ours,
    /// Another has it. The text says who, for people.
    Held(String),
    /// A director had it and did not refresh it for a whole lease.
    Stale(Record),
    /// No lock file can be here.
    Unusable(&'static str),
}

/// Judges what was found.
pub fn judge(found: &Found, token: &str) -> Verdict {
    match found {
        Found::Absent => Verdict::Free,
        Found::Other(what) => Verdict::Unusable(what),
        Found::File { content: Content::Director(record), .. } if record.token == token => Verdict::Ours,
        Found::File { content: Content::Director(record), age } if *age >= record.lease() => {
            Verdict::Stale(record.clone())
        }
        Found::File { content: Content::Director(record), age } => Verdict::Held(format!(
            "{}, pid {}, since {:.0}, refreshed {} s ago",
            record.holder(),
            record.pid,
            record.taken_at,
            age.as_secs()
        )),
        Found::File { content: Content::Foreign(line), age } => {
            let says = if line.is_empty() { "an empty file".to_owned() } else { format!("a file that says {line:?}") };
            Verdict::Held(format!("someone else ({says}, {} s old)", age.as_secs()))
        }
    }
}

/// What makes a job wait that carries `token` and finds this in the place of a block: whose it is. Its own lock does not, nor does
/// one whose holder is gone: the lease ends it. A directory or a link is a file that exists: it was put there to block.
pub fn in_the_way(found: &Found, token: &str) -> Option<String> {
    match judge(found, token) {
        Verdict::Free | Verdict::Ours | Verdict::Stale(_) => None,
        Verdict::Held(holder) => Some(holder),
        Verdict::Unusable(what) => Some(what.to_owned()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn record(token: &str) -> Record {
        Record {
            instance: "photos".into(),
            host: "laptop".into(),
            user: "root".into(),
            pid: 4711,
            boot_id: "b".into(),
            token: token.into(),
            lease_seconds: 60,
            taken_at: Timestamp::UNIX_EPOCH,
            job: "nightly".into(),
        }
    }

    fn file(bytes: &[u8], age: u64) -> Found {
        Found::File { content: Content::parse(bytes), age: Duration::from_secs(age) }
    }

    #[test]
    fn the_first_line_is_the_pid_and_the_second_reads_back() {
        let text = record("t").encode();
        assert_eq!(text.lines().next(), Some("4711"));
        assert_eq!(Content::parse(text.as_bytes()), Content::Director(record("t")));
    }

    #[test]
    fn a_file_that_no_director_wrote_is_respected_at_any_age() {
        for bytes in [&b""[..], b"4711", b"4711\n", b"4711\n{\"pid\":1}\n", b"\xff\xfe\nx", b"4711\n{\"instance\":\"ph"]
        {
            assert!(matches!(judge(&file(bytes, 1_000_000), "t"), Verdict::Held(_)), "{bytes:?}");
        }
    }

    #[test]
    fn a_lease_ends_a_lock_and_not_a_second_before() {
        let text = record("other").encode();
        assert!(matches!(judge(&file(text.as_bytes(), 59), "t"), Verdict::Held(_)));
        assert_eq!(judge(&file(text.as_bytes(), 60), "t"), Verdict::Stale(record("other")));
    }

    #[test]
    fn our_own_token_is_ours_at_any_age() {
        let text = record("t").encode();
        assert_eq!(judge(&file(text.as_bytes(), 10_000), "t"), Verdict::Ours);
    }

    #[test]
    fn a_field_of_a_later_version_does_not_make_a_lock_foreign() {
        let text = record("t").encode().replacen('{', "{\"fencing\":7,", 1);
        assert!(matches!(Content::parse(text.as_bytes()), Content::Director(_)));
    }

    #[test]
    fn control_characters_of_a_foreign_file_do_not_reach_people() {
        assert_eq!(Content::parse(b"a\x1b[31mb\n"), Content::Foreign("a[31mb".into()));
    }
}
