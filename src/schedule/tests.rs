//! Tables of expressions: what they are refused for, when they fire, what version 1 made of them.

use jiff::civil::DateTime;

use super::*;

fn schedule(expr: &str) -> Schedule {
    Schedule::parse(expr).unwrap_or_else(|error| panic!("{expr}: {error}"))
}

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).expect("the system's time-zone data")
}

/// The first local times after `after` (local, too) with their offsets.
fn fires(expr: &str, tz: &str, after: &str, count: usize) -> Vec<String> {
    let (schedule, tz) = (schedule(expr), zone(tz));
    let after: DateTime = after.parse().expect("a local time");
    let mut last = tz.to_timestamp(after).expect("an instant");
    let next = || {
        last = schedule.next_after(last, &tz)?;
        Some(last.to_zoned(tz.clone()).strftime("%a %Y-%m-%d %H:%M:%S %:z").to_string())
    };
    std::iter::from_fn(next).take(count).collect()
}

#[track_caller]
fn check(expr: &str, tz: &str, after: &str, expected: &[&str]) {
    assert_eq!(fires(expr, tz, after, expected.len()), expected, "{expr} in {tz} after {after}");
}

/// `wrong` is the expression with the refused part in `«»`.
#[track_caller]
fn refused(wrong: &str, message: &str, help: &str) {
    let (before, rest) = wrong.split_once('«').expect("a mark");
    let (part, after) = rest.split_once('»').expect("a mark");
    let error = Schedule::parse(&format!("{before}{part}{after}")).expect_err(wrong);
    let expected = (before.len()..before.len() + part.len(), message, help);
    assert_eq!((error.span.clone(), error.message.as_str(), error.help.as_deref().unwrap_or("")), expected, "{wrong}");
    assert_eq!(error.to_string(), message);
}

#[test]
fn ordinary_expressions_fire_when_their_fields_say() {
    let after = "2028-02-27T10:00:00"; // A Sunday.
    let utc = |expr, expected: &[&str]| check(expr, "UTC", after, expected);
    utc("* * * * *", &["Sun 2028-02-27 10:01:00 +00:00", "Sun 2028-02-27 10:02:00 +00:00"]);
    utc("0 10 * * *", &["Mon 2028-02-28 10:00:00 +00:00", "Tue 2028-02-29 10:00:00 +00:00"]);
    utc("*/25 9-11/2 * * *", &["Sun 2028-02-27 11:00:00 +00:00", "Sun 2028-02-27 11:25:00 +00:00"]);
    utc("59 23 31 12 *", &["Sun 2028-12-31 23:59:00 +00:00", "Mon 2029-12-31 23:59:00 +00:00"]);
    utc("0 0 29 2 *", &["Tue 2028-02-29 00:00:00 +00:00", "Sun 2032-02-29 00:00:00 +00:00"]);
    utc("0 0 1 JAN,jul *", &["Sat 2028-07-01 00:00:00 +00:00", "Mon 2029-01-01 00:00:00 +00:00"]);
    utc("05 6 * * Mon-Fri", &["Mon 2028-02-28 06:05:00 +00:00", "Tue 2028-02-29 06:05:00 +00:00"]);
    utc("\t0  12 * * *\n", &["Sun 2028-02-27 12:00:00 +00:00"]);
    utc("*/100 12 * * *", &["Sun 2028-02-27 12:00:00 +00:00", "Mon 2028-02-28 12:00:00 +00:00"]);
}

#[test]
fn the_answer_is_strictly_later_to_the_nanosecond() {
    let utc = TimeZone::UTC;
    let schedule = schedule("0 0 * * *");
    for (after, expected) in [
        ("1969-12-31T23:59:59.999999999Z", "1970-01-01T00:00:00Z"),
        ("1970-01-01T00:00:00Z", "1970-01-02T00:00:00Z"),
        ("1969-12-30T23:59:59.5Z", "1969-12-31T00:00:00Z"),
        ("2028-01-01T00:00:00.000000001Z", "2028-01-02T00:00:00Z"),
    ] {
        let after = after.parse().expect("an instant");
        assert_eq!(schedule.next_after(after, &utc), Some(expected.parse().expect("an instant")), "{after}");
    }
}

