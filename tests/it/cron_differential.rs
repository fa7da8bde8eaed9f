//! `schedule` against the minute-by-minute daemon of [`cron_vixie`](crate::cron_vixie), around the clock changes of a
//! year and at the ends of months, in zones of every kind.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::date;
use jiff::tz::TimeZone;
use rsyncdirector::schedule::Schedule;

use crate::cron_vixie::{Daemon, Entry};

/// A year with clock changes for each zone: none, one hour by day, half an hour, two hours, at or over midnight, around
/// Ramadan, with an offset of a half or three quarters of an hour.
const ZONES: [(&str, i16); 14] = [
    ("UTC", 2028),
    ("America/New_York", 2028),
    ("Europe/Berlin", 2028),
    ("Australia/Lord_Howe", 2028),
    ("Antarctica/Troll", 2028),
    ("Africa/Cairo", 2024),
    ("Asia/Beirut", 2028),
    ("America/Havana", 2028),
    ("America/Sao_Paulo", 2018),
    ("America/Santiago", 2028),
    ("America/St_Johns", 2008),
    ("Africa/Casablanca", 2025),
    ("Asia/Tehran", 2021),
    ("Pacific/Chatham", 2028),
];

#[rustfmt::skip]
const EXPRESSIONS: &[&str] = &[
    // Minutes and hours that follow the wall clock.
    "* * * * *", "*/5 * * * *", "*/7 * * * *", "*/15 2 * * *", "*/30 1-3 * * *", "*/20 0 * * *", "*/45 23 * * *", "0 * * * *",
    "30 * * * *", "15,45 * * * *", "0 */2 * * *", "30 */3 * * *", "17 */5 * * *", "0-10/5 * * * *", "59 * * * *", "1 */1 * * *",
    "*,5 2 * * *", "* 2 * * *", "* 0 * * *", "* 1 * * *", "* 3 * * *", "*/10 0-2 * * *", "5 *,3 * * *", "*/100 * * * *", "0 */23 * * *",
    // Fixed times before, in and after the changes.
    "0 0 * * *", "1 0 * * *", "15 0 * * *", "30 0 * * *", "59 0 * * *", "0 1 * * *", "15 1 * * *", "30 1 * * *", "45 1 * * *",
    "59 1 * * *", "0 2 * * *", "1 2 * * *", "10 2 * * *", "29 2 * * *", "30 2 * * *", "31 2 * * *", "45 2 * * *", "59 2 * * *",
    "0 3 * * *", "1 3 * * *", "30 3 * * *", "0 4 * * *", "45 3 * * *", "0 23 * * *", "30 23 * * *", "59 23 * * *", "0 12 * * *",
    "0,30 1-3 * * *", "0,30 0-23 * * *", "0-59 0-23 * * *", "0-59 2 * * *", "0-59 0 * * *", "0-59/10 0-4 * * *", "5,35 0-23/2 * * *",
    "10,50 0,2,23 * * *", "0 0,12 * * *", "20,40 1,2,3 * * *", "3-58/11 0-4 * * *", "0 2,3 * * *", "59 1,2 * * *", "30 1,2,3 * * *",
    // Days, with and without the leading star.
    "0 0 1 * *", "0 0 31 * *", "0 0 29 2 *", "0 0 28-31 * *", "30 2 1 * *", "0 0 * * 0", "0 0 * * 7", "0 0 * * sun", "30 2 * * sun",
    "30 2 * * 0", "30 0 * * fri", "*/15 2 * * 0", "0 0 13 * 5", "0 2 1 * mon", "0 0 */2 * *", "0 0 */2 * 1", "30 2 */3 * 0",
    "0 0 1-7 * */6", "0 0 1-31/2 * */2", "0 0 *,1 * 1", "15 3 1,15 * mon-fri", "0 0 * * fri-sun", "0 6 * * 1-5", "0 6 * * MON-Fri/2",
    "0 0 * * 5-7", "0 0 * * */2", "0 0 * * 1-7/3", "30 2 25-31 3 *", "30 2 25-31 3 */7", "30 2 8-14 3 sun", "30 2 29 10 *",
    "* 2 25-31 3 */7", "*/15 1 1-7 11 sun", "0 0 31 2 *", "0 0 30 2 */2", "0 0 31 2 mon",
    // Months.
    "0 0 1 1 *", "59 23 31 12 *", "0 0 1 jan,Jul *", "0 3 1 */3 *", "0 3 * mar-apr *", "30 2 * 3,10 sun", "0 * 26 mar *",
    "30 0 * feb-may/2 *", "0 0 29 feb,mar */2", "*/10 1-2 * 10-11 *",
];

