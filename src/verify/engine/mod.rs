//! A verification from its order to its report.
//!
//! Four passes, each in memory that does not grow with the trees; what one leaves for the next is in nameless files, in the order of the walks:
//! `scan` joins both walks and judges each pair; `read` compares contents that are not known; `again` looks once more at what differs,
//! since a tree may change while it is walked; `tally` counts, and makes the report.
//!
//! Errors mean that nothing can be said. What cannot be read here and there is part of the report.

mod again;
mod notes;
pub(super) mod pairs;
mod read;
mod scan;
mod share;
mod tally;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::compare::{Class, Difference};
use super::drill::{self, Sample, Sampled};
use super::manifest::{Manifest, ManifestError};
use super::order::Order;
use super::records::{Reader, Writer};
use super::report::{By, Report};
use super::side::{About, Side, SideError};
use super::store::{self, Store, StoreError};
use super::terms::{Depth, NotVerifiable, Promise};
use crate::clock::{self, Ticks};
use crate::rsync::filter::FilterError;
use crate::scan::Entry;
use pairs::Pair;
pub use pairs::Unpaired;
use tally::Tally;

/// Why nothing can be said of a replica.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Its options do not promise a copy.
    #[error(transparent)]
    Options(#[from] NotVerifiable),
    /// Its sources and its destination do not make pairs of trees.
    #[error(transparent)]
    Pairs(#[from] Unpaired),
    /// Its rules cannot be followed.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A source is not there.
    #[error("the source {0} is not there")]
    NoSource(String),
    /// A side failed.
    #[error("{side}")]
    Side {
        /// Which: `the source`, `the target`.
        side: &'static str,
        /// How.
        #[source]
        error: SideError,
    },
    /// The instance's directory of state.
    #[error("could not make {}", .0.display())]
    Directory(PathBuf, #[source] io::Error),
    /// What is known of it cannot be had.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// What was found cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something else here.
    #[error("a file for what is found meanwhile")]
    Io(#[from] io::Error),
}

impl VerifyError {
    fn source(error: SideError) -> Self {
        Self::Side { side: "the source", error }
    }

    fn target(error: SideError) -> Self {
        Self::Side { side: "the target", error }
    }
}

/// What a verification is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It walks both trees.
    Scan,
    /// It reads files.
    Read,
    /// It looks once more at what differs.
    Again,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// Entries that are behind it in this phase.
    pub entries: u64,
    /// Bytes that are, where it reads.
    pub bytes: u64,
    /// All bytes that it has to read; 0 where that is not known.
    pub bytes_in_all: u64,
}

/// The two trees, and by what the one that may be elsewhere is looked at.
pub struct Sides {
    /// Where the truth is.
    pub source: Box<dyn Side>,
    /// What is to be as the source.
    pub target: Box<dyn Side>,
    /// By what.
    pub by: By,
}

/// Something that differs, until it is looked at again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Candidate {
    pair: u32,
    class: Class,
    detail: String,
    source: Option<Entry>,
    target: Option<Entry>,
}

impl Candidate {
    fn path(&self) -> &[u8] {
        self.source.as_ref().or(self.target.as_ref()).map_or(b"", |entry| &entry.path)
    }
}

/// What the passes share.
struct Course<'a> {
    order: &'a Order,
    promise: Promise,
    pairs: Vec<Pair>,
    about: (About, About),
    sides: Sides,
    /// What is known of contents; only where they are looked at.
    manifest: Option<Manifest>,
    /// Where files without a name may be.
    scratch: PathBuf,
    began: Timestamp,
    tally: Tally,
    tell: &'a mut dyn FnMut(Progress),
}

/// What came of a verification.
#[derive(Debug)]
pub struct Outcome {
    /// In numbers.
    pub report: Report,
    /// Candidates, all of which differ.
    found: std::fs::File,
}

impl Outcome {
    /// All that differs, in the order of the walks.
    ///
    /// # Errors
    /// When the file in which it is put aside cannot be read.
    pub fn differences(&self) -> io::Result<impl Iterator<Item = Difference> + use<>> {
        Ok(Reader::<Candidate>::new(&self.found)?.map_while(Result::ok).map(tally::difference))
    }
}

