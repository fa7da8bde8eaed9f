//! The second pass: files whose content is not known are read on both sides at once, and what was read is put down at once.

use std::fs::File;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use super::scan::{Content, ToRead};
use super::{Candidate, Course, Phase, Progress, VerifyError};
use crate::clock::{self, Ticks};
use crate::scan::{Entry, Kind};
use crate::verify::compare::Class;
use crate::verify::manifest::{Agreed, Digested, Known, Place};
use crate::verify::records::{Reader, Writer};
use crate::verify::side::{Read, Scan, Side, SideError, State, Wanted};

/// Digests that wait for those of the other side.
const AHEAD: usize = 1024;
/// Progress is told after so many files.
const TOLD_EVERY: u64 = 64;

impl Course<'_> {
    /// Compares what is to be read; what differs by it, in the order of places.
    pub(super) fn read(&mut self, to_read: &File) -> Result<Writer<Candidate>, VerifyError> {
        let mut differing = self.spool()?;
        if self.tally.files_to_read() == 0 {
            return Ok(differing);
        }
        let (journal_of_source, journal_of_target) = match &self.manifest {
            Some(manifest) => manifest.journals().map_err(|error| manifest.failed(error))?,
            None => (self.spool()?, self.spool()?),
        };
        let (scans_here, scans_there): (Vec<&Scan>, Vec<&Scan>) =
            self.pairs.iter().map(|pair| (&pair.source, &pair.target)).unzip();
        let (sides, rate, tally, tell) = (&mut self.sides, self.order.rate, &mut self.tally, &mut self.tell);
        let bytes_in_all = tally.bytes_to_read();
        let (ours, from_source) = mpsc::sync_channel(AHEAD);
        let (theirs, from_target) = mpsc::sync_channel(AHEAD);
        thread::scope(|scope| {
            let source = &mut sides.source;
            let target = &mut sides.target;
            let ours = Reading {
                scans: &scans_here,
                to_read,
                content: |item| item.source,
                known: |digested| (Some(digested), None),
                journal: journal_of_source,
                rate,
                told: ours,
            };
            let theirs = Reading {
                scans: &scans_there,
                to_read,
                content: |item| item.target,
                known: |digested| (None, Some(digested)),
                journal: journal_of_target,
                rate,
                told: theirs,
            };
            scope.spawn(move || ours.read(source.as_mut()));
            scope.spawn(move || theirs.read(target.as_mut()));
            // The channels end with this closure, and with them the threads, whatever comes.
            let (from_source, from_target) = (from_source, from_target);
            for (number, item) in (1_u64..).zip(Reader::<ToRead>::new(to_read)?) {
                let item = item?;
                let source = content(&item.source, &from_source).map_err(VerifyError::source)?;
                let target = content(&item.target, &from_target).map_err(VerifyError::target)?;
                for (content, result) in [(&item.source, &source), (&item.target, &target)] {
                    if let (Content::Unknown(state), Read::Digest(_)) = (content, result) {
                        tally.was_read(state.size);
                    }
                }
                let in_step = item.in_step;
                if let Some(candidate) = compare(item, source, target) {
                    if in_step {
                        tally.not_in_step_after_all(candidate.source.as_ref().map_or(0, |source| source.size));
                    }
                    differing.write(&candidate)?;
                }
                if number.is_multiple_of(TOLD_EVERY) {
                    tell(Progress { phase: Phase::Read, entries: number, bytes: tally.bytes_read(), bytes_in_all });
                }
            }
            Ok::<_, VerifyError>(())
        })?;
        Ok(differing)
    }
}

type Told = Result<Read, SideError>;

/// What was read within this time is put down together: a kill loses no more than that.
const TOGETHER: Duration = Duration::from_millis(5);

/// What one side is to read.
struct Reading<'a> {
    scans: &'a [&'a Scan],
    to_read: &'a File,
    /// The side's content of a pair.
    content: fn(&ToRead) -> Content,
    /// A digest as that of the source, or of the target.
    known: fn(Digested) -> (Option<Digested>, Option<Digested>),
    journal: Writer<Known>,
    rate: Option<u64>,
    told: SyncSender<Told>,
}

