//! The five fields as sets, and the search for the next instant.
//!
//! The rules are those of Vixie cron and cronie (`find_jobs` and the main loop of their `cron.c`):
//!
//! - **Days.** If the day-of-month or the day-of-week field starts with `*` (so does `*/2`), a day must match both;
//!   otherwise it must match either.
//! - **Clock changes.** If the minute or the hour field starts with `*`, the schedule follows the wall clock: it fires
//!   whenever the clock shows a matching minute, so not in a skipped hour, and twice in a repeated one. Any other schedule
//!   names fixed times, each of which fires at the first instant at which the clock has *reached* it: at the end of the
//!   gap for times in a gap, all of them as one; the first time round for times that repeat.
//!
//! cron gives up the second rule for changes of more than three hours, which are a person setting the clock. Here only the
//! zone's own changes are seen, so it holds for them all (a zone that crosses the date line skips a day).

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// Years after which the calendar and every zone's yearly rules have repeated (400), and a zone's table of
/// irregular changes has ended (2037 or, for Morocco, 2087). A wall-clock schedule that has not fired by then never does,
/// such as one that names only minutes that are always skipped.
const LONGEST_WAIT_YEARS: i16 = 480;

/// Five cron fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    /// Bits 0 to 59; not empty.
    pub(super) minutes: u64,
    /// Bits 0 to 23; not empty.
    pub(super) hours: u64,
    /// Bits 1 to 31; not empty.
    pub(super) days: u64,
    /// Bits 1 to 12; not empty.
    pub(super) months: u64,
    /// Bits 0 (Sunday) to 6; not empty.
    pub(super) weekdays: u64,
    pub(super) day_rule: DayRule,
    pub(super) pace: Pace,
    /// The weekdays as RsyncDirector 1.x read them, bits as above; `None` if it refused the field.
    pub(super) v1_weekdays: Option<u64>,
}

/// How the two day fields are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DayRule {
    Both,
    Either,
}

/// What a change of the zone's offset does to the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    WallClock,
    FixedTimes,
}

impl Cron {
    /// As [`Schedule::next_after`](super::Schedule::next_after).
    pub fn next_after(&self, after: Timestamp, tz: &TimeZone) -> Option<Timestamp> {
        if self.never_fires() {
            return None;
        }
        match self.pace {
            Pace::WallClock => self.next_on_wall_clock(after, tz),
            Pace::FixedTimes => self.next_fixed_time(after, tz),
        }
    }

    /// As [`Schedule::never_fires`](super::Schedule::never_fires).
    pub fn never_fires(&self) -> bool {
        // In the 400 years of the calendar every date, 29 February too, falls on every weekday.
        self.day_rule == DayRule::Both
            && !members(self.months).any(|month| members(self.days).any(|day| day <= longest(month)))
    }

    /// Walks from one change of the offset to the next; between two of them local time is a straight line.
    fn next_on_wall_clock(&self, after: Timestamp, tz: &TimeZone) -> Option<Timestamp> {
        let mut from = after.checked_add(SignedDuration::from_nanos(1)).ok()?;
        let last_year = tz.to_datetime(after).year() + LONGEST_WAIT_YEARS;
        loop {
            let offset = tz.to_offset(from);
            let change = tz.following(from).next().map(|transition| transition.timestamp());
            let local = self.first_match(LocalMinute::at_or_after(offset.to_datetime(from)))?;
            let at = offset.to_timestamp(local).ok()?;
            match change {
                _ if local.year() > last_year => return None,
                Some(change) if change <= at => from = change,
                _ => return Some(at),
            }
        }
    }

    /// Tries one matching local time after the other; more than one only while the clock goes through times that it has
    /// shown before, since those have already fired.
    fn next_fixed_time(&self, after: Timestamp, tz: &TimeZone) -> Option<Timestamp> {
        let mut local = tz.to_datetime(after);
        loop {
            local = self.first_match(LocalMinute::following(local))?;
            let at = first_reached(local, tz)?;
            if at > after {
                return Some(at);
            }
        }
    }

