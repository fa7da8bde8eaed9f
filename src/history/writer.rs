//! The thread that writes.

use std::sync::mpsc::Receiver;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::capture::{Capture, Captured};
use super::rows::{Rows, id};
use super::times::Times;
use super::{Note, Options, Share, Waiting, schema};
use crate::config::JobId;
use crate::event::{ActionReport, ExitStatus, JobEvent, JobOutcome, RunEvent, RunId, SkipReason};
use crate::logging::{Causes, skip_text};

/// Events that are written at once at most.
const BATCH: usize = 1000;
/// A page of the database, bytes, is freed in groups of so many.
const PAGES_AT_ONCE: u32 = 2000;
/// So many runs are forgotten at once when the database is too large.
const RUNS_AT_ONCE: u32 = 100;

/// What is told within this time is written at once, unless somebody waits for it. A thread that wakes when an rsync ends may cost that one
/// 20 ms (`bench/noop.py`).
const GATHER: Duration = Duration::from_millis(200);

/// Why a job's end is not known.
const ENDED: &str = "the director ended in the middle of it";
const NOT_WRITTEN: &str = "its end could not be recorded";

/// Writes what it is told until nobody is left to tell; sooner, and all of it, for whoever waits for that.
pub(super) fn run(options: Options, notes: &Receiver<Note>, hurry: &Receiver<Waiting>) {
    let mut writer = Writer::new(options);
    writer.begin(ENDED);
    gather(notes, hurry, |batch| writer.write(batch));
}

/// Hands on what is told, and lets those know who wait for it.
fn gather(notes: &Receiver<Note>, hurry: &Receiver<Waiting>, mut write: impl FnMut(Vec<Note>)) {
    let batch = |first| [first].into_iter().chain(notes.try_iter().take(BATCH)).collect();
    while let Ok(note) = notes.recv() {
        let mut first = hurry.recv_timeout(GATHER).ok();
        write(batch(note));
        // The note that wakes this thread for somebody may be among those that were just taken, so nobody is left in `hurry` when it sleeps.
        loop {
            let waiting: Vec<Waiting> = first.take().into_iter().chain(hurry.try_iter()).collect();
            if waiting.is_empty() {
                break;
            }
            // What they wait for was told before they said so.
            while let Ok(note) = notes.try_recv() {
                write(batch(note));
            }
            waiting.into_iter().for_each(|done| done());
        }
    }
}

/// What was told.
struct Told {
    at: Timestamp,
    event: Box<RunEvent>,
    output: Option<(Capture, Share)>,
    /// Of a job that is over, why it did not succeed.
    detail: Option<String>,
}

struct Writer {
    options: Options,
    /// None while it cannot be written.
    database: Option<Connection>,
    /// Whether people were told that it cannot.
    said: bool,
    causes: Causes,
    open: Rows,
    times: Times,
}

impl Writer {
    fn new(options: Options) -> Self {
        let (causes, open, times) = (Causes::default(), Rows::default(), Times::default());
        Self { options, database: None, said: false, causes, open, times }
    }

    /// Opens the database. Whatever is under way in it, and not in this process, has no end to come: `why` is for people.
    fn begin(&mut self, why: &str) {
        match schema::open(&self.options.path) {
            Ok(mut database) => {
                self.open.confine_to(&database);
                let interrupted = self.open.interrupt_others(&mut database, why);
                self.database = Some(database);
                self.settle(interrupted);
            }
            Err(error) => self.complain(&crate::error_chain(&error)),
        }
    }

    fn complain(&mut self, why: &str) {
        if !std::mem::replace(&mut self.said, true) {
            tracing::error!("no history is kept for now: {why}");
        }
    }

    /// What a statement came to.
    fn settle(&mut self, result: rusqlite::Result<()>) {
        let Err(error) = result else { return };
        self.database = None;
        let unreadable = format!("the history cannot be read: {error}");
        if schema::is_corrupt(&error) && schema::set_aside(&self.options.path, &unreadable) {
            return self.begin(NOT_WRITTEN);
        }
        self.complain(&format!("{}: {error}", self.options.path.display()));
    }

    /// Writes what has gathered in one transaction.
    fn write(&mut self, notes: Vec<Note>) {
        let mut told: Vec<Told> = notes.into_iter().filter_map(|note| self.told(note)).collect();
        let begins = told.iter().any(|told| matches!(*told.event, RunEvent::RunStarted { .. }));
        if begins && self.database.is_none() {
            self.begin(NOT_WRITTEN);
        }
        let ended = told.iter().rev().find(|told| matches!(*told.event, RunEvent::RunFinished { .. }));
        let ended = ended.map(|told| told.at);
        let result = self.record(&mut told);
        if result.is_ok() && self.database.is_some() && std::mem::take(&mut self.said) {
            tracing::info!("the history is kept again");
        }
        self.settle(result);
        if let Some((database, now)) = self.database.as_ref().zip(ended) {
            let result = forget(database, &self.options, now);
            self.settle(result);
        }
    }

