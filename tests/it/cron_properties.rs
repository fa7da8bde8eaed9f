//! What holds for every valid expression, every zone and every instant.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::sample::select;
use rsyncdirector::schedule::Schedule;

use crate::cron_vixie::{Broken, Entry, local_minutes};

/// Zones whose changes since 1973 are of at most three hours, in steps of whole minutes.
const ZONES: &[&str] = &[
    "UTC",
    "America/New_York",
    "America/Sao_Paulo",
    "America/Havana",
    "America/Caracas",
    "Europe/Berlin",
    "Europe/Lisbon",
    "Europe/Dublin",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Asia/Gaza",
    "Asia/Pyongyang",
    "Asia/Kathmandu",
    "Antarctica/Troll",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
];

/// Zones that once crossed the date line, or changed by odd seconds.
const STRANGE_ZONES: &[&str] = &[
    "Pacific/Apia",
    "Pacific/Fakaofo",
    "Pacific/Kwajalein",
    "Pacific/Kiritimati",
    "Asia/Manila",
    "America/Juneau",
    "Africa/Monrovia",
    "Europe/Amsterdam",
    "Europe/Moscow",
    "Antarctica/Casey",
];

/// Instants are looked for one by one up to this many minutes after the start.
const WALK: i64 = 2 * 24 * 60;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_next_instant_is_the_first_that_the_fields_name(expr in expression(), (tz, after) in moment(ZONES, 1973)) {
        let (schedule, entry) = (Schedule::parse(&expr).expect("a valid expression"), Entry::parse(&expr));
        let end = after + SignedDuration::from_mins(WALK);
        let ours = schedule.next_after(after, &tz).filter(|&at| at <= end);
        prop_assert_eq!(ours, first_by_walking(&entry, after, end, &tz));
    }

    #[test]
    fn an_instant_shows_its_fields_on_the_clock_or_ends_a_gap(expr in expression(), (tz, after) in moment(ZONES, 1973)) {
        let (schedule, entry) = (Schedule::parse(&expr).expect("a valid expression"), Entry::parse(&expr));
        let mut last = after;
        for at in std::iter::from_fn(|| schedule.next_after(last, &tz).inspect(|&at| last = at)).take(10) {
            prop_assert_eq!(at.as_nanosecond() % 60_000_000_000, 0);
            let minutes = at.as_second() / 60;
            let now = local_minutes(minutes, &tz);
            let skipped = local_minutes(minutes - 1, &tz) + 1..now;
            let caught_up = !entry.is_wild() && skipped.into_iter().any(|local| entry.matches(&Broken::from_minutes(local)));
            prop_assert!(entry.matches(&Broken::from_minutes(now)) || caught_up, "{}", at.to_zoned(tz.clone()));
        }
    }

    #[test]
    fn time_only_goes_forward_in_the_strangest_zones(expr in expression(), (tz, after) in moment(STRANGE_ZONES, 1840)) {
        let schedule = Schedule::parse(&expr).expect("a valid expression");
        let mut last = after;
        for _ in 0..60 {
            let Some(at) = schedule.next_after(last, &tz) else { break };
            prop_assert!(at > last, "{at} after {last}");
            last = at;
        }
    }

    #[test]
    fn an_answer_does_not_depend_on_where_before_it_one_asks(expr in expression(), (tz, after) in moment(STRANGE_ZONES, 1840)) {
        let schedule = Schedule::parse(&expr).expect("a valid expression");
        if let Some(at) = schedule.next_after(after, &tz) {
            let half_way = after + after.duration_until(at) / 2;
            prop_assert_eq!(schedule.next_after(half_way, &tz), Some(at));
            prop_assert_eq!(schedule.next_after(at - SignedDuration::from_nanos(1), &tz), Some(at));
        }
    }

    #[test]
    fn a_schedule_fires_unless_it_says_that_it_never_does(expr in expression(), (_, after) in moment(ZONES, 1973)) {
        let schedule = Schedule::parse(&expr).expect("a valid expression");
        prop_assert_eq!(schedule.next_after(after, &TimeZone::UTC).is_none(), schedule.never_fires());
    }

    #[test]
    fn any_text_is_read_or_refused_with_a_part_of_it(text in r"\PC*|[@0-9*/,\-a-z \t]{0,30}|(([0-9*/,\-#a-z]{1,5}|µ) ){5}") {
        if let Err(error) = Schedule::parse(&text) {
            prop_assert!(text.get(error.span.clone()).is_some_and(|part| !part.is_empty() || text.is_empty()), "{error:?}");
            prop_assert!(!error.message.is_empty());
        }
    }
}