    /// The first local time at or after `from` that the fields name, whether the zone's clock shows it or not. Ends only
    /// if the fields name a day at all, or at the calendar's end in the year 9999.
    fn first_match(&self, from: LocalMinute) -> Option<DateTime> {
        let mut date = from.date;
        if self.matches_date(date)
            && let Some((hour, minute)) = self.first_time(from.minute)
        {
            return Some(date.at(hour, minute, 0, 0));
        }
        let (hour, minute) = self.first_time(0)?;
        loop {
            date = self.following_date(date)?;
            if self.matches_date(date) {
                return Some(date.at(hour, minute, 0, 0));
            }
        }
    }

    /// The next date worth a look: tomorrow, or the first of the next month if this one is not named.
    fn following_date(&self, date: Date) -> Option<Date> {
        let last_seen = if contains(self.months, date.month()) { date } else { date.last_of_month() };
        last_seen.tomorrow().ok()
    }

    /// The first hour and minute at or after a minute of the day (0 to 1440).
    fn first_time(&self, minute_of_day: u32) -> Option<(i8, i8)> {
        let (hour, minute) = (minute_of_day / 60, minute_of_day % 60);
        let this_hour = next_member(self.hours, hour).filter(|&next| next == hour);
        let (hour, minute) = match this_hour.and_then(|_| next_member(self.minutes, minute)) {
            Some(minute) => (hour, minute),
            None => (next_member(self.hours, hour + 1)?, next_member(self.minutes, 0)?),
        };
        Some((hour as i8, minute as i8))
    }

    fn matches_date(&self, date: Date) -> bool {
        self.matches_day(date.month(), date.day(), date.weekday().to_sunday_zero_offset())
    }

    /// Whether the fields name this day; `month` from 1, `day` from 1, `weekday` from Sunday = 0.
    pub(super) fn matches_day(&self, month: i8, day: i8, weekday: i8) -> bool {
        let (by_day, by_weekday) = (contains(self.days, day), contains(self.weekdays, weekday));
        contains(self.months, month)
            && match self.day_rule {
                DayRule::Both => by_day && by_weekday,
                DayRule::Either => by_day || by_weekday,
            }
    }
}

/// A minute of local time.
#[derive(Clone, Copy)]
struct LocalMinute {
    date: Date,
    /// Of the day: 0 to 1440, the last being the next day's first.
    minute: u32,
}

impl LocalMinute {
    /// The minute that `time` is in.
    fn containing(time: DateTime) -> Self {
        Self { date: time.date(), minute: time.hour() as u32 * 60 + time.minute() as u32 }
    }

    /// The first minute that begins after `time`.
    fn following(time: DateTime) -> Self {
        let Self { date, minute } = Self::containing(time);
        Self { date, minute: minute + 1 }
    }

    /// The first minute that begins at or after `time`.
    fn at_or_after(time: DateTime) -> Self {
        if time.second() == 0 && time.subsec_nanosecond() == 0 { Self::containing(time) } else { Self::following(time) }
    }
}

/// The first instant at which the zone's clock has reached `local`.
fn first_reached(local: DateTime, tz: &TimeZone) -> Option<Timestamp> {
    match tz.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
            offset.to_timestamp(local).ok()
        }
        AmbiguousOffset::Gap { before, after } => {
            // Read with the offset after the gap, a skipped time lies before the change; with the one before, after it.
            let (early, late) = (after.to_timestamp(local).ok()?, before.to_timestamp(local).ok()?);
            let change = tz.following(early).find(|change| change.offset().to_datetime(change.timestamp()) > local);
            Some(change.map_or(late, |change| change.timestamp().min(late)))
        }
    }
}

/// Days of a month (1 to 12) in a leap year.
pub(super) fn longest(month: u32) -> u32 {
    match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn contains(set: u64, member: i8) -> bool {
    set >> member & 1 == 1
}

/// The members of a set, ascending.
pub(super) fn members(set: u64) -> impl Iterator<Item = u32> {
    (0..u64::BITS).filter(move |member| set >> member & 1 == 1)
}

/// The least member of a set that is not below `from`.
fn next_member(set: u64, from: u32) -> Option<u32> {
    let rest = set.checked_shr(from)?;
    (rest != 0).then(|| from + rest.trailing_zeros())
}
