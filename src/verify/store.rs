//! What was found by verifications, kept: a database of its own in the instance's directory of state.
//!
//! The process that verifies writes it, pages and commands read it meanwhile. It has every report of the time that is kept, and the
//! differences of each replica's last one. Times are milliseconds since the Unix epoch.

use std::cmp::Ordering;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{io, thread};

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, TransactionBehavior, params};

use super::compare::{Class, Difference};
use super::order::Replica;
use super::report::Report;
use crate::clock::Ticks;
use crate::scan::order;

mod differences;

pub use differences::Most;

/// The database's name in the directory of state.
pub const FILE: &str = "verify.sqlite";
/// So many differences of a replica are kept.
pub const DIFFERENCES_MAX: u64 = 1_000_000;

/// Who writes waits so long for another who does: a million differences take their time at the lowest priority, and what was found took longer.
const WRITER_WAITS: Duration = Duration::from_secs(600);
/// Who asks waits so long: somebody waits for the answer.
const READER_WAITS: Duration = Duration::from_secs(5);
/// Pause before what SQLite does not wait for itself is tried again.
const AGAIN: Duration = Duration::from_millis(50);

const VERSION: usize = 1;
const TABLES: &str = "
CREATE TABLE report (
    id INTEGER PRIMARY KEY,
    job TEXT NOT NULL,
    sync TEXT NOT NULL,
    at INTEGER NOT NULL,
    depth TEXT NOT NULL, -- quick, meta, deep
    verdict TEXT NOT NULL, -- in_step, tolerated, drift, unknown
    ratio REAL NOT NULL, -- of entries in step
    lag REAL, -- seconds
    report TEXT NOT NULL -- all of it, JSON
);
CREATE INDEX report_by_replica ON report (job, sync, at);
CREATE TABLE difference (
    id INTEGER PRIMARY KEY, -- in the order of paths
    report INTEGER NOT NULL REFERENCES report (id) ON DELETE CASCADE,
    path BLOB NOT NULL, -- from the root of the transfer
    class TEXT NOT NULL,
    detail TEXT NOT NULL, -- for people
    bytes INTEGER NOT NULL,
    source_mtime INTEGER, -- NULL where it is not there
    target_mtime INTEGER
);
CREATE INDEX difference_by_report ON difference (report, class);
CREATE TABLE run ( -- where differences begin whose paths follow in order: one for each tree of a sync with sources in several directories
    report INTEGER NOT NULL REFERENCES report (id) ON DELETE CASCADE,
    first INTEGER NOT NULL -- difference
);
CREATE INDEX run_by_report ON run (report, first);
";

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened, read or written.
    #[error("the verifications in {0}")]
    Database(PathBuf, #[source] rusqlite::Error),
    /// A later release has made it.
    #[error("the verifications in {0} are those of a later release")]
    Later(PathBuf),
}

/// Makes an instance's directory of state where there is none: without a history, verifications are all that is in it.
pub(super) fn make_directory(state: &Path) -> io::Result<()> {
    // As that of a unit: what is in it says what is copied where.
    DirBuilder::new().recursive(true).mode(0o750).create(state)
}

/// The database.
pub struct Store {
    path: PathBuf,
    connection: Connection,
}

/// One of a replica's reports, for a plot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// When.
    pub at: Timestamp,
    /// The part in step, 0 to 1.
    pub ratio: f64,
    /// The age of the oldest change that is missing, seconds.
    pub lag: Option<f64>,
}

/// A difference as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// From the root of the transfer.
    pub path: Vec<u8>,
    /// In which way.
    pub class: Class,
    /// For people.
    pub detail: String,
    /// Length of the file.
    pub bytes: u64,
    /// As the source has it.
    pub source_mtime: Option<Timestamp>,
    /// As the target has it.
    pub target_mtime: Option<Timestamp>,
}

/// Which differences are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Those below this directory; empty is all.
    pub directory: Vec<u8>,
    /// Those of this class.
    pub class: Option<Class>,
    /// Those whose path contains this, whatever its case.
    pub search: String,
}