/// The first instant in (after, end] by looking at each minute: a wild entry where the clock shows a time that it names,
/// another where the clock gets to such a time, or past it, for the first time.
fn first_by_walking(entry: &Entry, after: Timestamp, end: Timestamp, tz: &TimeZone) -> Option<Timestamp> {
    let first = after.as_second().div_euclid(60);
    let mut reached = (first - 200..first).map(|minutes| local_minutes(minutes, tz)).max()?;
    for minutes in first..=end.as_second().div_euclid(60) {
        let at = Timestamp::from_second(minutes * 60).ok()?;
        let now = local_minutes(minutes, tz);
        let named = |local| entry.matches(&Broken::from_minutes(local));
        let due = if entry.is_wild() { named(now) } else { (reached + 1..=now).any(named) };
        if due && at > after {
            return Some(at);
        }
        reached = reached.max(now);
    }
    None
}

/// A zone and an instant, mostly within a day of one of the zone's clock changes.
fn moment(zones: &'static [&'static str], first_year: i64) -> impl Strategy<Value = (TimeZone, Timestamp)> {
    let year = 31_556_952_i64;
    let seconds = (first_year - 1970) * year..(2110 - 1970) * year;
    let aside = -86_400_000_i64..86_400_000;
    (select(zones), seconds, prop_oneof![4 => aside.prop_map(Some), 1 => Just(None)]).prop_map(
        |(zone, seconds, aside)| {
            let tz = TimeZone::get(zone).expect("the system's time-zone data");
            let at = Timestamp::from_second(seconds).expect("in range");
            let change = tz.following(at).next().map(|change| change.timestamp());
            let at = match (change, aside) {
                (Some(change), Some(millis)) => change + SignedDuration::from_millis(millis),
                _ => at,
            };
            (tz, at)
        },
    )
}

/// A valid expression; hours and minutes favour those at which clocks change.
fn expression() -> impl Strategy<Value = String> {
    let names = |names: &'static str| names.split(' ').collect::<Vec<_>>();
    let hour = prop_oneof![1 => field(0, 23, vec![]), 1 => field(0, 4, vec![])];
    let month = field(1, 12, names("jan Feb mar apr may jun jul aug sep OCT nov dec"));
    let weekday = field(0, 7, names("sun mon Tue wed thu fri SAT"));
    let star_or = |field| prop_oneof![Just("*".to_owned()), field];
    let fields = (
        field(0, 59, vec![]),
        hour,
        star_or(field(1, 31, vec![]).boxed()),
        star_or(month.boxed()),
        star_or(weekday.boxed()),
    );
    fields.prop_map(|(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"))
}

/// A list for a field; `names` are those of `low` and the following.
fn field(low: usize, high: usize, names: Vec<&'static str>) -> impl Strategy<Value = String> {
    let spell = move |number: usize, by_name: bool| match names.get(number - low) {
        Some(name) if by_name => (*name).to_owned(),
        _ => number.to_string(),
    };
    let range =
        (low..=high, low..=high, any::<bool>(), any::<bool>(), prop_oneof![Just(None), (1..=high + 5).prop_map(Some)]);
    let spelled = {
        let spell = spell.clone();
        range.prop_map(move |(a, b, name_a, name_b, step)| {
            let step = step.map_or(String::new(), |step| format!("/{step}"));
            format!("{}-{}{step}", spell(a.min(b), name_a), spell(a.max(b), name_b))
        })
    };
    let item = prop_oneof![
        2 => Just("*".to_owned()),
        2 => (1..=high).prop_map(|step| format!("*/{step}")),
        4 => (low..=high, any::<bool>()).prop_map(move |(number, by_name)| spell(number, by_name)),
        3 => spelled,
    ];
    proptest::collection::vec(item, 1..4).prop_map(|items| items.join(","))
}
