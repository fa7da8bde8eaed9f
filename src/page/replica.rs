//! One replica: whether it is the replica, since when, how that is known, and what differs.

use jiff::Timestamp;

use super::Seen;
use super::curve::{self, At, Curve};
use super::differences::{self, Differences};
use super::html::{Html, Segment, put};
use super::parts::{self, Mark, between, mark};
use crate::history::read::Outcome;
use crate::human;
use crate::rsync::args;
use crate::verify::order::Replica;
use crate::verify::report::{By, Drill, Report, Verdict};
use crate::verify::store::Point;
use crate::verify::{Class, Depth};

/// What the page tells beside the status.
pub struct ReplicaView<'a> {
    /// Which.
    pub replica: &'a Replica,
    /// What is copied, for people.
    pub source: String,
    /// Where to, for people.
    pub dest: String,
    /// The actions that verify it.
    pub verified_by: Vec<VerifiedBy>,
    /// What its last verification found.
    pub report: Option<&'a Report>,
    /// What does not change while someone looks, unless it is verified again; without it there is only the rest.
    pub details: Option<Details<'a>>,
}

/// An action that verifies a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedBy {
    /// Its job.
    pub job: String,
    /// Its id.
    pub action: String,
    /// When its job is due next.
    pub next: Option<Timestamp>,
    /// Since when it runs.
    pub under_way: Option<Timestamp>,
    /// How it ended last, if it has.
    pub last: Option<Outcome>,
}

/// What is shown of a replica's reports and differences.
pub struct Details<'a> {
    /// Its reports, the oldest first.
    pub points: &'a [Point],
    /// The part of the differences that somebody wants to see.
    pub differences: Differences<'a>,
}

/// The path of a replica's page.
pub(super) fn path(html: &mut Html, replica: &Replica) {
    put!(html, "/replica/{}/{}", Segment(&replica.job), Segment(&replica.sync));
}

/// The mark of a verdict.
pub(super) fn verdict(verdict: Verdict) -> Mark {
    match verdict {
        Verdict::InStep => mark("in step", "✓", "good"),
        Verdict::Tolerated => mark("nearly in step", "–", "warn"),
        Verdict::Drift => mark("out of step", "✕", "bad"),
        Verdict::Unknown => mark("not known", "?", "lost"),
    }
}

/// The content of the page.
pub fn replica(view: &ReplicaView<'_>, seen: &Seen<'_>) -> Html {
    let mut html = Html::default();
    let Replica { job, sync } = view.replica;
    put!(html, "<p class=\"way\"><a href=\"/\">{}</a> / ", seen.status.instance);
    put!(html, "<a href=\"/jobs/{}\">{}</a> /</p>\n<h1>Replica of {}</h1>\n", Segment(job), *job, *sync);
    put!(html, "<p class=\"lead\"><code>{}</code> → <code>{}</code></p>\n", view.source, view.dest);
    put!(
        html,
        "<div class=\"card\" role=\"group\" aria-label=\"Verdict\"><p class=\"big\" id=\"word\" role=\"status\">"
    );
    html.live("word", |html| words(html, view, seen));
    put!(html, "</p><div id=\"state\">");
    html.live("state", |html| state(html, view, seen));
    put!(html, "</div></div>\n");
    // One that a page without it gets makes it load anew: what follows is that of another report.
    let id = view.report.map_or("r0".to_owned(), |report| format!("r{}", report.at.as_millisecond()));
    put!(html, "<div id=\"{}\">", id);
    html.live(&id, |_| {});
    put!(html, "</div>\n");
    if let (Some(report), Some(details)) = (view.report, &view.details) {
        plots(&mut html, details.points, seen);
        if report.classes.is_empty() {
            put!(html, "<p class=\"quiet\">Nothing differs.</p>\n");
        } else {
            classes(&mut html, view.replica, report);
            differences::differences(&mut html, view.replica, report, &details.differences, seen);
        }
    }
    html
}

