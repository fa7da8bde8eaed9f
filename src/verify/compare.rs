//! Two trees, told in the same order, against each other: pure, one entry of each at a time.

use std::cmp::Ordering;
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::side::About;
use super::terms::{Depth, Promise};
use crate::scan::{Entry, Kind, Meta, order};

/// In which way the target differs from the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// It is not there.
    Missing,
    /// It is there only.
    Extra,
    /// It is something of another kind.
    Type,
    /// The source is newer.
    Stale,
    /// The target is newer.
    TargetNewer,
    /// Of the same time, but not of the same length.
    Size,
    /// Of the same time and length, but not of the same content.
    Content,
    /// Its modes, owners, attributes or links are others.
    Meta,
    /// It could not be looked at on one side, so nothing is known.
    Unreadable,
    /// It changes while it is looked at.
    InFlight,
}

impl Class {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 10] = [
        Self::Missing,
        Self::Extra,
        Self::Type,
        Self::Stale,
        Self::TargetNewer,
        Self::Size,
        Self::Content,
        Self::Meta,
        Self::Unreadable,
        Self::InFlight,
    ];

    /// Its name in reports, metrics and the history.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Type => "type",
            Self::Stale => "stale",
            Self::TargetNewer => "target_newer",
            Self::Size => "size",
            Self::Content => "content",
            Self::Meta => "meta",
            Self::Unreadable => "unreadable",
            Self::InFlight => "in_flight",
        }
    }

    /// It for people, behind a number: `3 newer at the target`.
    pub fn words(self) -> &'static str {
        match self {
            Self::Type => "of another kind",
            Self::TargetNewer => "newer at the target",
            Self::Size => "of another size",
            Self::Content => "of other content",
            Self::Meta => "with other attributes",
            Self::InFlight => "in flight",
            _ => self.name(),
        }
    }

    /// That of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// One name at which the trees differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// From the root.
    pub path: Vec<u8>,
    /// In which way.
    pub class: Class,
    /// More about it, for people: `mode 0644, not 0600`.
    pub detail: String,
    /// As the source has it.
    pub source: Option<Entry>,
    /// As the target has it.
    pub target: Option<Entry>,
}

impl Difference {
    /// What it holds: the length of the source's file, or else of the target's.
    pub fn bytes(&self) -> u64 {
        self.source.as_ref().or(self.target.as_ref()).map_or(0, |entry| entry.size)
    }
}

/// What stands against each other at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pair {
    /// On both sides.
    Both(Entry, Entry),
    /// At the source only.
    Source(Entry),
    /// At the target only.
    Target(Entry),
}

impl Pair {
    /// Where it is, from the root.
    pub fn path(&self) -> &[u8] {
        match self {
            Self::Both(entry, _) | Self::Source(entry) | Self::Target(entry) => &entry.path,
        }
    }

    /// As source and target have it.
    pub fn sides(&self) -> (Option<&Entry>, Option<&Entry>) {
        match self {
            Self::Both(source, target) => (Some(source), Some(target)),
            Self::Source(source) => (Some(source), None),
            Self::Target(target) => (None, Some(target)),
        }
    }
}

/// What is to be said of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// It is none of this sync's business.
    Nothing,
    /// It is in step, as far as was looked.
    InStep,
    /// It differs, and the sync leaves it like that (`--update`): in step, whatever it holds.
    Left,
    /// It differs, with more about that for people: `mode 0644, not 0600`.
    Differs(Class, String),
}

