//! What the tests of the log, the progress bars and the summary share.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::tz::TimeZone;
use tracing::level_filters::LevelFilter;

use super::sink::Sink;
use super::{Format, Log, Options};
use crate::config::{ActionId, JobId};
use crate::event::{ActionFailure, ActionReport, ExitStatus, JobEvent, RunEvent, RunId};
use crate::rsync::stats::Stats;

/// The run of all test events.
pub(crate) const RUN: RunId = RunId(1_795_233_780_000);

/// A writer that keeps each write.
#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<Vec<Vec<u8>>>>);

impl Shared {
    pub fn writes(&self) -> Vec<Vec<u8>> {
        self.0.lock().expect("no panic").clone()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.writes().concat()).expect("UTF-8")
    }
}

impl Write for Shared {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").push(buf.to_owned());
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A log into `out`, uncoloured, in UTC.
pub(crate) fn log(format: Format, level: LevelFilter, out: &Shared) -> Log {
    let options = Options { level, format, color: false };
    Log(Arc::new(Sink::new(options, Box::new(out.clone()), TimeZone::UTC)), None)
}

pub(crate) fn job_event(job: &str, event: JobEvent) -> RunEvent {
    RunEvent::Job { run: Some(RUN), job: JobId::new(job), event }
}

pub(crate) fn action_finished(job: &str, action: &str, report: ActionReport) -> RunEvent {
    job_event(job, JobEvent::ActionFinished { action: ActionId::new(action), report })
}

/// A report of 3.2 s without statistics.
pub(crate) fn action_report(failure: Option<ActionFailure>, status: Option<ExitStatus>, message: &str) -> ActionReport {
    let duration = Duration::from_millis(3200);
    ActionReport { failure, status, message: message.to_owned(), stats: None, is_rsync: false, duration }
}

/// A sync that moved something.
pub(crate) fn sync_report() -> ActionReport {
    let stats = Stats {
        files: 1502,
        created: 10,
        deleted: 2,
        transferred: 12,
        source_bytes: 120_000_000,
        transferred_bytes: 3_400_000,
        sent_bytes: 3_500_000,
        received_bytes: 4000,
    };
    ActionReport { stats: Some(stats), is_rsync: true, ..action_report(None, Some(ExitStatus::Code(0)), "") }
}

/// A sync that could not read some files.
pub(crate) fn failed_report() -> ActionReport {
    let message = "partial transfer due to error";
    ActionReport { is_rsync: true, ..action_report(Some(ActionFailure::Exit), Some(ExitStatus::Code(23)), message) }
}
