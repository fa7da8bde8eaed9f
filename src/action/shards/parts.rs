//! What several rsyncs say, as if one said it: statistics and progress.

use crate::rsync::progress::Progress;
use crate::rsync::stats::Stats;

/// Statistics of the rsyncs before the final pass, summed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::action) struct Sums(Stats);

impl Sums {
    /// A survey moves nothing but its own bytes.
    pub(super) fn survey(&mut self, stats: Option<Stats>) {
        let Stats { sent_bytes, received_bytes, .. } = stats.unwrap_or_default();
        self.shard([Stats { sent_bytes, received_bytes, ..Stats::default() }]);
    }

    pub(super) fn shard(&mut self, stats: impl IntoIterator<Item = Stats>) {
        for stats in stats {
            self.0.created += stats.created;
            self.0.transferred += stats.transferred;
            self.0.transferred_bytes += stats.transferred_bytes;
            self.0.sent_bytes += stats.sent_bytes;
            self.0.received_bytes += stats.received_bytes;
        }
    }

    /// With the final pass, which alone sees and deletes everything.
    pub(in crate::action) fn and_finally(mut self, last: Stats) -> Stats {
        self.shard([last]);
        Stats { files: last.files, deleted: last.deleted, source_bytes: last.source_bytes, ..self.0 }
    }
}

/// Progress of rsyncs at once, against what is to be moved by all.
#[derive(Debug, Default)]
pub(in crate::action) struct Parts {
    total: u64,
    /// What each shard's present rsync says, and the bytes of those it had before.
    shards: Vec<(Option<Progress>, u64)>,
}

impl Parts {
    pub(super) fn new(shards: usize, total: u64) -> Self {
        Self { total, shards: vec![(None, 0); shards] }
    }

    /// Takes what a shard's rsync says; the whole.
    pub(super) fn note(&mut self, shard: usize, progress: Progress) -> Progress {
        self.shards[shard].0 = Some(progress);
        self.sum()
    }

    /// A shard's rsync is over.
    pub(super) fn next_rsync(&mut self, shard: usize) {
        let (progress, before) = &mut self.shards[shard];
        *before += progress.take().map_or(0, |progress| progress.bytes);
    }

    /// The final pass's progress, with what was moved before it.
    pub(in crate::action) fn with_last(&self, last: Progress) -> Progress {
        if self.shards.is_empty() {
            return last;
        }
        let bytes = self.sum().bytes + last.bytes;
        Progress { bytes, percent: self.percent(bytes), ..last }
    }

    fn sum(&self) -> Progress {
        let now = || self.shards.iter().filter_map(|(progress, _)| progress.as_ref());
        let bytes = now().map(|progress| progress.bytes).sum::<u64>()
            + self.shards.iter().map(|(_, before)| before).sum::<u64>();
        let add = |sum: Option<(u64, u64)>, (left, total): (u64, u64)| {
            Some(sum.map_or((left, total), |(all_left, all)| (all_left + left, all + total)))
        };
        Progress {
            bytes,
            percent: self.percent(bytes),
            rate: now().map(|progress| progress.rate).sum(),
            to_check: now().filter_map(|progress| progress.to_check).fold(None, add),
        }
    }

    fn percent(&self, bytes: u64) -> u8 {
        let percent = u128::from(bytes) * 100 / u128::from(self.total.max(1));
        u8::try_from(percent.min(100)).expect("at most 100")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(bytes: u64, rate: u64, to_check: Option<(u64, u64)>) -> Progress {
        Progress { bytes, percent: 7, rate, to_check }
    }

    #[test]
    fn progress_is_that_of_the_whole() {
        let mut parts = Parts::new(2, 1000);
        assert_eq!(parts.note(0, progress(100, 5, None)), Progress { percent: 10, ..progress(100, 5, None) });
        let both = parts.note(1, progress(300, 6, Some((1, 4))));
        assert_eq!(both, Progress { percent: 40, ..progress(400, 11, Some((1, 4))) });
        parts.next_rsync(0);
        let next = parts.note(0, progress(50, 1, Some((2, 2))));
        assert_eq!(next, Progress { percent: 45, ..progress(450, 7, Some((3, 6))) });
        assert_eq!(parts.with_last(progress(900, 1, None)), Progress { percent: 100, ..progress(1350, 1, None) });
        assert_eq!(Parts::default().with_last(progress(9, 1, None)), progress(9, 1, None));
    }

    #[test]
    fn statistics_are_summed_but_for_what_the_final_pass_alone_sees() {
        let stats = |n| Stats {
            files: n,
            created: n,
            deleted: n,
            transferred: n,
            source_bytes: n,
            transferred_bytes: n,
            sent_bytes: n,
            received_bytes: n,
        };
        let mut sums = Sums::default();
        sums.survey(Some(stats(1)));
        sums.shard([stats(10), stats(100)]);
        let expected = Stats {
            files: 1000,
            deleted: 1000,
            source_bytes: 1000,
            sent_bytes: 1111,
            received_bytes: 1111,
            created: 1110,
            transferred: 1110,
            transferred_bytes: 1110,
        };
        assert_eq!(sums.and_finally(stats(1000)), expected);
    }
}
