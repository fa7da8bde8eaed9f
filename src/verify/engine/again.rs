//! The third pass: everything that seems to differ is looked at once more. What agrees now is in step, what changed since the
//! beginning is in flight, and only what stands still and differs is told as what it is.

use std::cmp::Ordering;
use std::fs::File;
use std::iter::Peekable;

use super::{Candidate, Course, Phase, Progress, VerifyError};
use crate::scan::{Entry, Mtime, order};
use crate::verify::compare::{Class, Judge, Judged, Pair};
use crate::verify::records::Reader;
use crate::verify::side::About;
use crate::verify::terms::Promise;

/// So many are looked at together.
const BATCH: usize = 512;

impl Course<'_> {
    /// Looks at both kinds of candidates, in the order of places; what differs after all.
    pub(super) fn again(
        &mut self,
        differing: impl Iterator<Item = std::io::Result<Candidate>>,
        contents: &mut Reader<Candidate>,
    ) -> Result<File, VerifyError> {
        let mut found = self.spool()?;
        let mut all = Merged { one: differing.peekable(), other: contents.peekable() }.peekable();
        // Names of one file are recognised by a whole walk only.
        let promise = Promise { hard_links: false, ..self.promise.clone() };
        let began = (began(self.began, &self.about.0), began(self.began, &self.about.1));
        let mut entries = 0;
        loop {
            let batch = batch(&mut all)?;
            let Some(pair) = batch.first().map(|first| first.pair) else { break };
            let paths: Vec<Vec<u8>> = batch.iter().map(|candidate| candidate.path().to_owned()).collect();
            let scans = &self.pairs[pair as usize];
            let source = self.sides.source.look(&scans.source, &paths).map_err(VerifyError::source)?;
            let target = self.sides.target.look(&scans.target, &paths).map_err(VerifyError::target)?;
            let mut judge = Judge::new(&promise, self.order.depth).with_names(&self.about.0, &self.about.1);
            for (candidate, now) in batch.into_iter().zip(source.into_iter().zip(target)) {
                entries += 1;
                let size = candidate.source.as_ref().map_or(0, |source| source.size);
                match settle(candidate, now, &mut judge, began) {
                    Settled::Differs(candidate) => {
                        self.tally.differs(&candidate);
                        found.write(&candidate)?;
                    }
                    Settled::InStep => self.tally.in_step_after_all(size),
                    Settled::Gone => {}
                }
            }
            (self.tell)(Progress { phase: Phase::Again, entries, bytes: 0, bytes_in_all: 0 });
        }
        Ok(found.finish()?)
    }
}

/// When it began, by the clock of a side; 0 where its clock is not known.
fn began(began: jiff::Timestamp, about: &About) -> Mtime {
    let Some(offset) = about.clock_offset else { return Mtime { seconds: i64::MAX, nanos: 0 } };
    let offset = jiff::SignedDuration::try_from_secs_f64(offset).unwrap_or_default();
    let there = began.checked_add(offset).unwrap_or(began);
    // Before 1970 no verification begins.
    Mtime { seconds: there.as_second(), nanos: there.subsec_nanosecond().unsigned_abs() }
}

/// The next that are of one pair of trees.
fn batch(all: &mut Peekable<impl Iterator<Item = std::io::Result<Candidate>>>) -> Result<Vec<Candidate>, VerifyError> {
    let mut batch: Vec<Candidate> = Vec::new();
    while batch.len() < BATCH {
        let is_of_batch = |next: &std::io::Result<Candidate>| match (next, batch.first()) {
            (Ok(next), Some(first)) => next.pair == first.pair,
            _ => true,
        };
        match all.next_if(is_of_batch) {
            Some(candidate) => batch.push(candidate?),
            None => break,
        }
    }
    Ok(batch)
}

/// What is to be said of a candidate after a second look.
enum Settled {
    Differs(Box<Candidate>),
    InStep,
    /// Nothing is there any more, or nothing that belongs to the sync.
    Gone,
}

fn settle(
    first: Candidate,
    (source, target): (Option<Entry>, Option<Entry>),
    judge: &mut Judge<'_>,
    began: (Mtime, Mtime),
) -> Settled {
    let is_still = is_same(first.source.as_ref(), source.as_ref()) && is_same(first.target.as_ref(), target.as_ref());
    let is_new =
        |entry: Option<&Entry>, began| entry.is_some_and(|entry| entry.ctime.max(entry.mtime_if_alone()) >= began);
    if is_still && first.class != Class::InFlight {
        let in_flight = is_new(source.as_ref(), began.0) || is_new(target.as_ref(), began.1);
        // What cannot be read is not known, whether it changes or not.
        let class = if in_flight && first.class != Class::Unreadable { Class::InFlight } else { first.class };
        return Settled::Differs(Box::new(Candidate { class, ..first }));
    }
    let pair = match (source.clone(), target.clone()) {
        (Some(source), Some(target)) => Pair::Both(source, target),
        (Some(source), None) => Pair::Source(source),
        (None, Some(target)) => Pair::Target(target),
        (None, None) => return Settled::Gone,
    };
    match judge.judge(&pair) {
        Judged::InStep | Judged::Left => Settled::InStep,
        Judged::Nothing => Settled::Gone,
        Judged::Differs(_, detail) => {
            Settled::Differs(Box::new(Candidate { class: Class::InFlight, detail, source, target, ..first }))
        }
    }
}

fn is_same(before: Option<&Entry>, now: Option<&Entry>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => {
            let of = |entry: &Entry| (entry.kind, entry.size, entry.mtime, entry.ctime, entry.id);
            of(before) == of(now)
        }
        (before, now) => before.is_none() == now.is_none(),
    }
}

/// Two sequences in the order of places.
struct Merged<A: Iterator, B: Iterator> {
    one: Peekable<A>,
    other: Peekable<B>,
}

impl<A, B> Iterator for Merged<A, B>
where
    A: Iterator<Item = std::io::Result<Candidate>>,
    B: Iterator<Item = std::io::Result<Candidate>>,
{
    type Item = std::io::Result<Candidate>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match (self.one.peek(), self.other.peek()) {
            (Some(Ok(one)), Some(Ok(other))) => one.pair.cmp(&other.pair).then_with(|| order(one.path(), other.path())),
            (None | Some(Ok(_)), Some(Err(_))) | (None, _) => Ordering::Greater,
            (Some(_), _) => Ordering::Less,
        };
        match next {
            Ordering::Less => self.one.next(),
            Ordering::Greater => self.other.next(),
            // What differs by its content, too, is told once.
            Ordering::Equal => match (self.one.next()?, self.other.next()?) {
                (Ok(one), Ok(other)) => {
                    let details = [other.detail, one.detail].into_iter().filter(|detail| !detail.is_empty());
                    Some(Ok(Candidate { detail: details.collect::<Vec<_>>().join("; "), ..other }))
                }
                (Err(error), _) | (_, Err(error)) => Some(Err(error)),
            },
        }
    }
}
