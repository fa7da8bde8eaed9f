//! What a lock file says, and what that means. Pure: content and age in, verdict out.
//!
//! A lock file has two lines: the director's pid (people's scripts read it), and one line of JSON, the [`Record`]. A file
//! without such a second line is not ours: a person's `touch`, or the old program's. It is respected until someone removes
//! it, however old it is.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::human;

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
    /// Random, drawn for each attempt to take the lock: the proof of ownership.
    pub token: String,
    /// The lock is stale when it was not refreshed for this long, seconds.
    pub lease_seconds: u64,
    /// When it was taken, by the holder's clock; for people.
    pub taken_at: Timestamp,
    /// For which job.
    pub job: String,
}

impl Record {
    /// What identifies a lock, where the rest is not known and not asked for.
    pub(super) fn identified(token: String, lease_seconds: u64) -> Self {
        let unknown = String::new;
        let (instance, host, user, boot_id, job) = (unknown(), unknown(), unknown(), unknown(), unknown());
        Self { instance, host, user, pid: 0, boot_id, token, lease_seconds, taken_at: Timestamp::UNIX_EPOCH, job }
    }

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

    /// Whose it is: `photos@laptop for job nightly`.
    pub fn holder(&self) -> String {
        format!("{}@{} for job {}", self.instance, self.host, self.job)
    }
}

/// Who broke a lock, and whose it was: a line of `.NAME.broken`, beside the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakNote {
    /// The person, `user@host`.
    pub by: String,
    /// When, by that person's host.
    pub at: Timestamp,
    /// The lock's token; none if no director wrote it.
    pub token: Option<String>,
    /// Whose it was, for people.
    pub holder: String,
}

impl BreakNote {
    /// As it stands in the file.
    pub fn line(&self) -> String {
        let json = serde_json::to_string(self).expect("a note of strings is always JSON");
        json + "\n"
    }

    /// Reads a line that tells the end of this lock.
    pub fn of(line: &str, record: &Record) -> Option<Self> {
        let note: Self = serde_json::from_str(line).ok()?;
        (note.token.as_ref() == Some(&record.token)).then_some(note)
    }