impl Store {
    /// Opens it for writing, and makes it where there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(state: &Path) -> Result<Self, StoreError> {
        let path = state.join(FILE);
        let failed = |error| StoreError::Database(path.clone(), error);
        let mut connection = Connection::open(&path).map_err(failed)?;
        prepare(&connection).map_err(failed)?;
        if version(&connection).map_err(failed)? == 0 {
            make_tables(&mut connection).map_err(failed)?;
        }
        match version(&connection).map_err(failed)? {
            VERSION => Ok(Self { path, connection }),
            _ => Err(StoreError::Later(path)),
        }
    }

    /// Opens it for questions; `None` when there is none yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open_read_only(state: &Path) -> Result<Option<Self>, StoreError> {
        let path = state.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let failed = |error| StoreError::Database(path.clone(), error);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(failed)?;
        connection.busy_timeout(READER_WAITS).map_err(failed)?;
        match version(&connection).map_err(failed)? {
            0 => Ok(None),
            VERSION => Ok(Some(Self { path, connection })),
            _ => Err(StoreError::Later(path)),
        }
    }

    fn failed(&self) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
        |error| StoreError::Database(self.path.clone(), error)
    }

    /// Keeps a report and what differs, in the order of paths, tree by tree; of that only the first [`DIFFERENCES_MAX`]. Forgets the differences of the replica's
    /// earlier ones, and reports that are older than `keep`. All or nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn record(
        &mut self,
        report: &Report,
        differences: impl Iterator<Item = Difference>,
        keep: Duration,
    ) -> Result<(), StoreError> {
        let path = self.path.clone();
        self.try_record(report, differences, keep).map_err(|error| StoreError::Database(path, error))
    }

    fn try_record(
        &mut self,
        report: &Report,
        differences: impl Iterator<Item = Difference>,
        keep: Duration,
    ) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let Replica { job, sync } = &report.replica;
        for table in ["difference", "run"] {
            let older =
                format!("DELETE FROM {table} WHERE report IN (SELECT id FROM report WHERE job = ?1 AND sync = ?2)");
            transaction.execute(&older, [job, sync])?;
        }
        let oldest = millis(report.at).saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX));
        transaction.execute("DELETE FROM report WHERE at < ?1", [oldest])?;
        let json =
            serde_json::to_string(report).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        let insert = "INSERT INTO report (job, sync, at, depth, verdict, ratio, lag, report) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let (depth, verdict) = (report.depth.name(), report.verdict.name());
        transaction
            .execute(insert, params![job, sync, millis(report.at), depth, verdict, report.ratio(), report.lag, json])?;
        let id = transaction.last_insert_rowid();
        {
            let insert = "INSERT INTO difference (report, path, class, detail, bytes, source_mtime, target_mtime) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            let mut insert = transaction.prepare(insert)?;
            let most = usize::try_from(DIFFERENCES_MAX).unwrap_or(usize::MAX);
            let mut before: Option<Vec<u8>> = None;
            for found in differences.take(most) {
                let begins = before.as_ref().is_none_or(|before| order(before, &found.path) != Ordering::Less);
                let mtime = |entry: &Option<crate::scan::Entry>| entry.as_ref().map(|entry| entry.mtime.millis());
                let (class, bytes) = (found.class.name(), found.bytes());
                let (source, target) = (mtime(&found.source), mtime(&found.target));
                insert.execute(params![id, found.path, class, found.detail, bytes, source, target])?;
                if begins {
                    let run = "INSERT INTO run (report, first) VALUES (?1, ?2)";
                    transaction.execute(run, [id, transaction.last_insert_rowid()])?;
                }
                before = Some(found.path);
            }
        }
        transaction.commit()
    }

    /// The last report of each replica, by their names.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn latest(&self) -> Result<Vec<Report>, StoreError> {
        let query =
            "SELECT report FROM report WHERE id IN (SELECT max(id) FROM report GROUP BY job, sync) ORDER BY job, sync";
        self.reports(query, &[])
    }

    /// The last report of a replica.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn last(&self, replica: &Replica) -> Result<Option<Report>, StoreError> {
        let query = "SELECT report FROM report WHERE job = ?1 AND sync = ?2 ORDER BY id DESC LIMIT 1";
        Ok(self.reports(query, &[&replica.job, &replica.sync])?.pop())
    }

    fn reports(&self, query: &str, params: &[&String]) -> Result<Vec<Report>, StoreError> {
        let mut statement = self.connection.prepare(query).map_err(self.failed())?;
        let rows = statement.query_map(rusqlite::params_from_iter(params), |row| row.get::<_, String>(0));
        let texts = rows.and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>).map_err(self.failed())?;
        // One that an earlier release wrote otherwise tells nothing any more.
        Ok(texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect())
    }

    /// The reports of a replica since then, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn series(&self, replica: &Replica, since: Timestamp) -> Result<Vec<Point>, StoreError> {
        let query = "SELECT at, ratio, lag FROM report WHERE job = ?1 AND sync = ?2 AND at >= ?3 ORDER BY at";
        let mut statement = self.connection.prepare(query).map_err(self.failed())?;
        let point = |row: &Row<'_>| Ok(Point { at: timestamp(row.get(0)?), ratio: row.get(1)?, lag: row.get(2)? });
        let points = statement.query_map(params![replica.job, replica.sync, millis(since)], point);
        points.and_then(Iterator::collect).map_err(self.failed())
    }
}

