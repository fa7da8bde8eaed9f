//! The database's tables, and how one of an earlier release becomes today's.
//!
//! Times are milliseconds since the Unix epoch. `outcome` is NULL while something is under way.

use std::ffi::OsString;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags};

/// Each brings the tables of the release before up to date; `user_version` counts them.
pub(super) const MIGRATIONS: &[&str] = &[
    "
CREATE TABLE run (
    id INTEGER PRIMARY KEY, -- also when it began, as near as is unique
    trigger TEXT NOT NULL,
    started INTEGER NOT NULL,
    ended INTEGER,
    outcome TEXT -- ended, interrupted
);
CREATE TABLE job_run (
    id INTEGER PRIMARY KEY,
    run INTEGER REFERENCES run (id) ON DELETE CASCADE, -- NULL for one that did not even start
    job TEXT NOT NULL,
    trigger TEXT NOT NULL,
    started INTEGER NOT NULL,
    ended INTEGER,
    outcome TEXT, -- succeeded, failed, skipped, missed, interrupted
    reason TEXT, -- as the label of the metrics
    detail TEXT, -- for people
    blocked_ms INTEGER, -- waited for blocks
    locking_ms INTEGER -- waited for locks
);
CREATE INDEX job_run_by_run ON job_run (run);
CREATE INDEX job_run_by_job ON job_run (job, started);
CREATE INDEX job_run_by_time ON job_run (started);
CREATE TABLE action_run (
    id INTEGER PRIMARY KEY,
    job_run INTEGER NOT NULL REFERENCES job_run (id) ON DELETE CASCADE,
    action TEXT NOT NULL,
    command TEXT NOT NULL, -- for people: quoted as for a shell
    started INTEGER NOT NULL,
    ended INTEGER,
    outcome TEXT, -- succeeded, failed, interrupted
    reason TEXT, -- as the label of the metrics
    exit_code INTEGER,
    signal INTEGER,
    message TEXT,
    retries INTEGER NOT NULL DEFAULT 0,
    files INTEGER, created INTEGER, deleted INTEGER, transferred INTEGER,
    source_bytes INTEGER, transferred_bytes INTEGER, sent_bytes INTEGER, received_bytes INTEGER
);
CREATE INDEX action_run_by_job ON action_run (job_run);
CREATE TABLE output (
    action_run INTEGER PRIMARY KEY REFERENCES action_run (id) ON DELETE CASCADE,
    text BLOB NOT NULL, -- zlib: lines, each behind an `o` or `e` for its stream
    dropped INTEGER NOT NULL, -- lines that were left out
    gap INTEGER NOT NULL -- where, in the uncompressed text
);
CREATE TABLE job_state ( -- never forgotten
    job TEXT PRIMARY KEY,
    last_start INTEGER,
    last_completion INTEGER,
    last_success INTEGER
) WITHOUT ROWID;
",
    "
ALTER TABLE job_state ADD COLUMN seen_until INTEGER; -- its scheduled times up to then were dealt with
ALTER TABLE job_state ADD COLUMN last_late INTEGER; -- when it was last told that the job is late
",
];

/// What SQLite keeps in memory of a database, KiB.
const CACHE_KIB: i32 = 512;

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// Its directory.
    #[error("could not make {}", .0.display())]
    Directory(PathBuf, #[source] io::Error),
    /// The database does not do what it is asked.
    #[error("the history {}", .0.display())]
    Database(PathBuf, #[source] rusqlite::Error),
    /// A later release of the program wrote it.
    #[error("the history {} is of a later release", .0.display())]
    Later(PathBuf),
}

impl HistoryError {
    /// Whether the file is no database of ours, so that another must take its place.
    fn is_lasting(&self) -> bool {
        match self {
            Self::Directory(..) => false,
            Self::Later(_) => true,
            Self::Database(_, error) => is_corrupt(error),
        }
    }
}

/// Whether an error says that the file is not what a database is.
pub(super) fn is_corrupt(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        // Tables that are not ours.
        || matches!(error.sqlite_error_code(), Some(ErrorCode::Unknown))
}

/// Opens the database for writing, made or brought up to date where needed. One that cannot be read is set aside, which is said.
///
/// # Errors
/// When there is none to be had: no room, no right, a disk that fails.
pub(super) fn open(path: &Path) -> Result<Connection, HistoryError> {
    match try_open(path) {
        Err(error) if error.is_lasting() && set_aside(path, &crate::error_chain(&error)) => try_open(path),
        result => result,
    }
}

fn try_open(path: &Path) -> Result<Connection, HistoryError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let made = fs::DirBuilder::new().recursive(true).mode(0o750).create(directory);
    made.map_err(|error| HistoryError::Directory(directory.to_owned(), error))?;
    // Before SQLite makes it with the umask's mode: it says what is copied where.
    let _ = fs::OpenOptions::new().create(true).append(true).mode(0o640).open(path);
    let in_database = |error| HistoryError::Database(path.to_owned(), error);
    let mut connection = Connection::open(path).map_err(in_database)?;
    let version = prepare(&mut connection).map_err(in_database)?;
    if version > MIGRATIONS.len() {
        return Err(HistoryError::Later(path.to_owned()));
    }
    Ok(connection)
}

/// Sets it up; the version that it was found with.
fn prepare(connection: &mut Connection) -> rusqlite::Result<usize> {
    connection.busy_timeout(Duration::from_secs(5))?;
    // Before the first table; so that forgotten runs give their room back.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A commit survives the process, as soon as it is made; a power cut may take the last ones, but leaves the others whole.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // It is little that is written at a time; a cache of the whole would stay in memory.
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let version: usize = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for (number, migration) in MIGRATIONS.iter().enumerate().skip(version) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", number + 1)?;
        transaction.commit()?;
    }
    Ok(version)
}

/// Opens it for questions only; `None` when there is none yet.
///
/// # Errors
/// When there is one that cannot be read.
pub fn open_read_only(path: &Path) -> Result<Option<Connection>, HistoryError> {
    if !path.exists() {
        return Ok(None);
    }
    let in_database = |error| HistoryError::Database(path.to_owned(), error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(in_database)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(in_database)?;
    let version: usize = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(in_database)?;
    match version {
        0 => Ok(None),
        version if version > MIGRATIONS.len() => Err(HistoryError::Later(path.to_owned())),
        _ => Ok(Some(connection)),
    }
}

/// Renames a database that is none, with what belongs to it. Whether it is out of the way.
pub(super) fn set_aside(path: &Path, why: &str) -> bool {
    let at = crate::clock::now();
    let kept = beside(path, &format!(".broken-{}", name_of(at)));
    if let Err(error) = fs::rename(path, &kept) {
        tracing::error!("{why}, and it could not be set aside: {error}");
        return false;
    }
    tracing::error!("{why}: set aside as {}, and begun anew", kept.display());
    for companion in ["-wal", "-shm"] {
        let _ = fs::rename(beside(path, companion), beside(&kept, companion));
    }
    true
}

fn name_of(at: Timestamp) -> String {
    at.as_millisecond().to_string()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