#[test]
fn sunday_is_0_and_7_and_may_end_a_range_by_name() {
    for expr in ["0 0 * * 0", "0 0 * * 7", "0 0 * * sun", "0 0 * * */7", "0 0 * * 7-7", "0 0 * * SUN-sun"] {
        check(
            expr,
            "UTC",
            "2028-02-27T10:00:00",
            &["Sun 2028-03-05 00:00:00 +00:00", "Sun 2028-03-12 00:00:00 +00:00"],
        );
    }
    let days = |expr| -> Vec<String> {
        fires(expr, "UTC", "2028-02-26T12:00:00", 7).iter().map(|at| at[..3].to_owned()).collect()
    };
    assert_eq!(days("0 0 * * fri-sun"), ["Sun", "Fri", "Sat", "Sun", "Fri", "Sat", "Sun"]);
    assert_eq!(days("0 0 * * fri-sun"), days("0 0 * * 5-7"));
    assert_eq!(days("0 0 * * sun-tue"), days("0 0 * * 0-2"));
    assert_eq!(days("0 0 * * 1-7/2"), days("0 0 * * mon,wed,fri,sun"));
    assert_eq!(days("0 0 * * */2"), days("0 0 * * sun,tue,thu,sat"));
}

#[test]
fn two_restricted_day_fields_match_either_and_a_leading_star_makes_it_both() {
    let march = |expr| -> Vec<String> {
        let days = fires(expr, "UTC", "2028-02-29T12:00:00", 40);
        days.iter().filter(|at| at.contains("2028-03-")).map(|at| format!("{} {}", &at[..3], &at[12..14])).collect()
    };
    assert_eq!(march("0 0 13 * mon"), ["Mon 06", "Mon 13", "Mon 20", "Mon 27"]);
    assert_eq!(march("0 0 14 * mon"), ["Mon 06", "Mon 13", "Tue 14", "Mon 20", "Mon 27"]);
    assert_eq!(march("0 0 */2 * mon"), ["Mon 13", "Mon 27"]);
    assert_eq!(march("0 0 *,1 * mon"), ["Mon 06", "Mon 13", "Mon 20", "Mon 27"]);
    assert_eq!(march("0 0 1-31/2 * mon").len(), 16 + 2);
    assert_eq!(march("0 0 1-7 * */6"), ["Sat 04", "Sun 05"]);
}

#[test]
fn nicknames_stand_for_their_fields() {
    for (nickname, fields) in [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * sun"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        (" @annually\n", "0 0 1 1 *"),
    ] {
        assert_eq!(schedule(nickname), schedule(fields));
        assert_eq!(schedule(nickname).meant_otherwise_in_v1(), None, "{nickname}");
    }
    let reboot = schedule("@reboot");
    assert_eq!(reboot, Schedule::Reboot);
    assert_eq!(reboot.next_after(Timestamp::UNIX_EPOCH, &TimeZone::UTC), None);
    assert!(!reboot.never_fires());
}

#[test]
fn fixed_times_in_a_gap_fire_once_after_it() {
    let berlin = |expr, expected: &[&str]| check(expr, "Europe/Berlin", "2028-03-26T00:50:00", expected);
    berlin("30 2 * * *", &["Sun 2028-03-26 03:00:00 +02:00", "Mon 2028-03-27 02:30:00 +02:00"]);
    berlin("0 3 * * *", &["Sun 2028-03-26 03:00:00 +02:00", "Mon 2028-03-27 03:00:00 +02:00"]);
    berlin(
        "0,30 1-3 * * *",
        &[
            "Sun 2028-03-26 01:00:00 +01:00",
            "Sun 2028-03-26 01:30:00 +01:00",
            "Sun 2028-03-26 03:00:00 +02:00",
            "Sun 2028-03-26 03:30:00 +02:00",
            "Mon 2028-03-27 01:00:00 +02:00",
        ],
    );
}

#[test]
fn wall_clock_schedules_skip_a_gap() {
    let berlin = |expr, expected: &[&str]| check(expr, "Europe/Berlin", "2028-03-26T00:50:00", expected);
    berlin("*/15 2 * * *", &["Mon 2028-03-27 02:00:00 +02:00", "Mon 2028-03-27 02:15:00 +02:00"]);
    berlin(
        "30 * * * *",
        &["Sun 2028-03-26 01:30:00 +01:00", "Sun 2028-03-26 03:30:00 +02:00", "Sun 2028-03-26 04:30:00 +02:00"],
    );
    berlin("@hourly", &["Sun 2028-03-26 01:00:00 +01:00", "Sun 2028-03-26 03:00:00 +02:00"]);
}

