//! A verification without an agent on the peer, by rsync alone: slower, and the same report.
//!
//! The tree that is elsewhere is listed by a dry run that would copy all of it to nowhere ([`Rsync`]). What a listing cannot tell, a dry run of the sync
//! itself does: which names it would delete (so rsync's own judgement of rules that protect, with the files of rules that are there), of which the
//! attributes differ, which devices; and, of the files that are to be read, which differ by `--checksum`. That is put so that who compares both
//! sides finds it: names carry what keeps them, and attributes and digests are marks that are the same where rsync sees no difference.
//! So the side that is here is told with the same marks (`Plain`).
//!
//! Deliberately absent: nanoseconds, numbers of devices, and a clock of the peer; digests that mean something to a later verification; and a bound on
//! the rate at which rsync reads.

mod line;
mod plain;
mod run;
mod table;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::engine::pairs::{self, Pair};
use super::engine::{Sides, VerifyError};
use super::here::Here;
use super::order::{Elsewhere, Order};
use super::records;
use super::report::By;
use super::side::{About, Entries, Read, Scan, Side, SideError, State, Wanted};
use super::terms::{Depth, Promise};
use crate::rsync::filter::{Kept, Side as End};
use crate::scan::{Entry, Kind};
use line::Problem;
use plain::Plain;
use run::{Complaints, Way};
use table::{Changes, Listing};

/// The digest of content that rsync sees no difference in, and that of other content. They say nothing of the content itself.
const SAME: [u8; 32] = [0; 32];
const OTHER: [u8; 32] = [1; 32];
/// The mark of attributes in which rsync sees a difference.
const OTHER_ATTRIBUTES: [u8; 16] = [1; 16];
/// errno(3): what vanished was never there.
const GONE: [i32; 2] = [2, 20];

/// Both sides of an order of which one is elsewhere. `used` of its tickets are used already.
///
/// # Errors
/// [`VerifyError`], when its options, sources or rules cannot be verified.
pub fn sides(order: &Order, elsewhere: &Elsewhere, used: usize) -> Result<Sides, VerifyError> {
    let promise = Promise::of(&order.opts)?;
    let pairs = pairs::of(order, &promise)?;
    let here = Box::new(Plain(Here::default()));
    let there = Rsync {
        way: Way::new(elsewhere, used),
        order: order.clone(),
        promise,
        pairs,
        changes: None,
        again: Vec::new(),
    };
    let is_source = elsewhere.is_source;
    let there = Box::new(there);
    let by = By::Rsync;
    Ok(if is_source { Sides { source: there, target: here, by } } else { Sides { source: here, target: there, by } })
}

/// The tree that is elsewhere, by rsync.
pub struct Rsync {
    way: Way,
    order: Order,
    promise: Promise,
    pairs: Vec<Pair>,
    /// What the sync would change, once that was asked for.
    changes: Option<Changes>,
    /// What a second listing of a tree told.
    again: Vec<(Scan, Listing)>,
}

impl Side for Rsync {
    fn about(&self) -> About {
        // Numbers of owners come as they are here, by rsync's own way of names.
        let user = if self.way.user() == "root" { 0 } else { u32::MAX };
        About { user, ..About::default() }
    }

