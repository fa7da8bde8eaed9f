//! The only reader of time.
//!
//! Wall-clock time ([`now`]) decides what is due; monotonic time ([`Ticks`]) measures durations and leases. Everything that
//! decides takes time as an argument, so this module is all that a test has to do without.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// The wall-clock time.
#[expect(clippy::disallowed_methods, reason = "this module is the one that reads the clock")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// A moment on the monotonic clock, which does not advance while the host sleeps and is never set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticks(Instant);

impl Ticks {
    /// This moment.
    #[expect(clippy::disallowed_methods, reason = "this module is the one that reads the clock")]
    pub fn now() -> Self {
        Self(Instant::now())
    }

    /// Time that has passed since.
    pub fn elapsed(self) -> Duration {
        Self::now().0.saturating_duration_since(self.0)
    }
}