/// Joins two sequences that are both in [`order`]. Constant memory.
pub fn join<E>(
    source: impl Iterator<Item = Result<Entry, E>>,
    target: impl Iterator<Item = Result<Entry, E>>,
) -> impl Iterator<Item = Result<Pair, E>> {
    let (mut source, mut target) = (source.peekable(), target.peekable());
    std::iter::from_fn(move || {
        let next = match (source.peek(), target.peek()) {
            (None, None) => return None,
            (Some(Err(_)), _) | (Some(_), None) => Ordering::Less,
            (_, Some(Err(_))) | (None, Some(_)) => Ordering::Greater,
            (Some(Ok(source)), Some(Ok(target))) => order(&source.path, &target.path),
        };
        Some(match next {
            Ordering::Less => source.next()?.map(Pair::Source),
            Ordering::Greater => target.next()?.map(Pair::Target),
            Ordering::Equal => match (source.next()?, target.next()?) {
                (Ok(source), Ok(target)) => Ok(Pair::Both(source, target)),
                (Err(error), _) | (_, Err(error)) => Err(error),
            },
        })
    })
}

/// What judges pairs, one after the other.
#[derive(Debug)]
pub struct Judge<'a> {
    promise: &'a Promise,
    depth: Depth,
    /// For each file of the source with several names: which file the first of them is there, `None` being one with a single name.
    links: HashMap<u64, Option<u64>>,
    /// Directories about whose content nothing is known, on either side; only the last one counts.
    unknown: Option<Vec<u8>>,
    extra: Extra,
    /// The numbers that owners and groups of the source have at the target, where these are others.
    owners: HashMap<u32, u32>,
    groups: HashMap<u32, u32>,
}

impl<'a> Judge<'a> {
    /// By this promise, as closely as this.
    pub fn new(promise: &'a Promise, depth: Depth) -> Self {
        let (links, unknown, owners, groups, extra) = Default::default();
        Self { promise, depth, links, unknown, owners, groups, extra }
    }

    /// Owners count by their names, as these hosts know them (rsync(1), `--numeric-ids`).
    pub fn with_names(mut self, source: &About, target: &About) -> Self {
        if !self.promise.numeric {
            self.owners = renumbered(&source.users, &target.users);
            self.groups = renumbered(&source.groups, &target.groups);
        }
        self
    }

    /// What is to be said of a pair.
    pub fn judge(&mut self, pair: &Pair) -> Judged {
        let (source, target) = pair.sides();
        let path = pair.path();
        let is_copied = source.map(|source| self.is_copied(source));
        let stays = target.is_some_and(|target| self.extra.stays(source, is_copied, target));
        if stays || is_copied == Some(false) {
            return Judged::Nothing;
        }
        if self.is_below_unknown(path) {
            // One side is not known here: said once, for the directory.
            return Judged::Nothing;
        }
        if let (None, Some(_)) = (source, target)
            && !self.promise.deletes
        {
            return Judged::Nothing;
        }
        if let (Some(source), Some(target)) = (source, target)
            && self.is_left(source, target)
        {
            return Judged::Left;
        }
        let Some((class, detail)) = self.class(source, target) else { return Judged::InStep };
        if class == Class::Unreadable {
            self.unknown = Some(path.to_owned());
        }
        Judged::Differs(class, detail)
    }

    /// Directories of which it was said that they are [`Class::Extra`], before what keeps them came: something below that rules protect. No sync
    /// will delete them, so nothing is to be said of them after all. Complete when every pair was judged.
    pub fn kept_after_all(&self) -> &BTreeSet<Vec<u8>> {
        &self.extra.kept
    }

    fn is_below_unknown(&self, path: &[u8]) -> bool {
        self.unknown.as_ref().is_some_and(|unknown| is_below(path, unknown))
    }

    /// Whether the sync copies such a thing at all.
    fn is_copied(&self, entry: &Entry) -> bool {
        match entry.kind {
            Kind::File | Kind::Directory | Kind::Unknown => true,
            Kind::Symlink => self.promise.links,
            Kind::Block(_) | Kind::Character(_) => self.promise.devices,
            Kind::Fifo | Kind::Socket => self.promise.specials,
        }
    }