    fn scan(&mut self, scan: &Scan) -> Result<Entries<'_>, SideError> {
        if self.changes.is_none() && self.asks_for_changes(scan) {
            self.changes = Some(self.changes()?);
        }
        let listing = self.list(scan)?;
        let (end, deletes, changes) = (scan.end, self.promise.deletes, self.changes.as_mut());
        let entries = listing.entries();
        Ok(Box::new(entries.map(move |entry| marked(entry?, end, deletes, changes.as_deref()))))
    }

    fn look(&mut self, scan: &Scan, paths: &[Vec<u8>]) -> Result<Vec<Option<Entry>>, SideError> {
        if !self.again.iter().any(|(listed, _)| listed == scan) {
            let listing = self.list(scan)?;
            self.again.push((scan.clone(), listing));
        }
        let listing = self.again.iter().find(|(listed, _)| listed == scan).map(|(_, listing)| listing);
        let look = |path: &Vec<u8>| match listing.map(|listing| listing.get(path)).transpose()?.flatten() {
            Some(entry) => marked(entry, scan.end, self.promise.deletes, self.changes.as_ref()).map(Some),
            None => Ok(None),
        };
        paths.iter().map(look).collect()
    }

    fn hash(
        &mut self,
        scan: &Scan,
        wanted: &mut (dyn Iterator<Item = Wanted> + Send),
        _rate: Option<u64>,
        told: &mut (dyn FnMut(Wanted, Read) -> Result<(), SideError> + Send),
    ) -> Result<(), SideError> {
        let kept = |error| SideError::io("what is to be read", error);
        let mut names = run::nameless().map_err(kept)?;
        let mut wanted_again = records::Writer::<(Vec<u8>, State)>::new(run::nameless().map_err(kept)?);
        {
            let mut list = std::io::BufWriter::new(&mut names);
            for Wanted { path, state } in wanted {
                list.write_all(&path).and_then(|()| list.write_all(b"\0")).map_err(kept)?;
                wanted_again.write(&(path, state)).map_err(kept)?;
            }
            list.flush().map_err(kept)?;
        }
        let compared = self.compare(scan, names)?;
        let file = wanted_again.finish().map_err(kept)?;
        for wanted in records::Reader::<(Vec<u8>, State)>::new(&file).map_err(kept)? {
            let (path, state) = wanted.map_err(kept)?;
            let read = match (compared.problem_of(&path)?, compared.of(&path)?.what) {
                (Some(why), _) if why.is_empty() => Read::Changed,
                (Some(why), _) => Read::Unreadable(why),
                (None, what) if what.more => Read::Changed,
                (None, what) => Read::Digest(if what.content { OTHER } else { SAME }),
            };
            told(Wanted { path, state }, read)?;
        }
        Ok(())
    }
}

impl Rsync {
    /// Whether a listing alone does not tell enough.
    fn asks_for_changes(&self, scan: &Scan) -> bool {
        let deletes = scan.end == End::Receiver && self.promise.deletes;
        let more = self.order.depth >= Depth::Meta && (self.promise.attributes.any() || self.promise.devices);
        deletes || more
    }

    /// What the sync would do.
    fn changes(&mut self) -> Result<Changes, SideError> {
        let changes = Changes::new()?;
        let mut opts = run::whole(&self.order.opts);
        opts.extend(["--ignore-errors", line::CHANGES].map(OsString::from));
        let there = |path: &OsString| self.way.there(path);
        let here = |path: &OsString| path.clone();
        let (sources, dest) = (&self.order.sources, &self.order.dest);
        let operands = match self.way.is_source() {
            true => sources.iter().map(there).chain([here(dest)]).collect(),
            false => sources.iter().map(here).chain([there(dest)]).collect(),
        };
        // What cannot be read is told by the walks.
        self.way.run(opts, operands, None, &mut |text| match line::change(text) {
            Some(change) => changes.put(&change),
            None => Ok(()),
        })?;
        Ok(changes)
    }

    /// The tree as it is now.
    fn list(&mut self, scan: &Scan) -> Result<Listing, SideError> {
        let listing = Listing::new()?;
        let mut opts = run::reach(&self.order.opts);
        let mut option = |wanted: bool, word: &str| opts.extend(wanted.then(|| word.into()));
        option(true, "-rlptgoD");
        option(scan.meta && self.promise.hard_links, "-H");
        // What is mounted below a destination is written to all the same.
        option(scan.one_file_system && scan.end == End::Sender, "-x");
        option(true, line::LISTING);
        if scan.end == End::Sender {
            opts.extend(run::rules(&self.order.opts));
        }
        let root = run::inside(&scan.root);
        let operand = |name: &Vec<u8>| OsString::from_vec([root.as_bytes(), name].concat());
        let paths = if scan.only.is_empty() { vec![root.clone()] } else { scan.only.iter().map(operand).collect() };
        let operands = paths.iter().map(|path| self.way.there(path)).chain([run::NOWHERE.into()]).collect();
        let complaints = self.way.run(opts, operands, None, &mut |text| match line::listed(text, scan.meta) {
            Some(listed) => listing.put(&listed),
            None => Ok(()),
        })?;
        self.problems(complaints, &scan.root, &listing)?;
        Ok(listing)
    }

