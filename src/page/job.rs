//! One job: what it does, its runs, its files, and who else uses them.

use super::Seen;
use super::html::{Html, Segment, Shown, put};
use super::parts::{self, between};
use super::{plot, replicas};
use crate::history::read::JobRun;
use crate::human;
use crate::status::JobStatus;

/// What the page tells beside the status.
pub struct JobView<'a> {
    /// How the job stands.
    pub job: &'a JobStatus,
    /// Its schedule, as written.
    pub schedule: &'a str,
    /// Its actions' ids.
    pub actions: Vec<&'a str>,
    /// Its runs, the newest first.
    pub runs: &'a [JobRun],
    /// Its lock files and blocks.
    pub files: Vec<FileRow>,
}

/// A lock file or a block of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRow {
    /// `lock` or `block`.
    pub role: &'static str,
    /// `host:path`.
    pub file: String,
    /// Who has it, for people.
    pub holder: String,
    /// Whether that is in the way of the job.
    pub in_the_way: bool,
    /// The other jobs of the instance that lock it or wait for it.
    pub shared_with: Vec<String>,
}

/// The content of the page.
pub fn job(view: &JobView<'_>, seen: &Seen<'_>) -> Html {
    let mut html = Html::default();
    let job = view.job;
    put!(html, "<p class=\"way\"><a href=\"/\">{}</a> /</p>\n<h1>{}</h1>\n", seen.status.instance, job.job);
    // The state's word is an element of its own: a screen reader says it when it changes, not with each look at the progress.
    put!(html, "<div class=\"card\" role=\"group\" aria-label=\"State\"><p class=\"big\" id=\"word\" role=\"status\">");
    html.live("word", |html| parts::badge(html, parts::state(job)));
    put!(html, "</p><div id=\"state\">");
    html.live("state", |html| {
        state(html, job, seen);
        facts(html, view, seen);
    });
    put!(html, "</div></div>\n");
    if !view.files.is_empty() {
        put!(html, "<h2>Locks and blocks</h2>\n<div id=\"files\">");
        html.live("files", |html| files(html, &view.files));
        put!(html, "</div>\n");
    }
    replicas::replicas(&mut html, seen.replicas, seen);
    put!(html, "<h2>Runs</h2>\n<div id=\"runs\">");
    html.live("runs", |html| runs(html, view.runs, seen));
    put!(html, "</div>\n");
    html
}

fn state(html: &mut Html, job: &JobStatus, seen: &Seen<'_>) {
    if let Some(run) = job.run {
        let trigger = job.trigger.as_deref().unwrap_or("somebody");
        put!(html, "<p><a href=\"/runs/{}\">This run</a> <small>started by {}</small></p>", run, trigger);
    }
    parts::doing(html, job, seen);
}

fn facts(html: &mut Html, view: &JobView<'_>, seen: &Seen<'_>) {
    let job = view.job;
    put!(html, "<dl class=\"facts\"><div><dt>Schedule<dd><code>{}</code></div>", view.schedule);
    put!(html, "<div><dt>Next run<dd>");
    match job.next_run {
        Some(at) => {
            parts::time(html, at, seen);
            put!(html, " <small>");
            parts::ahead(html, at, seen);
            put!(html, "</small>");
        }
        None => put!(html, "none"),
    }
    put!(html, "</div><div><dt>Last success<dd>");
    match job.last_success {
        Some(at) => {
            parts::time(html, at, seen);
            put!(html, " <small>");
            parts::ago(html, at, seen);
            put!(html, "</small>");
        }
        None => put!(html, "never"),
    }
    put!(html, "</div><div><dt>Actions<dd>{}</div></dl>", view.actions.join(" → "));
}

