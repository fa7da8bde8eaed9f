//! What differs at a replica: where most of it is, directory by directory, and the list, with its search and its pages.
//!
//! All of it is links and a form, which a browser follows without a script.

use jiff::Timestamp;

use super::Seen;
use super::html::{Decimal, Html, put};
use super::parts;
use super::query::Query;
use super::replica::{advice, class_mark, path};
use crate::human;
use crate::logging::escaped_bytes;
use crate::verify::Class;
use crate::verify::order::Replica;
use crate::verify::report::{Count, Report};
use crate::verify::store::{Kept, Most};

/// Differences on a page of the list.
pub const PER_PAGE: u64 = 100;
/// Entries of a directory of which is told how much differs in each.
pub const DIRECTORIES: usize = 40;
/// Width and height of a bar in the units of its view box; the style sheet stretches it.
const BAR: (f64, f64) = (200.0, 10.0);

/// The part of the differences that somebody wants to see.
pub struct Differences<'a> {
    /// Which.
    pub query: &'a Query,
    /// How much differs in each entry of the directory, the most first, at most [`DIRECTORIES`].
    pub directories: &'a [(Vec<u8>, Count)],
    /// How many differ in the directory, whatever the filter.
    pub below: u64,
    /// Those of the page.
    pub list: &'a [Kept],
    /// How many are wanted in all.
    pub all: u64,
}

/// Where most differs, and the list.
pub(super) fn differences(
    html: &mut Html,
    replica: &Replica,
    report: &Report,
    found: &Differences<'_>,
    seen: &Seen<'_>,
) {
    put!(html, "<h2 id=\"where\">Where</h2>\n");
    trail(html, found.query);
    directories(html, found);
    put!(html, "<h2 id=\"list\">Differences</h2>\n");
    form(html, replica, found.query);
    told(html, report, found);
    if !found.list.is_empty() {
        table(html, found, seen);
        pages(html, found);
    }
}

/// The way to the directory, each step a link.
fn trail(html: &mut Html, query: &Query) {
    put!(html, "<nav class=\"trail\" aria-label=\"Directory\"><ol>");
    match query.directory.is_empty() {
        true => put!(html, "<li><b>the whole replica</b>"),
        false => put!(html, "<li><a href=\"{}#where\">the whole replica</a>", query.at(b"")),
    }
    let mut end = 0;
    for name in query.directory.split(|byte| *byte == b'/').filter(|_| !query.directory.is_empty()) {
        end += name.len();
        let name = escaped_bytes(name);
        match end == query.directory.len() {
            true => put!(html, "<li><b aria-current=\"location\"><code>{}</code></b>", name),
            false => {
                put!(html, "<li><a href=\"{}#where\"><code>{}</code></a>", query.at(&query.directory[..end]), name)
            }
        }
        end += 1;
    }
    put!(html, "</ol></nav>\n");
}

fn directories(html: &mut Html, found: &Differences<'_>) {
    let query = found.query;
    if found.directories.is_empty() {
        put!(html, "<p class=\"quiet\">Nothing differs below it.</p>\n");
        return;
    }
    let size = |count: &Count| if query.most == Most::Entries { count.entries } else { count.bytes };
    let most = found.directories.iter().map(|(_, count)| size(count)).max().unwrap_or_default();
    put!(
        html,
        "<table class=\"where\"><caption class=\"unseen\">How much differs in each entry of the directory</caption><thead><tr>\
         <th scope=\"col\">Name<th scope=\"col\">"
    );
    sort_link(html, query, Most::Entries, "Entries");
    put!(html, "<th scope=\"col\">");
    sort_link(html, query, Most::Bytes, "Bytes");
    put!(html, "<th scope=\"col\">Share</tr></thead><tbody>");
    for (name, count) in found.directories {
        let below = match query.directory.is_empty() {
            true => name.clone(),
            false => [query.directory.as_slice(), b"/", name].concat(),
        };
        put!(
            html,
            "<tr><th scope=\"row\"><a href=\"{}#where\"><code>{}</code></a>",
            query.at(&below),
            escaped_bytes(name)
        );
        put!(html, "<td data-of=\"entries\">{}<td data-of=\"bytes\">{}", count.entries, human::bytes(count.bytes));
        put!(html, "<td>");
        bar(html, size(count), most);
        put!(html, "</tr>");
    }
    put!(html, "</tbody></table>\n");
    let shown: u64 = found.directories.iter().map(|(_, count)| count.entries).sum();
    if found.directories.len() >= DIRECTORIES && found.below > shown {
        let others = human::count(found.below - shown, "entry", "entries");
        put!(html, "<p class=\"note\">{} more in what is not shown here.</p>\n", others);
    }
}

fn sort_link(html: &mut Html, query: &Query, most: Most, name: &'static str) {
    if query.most == most {
        put!(html, "<span aria-current=\"true\">{} ↓</span>", name);
    } else {
        let other = Query { most, ..query.clone() };
        put!(html, "<a href=\"{}#where\" title=\"Sort by it\">{}</a>", other, name);
    }
}