#[test]
fn fixed_times_in_a_fold_fire_once_and_wall_clock_schedules_twice() {
    let berlin = |expr, expected: &[&str]| check(expr, "Europe/Berlin", "2028-10-29T01:40:00", expected);
    berlin("30 2 * * *", &["Sun 2028-10-29 02:30:00 +02:00", "Mon 2028-10-30 02:30:00 +01:00"]);
    berlin(
        "30 0-23 * * *",
        &["Sun 2028-10-29 02:30:00 +02:00", "Sun 2028-10-29 03:30:00 +01:00", "Sun 2028-10-29 04:30:00 +01:00"],
    );
    berlin(
        "*/30 2 * * *",
        &[
            "Sun 2028-10-29 02:00:00 +02:00",
            "Sun 2028-10-29 02:30:00 +02:00",
            "Sun 2028-10-29 02:00:00 +01:00",
            "Sun 2028-10-29 02:30:00 +01:00",
            "Mon 2028-10-30 02:00:00 +01:00",
        ],
    );
}

#[test]
fn odd_zones_keep_the_rules() {
    let lord_howe = |after, expr, expected: &[&str]| check(expr, "Australia/Lord_Howe", after, expected);
    lord_howe(
        "2028-10-01T01:50:00",
        "10,40 2 * * *",
        &["Sun 2028-10-01 02:30:00 +11:00", "Sun 2028-10-01 02:40:00 +11:00"],
    );
    lord_howe(
        "2028-04-02T01:20:00",
        "45 1 * * *",
        &["Sun 2028-04-02 01:45:00 +11:00", "Mon 2028-04-03 01:45:00 +10:30"],
    );
    check(
        "@daily",
        "America/Sao_Paulo",
        "2018-11-03T10:00:00",
        &["Sun 2018-11-04 01:00:00 -02:00", "Mon 2018-11-05 00:00:00 -02:00"],
    );
    check(
        "30 0 * * 5",
        "Africa/Cairo",
        "2024-04-25T10:00:00",
        &["Fri 2024-04-26 01:00:00 +03:00", "Fri 2024-05-03 00:30:00 +03:00"],
    );
    check("*/30 0 * * 5", "Africa/Cairo", "2024-04-25T10:00:00", &["Fri 2024-05-03 00:00:00 +03:00"]);
    // Samoa went from the 29th to the 31st: all that the 30th would have run runs once.
    check(
        "0 9,18 * * *",
        "Pacific/Apia",
        "2011-12-29T12:00:00",
        &["Thu 2011-12-29 18:00:00 -10:00", "Sat 2011-12-31 00:00:00 +14:00", "Sat 2011-12-31 09:00:00 +14:00"],
    );
    // Kwajalein once lived a day twice over in part: the clock went back by 22 hours, in 1969.
    check(
        "0 3 * * *",
        "Pacific/Kwajalein",
        "1969-09-29T12:00:00",
        &["Tue 1969-09-30 03:00:00 +11:00", "Wed 1969-10-01 03:00:00 -12:00"],
    );
}

#[test]
fn what_never_fires_says_so() {
    for expr in ["0 0 31 2 *", "0 0 30 feb *", "0 0 31 4,6,9,11 *", "* * 30-31 2 */2"] {
        assert!(schedule(expr).never_fires(), "{expr}");
        assert_eq!(schedule(expr).next_after(Timestamp::UNIX_EPOCH, &zone("Europe/Berlin")), None, "{expr}");
    }
    for expr in ["0 0 29 2 *", "0 0 31 2 mon", "0 0 31 1,2 *", "0 0 29 2 */7", "@reboot"] {
        assert!(!schedule(expr).never_fires(), "{expr}");
    }
}

#[test]
fn the_rarest_days_are_found() {
    check(
        "0 0 29 2 */7",
        "UTC",
        "2028-01-01T00:00:00",
        &["Sun 2032-02-29 00:00:00 +00:00", "Sun 2060-02-29 00:00:00 +00:00"],
    );
    check("* 0 29 2 */7", "Europe/Berlin", "2089-01-01T00:00:00", &["Sun 2128-02-29 00:00:00 +01:00"]);
    check("0 0 1 1 *", "UTC", "9998-12-01T00:00:00", &["Fri 9999-01-01 00:00:00 +00:00"]);
    assert_eq!(fires("0 0 1 1 *", "UTC", "9999-02-01T00:00:00", 1), [""; 0]);
    assert_eq!(fires("*/5 * 1 1 *", "Europe/Berlin", "9999-12-30T00:00:00", 1), [""; 0]);
}

#[test]
fn a_wall_clock_schedule_that_lives_in_the_gap_alone_ends_the_search() {
    let last_sunday_of_march = "*/10 2 25-31 3 */7";
    assert_eq!(fires(last_sunday_of_march, "Europe/Berlin", "2028-01-01T00:00:00", 1), [""; 0]);
    check(last_sunday_of_march, "UTC", "2028-01-01T00:00:00", &["Sun 2028-03-26 02:00:00 +00:00"]);
}

