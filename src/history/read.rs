//! Questions to the history.

use std::io::Read;

use flate2::read::ZlibDecoder;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use serde::Serialize;

/// A job of a run, or one that was due and did not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobRun {
    /// Its number.
    pub id: i64,
    /// The run; none for one that did not start.
    pub run: Option<i64>,
    /// Which job.
    pub job: String,
    /// What caused the run.
    pub trigger: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended; none while it runs, and for one that was interrupted.
    pub ended: Option<Timestamp>,
    /// `running`, `succeeded`, `failed`, `skipped`, `missed`, `interrupted`.
    pub outcome: String,
    /// The kind of its failure, as the metrics name it.
    pub reason: Option<String>,
    /// Why, for people.
    pub detail: Option<String>,
    /// Time that it waited for blocks, milliseconds.
    pub blocked_ms: Option<i64>,
    /// Time that it waited for locks, milliseconds.
    pub locking_ms: Option<i64>,
    /// Files that its syncs transferred.
    pub transferred: i64,
    /// Bytes of those files.
    pub transferred_bytes: i64,
}

/// An action of a job of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActionRun {
    /// Its number.
    pub id: i64,
    /// Which action.
    pub action: String,
    /// The command line, for people.
    pub command: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// `running`, `succeeded`, `failed`, `interrupted`.
    pub outcome: String,
    /// The kind of its failure, as the metrics name it.
    pub reason: Option<String>,
    /// What its last process exited with.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// How it ended, for people.
    pub message: Option<String>,
    /// Attempts after the first.
    pub retries: i64,
    /// What rsync said it did.
    pub stats: Option<ActionStats>,
}

/// What an rsync did. Sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "named as in rsync::stats::Stats")]
pub struct ActionStats {
    pub files: i64,
    pub created: i64,
    pub deleted: i64,
    pub transferred: i64,
    pub source_bytes: i64,
    pub transferred_bytes: i64,
    pub sent_bytes: i64,
    pub received_bytes: i64,
}

/// Which runs are wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only of this job.
    pub job: Option<String>,
    /// Only those that did not succeed: failed, skipped, missed, interrupted.
    pub failed: bool,
    /// At most so many.
    pub limit: u32,
}

/// The latest, the newest first.
///
/// # Errors
/// As the database has them.
pub fn jobs(database: &Connection, filter: &Filter) -> rusqlite::Result<Vec<JobRun>> {
    let by_job = if filter.job.is_some() { "AND job = :job" } else { "AND :job IS NULL" };
    let failed = if filter.failed { "AND outcome NOT IN ('succeeded')" } else { "" };
    let query = format!("{JOB_RUN} WHERE 1 {by_job} {failed} ORDER BY started DESC, id DESC LIMIT :limit");
    let mut statement = database.prepare_cached(&query)?;
    let rows = statement.query_map(named_params! {":job": filter.job, ":limit": filter.limit}, job_run)?;
    rows.collect()
}

/// How a job of a run ended: what an overview tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The run; none for one that did not start.
    pub run: Option<i64>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// As in [`JobRun`].
    pub outcome: String,
    /// Why, for people.
    pub detail: Option<String>,
}

/// The last runs of a job, the newest first: its index alone is read, so this is quick for many jobs.
///
/// # Errors
/// As the database has them.
pub fn outcomes(database: &Connection, job: &str, limit: usize) -> rusqlite::Result<Vec<Outcome>> {
    let mut statement = database.prepare_cached(
        "SELECT run, started, ended, coalesce(outcome, 'running'), detail FROM job_run
         WHERE job = ? ORDER BY started DESC LIMIT ?",
    )?;
    statement.query_map(params![job, limit], outcome)?.collect()
}

