//! How old a file is by the server's clock, of which SFTP shows nothing but the times of files.
//!
//! A file that the server has just made or written has its clock in its time. Times are whole seconds, cut, so the
//! difference of two is right to less than a second both ways: [`at_least`] and [`at_most`] say what that leaves.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{self, Ticks};

const SECOND: Duration = Duration::from_secs(1);

/// The age that a file certainly has: never too old. `now` is the server's clock, read after the file's time or before.
pub(super) fn at_least(modified: u32, now: u32) -> Duration {
    at_most(modified, now).saturating_sub(2 * SECOND)
}

/// The age that a file had at most when the server's clock was read.
pub(super) fn at_most(modified: u32, now: u32) -> Duration {
    Duration::from_secs(now.saturating_sub(modified).into()) + SECOND
}

/// The age of a file that nobody's lease depends on: by this host's clock, for people.
pub(super) fn roughly(modified: u32) -> Duration {
    Duration::from_secs(u64::try_from(clock::now().as_second() - i64::from(modified)).unwrap_or_default())
}

/// What is remembered of files, one entry a path.
#[derive(Default)]
pub(super) struct Ages {
    seen: Mutex<HashMap<PathBuf, Seen>>,
    fresh: Mutex<HashMap<PathBuf, (String, Ticks)>>,
}

/// Another's lock as it was seen, and since when.
struct Seen {
    token: String,
    modified: u32,
    since: Ticks,
}

impl Ages {
    /// The age that a lock certainly has where the server's clock cannot be read: for how long we know this same one, last
    /// refreshed at this same time. Too young if anything.
    pub(super) fn known_for(&self, path: &Path, token: &str, modified: u32) -> Duration {
        let mut seen = lock(&self.seen);
        if let Some(known) = seen.get(path).filter(|known| known.token == token && known.modified == modified) {
            return known.since.elapsed();
        }
        seen.insert(path.to_owned(), Seen { token: token.to_owned(), modified, since: Ticks::now() });
        Duration::ZERO
    }

    /// Notes that the server has given our lock a new time, at this moment of ours or later.
    pub(super) fn refreshed(&self, path: &Path, token: &str, since: Ticks) {
        lock(&self.fresh).insert(path.to_owned(), (token.to_owned(), since));
    }

    /// The age that our lock has at most, if we know when it was refreshed.
    pub(super) fn since_refreshed(&self, path: &Path, token: &str) -> Option<Duration> {
        lock(&self.fresh).get(path).filter(|(ours, _)| ours == token).map(|(_, since)| since.elapsed())
    }

    /// Forgets a lock that is ours no more.
    pub(super) fn released(&self, path: &Path) {
        lock(&self.fresh).remove(path);
    }
}

fn lock<T>(map: &Mutex<T>) -> MutexGuard<'_, T> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_never_said_to_be_more_than_it_can_be() {
        let seconds = Duration::from_secs;
        assert_eq!((at_least(100, 160), at_most(100, 160)), (seconds(59), seconds(61)));
        assert_eq!((at_least(100, 100), at_most(100, 100)), (seconds(0), seconds(1)));
        assert_eq!(at_least(200, 100), seconds(0), "from the future");
    }

    #[test]
    fn a_lock_that_changes_is_known_anew() {
        let ages = Ages::default();
        let path = Path::new("/x");
        assert_eq!(ages.known_for(path, "a", 1), Duration::ZERO);
        while ages.known_for(path, "a", 1).is_zero() {}
        assert_eq!(ages.known_for(path, "a", 2), Duration::ZERO, "it was refreshed");
        while ages.known_for(path, "a", 2).is_zero() {}
        assert_eq!(ages.known_for(path, "b", 2), Duration::ZERO, "it is another's");
        assert_eq!(ages.since_refreshed(path, "b"), None);
    }
}
