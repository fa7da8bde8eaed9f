//! When things run: cron expressions read as cronie reads a crontab, and the instants that they name.
//!
//! [`Schedule::parse`] turns five fields or a nickname (`@daily`) into a [`Schedule`]; [`Schedule::next_after`] asks it for
//! one instant at a time. The two ideas that make an answer a *cron* answer live in `cron.rs`: the day rule, which looks at
//! a leading `*`, and daylight saving, which treats schedules that start with `*` otherwise than fixed times.
//!
//! Deliberately absent: a clock (every time is an argument), seconds, years, and the extensions of other schedulers
//! (`L`, `W`, `#`, `?`, `~`), which are refused with an explanation.

mod cron;
mod field;
mod jitter;
mod parse;
mod v1;

use std::ops::Range;

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub use self::cron::Cron;
pub use self::jitter::jitter_delay;

/// A parsed `cron_schedule`.
///
/// Equal schedules fire at the same instants; two spellings of one schedule need not be equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// `@reboot`: once when the daemon starts.
    Reboot,
    /// Five fields, or a nickname that stands for five fields.
    Cron(Cron),
}

impl Schedule {
    /// Reads five fields (minute, hour, day of month, month, day of week) or one of `@reboot @hourly @daily @midnight
    /// @weekly @monthly @yearly @annually`, as `crontab(5)` of cronie describes them. Space around the expression is
    /// ignored.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place in `expr`.
    pub fn parse(expr: &str) -> Result<Schedule, ScheduleError> {
        parse::parse(expr)
    }

    /// The first instant strictly after `after` at which this fires in the zone `tz`; `None` if there is none, as for
    /// [`Schedule::Reboot`].
    ///
    /// Fed with its own answers it gives each instant once, in order, whatever the zone's clock does.
    pub fn next_after(&self, after: Timestamp, tz: &TimeZone) -> Option<Timestamp> {
        match self {
            Schedule::Reboot => None,
            Schedule::Cron(cron) => cron.next_after(after, tz),
        }
    }

    /// Whether the fields name no day of any year, as `0 0 31 2 *` does. [`Schedule::Reboot`] does fire.
    pub fn never_fires(&self) -> bool {
        match self {
            Schedule::Reboot => false,
            Schedule::Cron(cron) => cron.never_fires(),
        }
    }

    /// A sentence for a warning where RsyncDirector 1.x read the day fields in another way, else `None`.
    ///
    /// Version 1 handed the expression to APScheduler's `CronTrigger.from_crontab`: numeric weekdays count from Monday =
    /// 0, 7 is refused, and a day has to match both day fields.
    pub fn meant_otherwise_in_v1(&self) -> Option<String> {
        match self {
            Schedule::Reboot => None,
            Schedule::Cron(cron) => v1::meant_otherwise(cron),
        }
    }
}

/// Number of instants in (`after`, `until`] at which `schedule` fires in `tz`, for counting missed runs; at most `cap`,
/// which bounds the work.
pub fn count_between(schedule: &Schedule, after: Timestamp, until: Timestamp, tz: &TimeZone, cap: u64) -> u64 {
    let mut count = 0;
    let mut last = after;
    while count < cap {
        match schedule.next_after(last, tz) {
            Some(at) if at <= until => last = at,
            _ => break,
        }
        count += 1;
    }
    count
}

/// What is wrong with an expression, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ScheduleError {
    /// The part of the expression that is wrong, in bytes. Never empty, except in an empty expression.
    pub span: Range<usize>,
    /// What is wrong with it: a lower-case fragment without a final period.
    pub message: String,
    /// What to write instead, where that is known.
    pub help: Option<String>,
}

#[cfg(test)]
mod tests;
