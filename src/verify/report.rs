//! What came of a verification, for the history, metrics, pages and people.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::compare::Class;
use super::order::Replica;
use super::terms::Depth;
use crate::human;

/// Entries and what they hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Files, directories, links: everything that has a name.
    pub entries: u64,
    /// Length of the files among them.
    pub bytes: u64,
}

impl Count {
    /// One more.
    pub fn add(&mut self, bytes: u64) {
        self.entries += 1;
        self.bytes += bytes;
    }
}

/// What is to be thought of the replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything that was looked at agrees.
    InStep,
    /// Something differs, not more than may.
    Tolerated,
    /// More differs than may, or for too long.
    Drift,
    /// Not everything could be looked at, so nobody knows.
    Unknown,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::InStep, Self::Tolerated, Self::Drift, Self::Unknown];

    /// Its name in reports, metrics and the history.
    pub fn name(self) -> &'static str {
        match self {
            Self::InStep => "in_step",
            Self::Tolerated => "tolerated",
            Self::Drift => "drift",
            Self::Unknown => "unknown",
        }
    }

    /// What the command exits with.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::InStep => 0,
            Self::Unknown => 1,
            Self::Drift => 2,
            Self::Tolerated => 3,
        }
    }
}

/// By what the other side was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Both are here.
    Here,
    /// The agent on the peer.
    Agent,
    /// rsync alone, since the peer has no agent: slower.
    Rsync,
}

/// Files that were copied back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    /// As many.
    pub files: u64,
    /// They hold so much, bytes.
    pub bytes: u64,
    /// Those that came back otherwise than they should, or not at all, with the reason.
    pub failed: Vec<(String, String)>,
    /// Those that nothing is known to compare with: they have changed since.
    pub skipped: u64,
}

/// What is not in step below a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryDrift {
    /// Its path from the root of the transfer, escaped for people; empty for the root.
    pub path: String,
    /// What differs in it.
    pub drift: Count,
}

/// What came of a verification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Whose.
    pub replica: Replica,
    /// When it began.
    pub at: Timestamp,
    /// How long it took, seconds.
    pub seconds: f64,
    /// How closely it looked.
    pub depth: Depth,
    /// By what.
    pub by: By,
    /// What is to be thought of it.
    pub verdict: Verdict,
    /// Why nothing is known, or what was over its bound; one line for people, or empty.
    pub why: String,
    /// What the source has, and what the target has too much.
    pub all: Count,
    /// What of it agrees.
    pub in_step: Count,
    /// What does not, by class; classes without any are left out.
    pub classes: BTreeMap<Class, Count>,
    /// The age of the oldest change of the source that is not at the target, seconds; `None` when there is none.
    pub lag: Option<f64>,
    /// The last verification that found everything in step, this one included.
    pub last_agreement: Option<Timestamp>,
    /// What was read on both sides together.
    pub read: Count,
    /// Files whose content was compared by what is known from earlier.
    pub known: Count,
    /// Files whose content has never been compared.
    pub never_read: Count,
    /// When a file was last read, of the one for which that is longest ago.
    pub oldest_read: Option<Timestamp>,
    /// Within so many days each byte is read, where a share of them is each day.
    pub window_days: Option<f64>,
    /// What came of copying files back, if that was asked for.
    pub drill: Option<Drill>,
    /// What is odd about both sides, so that people find something else than they expect; a line each.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The directories in the root in which most differs, at most [`Report::DIRECTORIES`].
    pub directories: Vec<DirectoryDrift>,
    /// How many differences the list has; it may be fewer than there are.
    pub listed: u64,
}

impl Report {
    /// The most that is told of directories.
    pub const DIRECTORIES: usize = 50;

    /// Takes what came of copying files back: a replica from which that does not work is none. `agreed` is when it agreed before.
    pub fn took_back(&mut self, drill: Drill, agreed: Option<Timestamp>) {
        if !drill.failed.is_empty() {
            let (files, failed) = (drill.files, drill.failed.len());
            let why = format!("{failed} of {files} files did not come back as they should");
            self.why = if self.why.is_empty() { why } else { format!("{}; {why}", self.why) };
            self.verdict = Verdict::Drift;
            self.last_agreement = agreed;
        }
        self.drill = Some(drill);
    }

    /// The part of all entries that agrees, 0 to 1; of nothing, all does.
    pub fn ratio(&self) -> f64 {
        if self.all.entries == 0 { 1.0 } else { self.in_step.entries as f64 / self.all.entries as f64 }
    }

    /// The same in percent for people, without the sign: `100` only if all agrees.
    pub fn percent(&self) -> String {
        if self.in_step == self.all {
            return "100".to_owned();
        }
        // 99.996 % must not read as all.
        format!("{:.2}", (self.ratio() * 100.0).min(99.99))
    }

    /// How many differ; what is in flight may yet agree, so it is not among them, and what cannot be read is not known to differ.
    pub fn differing(&self) -> u64 {
        let counts = |class| !matches!(class, Class::InFlight | Class::Unreadable);
        self.classes.iter().filter(|(class, _)| counts(**class)).map(|(_, count)| count.entries).sum()
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        let mut line =
            format!("{} % of {} in step", self.percent(), human::count(self.all.entries, "entry", "entries"));
        let classes = self.classes.iter().map(|(class, count)| format!("{} {}", count.entries, class.words()));
        let classes = classes.collect::<Vec<_>>().join(", ");
        if !classes.is_empty() {
            line = format!("{line}: {classes}");
        }
        if let Some(lag) = self.lag {
            line = format!("{line}; lag {}", human::duration(Duration::from_secs_f64(lag.max(0.0))));
        }
        if !self.why.is_empty() {
            line = format!("{line}; {}", self.why);
        }
        line
    }
}

#[cfg(test)]
impl Report {
    /// One for tests: of 4 entries with 40 bytes, of which all but those of the classes agree.
    pub(crate) fn sample(job: &str, sync: &str, verdict: Verdict, classes: &[(Class, u64)]) -> Self {
        let at = Timestamp::from_second(1_800_000_000).expect("a time");
        let differing: u64 = classes.iter().map(|(_, entries)| entries).sum();
        let count = |entries| Count { entries, bytes: 10 * entries };
        Self {
            replica: Replica { job: job.to_owned(), sync: sync.to_owned() },
            at,
            seconds: 1.5,
            depth: Depth::Quick,
            by: By::Here,
            verdict,
            why: String::new(),
            all: count(4),
            in_step: count(4 - differing),
            classes: classes.iter().map(|(class, entries)| (*class, count(*entries))).collect(),
            lag: None,
            last_agreement: (verdict == Verdict::InStep).then_some(at),
            read: Count::default(),
            known: Count::default(),
            never_read: Count::default(),
            oldest_read: None,
            window_days: None,
            drill: None,
            notes: Vec::new(),
            directories: Vec::new(),
            listed: differing,
        }
    }
}