/// How an action of a job ended last; `None` if it never has.
///
/// # Errors
/// As the database has them.
pub fn last_of(database: &Connection, job: &str, action: &str) -> rusqlite::Result<Option<Outcome>> {
    let query = "SELECT job_run.run, action_run.started, action_run.ended, action_run.outcome, action_run.message
         FROM job_run JOIN action_run ON action_run.job_run = job_run.id
         WHERE job_run.job = ? AND action_run.action = ? AND action_run.outcome IS NOT NULL
         ORDER BY job_run.started DESC, action_run.id DESC LIMIT 1";
    database.prepare_cached(query)?.query_row(params![job, action], outcome).optional()
}

fn outcome(row: &Row<'_>) -> rusqlite::Result<Outcome> {
    Ok(Outcome {
        run: row.get(0)?,
        started: time(row.get(1)?),
        ended: row.get::<_, Option<i64>>(2)?.map(time),
        outcome: row.get(3)?,
        detail: row.get(4)?,
    })
}

/// The run that began last.
///
/// # Errors
/// As the database has them.
pub fn latest_run(database: &Connection) -> rusqlite::Result<Option<i64>> {
    database.query_row("SELECT max(id) FROM run", [], |row| row.get(0))
}

/// Whether a run is over; also when it is not known.
///
/// # Errors
/// As the database has them.
pub fn is_over(database: &Connection, run: i64) -> rusqlite::Result<bool> {
    let mut statement = database.prepare_cached("SELECT outcome IS NULL FROM run WHERE id = ?")?;
    let is_under_way: Option<bool> = statement.query_row(params![run], |row| row.get(0)).optional()?;
    Ok(is_under_way != Some(true))
}

/// The jobs of a run, in the order in which they began.
///
/// # Errors
/// As the database has them.
pub fn jobs_of(database: &Connection, run: i64) -> rusqlite::Result<Vec<JobRun>> {
    let mut statement = database.prepare_cached(&format!("{JOB_RUN} WHERE run = ? ORDER BY id"))?;
    statement.query_map(params![run], job_run)?.collect()
}

const JOB_RUN: &str = "SELECT id, run, job, trigger, started, ended, coalesce(outcome, 'running'), reason, detail, blocked_ms, locking_ms,
    (SELECT coalesce(sum(transferred), 0) FROM action_run WHERE job_run = job_run.id),
    (SELECT coalesce(sum(transferred_bytes), 0) FROM action_run WHERE job_run = job_run.id)
    FROM job_run";

fn job_run(row: &Row<'_>) -> rusqlite::Result<JobRun> {
    Ok(JobRun {
        id: row.get(0)?,
        run: row.get(1)?,
        job: row.get(2)?,
        trigger: row.get(3)?,
        started: time(row.get(4)?),
        ended: row.get::<_, Option<i64>>(5)?.map(time),
        outcome: row.get(6)?,
        reason: row.get(7)?,
        detail: row.get(8)?,
        blocked_ms: row.get(9)?,
        locking_ms: row.get(10)?,
        transferred: row.get(11)?,
        transferred_bytes: row.get(12)?,
    })
}

/// The actions of a job of a run, in order.
///
/// # Errors
/// As the database has them.
pub fn actions(database: &Connection, job_run: i64) -> rusqlite::Result<Vec<ActionRun>> {
    let mut statement = database.prepare_cached(
        "SELECT id, action, command, started, ended, coalesce(outcome, 'running'), reason, exit_code, signal, message, retries,
         files, created, deleted, transferred, source_bytes, transferred_bytes, sent_bytes, received_bytes
         FROM action_run WHERE job_run = ? ORDER BY id",
    )?;
    statement.query_map(params![job_run], action_run)?.collect()
}