    fn class(&mut self, source: Option<&Entry>, target: Option<&Entry>) -> Option<(Class, String)> {
        if source.is_none() {
            return Some((Class::Extra, String::new()));
        }
        for entry in [source, target].into_iter().flatten() {
            if let Some(problem) = &entry.problem {
                return Some((Class::Unreadable, problem.clone()));
            }
        }
        match (source, target) {
            // Whether it is empty, rules considered, is not known yet; a file in it that is missing speaks for itself.
            (Some(source), None) if self.promise.prunes && source.kind == Kind::Directory => None,
            (Some(_), None) => Some((Class::Missing, String::new())),
            (Some(source), Some(target)) => self.both(source, target),
            (None, _) => None,
        }
    }

    fn both(&mut self, source: &Entry, target: &Entry) -> Option<(Class, String)> {
        if std::mem::discriminant(&source.kind) != std::mem::discriminant(&target.kind) {
            return Some((Class::Type, format!("{}, not {}", kind_name(target.kind), kind_name(source.kind))));
        }
        if let (Kind::File, Some(found)) = (source.kind, self.file(source, target)) {
            return Some(found);
        }
        if self.depth < Depth::Meta {
            return None;
        }
        let mut details = Vec::new();
        if source.kind != target.kind {
            details.push("another device".to_owned());
        }
        if self.promise.directory_times && source.kind == Kind::Directory && !self.is_same_time(source, target) {
            details.push("another time".to_owned());
        }
        if let (Some(ours), Some(theirs)) = (&source.meta, &target.meta) {
            self.metas(source.kind, ours, theirs, &mut details);
        }
        (!details.is_empty()).then(|| (Class::Meta, details.join(", ")))
    }

    /// What is to be said of a file by its length and time.
    fn file(&self, source: &Entry, target: &Entry) -> Option<(Class, String)> {
        let is_same_time = !self.promise.times || self.is_same_time(source, target);
        match (is_same_time, source.mtime.cmp(&target.mtime)) {
            (true, _) if source.size == target.size => None,
            (true, _) => Some((Class::Size, format!("{} bytes, not {}", target.size, source.size))),
            (false, Ordering::Less) => Some((Class::TargetNewer, String::new())),
            (false, _) => Some((Class::Stale, String::new())),
        }
    }

    /// Whether a file differs, and `--update` passes it over: rsync counts whole seconds, and keeps what is less than its window older, too.
    fn is_left(&self, source: &Entry, target: &Entry) -> bool {
        let window = i64::try_from(self.promise.window).unwrap_or(i64::MAX);
        let is_file = |entry: &Entry| entry.kind == Kind::File && entry.problem.is_none();
        self.promise.keeps_newer
            && is_file(source)
            && is_file(target)
            && source.mtime.seconds.saturating_sub(target.mtime.seconds) < window
            && (source.size != target.size || self.promise.times && !self.is_same_time(source, target))
    }

    fn is_same_time(&self, a: &Entry, b: &Entry) -> bool {
        let seconds = a.mtime.seconds.abs_diff(b.mtime.seconds);
        match self.promise.window {
            // rsync leaves a directory as it is for a difference of less than a second.
            0 => seconds == 0 && (a.kind == Kind::Directory || is_same_part(a.mtime.nanos, b.mtime.nanos)),
            window => seconds <= window,
        }
    }

    fn metas(&mut self, kind: Kind, ours: &Meta, theirs: &Meta, details: &mut Vec<String>) {
        if ours.target != theirs.target {
            details.push("the link leads elsewhere".to_owned());
        }
        // A link has no mode of its own.
        if self.promise.modes && kind != Kind::Symlink && ours.mode != theirs.mode {
            details.push(format!("mode {:04o}, not {:04o}", theirs.mode, ours.mode));
        }
        let owner = self.owners.get(&ours.owner).copied().unwrap_or(ours.owner);
        if self.promise.owners && owner != theirs.owner {
            details.push(format!("owner {}, not {owner}", theirs.owner));
        }
        let group = self.groups.get(&ours.group).copied().unwrap_or(ours.group);
        if self.promise.groups && group != theirs.group {
            details.push(format!("group {}, not {group}", theirs.group));
        }
        if self.promise.attributes.any() && ours.attributes != theirs.attributes {
            details.push("other attributes".to_owned());
        }
        if self.promise.hard_links && !self.is_linked(ours.links, theirs.links) {
            details.push("not one file with its other names".to_owned());
        }
    }