/// Sets it up. Of two that change the kind of journal at once, SQLite sends one away at once.
fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(WRITER_WAITS)?;
    let began = Ticks::now();
    loop {
        match set(connection) {
            Err(error) if is_busy(&error) && began.elapsed() < WRITER_WAITS => thread::sleep(AGAIN),
            result => return result,
        }
    }
}

fn set(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", true)
}

fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

fn version(connection: &Connection) -> rusqlite::Result<usize> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Makes the tables, unless another has made them meanwhile.
fn make_tables(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if version(&transaction)? == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()
}

fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::super::report::{Count, Verdict};
    use super::*;
    use crate::scan::{Entry, Kind};

    fn report(at: i64) -> Report {
        Report { at: timestamp(at), ..Report::sample("j", "s", Verdict::Drift, &[(Class::Stale, 1)]) }
    }

    fn difference(path: &str, class: Class, bytes: u64) -> Difference {
        let source = Entry { size: bytes, ..Entry::of(path.into(), Kind::File) };
        Difference { path: path.into(), class, detail: String::new(), source: Some(source), target: None }
    }

    #[test]
    fn what_is_recorded_can_be_asked_for() {
        let state = tempfile::tempdir().expect("a directory");
        assert!(Store::open_read_only(state.path()).expect("no error").is_none());
        let mut store = Store::open(state.path()).expect("made");
        let day = Duration::from_secs(86_400);
        store.record(&report(1000), [difference("old", Class::Stale, 1)].into_iter(), day).expect("written");
        let found = [
            difference("a", Class::Missing, 0),
            difference("a/B2", Class::Stale, 5),
            difference("a/b", Class::Missing, 10),
            difference("ab", Class::Stale, 20),
        ];
        store.record(&report(2000), found.into_iter(), day).expect("written");
        let store = Store::open_read_only(state.path()).expect("no error").expect("there");
        let replica = report(0).replica;
        assert_eq!(store.latest().expect("read"), [report(2000)]);
        assert_eq!(store.last(&replica).expect("read"), Some(report(2000)));
        let points: Vec<_> = store.series(&replica, timestamp(0)).expect("read").iter().map(|p| millis(p.at)).collect();
        assert_eq!(points, [1000, 2000]);
        let list = |wanted: Wanted, offset, limit| {
            let (found, all) = store.differences(&replica, &wanted, offset, limit).expect("read");
            (found.into_iter().map(|kept| String::from_utf8(kept.path).expect("text")).collect::<Vec<_>>(), all)
        };
        assert_eq!(list(Wanted::default(), 1, 2), (vec!["a/B2".into(), "a/b".into()], 4));
        assert_eq!(list(Wanted { directory: b"a".into(), ..Wanted::default() }, 0, 9).1, 3);
        assert_eq!(list(Wanted { search: "B".into(), class: Some(Class::Stale), ..Wanted::default() }, 0, 9).1, 2);
        let top = store.by_directory(&replica, b"", Most::Bytes, 9).expect("read");
        assert_eq!(top[0], (b"ab".to_vec(), Count { entries: 1, bytes: 20 }));
        assert_eq!(top[1], (b"a".to_vec(), Count { entries: 3, bytes: 15 }));
        assert_eq!(
            store.by_directory(&replica, b"a", Most::Bytes, 1).expect("read"),
            [(b"b".to_vec(), Count { entries: 1, bytes: 10 })]
        );
    }

    #[test]
    fn verifications_that_end_together_make_one_database() {
        for _ in 0..20 {
            let state = tempfile::tempdir().expect("a directory");
            let together = Barrier::new(8);
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        together.wait();
                        let mut store = Store::open(state.path()).expect("opened");
                        store.record(&report(1), std::iter::empty(), Duration::from_secs(9)).expect("written");
                    });
                }
            });
            let store = Store::open_read_only(state.path()).expect("no error").expect("there");
            assert_eq!(store.series(&report(1).replica, timestamp(0)).expect("read").len(), 8);
        }
    }

    #[test]
    fn who_opens_it_waits_for_another_that_begins_it() {
        let state = tempfile::tempdir().expect("a directory");
        let other = Connection::open(state.path().join(FILE)).expect("made");
        // With tables already, so that the kind of journal is the first that is in the way.
        other.execute_batch("CREATE TABLE other (id INTEGER); BEGIN IMMEDIATE").expect("begun");
        thread::scope(|scope| {
            let open = scope.spawn(|| Store::open(state.path()).map(drop));
            thread::sleep(AGAIN * 4);
            other.execute_batch("COMMIT").expect("ended");
            open.join().expect("no panic").expect("opened");
        });
    }

    #[test]
    fn what_was_found_waits_for_another_that_writes() {
        let state = tempfile::tempdir().expect("a directory");
        let mut store = Store::open(state.path()).expect("made");
        let other = Store::open(state.path()).expect("opened");
        other.connection.execute_batch("BEGIN IMMEDIATE").expect("begun");
        thread::scope(|scope| {
            let record = scope.spawn(|| store.record(&report(1), std::iter::empty(), Duration::from_secs(9)));
            // Longer than who only asks would wait.
            thread::sleep(READER_WAITS + Duration::from_secs(1));
            other.connection.execute_batch("COMMIT").expect("ended");
            record.join().expect("no panic").expect("written");
        });
    }

    #[test]
    fn directories_of_several_trees_are_found_in_each() {
        let state = tempfile::tempdir().expect("a directory");
        let mut store = Store::open(state.path()).expect("made");
        let paths = ["m/a", "m/b", "m-x", "a", "a/c", "a/c/d", "a-b", "c/\u{e9}%_", "z", "b/q"];
        let found = paths.iter().enumerate().map(|(n, path)| difference(path, Class::Stale, n as u64));
        store.record(&report(1), found, Duration::from_secs(9)).expect("written");
        let list = |directory: &str, search: &str| {
            let wanted = Wanted { directory: directory.into(), search: search.into(), class: None };
            let (found, all) = store.differences(&report(0).replica, &wanted, 0, 99).expect("read");
            assert_eq!(found.len() as u64, all);
            found.into_iter().map(|kept| String::from_utf8(kept.path).expect("text")).collect::<Vec<_>>()
        };
        for (directory, expected) in [
            ("m", &["m/a", "m/b"][..]),
            ("a", &["a", "a/c", "a/c/d"]),
            ("a/c", &["a/c", "a/c/d"]),
            ("a/c/d", &["a/c/d"]),
            ("b", &["b/q"]),
            ("c", &["c/\u{e9}%_"]),
            ("q", &[]),
        ] {
            assert_eq!(list(directory, ""), expected, "{directory}");
        }
        assert_eq!(
            (list("", "%_").len(), list("", "_").len(), list("", "\\").len(), list("", "C/").len()),
            (1, 1, 0, 2)
        );
        let top = store.by_directory(&report(0).replica, b"", Most::Entries, 2).expect("read");
        assert_eq!(top[0], (b"a".to_vec(), Count { entries: 3, bytes: 12 }));
        assert_eq!(top[1].0, b"m");
    }

    #[test]
    fn what_is_too_old_is_forgotten() {
        let state = tempfile::tempdir().expect("a directory");
        let mut store = Store::open(state.path()).expect("made");
        let none = || std::iter::empty();
        store.record(&report(1000), none(), Duration::from_secs(5)).expect("written");
        store.record(&report(7000), none(), Duration::from_secs(5)).expect("written");
        assert_eq!(store.series(&report(0).replica, timestamp(0)).expect("read").len(), 1);
    }
}