#[test]
fn missed_instants_are_counted_up_to_the_cap() {
    let count = |expr, after: &str, until: &str, cap| {
        let [after, until] = [after, until].map(|at| at.parse().expect("an instant"));
        count_between(&schedule(expr), after, until, &TimeZone::UTC, cap)
    };
    let (noon, next_noon) = ("2028-01-01T12:00:00Z", "2028-01-02T12:00:00Z");
    assert_eq!(count("0 * * * *", noon, next_noon, 1000), 24);
    assert_eq!(count("0 12 * * *", noon, next_noon, 1000), 1);
    assert_eq!(count("0 12 * * *", noon, "2028-01-02T11:59:59.999Z", 1000), 0);
    assert_eq!(count("* * * * *", noon, next_noon, 1000), 1000);
    assert_eq!(count("* * * * *", noon, next_noon, 0), 0);
    assert_eq!(count("* * * * *", next_noon, noon, 9), 0);
    assert_eq!(count("@reboot", noon, next_noon, 9), 0);
    assert_eq!(count("0 0 31 2 *", noon, next_noon, 9), 0);
}

#[test]
fn version_1_is_compared_by_the_days_it_would_have_run_on() {
    let check = |expr: &str, expected: Option<&str>| {
        assert_eq!(schedule(expr).meant_otherwise_in_v1().as_deref(), expected, "{expr}");
    };
    for same in
        ["0 0 * * *", "0 0 * * mon", "0 0 * * fri-sun", "0 0 1 jan *", "0 0 */2 * *", "0 0 */2 * mon", "@reboot"]
    {
        check(same, None);
    }
    check("0 0 * * 0-6", None);
    check("0 0 1-31 * 0-6", None);
    check("0 0 30 2 *", None);
    let counted = |there: &str, here: &str| {
        format!("RsyncDirector 1.x, which counted weekdays from Monday = 0, ran on {there} where this says {here}")
    };
    let joined =
        "RsyncDirector 1.x ran on days that match both day fields, here a day that matches either of them counts";
    check("0 0 * * 1-5", Some(&counted("tue, wed, thu, fri, sat", "mon, tue, wed, thu, fri")));
    check("0 0 * * */2", Some(&counted("mon, wed, fri, sun", "tue, thu, sat, sun")));
    check("0 0 13 * fri", Some(joined));
    check("0 0 13 * 5", Some(&format!("{}; {joined}", counted("sat", "fri"))));
    check("0 0 1 * 0-6", Some(joined));
    check("0 0 * * mon-fri/2", Some(&counted("mon, tue, wed, thu, fri", "mon, wed, fri")));
    let refused = |here: &str| format!("RsyncDirector 1.x refused this day of week, which here is {here}");
    check("0 0 * * 7", Some(&refused("sun")));
    check("0 0 * * sun-tue", Some(&refused("mon, tue, sun")));
    check("0 0 * * 5-sun", Some(&refused("fri, sat, sun")));
    check("0 0 * * 1-3/5", Some(&refused("mon")));
}

#[test]
fn wrong_numbers_are_refused_with_the_bounds() {
    refused("«60» * * * *", "minute 60 is out of range", "the minute goes from 0 to 59");
    refused("* «24» * * *", "hour 24 is out of range", "the hour goes from 0 to 23");
    refused("0 0 «0» * *", "day of month 0 is out of range", "the day of month goes from 1 to 31");
    refused("0 0 1-«32» * *", "day of month 32 is out of range", "the day of month goes from 1 to 31");
    refused("0 0 1 1,«13» *", "month 13 is out of range", "the month goes from 1 to 12");
    refused("0 0 * * «8»", "day of week 8 is out of range", "the day of week goes from 0 to 7");
    refused(
        "«99999999999999999999» * * * *",
        "minute 99999999999999999999 is out of range",
        "the minute goes from 0 to 59",
    );
}

