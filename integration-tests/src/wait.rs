//! Waiting for what can be observed, under a deadline. The only place that reads the clock or pauses.

use std::thread;
use std::time::{Duration, Instant};

/// How long an observable may take to appear before the test fails. Generous, since other tests use the machine too.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Measures how long something took.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Begins now.
    #[expect(clippy::disallowed_methods, reason = "the harness's one reader of time")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Looks until `probe` gives something, for at most `limit`; `None` when it never did.
pub fn within<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let watch = Stopwatch::start();
    loop {
        let out_of_time = watch.elapsed() >= limit;
        match probe() {
            Some(found) => return Some(found),
            None if out_of_time => return None,
            None => thread::sleep(PAUSE),
        }
    }
}

/// Looks until `probe` gives something.
///
/// # Panics
/// Names `what` after [`DEADLINE`].
#[track_caller]
pub fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(DEADLINE, probe).unwrap_or_else(|| panic!("waited {DEADLINE:?} for this: {what}"))
}

/// Looks until `probe` holds.
///
/// # Panics
/// Names `what` after [`DEADLINE`].
#[track_caller]
pub fn until(what: &str, mut probe: impl FnMut() -> bool) {
    eventually(what, || probe().then_some(()));
}
