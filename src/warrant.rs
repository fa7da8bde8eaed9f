//! The right to act: as long as the locks are ours.
//!
//! Whoever keeps the locks fresh says so; whoever acts on them asks, and hears at once when they are lost. A host that goes on
//! after a suspend acts before anybody has told it anything: so what cannot be taken back asks the clock itself ([`Warrant::is_lost`]).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::{self, Ticks};

/// The right to act. Clones share it.
#[derive(Debug, Clone)]
pub struct Warrant {
    lost: CancellationToken,
    fence: Duration,
    lease: Duration,
    fresh: Arc<Mutex<Fresh>>,
}

/// When the locks of each place were last known to be ours.
#[derive(Debug)]
struct Fresh {
    places: Vec<Ticks>,
    /// Whether one was found not to be ours.
    gone: bool,
}

impl Warrant {
    /// One by locks in so many places, all known to be ours at `since`: for `fence` after the last refresh of each, which is less than the
    /// lease, after which others may take them.
    pub fn new(places: usize, since: Ticks, fence: Duration, lease: Duration) -> Self {
        let fresh = Fresh { places: vec![since; places], gone: false };
        Self { lost: CancellationToken::new(), fence, lease, fresh: Arc::new(Mutex::new(fresh)) }
    }

    /// One that needs no locks, and is never lost.
    pub fn without_locks() -> Self {
        Self::new(0, Ticks::now(), Duration::MAX, Duration::MAX)
    }

    fn fresh(&self) -> MutexGuard<'_, Fresh> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The locks of a place were ours at `since`, by an answer to what was asked then. `false` where that comes too late: who asked meanwhile
    /// was told that they are lost, so they stay so.
    #[must_use]
    pub fn refreshed(&self, place: usize, since: Ticks) -> bool {
        let in_time = |last: &&mut Ticks| last.elapsed() < self.fence;
        let mut fresh = self.fresh();
        fresh.places.get_mut(place).filter(in_time).map(|last| *last = since).is_some()
    }

    /// A lock was found to be another's, or nobody's.
    pub fn taken(&self) {
        self.fresh().gone = true;
        self.lost.cancel();
    }

    /// A lock could not be refreshed in time.
    pub fn expired(&self) {
        self.lost.cancel();
    }

    /// Completes as soon as a lock is lost: when somebody says so, or by the clock. So nothing that is under way delays it.
    pub async fn lost(&self) {
        while !self.is_lost() {
            tokio::select! {
                () = self.lost.cancelled() => {}
                () = clock::sleep(self.fence.saturating_sub(self.age())) => {}
            }
        }
    }

    /// Whether a lock is lost. Tells it also in the moment in which a host goes on that was suspended.
    pub fn is_lost(&self) -> bool {
        self.lost.is_cancelled() || self.age() >= self.fence
    }

    /// Time until another may have a lock: zero if one may have it already.
    pub fn time_left(&self) -> Duration {
        let kept = self.lease - self.lease / 10;
        if self.fresh().gone { Duration::ZERO } else { kept.saturating_sub(self.age()) }
    }

    fn age(&self) -> Duration {
        self.fresh().places.iter().map(|fresh| fresh.elapsed()).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn it_is_lost_when_one_place_was_not_refreshed() {
        let warrant = Warrant::new(2, Ticks::now(), LONG, 2 * LONG);
        assert!(!warrant.is_lost() && warrant.time_left() > LONG);
        let warrant = Warrant::new(2, Ticks::now(), Duration::ZERO, LONG);
        assert!(warrant.is_lost(), "by the clock, though nobody has said so");
        assert!(warrant.time_left() > LONG / 2, "nobody else may have it yet");
    }

    #[test]
    fn what_is_lost_stays_lost() {
        let warrant = Warrant::new(2, Ticks::now(), LONG, 2 * LONG);
        assert!(warrant.refreshed(1, Ticks::now()) && !warrant.is_lost());
        let fence = Duration::from_millis(20);
        let warrant = Warrant::new(2, Ticks::now(), fence, LONG);
        let asked = Ticks::now();
        while !warrant.is_lost() {}
        assert!(!warrant.refreshed(0, asked), "the answer comes too late");
        assert!(!warrant.refreshed(1, Ticks::now()), "and so does the question");
        assert!(warrant.is_lost());
    }

    #[test]
    fn what_is_found_to_be_another_s_leaves_no_time() {
        let warrant = Warrant::new(1, Ticks::now(), LONG, 2 * LONG);
        let other = warrant.clone();
        warrant.taken();
        assert!(other.is_lost() && other.time_left().is_zero());
    }

    #[tokio::test]
    async fn who_waits_hears_of_it() {
        let warrant = Warrant::new(1, Ticks::now(), LONG, 2 * LONG);
        let other = warrant.clone();
        let telling = async { warrant.expired() };
        tokio::join!(other.lost(), telling);
    }

    #[tokio::test]
    async fn who_waits_hears_of_it_also_when_nobody_says_so() {
        let warrant = Warrant::new(1, Ticks::now(), Duration::from_millis(20), LONG);
        tokio::time::timeout(Duration::from_secs(60), warrant.lost()).await.expect("the clock tells");
        assert!(warrant.is_lost());
    }

    #[test]
    fn without_locks_it_lasts() {
        let warrant = Warrant::without_locks();
        assert!(!warrant.is_lost() && warrant.time_left() > LONG);
    }
}