fn words(html: &mut Html, view: &ReplicaView<'_>, seen: &Seen<'_>) {
    match view.report {
        Some(report) => parts::badge(html, verdict(report.verdict)),
        None => parts::badge(html, mark("never verified", "·", "idle")),
    }
    for by in &view.verified_by {
        let Some(since) = by.under_way else { continue };
        put!(html, " ");
        parts::badge(html, mark("a verification is under way", "▸", "busy"));
        put!(html, " <small>for {}</small>", parts::rough(between(since, seen.at)));
    }
}

fn state(html: &mut Html, view: &ReplicaView<'_>, seen: &Seen<'_>) {
    failed(html, view, seen);
    match view.report {
        Some(report) => {
            if !report.why.is_empty() {
                put!(html, "<p class=\"why\">{}</p>", report.why);
            }
            put!(html, "<dl class=\"facts\">");
            agreement(html, report, seen);
            freshness(html, view, report, seen);
            content(html, report, seen);
            put!(html, "</dl>");
            for note in &report.notes {
                put!(html, "<p>Note: {}</p>", note.as_str());
            }
            if let Some(drill) = &report.drill {
                self::drill(html, drill);
            }
        }
        None => never(html, view, seen),
    }
}

/// A later verification than the reported one that came to no result.
pub(super) fn failure_since<'a>(report: Option<&Report>, verified_by: &'a [VerifiedBy]) -> Option<&'a Outcome> {
    let is_later = |last: &&Outcome| report.is_none_or(|report| report.at < last.started);
    let last = verified_by.iter().filter_map(|by| by.last.as_ref()).max_by_key(|last| last.started);
    last.filter(is_later).filter(|last| last.outcome != "succeeded")
}

/// That there is such a one.
fn failed(html: &mut Html, view: &ReplicaView<'_>, seen: &Seen<'_>) {
    let Some(last) = failure_since(view.report, &view.verified_by) else { return };
    put!(html, "<p class=\"why\">The last verification could not tell, ");
    parts::ago(html, last.started, seen);
    if let Some(detail) = last.detail.as_deref().filter(|detail| !detail.is_empty()) {
        put!(html, ": {}", detail);
    }
    if let Some(run) = last.run {
        put!(html, " <a href=\"/runs/{}\">its run</a>", run);
    }
    put!(html, "</p>");
}

fn never(html: &mut Html, view: &ReplicaView<'_>, seen: &Seen<'_>) {
    put!(html, "<p>Whether the destination has what the source has is not known.</p>");
    if view.verified_by.is_empty() {
        put!(
            html,
            "<p class=\"note\">An action <code>{action: verify, of: {}}</code> in a job tells each time, and this command now:</p>",
            view.replica.sync
        );
        command(html, view.replica, None);
        return;
    }
    put!(html, "<dl class=\"facts\">");
    next(html, view, seen);
    put!(html, "</dl>");
}

fn agreement(html: &mut Html, report: &Report, seen: &Seen<'_>) {
    let count = human::count(report.all.entries, "entry", "entries");
    put!(html, "<div><dt>In step<dd class=\"share\">{} % <small>of {}</small></div>", report.percent(), count);
    let (agree, all) = (human::bytes(report.in_step.bytes), human::bytes(report.all.bytes));
    put!(html, "<div><dt>Bytes in step<dd>{} <small>of {}</small></div>", agree, all);
    put!(html, "<div><dt>Lag<dd>");
    match report.lag {
        Some(lag) => put!(html, "{} <small>the oldest change that is missing</small>", seconds(lag)),
        None => put!(html, "none"),
    }
    put!(html, "</div><div><dt>All agreed last<dd>");
    moment(html, report.last_agreement, "never", seen);
    put!(html, "</div>");
}

fn freshness(html: &mut Html, view: &ReplicaView<'_>, report: &Report, seen: &Seen<'_>) {
    put!(html, "<div><dt>Verified<dd>");
    moment(html, Some(report.at), "never", seen);
    let by = match report.by {
        By::Here => "both sides are on this host",
        By::Agent => "by the agent on the peer",
        By::Rsync => "by rsync alone, as the peer has no agent",
    };
    let level = match report.depth {
        Depth::Quick => "kind, size and time",
        Depth::Meta => "kind, size, time, modes, owners, attributes and links",
        Depth::Deep => "everything, with the content of files",
    };
    put!(html, "</div><div><dt>Took<dd>{} <small>{}</small></div>", seconds(report.seconds), by);
    put!(html, "<div><dt>Level<dd>{} <small>{}</small></div>", report.depth.name(), level);
    next(html, view, seen);
}

