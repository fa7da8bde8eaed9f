//! Vixie cron as its sources and manual describe it, minute by minute, to measure `schedule` against.
//!
//! It shares nothing with the code under test: [`Entry`] parses the fields into arrays of flags on its own, and
//! [`Daemon`] wakes at each minute of real time and compares the local clock with a virtual one that nobody sets. Of the
//! time zone it only asks which offset holds at an instant.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::Chars;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

/// The five fields of a crontab's line.
pub struct Entry {
    minute: [bool; 60],
    hour: [bool; 24],
    day: [bool; 32],
    month: [bool; 13],
    weekday: [bool; 8],
    minute_or_hour_star: bool,
    day_star: bool,
    weekday_star: bool,
}

impl Entry {
    /// Parses an expression that is known to be valid.
    pub fn parse(expr: &str) -> Entry {
        let fields: Vec<&str> = expr.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else { panic!("{expr}: not five fields") };
        let mut entry = Entry {
            minute: list(minute, 0, 59, &[]),
            hour: list(hour, 0, 23, &[]),
            day: list(day, 1, 31, &[]),
            month: list(
                month,
                1,
                12,
                &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
            ),
            weekday: list(weekday, 0, 7, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
            minute_or_hour_star: minute.starts_with('*') || hour.starts_with('*'),
            day_star: day.starts_with('*'),
            weekday_star: weekday.starts_with('*'),
        };
        if entry.weekday[0] || entry.weekday[7] {
            entry.weekday[0] = true;
            entry.weekday[7] = true;
        }
        entry
    }

    /// Whether it follows the wall clock when that is changed.
    pub fn is_wild(&self) -> bool {
        self.minute_or_hour_star
    }

    /// Whether it names a minute of local time.
    pub fn matches(&self, at: &Broken) -> bool {
        self.minute[at.minute]
            && self.hour[at.hour]
            && self.month[at.month]
            && if self.day_star || self.weekday_star {
                self.day[at.day] && self.weekday[at.weekday]
            } else {
                self.day[at.day] || self.weekday[at.weekday]
            }
    }
}

fn list<const N: usize>(field: &str, low: usize, high: usize, names: &[&str]) -> [bool; N] {
    let mut flags = [false; N];
    for range in field.split(',') {
        let mut chars = range.chars().peekable();
        let (first, mut last) = if chars.next_if_eq(&'*').is_some() {
            (low, high)
        } else {
            let first = value(&mut chars, low, names);
            (first, if chars.next_if_eq(&'-').is_some() { value(&mut chars, low, names) } else { first })
        };
        if range.to_ascii_lowercase().contains("-sun") && first > 0 {
            last = 7;
        }
        let step = if chars.next_if_eq(&'/').is_some() { value(&mut chars, 0, &[]) } else { 1 };
        assert_eq!(chars.next(), None, "{field}");
        assert!(first <= last && last <= high && step > 0, "{field}");
        let mut number = first;
        while number <= last {
            flags[number] = true;
            number += step;
        }
    }
    flags
}

fn value(chars: &mut Peekable<Chars>, low: usize, names: &[&str]) -> usize {
    let mut word = String::new();
    while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric()) {
        word.push(c.to_ascii_lowercase());
    }
    match word.parse() {
        Ok(number) => number,
        Err(_) => low + names.iter().position(|name| *name == word).expect("a known name"),
    }
}

/// A minute of local time in its parts, as `struct tm` has it (but months from 1).
#[derive(Debug, Clone, Copy)]
pub struct Broken {
    minute: usize,
    hour: usize,
    day: usize,
    month: usize,
    weekday: usize,
}

impl Broken {
    /// From minutes since the epoch on the local clock.
    pub fn from_minutes(minutes: i64) -> Broken {
        let time = Offset::UTC.to_datetime(Timestamp::from_second(minutes * 60).expect("in range"));
        Broken {
            minute: time.minute() as usize,
            hour: time.hour() as usize,
            day: time.day() as usize,
            month: time.month() as usize,
            weekday: (minutes.div_euclid(24 * 60) + 4).rem_euclid(7) as usize,
        }
    }
}

/// Minutes since the epoch on the local clock, at a minute of real time.
pub fn local_minutes(minutes: i64, tz: &TimeZone) -> i64 {
    let at = Timestamp::from_second(minutes * 60).expect("in range");
    (minutes * 60 + i64::from(tz.to_offset(at).seconds())).div_euclid(60)
}

/// One call of `find_jobs`: at an instant, for a minute of local time.
struct Look {
    at: Timestamp,
    local: Broken,
    wild: bool,
    fixed: bool,
}

/// All that a cron daemon looks for between two instants, whatever its crontab holds.
pub struct Daemon {
    looks: Vec<Look>,
}

impl Daemon {
    /// Lets a daemon live from one minute to another (minutes since the epoch); it wakes at each minute after `from`.
    pub fn live(from: i64, until: i64, tz: &TimeZone) -> Daemon {
        let mut daemon = Daemon { looks: Vec::new() };
        let mut virtual_time = local_minutes(from, tz);
        for now in from + 1..=until {
            let running = local_minutes(now, tz);
            match running - virtual_time {
                // The clock runs as it should; or it is late by so little that no minute may be left out.
                1..=5 => {
                    while virtual_time < running {
                        virtual_time += 1;
                        daemon.find_jobs(now, virtual_time, true, true);
                    }
                }
                // Set forward: wild jobs for this minute, fixed jobs for all that were left out.
                6..=180 => {
                    daemon.find_jobs(now, running, true, false);
                    while virtual_time < running {
                        virtual_time += 1;
                        daemon.find_jobs(now, virtual_time, false, true);
                    }
                }
                // Set back: only wild jobs, until real time has caught up with the virtual.
                -180..=0 => daemon.find_jobs(now, running, true, false),
                jump => panic!("the clock was set by {jump} minutes: cron has another rule for that"),
            }
        }
        daemon
    }

    fn find_jobs(&mut self, now: i64, local: i64, wild: bool, fixed: bool) {
        let at = Timestamp::from_second(now * 60).expect("in range");
        self.looks.push(Look { at, local: Broken::from_minutes(local), wild, fixed });
    }

    /// The instants at which the daemon starts this entry's job. Starts at one instant count as one.
    pub fn starts(&self, entry: &Entry) -> BTreeSet<Timestamp> {
        let due = |look: &&Look| (if entry.is_wild() { look.wild } else { look.fixed }) && entry.matches(&look.local);
        self.looks.iter().filter(due).map(|look| look.at).collect()
    }
}
