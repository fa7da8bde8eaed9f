//! The only reader of time.
//!
//! Wall-clock time ([`now`]) decides what is due. Durations and leases are measured in [`Ticks`], by the clock that also
//! counts while the host is suspended: a lease runs out on the host that stores the lock file no matter whether we sleep.
//! Both sleeps are kernel timers, so they end at once when a suspended host resumes, and cost no wake-up in between.
//!
//! Everything that decides takes time as an argument; a test needs nothing of this module.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};

use crate::descriptor::Watched;

/// The wall-clock time.
#[expect(clippy::disallowed_methods, reason = "this module is the one that reads the clock")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// A moment on the clock that counts from boot, through suspends, and is never set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticks(Duration);

impl Ticks {
    /// This moment.
    pub fn now() -> Self {
        let t = clock_gettime(ClockId::Boottime);
        Self(Duration::new(t.tv_sec.unsigned_abs(), t.tv_nsec.unsigned_abs() as u32))
    }

    /// Time that has passed since.
    pub fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

/// Sleeps for `duration`, suspends included. At most some milliseconds late.
pub async fn sleep(duration: Duration) {
    if duration.is_zero() {
        return;
    }
    let timer = Timer::new(TimerfdClockId::Boottime)
        .and_then(|timer| timer.set(TimerfdTimerFlags::empty(), to_timespec(duration)).map(|()| timer));
    match timer {
        Ok(timer) => timer.0.readable().await,
        // Without a timer descriptor (no more files) a sleep that stops during a suspend is the next best.
        Err(_) => tokio::time::sleep(duration).await,
    }
}

/// Sleeps until the wall clock shows `until`, or someone sets the clock; whoever waits looks at the clock again.
/// `None` sleeps until the clock is set.
pub async fn sleep_until(until: Option<Timestamp>) {
    let target = until.map_or(Timespec { tv_sec: i64::MAX / 2_000_000_000, tv_nsec: 0 }, |at| Timespec {
        tv_sec: at.as_second().max(0),
        tv_nsec: i64::from(at.subsec_nanosecond().max(1)),
    });
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    match Timer::new(TimerfdClockId::Realtime).and_then(|timer| timer.set(flags, target).map(|()| timer)) {
        Ok(timer) => timer.0.readable().await,
        Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
    }
}

fn to_timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX / 2_000_000_000),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// A timer descriptor. Readable means expired or cancelled by a change of the clock; which of both does not matter to anyone.
struct Timer(Watched);

impl Timer {
    fn new(clock: TimerfdClockId) -> io::Result<Self> {
        Watched::new(timerfd_create(clock, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?).map(Self)
    }

    fn set(&self, flags: TimerfdTimerFlags, value: Timespec) -> io::Result<()> {
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(self.0.get(), flags, &once)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleep_lasts_as_long_as_asked() {
        let before = Ticks::now();
        sleep(Duration::from_millis(20)).await;
        assert!(before.elapsed() >= Duration::from_millis(20));
    }

    #[tokio::test]
    async fn a_sleep_until_a_past_time_ends_at_once() {
        sleep_until(Some(now())).await;
        sleep_until(Some(Timestamp::UNIX_EPOCH)).await;
    }

    #[tokio::test]
    async fn a_sleep_until_a_time_does_not_end_before_it() {
        let until = now() + Duration::from_millis(30);
        while now() < until {
            sleep_until(Some(until)).await;
        }
        assert!(now() >= until);
    }
}