    /// `it was broken by ann@laptop at 2026-01-01T00:00:00Z`.
    pub fn describe(&self) -> String {
        let by: String = self.by.chars().filter(|c| !c.is_control()).collect();
        format!("it was broken by {by} at {:.0}", self.at)
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
    /// Another has it.
    Held(Holder),
    /// A director had it and did not refresh it for a whole lease.
    Stale {
        /// What it wrote.
        record: Record,
        /// Time since it last refreshed the file.
        age: Duration,
    },
    /// No lock file can be here.
    Unusable(&'static str),
}

/// Who has a lock, so that we do not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A director, whose lease runs.
    Director {
        /// What it wrote.
        record: Record,
        /// Time since it last refreshed the file.
        age: Duration,
    },
    /// A person, or another program.
    Other {
        /// The first line of the file.
        line: String,
        /// Time since the last change of it.
        age: Duration,
    },
}

impl Holder {
    /// Who, since when, and how its lease stands, for people: `photos@laptop for job nightly, 3 min, lease fresh`. The second is
    /// told by the clocks of two hosts, ours (`now`) and the holder's, so it is near enough and no more.
    pub fn describe(&self, now: Timestamp) -> String {
        match self {
            Self::Director { record, age } => {
                let held = Duration::try_from(now.duration_since(record.taken_at)).unwrap_or_default();
                format!("{}, {}, {}", record.holder(), whole_seconds(held), lease_text(record, *age))
            }
            Self::Other { line, age } => {
                let says =
                    if line.is_empty() { "an empty file".to_owned() } else { format!("a file that says {line:?}") };
                format!("someone else ({says}, {} old)", whole_seconds(*age))
            }
        }
    }
}

/// How a lease stands that runs: `lease fresh` up to the half of it.
fn lease_text(record: &Record, age: Duration) -> String {
    if age * 2 < record.lease() {
        return "lease fresh".to_owned();
    }
    format!("not refreshed for {} s of its lease of {} s", age.as_secs(), record.lease_seconds)
}

fn whole_seconds(duration: Duration) -> String {
    match duration.as_secs() {
        0 => "0 s".to_owned(),
        seconds => human::duration(Duration::from_secs(seconds)),
    }
}

/// Judges what was found.
pub fn judge(found: &Found, token: &str) -> Verdict {
    match found {
        Found::Absent => Verdict::Free,
        Found::Other(what) => Verdict::Unusable(what),
        Found::File { content: Content::Director(record), .. } if record.token == token => Verdict::Ours,
        Found::File { content: Content::Director(record), age } if *age >= record.lease() => {
            Verdict::Stale { record: record.clone(), age: *age }
        }
        Found::File { content: Content::Director(record), age } => {
            Verdict::Held(Holder::Director { record: record.clone(), age: *age })
        }
        Found::File { content: Content::Foreign(line), age } => {
            Verdict::Held(Holder::Other { line: line.clone(), age: *age })
        }
    }
}

/// What makes a job wait that holds locks with the tokens `own` and finds this in the place of a block: whose it is. Its own lock does not, nor does
/// one whose holder is gone: the lease ends it. A directory or a link is a file that exists: it was put there to block.
pub fn in_the_way(found: &Found, own: &[String], now: Timestamp) -> Option<String> {
    let is_own = |token: &String| judge(found, token) == Verdict::Ours;
    if own.iter().any(is_own) {
        return None;
    }
    match judge(found, "") {
        Verdict::Free | Verdict::Ours | Verdict::Stale { .. } => None,
        Verdict::Held(holder) => Some(holder.describe(now)),
        Verdict::Unusable(what) => Some(what.to_owned()),
    }
}

/// What a removal says of a lock that is not there any more.
pub(super) const WAS_REMOVED: &str = "it was removed";

/// What became of a lock that was ours, for people.
pub(super) fn describe_loss(found: &Found, record: &Record) -> String {
    match found {
        Found::Absent => WAS_REMOVED.into(),
        Found::Other(what) => format!("it was replaced by {what}"),
        Found::File { content: Content::Director(there), .. } if there.token == record.token => {
            "another is about to replace or remove it".into()
        }
        Found::File { content: Content::Director(record), .. } => format!("it is now held by {}", record.holder()),
        Found::File { content: Content::Foreign(_), .. } => "its content was replaced".into(),
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

    pub(crate) fn note(token: Option<&str>) -> BreakNote {
        BreakNote {
            by: "ann@laptop".into(),
            at: Timestamp::UNIX_EPOCH,
            token: token.map(Into::into),
            holder: "someone".into(),
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
        assert_eq!(
            judge(&file(text.as_bytes(), 60), "t"),
            Verdict::Stale { record: record("other"), age: Duration::from_secs(60) }
        );
    }

    #[test]
    fn a_holder_is_told_with_its_time_and_its_lease() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let text = record("other").encode();
        let told = |age, now| in_the_way(&file(text.as_bytes(), age), &["t".into()], at(now)).unwrap();
        assert_eq!(told(3, 180), "photos@laptop for job nightly, 3 min, lease fresh");
        assert_eq!(
            told(45, 200),
            "photos@laptop for job nightly, 3 min 20 s, not refreshed for 45 s of its lease of 60 s"
        );
        assert_eq!(told(0, -5), "photos@laptop for job nightly, 0 s, lease fresh", "its clock is ahead of ours");
        assert_eq!(in_the_way(&file(b"", 90), &[], at(0)).unwrap(), "someone else (an empty file, 1 min 30 s old)");
        assert_eq!(
            in_the_way(&file(b"4711\n", 9), &[], at(0)).unwrap(),
            "someone else (a file that says \"4711\", 9 s old)"
        );
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