#[test]
fn wrong_ranges_and_steps_are_refused_with_what_to_write() {
    refused("«10-5» * * * *", "the range `10-5` runs backwards", "to go on from the start, write `10-59,0-5`");
    refused("0 1,«22-2»/2 * * *", "the range `22-2` runs backwards", "to go on from the start, write `22-23,0-2`");
    refused("0 0 * * «5-0»", "the range `5-0` runs backwards", "Sunday at the end of a range is 7: write `5-7`");
    refused("0 0 * * «7-2»", "the range `7-2` runs backwards", "Sunday at the start of a range is 0: write `0-2`");
    refused("0 0 * * «fri-mon»", "the range `fri-mon` runs backwards", "to go on from the start, write `5-7,0-1`");
    refused("0 0 * «nov-feb» *", "the range `nov-feb` runs backwards", "to go on from the start, write `11-12,1-2`");
    refused("«0/10» * * * *", "`0/10` has a step but no range", "a step needs a range: write `0-59/10` or `*/10`");
    refused("1,«5/10» * * * *", "`5/10` has a step but no range", "a step needs a range: write `5-59/10`");
    refused("*/«0» * * * *", "a step of 0 never advances", "for every minute write `*`");
    refused("«*/» * * * *", "the step after `/` is missing", "");
    refused("«/5» * * * *", "the range before `/` is missing", "a step needs a range: write `*/5`");
    refused("*/«x» * * * *", "the step `x` is not a number", "");
    refused("*/«5/2» * * * *", "the step `5/2` is not a number", "");
    refused("«-5» * * * *", "the range `-5` lacks an end", "");
    refused("«5-» * * * *", "the range `5-` lacks an end", "");
    refused("0 «1,,2» * * *", "the list `1,,2` has an empty element", "");
    refused("0 «1,» * * *", "the list `1,` has an empty element", "");
}

#[test]
fn unknown_words_are_refused_with_what_was_meant() {
    refused("0 0 * * «monday»", "unknown day of week `monday`", "did you mean `mon`?");
    refused("0 0 * «Sept» *", "unknown month `Sept`", "did you mean `sep`?");
    refused("0 0 * «fab»,mar *", "unknown month `fab`", "did you mean `feb`?");
    refused("0 0 * * mon-«xyz»", "unknown day of week `xyz`", "the names are sun, mon, tue, wed, thu, fri, sat");
    refused("0 «mon» * * *", "unknown hour `mon`", "write a number from 0 to 23, or `*`");
    refused("0 0 * * «1.5»", "unknown day of week `1.5`", "write a number from 0 to 7, or `*`");
    refused("0 0 * * «µ»,1", "unknown day of week `µ`", "write a number from 0 to 7, or `*`");
    refused("1-«2-3» 0 * * *", "unknown minute `2-3`", "write a number from 0 to 59, or `*`");
    refused("«@dayly»", "unknown nickname `@dayly`", "did you mean `@daily`?");
    refused(" «@Hourly» ", "unknown nickname `@Hourly`", "did you mean `@hourly`?");
    refused(
        "«@often»",
        "unknown nickname `@often`",
        "the nicknames are @reboot @hourly @daily @midnight @weekly @monthly @yearly @annually",
    );
    refused("@daily «root run»", "nothing may follow `@daily`", "");
}

#[test]
fn the_syntax_of_other_schedulers_is_refused_by_name() {
    let nth = "cron cannot name the nth weekday of a month: list the days of the month, or start a script that decides";
    let last = "cron cannot name the last day: write a fixed day, such as the first of the next month";
    let nearest = "cron cannot name the nearest weekday: write days of the week, such as `mon-fri`";
    let random = "cron's random times change with each reading: write a fixed time, and spread hosts with `jitter`";
    let star = "`*` stands alone or before a step, as in `*/2`";
    refused("0 0 * * «5#2»", "unknown day of week `5#2`", nth);
    refused("0 0 «?» * 5", "unknown day of month `?`", "write `*`");
    refused("0 0 «L» * *", "unknown day of month `L`", last);
    refused("0 0 * * «5L»", "unknown day of week `5L`", last);
    refused("0 0 «15W» * *", "unknown day of month `15W`", nearest);
    refused("«0~30» 0 * * *", "unknown minute `0~30`", random);
    refused("«**» 0 * * *", "unknown minute `**`", star);
    refused("«*»-5 0 * * *", "unknown minute `*`", star);
}

#[test]
fn a_wrong_number_of_fields_is_refused() {
    let fields = "write five fields (minute, hour, day of month, month, day of week), as in `30 2 * * *`, or a nickname such as `@daily`";
    let seconds = "seconds are not part of cron, nor are years: leave them out";
    refused("«»", "the schedule is empty", fields);
    refused("«  \t»", "the schedule is empty", fields);
    refused(" «daily» ", "a schedule has five fields, this has 1 field", fields);
    refused(" «0 0 * *» ", "a schedule has five fields, this has 4 fields", fields);
    refused("«0 0 0 * * *» ", "a schedule has five fields, this has 6 fields", seconds);
    refused("«0 0 0 * * * 2028»", "a schedule has five fields, this has 7 fields", seconds);
}