#[test]
fn schedules_fire_as_vixie_cron_does() {
    assert!(EXPRESSIONS.len() > 100);
    let entries: Vec<(Schedule, Entry)> = EXPRESSIONS.iter().map(|expr| (parse(expr), Entry::parse(expr))).collect();
    let mut mismatches = Vec::new();
    let mut compared = 0;
    for (name, year) in ZONES {
        let tz = TimeZone::get(name).expect("the system's time-zone data");
        for (from, until) in windows(year, &tz) {
            let daemon = Daemon::live(from, until, &tz);
            for (expr, (schedule, entry)) in EXPRESSIONS.iter().zip(&entries) {
                let (ours, vixie) = (instants(schedule, from, until, &tz), daemon.starts(entry));
                compared += vixie.len();
                let differ = ours.symmetric_difference(&vixie).next();
                mismatches.extend(differ.map(|at| {
                    let who = if ours.contains(at) { "only ours" } else { "only Vixie's" };
                    format!("{expr} in {name}: {who} at {}", at.to_zoned(tz.clone()))
                }));
            }
        }
    }
    assert_eq!(mismatches, [""; 0], "{} mismatches", mismatches.len());
    assert!(compared > 100_000, "only {compared} starts were compared");
}

#[test]
fn every_zone_but_utc_changes_its_clock_twice_in_its_year() {
    for (name, year) in ZONES {
        let tz = TimeZone::get(name).expect("the system's time-zone data");
        assert_eq!(changes(year, &tz).len(), if name == "UTC" { 0 } else { 2 }, "{name}");
    }
}

fn parse(expr: &str) -> Schedule {
    Schedule::parse(expr).unwrap_or_else(|error| panic!("{expr}: {error}"))
}

/// Our instants in (from, until], both in minutes since the epoch. Fails on one that is not later than its predecessor.
fn instants(schedule: &Schedule, from: i64, until: i64, tz: &TimeZone) -> BTreeSet<Timestamp> {
    let [mut last, until] = [from, until].map(|minutes| Timestamp::from_second(minutes * 60).expect("in range"));
    let mut instants = BTreeSet::new();
    while let Some(at) = schedule.next_after(last, tz).filter(|&at| at <= until) {
        assert!(at > last, "{at} after {last}");
        instants.insert(at);
        last = at;
    }
    instants
}

/// What to walk through, in minutes since the epoch: a day and a half to each side of every clock change, the end of
/// February and the turn of the year.
fn windows(year: i16, tz: &TimeZone) -> Vec<(i64, i64)> {
    let around = |center: i64, hours: i64| (center - hours * 60, center + hours * 60);
    let start_of = |year, month| minutes(date(year, month, 1).to_zoned(tz.clone()).expect("in range").timestamp());
    let mut windows: Vec<(i64, i64)> = changes(year, tz).into_iter().map(|change| around(change, 36)).collect();
    windows.push(around(start_of(year, 3), 60));
    windows.push(around(start_of(year + 1, 1), 36));
    windows
}

/// The minutes at which the zone's offset changes in a year, found by looking each half hour.
fn changes(year: i16, tz: &TimeZone) -> Vec<i64> {
    let start = minutes(date(year, 1, 1).to_zoned(TimeZone::UTC).expect("in range").timestamp());
    let offset = |minutes: i64| tz.to_offset(Timestamp::from_second(minutes * 60).expect("in range"));
    (1..366 * 48).map(|half_hours| start + half_hours * 30).filter(|&at| offset(at) != offset(at - 30)).collect()
}

fn minutes(at: Timestamp) -> i64 {
    at.as_second() / 60
}