fn bar(html: &mut Html, size: u64, most: u64) {
    let width = if most == 0 { 0.0 } else { (size as f64 / most as f64 * BAR.0).max(1.0) };
    put!(
        html,
        "<svg class=\"bar\" viewBox=\"0 0 {} {}\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
         <rect class=\"p1\" x=\"0\" y=\"0\" width=\"{}\" height=\"{}\"/></svg>",
        Decimal(BAR.0),
        Decimal(BAR.1),
        Decimal(width),
        Decimal(BAR.1)
    );
}

fn form(html: &mut Html, replica: &Replica, query: &Query) {
    put!(html, "<form class=\"search\" role=\"search\" action=\"");
    path(html, replica);
    put!(html, "#list\">");
    if !query.directory.is_empty() {
        put!(html, "<input type=\"hidden\" name=\"dir\" value=\"{}\">", query.directory_text());
    }
    if query.most == Most::Entries {
        put!(html, "<input type=\"hidden\" name=\"by\" value=\"entries\">");
    }
    put!(
        html,
        "<label>Path contains <input type=\"search\" name=\"q\" value=\"{}\" autocomplete=\"off\" spellcheck=\"false\"></label>",
        query.search
    );
    put!(html, "<label>Class <select name=\"class\"><option value=\"\">all</option>");
    for class in Class::ALL {
        match query.class == Some(class) {
            true => put!(html, "<option value=\"{}\" selected>{}</option>", class.name(), class.words()),
            false => put!(html, "<option value=\"{}\">{}</option>", class.name(), class.words()),
        }
    }
    put!(html, "</select></label> <button>Show</button>");
    if query.is_filtered() {
        let all = Query { class: None, search: String::new(), page: 0, ..query.clone() };
        put!(html, " <a href=\"{}#list\">all</a>", all);
    }
    put!(html, "</form>\n");
}

/// How many there are of how many.
fn told(html: &mut Html, report: &Report, found: &Differences<'_>) {
    put!(html, "<p class=\"note\">");
    match (found.query.is_filtered(), found.all) {
        (true, 0) => put!(html, "None of {} is like that.", human::count(found.below, "difference", "differences")),
        (true, all) => put!(html, "{} of {}", all, human::count(found.below, "difference", "differences")),
        (false, all) => put!(html, "{}", human::count(all, "difference", "differences")),
    }
    if let Some(class) = found.query.class {
        put!(html, " · {}", advice(class));
    }
    put!(html, "</p>\n");
    let all: u64 = report.classes.values().map(|count| count.entries).sum();
    if report.listed < all {
        put!(html, "<p class=\"note\">There are {}; the first {} of them are listed.</p>\n", all, report.listed);
    }
}

fn table(html: &mut Html, found: &Differences<'_>, seen: &Seen<'_>) {
    put!(
        html,
        "<table class=\"differences\"><caption class=\"unseen\">Differences, by path</caption><thead><tr><th scope=\"col\">Path\
         <th scope=\"col\">Class<th scope=\"col\">Size<th scope=\"col\">At the source<th scope=\"col\">At the target</tr></thead><tbody>"
    );
    for kept in found.list {
        let path = if kept.path.is_empty() { "." } else { &escaped_bytes(&kept.path) };
        put!(html, "<tr><th scope=\"row\"><code>{}</code><td>", path);
        parts::badge(html, class_mark(kept.class));
        if !kept.detail.is_empty() {
            put!(html, "<p class=\"note\">{}</p>", kept.detail);
        }
        put!(html, "<td data-of=\"size\">{}", human::bytes(kept.bytes));
        put!(html, "<td data-of=\"at the source\">");
        changed(html, kept.source_mtime, seen);
        put!(html, "<td data-of=\"at the target\">");
        changed(html, kept.target_mtime, seen);
        put!(html, "</tr>");
    }
    put!(html, "</tbody></table>\n");
}

fn changed(html: &mut Html, at: Option<Timestamp>, seen: &Seen<'_>) {
    match at {
        Some(at) => put!(html, "{}", parts::stamp(at, seen)),
        None => put!(html, "<span class=\"quiet\">not there</span>"),
    }
}

fn pages(html: &mut Html, found: &Differences<'_>) {
    let (page, last) = (found.query.page, found.all.saturating_sub(1) / PER_PAGE);
    if last == 0 {
        return;
    }
    put!(html, "<nav class=\"pages\" aria-label=\"Pages of the list\">");
    let to = |page| Query { page, ..found.query.clone() };
    if page > 0 {
        put!(
            html,
            "<a href=\"{}#list\">first</a> <a href=\"{}#list\" rel=\"prev\">previous</a> ",
            to(0),
            to(page.min(last + 1) - 1)
        );
    }
    put!(html, "<span aria-current=\"page\">page {} of {}</span>", page + 1, last + 1);
    if page < last {
        put!(html, " <a href=\"{}#list\" rel=\"next\">next</a> <a href=\"{}#list\">last</a>", to(page + 1), to(last));
    }
    put!(html, "</nav>\n");
}