    fn told(&mut self, note: Note) -> Option<Told> {
        let Note::Event { at, event, output } = note else { return None };
        self.causes.observe(&event);
        let mut detail = None;
        if let RunEvent::Job { job, event, .. } = &*event {
            self.times.observe(at.as_millisecond(), job, event);
            if let JobEvent::Finished { outcome, .. } = event {
                detail = self.causes.explain(job, outcome);
            }
        }
        Some(Told { at, event, output, detail })
    }

    /// All of it or, when that fails, nothing: then no row of it is left here either.
    fn record(&mut self, told: &mut [Told]) -> rusqlite::Result<()> {
        let mut open = self.open.clone();
        let recorded = self.database.as_mut().map(|database| transaction(database, &mut open, &self.times, told));
        if let Some(Ok(())) = recorded {
            self.open = open;
            self.times.clear();
        } else {
            told.iter().for_each(|told| self.open.observe(&told.event));
        }
        recorded.unwrap_or(Ok(()))
    }
}

fn transaction(database: &mut Connection, open: &mut Rows, times: &Times, told: &mut [Told]) -> rusqlite::Result<()> {
    let transaction = database.transaction()?;
    for told in told {
        write(&transaction, open, told)?;
        open.observe(&told.event);
    }
    times.write(&transaction)?;
    transaction.commit()
}

fn write(database: &Connection, open: &mut Rows, told: &mut Told) -> rusqlite::Result<()> {
    let (at, output) = (told.at.as_millisecond(), told.output.take());
    match &*told.event {
        RunEvent::RunStarted { run, trigger } => {
            let row = params![id(*run), trigger.as_str(), at];
            database
                .prepare_cached("INSERT OR REPLACE INTO run (id, trigger, started) VALUES (?, ?, ?)")?
                .execute(row)?;
        }
        RunEvent::RunFinished { run, .. } => {
            let row = params![at, id(*run)];
            database.prepare_cached("UPDATE run SET ended = ?, outcome = 'ended' WHERE id = ?")?.execute(row)?;
        }
        RunEvent::Job { run: Some(run), job, event: JobEvent::Started { trigger } } => {
            let row = job_started(database, at, *run, job, trigger.as_str())?;
            open.jobs.insert((*run, job.clone()), row);
        }
        RunEvent::Job { run: Some(run), job, event } => match open.jobs.get(&(*run, job.clone())) {
            Some(&row) => in_run(database, open, at, (*run, job, row), event, output, told.detail.as_deref())?,
            None => outside(database, at, job, event)?,
        },
        RunEvent::Job { run: None, job, event } => outside(database, at, job, event)?,
        RunEvent::PeerConnected { .. } | RunEvent::PeerFailed { .. } => {}
    }
    Ok(())
}

fn job_started(database: &Connection, at: i64, run: RunId, job: &JobId, trigger: &str) -> rusqlite::Result<i64> {
    // What began the run may not have been recorded.
    let insert = "INSERT OR IGNORE INTO run (id, trigger, started) VALUES (?, ?, ?)";
    database.prepare_cached(insert)?.execute(params![id(run), trigger, at])?;
    let insert = "INSERT INTO job_run (run, job, trigger, started) VALUES (?, ?, ?, ?)";
    database.prepare_cached(insert)?.execute(params![id(run), job.as_str(), trigger, at])?;
    Ok(database.last_insert_rowid())
}

/// Something in a job of a run.
fn in_run(
    database: &Connection,
    open: &mut Rows,
    at: i64,
    (run, job, row): (RunId, &JobId, i64),
    event: &JobEvent,
    output: Option<(Capture, Share)>,
    detail: Option<&str>,
) -> rusqlite::Result<()> {
    match event {
        JobEvent::BlocksDone { waited } => set(database, row, "blocked_ms", waited.as_millis())?,
        JobEvent::Locked { waited, .. } => set(database, row, "locking_ms", waited.as_millis())?,
        JobEvent::ActionStarted { action, command } => {
            let insert = "INSERT INTO action_run (job_run, action, command, started) VALUES (?, ?, ?, ?)";
            database.prepare_cached(insert)?.execute(params![row, action.as_str(), command, at])?;
            open.actions.insert((run, job.clone(), action.clone()), database.last_insert_rowid());
        }
        JobEvent::Retry { action, .. } => {
            if let Some(row) = open.actions.get(&(run, job.clone(), action.clone())) {
                database.execute("UPDATE action_run SET retries = retries + 1 WHERE id = ?", params![row])?;
            }
        }
        JobEvent::ActionFinished { action, report } => {
            if let Some(row) = open.actions.get(&(run, job.clone(), action.clone())) {
                action_finished(database, *row, at, report, output)?;
            }
        }
        JobEvent::Finished { outcome, .. } => job_finished(database, row, at, outcome, detail)?,
        _ => {}
    }
    Ok(())
}

fn set(database: &Connection, row: i64, column: &'static str, value: u128) -> rusqlite::Result<()> {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    database.execute(&format!("UPDATE job_run SET {column} = ? WHERE id = ?"), params![value, row]).map(drop)
}

