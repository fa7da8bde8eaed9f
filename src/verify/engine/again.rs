//! The third pass: everything that seems to differ is looked at once more. What agrees now is in step, what changed since the
//! beginning is in flight, and only what stands still and differs is told as what it is.

use std::cmp::Ordering;
use std::fs::File;
use std::iter::Peekable;

use jiff::Timestamp;

use super::{Candidate, Course, Phase, Progress, VerifyError};
use crate::clock;
use crate::scan::{Entry, Mtime, order};
use crate::verify::compare::{Class, Judge, Judged, Pair};
use crate::verify::records::Reader;
use crate::verify::side::About;
use crate::verify::terms::Promise;

/// So many are looked at together.
const BATCH: usize = 512;
/// A change may seem to be so far in the future, seconds: clocks are compared over a network, and a file system may have one of its own.
const AHEAD: i64 = 600;

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
        let mut entries = 0;
        loop {
            let batch = batch(&mut all)?;
            let Some(pair) = batch.first().map(|first| first.pair) else { break };
            let paths: Vec<Vec<u8>> = batch.iter().map(|candidate| candidate.path().to_owned()).collect();
            let scans = &self.pairs[pair as usize];
            let source = self.sides.source.look(&scans.source, &paths).map_err(VerifyError::source)?;
            let target = self.sides.target.look(&scans.target, &paths).map_err(VerifyError::target)?;
            let mut judge = Judge::new(&promise, self.order.depth).with_names(&self.about.0, &self.about.1);
            let now = clock::now();
            let times = (Time::between(self.began, now, &self.about.0), Time::between(self.began, now, &self.about.1));
            for (candidate, looks) in batch.into_iter().zip(source.into_iter().zip(target)) {
                entries += 1;
                let size = candidate.source.as_ref().map_or(0, |source| source.size);
                match settle(candidate, looks, &mut judge, times) {
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

/// From the beginning of the verification to the second look, by the clock of a side.
#[derive(Debug, Clone, Copy)]
struct Time {
    began: Mtime,
    now: Mtime,
}

impl Time {
    /// No time where the clock of the side is not known.
    fn between(began: Timestamp, now: Timestamp, about: &About) -> Option<Self> {
        let offset = jiff::SignedDuration::try_from_secs_f64(about.clock_offset?).unwrap_or_default();
        let there = |at: Timestamp| {
            let there = at.checked_add(offset).unwrap_or(at);
            // Before 1970 nothing is verified.
            Mtime { seconds: there.as_second(), nanos: there.subsec_nanosecond().unsigned_abs() }
        };
        Some(Self { began: there(began), now: there(now) })
    }

    /// Whether something changed in it. What stands still and claims to have changed later did so when the clock was wrong.
    fn has(self, entry: &Entry) -> bool {
        let changed = entry.ctime.max(entry.mtime_if_alone());
        let latest = Mtime { seconds: self.now.seconds.saturating_add(AHEAD), ..self.now };
        (self.began..=latest).contains(&changed)
    }
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
    times: (Option<Time>, Option<Time>),
) -> Settled {
    let is_still = is_same(first.source.as_ref(), source.as_ref()) && is_same(first.target.as_ref(), target.as_ref());
    let is_new =
        |entry: Option<&Entry>, time: Option<Time>| entry.zip(time).is_some_and(|(entry, time)| time.has(entry));
    if is_still && first.class != Class::InFlight {
        let in_flight = is_new(source.as_ref(), times.0) || is_new(target.as_ref(), times.1);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Kind;
    use crate::verify::terms::Depth;

    /// What a file is told as that is missing at the target, and changed so long after the verification began, seconds.
    fn check(changed: i64, offset: Option<f64>) -> Class {
        let at = |seconds| Mtime { seconds, nanos: 0 };
        let (began, now) = (1_800_000_000, 1_800_000_100);
        let timestamp = |seconds| Timestamp::from_second(seconds).expect("a time");
        let time = Time::between(timestamp(began), timestamp(now), &About { clock_offset: offset, ..About::default() });
        let source = Entry { ctime: at(began + changed), mtime: at(1), ..Entry::of(b"a".into(), Kind::File) };
        let (class, detail) = (Class::Missing, String::new());
        let candidate = Candidate { pair: 0, class, detail, source: Some(source.clone()), target: None };
        let promise = Promise::of(&["-a".into()]).expect("a promise");
        let mut judge = Judge::new(&promise, Depth::Quick);
        match settle(candidate, (Some(source), None), &mut judge, (time, time)) {
            Settled::Differs(candidate) => candidate.class,
            Settled::InStep | Settled::Gone => unreachable!("it differs"),
        }
    }

    #[test]
    fn what_changed_since_the_beginning_is_in_flight_and_what_changed_in_the_future_is_not() {
        const YEAR: i64 = 365 * 86_400;
        assert_eq!(check(-1, Some(0.0)), Class::Missing);
        assert_eq!(check(0, Some(0.0)), Class::InFlight);
        assert_eq!(check(99, Some(0.0)), Class::InFlight);
        assert_eq!(check(100 + AHEAD, Some(0.0)), Class::InFlight);
        assert_eq!(check(YEAR, Some(0.0)), Class::Missing);
        assert_eq!(check(YEAR + 50, Some(YEAR as f64)), Class::InFlight);
        assert_eq!(check(50, None), Class::Missing);
    }
}
