//! One run: its jobs with their phases, actions, command lines and what those printed.

use std::time::Duration;

use super::Seen;
use super::html::{Html, Segment, Shown, put};
use super::job::bytes;
use super::parts::{self, between};
use super::plot::{self, Phase};
use crate::history::read::{ActionRun, JobRun};
use crate::human;
use crate::status::{JobStatus, State, WaitsOn};

/// A run.
pub struct RunView {
    /// Its number.
    pub run: i64,
    /// Its jobs, in the order in which they began.
    pub jobs: Vec<RunJob>,
}

/// A job of the run.
pub struct RunJob {
    /// How it went.
    pub job: JobRun,
    /// Its actions, in order.
    pub actions: Vec<ActionView>,
}

/// An action of the job.
pub struct ActionView {
    /// How it went.
    pub action: ActionRun,
    /// The last lines that it printed.
    pub lines: Vec<Line>,
    /// Whether there are more, which the whole log has.
    pub more: bool,
}

/// A line that an action printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Whether to standard error.
    pub is_error: bool,
    /// What.
    pub text: String,
}

/// The content of the page.
pub fn run(view: &RunView, seen: &Seen<'_>) -> Html {
    let mut html = Html::default();
    put!(html, "<p class=\"way\"><a href=\"/\">{}</a> /</p>\n", seen.status.instance);
    match view.jobs.first() {
        Some(first) => {
            put!(html, "<h1>Run of {}</h1>\n", parts::stamp(first.job.started, seen));
            let jobs = human::count(view.jobs.len() as u64, "job", "jobs");
            put!(html, "<p class=\"lead\">Number {}, started by {}, {}</p>\n", view.run, first.job.trigger, jobs);
        }
        None => put!(html, "<h1>Run {}</h1>\n<p class=\"lead\">It has just begun.</p>\n", view.run),
    }
    // What a screen reader is told while it goes on.
    put!(html, "<p class=\"unseen\" id=\"all\" role=\"status\">");
    html.live("all", |html| {
        let open = view.jobs.iter().filter(|job| job.job.outcome == "running").count();
        put!(html, "{} of {} jobs under way", open, view.jobs.len());
    });
    put!(html, "</p>\n<div id=\"jobs\">\n");
    for (number, job) in view.jobs.iter().enumerate() {
        section(&mut html, number, job, seen);
    }
    put!(html, "</div>\n");
    html
}

fn section(html: &mut Html, number: usize, run_job: &RunJob, seen: &Seen<'_>) {
    let job = &run_job.job;
    put!(html, "<section class=\"card\" aria-labelledby=\"n{}\"><h2 id=\"n{}\">", number, number);
    put!(html, "<a href=\"/jobs/{}\">{}</a></h2>\n", Segment(&job.job), job.job);
    put!(html, "<div id=\"s{}\">", number);
    html.live(&format!("s{number}"), |html| summary(html, run_job, seen));
    put!(html, "</div>\n");
    for (index, action) in run_job.actions.iter().enumerate() {
        let id = format!("a{number}-{index}");
        put!(html, "<div id=\"{}\">", id);
        html.live(&id, |html| self::action(html, action, &id));
        put!(html, "</div>\n");
        let id = format!("l{number}-{index}");
        put!(html, "<div id=\"{}\">", id);
        html.live(&id, |html| log(html, action));
        put!(html, "</div>\n");
    }
    put!(html, "</section>\n");
}

fn summary(html: &mut Html, run_job: &RunJob, seen: &Seen<'_>) {
    let job = &run_job.job;
    put!(html, "<p>");
    parts::badge(html, parts::outcome(&job.outcome));
    match job.ended {
        Some(ended) => put!(html, " in {}", human::duration(between(job.started, ended))),
        None if job.outcome == "running" => put!(html, " for {}", parts::lasting(between(job.started, seen.at))),
        None => {}
    }
    if let Some(detail) = &job.detail {
        put!(html, ": {}", *detail);
    }
    put!(html, "</p>");
    if let Some(now) = under_way(job, seen) {
        if let State::Waiting { .. } = now.state {
            parts::badge(html, parts::state(now));
        }
        parts::doing(html, now, seen);
    }
    plot::phases(html, &phases(run_job, seen));
}