impl Reading<'_> {
    /// Has the side read, in the order of the file. Digests are put down as they come, small files a few at a time.
    fn read(mut self, side: &mut dyn Side) {
        if let Err(error) = self.try_read(side) {
            // Who does not listen has ended for another reason.
            let _ = self.told.send(Err(error));
        }
    }

    fn try_read(&mut self, side: &mut dyn Side) -> Result<(), SideError> {
        let failed = |error| SideError::io("what is to be read", error);
        let (content, known, journal, told) = (self.content, self.known, &mut self.journal, &self.told);
        let mut put_down = Ticks::now();
        let mut items = Reader::<ToRead>::new(self.to_read).map_err(failed)?.map_while(Result::ok).peekable();
        while let Some(pair) = items.peek().map(|item| item.place.pair) {
            let of_pair = std::iter::from_fn(|| items.next_if(|item| item.place.pair == pair));
            let mut wanted = of_pair.filter_map(|item| match content(&item) {
                Content::Unknown(state) => Some(Wanted { path: item.place.path, state }),
                Content::Known(_) => None,
            });
            let mut tell = |wanted: Wanted, read| {
                if let Read::Digest(digest) = read {
                    let (source, target) =
                        known(Digested { state: wanted.state, digest, at: clock::now().as_second() });
                    let place = Place { pair, path: wanted.path };
                    journal.write(&Known { place, source, target, agreed: None }).map_err(failed)?;
                    if put_down.elapsed() >= TOGETHER {
                        journal.flush().map_err(failed)?;
                        put_down = Ticks::now();
                    }
                }
                told.send(Ok(read)).map_err(|_| failed(std::io::ErrorKind::BrokenPipe.into()))
            };
            side.hash(self.scans[pair as usize], &mut wanted, self.rate, &mut tell)?;
        }
        journal.flush().map_err(failed)
    }
}

fn content(content: &Content, told: &Receiver<Told>) -> Result<Read, SideError> {
    match content {
        Content::Known(digested) => Ok(Read::Digest(digested.digest)),
        Content::Unknown(_) => told.recv().unwrap_or_else(|_| {
            let source = std::io::ErrorKind::UnexpectedEof.into();
            Err(SideError::io("it told less than it was asked for", source))
        }),
    }
}

/// What is to be said of two contents, if they differ.
fn compare(item: ToRead, source: Read, target: Read) -> Option<Candidate> {
    let digested = |content: &Content, read: &Read| match (content, read) {
        (Content::Known(known), _) => Some(*known),
        (Content::Unknown(state), Read::Digest(digest)) => Some(Digested { state: *state, digest: *digest, at: 0 }),
        _ => None,
    };
    let both = digested(&item.source, &source).zip(digested(&item.target, &target));
    let (class, detail) = match (&source, &target) {
        (Read::Unreadable(why), _) => (Class::Unreadable, format!("source: {why}")),
        (_, Read::Unreadable(why)) => (Class::Unreadable, format!("target: {why}")),
        (Read::Changed, _) | (_, Read::Changed) => (Class::InFlight, String::new()),
        _ => {
            let (ours, theirs) = both.filter(|(ours, theirs)| ours.digest != theirs.digest)?;
            (Class::Content, rotten(&ours, &theirs, item.agreed.as_ref()))
        }
    };
    let entry = |content: &Content| {
        let state = match content {
            Content::Known(known) => known.state,
            Content::Unknown(state) => *state,
        };
        let State { id, ctime, mtime, size } = state;
        Some(Entry { size, mtime, ctime, id, ..Entry::of(item.place.path.clone(), Kind::File) })
    };
    let (source, target) = (entry(&item.source), entry(&item.target));
    Some(Candidate { pair: item.place.pair, class, detail, source, target })
}

/// Which of two contents of the same time and length is not what it was.
pub(super) fn rotten(source: &Digested, target: &Digested, agreed: Option<&Agreed>) -> String {
    let of_this_state = |agreed: &&Agreed| agreed.mtime == source.state.mtime && agreed.size == source.state.size;
    let Some(agreed) = agreed.filter(of_this_state) else {
        return "it is not known which side changed: they were never seen to agree".into();
    };
    let side = match (source.digest == agreed.digest, target.digest == agreed.digest) {
        (true, _) => "the target",
        (_, true) => "the source",
        _ => "both sides",
    };
    let since = jiff::Timestamp::from_second(agreed.at).unwrap_or_default().strftime("%Y-%m-%d %H:%M:%S UTC");
    format!("{side} changed since {since}, when they agreed")
}
