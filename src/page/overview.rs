//! All jobs of an instance.

use super::html::{Html, Segment, Shown, put};
use super::{Seen, parts::between};
use super::{parts, replicas};
use crate::human::count;
use crate::status::{JobStatus, State, Status};

/// With more jobs than this the last runs of each are left to its own page.
pub const STRIPS_MAX: usize = 60;

/// The content of the page.
pub fn overview(seen: &Seen<'_>) -> Html {
    let status = seen.status;
    let mut html = Html::default();
    put!(html, "<h1>{}</h1>\n", status.instance);
    put!(html, "<div id=\"sum\" class=\"sum\" role=\"status\" aria-live=\"polite\">");
    html.live("sum", |html| sum(html, status));
    put!(html, "</div>\n");
    if status.jobs.is_empty() {
        put!(html, "<p>This instance has no jobs.</p>\n");
        return html;
    }
    let strips = status.jobs.len() <= STRIPS_MAX;
    put!(
        html,
        "<table class=\"jobs\"><caption class=\"unseen\">Jobs</caption>\n<thead><tr><th scope=\"col\">Job<th scope=\"col\">State\
         <th scope=\"col\">Last result<th scope=\"col\">Last success<th scope=\"col\">Next run"
    );
    if strips {
        put!(html, "<th scope=\"col\">Lately");
    }
    put!(html, "</tr></thead>\n<tbody>\n");
    for (number, job) in status.jobs.iter().enumerate() {
        row(&mut html, number, job, strips, seen);
    }
    put!(html, "</tbody></table>\n");
    replicas::replicas(&mut html, seen.replicas, seen);
    let up = parts::rough(between(status.since, seen.at));
    put!(html, "<p class=\"quiet\" id=\"up\">");
    html.live("up", |html| put!(html, "Process {} has run for {}.", status.pid, up));
    put!(html, "</p>\n");
    html
}

/// Counts of states, the bad ones first.
fn sum(html: &mut Html, status: &Status) {
    let count_of = |test: &dyn Fn(&JobStatus) -> bool| status.jobs.iter().filter(|job| test(job)).count();
    let failed = count_of(&|job| job.last.as_ref().is_some_and(|last| last.outcome == "failed"));
    let waiting = count_of(&|job| matches!(job.state, State::Waiting { .. }));
    let running = count_of(&|job| matches!(job.state, State::Busy | State::Acting { .. }));
    let idle = count_of(&|job| matches!(job.state, State::Idle));
    let entries = [
        (failed, "failed last", "bad"),
        (waiting, "waiting", "wait"),
        (running, "running", "busy"),
        (idle, "idle", "idle"),
    ];
    put!(html, "<span>{}</span>", count(status.jobs.len() as u64, "job", "jobs"));
    for (n, word, class) in entries.into_iter().filter(|(n, ..)| *n > 0) {
        put!(html, " <b class=\"{}\">{} {}</b>", class, n, word);
    }
}

fn row(html: &mut Html, number: usize, job: &JobStatus, strips: bool, seen: &Seen<'_>) {
    put!(html, "<tr id=\"j{}\">", number);
    html.live(&format!("j{number}"), |html| {
        put!(html, "<th scope=\"row\"><a href=\"/jobs/{}\">{}</a>", Segment(&job.job), job.job);
        put!(html, "<td>");
        match job.run {
            Some(run) => {
                put!(html, "<a href=\"/runs/{}\">", run);
                parts::badge(html, parts::state(job));
                put!(html, "</a>");
            }
            None => parts::badge(html, parts::state(job)),
        }
        parts::doing(html, job, seen);
        put!(html, "<td>");
        last(html, job, seen);
        put!(html, "<td>");
        match job.last_success {
            Some(at) => parts::plain_ago(html, at, seen),
            None => put!(html, "<span class=\"quiet\">never</span>"),
        }
        put!(html, "<td>");
        match job.next_run {
            Some(at) => parts::plain_time(html, at, seen),
            None => put!(html, "<span class=\"quiet\">none</span>"),
        }
        if strips {
            put!(html, "<td>");
            parts::strip(html, seen.recent.get(&job.job).map_or(&[], Vec::as_slice));
        }
    });
    put!(html, "</tr>\n");
}

/// How it ended last: in this process, else as the history has it.
fn last(html: &mut Html, job: &JobStatus, seen: &Seen<'_>) {
    let before = seen.recent.get(&job.job).into_iter().flatten().find(|run| run.outcome != "running");
    let (word, run, at, detail) = match (&job.last, before) {
        (Some(last), _) => (last.outcome.as_str(), last.run, last.at, last.detail.as_deref()),
        (None, Some(run)) => {
            let number = run.run.and_then(|run| u64::try_from(run).ok());
            (run.outcome.as_str(), number, run.ended.unwrap_or(run.started), run.detail.as_deref())
        }
        (None, None) => {
            put!(html, "<span class=\"quiet\">none yet</span>");
            return;
        }
    };
    match run {
        Some(run) => {
            put!(html, "<a href=\"/runs/{}\">", run);
            parts::badge(html, parts::outcome(word));
            put!(html, "</a>");
        }
        None => parts::badge(html, parts::outcome(word)),
    }
    // That of a success stands beside it.
    if word != "succeeded" {
        put!(html, " <small>");
        parts::plain_ago(html, at, seen);
        put!(html, "</small>");
    }
    if let Some(detail) = detail.filter(|_| word != "succeeded") {
        put!(html, "<p class=\"note\">{}</p>", Shown(shortened(detail)));
    }
}

/// At most so much of a reason that a table stays one.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 160;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