    /// Whether the names of a file here are those of one file there. As rsync(1) has it of `--hard-links`, names outside of the tree do not
    /// count, and what is one file there without being one here is left alone.
    fn is_linked(&mut self, ours: Option<u64>, theirs: Option<u64>) -> bool {
        let Some(ours) = ours else { return true };
        match self.links.entry(ours) {
            Vacant(first) => {
                first.insert(theirs);
                true
            }
            Occupied(first) => theirs.is_some() && *first.get() == theirs,
        }
    }
}

/// Which names of the target alone a sync would delete, told in order.
#[derive(Debug, Default)]
struct Extra {
    /// A directory that stays with all that is in it.
    staying: Option<Vec<u8>>,
    /// The outermost directory that is to go.
    going: Option<Vec<u8>>,
    /// Directories that cannot go, for something in them stays.
    kept: BTreeSet<Vec<u8>>,
}

impl Extra {
    /// Whether a name of the target is none of the sync's business: the source does not have it, and it is not deleted. `is_copied` is whether the
    /// sync copies what the source has there.
    fn stays(&mut self, source: Option<&Entry>, is_copied: Option<bool>, target: &Entry) -> bool {
        let path = &target.path;
        if self.staying.as_ref().is_some_and(|staying| is_below(path, staying)) {
            return true;
        }
        self.going.take_if(|going| !is_below(path, going));
        let is_directory = target.kind == Kind::Directory;
        if let Some(source) = source {
            if is_directory && is_copied == Some(false) {
                self.staying = Some(path.clone());
            } else if is_directory && source.kind != Kind::Directory {
                // It makes way, with all that is in it.
                self.going = Some(path.clone());
            }
            return false;
        }
        let stays = if self.going.is_some() { target.kept.with_directory } else { target.kept.alone };
        if stays {
            self.keep_above(path);
        }
        if is_directory && stays {
            self.staying = Some(path.clone());
        } else if is_directory && self.going.is_none() {
            self.going = Some(path.clone());
        }
        stays
    }

    /// What holds something that stays, stays, too.
    fn keep_above(&mut self, path: &[u8]) {
        let Some(going) = &self.going else { return };
        let slashes = memchr::memrchr_iter(b'/', path).take_while(|slash| *slash >= going.len());
        self.kept.extend(slashes.map(|slash| path[..slash].to_vec()));
    }
}

/// Whether a path is below a directory; all is below the root but itself.
fn is_below(path: &[u8], directory: &[u8]) -> bool {
    if directory.is_empty() {
        return !path.is_empty();
    }
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
}

/// What becomes of numbers whose names have others there. 0 is 0 everywhere.
fn renumbered(here: &[(String, u32)], there: &[(String, u32)]) -> HashMap<u32, u32> {
    let there: HashMap<&str, u32> = there.iter().map(|(name, number)| (name.as_str(), *number)).collect();
    let others = here.iter().filter_map(|(name, number)| Some((*number, *there.get(name.as_str())?)));
    others.filter(|(ours, theirs)| ours != theirs && *ours != 0).collect()
}

/// Whether nanoseconds are the same as far as both file systems keep them: many cut them off at some power of ten.
fn is_same_part(a: u32, b: u32) -> bool {
    let unit =
        |nanos: u32| (2..9).map(|digits| 10_u32.pow(digits)).take_while(|unit| nanos.is_multiple_of(*unit)).last();
    let (one, other) = (unit(a).unwrap_or(1), unit(b).unwrap_or(1));
    let unit = one.max(other);
    a == b || a == 0 || b == 0 || (a / unit == b / unit)
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "a file",
        Kind::Directory => "a directory",
        Kind::Symlink => "a link",
        Kind::Block(_) | Kind::Character(_) => "a device",
        Kind::Fifo => "a pipe",
        Kind::Socket => "a socket",
        Kind::Unknown => "unknown",
    }
}