fn next(html: &mut Html, view: &ReplicaView<'_>, seen: &Seen<'_>) {
    put!(html, "<div><dt>Next verification<dd>");
    match view.verified_by.iter().filter_map(|by| by.next.map(|next| (next, by))).min_by_key(|(next, _)| *next) {
        Some((next, by)) => {
            parts::time(html, next, seen);
            put!(html, " <small>");
            parts::ahead(html, next, seen);
            put!(html, ", by <a href=\"/jobs/{}\">{}</a>/{}</small>", Segment(&by.job), by.job, by.action);
        }
        None if view.verified_by.is_empty() => put!(html, "none <small>no job verifies it</small>"),
        None => put!(html, "none <small>the job that verifies it is not due</small>"),
    }
    put!(html, "</div>");
}

/// What is known of the files' content, of a deep verification.
fn content(html: &mut Html, report: &Report, seen: &Seen<'_>) {
    if report.depth < Depth::Deep {
        return;
    }
    let files = |count: u64| human::count(count, "file", "files");
    let (read, known) = (report.read, report.known);
    put!(html, "<div><dt>Read now<dd>{} <small>on both sides</small></div>", human::bytes(read.bytes));
    put!(
        html,
        "<div><dt>Known from before<dd>{} <small>{}</small></div>",
        human::bytes(known.bytes),
        files(known.entries)
    );
    put!(html, "<div><dt>Never compared<dd>");
    match report.never_read.entries {
        0 => put!(html, "nothing"),
        n => put!(html, "{} <small>{}</small>", human::bytes(report.never_read.bytes), files(n)),
    }
    put!(html, "</div><div><dt>Read longest ago<dd>");
    moment(html, report.oldest_read, "not known", seen);
    put!(html, "</div>");
    if let Some(days) = report.window_days {
        let days = human::count(days.ceil() as u64, "day", "days");
        put!(html, "<div><dt>Every byte is read within<dd>{}</div>", days);
    }
}

fn drill(html: &mut Html, drill: &Drill) {
    let files = human::count(drill.files, "file", "files");
    put!(html, "<p class=\"drill\">");
    if drill.failed.is_empty() {
        parts::badge(html, mark("can be restored", "✓", "good"));
        put!(html, " {}, {}, came back as they should.", files, human::bytes(drill.bytes));
    } else {
        parts::badge(html, mark("restoring failed", "✕", "bad"));
        put!(html, " {} of {} did not come back as they should.", drill.failed.len(), files);
    }
    if drill.skipped > 0 {
        let skipped = human::count(drill.skipped, "file has", "files have");
        put!(html, " {} changed since, so there was nothing to compare with.", skipped);
    }
    put!(html, "</p>");
    if !drill.failed.is_empty() {
        put!(html, "<ul class=\"drill\">");
        for (path, why) in drill.failed.iter().take(20) {
            put!(html, "<li><code>{}</code> {}", *path, *why);
        }
        put!(html, "</ul>");
    }
}

fn moment(html: &mut Html, at: Option<Timestamp>, none: &str, seen: &Seen<'_>) {
    match at {
        Some(at) => {
            parts::time(html, at, seen);
            put!(html, " <small>");
            parts::ago(html, at, seen);
            put!(html, "</small>");
        }
        None => put!(html, "{}", none),
    }
}

fn seconds(seconds: f64) -> String {
    human::duration(std::time::Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default())
}

/// One verification alone makes no picture.
fn plots(html: &mut Html, points: &[Point], seen: &Seen<'_>) {
    if points.len() < 2 {
        return;
    }
    put!(html, "<div class=\"plots even\">");
    let share: Vec<At> = points.iter().map(|point| (point.at, point.ratio)).collect();
    let kind = Curve { title: "In step", more_is_worse: false, top: Some(1.0) };
    curve::curve(html, &kind, &share, seen, percent);
    if points.iter().any(|point| point.lag.is_some()) {
        let lag: Vec<At> = points.iter().map(|point| (point.at, point.lag.unwrap_or(0.0))).collect();
        let kind = Curve { title: "Lag", more_is_worse: true, top: None };
        curve::curve(html, &kind, &lag, seen, |lag| if lag > 0.0 { seconds(lag) } else { "none".to_owned() });
    }
    put!(html, "</div>\n");
}

