//! In which zone the schedules are read, and what daylight saving does to them in the year to come. Pure.

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::HERE;
use super::finding::{Check, Finding};
use crate::config::Config;
use crate::schedule::Schedule;

/// How far ahead is looked: a zone's rules repeat within a year.
const AHEAD: SignedDuration = SignedDuration::from_hours(24 * 366);

/// A finding for each zone, and one for each schedule with a time that a clock will skip.
pub fn examine(config: &Config, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen = Vec::new();
    for job in &config.jobs {
        let (zone, expression) = (&job.schedule.timezone, &job.schedule.expression);
        if !seen.iter().any(|(known, _)| *known == zone) {
            findings.push(of_zone(zone, now));
        }
        if seen.contains(&(zone, expression)) {
            continue;
        }
        seen.push((zone, expression));
        if let Some((from, to)) = skipped(expression, &job.schedule.schedule, zone, now) {
            let text = format!(
                "job {} ({expression}): from {} to {} there is no such time on {}, and a run that is due in it starts at {} instead",
                job.id,
                from.strftime("%H:%M"),
                to.strftime("%H:%M"),
                from.date(),
                to.strftime("%H:%M"),
            );
            findings.push(Finding::warn(Check::TimeZone, HERE, text, "name another time, or `timezone: UTC`"));
        }
    }
    findings
}

fn of_zone(zone: &TimeZone, now: Timestamp) -> Finding {
    let local = now.to_zoned(zone.clone()).strftime("%F %H:%M %:z").to_string();
    if zone.is_unknown() {
        let text = format!("the system's time zone cannot be read, so schedules are UTC: it is {local}");
        return Finding::warn(
            Check::TimeZone,
            HERE,
            text,
            "set it (`timedatectl set-timezone ZONE`), or the key `timezone`",
        );
    }
    let name = zone.iana_name().unwrap_or("the system's time zone");
    Finding::ok(Check::TimeZone, HERE, format!("schedules are read in {name}, where it is {local}"))
}

/// The first hour or so that the clock skips and in which the schedule has a time, by the wall: from, and to where. A schedule whose minute
/// or hour begins with `*` follows the clock and misses nothing.
fn skipped(expression: &str, schedule: &Schedule, zone: &TimeZone, now: Timestamp) -> Option<(DateTime, DateTime)> {
    let follows = |field: Option<&str>| field.is_some_and(|field| field.starts_with('*'));
    let mut fields = expression.split_whitespace();
    if follows(fields.next()) || follows(fields.next()) {
        return None;
    }
    let until = now.checked_add(AHEAD).ok()?;
    let changes = zone.following(now).take_while(|change| change.timestamp() <= until);
    changes.into_iter().find_map(|change| {
        let at = change.timestamp();
        let before = zone.to_offset(at.checked_sub(SignedDuration::from_nanos(1)).ok()?);
        let (from, to) = (before.to_datetime(at), change.offset().to_datetime(at));
        // What the wall would have shown is asked as if it were UTC, which skips nothing.
        let as_utc = |time: DateTime| Offset::UTC.to_timestamp(time).ok();
        let first =
            schedule.next_after(as_utc(from)?.checked_sub(SignedDuration::from_secs(1)).ok()?, &TimeZone::UTC)?;
        (to > from && first < as_utc(to)?).then_some((from, to))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[track_caller]
    fn check(expression: &str, zone: &str, expected: &[&str]) {
        let text = format!(
            "rsync_id: x\ncron_schedule: '{expression}'\ntimezone: {zone}\njobs: [{{id: j, type: local, actions: [{{action: command, id: c, command: x}}]}}]\n"
        );
        let loaded = crate::config::parse(Path::new("x.yaml"), &text, &|_| Some("/root".into()));
        let config = loaded.unwrap_or_else(|problems| panic!("{}", problems.render(false))).config;
        let now = "2026-11-21T16:00:00Z".parse().expect("a time");
        let found: Vec<String> = examine(&config, now).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found:#?}");
        }
    }

    #[test]
    fn a_time_that_the_clock_skips_is_told_with_the_time_that_stands_for_it() {
        let berlin = "read in Europe/Berlin, where it is 2026-11-21 17:00 +01:00";
        check("30 2 * * *", "Europe/Berlin", &[berlin, "from 02:00 to 03:00 there is no such time on 2027-03-28"]);
        check("30 3 * * *", "Europe/Berlin", &[berlin]);
        check("*/15 2 * * *", "Europe/Berlin", &[berlin]);
        check("0 2 * * *", "Europe/Berlin", &[berlin, "starts at 03:00 instead"]);
        check("0 3 * * *", "Europe/Berlin", &[berlin]);
        check("@reboot", "Europe/Berlin", &[berlin]);
        check("30 2 1 * *", "Europe/Berlin", &[berlin]);
        check(
            "15 2 * * *",
            "Australia/Lord_Howe",
            &["+11:00", "from 02:00 to 02:30 there is no such time on 2027-10-03"],
        );
        check("30 2 * * *", "UTC", &["UTC"]);
    }
}