fn files(html: &mut Html, files: &[FileRow]) {
    put!(
        html,
        "<table class=\"files\"><caption class=\"unseen\">Lock files and blocks</caption><thead><tr><th scope=\"col\">File\
         <th scope=\"col\">Is its<th scope=\"col\">Held by<th scope=\"col\">Shared with</tr></thead><tbody>"
    );
    for file in files {
        let class = if file.in_the_way { "wait" } else { "idle" };
        put!(
            html,
            "<tr><th scope=\"row\"><code>{}</code><td data-of=\"role\">{}<td data-of=\"held by\">",
            file.file,
            file.role
        );
        put!(html, "<b class=\"{}\">{}</b>", class, file.holder);
        put!(html, "<td data-of=\"shared with\">");
        if file.shared_with.is_empty() {
            put!(html, "<span class=\"quiet\">no other job</span>");
        }
        for (index, other) in file.shared_with.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            put!(html, "{}<a href=\"/jobs/{}\">{}</a>", comma, Segment(other), *other);
        }
        put!(html, "</tr>");
    }
    put!(html, "</tbody></table>");
}

fn runs(html: &mut Html, runs: &[JobRun], seen: &Seen<'_>) {
    if runs.is_empty() {
        put!(html, "<p class=\"quiet\">It has not run yet.</p>");
        return;
    }
    if runs.iter().filter(|run| run.ended.is_some()).count() > 1 {
        plots(html, runs, seen);
    }
    table(html, runs, seen);
}

/// One run alone makes no picture.
fn plots(html: &mut Html, runs: &[JobRun], seen: &Seen<'_>) {
    put!(html, "<div class=\"plots\">");
    plot::timeline(html, runs, seen);
    let lasted = |run: &JobRun| run.ended.map(|ended| between(run.started, ended).as_secs_f64());
    plot::bars(html, "Duration", runs, seen, lasted, |seconds| {
        human::duration(std::time::Duration::from_secs_f64(seconds))
    });
    if runs.iter().any(|run| run.transferred_bytes > 0) {
        let bytes = |run: &JobRun| Some(run.transferred_bytes as f64);
        plot::bars(html, "Bytes transferred", runs, seen, bytes, |bytes| human::bytes(bytes as u64));
    }
    put!(html, "</div>");
}

fn table(html: &mut Html, runs: &[JobRun], seen: &Seen<'_>) {
    put!(
        html,
        "<table class=\"runs\"><caption class=\"unseen\">The last runs</caption><thead><tr><th scope=\"col\">Started\
         <th scope=\"col\">Result<th scope=\"col\">By<th scope=\"col\">Took<th scope=\"col\">Moved</tr></thead><tbody>"
    );
    for run in runs {
        row(html, run, seen);
    }
    put!(html, "</tbody></table>");
}

fn row(html: &mut Html, run: &JobRun, seen: &Seen<'_>) {
    put!(html, "<tr><th scope=\"row\">");
    match run.run {
        Some(number) => put!(html, "<a href=\"/runs/{}\">{}</a>", number, parts::stamp(run.started, seen)),
        None => put!(html, "{}", parts::stamp(run.started, seen)),
    }
    put!(html, "<td>");
    parts::badge(html, parts::outcome(&run.outcome));
    if let Some(detail) = &run.detail {
        put!(html, "<p class=\"note\">{}</p>", *detail);
    }
    put!(html, "<td data-of=\"by\">{}<td data-of=\"took\">", run.trigger);
    match run.ended {
        Some(ended) if run.run.is_some() => put!(html, "{}", human::duration(between(run.started, ended))),
        _ => put!(html, "–"),
    }
    put!(html, "<td data-of=\"moved\">");
    match run.transferred {
        0 => put!(html, "<span class=\"quiet\">nothing</span>"),
        files => {
            let files = human::count(u64::try_from(files).unwrap_or_default(), "file", "files");
            put!(html, "{}, {}", files, Shown(bytes(run.transferred_bytes)));
        }
    }
    put!(html, "</tr>");
}

pub(super) fn bytes(bytes: i64) -> String {
    human::bytes(u64::try_from(bytes).unwrap_or_default())
}