/// `99.98 %`; 100 only for all.
pub(super) fn percent(ratio: f64) -> String {
    if ratio >= 1.0 { "100 %".to_owned() } else { format!("{:.2} %", (ratio * 100.0).min(99.99)) }
}

/// The classes with what each means, and what is to be done.
fn classes(html: &mut Html, replica: &Replica, report: &Report) {
    put!(
        html,
        "<h2>What differs</h2>\n<table class=\"classes\"><caption class=\"unseen\">Differences by class</caption><thead><tr>\
         <th scope=\"col\">Class<th scope=\"col\">Entries<th scope=\"col\">Bytes<th scope=\"col\">What to do</tr></thead><tbody>"
    );
    for (class, count) in &report.classes {
        put!(html, "<tr><th scope=\"row\"><a href=\"?class={}#list\">", class.name());
        parts::badge(html, class_mark(*class));
        put!(html, "</a><td data-of=\"entries\">{}<td data-of=\"bytes\">{}", count.entries, human::bytes(count.bytes));
        put!(html, "<td>{}</tr>", advice(*class));
    }
    put!(html, "</tbody></table>\n");
    let can_be_mended = |class: &Class| !matches!(class, Class::Unreadable | Class::InFlight);
    if !report.classes.keys().any(can_be_mended) {
        return;
    }
    put!(
        html,
        "<p class=\"note\">This mends it after a question, and touches nothing else; what is newer at the target only with \
         <code>--repair=all</code>:</p>\n"
    );
    command(html, replica, Some("--repair"));
}

/// The command that verifies it.
fn command(html: &mut Html, replica: &Replica, option: Option<&str>) {
    let mut words = vec!["verify".into(), format!("{}/{}", replica.job, replica.sync).into()];
    words.extend(option.map(Into::into));
    put!(
        html,
        "<pre class=\"command\" tabindex=\"0\" role=\"region\" aria-label=\"Command line\"><code>{}</code></pre>\n",
        args::display("rsyncdirector".as_ref(), &words)
    );
}

/// The mark of a class.
pub(super) fn class_mark(class: Class) -> Mark {
    let (sign, colour) = match class {
        Class::Missing | Class::Type | Class::Size | Class::Content => ("✕", "bad"),
        Class::Extra | Class::Stale | Class::TargetNewer | Class::Meta => ("–", "warn"),
        Class::Unreadable => ("?", "lost"),
        Class::InFlight => ("▸", "busy"),
    };
    mark(class.words(), sign, colour)
}

/// What a class means, and what is to be done.
pub(super) fn advice(class: Class) -> &'static str {
    match class {
        Class::Missing => {
            "Only the source has it. The next sync copies it; if it stays missing, the sync's log tells why it cannot."
        }
        Class::Extra => {
            "Only the target has it. A sync with --delete removes it: look before whether the source lacks it by mistake."
        }
        Class::Type => {
            "A directory stands where the source has a file, or the like. The next sync replaces it, if it may delete."
        }
        Class::Stale => "The source has a newer version. The next sync copies it.",
        Class::TargetNewer => {
            "Somebody wrote at the target. The next sync overwrites that, unless it has --update: look which one is right."
        }
        Class::Size => {
            "It has the right time and another length, as after a copy that was cut off. The next sync copies it."
        }
        Class::Content => {
            "It has the right time and length and other bytes, so rsync takes it for equal. Look at the disks: the detail says which side changed."
        }
        Class::Meta => "Modes, owners, attributes or links are others. The next sync sets them, if its user may.",
        Class::Unreadable => "It could not be looked at, so nothing is known of it. Let a user verify who may read it.",
        Class::InFlight => "It changed while it was looked at. The next verification tells.",
    }
}
