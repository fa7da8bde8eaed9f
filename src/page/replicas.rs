//! All replicas in a table, for the overview and for the page of their job.

use super::Seen;
use super::curve;
use super::html::{Html, put};
use super::parts::{self, mark};
use super::replica::{VerifiedBy, failure_since, path, verdict};
use crate::human;
use crate::verify::order::Replica;
use crate::verify::report::Report;
use crate::verify::store::Point;

/// Of more replicas than this no curves are drawn.
pub const CURVES_MAX: usize = 60;
/// So many that were never verified are named.
const NEVER_MAX: usize = 40;

/// A replica in a table.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaRow {
    /// Which.
    pub replica: Replica,
    /// Where it is, for people.
    pub dest: String,
    /// What its last verification found.
    pub report: Option<Report>,
    /// Its last reports, the oldest first.
    pub lately: Vec<Point>,
    /// The actions that verify it.
    pub verified_by: Vec<VerifiedBy>,
}

impl ReplicaRow {
    fn is_under_way(&self) -> bool {
        self.verified_by.iter().any(|by| by.under_way.is_some())
    }
}

/// The table; without anything ever verified a line. Nothing where there are no replicas.
pub(super) fn replicas(html: &mut Html, rows: &[ReplicaRow], seen: &Seen<'_>) {
    if rows.is_empty() {
        return;
    }
    put!(html, "<h2>Replicas</h2>\n");
    if rows.iter().any(|row| row.report.is_some()) {
        table(html, rows, seen);
    }
    let never = || rows.iter().filter(|row| row.report.is_none());
    let number = never().count();
    if number == 0 {
        return;
    }
    put!(html, "<p class=\"quiet never\" id=\"never\">");
    html.live("never", |html| {
        put!(html, "Never verified: ");
        for (index, row) in never().take(NEVER_MAX).enumerate() {
            put!(html, "{}", if index > 0 { ", " } else { "" });
            name(html, row);
            if row.is_under_way() {
                put!(html, " (under way)");
            }
            if failure_since(None, &row.verified_by).is_some() {
                put!(html, " (it failed)");
            }
        }
        if number > NEVER_MAX {
            put!(html, " and {}", human::count((number - NEVER_MAX) as u64, "other", "others"));
        }
    });
    put!(html, "</p>\n");
}

fn name(html: &mut Html, row: &ReplicaRow) {
    put!(html, "<a href=\"");
    path(html, &row.replica);
    put!(html, "\">{}/{}</a>", row.replica.job, row.replica.sync);
}

fn table(html: &mut Html, rows: &[ReplicaRow], seen: &Seen<'_>) {
    put!(
        html,
        "<table class=\"replicas\"><caption class=\"unseen\">Replicas</caption>\n<thead><tr><th scope=\"col\">Replica<th scope=\"col\">Where\
         <th scope=\"col\">Verdict<th scope=\"col\">In step<th scope=\"col\">Lag<th scope=\"col\">Verified"
    );
    let curves = rows.len() <= CURVES_MAX;
    if curves {
        put!(html, "<th scope=\"col\">Lately");
    }
    put!(html, "</tr></thead>\n<tbody>\n");
    for (number, row) in rows.iter().enumerate() {
        let Some(report) = &row.report else { continue };
        let id = format!("v{number}");
        put!(html, "<tr id=\"{}\">", id);
        html.live(&id, |html| cells(html, row, report, curves, seen));
        put!(html, "</tr>\n");
    }
    put!(html, "</tbody></table>\n");
}

fn cells(html: &mut Html, row: &ReplicaRow, report: &Report, curves: bool, seen: &Seen<'_>) {
    put!(html, "<th scope=\"row\">");
    name(html, row);
    put!(html, "<td data-of=\"where\"><code>{}</code><td>", row.dest);
    parts::badge(html, verdict(report.verdict));
    if failure_since(Some(report), &row.verified_by).is_some() {
        put!(html, " ");
        parts::badge(html, mark("last one failed", "✕", "bad"));
    }
    if row.is_under_way() {
        put!(html, " ");
        parts::badge(html, mark("verifying", "▸", "busy"));
    }
    put!(html, "<td data-of=\"in step\">{} %<td data-of=\"lag\">", report.percent());
    match report.lag {
        Some(lag) => {
            let lag = std::time::Duration::try_from_secs_f64(lag.max(0.0)).unwrap_or_default();
            put!(html, "{}", parts::rough(lag));
        }
        None => put!(html, "<span class=\"quiet\">none</span>"),
    }
    put!(html, "<td data-of=\"verified\">");
    parts::plain_ago(html, report.at, seen);
    if curves {
        put!(html, "<td>");
        let points: Vec<_> = row.lately.iter().map(|point| (point.at, point.ratio)).collect();
        curve::sparkline(html, &points, seen);
    }
}
