//! How an entry looks in each format.
//!
//! Every format is a head, the text and a tail, where only the text differs between the lines of a chunk. That lets
//! [`super::ActionLog`] build the head once per chunk and copy lines.

use std::io::Write as _;

use jiff::{Timestamp, tz::TimeZone};
use tracing::Level;

use super::{Format, escape};
use crate::config::{ActionId, JobId};
use crate::event::RunId;

/// What an entry is about.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Subject<'a> {
    /// In which run.
    pub run: Option<RunId>,
    /// In which job.
    pub job: Option<&'a JobId>,
    /// In which action of the job.
    pub action: Option<&'a ActionId>,
}

/// One thing that the program itself says.
#[derive(Debug, Clone)]
pub(super) struct Entry<'a> {
    /// When it happened.
    pub at: Timestamp,
    /// How severe it is.
    pub level: Level,
    /// What it is about.
    pub subject: Subject<'a>,
    /// What is said; one line.
    pub text: &'a str,
}

/// Which stream of an action a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// The level of a line of it.
    pub fn level(self) -> Level {
        match self {
            Self::Stdout => Level::INFO,
            Self::Stderr => Level::WARN,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// All that a head is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'a> {
    pub at: Timestamp,
    pub level: Level,
    pub rsync_id: Option<&'a str>,
    pub subject: Subject<'a>,
    /// `None` is the program itself.
    pub stream: Option<Stream>,
}

/// A format with its options.
#[derive(Debug, Clone)]
pub(super) struct Formatter {
    pub format: Format,
    pub color: bool,
    pub timezone: TimeZone,
}

impl Formatter {
    /// A whole entry.
    pub fn entry(&self, head: &Head<'_>, text: &[u8]) -> Vec<u8> {
        let mut line = Vec::with_capacity(256);
        self.head(&mut line, head);
        self.text(&mut line, text, escape::is_clean(text));
        line.extend_from_slice(self.tail());
        line
    }

    /// Appends everything that stands before the text.
    pub fn head(&self, out: &mut Vec<u8>, head: &Head<'_>) {
        match self.format {
            Format::Human => self.human_head(out, head),
            Format::Json => self.json_head(out, head),
            Format::Journald => journald_head(out, head),
        }
    }

    /// Appends a text, already free of line ends or not, escaped as the format wants it. `clean` promises that
    /// [`escape::is_clean`] holds.
    pub fn text(&self, out: &mut Vec<u8>, text: &[u8], clean: bool) {
        match (self.format, clean) {
            (Format::Json, true) => json_escape_into(out, text),
            (Format::Json, false) => {
                let mut plain = Vec::with_capacity(text.len() + 16);
                escape::escape_into(&mut plain, text);
                json_escape_into(out, &plain);
            }
            (Format::Human | Format::Journald, true) => out.extend_from_slice(text),
            (Format::Human | Format::Journald, false) => escape::escape_into(out, text),
        }
    }

    /// What stands behind the text.
    pub fn tail(&self) -> &'static [u8] {
        match self.format {
            Format::Json => b"\"}\n",
            Format::Human | Format::Journald => b"\n",
        }
    }

    fn human_head(&self, out: &mut Vec<u8>, head: &Head<'_>) {
        let (dim, color, reset) =
            if self.color { ("\x1b[2m", level_color(head.level), "\x1b[0m") } else { ("", "", "") };
        let time = self.time(head.at);
        push(out, format_args!("{dim}{time}{reset} {color}{:<5}{reset} ", head.level.as_str()));
        subject_prefix(out, head);
    }

    fn json_head(&self, out: &mut Vec<u8>, head: &Head<'_>) {
        push(out, format_args!(r#"{{"timestamp":"{}","level":"{}""#, self.time(head.at), head.level));
        if let Some(rsync_id) = head.rsync_id {
            json_field(out, "rsync_id", rsync_id);
        }
        if let Some(run) = head.subject.run {
            push(out, format_args!(r#","run_id":{run}"#));
        }
        if let Some(job) = head.subject.job {
            json_field(out, "job_id", job.as_str());
        }
        if let Some(action) = head.subject.action {
            json_field(out, "action_id", action.as_str());
        }
        if let Some(stream) = head.stream {
            json_field(out, "stream", stream.as_str());
        }
        out.extend_from_slice(br#","message":""#);
    }

    /// Local time with its offset, as `journalctl -o short-iso-precise` and cron's users have it, to the millisecond.
    fn time(&self, at: Timestamp) -> impl std::fmt::Display {
        at.to_zoned(self.timezone.clone()).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
    }
}

/// `job/action: `, or `job/action | ` before what an action printed.
fn subject_prefix(out: &mut Vec<u8>, head: &Head<'_>) {
    let Some(job) = head.subject.job else { return };
    escape::escape_into(out, job.as_str().as_bytes());
    if let Some(action) = head.subject.action {
        out.push(b'/');
        escape::escape_into(out, action.as_str().as_bytes());
    }
    out.extend_from_slice(if head.stream.is_some() { b" | " } else { b": " });
}

fn level_color(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[34m",
    }
}

/// The fields of <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>, `MESSAGE` last; no value holds a line feed.
fn journald_head(out: &mut Vec<u8>, head: &Head<'_>) {
    push(out, format_args!("PRIORITY={}\nSYSLOG_IDENTIFIER=rsyncdirector\n", priority(head.level)));
    if let Some(rsync_id) = head.rsync_id {
        journald_field(out, "RSYNC_ID", rsync_id);
    }
    if let Some(run) = head.subject.run {
        push(out, format_args!("RUN_ID={run}\n"));
    }
    if let Some(job) = head.subject.job {
        journald_field(out, "JOB_ID", job.as_str());
    }
    if let Some(action) = head.subject.action {
        journald_field(out, "ACTION_ID", action.as_str());
    }
    if let Some(stream) = head.stream {
        journald_field(out, "STREAM", stream.as_str());
    }
    out.extend_from_slice(b"MESSAGE=");
    subject_prefix(out, head);
}

fn journald_field(out: &mut Vec<u8>, name: &str, value: &str) {
    push(out, format_args!("{name}={}\n", escape::escaped(value)));
}

/// Priorities of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

fn json_field(out: &mut Vec<u8>, name: &str, value: &str) {
    push(out, format_args!(r#","{name}":""#));
    json_escape_into(out, escape::escaped(value).as_bytes());
    out.push(b'"');
}

/// Escapes what JSON (RFC 8259, section 7) forbids in a string and [`escape::escape_into`] leaves: quotes, backslashes, tabs.
fn json_escape_into(out: &mut Vec<u8>, mut text: &[u8]) {
    while let Some(at) = memchr::memchr3(b'"', b'\\', b'\t', text) {
        out.extend_from_slice(&text[..at]);
        out.extend_from_slice(match text[at] {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            _ => b"\\t",
        });
        text = &text[at + 1..];
    }
    out.extend_from_slice(text);
}

fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(format: Format, color: bool, timezone: TimeZone, text: &str) -> String {
        let (job, action) = (JobId::new("night\nly"), ActionId::new("photos"));
        let head = Head {
            at: Timestamp::from_millisecond(1_795_233_780_123).expect("in range"),
            level: Level::ERROR,
            rsync_id: Some("lap\"top"),
            subject: Subject { run: Some(RunId(42)), job: Some(&job), action: Some(&action) },
            stream: None,
        };
        let formatter = Formatter { format, color, timezone };
        let mut out = Vec::new();
        formatter.head(&mut out, &head);
        formatter.text(&mut out, text.as_bytes(), escape::is_clean(text.as_bytes()));
        out.extend_from_slice(formatter.tail());
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn human_lines_are_in_local_time_with_its_offset() {
        let berlin = TimeZone::get("Europe/Berlin").expect("a zone");
        assert_eq!(
            render(Format::Human, false, berlin, "two\nlines"),
            "2026-11-21T05:03:00.123+01:00 ERROR night\\nly/photos: two\\nlines\n"
        );
    }

    #[test]
    fn colour_is_on_request() {
        assert_eq!(
            render(Format::Human, true, TimeZone::UTC, "x"),
            "\x1b[2m2026-11-21T04:03:00.123+00:00\x1b[0m \x1b[31mERROR\x1b[0m night\\nly/photos: x\n"
        );
    }

    #[test]
    fn json_has_the_ids_as_fields_and_not_in_the_message() {
        let line = render(Format::Json, false, TimeZone::UTC, "a \"b\"\nc");
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let expected = serde_json::json!({
            "timestamp": "2026-11-21T04:03:00.123+00:00",
            "level": "ERROR",
            "rsync_id": "lap\"top",
            "run_id": 42,
            "job_id": "night\\nly",
            "action_id": "photos",
            "message": "a \"b\"\\nc",
        });
        assert_eq!(value, expected);
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn journal_entries_cannot_be_given_fields_by_a_name_or_a_text() {
        assert_eq!(
            render(Format::Journald, true, TimeZone::UTC, "x\nPRIORITY=0"),
            "PRIORITY=3\nSYSLOG_IDENTIFIER=rsyncdirector\nRSYNC_ID=lap\"top\nRUN_ID=42\nJOB_ID=night\\nly\n\
             ACTION_ID=photos\nMESSAGE=night\\nly/photos: x\\nPRIORITY=0\n"
        );
    }
}
