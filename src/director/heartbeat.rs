//! A sign of life of the loop.
//!
//! It comes from the loop itself, between two events, and not from a task beside it: who waits for it in vain knows that the
//! loop hangs, whatever else of the process still runs.

use std::time::Duration;

use crate::clock::{self, Ticks};

/// When the sign is due, and how it is given.
pub struct Heartbeat {
    every: Duration,
    last: Ticks,
    beat: Box<dyn Fn() + Send>,
}

impl Heartbeat {
    /// Calls `beat` at these intervals; the first time at the end of one.
    pub fn new(every: Duration, beat: impl Fn() + Send + 'static) -> Self {
        Self { every, last: Ticks::now(), beat: Box::new(beat) }
    }

    /// Waits until the next is due.
    pub(super) async fn due(&self) {
        clock::sleep(self.every.saturating_sub(self.last.elapsed())).await;
    }

    /// Gives the sign if it is due.
    pub(super) fn go_on(&mut self) {
        if self.last.elapsed() >= self.every {
            self.last = Ticks::now();
            (self.beat)();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::timeout;

    use super::*;

    fn heartbeat(every: Duration) -> (Heartbeat, Arc<AtomicU32>) {
        let beats = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&beats);
        let heartbeat = Heartbeat::new(every, move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        (heartbeat, beats)
    }

    const NEVER: Duration = Duration::from_secs(3600);
    const MEANWHILE: Duration = Duration::from_millis(5);

    #[tokio::test]
    async fn it_does_not_beat_before_it_is_due() {
        let (mut heartbeat, beats) = heartbeat(NEVER);
        heartbeat.go_on();
        timeout(MEANWHILE, heartbeat.due()).await.expect_err("not due yet");
        assert_eq!(beats.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn it_beats_once_when_it_is_due() {
        let (mut heartbeat, beats) = heartbeat(6 * MEANWHILE);
        // What happens meanwhile does not put it off.
        while timeout(MEANWHILE, heartbeat.due()).await.is_err() {}
        heartbeat.go_on();
        assert_eq!(beats.load(Ordering::Relaxed), 1);
        heartbeat.every = NEVER;
        heartbeat.go_on();
        assert_eq!(beats.load(Ordering::Relaxed), 1);
    }
}
