//! A report, for people.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::super::table::{Kind, RED, Table, WIDTH, YELLOW};
use super::listed;
use crate::human;
use crate::logging::{escaped, escaped_bytes};
use crate::verify::Class;
use crate::verify::report::{By, Count, Drill, Report, Verdict};

/// The report as text: what it is about, a table of what differs, and what else is known.
pub(super) fn report(report: &Report, color: bool) -> String {
    let mut text = headline(report, color) + "\n";
    if !report.classes.is_empty() {
        let table = classes(report).render(WIDTH, color);
        text.extend(table.lines().map(|line| format!("  {line}\n")));
    }
    for (what, value) in facts(report) {
        text += &format!("  {what:<15} {}\n", escaped(&value));
    }
    text
}

/// `photos/copy: drift: 3 of 12,345 entries differ (quick, by the agent, 3.2 s)`.
fn headline(report: &Report, color: bool) -> String {
    let (verdict, paint) = match report.verdict {
        Verdict::InStep => ("in step", ""),
        Verdict::Tolerated => ("tolerated", YELLOW),
        Verdict::Drift => ("drift", RED),
        Verdict::Unknown => ("unknown", RED),
    };
    let name = format!("{}/{}", report.replica.job, report.replica.sync);
    let by = match report.by {
        By::Here => "",
        By::Agent => ", by the agent there",
        By::Rsync => ", by rsync alone",
    };
    let took = human::duration(Duration::from_secs_f64(report.seconds.max(0.0)));
    let entries = human::count(report.all.entries, "entry", "entries");
    let line =
        format!("{}: {verdict}, {} of {entries} ({}{by}, {took})", escaped(&name), share(report), report.depth.name());
    if color && !paint.is_empty() { format!("{paint}{line}\x1b[0m") } else { line }
}

/// What is not all does not read as all.
fn share(report: &Report) -> String {
    match report.in_step == report.all {
        true => "100 %".to_owned(),
        false => format!("{:.2} %", (report.ratio() * 100.0).min(99.99)),
    }
}

fn classes(report: &Report) -> Table {
    let mut table = Table::new(&[("", Kind::Text), ("entries", Kind::Number), ("size", Kind::Number)]);
    let mut line = |what: &str, count: Count, paint| {
        table.line([what.to_owned(), count.entries.to_string(), human::bytes(count.bytes)], paint);
    };
    line("in step", report.in_step, "");
    for class in Class::ALL {
        if let Some(count) = report.classes.get(&class) {
            let paint = if matches!(class, Class::InFlight) { "" } else { YELLOW };
            line(class.words(), *count, paint);
        }
    }
    table
}

/// What else is known, with its name.
fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let mut fact = |what, value: Option<String>| facts.extend(value.map(|value| (what, value)));
    let duration = |seconds: f64| human::duration(Duration::from_secs_f64(seconds.max(0.0)));
    let files = |count: Count| {
        (count.entries > 0)
            .then(|| format!("{}, {}", human::count(count.entries, "file", "files"), human::bytes(count.bytes)))
    };
    fact("why", (!report.why.is_empty()).then(|| report.why.clone()));
    fact("lag", report.lag.map(duration));
    if report.verdict != Verdict::InStep {
        fact("last agreement", Some(report.last_agreement.map_or_else(|| "never seen".to_owned(), local)));
    }
    fact("read now", files(report.read));
    fact("read before", files(report.known));
    fact("never read", files(report.never_read));
    fact("longest ago", report.oldest_read.map(local));
    fact(
        "window",
        report.window_days.map(|days| format!("every byte within {}", human::count(days.ceil() as u64, "day", "days"))),
    );
    for note in &report.notes {
        fact("note", Some(note.clone()));
    }
    if let Some(drill) = &report.drill {
        fact("brought back", Some(brought_back(drill)));
        for (path, why) in &drill.failed {
            facts.push(("", format!("{path}: {why}")));
        }
    }
    facts
}

fn brought_back(drill: &Drill) -> String {
    let files = human::count(drill.files, "file", "files");
    let mut text = match drill.failed.len() {
        0 => format!("{files}, {}: all as they should be", human::bytes(drill.bytes)),
        failed => format!("{files}, {}: {failed} not as they should be", human::bytes(drill.bytes)),
    };
    if drill.skipped > 0 {
        text += &format!("; {} changed since, and nothing is known to compare with", drill.skipped);
    }
    text
}

fn local(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Prints every path that differs: `class  path  detail`, or the JSON of the list itself. A reader that has gone away is no error.
///
/// # Errors
/// When the list cannot be read.
pub(super) fn differences(list: &Path, as_json: bool) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = if as_json { io::copy(&mut File::open(list)?, &mut out).map(drop) } else { lines(list, &mut out)? };
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// The outer error is of the list, the inner one of who reads.
fn lines(list: &Path, out: &mut impl Write) -> io::Result<io::Result<()>> {
    for found in listed::read(list)? {
        let found = found?;
        let path = match found.path() {
            root if root.is_empty() => ".".to_owned(),
            path => escaped_bytes(&path),
        };
        let line = format!("{:<12}  {path}  {}", found.class.name(), escaped(&found.detail));
        if let Err(error) = writeln!(out, "{}", line.trim_end()) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}
