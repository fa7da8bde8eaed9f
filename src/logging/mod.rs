//! What people and log collectors read: one sink on standard error for the program's events and for its children's output.
//!
//! Three sources meet in the sink: `tracing` events of any module ([`init`] installs the subscriber), the events of a
//! run ([`EventLog`], an observer), and what actions print ([`ActionLog`], a fast path that formats a whole chunk of
//! lines at once). Each becomes an entry in one of three [`Format`]s; an entry is one line, whatever its text holds,
//! because control characters and invalid UTF-8 are escaped.
//!
//! Absent on purpose: log files and rotation (systemd and logrotate have them), spans, and environment variables of children.

mod escape;
mod events;
mod format;
mod journal;
mod layer;
pub(crate) mod outcome;
mod output;
mod queue;
mod sink;
mod stderr;
#[cfg(test)]
pub(crate) mod tests_support;

use std::io::{self, Write};
use std::sync::Arc;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::config::{ActionId, JobId};
use crate::event::RunId;

pub use escape::{escaped, escaped_bytes};
pub use events::EventLog;
pub use journal::detect_format;
pub use outcome::{Causes, late_text, skip_text};
pub use output::{ActionLog, OutputTap};
pub use stderr::Stderr;

use format::Entry;
use journal::Journal;
use sink::Sink;

/// How an entry is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Lines for people: `2026-11-21T05:03:00.123+01:00 INFO  nightly/photos: done in 3.2 s`. A line that an action
    /// printed has `nightly/photos | ` before it.
    Human,
    /// One JSON object per line, with the keys `timestamp`, `level`, `rsync_id`, `run_id`, `job_id`, `action_id`,
    /// `stream` (`stdout` or `stderr`, for an action's output) and `message`; those that do not apply are left out.
    Json,
    /// systemd's journal by its native protocol, with the fields `RSYNC_ID`, `RUN_ID`, `JOB_ID`, `ACTION_ID` and
    /// `STREAM`.
    Journald,
}

/// What is logged and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The least severe level that is logged. An action's standard output counts as INFO, its standard error as WARN.
    pub level: LevelFilter,
    /// How entries are written.
    pub format: Format,
    /// Whether human lines are coloured; only for a terminal.
    pub color: bool,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The text is not the name of a level.
    #[error("unknown log level `{0}`, use one of DEBUG, INFO, WARNING, ERROR, CRITICAL")]
    UnknownLevel(String),
    /// The process has a subscriber already.
    #[error("could not install the log")]
    Install(#[source] tracing::subscriber::SetGlobalDefaultError),
}

/// Reads the name of a level in any case: Python's (`DEBUG`, `INFO`, `WARNING`, `WARN`, `ERROR`, `CRITICAL`, `FATAL`,
/// the last two mean `ERROR` here) or Rust's (`trace` to `error`, `off`).
///
/// # Errors
/// [`LogError::UnknownLevel`] for any other text.
pub fn parse_level(name: &str) -> Result<LevelFilter, LogError> {
    match name.trim().to_ascii_lowercase().as_str() {
        "trace" => Ok(LevelFilter::TRACE),
        "debug" => Ok(LevelFilter::DEBUG),
        "info" => Ok(LevelFilter::INFO),
        "warning" | "warn" => Ok(LevelFilter::WARN),
        "error" | "critical" | "fatal" => Ok(LevelFilter::ERROR),
        "off" => Ok(LevelFilter::OFF),
        _ => Err(LogError::UnknownLevel(name.to_owned())),
    }
}

/// Opens the log on standard error, or on the journal if the format says so, and makes it the receiver of all `tracing`
/// events of the process. A journal that cannot be reached is replaced by human lines, which is said once.
///
/// # Errors
/// [`LogError::Install`] when it is called twice.
pub fn init(options: Options) -> Result<Log, LogError> {
    let (log, complaint) = open(options, || Journal::connect(Box::new(Stderr::new())));
    let subscriber = tracing_subscriber::registry().with(log.0.level()).with(layer::SinkLayer::new(Arc::clone(&log.0)));
    tracing::subscriber::set_global_default(subscriber).map_err(LogError::Install)?;
    if let Some(error) = complaint {
        tracing::warn!("cannot reach the journal, logging to standard error: {error}");
    }
    Ok(log)
}

