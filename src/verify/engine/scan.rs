//! The first pass: both trees are walked at once, and each pair is judged by what the walks tell.

use std::collections::BTreeSet;

use super::share::Share;
use super::{Candidate, Course, Phase, Progress, VerifyError};
use crate::logging::escaped_bytes;
use crate::scan::{Entry, Kind};
use crate::verify::compare::{Class, Judge, Judged, Pair, join};
use crate::verify::manifest::{Agreed, Cursor, Digested, Known, Place};
use crate::verify::records::Writer;
use crate::verify::side::{Scan, State};
use crate::verify::terms::Depth;
use serde::{Deserialize, Serialize};

/// Progress is told after so many entries.
const TOLD_EVERY: u64 = 4096;

/// Two files that agree but for their contents, which are to be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ToRead {
    pub(super) place: Place,
    pub(super) source: Content,
    pub(super) target: Content,
    pub(super) agreed: Option<Agreed>,
    /// Whether they counted as in step; if not, it was said already what else differs.
    pub(super) in_step: bool,
}

/// The content of one of two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Content {
    /// It was read in this state.
    Known(Digested),
    /// It is to be read.
    Unknown(State),
}

/// What the first pass leaves for the others.
pub(super) struct Scanned {
    /// In the order of places.
    pub(super) differing: Writer<Candidate>,
    /// In the order of places.
    pub(super) to_read: Writer<ToRead>,
    /// Directories that are told as too much and stay all the same, by the number of their pair ([`Judge::kept_after_all`]).
    pub(super) kept: BTreeSet<(u32, Vec<u8>)>,
    /// How far the manifest was read.
    pub(super) cursor: Option<Cursor>,
}

/// What decides about contents.
struct Contents {
    cursor: Cursor,
    share: Option<Share>,
    fresh: bool,
}

impl Course<'_> {
    pub(super) fn scan(&mut self) -> Result<Scanned, VerifyError> {
        let (mut differing, mut to_read) = (self.spool()?, self.spool()?);
        let mut contents = self.contents()?;
        let mut kept = BTreeSet::new();
        let Self { promise, order, pairs, about, sides, tally, tell, .. } = self;
        for (number, pair) in (0_u32..).zip(pairs.iter()) {
            let mut judge = Judge::new(promise, order.depth).with_names(&about.0, &about.1);
            let source = sides.source.scan(&pair.source).map_err(VerifyError::source)?;
            let target = sides.target.scan(&pair.target).map_err(VerifyError::target)?;
            let mut wanted = Roots::of(&pair.source);
            let source = source.inspect(|entry| wanted.saw(entry.as_ref().ok()));
            let source = source.map(|entry| entry.map_err(VerifyError::source));
            let target = target.map(|entry| entry.map_err(VerifyError::target));
            for pair in join(source, target) {
                let pair = pair?;
                match judge.judge(&pair) {
                    Judged::Nothing => continue,
                    Judged::Left => {
                        if let (Some(source), _) = pair.sides() {
                            tally.left(source);
                        }
                    }
                    Judged::Differs(mut class, mut detail) => {
                        // Another mode does not hide that the content is another one.
                        if let (Class::Meta, (Some(source), Some(target)), Some(contents)) =
                            (class, pair.sides(), &mut contents)
                            && let Some(rotten) =
                                contents.weigh(number, (source, target), false, &mut to_read, tally)?
                        {
                            (class, detail) = (Class::Content, format!("{rotten}; {detail}"));
                        }
                        let (source, target) = owned(pair);
                        differing.write(&Candidate { pair: number, class, detail, source, target })?;
                    }
                    Judged::InStep => {
                        let (Some(source), Some(target)) = pair.sides() else { continue };
                        tally.in_step(number, source, target);
                        if let Some(contents) = &mut contents
                            && let Some(detail) = contents.weigh(number, (source, target), true, &mut to_read, tally)?
                        {
                            tally.not_in_step_after_all(source.size);
                            let (class, (source, target)) = (Class::Content, owned(pair));
                            differing.write(&Candidate { pair: number, class, detail, source, target })?;
                        }
                    }
                }
                if tally.seen().is_multiple_of(TOLD_EVERY) {
                    tell(Progress { phase: Phase::Scan, entries: tally.seen(), bytes: 0, bytes_in_all: 0 });
                }
            }
            wanted.all_seen()?;
            kept.extend(judge.kept_after_all().iter().map(|path| (number, path.clone())));
        }
        tell(Progress { phase: Phase::Scan, entries: tally.seen(), bytes: 0, bytes_in_all: 0 });
        Ok(Scanned { differing, to_read, kept, cursor: contents.map(|contents| contents.cursor) })
    }

    fn contents(&self) -> Result<Option<Contents>, VerifyError> {
        if self.order.depth < Depth::Deep || !self.reads() {
            return Ok(None);
        }
        let last = self.manifest.as_ref().and_then(|manifest| manifest.last_pass());
        let now = self.began.as_second();
        let share = self.order.share.map(|part| Share::new(part, now, last.map(|last| last.as_second())));
        let cursor = match &self.manifest {
            Some(manifest) => manifest.cursor().map_err(|error| manifest.failed(error))?,
            None => Cursor::of_nothing(&self.scratch)?,
        };
        Ok(Some(Contents { cursor, share, fresh: self.order.fresh }))
    }

    /// Whether both sides can be read.
    pub(super) fn reads(&self) -> bool {
        self.sides.source.reads() && self.sides.target.reads()
    }
}

