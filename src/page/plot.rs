//! Small pictures: how long runs took and what they moved, when they were, and the phases of one.
//!
//! Each has a text beside it that says the same; a bar's own words are its `title`.

use std::time::Duration;

use super::Seen;
use super::html::{Decimal, Html, put};
use super::parts::{self, between, outcome};
use crate::history::read::JobRun;
use crate::human;

/// Width of every plot in the units of its view box; the style sheet stretches it.
const WIDTH: f64 = 600.0;
/// Height of the bars of runs.
const HEIGHT: f64 = 72.0;
/// So many colours are there for phases in the style sheet.
const COLOURS: usize = 6;

/// A bar for each run, the oldest at the left.
pub(super) fn bars(
    html: &mut Html,
    title: &'static str,
    runs: &[JobRun],
    seen: &Seen<'_>,
    value: impl Fn(&JobRun) -> Option<f64>,
    say: impl Fn(f64) -> String,
) {
    let values = runs.iter().filter_map(&value);
    let most = values.clone().fold(0.0, f64::max);
    let number = human::count(values.count() as u64, "run", "runs");
    put!(html, "<figure><figcaption><b>{}</b> of the last {}, at most {}</figcaption>", title, number, say(most));
    put!(
        html,
        "<svg class=\"plot\" viewBox=\"0 0 {} {}\" preserveAspectRatio=\"none\" aria-hidden=\"true\">",
        Decimal(WIDTH),
        Decimal(HEIGHT)
    );
    let step = WIDTH / runs.len().max(24) as f64;
    for (index, run) in runs.iter().rev().enumerate() {
        let Some(value) = value(run) else { continue };
        let mark = outcome(&run.outcome);
        let height = if most > 0.0 { (value / most * HEIGHT).max(2.0) } else { 2.0 };
        put!(
            html,
            "<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"><title>{}: {}, {}</title></rect>",
            mark.class,
            Decimal(index as f64 * step + step * 0.12),
            Decimal(HEIGHT - height),
            Decimal(step * 0.76),
            Decimal(height),
            parts::stamp(run.started, seen),
            say(value),
            mark.word
        );
    }
    put!(html, "</svg></figure>\n");
}

/// The runs on a line of time, up to now.
pub(super) fn timeline(html: &mut Html, runs: &[JobRun], seen: &Seen<'_>) {
    let Some(first) = runs.last() else { return };
    let whole = between(first.started, seen.at).as_secs_f64().max(1.0);
    let place = |at| between(first.started, at).as_secs_f64() / whole * WIDTH;
    put!(html, "<figure><figcaption><b>Timeline</b> from ");
    parts::time(html, first.started, seen);
    put!(html, " to now</figcaption>");
    put!(
        html,
        "<svg class=\"plot line-plot\" viewBox=\"0 0 {} 24\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
         <rect class=\"ground\" x=\"0\" y=\"11\" width=\"{}\" height=\"2\"/>",
        Decimal(WIDTH),
        Decimal(WIDTH)
    );
    for run in runs.iter().rev() {
        let mark = outcome(&run.outcome);
        let end = run.ended.unwrap_or(if run.outcome == "running" { seen.at } else { run.started });
        let width = (place(end) - place(run.started)).max(3.0);
        // What did not succeed reaches higher, so that it is seen without its colour.
        let (y, height) = if mark.class == "good" || mark.class == "busy" { (6.0, 12.0) } else { (0.0, 24.0) };
        put!(
            html,
            "<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"><title>{}: {}</title></rect>",
            mark.class,
            Decimal(place(run.started).min(WIDTH - width)),
            Decimal(y),
            Decimal(width),
            Decimal(height),
            parts::stamp(run.started, seen),
            mark.word
        );
    }
    put!(html, "</svg></figure>\n");
}

/// A part of a run's time.
pub(super) struct Phase {
    pub name: String,
    pub lasted: Duration,
}

/// The phases of a run as parts of one bar, with their names and durations below.
pub(super) fn phases(html: &mut Html, phases: &[Phase]) {
    let whole: f64 = phases.iter().map(|phase| phase.lasted.as_secs_f64()).sum();
    if phases.is_empty() {
        return;
    }
    put!(
        html,
        "<div class=\"phases\"><svg viewBox=\"0 0 {} 16\" preserveAspectRatio=\"none\" aria-hidden=\"true\">",
        Decimal(WIDTH)
    );
    let mut x = 0.0;
    for (index, phase) in phases.iter().enumerate() {
        let width = if whole > 0.0 { phase.lasted.as_secs_f64() / whole * WIDTH } else { WIDTH / phases.len() as f64 };
        put!(
            html,
            "<rect class=\"p{}\" x=\"{}\" y=\"0\" width=\"{}\" height=\"16\"/>",
            index % COLOURS,
            Decimal(x),
            Decimal((width - 1.5).max(0.5))
        );
        x += width;
    }
    put!(html, "</svg><ol>");
    for (index, phase) in phases.iter().enumerate() {
        put!(
            html,
            "<li><svg class=\"key\" viewBox=\"0 0 8 8\" aria-hidden=\"true\"><rect class=\"p{}\" width=\"8\" height=\"8\" rx=\"2\"/></svg>\
             {} <b>{}</b></li>",
            index % COLOURS,
            phase.name,
            human::duration(phase.lasted)
        );
    }
    put!(html, "</ol></div>\n");
}