fn action_run(row: &Row<'_>) -> rusqlite::Result<ActionRun> {
    let stats = match row.get::<_, Option<i64>>(11)? {
        None => None,
        Some(files) => Some(ActionStats {
            files,
            created: row.get(12)?,
            deleted: row.get(13)?,
            transferred: row.get(14)?,
            source_bytes: row.get(15)?,
            transferred_bytes: row.get(16)?,
            sent_bytes: row.get(17)?,
            received_bytes: row.get(18)?,
        }),
    };
    Ok(ActionRun {
        id: row.get(0)?,
        action: row.get(1)?,
        command: row.get(2)?,
        started: time(row.get(3)?),
        ended: row.get::<_, Option<i64>>(4)?.map(time),
        outcome: row.get(5)?,
        reason: row.get(6)?,
        exit_code: row.get(7)?,
        signal: row.get(8)?,
        message: row.get(9)?,
        retries: row.get(10)?,
        stats,
    })
}

/// A line that an action printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputLine {
    /// To standard output.
    Out(Vec<u8>),
    /// To standard error.
    Error(Vec<u8>),
    /// So many lines were left out here.
    Gap(u64),
}

/// What an action printed, as far as it was kept.
///
/// # Errors
/// As the database has them.
pub fn output(database: &Connection, action_run: i64) -> rusqlite::Result<Vec<OutputLine>> {
    let query = "SELECT text, dropped, gap FROM output WHERE action_run = ?";
    let mut statement = database.prepare_cached(query)?;
    let found = statement.query_row(params![action_run], |row| {
        Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, u64>(1)?, row.get::<_, usize>(2)?))
    });
    let Some((text, dropped, gap)) = found.optional()? else { return Ok(Vec::new()) };
    let mut bytes = Vec::new();
    // As much as can be read of it.
    let _ = ZlibDecoder::new(&text[..]).read_to_end(&mut bytes);
    Ok(lines(&bytes, dropped, gap))
}

/// The lines of a captured text, whose gap of so many is at that offset.
pub(super) fn lines(bytes: &[u8], dropped: u64, gap: usize) -> Vec<OutputLine> {
    let mut lines = Vec::new();
    let mut offset = 0;
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        if offset == gap && dropped > 0 {
            lines.push(OutputLine::Gap(dropped));
        }
        offset += line.len();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        match line.split_first() {
            Some((b'e', rest)) => lines.push(OutputLine::Error(rest.to_vec())),
            Some((_, rest)) => lines.push(OutputLine::Out(rest.to_vec())),
            None => {}
        }
    }
    if offset == gap && dropped > 0 {
        lines.push(OutputLine::Gap(dropped));
    }
    lines
}

/// What is remembered of a job for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Last {
    /// When it last began.
    pub start: Option<Timestamp>,
    /// When it last succeeded or failed.
    pub completion: Option<Timestamp>,
    /// When it last succeeded.
    pub success: Option<Timestamp>,
    /// Up to when its scheduled times were dealt with.
    pub seen_until: Option<Timestamp>,
    /// When it was last told that it is late.
    pub late: Option<Timestamp>,
    /// The earliest time that is still remembered at which it began or should have.
    pub first_start: Option<Timestamp>,
    /// Whether the last of its runs that came to a result failed, as far as runs are remembered.
    pub failed: bool,
}

/// The same of every job that ever ran.
///
/// # Errors
/// As the database has them.
pub fn last(database: &Connection) -> rusqlite::Result<Vec<(String, Last)>> {
    let mut statement = database.prepare(
        "SELECT job, last_start, last_completion, last_success, last_late,
         (SELECT min(started) FROM job_run WHERE job_run.job = job_state.job),
         coalesce((SELECT outcome FROM job_run WHERE job_run.job = job_state.job AND outcome IN ('succeeded', 'failed')
                   ORDER BY started DESC LIMIT 1) = 'failed', FALSE), seen_until
         FROM job_state",
    )?;
    let rows = statement.query_map([], |row| {
        let at = |n| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(n)?.map(time));
        let times = Last { start: at(1)?, completion: at(2)?, success: at(3)?, late: at(4)?, ..Last::default() };
        Ok((row.get(0)?, Last { first_start: at(5)?, failed: row.get(6)?, seen_until: at(7)?, ..times }))
    })?;
    rows.collect()
}

fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
}