/// The log in the wanted format, or in human lines with the reason why there is no journal.
fn open(options: Options, journal: impl FnOnce() -> io::Result<Journal>) -> (Log, Option<io::Error>) {
    match options.format {
        Format::Human | Format::Json => (Log::background(options, Box::new(Stderr::new())), None),
        Format::Journald => match journal() {
            Ok(journal) => (Log::background(options, Box::new(journal)), None),
            Err(error) => {
                let options = Options { format: Format::Human, ..options };
                (Log::background(options, Box::new(Stderr::new())), Some(error))
            }
        },
    }
}

/// The log. Cheap to clone; clones write to the same place.
#[derive(Clone)]
pub struct Log(Arc<Sink>, Option<Arc<dyn OutputTap>>);

impl Log {
    /// A log that writes to `writer`, one `write_all` per entry or chunk of output, and is not the receiver of
    /// `tracing` events. Times are in the system's time zone.
    pub fn new(options: Options, writer: Box<dyn Write + Send>) -> Self {
        Self(Arc::new(Sink::new(options, writer, jiff::tz::TimeZone::system())), None)
    }

    /// A log that a thread of its own writes, so that nobody who logs waits for a slow reader.
    fn background(options: Options, writer: Box<dyn Write + Send>) -> Self {
        Self(Arc::new(Sink::new(options, writer, jiff::tz::TimeZone::system()).in_background()), None)
    }

    /// Names the instance in every entry from now on, which is known once the configuration is read. Only the first
    /// call counts.
    pub fn set_rsync_id(&self, rsync_id: &str) {
        self.0.set_rsync_id(rsync_id);
    }

    /// A writer for what an action prints.
    pub fn output(&self, rsync_id: &str, run: RunId, job: &JobId, action: &ActionId) -> ActionLog {
        ActionLog::new((Arc::clone(&self.0), self.1.clone()), rsync_id, run, job.clone(), action.clone())
    }

    /// The same log, whose action output is shown to `tap` too, whatever the level.
    #[must_use]
    pub fn with_tap(self, tap: Arc<dyn OutputTap>) -> Self {
        Self(self.0, Some(tap))
    }

    /// Waits a while for what is being written, at the end of the process.
    pub fn flush(&self) {
        self.0.flush();
    }

    /// From now on the bars are taken away while an entry is written and drawn again below it.
    pub fn attach_progress(&self, bars: indicatif::MultiProgress) {
        self.0.attach_progress(bars);
    }

    fn entry(&self, entry: &Entry<'_>) {
        self.0.entry(entry);
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Log({:?})", self.0.format())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: LevelFilter) {
        assert_eq!(parse_level(name).expect(name), expected, "{name}");
    }

    #[test]
    fn levels_have_the_names_of_python_and_of_rust_in_any_case() {
        check("DEBUG", LevelFilter::DEBUG);
        check("Info", LevelFilter::INFO);
        check("WARNING", LevelFilter::WARN);
        check("warn", LevelFilter::WARN);
        check("ERROR", LevelFilter::ERROR);
        check("CRITICAL", LevelFilter::ERROR);
        check("trace", LevelFilter::TRACE);
        check(" off ", LevelFilter::OFF);
    }

    #[test]
    fn an_unknown_level_is_named() {
        let error = parse_level("loud").expect_err("not a level");
        assert_eq!(error.to_string(), "unknown log level `loud`, use one of DEBUG, INFO, WARNING, ERROR, CRITICAL");
    }

    #[test]
    fn without_a_journal_lines_are_for_people() {
        let options = |format| Options { level: LevelFilter::INFO, format, color: false };
        let (log, complaint) = open(options(Format::Journald), || Err(io::ErrorKind::NotFound.into()));
        assert_eq!(log.0.format(), Format::Human);
        assert_eq!(complaint.expect("a reason").kind(), io::ErrorKind::NotFound);
        let (log, complaint) = open(options(Format::Json), || unreachable!("nobody asked for the journal"));
        assert_eq!(log.0.format(), Format::Json);
        assert!(complaint.is_none());
    }
}
