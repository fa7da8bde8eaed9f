//! How old a file is by the server's clock, of which SFTP shows nothing but the times of files.
//!
//! A file that the server has just made or written has its clock in its time. Times are whole seconds, cut, so the
//! difference of two is right to less than a second both ways: [`at_least`] says what that leaves.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{self, Ticks};

const SECOND: Duration = Duration::from_secs(1);

/// The age that a file certainly has: never too old. `now` is the server's clock, read after the file's time or before.
pub(super) fn at_least(modified: u32, now: u32) -> Duration {
    Duration::from_secs(now.saturating_sub(modified).into()).saturating_sub(SECOND)
}

/// The age of a file that nobody's lease depends on: by this host's clock, for people.
pub(super) fn roughly(modified: u32) -> Duration {
    Duration::from_secs(u64::try_from(clock::now().as_second() - i64::from(modified)).unwrap_or_default())
}

/// What is remembered of files, one entry a path.
#[derive(Default)]
pub(super) struct Ages {
    seen: Mutex<HashMap<PathBuf, Seen>>,
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
        assert_eq!((at_least(100, 160), at_least(100, 100)), (seconds(59), seconds(0)));
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
    }
}
