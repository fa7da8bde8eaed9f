//! What keeps a sync from deleting too much: how many deletions are allowed, the dry run that counts them, and the listing that tells
//! whether a source is empty.
//!
//! rsync's own `--max-delete` deletes that many and then stops, so it comes too late. The *preview* is a dry run of the user's options as
//! far as they say which names there are; deletions depend on nothing else. The *listing* looks at a source no deeper than its
//! first level, through the user's filters.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use super::options::{self, Fate, Opt, REACH, RULES};
use super::shards;
use super::stats::{Stats, StatsParser};

/// So many of the names that would be deleted are told.
const TOLD: usize = 5;

/// How much a sync may delete.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxDelete {
    /// This many entries.
    Entries(u64),
    /// This share of the destination's entries, in percent.
    Percent(f64),
}

impl MaxDelete {
    /// Reads `100` or `5%`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_plain = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        match text.strip_suffix('%').map(str::trim_end) {
            Some(share) if is_plain(share) && share.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.')) => {
                share.parse().ok().filter(|share| *share <= 100.0).map(Self::Percent)
            }
            Some(_) => None,
            None if is_plain(text) => text.parse().ok().map(Self::Entries),
            None => None,
        }
    }

    /// Whether everything may be deleted.
    pub fn is_all(self) -> bool {
        matches!(self, Self::Percent(share) if share >= 100.0)
    }

    /// How many of this many entries may be deleted.
    pub fn of(self, entries: u64) -> u64 {
        match self {
            Self::Entries(count) => count,
            Self::Percent(share) => (entries as f64 * share / 100.0).floor() as u64,
        }
    }
}

impl fmt::Display for MaxDelete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entries(count) => write!(f, "{count}"),
            Self::Percent(share) => write!(f, "{share}%"),
        }
    }
}

/// Whether rsync may delete what the source does not have, in whatever spelling.
pub fn deletes(opts: &[OsString]) -> bool {
    shards::deletes(&options::parse(opts))
}

/// Whether rsync changes nothing, or is not to copy at all.
pub fn only_looks(opts: &[OsString]) -> bool {
    const OTHERS: [&str; 6] = ["dry-run", "list-only", "read-batch", "daemon", "server", "help"];
    options::has(opts, &OTHERS)
}

/// Whether the options limit deletions by themselves.
pub fn has_max_delete(opts: &[OsString]) -> bool {
    options::has(opts, &["max-delete"])
}

/// Whether some of what is in a source may be left out.
pub fn has_filters(opts: &[OsString]) -> bool {
    options::has(opts, &RULES)
}

/// Whether rsync goes on to delete when a source is missing or cannot be read.
pub fn deletes_despite_errors(opts: &[OsString]) -> bool {
    options::has(opts, &["ignore-errors", "ignore-missing-args", "delete-missing-args"])
}

/// Whether a link at the end of a source's path is followed.
pub fn follows_links(opts: &[OsString]) -> bool {
    options::has(opts, &["copy-links", "copy-dirlinks", "copy-unsafe-links"])
}

/// Whether a path is for rsync to understand: a daemon's module or another host's.
pub fn is_elsewhere(path: &OsStr) -> bool {
    super::args::looks_remote(path.as_bytes())
}

/// The options of the preview, a dry run. Left out is what decides which of the names are transferred, and how: what remains of
/// the source's entries and is not created exists at the destination.
pub fn preview_options(opts: &[OsString]) -> Vec<OsString> {
    const WITHOUT: [&str; 15] = [
        "max-delete",
        "existing",
        "ignore-non-existing",
        "max-size",
        "min-size",
        "checksum",
        "compare-dest",
        "copy-dest",
        "link-dest",
        "fuzzy",
        "bwlimit",
        "write-batch",
        "only-write-batch",
        "remove-source-files",
        "remove-sent-files",
    ];
    let is_output = |opt: &Opt<'_>| opt.entry().is_some_and(|entry| entry.fate == Fate::Output);
    let mut words = options::keep(opts, |opt| !is_output(opt) && !opt.is_of(&WITHOUT));
    words.extend(["--outbuf=B", "--info=del1"].map(OsString::from));
    words
}