    /// Puts what could not be looked at into a listing.
    fn problems(&self, complaints: Complaints, root: &[u8], listing: &Listing) -> Result<(), SideError> {
        complaints.problems(&mut |problem| {
            if GONE.contains(&problem.errno) {
                return Ok(());
            }
            for path in candidates(root, &problem.path) {
                if listing.get(&path)?.is_some() || listing.get(parent(&path))?.is_some() {
                    return listing.problem(&path, &problem.reason);
                }
            }
            let Problem { path, tried, reason, .. } = problem;
            Err(self.way.failed(format!("{tried} {}: {reason}", String::from_utf8_lossy(&path))))
        })
    }

    /// Which of the files in a list (each name ends with a NUL) differ by their checksums.
    fn compare(&mut self, scan: &Scan, mut names: File) -> Result<Changes, SideError> {
        let compared = Changes::new()?;
        let pair = self.pairs.iter().find(|pair| pair.source == *scan || pair.target == *scan);
        let Some(Pair { source, target }) = pair else {
            return Err(self.way.failed("it was asked for another tree"));
        };
        let roots = [source.root.clone(), target.root.clone()];
        let (source, target) = (run::inside(&source.root), run::inside(&target.root));
        names.rewind().map_err(|error| SideError::io("what is to be read", error))?;
        let mut opts = run::reach(&self.order.opts);
        opts.extend(
            ["-ct", "--no-recursive", "--no-implied-dirs", "--files-from=-", "--from0", line::CHANGES]
                .map(OsString::from),
        );
        let operands = match self.way.is_source() {
            true => vec![self.way.there(&source), target],
            false => vec![source, self.way.there(&target)],
        };
        let complaints = self.way.run(opts, operands, Some(names), &mut |text| match line::change(text) {
            Some(change) => compared.put(&change),
            None => Ok(()),
        })?;
        complaints.problems(&mut |problem| {
            let why = if GONE.contains(&problem.errno) { "" } else { &problem.reason };
            // Where nobody knows where the root is, one of the paths that it may be is asked for.
            for path in roots.iter().flat_map(|root| candidates(root, &problem.path)) {
                compared.problem(&path, why)?;
            }
            Ok(())
        })?;
        Ok(compared)
    }
}

/// An entry of a listing with what the sync would do to it.
fn marked(mut entry: Entry, end: End, deletes: bool, changes: Option<&Changes>) -> Result<Entry, SideError> {
    let fate = changes.map(|changes| changes.of(&entry.path)).transpose()?.unwrap_or_default();
    if end == End::Receiver && deletes && !fate.deleted {
        entry.kept = Kept { alone: true, with_directory: true };
    }
    if fate.what.device {
        entry.kind = Kind::Block(1);
    }
    if let Some(meta) = entry.meta.as_mut().filter(|_| fate.what.attributes) {
        meta.attributes = Some(OTHER_ATTRIBUTES);
    }
    Ok(entry)
}

/// What a path of a host may be below a root there, the likeliest first. Where a relative root is, nobody here knows.
fn candidates(root: &[u8], path: &[u8]) -> Vec<Vec<u8>> {
    let root = root.strip_suffix(b".").filter(|root| root.ends_with(b"/")).unwrap_or(root);
    let bare: Vec<&[u8]> = root.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    let bare = [b"/", &bare.join(&b'/')[..]].concat();
    let below = |at: usize| match &path[at + bare.len()..] {
        [] => Some(Vec::new()),
        [b'/', rest @ ..] => Some(rest.to_vec()),
        _ => None,
    };
    if root.starts_with(b"/") {
        let is_root = bare == b"/";
        return match path.starts_with(&bare) {
            true if is_root => vec![path[1..].to_vec()],
            true => below(0).into_iter().collect(),
            false => Vec::new(),
        };
    }
    if bare != b"/"
        && let Some(path) = memchr::memmem::find_iter(path, &bare).find_map(below)
    {
        return vec![path];
    }
    memchr::memchr_iter(b'/', path).map(|slash| path[slash + 1..].to_vec()).collect()
}

fn parent(path: &[u8]) -> &[u8] {
    &path[..memchr::memrchr(b'/', path).unwrap_or(0)]
}