fn action_finished(
    database: &Connection,
    row: i64,
    at: i64,
    report: &ActionReport,
    output: Option<(Capture, Share)>,
) -> rusqlite::Result<()> {
    let (code, signal) = match report.status {
        Some(ExitStatus::Code(code)) => (Some(code), None),
        Some(ExitStatus::Signal(signal)) => (None, Some(signal)),
        None => (None, None),
    };
    let outcome = if report.failure.is_none() { "succeeded" } else { "failed" };
    let update =
        "UPDATE action_run SET ended = ?, outcome = ?, reason = ?, exit_code = ?, signal = ?, message = ? WHERE id = ?";
    let reason = report.failure.map(|failure| failure.as_str());
    database.prepare_cached(update)?.execute(params![at, outcome, reason, code, signal, report.message, row])?;
    if let Some(stats) = &report.stats {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let update = "UPDATE action_run SET files = ?, created = ?, deleted = ?, transferred = ?, source_bytes = ?,
                      transferred_bytes = ?, sent_bytes = ?, received_bytes = ? WHERE id = ?";
        let row = params![
            number(stats.files),
            number(stats.created),
            number(stats.deleted),
            number(stats.transferred),
            number(stats.source_bytes),
            number(stats.transferred_bytes),
            number(stats.sent_bytes),
            number(stats.received_bytes),
            row,
        ];
        database.prepare_cached(update)?.execute(row)?;
    }
    if let Some((capture, _share)) = output {
        let Captured { text, dropped, gap } = capture.finish();
        let insert = "INSERT INTO output (action_run, text, dropped, gap) VALUES (?, ?, ?, ?)";
        let dropped = i64::try_from(dropped).unwrap_or(i64::MAX);
        database.prepare_cached(insert)?.execute(params![row, text, dropped, gap])?;
    }
    Ok(())
}

fn job_finished(
    database: &Connection,
    row: i64,
    at: i64,
    outcome: &JobOutcome,
    detail: Option<&str>,
) -> rusqlite::Result<()> {
    let (outcome, reason) = match outcome {
        JobOutcome::Succeeded => ("succeeded", None),
        JobOutcome::Failed(failure) => ("failed", Some(failure.as_str())),
        JobOutcome::Skipped(reason) => ("skipped", Some(reason.as_str())),
    };
    let update = "UPDATE job_run SET ended = ?, outcome = ?, reason = ?, detail = ? WHERE id = ?";
    database.prepare_cached(update)?.execute(params![at, outcome, reason, detail, row]).map(drop)
}

/// What was due and did not even start.
fn outside(database: &Connection, at: i64, job: &JobId, event: &JobEvent) -> rusqlite::Result<()> {
    let (trigger, outcome, reason, detail) = match event {
        JobEvent::NotRun { reason, trigger } => {
            (trigger.as_str(), "skipped", reason.as_str(), skip_text(*reason).into())
        }
        JobEvent::Missed { count } => ("cron", "missed", "missed", format!("{count} scheduled times passed")),
        _ => return Ok(()),
    };
    // The end of the daemon is not the end of a schedule.
    if matches!(event, JobEvent::NotRun { reason: SkipReason::Shutdown, .. }) {
        return Ok(());
    }
    let insert =
        "INSERT INTO job_run (job, trigger, started, ended, outcome, reason, detail) VALUES (?, ?, ?3, ?3, ?, ?, ?)";
    database.prepare_cached(insert)?.execute(params![job.as_str(), trigger, at, outcome, reason, detail]).map(drop)
}

/// Forgets what is too old or too much.
fn forget(database: &Connection, options: &Options, now: Timestamp) -> rusqlite::Result<()> {
    let max_age = i64::try_from(options.max_age.as_millis()).unwrap_or(i64::MAX);
    let before = now.as_millisecond().saturating_sub(max_age);
    database.execute("DELETE FROM run WHERE started < ? AND outcome IS NOT NULL", params![before])?;
    database.execute("DELETE FROM job_run WHERE run IS NULL AND started < ?", params![before])?;
    let pragma = |name| database.pragma_query_value::<u64, _>(None, name, |row| row.get(0));
    let page_size = pragma("page_size")?;
    while (pragma("page_count")? - pragma("freelist_count")?) * page_size > options.max_size {
        let oldest = "DELETE FROM run WHERE id IN (SELECT id FROM run WHERE outcome IS NOT NULL ORDER BY id LIMIT ?)";
        if database.execute(oldest, params![RUNS_AT_ONCE])? == 0 {
            break;
        }
        let start: Option<i64> =
            database.query_row("SELECT min(started) FROM run", [], |row| row.get(0)).optional()?.flatten();
        database.execute("DELETE FROM job_run WHERE run IS NULL AND started < ?", params![start])?;
    }
    if pragma("freelist_count")? > u64::from(PAGES_AT_ONCE) / 10 {
        let mut vacuum = database.prepare(&format!("PRAGMA incremental_vacuum({PAGES_AT_ONCE})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
    }
    Ok(())
}

#[cfg(test)]
mod tests;