/// The options of a listing of sources whose own names have `depth` parts.
pub fn listing_options(opts: &[OsString], depth: usize) -> Vec<OsString> {
    const NAMES: [&str; 18] = [
        "archive",
        "recursive",
        "dirs",
        "old-dirs",
        "links",
        "copy-links",
        "copy-unsafe-links",
        "safe-links",
        "copy-dirlinks",
        "devices",
        "specials",
        "D",
        "relative",
        "implied-dirs",
        "one-file-system",
        "from0",
        "iconv",
        "rsh",
    ];
    // The first rule that matches counts: nothing below the first level is listed.
    let mut words = vec!["--list-only".into(), format!("--filter=- {}", "/*".repeat(depth + 2)).into()];
    words.extend(options::keep(opts, |opt| [&NAMES[..], &RULES, &REACH].iter().any(|names| opt.is_of(names))));
    words.push("--outbuf=B".into());
    words
}

/// How many parts the name has by which a source itself appears in a listing: none where the path stands for what is in it
/// (rsync(1), the trailing slash), all with `--relative`.
pub fn depth(opts: &[OsString], source: &OsStr) -> usize {
    let bytes = source.as_bytes();
    let parts = |bytes: &[u8]| bytes.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b".")).count();
    if options::has(opts, &["relative"]) {
        let from = bytes.windows(3).position(|window| window == b"/./").map_or(0, |at| at + 3);
        return parts(&bytes[from..]);
    }
    let last = bytes.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    usize::from(!matches!(last, b"" | b"." | b".."))
}

/// Reads what a preview prints.
#[derive(Debug, Default)]
pub struct Preview {
    deletions: u64,
    first: Vec<String>,
    stats: StatsParser,
}

/// What a sync would do to its destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Entries that would be deleted.
    pub deletions: u64,
    /// Entries that rsync finds at the destination: those that it would keep or change and those that it would delete. What a
    /// filter hides from it does not count; the destination directory itself does, where the source stands for its contents.
    pub entries: u64,
    /// The first names that would be deleted, relative to the destination, control characters escaped by rsync.
    pub first: Vec<String>,
}

impl Preview {
    /// Takes one line.
    pub fn line(&mut self, line: &[u8]) {
        let line = line.trim_ascii_end();
        let Some(name) = line.strip_prefix(b"deleting ") else {
            self.stats.line(line);
            return;
        };
        self.deletions += 1;
        if self.first.len() < TOLD {
            self.first.push(String::from_utf8_lossy(name).into_owned());
        }
    }

    /// What would be done, if rsync got as far as telling.
    pub fn finish(self) -> Option<Plan> {
        let Stats { files, created, deleted, .. } = self.stats.finish()?;
        let deletions = self.deletions.max(deleted);
        Some(Plan { deletions, entries: files.saturating_sub(created) + deletions, first: self.first })
    }
}

impl Plan {
    /// Why it is refused; `None` if it is allowed.
    pub fn objection(&self, max: MaxDelete) -> Option<String> {
        let Self { deletions, entries, first } = self;
        let allowed = max.of(*entries);
        if *deletions <= allowed {
            return None;
        }
        let limit = match max {
            MaxDelete::Entries(count) => count.to_string(),
            MaxDelete::Percent(_) => format!("{max}, which is {allowed}"),
        };
        let more = match deletions.saturating_sub(first.len() as u64) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let names = first.join(", ");
        Some(format!(
            "nothing was changed: rsync would delete {deletions} of the {entries} entries at the destination, and max_delete allows \
             {limit}; it would delete {names}{more}"
        ))
    }
}

/// Whether a line of a listing shows that a source whose own name has `depth` parts is not empty: something that is not a
/// directory, or a directory in it.
pub fn shows_content(line: &[u8], depth: usize) -> bool {
    let Some((&kind, permissions)) = line.split_first() else { return false };
    let is_entry = permissions.len() > 9 && permissions[..9].iter().all(|byte| b"rwxsStT-".contains(byte));
    if !is_entry || !b"-dlpscb".contains(&kind) {
        return false;
    }
    if kind != b'd' {
        return true;
    }
    // Permissions, size, date, time, name.
    let mut rest = line;
    for _ in 0..4 {
        let Some(end) = rest.iter().position(|&byte| byte == b' ') else { return false };
        rest = rest[end..].trim_ascii_start();
    }
    let name = rest.trim_ascii_end();
    name != b"." && name.split(|&byte| byte == b'/').count() > depth
}

#[cfg(test)]
mod tests;
