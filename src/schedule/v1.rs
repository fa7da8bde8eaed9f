//! How RsyncDirector 1.x read the day fields, for the warning to those who upgrade.
//!
//! It used APScheduler 3's `CronTrigger.from_crontab`: weekdays are numbered from Monday = 0 to 6, a range of names goes
//! from Monday to Sunday, and what follows a name's range (a step) is ignored. The month and the two day fields are
//! always joined with "and".

use super::cron::{Cron, DayRule, longest, members};
use super::field::Item;

/// Names of the weekdays from Sunday = 0, as they may stand in an expression.
const NAMES: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The weekdays that version 1 read (bit 0 is Sunday, as everywhere here), or `None` if it refused the field.
pub(super) fn weekdays(items: &[Item]) -> Option<u64> {
    let from_monday = items.iter().try_fold(0, |days, &item| Some(days | item_from_monday(item)?))?;
    Some((from_monday << 1 | from_monday >> 6) & 0x7f)
}

/// One item's weekdays, bit 0 being Monday.
fn item_from_monday(item: Item) -> Option<u64> {
    let (from, to, step) = match item {
        Item::Star { step } => (0, 6, step),
        Item::Range { from, to, .. } if from.named => {
            let of_name = |number| (number + 6) % 7;
            let last = if to.named { to } else { from };
            (of_name(from.number), of_name(last.number), 1)
        }
        Item::Range { to, .. } if to.named => return None,
        Item::Range { from, to, step } => (from.number, to.number, step),
    };
    let refused = to > 6 || from > to || step > 1 && step > to - from;
    (!refused).then(|| (from..=to).step_by(step as usize).fold(0, |days, day| days | 1 << day))
}

/// As [`Schedule::meant_otherwise_in_v1`](super::Schedule::meant_otherwise_in_v1).
pub(super) fn meant_otherwise(cron: &Cron) -> Option<String> {
    let here = list(cron.weekdays);
    let Some(v1_weekdays) = cron.v1_weekdays else {
        return Some(format!("RsyncDirector 1.x refused this day of week, which here is {here}"));
    };
    let v1 = Cron { weekdays: v1_weekdays, day_rule: DayRule::Both, ..cron.clone() };
    if same_days(cron, &v1) {
        return None;
    }
    let numbered = (v1_weekdays != cron.weekdays).then(|| {
        let there = list(v1_weekdays);
        format!("RsyncDirector 1.x, which counted weekdays from Monday = 0, ran on {there} where this says {here}")
    });
    let joined = (cron.day_rule == DayRule::Either).then(|| {
        "RsyncDirector 1.x ran on days that match both day fields, here a day that matches either of them counts"
            .to_owned()
    });
    Some([numbered, joined].into_iter().flatten().collect::<Vec<_>>().join("; "))
}

/// Whether both name the same days of every year.
fn same_days(a: &Cron, b: &Cron) -> bool {
    (1..=12).all(|month| {
        (1..=longest(month)).all(|day| {
            (0..7).all(|weekday| {
                a.matches_day(month as i8, day as i8, weekday) == b.matches_day(month as i8, day as i8, weekday)
            })
        })
    })
}

/// `mon, wed`, from Monday to Sunday.
fn list(weekdays: u64) -> String {
    let from_monday = weekdays >> 1 | (weekdays & 1) << 6;
    members(from_monday).map(|day| NAMES[(day as usize + 1) % 7]).collect::<Vec<_>>().join(", ")
}