/// How the job stands now, if it is still in that run.
fn under_way<'a>(job: &JobRun, seen: &Seen<'a>) -> Option<&'a JobStatus> {
    let is_this = |now: &&JobStatus| now.job == job.job && now.run.and_then(|run| i64::try_from(run).ok()) == job.run;
    seen.status.jobs.iter().find(is_this).filter(|_| job.outcome == "running")
}

/// How a job of a run spent its time. What lies between the parts, milliseconds, is left out.
fn phases(run_job: &RunJob, seen: &Seen<'_>) -> Vec<Phase> {
    let job = &run_job.job;
    let waited = [("blocked", job.blocked_ms), ("locking", job.locking_ms)];
    let waited = waited.into_iter().filter_map(|(name, ms)| {
        let ms = u64::try_from(ms?).ok()?;
        Some(Phase { name: name.to_owned(), lasted: Duration::from_millis(ms) })
    });
    let waits = under_way(job, seen).and_then(|now| match &now.state {
        State::Waiting { on: WaitsOn::Block, since, .. } => Some(("blocked", since)),
        State::Waiting { on: WaitsOn::Lock, since, .. } => Some(("locking", since)),
        _ => None,
    });
    let waits = waits.map(|(name, since)| Phase { name: name.to_owned(), lasted: between(*since, seen.at) });
    let acted = run_job.actions.iter().map(|view| {
        let action = &view.action;
        let end = action.ended.unwrap_or(if action.outcome == "running" { seen.at } else { action.started });
        Phase { name: action.action.clone(), lasted: between(action.started, end) }
    });
    waited.chain(waits).chain(acted).collect()
}

fn action(html: &mut Html, view: &ActionView, id: &str) {
    let action = &view.action;
    put!(html, "<h3 id=\"{}-name\">{} ", id, action.action);
    parts::badge(html, parts::outcome(&action.outcome));
    put!(html, "</h3>");
    let mut facts = Vec::new();
    if let Some(ended) = action.ended {
        facts.push(format!("took {}", human::duration(between(action.started, ended))));
    }
    match (action.exit_code, action.signal) {
        (Some(code), _) => facts.push(format!("exit code {code}")),
        (None, Some(signal)) => facts.push(format!("ended by signal {signal}")),
        _ => {}
    }
    if action.retries > 0 {
        facts.push(human::count(action.retries.unsigned_abs(), "retry", "retries"));
    }
    if let Some(stats) = &action.stats {
        let files = human::count(stats.transferred.unsigned_abs(), "file", "files");
        facts.push(format!("{files} of {} transferred, {}", stats.files, bytes(stats.transferred_bytes)));
        if stats.deleted > 0 {
            facts.push(format!("{} deleted", stats.deleted));
        }
        facts.push(format!("sent {}, received {}", bytes(stats.sent_bytes), bytes(stats.received_bytes)));
    }
    if !facts.is_empty() {
        put!(html, "<p class=\"note\">{}</p>", facts.join(" · "));
    }
    if let Some(message) = action.message.as_deref().filter(|message| !message.is_empty()) {
        put!(html, "<p class=\"why\">{}</p>", Shown(message));
    }
    if !action.command.is_empty() {
        put!(
            html,
            "<pre class=\"command\" tabindex=\"0\" role=\"region\" aria-label=\"Command line\"><code>{}</code></pre>",
            action.command
        );
    }
}

fn log(html: &mut Html, view: &ActionView) {
    if view.lines.is_empty() {
        put!(html, "<p class=\"quiet\">It has printed nothing.</p>");
        return;
    }
    if view.more {
        put!(
            html,
            "<p class=\"note\">The last {} lines; <a href=\"/logs/{}\">all that was kept</a></p>",
            view.lines.len(),
            view.action.id
        );
    }
    put!(html, "<pre class=\"log\" tabindex=\"0\" role=\"region\" aria-label=\"What {} printed\">", view.action.action);
    for line in &view.lines {
        match line.is_error {
            true => put!(html, "<em>{}</em>\n", line.text),
            false => put!(html, "{}\n", line.text),
        }
    }
    put!(html, "</pre>");
}
