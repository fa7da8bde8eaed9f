//! The judge: sections of two runs that interleave in what a recorder saw are an overlap. Pure.

use std::collections::BTreeMap;
use std::fmt;

/// A run of a contender.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    /// The contender's name.
    pub contender: String,
    /// Which of its runs.
    pub number: u64,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.contender, self.number)
    }
}

/// What a run did to the protected data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// It changed a file that others see.
    Write,
    /// It changed a temporary file of its own, or removed it. The rsync on the receiving host does so when it learns that
    /// the other end is gone, however late that is.
    Draft,
}

/// One event, in the order in which they happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Whose.
    pub run: Run,
    /// What.
    pub deed: Deed,
}

impl Mark {
    /// By the name of a marker file, `<contender>.<run>.<word>`, or of the temporary file of an rsync that writes it,
    /// `.<contender>.<run>.<word>.<random>`. `None` for other names.
    pub fn named(name: &str) -> Option<Self> {
        let deed = if name.starts_with('.') { Deed::Draft } else { Deed::Write };
        let mut parts = name.trim_start_matches('.').split('.');
        let (contender, number) = (parts.next()?.to_owned(), parts.next()?.parse().ok()?);
        parts.next()?;
        Some(Self { run: Run { contender, number }, deed })
    }
}

/// What a record shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Runs that wrote something.
    pub sections: usize,
    /// Pairs of runs of which the second wrote before the last write of the first.
    pub overlaps: Vec<(Run, Run)>,
    /// Changes of temporary files in the section of another run.
    pub late_drafts: usize,
}

/// Judges one record.
pub fn judge(record: &[Mark]) -> Verdict {
    let mut spans: BTreeMap<&Run, (usize, usize)> = BTreeMap::new();
    for (at, mark) in record.iter().enumerate().filter(|(_, mark)| mark.deed == Deed::Write) {
        spans.entry(&mark.run).and_modify(|span| span.1 = at).or_insert((at, at));
    }
    let mut sections: Vec<_> = spans.into_iter().collect();
    sections.sort_by_key(|(_, span)| span.0);
    let overlaps = sections.iter().enumerate().flat_map(|(index, (first, span))| {
        let within = sections[index + 1..].iter().take_while(move |(_, later)| later.0 < span.1);
        within.map(move |(second, _)| ((*first).clone(), (*second).clone()))
    });
    let in_anothers = |at: usize, run: &Run| sections.iter().any(|(other, (a, b))| *other != run && *a < at && at < *b);
    let drafts = record.iter().enumerate().filter(|(_, mark)| mark.deed == Deed::Draft);
    Verdict {
        overlaps: overlaps.collect(),
        late_drafts: drafts.filter(|(at, mark)| in_anothers(*at, &mark.run)).count(),
        sections: sections.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words `a1` are a write of contender a's run 1, `-a1` a draft.
    fn check(record: &str, sections: usize, overlaps: &[&str], late_drafts: usize) {
        let marks: Vec<Mark> = record
            .split_whitespace()
            .map(|word| {
                let deed = if word.starts_with('-') { Deed::Draft } else { Deed::Write };
                let (contender, number) = word.trim_start_matches('-').split_at(1);
                Mark { run: Run { contender: contender.into(), number: number.parse().unwrap() }, deed }
            })
            .collect();
        let verdict = judge(&marks);
        let pairs: Vec<String> = verdict.overlaps.iter().map(|(a, b)| format!("{a}/{b}")).collect();
        assert_eq!((verdict.sections, verdict.late_drafts), (sections, late_drafts), "{record}");
        assert_eq!(pairs, overlaps, "{record}");
    }

    #[test]
    fn one_after_the_other_is_fine() {
        check("", 0, &[], 0);
        check("a1 a1 a1", 1, &[], 0);
        check("a1 a1 b1 b1 a2 a2 b2", 4, &[], 0);
    }

    #[test]
    fn interleaved_writes_are_an_overlap() {
        check("a1 b1 a1", 2, &["a.1/b.1"], 0);
        check("a1 a1 b1 a1 b1", 2, &["a.1/b.1"], 0);
        check("a1 b1 c1 b1 a1", 3, &["a.1/b.1", "a.1/c.1", "b.1/c.1"], 0);
    }

    #[test]
    fn two_runs_of_one_contender_exclude_each_other_too() {
        check("a1 a2 a1", 2, &["a.1/a.2"], 0);
    }

    #[test]
    fn a_late_write_of_a_killed_run_is_an_overlap_however_late() {
        check("a1 a1 b1 b1 c1 c1 a1", 3, &["a.1/b.1", "a.1/c.1"], 0);
    }

    #[test]
    fn a_late_change_of_a_temporary_file_is_counted_and_no_overlap() {
        check("a1 a1 b1 -a1 b1", 2, &[], 1);
        check("a1 -a1 a1 b1 -b1 -a1", 2, &[], 0);
    }

    #[test]
    fn names_tell_whose_file_it_is() {
        let read = |name: &str| Mark::named(name).map(|mark| (mark.run.to_string(), mark.deed));
        assert_eq!(read("a.12.1b"), Some(("a.12".into(), Deed::Write)));
        assert_eq!(read(".a.12.1b.Xy3Z0q"), Some(("a.12".into(), Deed::Draft)));
        assert_eq!(read("a.12"), None);
        assert_eq!(read("one.lock.x"), None);
    }
}