/// Verifies, keeps what was found in the instance's state, and tells how far it is meanwhile.
///
/// # Errors
/// [`VerifyError`]: then nothing can be said, and nothing is kept.
pub fn verify(order: &Order, sides: Sides, tell: &mut dyn FnMut(Progress)) -> Result<Outcome, VerifyError> {
    let ticks = Ticks::now();
    if let Some(state) = &order.state {
        store::make_directory(state).map_err(|error| VerifyError::Directory(state.clone(), error))?;
    }
    let (source, target) = (sides.source.about(), sides.target.about());
    let promise = Promise::of(&order.opts)?.between(source.user, target.user);
    let manifest = match (&order.state, order.depth) {
        // rsync tells no digests that mean something later.
        (Some(state), Depth::Deep) if sides.by != By::Rsync => Some(Manifest::take(state, &order.replica)?),
        _ => None,
    };
    let mut course = Course {
        pairs: pairs::of(order, &promise)?,
        scratch: order.state.clone().unwrap_or_else(std::env::temp_dir),
        about: (source, target),
        began: clock::now(),
        tally: Tally::new(Sample::of(order.restore)),
        order,
        promise,
        sides,
        manifest,
        tell,
    };
    let found = course.passes()?;
    course.conclude(found, ticks)
}

impl Course<'_> {
    /// What differs after all.
    fn passes(&mut self) -> Result<std::fs::File, VerifyError> {
        let scan::Scanned { differing, to_read, kept, cursor } = self.scan()?;
        let stays = |found: &Candidate| {
            found.class == Class::Extra && !kept.is_empty() && kept.contains(&(found.pair, found.path().to_owned()))
        };
        let differing = Reader::<Candidate>::new(&differing.finish()?)?;
        let differing = differing.filter(|found| !found.as_ref().is_ok_and(stays));
        let contents = self.read(&to_read.finish()?)?;
        let mut contents = Reader::<Candidate>::new(&contents.finish()?)?;
        let found = self.again(differing, &mut contents)?;
        if let (Some(manifest), Some(cursor)) = (&self.manifest, cursor) {
            manifest.finish(cursor, self.began).map_err(|error| manifest.failed(error))?;
        }
        Ok(found)
    }

    fn spool<T: Serialize>(&self) -> Result<Writer<T>, VerifyError> {
        Ok(Writer::nameless(&self.scratch)?)
    }

    /// The files that are to be copied back, in the order of places, with what is known of their content.
    fn sample(&mut self) -> Result<Vec<Sampled>, VerifyError> {
        let mut sample = std::mem::take(&mut self.tally.sample).taken();
        sample.sort_by(|a, b| a.pair.cmp(&b.pair).then_with(|| crate::scan::order(&a.path, &b.path)));
        let taken = match (&self.manifest, &self.order.state) {
            // Another verification that has it knows better, and this one does without.
            (None, Some(state)) if !sample.is_empty() => Manifest::take(state, &self.order.replica).ok(),
            _ => None,
        };
        if let Some(manifest) = self.manifest.as_ref().or(taken.as_ref()) {
            let mut cursor = manifest.cursor().map_err(|error| manifest.failed(error))?;
            for sampled in &mut sample {
                let known = cursor.find(sampled.pair, &sampled.path)?.and_then(|known| known.agreed);
                let state = (sampled.state.mtime, sampled.state.size);
                sampled.agreed = known.filter(|known| (known.mtime, known.size) == state).map(|known| known.digest);
            }
        }
        Ok(sample)
    }

    /// The report, kept.
    fn conclude(mut self, found: std::fs::File, ticks: Ticks) -> Result<Outcome, VerifyError> {
        let mut store = self.order.state.as_deref().map(Store::open).transpose()?;
        let before = match &store {
            Some(store) => store.last(&self.order.replica)?,
            None => None,
        };
        let sample = self.sample()?;
        let mut report = std::mem::take(&mut self.tally).report(&self, before.as_ref());
        if self.order.restore > 0 {
            let drill = drill::drill(self.order, &sample, &mut self.sides, &self.pairs);
            report.took_back(drill, before.as_ref().and_then(|before| before.last_agreement));
        }
        report.seconds = ticks.elapsed().as_secs_f64();
        report.notes = notes::of(&mut self);
        let outcome = Outcome { report, found };
        if let Some(store) = &mut store {
            store.record(&outcome.report, outcome.differences()?, Duration::from_secs(self.order.keep))?;
        }
        Ok(outcome)
    }
}

/// The words of an rsync's options that say which names belong to it, read with the files that they name on this host.
fn filters(opts: &[OsString]) -> Result<crate::rsync::filter::Filters, FilterError> {
    use std::os::unix::ffi::OsStrExt;
    let mut read = |name: &[u8]| match std::fs::read(std::ffi::OsStr::from_bytes(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    };
    let home = std::env::var_os("HOME");
    let ignore = std::env::var_os("CVSIGNORE").unwrap_or_default();
    crate::rsync::filter::Filters::of(opts, &mut read, home.as_deref().map(OsStrExt::as_bytes), ignore.as_bytes())
}
