//! The thread that writes.

use std::collections::HashMap;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::capture::{Capture, Captured};
use super::{Note, Options, Waiting, schema};
use crate::config::{ActionId, JobId};
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

/// Writes what it is told until nobody is left to tell; sooner, and all of it, for whoever waits for that.
pub(super) fn run(options: Options, notes: &Receiver<Note>, hurry: &Receiver<Waiting>) {
    let mut writer = Writer { options, database: None, said: false, causes: Causes::default(), open: Rows::default() };
    writer.begin();
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

/// What was told, and when.
type Told = (Timestamp, Box<RunEvent>, Option<Capture>);

struct Writer {
    options: Options,
    /// None while it cannot be written.
    database: Option<Connection>,
    /// Whether people were told that it cannot.
    said: bool,
    causes: Causes,
    open: Rows,
}

/// The rows of what is under way.
#[derive(Default)]
struct Rows {
    jobs: HashMap<(RunId, JobId), i64>,
    actions: HashMap<(RunId, JobId, ActionId), i64>,
}

impl Writer {
    fn begin(&mut self) {
        match schema::open(&self.options.path) {
            Ok(database) => {
                let interrupted = interrupt(&database, &self.open);
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
        if schema::is_corrupt(&error) {
            schema::set_aside(&self.options.path, &format!("the history cannot be read: {error}"));
            return self.begin();
        }
        self.complain(&format!("{}: {error}", self.options.path.display()));
    }

    /// Writes what has gathered in one transaction.
    fn write(&mut self, notes: Vec<Note>) {
        let told = notes.into_iter().filter_map(|note| match note {
            Note::Event { at, event, output } => Some((at, event, output)),
            Note::Hurry => None,
        });
        let events: Vec<Told> = told.collect();
        let begins = events.iter().any(|(_, event, _)| matches!(**event, RunEvent::RunStarted { .. }));
        if begins && self.database.is_none() {
            self.begin();
        }
        let ended = events.iter().rev().find(|(_, event, _)| matches!(**event, RunEvent::RunFinished { .. }));
        let ended = ended.map(|(at, ..)| *at);
        let result = self.transaction(events);
        if result.is_ok() && self.database.is_some() && std::mem::take(&mut self.said) {
            tracing::info!("the history is kept again");
        }
        self.settle(result);
        if let Some((database, now)) = self.database.as_ref().zip(ended) {
            let result = forget(database, &self.options, now);
            self.settle(result);
        }
    }

    fn transaction(&mut self, events: Vec<Told>) -> rusqlite::Result<()> {
        let transaction = self.database.as_mut().map(Connection::transaction).transpose()?;
        for (at, event, output) in events {
            self.causes.observe(&event);
            if let Some(transaction) = &transaction {
                write(transaction, &mut self.open, &mut self.causes, at.as_millisecond(), &event, output)?;
            }
        }
        transaction.map_or(Ok(()), Transaction::commit)
    }
}

/// Whatever is under way in the database, and not in this process, was when its process ended.
fn interrupt(database: &Connection, open: &Rows) -> rusqlite::Result<()> {
    if !open.jobs.is_empty() {
        return Ok(());
    }
    database.execute_batch(
        "BEGIN;
         UPDATE action_run SET outcome = 'interrupted' WHERE outcome IS NULL;
         UPDATE job_run SET outcome = 'interrupted', detail = 'the director ended in the middle of it' WHERE outcome IS NULL;
         UPDATE run SET outcome = 'interrupted' WHERE outcome IS NULL;
         COMMIT;",
    )
}

fn write(
    database: &Connection,
    open: &mut Rows,
    causes: &mut Causes,
    at: i64,
    event: &RunEvent,
    output: Option<Capture>,
) -> rusqlite::Result<()> {
    match event {
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
        RunEvent::Job { run: Some(run), job, event } => {
            return in_run(database, open, causes, at, (*run, job), event, output);
        }
        RunEvent::Job { run: None, job, event } => return outside(database, at, job, event),
        RunEvent::PeerConnected { .. } | RunEvent::PeerFailed { .. } => {}
    }
    Ok(())
}

/// Something in a job of a run.
fn in_run(
    database: &Connection,
    open: &mut Rows,
    causes: &mut Causes,
    at: i64,
    (run, job): (RunId, &JobId),
    event: &JobEvent,
    output: Option<Capture>,
) -> rusqlite::Result<()> {
    if let JobEvent::Started { trigger } = event {
        let insert = "INSERT INTO job_run (run, job, trigger, started) VALUES (?, ?, ?, ?)";
        database.prepare_cached(insert)?.execute(params![id(run), job.as_str(), trigger.as_str(), at])?;
        open.jobs.insert((run, job.clone()), database.last_insert_rowid());
        state(database, job, "last_start", at)?;
        return Ok(());
    }
    let Some(&row) = open.jobs.get(&(run, job.clone())) else { return outside(database, at, job, event) };
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
            if let Some(row) = open.actions.remove(&(run, job.clone(), action.clone())) {
                action_finished(database, row, at, report, output)?;
            }
        }
        JobEvent::Finished { outcome, .. } => {
            open.jobs.remove(&(run, job.clone()));
            let detail = causes.explain(job, outcome);
            job_finished(database, row, at, job, outcome, detail)?;
        }
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
    output: Option<Capture>,
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
    if let Some(Captured { text, dropped, gap }) = output.map(Capture::finish) {
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
    job: &JobId,
    outcome: &JobOutcome,
    detail: Option<String>,
) -> rusqlite::Result<()> {
    let (outcome, reason) = match outcome {
        JobOutcome::Succeeded => ("succeeded", None),
        JobOutcome::Failed(failure) => ("failed", Some(failure.as_str())),
        JobOutcome::Skipped(reason) => ("skipped", Some(reason.as_str())),
    };
    let update = "UPDATE job_run SET ended = ?, outcome = ?, reason = ?, detail = ? WHERE id = ?";
    database.prepare_cached(update)?.execute(params![at, outcome, reason, detail, row])?;
    if outcome != "skipped" {
        state(database, job, "last_completion", at)?;
    }
    if outcome == "succeeded" {
        state(database, job, "last_success", at)?;
    }
    Ok(())
}

/// A time of a job that is never forgotten.
fn state(database: &Connection, job: &JobId, column: &'static str, at: i64) -> rusqlite::Result<()> {
    let upsert = format!(
        "INSERT INTO job_state (job, {column}) VALUES (?1, ?2) ON CONFLICT (job) DO UPDATE SET {column} = excluded.{column}"
    );
    database.prepare_cached(&upsert)?.execute(params![job.as_str(), at]).map(drop)
}

/// What was due and did not even start.
fn outside(database: &Connection, at: i64, job: &JobId, event: &JobEvent) -> rusqlite::Result<()> {
    let (trigger, outcome, reason, detail) = match event {
        JobEvent::Late { .. } => return state(database, job, "last_late", at),
        JobEvent::NotRun { reason, trigger } => {
            (trigger.as_str(), "skipped", reason.as_str(), skip_text(*reason).into())
        }
        JobEvent::Missed { count } => ("cron", "missed", "missed", format!("{count} scheduled times passed")),
        JobEvent::NextRun(_) => return state(database, job, "seen_until", at),
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

fn id(run: RunId) -> i64 {
    i64::try_from(run.0).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::Sender;
    use std::sync::{Arc, mpsc};

    use super::*;

    #[test]
    fn who_begins_to_wait_while_others_are_served_is_served_too() {
        let (queue, notes) = mpsc::channel();
        let (hurry, hurried) = mpsc::channel::<Waiting>();
        let served = Arc::new(AtomicUsize::new(0));
        let call = |queue: &Sender<Note>, hurry: &Sender<Waiting>| {
            let served = Arc::clone(&served);
            let done = move || {
                served.fetch_add(1, Ordering::Relaxed);
            };
            hurry.send(Box::new(done)).expect("it listens");
            queue.send(Note::Hurry).expect("it listens");
        };
        call(&queue, &hurry);
        // One more comes with each of the first writes.
        let mut late = vec![(queue, hurry); 3];
        gather(&notes, &hurried, |_| {
            if let Some((queue, hurry)) = late.pop() {
                call(&queue, &hurry);
            }
        });
        assert_eq!(served.load(Ordering::Relaxed), 4);
    }
}