impl Contents {
    /// Decides whether the contents of two files of the same length and time are read, known, or left for another day. What is to be said of
    /// those that are known to differ.
    fn weigh(
        &mut self,
        pair: u32,
        (source, target): (&Entry, &Entry),
        in_step: bool,
        to_read: &mut Writer<ToRead>,
        tally: &mut super::Tally,
    ) -> Result<Option<String>, VerifyError> {
        if source.kind != Kind::File {
            return Ok(None);
        }
        let known = self.cursor.find(pair, &source.path)?;
        let (source_state, target_state) = (State::of(source), State::of(target));
        let agreed = known.as_ref().and_then(|known| known.agreed);
        let digested = |side: fn(&Known) -> Option<Digested>, state: &State| {
            known.as_ref().and_then(side).filter(|digested| digested.state == *state)
        };
        let sides = (digested(|known| known.source, &source_state), digested(|known| known.target, &target_state));
        let last = sides.0.zip(sides.1).map(|(source, target)| source.at.min(target.at));
        let is_read = match self.share {
            _ if self.fresh => true,
            None => last.is_none(),
            Some(share) => share.is_due(&source.path, last),
        };
        match (is_read, sides) {
            (false, (Some(ours), Some(theirs))) => {
                tally.known(source.size, ours.at.min(theirs.at));
                if ours.digest != theirs.digest {
                    return Ok(Some(super::read::rotten(&ours, &theirs, agreed.as_ref())));
                }
            }
            (false, _) => tally.never_read(source.size),
            (true, sides) => {
                let all_anew = self.fresh || self.share.is_some();
                let content = |known: Option<Digested>, state| match known.filter(|_| !all_anew) {
                    Some(known) => Content::Known(known),
                    None => Content::Unknown(state),
                };
                let (source_content, target_content) = (content(sides.0, source_state), content(sides.1, target_state));
                let place = Place { pair, path: source.path.clone() };
                to_read.write(&ToRead { place, source: source_content, target: target_content, agreed, in_step })?;
                tally.wants(&[source_content, target_content]);
            }
        }
        Ok(None)
    }
}

/// What the source must have, or else it is not the source: a file system that is not mounted has nothing, and so would be in step with nothing.
struct Roots<'a> {
    root: &'a [u8],
    left: Vec<&'a [u8]>,
}

impl<'a> Roots<'a> {
    fn of(scan: &'a Scan) -> Self {
        let left = if scan.only.is_empty() { vec![&b""[..]] } else { scan.only.iter().map(Vec::as_slice).collect() };
        Self { root: &scan.root, left }
    }

    fn saw(&mut self, entry: Option<&Entry>) {
        if let (Some(entry), false) = (entry, self.left.is_empty()) {
            self.left.retain(|name| *name != entry.path);
        }
    }

    fn all_seen(&self) -> Result<(), VerifyError> {
        match self.left.first() {
            None => Ok(()),
            Some(name) => {
                let path = if name.is_empty() { self.root.to_vec() } else { [self.root, b"/", name].concat() };
                Err(VerifyError::NoSource(escaped_bytes(&path)))
            }
        }
    }
}

fn owned(pair: Pair) -> (Option<Entry>, Option<Entry>) {
    match pair {
        Pair::Both(source, target) => (Some(source), Some(target)),
        Pair::Source(source) => (Some(source), None),
        Pair::Target(target) => (None, Some(target)),
    }
}
