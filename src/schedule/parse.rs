//! From text to [`Schedule`]: nicknames, the number of fields, and what the five fields mean together.

use super::cron::{Cron, DayRule, Pace};
use super::field::{FIELDS, FieldKind, Item, Piece, similar};
use super::{Schedule, ScheduleError, v1};

/// The nicknames of `crontab(5)` and the fields that each stands for. Sunday by name, since that meant the same in
/// RsyncDirector 1.x.
const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * sun"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

pub(super) fn parse(expr: &str) -> Result<Schedule, ScheduleError> {
    let whole = Piece { text: expr, start: 0 };
    let words: Vec<Piece> = whole.split_space().collect();
    match words[..] {
        [] => Err(whole.error("the schedule is empty".to_owned(), help_fields())),
        [word] if word.text == "@reboot" => Ok(Schedule::Reboot),
        [word] if word.text.starts_with('@') => nickname(word),
        [first, ..] if first.text.starts_with('@') => {
            let rest = Piece { text: expr[first.span().end..].trim_ascii(), start: words[1].start };
            Err(rest.error(format!("nothing may follow `{}`", first.text), None))
        }
        [minute, hour, day, month, weekday] => five_fields([minute, hour, day, month, weekday]).map(Schedule::Cron),
        [first, .., last] => {
            Err(wrong_count(words.len(), Piece { text: &expr[first.start..last.span().end], ..first }))
        }
        [only] => Err(wrong_count(1, only)),
    }
}

fn nickname(word: Piece) -> Result<Schedule, ScheduleError> {
    if let Some((_, fields)) = NICKNAMES.iter().find(|(name, _)| *name == word.text) {
        return parse(fields);
    }
    let names = NICKNAMES.map(|(name, _)| name);
    let all = [&["@reboot"], &names[..]].concat();
    let help = match similar(word.text, &all) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("the nicknames are {}", all.join(" ")),
    };
    Err(word.error(format!("unknown nickname `{}`", word.text), help))
}

fn five_fields(fields: [Piece; 5]) -> Result<Cron, ScheduleError> {
    let [minute, hour, day, month, weekday] = fields;
    let [minutes, hours, days, months] = [(0, minute), (1, hour), (2, day), (3, month)]
        .map(|(index, field)| FIELDS[index].parse(field).map(|items| union(&items, &FIELDS[index])));
    let (minutes, hours, days, months) = (minutes?, hours?, days?, months?);
    let weekday_items = FIELDS[4].parse(weekday)?;
    let starts_with_star = |field: Piece| field.text.starts_with('*');
    let either_star = |a, b| starts_with_star(a) || starts_with_star(b);
    Ok(Cron {
        minutes,
        hours,
        days,
        months,
        weekdays: sunday_is_zero(union(&weekday_items, &FIELDS[4])),
        day_rule: if either_star(day, weekday) { DayRule::Both } else { DayRule::Either },
        pace: if either_star(minute, hour) { Pace::WallClock } else { Pace::FixedTimes },
        v1_weekdays: v1::weekdays(&weekday_items),
    })
}

fn union(items: &[Item], kind: &FieldKind) -> u64 {
    items.iter().fold(0, |bits, item| bits | item.bits(kind))
}

/// Moves day 7 to day 0.
fn sunday_is_zero(weekdays: u64) -> u64 {
    (weekdays | weekdays >> 7) & 0x7f
}

fn wrong_count(count: usize, all: Piece) -> ScheduleError {
    let help = match count {
        6 | 7 => "seconds are not part of cron, nor are years: leave them out".to_owned(),
        _ => help_fields(),
    };
    let fields = if count == 1 { "field" } else { "fields" };
    all.error(format!("a schedule has five fields, this has {count} {fields}"), help)
}

fn help_fields() -> String {
    let names = FIELDS.each_ref().map(|kind| kind.name).join(", ");
    format!("write five fields ({names}), as in `30 2 * * *`, or a nickname such as `@daily`")
}
