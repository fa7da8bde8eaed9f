//! The rotating share: which files are read in this pass.
//!
//! Each file has a phase of its own within the window, drawn from its path: the moments at which it is due are a window apart. It is read by the
//! first pass behind such a moment. So nothing needs to be remembered but when a file was read, every pass reads about as much as time has gone by since the last,
//! and within the window and the time between two passes every byte is read.

const DAY: i64 = 86_400;

/// A part of all bytes each day.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// Seconds.
    window: i64,
    /// Seconds since the epoch.
    now: i64,
    /// When files count as read that never were: the pass before, at most a day ago.
    before: i64,
}

impl Share {
    /// `part` of the bytes a day, 0 to 1, at `now`; the last pass was at `last`.
    pub(super) fn new(part: f64, now: i64, last: Option<i64>) -> Self {
        let window = window_days(part) * DAY as f64;
        let before = last.map_or(now - DAY, |last| last.min(now - DAY));
        // At least a second; far below 2^53.
        Self { window: (window as i64).max(1), now, before }
    }

    /// Whether a file is to be read that was read at this time, if it ever was.
    pub(super) fn is_due(&self, path: &[u8], read: Option<i64>) -> bool {
        let phase = i64::from(phase(path)) * self.window / (i64::from(u32::MAX) + 1);
        // What was read in the future was read when the clock was wrong: nobody knows when.
        let read = read.filter(|at| *at <= self.now).unwrap_or(self.before);
        // The last moment at which it was due.
        let due = self.now - (self.now - phase).rem_euclid(self.window);
        due > read
    }
}

/// Days within which all is read.
pub(super) fn window_days(part: f64) -> f64 {
    1.0 / part.clamp(0.000_01, 1.0)
}

fn phase(path: &[u8]) -> u32 {
    let digest = blake3::hash(path);
    u32::from_le_bytes([digest.as_bytes()[0], digest.as_bytes()[1], digest.as_bytes()[2], digest.as_bytes()[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each of a thousand files is read by passes at these times, and how many the greatest pass reads.
    fn read_by(part: f64, passes: impl Iterator<Item = i64>) -> (Vec<u32>, usize) {
        read_since(None, part, passes)
    }

    /// The same, when each was read before.
    fn read_since(read: Option<i64>, part: f64, passes: impl Iterator<Item = i64>) -> (Vec<u32>, usize) {
        let paths: Vec<Vec<u8>> = (0..1000).map(|n| format!("file {n}").into_bytes()).collect();
        let (mut times, mut last_read, mut last, mut most) = (vec![0; 1000], vec![read; 1000], read, 0);
        for now in passes {
            let share = Share::new(part, now, last);
            let mut count = 0;
            for (n, path) in paths.iter().enumerate() {
                if share.is_due(path, last_read[n]) {
                    (times[n], last_read[n], count) = (times[n] + 1, Some(now), count + 1);
                }
            }
            (last, most) = (Some(now), most.max(count));
        }
        (times, most)
    }

    #[test]
    fn every_file_is_read_once_in_a_window() {
        let start = 1_700_000_000;
        let (times, most) = read_by(0.05, (0..20).map(|day| start + day * DAY));
        assert!(times.iter().all(|&n| n == 1), "each once in twenty days");
        assert!(most < 100, "about fifty a day: {most}");
        let (times, _) = read_by(0.05, (0..60).map(|day| start + day * DAY));
        assert!(times.iter().all(|&n| n == 3));
    }

    #[test]
    fn what_was_read_while_the_clock_was_ahead_is_read_within_the_window() {
        let start = 1_700_000_000;
        let (times, most) = read_since(Some(start + 3650 * DAY), 0.05, (0..20).map(|day| start + day * DAY));
        assert!(times.iter().all(|&n| n == 1), "each once in twenty days");
        assert!(most < 100, "about fifty a day: {most}");
    }

    #[test]
    fn passes_may_be_rare_or_frequent() {
        let start = 1_700_000_000;
        let (times, _) = read_by(0.05, (0..9).map(|week| start + week * 7 * DAY));
        assert!(times.iter().all(|&n| (2..=4).contains(&n)), "nine weeks are three windows");
        let (times, _) = read_by(0.05, (0..20 * 24).map(|hour| start + hour * 3600));
        assert!(times.iter().all(|&n| (1..=2).contains(&n)));
    }
}
