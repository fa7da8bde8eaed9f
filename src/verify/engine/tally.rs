//! The last pass: what was found, counted.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::scan::Content;
use super::share::window_days;
use super::{Candidate, Course};
use crate::logging::escaped_bytes;
use crate::scan::{Entry, Kind, Mtime};
use crate::verify::compare::{Class, Difference};
use crate::verify::drill::{Sample, Sampled};
use crate::verify::report::{Count, DirectoryDrift, Report, Verdict};
use crate::verify::side::{About, State};
use crate::verify::store::DIFFERENCES_MAX;

/// Counts as it goes.
#[derive(Debug, Default)]
pub(super) struct Tally {
    in_step: Count,
    classes: BTreeMap<Class, Count>,
    to_read: Count,
    read: Count,
    known: Count,
    never_read: Count,
    oldest_read: Option<i64>,
    /// The oldest change of the source that is not at the target.
    oldest_change: Option<Mtime>,
    directories: Directories,
    /// Files in step, some of which are to be copied back.
    pub(super) sample: Sample,
}

impl Tally {
    /// Of nothing yet; some of the files in step go to the sample.
    pub(super) fn new(sample: Sample) -> Self {
        Self { sample, ..Self::default() }
    }

    pub(super) fn in_step(&mut self, pair: u32, source: &Entry, target: &Entry) {
        self.in_step.add(source.size);
        if source.kind == Kind::File {
            let (state, target) = (State::of(source), State::of(target));
            self.sample.offer(|| Sampled { pair, path: source.path.clone(), state, target, agreed: None });
        }
    }

    /// Something that the sync leaves as it is.
    pub(super) fn left(&mut self, source: &Entry) {
        self.in_step.add(source.size);
    }

    /// How many were in step so far.
    pub(super) fn seen(&self) -> u64 {
        self.in_step.entries
    }

    pub(super) fn not_in_step_after_all(&mut self, bytes: u64) {
        self.in_step.entries -= 1;
        self.in_step.bytes -= bytes;
    }

    pub(super) fn in_step_after_all(&mut self, bytes: u64) {
        self.in_step.add(bytes);
    }

    pub(super) fn known(&mut self, bytes: u64, read: i64) {
        self.known.add(bytes);
        self.oldest_read = Some(self.oldest_read.map_or(read, |oldest| oldest.min(read)));
    }

    pub(super) fn never_read(&mut self, bytes: u64) {
        self.never_read.add(bytes);
    }

    pub(super) fn wants(&mut self, contents: &[Content]) {
        for content in contents {
            if let Content::Unknown(state) = content {
                self.to_read.add(state.size);
            }
        }
    }

    pub(super) fn files_to_read(&self) -> u64 {
        self.to_read.entries
    }

    pub(super) fn bytes_to_read(&self) -> u64 {
        self.to_read.bytes
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.read.bytes
    }

    pub(super) fn was_read(&mut self, bytes: u64) {
        self.read.add(bytes);
    }

    pub(super) fn differs(&mut self, candidate: &Candidate) {
        let bytes = candidate.source.as_ref().or(candidate.target.as_ref()).map_or(0, |entry| entry.size);
        self.classes.entry(candidate.class).or_default().add(bytes);
        self.directories.add(candidate.path(), bytes);
        let is_behind = matches!(candidate.class, Class::Missing | Class::Stale | Class::Size | Class::Type);
        if let Some(source) = candidate.source.as_ref().filter(|_| is_behind) {
            let changed = if source.ctime == Mtime::default() { source.mtime } else { source.ctime };
            self.oldest_change = Some(self.oldest_change.map_or(changed, |oldest| oldest.min(changed)));
        }
    }

    fn all(&self) -> Count {
        let add =
            |sum: Count, count: &Count| Count { entries: sum.entries + count.entries, bytes: sum.bytes + count.bytes };
        self.classes.values().fold(self.in_step, add)
    }

    /// How long ago the oldest change was made that is not at the target; not longer than since both were the same.
    fn lag(&self, course: &Course<'_>, last_agreement: Option<Timestamp>) -> Option<f64> {
        let changed = self.oldest_change?;
        let now = seconds(course.began) + offset(&course.about.0);
        let since_change = now - (changed.seconds as f64 + f64::from(changed.nanos) / 1e9);
        let since_agreement = last_agreement.map_or(f64::INFINITY, |last| seconds(course.began) - seconds(last));
        Some(since_change.min(since_agreement).max(0.0))
    }

