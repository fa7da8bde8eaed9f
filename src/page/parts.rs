//! What the pages share: states, times, progress.

use std::time::Duration;

use jiff::Timestamp;

use super::html::{Html, put};
use super::{Moved, Seen};
use crate::history::read::Outcome;
use crate::human;
use crate::status::{JobStatus, Progress, State, WaitsOn};

/// A state or an outcome: its word, its sign, and its class in the style sheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub word: &'static str,
    pub sign: &'static str,
    pub class: &'static str,
}

pub(super) const fn mark(word: &'static str, sign: &'static str, class: &'static str) -> Mark {
    Mark { word, sign, class }
}

/// The mark of an outcome in the history.
pub(super) fn outcome(word: &str) -> Mark {
    match word {
        "succeeded" => mark("succeeded", "✓", "good"),
        "failed" => mark("failed", "✕", "bad"),
        "skipped" => mark("skipped", "–", "warn"),
        "missed" => mark("missed", "?", "lost"),
        "interrupted" => mark("interrupted", "!", "cut"),
        "running" => mark("running", "▸", "busy"),
        _ => mark("ended", "·", "idle"),
    }
}

/// The mark of what a job does.
pub(super) fn state(job: &JobStatus) -> Mark {
    match &job.state {
        State::Idle if job.paused.is_some() => mark("paused", "‖", "wait"),
        State::Pending { .. } => mark("queued", "‖", "wait"),
        State::Idle => mark("idle", "·", "idle"),
        State::Busy | State::Acting { .. } => mark("running", "▸", "busy"),
        State::Waiting { on: WaitsOn::Block, .. } => mark("blocked", "‖", "wait"),
        State::Waiting { on: WaitsOn::Lock, .. } => mark("waits for a lock", "‖", "wait"),
    }
}

/// A word with its sign, which the style sheet puts before it by its class.
pub(super) fn badge(html: &mut Html, mark: Mark) {
    put!(html, "<b class=\"{}\">{}</b>", mark.class, mark.word);
}

