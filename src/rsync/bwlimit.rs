//! How fast rsync may move data, by the time of the week. Pure: the caller says what time it is.
//!
//! A timetable is some windows that do not overlap; outside of them there is no limit. It is looked at when an rsync starts, since
//! rsync's `--bwlimit` is for its whole life.

use std::ffi::OsString;

/// Minutes of a day.
const DAY: u16 = 24 * 60;
/// Minutes of a week.
const WEEK: usize = 7 * DAY as usize;

/// When, and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// On which days it begins, from Monday on.
    pub days: [bool; 7],
    /// Minute of the day at which it begins, 0 to 1439.
    pub from: u16,
    /// Minute of the day before which it ends, 1 to 1440; one that is not after `from` is on the next day.
    pub to: u16,
    /// KiB per second; 0 is no limit.
    pub rate: u64,
}

impl Window {
    /// All week long.
    pub fn always(rate: u64) -> Self {
        Self { days: [true; 7], from: 0, to: DAY, rate }
    }

    /// Its minutes of the week, which begins on Monday.
    fn minutes(&self) -> impl Iterator<Item = usize> + '_ {
        let length = usize::from(if self.to > self.from { self.to - self.from } else { DAY - self.from + self.to });
        let days = self.days.iter().enumerate().filter(|(_, on)| **on);
        days.flat_map(move |(day, _)| {
            let start = day * usize::from(DAY) + usize::from(self.from);
            (start..start + length).map(|minute| minute % WEEK)
        })
    }
}

/// Limits by the time of the week.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timetable(Vec<Window>);

impl Timetable {
    /// The timetable of these windows.
    ///
    /// # Errors
    /// The indices of two that overlap.
    pub fn new(windows: Vec<Window>) -> Result<Self, (usize, usize)> {
        let mut owners = vec![None; WEEK];
        for (index, window) in windows.iter().enumerate() {
            for minute in window.minutes() {
                match owners[minute].replace(index) {
                    Some(other) if other != index => return Err((other, index)),
                    _ => {}
                }
            }
        }
        Ok(Self(windows))
    }

    /// Whether it never limits anything.
    pub fn is_idle(&self) -> bool {
        self.0.iter().all(|window| window.rate == 0)
    }

    /// KiB per second on this day (0 is Monday) at this minute of the day; `None` is no limit.
    pub fn rate_at(&self, weekday: u8, minute: u16) -> Option<u64> {
        let now = usize::from(weekday) * usize::from(DAY) + usize::from(minute);
        let window = self.0.iter().find(|window| window.minutes().any(|minute| minute == now))?;
        (window.rate > 0).then_some(window.rate)
    }
}

/// rsync's option for one of `sharers` rsyncs that run at once and together move `rate` KiB per second. A bare number is KiB in every
/// rsync (rsync(1), `--bwlimit`), and 0 would be no limit.
pub fn option(rate: u64, sharers: usize) -> OsString {
    format!("--bwlimit={}", (rate / sharers.max(1) as u64).max(1)).into()
}

/// A time of day as `08:00`; the minute of the day, 0 to 1440.
pub fn time_of_day(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let is_number = |text: &str| (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(hours) || !is_number(minutes) || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    (minutes < 60 && hours * 60 + minutes <= DAY).then_some(hours * 60 + minutes)
}

/// Days as `mon-fri` or `sat,sun`; a range may go over the end of the week.
pub fn days(text: &str) -> Option<[bool; 7]> {
    const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let day = |text: &str| NAMES.iter().position(|name| text.trim().eq_ignore_ascii_case(name));
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut at, last) = (day(first)?, day(last)?);
        days[at] = true;
        while at != last {
            at = (at + 1) % 7;
            days[at] = true;
        }
    }
    Some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days_text: &str, from: &str, to: &str, rate: u64) -> Window {
        let time = |text| time_of_day(text).expect("a time");
        Window { days: days(days_text).expect("days"), from: time(from), to: time(to), rate }
    }

    #[track_caller]
    fn check(windows: &[Window], at: (u8, &str), expected: Option<u64>) {
        let timetable = Timetable::new(windows.to_vec()).expect("no overlap");
        assert_eq!(timetable.rate_at(at.0, time_of_day(at.1).expect("a time")), expected, "{at:?}");
    }

    #[test]
    fn a_window_begins_with_its_first_minute_and_ends_before_its_last() {
        let work = [window("mon-fri", "08:00", "18:00", 5)];
        for (at, expected) in [
            ((0, "07:59"), None),
            ((0, "08:00"), Some(5)),
            ((4, "17:59"), Some(5)),
            ((4, "18:00"), None),
            ((5, "12:00"), None),
        ] {
            check(&work, at, expected);
        }
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        let night = [window("sun", "22:00", "06:00", 7)];
        for (at, expected) in [
            ((6, "21:59"), None),
            ((6, "22:00"), Some(7)),
            ((0, "05:59"), Some(7)),
            ((0, "06:00"), None),
            ((6, "03:00"), None),
        ] {
            check(&night, at, expected);
        }
    }

    #[test]
    fn a_rate_of_0_and_the_rest_of_the_week_are_without_limit() {
        check(&[window("mon-sun", "00:00", "24:00", 0)], (3, "12:00"), None);
        check(&[], (3, "12:00"), None);
        check(&[Window::always(9)], (6, "23:59"), Some(9));
        assert!(Timetable::new(vec![Window::always(0)]).is_ok_and(|table| table.is_idle()));
    }

    #[test]
    fn windows_that_overlap_are_named() {
        let overlap = |windows: &[Window]| Timetable::new(windows.to_vec()).err();
        let (day, night) = (window("mon-sun", "08:00", "18:00", 1), window("mon-sun", "18:00", "08:00", 2));
        assert_eq!(overlap(&[day.clone(), night.clone()]), None);
        assert_eq!(overlap(&[night.clone(), day, window("tue", "07:59", "08:00", 3)]), Some((0, 2)));
        assert_eq!(overlap(&[window("sun", "23:00", "01:00", 1), window("mon", "00:30", "02:00", 2)]), Some((0, 1)));
        assert_eq!(overlap(&[Window::always(1), night]), Some((0, 1)));
    }

    #[test]
    fn times_and_days_are_read() {
        for (text, expected) in
            [("00:00", Some(0)), ("8:05", Some(485)), ("24:00", Some(1440)), (" 18:00 ", Some(1080))]
        {
            assert_eq!(time_of_day(text), expected, "{text}");
        }
        for wrong in ["", "8", "24:01", "12:60", "12:5", "+1:00", "1:000", "a:00", "99:00"] {
            assert_eq!(time_of_day(wrong), None, "{wrong}");
        }
        assert_eq!(days("fri-mon"), Some([true, false, false, false, true, true, true]));
        assert_eq!(days("Tue, sat"), Some([false, true, false, false, false, true, false]));
        for wrong in ["", "mon-", "mo", "1-5", "mon,,tue", "weekdays"] {
            assert_eq!(days(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_rate_is_divided_and_never_none() {
        assert_eq!(option(5120, 1), "--bwlimit=5120");
        assert_eq!(option(5120, 3), "--bwlimit=1706");
        assert_eq!(option(2, 8), "--bwlimit=1");
    }
}