    pub(super) fn report(self, course: &Course<'_>, before: Option<&Report>) -> Report {
        let order = course.order;
        let all = self.all();
        let before_agreed = before.and_then(|before| before.last_agreement);
        let lag = self.lag(course, before_agreed);
        let mut report = Report {
            replica: order.replica.clone(),
            at: course.began,
            seconds: 0.0,
            depth: order.depth,
            by: course.sides.by,
            verdict: Verdict::InStep,
            why: String::new(),
            all,
            in_step: self.in_step,
            lag,
            last_agreement: before_agreed,
            read: self.read,
            known: self.known,
            never_read: self.never_read,
            oldest_read: self.oldest_read.and_then(|at| Timestamp::from_second(at).ok()),
            window_days: order.share.map(window_days),
            drill: None,
            notes: Vec::new(),
            directories: self.directories.most(),
            listed: self.classes.values().map(|count| count.entries).sum::<u64>().min(DIFFERENCES_MAX),
            classes: self.classes,
        };
        (report.verdict, report.why) = judge(&report, course);
        if report.verdict == Verdict::InStep {
            report.last_agreement = Some(report.at);
        }
        report
    }
}

fn judge(report: &Report, course: &Course<'_>) -> (Verdict, String) {
    let order = course.order;
    let count = |class| report.classes.get(&class).map_or(0, |count| count.entries);
    if let Some((lag, most)) = report.lag.zip(order.max_lag)
        && lag > most as f64
    {
        let bound = crate::human::duration(std::time::Duration::from_secs(most));
        return (Verdict::Drift, format!("it lags by more than {bound}"));
    }
    if order.max_drift.is_over(report.differing(), report.all.entries) {
        return (Verdict::Drift, String::new());
    }
    if count(Class::Unreadable) > 0 {
        return (Verdict::Unknown, "what could not be read may differ".into());
    }
    if report.in_step == report.all { (Verdict::InStep, String::new()) } else { (Verdict::Tolerated, String::new()) }
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

fn offset(about: &About) -> f64 {
    about.clock_offset.unwrap_or(0.0)
}

/// What differs in each entry of the root; differences come in the order of paths, so one is open at a time.
#[derive(Debug, Default)]
struct Directories {
    open: Option<(Vec<u8>, Count)>,
    ended: Vec<(Vec<u8>, Count)>,
}

impl Directories {
    fn add(&mut self, path: &[u8], bytes: u64) {
        let name = match path.iter().position(|&byte| byte == b'/') {
            Some(slash) => &path[..slash],
            None => &path[..0],
        };
        if self.open.as_ref().is_none_or(|(open, _)| open != name) {
            self.end();
            // What lies in the root itself comes between the directories.
            let known = self.ended.iter().position(|(ended, _)| ended == name);
            let count = known.map(|known| self.ended.swap_remove(known).1).unwrap_or_default();
            self.open = Some((name.to_owned(), count));
        }
        if let Some((_, count)) = &mut self.open {
            count.add(bytes);
        }
    }

    fn end(&mut self) {
        self.ended.extend(self.open.take());
        if self.ended.len() > 2 * Report::DIRECTORIES {
            self.keep_most();
        }
    }

    fn keep_most(&mut self) {
        // The root's own is needed until the end.
        self.ended.sort_by_key(|(name, count)| std::cmp::Reverse((name.is_empty(), count.bytes, count.entries)));
        self.ended.truncate(Report::DIRECTORIES);
    }

    fn most(mut self) -> Vec<DirectoryDrift> {
        self.end();
        self.keep_most();
        self.ended.sort_by_key(|(_, count)| std::cmp::Reverse((count.bytes, count.entries)));
        self.ended.into_iter().map(|(path, drift)| DirectoryDrift { path: escaped_bytes(&path), drift }).collect()
    }
}

pub(super) fn difference(candidate: Candidate) -> Difference {
    let path = candidate.path().to_owned();
    let Candidate { class, detail, source, target, .. } = candidate;
    Difference { path, class, detail, source, target }
}