/// `2026-11-21 02:00:05`, in the zone.
pub(super) fn stamp(at: Timestamp, seen: &Seen<'_>) -> String {
    at.to_zoned(seen.zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// `21 Nov 02:00`, in the zone; with the year where that is another.
fn short(at: Timestamp, seen: &Seen<'_>) -> String {
    let (then, now) = (at.to_zoned(seen.zone.clone()), seen.at.to_zoned(seen.zone.clone()));
    let format = if then.date() == now.date() {
        "%H:%M"
    } else if then.year() == now.year() {
        "%-d %b %H:%M"
    } else {
        "%-d %b %Y"
    };
    then.strftime(format).to_string()
}

/// A moment as people say it, without its precise form, for a page with many.
pub(super) fn plain_time(html: &mut Html, at: Timestamp, seen: &Seen<'_>) {
    put!(html, "{}", short(at, seen));
}

/// `3 h ago`, the same way.
pub(super) fn plain_ago(html: &mut Html, at: Timestamp, seen: &Seen<'_>) {
    put!(html, "{} ago", rough(between(at, seen.at)));
}

/// A moment as people say it, with its precise form behind it.
pub(super) fn time(html: &mut Html, at: Timestamp, seen: &Seen<'_>) {
    put!(html, "<time datetime=\"{}\">{}</time>", iso(at), short(at, seen));
}

/// `3 h ago`.
pub(super) fn ago(html: &mut Html, at: Timestamp, seen: &Seen<'_>) {
    put!(html, "<time datetime=\"{}\">{} ago</time>", iso(at), rough(between(at, seen.at)));
}

/// `in 3 h`.
pub(super) fn ahead(html: &mut Html, at: Timestamp, seen: &Seen<'_>) {
    let left = rough(between(seen.at, at));
    put!(html, "<time datetime=\"{}\">in {}</time>", iso(at), left);
}

fn iso(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// The time from one moment to a later one; zero if it is none.
pub(super) fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// A duration with one unit, for what nobody needs to know precisely.
pub(super) fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => "1 s".to_owned(),
        1..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => human::count(seconds / 86_400, "day", "days"),
    }
}

/// A duration in whole seconds, if it is longer than some.
pub(super) fn lasting(duration: Duration) -> String {
    match duration.as_secs() {
        0..10 => human::duration(duration),
        seconds => human::duration(Duration::from_secs(seconds)),
    }
}

/// What a job does, with all that is known of it: the action, how far it is, what it waits for and whose that is.
pub(super) fn doing(html: &mut Html, job: &JobStatus, seen: &Seen<'_>) {
    match &job.state {
        State::Idle | State::Busy => {
            if let Some(since) = job.paused {
                put!(html, "<p class=\"note\">its schedule is paused since {}</p>", short(since, seen));
            }
        }
        State::Pending { since } => {
            put!(html, "<p class=\"note\">for {}, behind what runs</p>", rough(between(*since, seen.at)));
        }
        State::Waiting { file, obstacle, since, .. } => {
            let waited = rough(between(*since, seen.at));
            put!(html, "<p class=\"note\">for {}: <code>{}</code> {}</p>", waited, *file, *obstacle);
        }
        State::Acting { action, since, progress, .. } => {
            let moved = seen.moved.get(&job.job).copied();
            acting(html, job, action, between(*since, seen.at), (*progress, moved), seen);
        }
    }
}

fn acting(
    html: &mut Html,
    job: &JobStatus,
    action: &str,
    lasted: Duration,
    (progress, moved): (Option<Progress>, Option<Moved>),
    seen: &Seen<'_>,
) {
    let usual = usual(seen.recent.get(&job.job).map_or(&[], Vec::as_slice));
    let run_for = job.since.map_or(lasted, |since| between(since, seen.at));
    let (share, left) = match (&progress, usual) {
        (Some(known), _) => (Some(f64::from(known.percent.min(100))), by_rate(known)),
        // The job as a whole, by how long it took before.
        (None, Some(usual)) if usual > run_for => {
            (Some(100.0 * run_for.as_secs_f64() / usual.as_secs_f64()), Some(usual - run_for))
        }
        _ => (None, None),
    };
    match (share, &progress) {
        (Some(share), Some(_)) => {
            let share = share as u32;
            put!(html, "<progress max=\"100\" value=\"{}\" aria-label=\"{}\">{} %</progress>", share, action, share);
        }
        (Some(share), None) => {
            let share = share as u32;
            put!(
                html,
                "<progress class=\"guess\" max=\"100\" value=\"{}\" aria-label=\"{}, by its usual time\">about {} %</progress>",
                share,
                action,
                share
            );
        }
        _ => put!(html, "<progress max=\"100\" aria-label=\"{}\">under way</progress>", action),
    }
    put!(html, "<p class=\"note\"><b>{}</b> ", action);
    if let Some(known) = &progress {
        put!(html, "{} % · ", known.percent.min(100));
    }
    let bytes = progress.map(|p| p.bytes).or(moved.map(|moved| moved.bytes));
    if let Some(bytes) = bytes.filter(|bytes| *bytes > 0) {
        put!(html, "{} ", human::bytes(bytes));
    }
    let rate = progress.map(|p| p.rate).or(moved.and_then(|moved| moved.rate));
    if let Some(rate) = rate {
        put!(html, "at {}/s ", human::bytes(rate));
    }
    put!(html, "· for {}", rough(lasted));
    match left {
        Some(left) if progress.is_some() => put!(html, " · {} left", rough(left)),
        Some(left) => put!(html, " · about {} left, by its usual time", rough(left)),
        None => {}
    }
    put!(html, "</p>");
}

/// The time that an rsync still needs at its present rate; not told of one at its end, where rsync counts beyond 100 % what it sends again.
fn by_rate(progress: &Progress) -> Option<Duration> {
    if progress.rate == 0 || progress.percent == 0 || progress.percent >= 100 {
        return None;
    }
    let whole = progress.bytes as f64 * 100.0 / f64::from(progress.percent);
    Duration::try_from_secs_f64((whole - progress.bytes as f64) / progress.rate as f64).ok()
}

/// How long a job usually takes: the median of its last successes, of which there must be three.
fn usual(recent: &[Outcome]) -> Option<Duration> {
    let mut took: Vec<Duration> = recent
        .iter()
        .filter(|run| run.outcome == "succeeded")
        .filter_map(|run| run.ended.map(|ended| between(run.started, ended)))
        .collect();
    took.sort();
    (took.len() >= 3).then(|| took[took.len() / 2])
}

/// The last runs as signs, the oldest first.
pub(super) fn strip(html: &mut Html, recent: &[Outcome]) {
    if recent.is_empty() {
        put!(html, "<span class=\"quiet\">no runs yet</span>");
        return;
    }
    let good = recent.iter().filter(|run| run.outcome == "succeeded").count();
    put!(html, "<span class=\"strip\" role=\"img\" aria-label=\"{} of the last {} succeeded\">", good, recent.len());
    for run in recent.iter().rev() {
        let mark = outcome(&run.outcome);
        put!(html, "<i class=\"{}\">{}</i>", mark.class, mark.sign);
    }
    put!(html, "</span>");
}
