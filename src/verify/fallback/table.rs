//! What rsync told, sorted: it tells in an order of its own, and there may be more than memory has room for. In databases of their own without a
//! name, which SQLite keeps on disk when they grow.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::line::{Change, Listed, What};
use crate::scan::Entry;
use crate::verify::side::SideError;

/// So many entries are taken from a table at once.
const PAGE: u32 = 512;

const LISTING: &str = "
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
CREATE TABLE entry (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE link (key BLOB PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
BEGIN;";
const CHANGES: &str = "
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
CREATE TABLE change (key BLOB PRIMARY KEY, what INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE problem (key BLOB PRIMARY KEY, why TEXT NOT NULL) WITHOUT ROWID;
BEGIN;";

const DELETED: i64 = 1;
const CONTENT: i64 = 2;
const MORE: i64 = 4;
const ATTRIBUTES: i64 = 8;
const DEVICE: i64 = 16;

/// Paths sort by this as by [`crate::scan::order`]: no name has a NUL, and a slash comes before every other byte.
fn key(path: &[u8]) -> Vec<u8> {
    path.iter().map(|&byte| if byte == b'/' { 0 } else { byte }).collect()
}

fn failed(error: rusqlite::Error) -> SideError {
    SideError::io("what rsync told could not be sorted", std::io::Error::other(error))
}

fn broken(error: postcard::Error) -> SideError {
    SideError::io("what rsync told could not be kept", std::io::Error::other(error))
}

/// A tree as it was listed.
pub(super) struct Listing {
    connection: Connection,
}

impl Listing {
    pub(super) fn new() -> Result<Self, SideError> {
        let connection = Connection::open("").map_err(failed)?;
        connection.execute_batch(LISTING).map_err(failed)?;
        Ok(Self { connection })
    }

    pub(super) fn put(&self, Listed { entry, link }: &Listed) -> Result<(), SideError> {
        let value = postcard::to_allocvec(entry).map_err(broken)?;
        let insert = "INSERT OR REPLACE INTO entry (key, value) VALUES (?1, ?2)";
        self.execute(insert, params![key(&entry.path), value])?;
        let Some(other) = link else { return Ok(()) };
        let insert = "INSERT OR IGNORE INTO link VALUES (?1, (SELECT count(*) FROM link))";
        self.execute(insert, params![key(other)])?;
        let insert = "INSERT OR IGNORE INTO link SELECT ?1, number FROM link WHERE key = ?2";
        self.execute(insert, params![key(&entry.path), key(other)])
    }

    /// Puts down why nothing is known of what a path holds.
    pub(super) fn problem(&self, path: &[u8], why: &str) -> Result<(), SideError> {
        let unknown = || Entry::of(path.to_owned(), crate::scan::Kind::Unknown);
        let entry = self.get(path)?.unwrap_or_else(unknown);
        self.put(&Listed { entry: Entry { problem: Some(why.to_owned()), ..entry }, link: None })
    }

    fn execute(&self, sql: &str, params: &[&dyn rusqlite::ToSql]) -> Result<(), SideError> {
        self.connection.prepare_cached(sql).and_then(|mut statement| statement.execute(params)).map_err(failed)?;
        Ok(())
    }

    pub(super) fn get(&self, path: &[u8]) -> Result<Option<Entry>, SideError> {
        let query = "SELECT value, number, key FROM entry LEFT JOIN link USING (key) WHERE key = ?1";
        let mut statement = self.connection.prepare_cached(query).map_err(failed)?;
        statement.query_row([key(path)], row).optional().map_err(failed)?.map(entry).transpose()
    }

    /// The next after a path; from the beginning without one.
    fn page(&self, after: Option<&[u8]>) -> Result<Vec<Entry>, SideError> {
        let query = "SELECT value, number, key FROM entry LEFT JOIN link USING (key)
                     WHERE ?1 IS NULL OR key > ?1 ORDER BY key LIMIT ?2";
        let mut statement = self.connection.prepare_cached(query).map_err(failed)?;
        let rows = statement.query_map(params![after.map(key), PAGE], row).map_err(failed)?;
        rows.map(|row| entry(row.map_err(failed)?)).collect()
    }

    /// All of it, in the order of [`crate::scan::order`].
    pub(super) fn entries(self) -> impl Iterator<Item = Result<Entry, SideError>> + Send {
        let (mut page, mut last, mut ended) = (Vec::new().into_iter(), None, false);
        std::iter::from_fn(move || {
            if page.len() == 0 && !ended {
                match self.page(last.as_deref()) {
                    Ok(next) => page = next.into_iter(),
                    Err(error) => {
                        ended = true;
                        return Some(Err(error));
                    }
                }
            }
            let next: Entry = page.next()?;
            last = Some(next.path.clone());
            Some(Ok(next))
        })
    }
}

fn row(row: &Row<'_>) -> rusqlite::Result<(Vec<u8>, Option<u64>)> {
    Ok((row.get(0)?, row.get(1)?))
}

fn entry((value, number): (Vec<u8>, Option<u64>)) -> Result<Entry, SideError> {
    let mut entry: Entry = postcard::from_bytes(&value).map_err(broken)?;
    if let Some(meta) = &mut entry.meta {
        meta.links = number;
    }
    Ok(entry)
}

/// What a sync would change.
pub(super) struct Changes {
    connection: Connection,
}

/// What a sync would do with one path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fate {
    pub(super) deleted: bool,
    pub(super) what: What,
}

impl Changes {
    pub(super) fn new() -> Result<Self, SideError> {
        let connection = Connection::open("").map_err(failed)?;
        connection.execute_batch(CHANGES).map_err(failed)?;
        Ok(Self { connection })
    }

    pub(super) fn put(&self, change: &Change) -> Result<(), SideError> {
        let flag = |is: bool, bit: i64| if is { bit } else { 0 };
        let (path, bits) = match change {
            Change::Deleted(path) => (path, DELETED),
            Change::Changed(path, what) => {
                let bits = flag(what.content, CONTENT) | flag(what.more, MORE);
                (path, bits | flag(what.attributes, ATTRIBUTES) | flag(what.device, DEVICE))
            }
        };
        if bits == 0 {
            return Ok(());
        }
        let insert = "INSERT INTO change VALUES (?1, ?2) ON CONFLICT DO UPDATE SET what = what | excluded.what";
        let mut statement = self.connection.prepare_cached(insert).map_err(failed)?;
        statement.execute(params![key(path), bits]).map_err(failed)?;
        Ok(())
    }

    pub(super) fn problem(&self, path: &[u8], why: &str) -> Result<(), SideError> {
        let insert = "INSERT OR IGNORE INTO problem VALUES (?1, ?2)";
        let mut statement = self.connection.prepare_cached(insert).map_err(failed)?;
        statement.execute(params![key(path), why]).map_err(failed)?;
        Ok(())
    }

    pub(super) fn of(&self, path: &[u8]) -> Result<Fate, SideError> {
        let query = "SELECT what FROM change WHERE key = ?1";
        let mut statement = self.connection.prepare_cached(query).map_err(failed)?;
        let bits: Option<i64> = statement.query_row([key(path)], |row| row.get(0)).optional().map_err(failed)?;
        let is = |bit| bits.is_some_and(|bits| bits & bit != 0);
        let what = What { content: is(CONTENT), more: is(MORE), attributes: is(ATTRIBUTES), device: is(DEVICE) };
        Ok(Fate { deleted: is(DELETED), what })
    }

    pub(super) fn problem_of(&self, path: &[u8]) -> Result<Option<String>, SideError> {
        let query = "SELECT why FROM problem WHERE key = ?1";
        let mut statement = self.connection.prepare_cached(query).map_err(failed)?;
        statement.query_row([key(path)], |row| row.get(0)).optional().map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scan::{Kind, order};

    fn listed(path: &[u8], link: Option<&[u8]>) -> Listed {
        let entry = Entry { meta: Some(Box::default()), ..Entry::of(path.into(), Kind::File) };
        Listed { entry, link: link.map(<[u8]>::to_vec) }
    }

    #[test]
    fn names_of_one_file_have_one_number() {
        let listing = Listing::new().expect("made");
        for (path, link) in [("d/e", None), ("d/c", Some("d/e")), ("b", Some("d/e")), ("y", None), ("x", Some("y"))] {
            listing.put(&listed(path.as_bytes(), link.map(str::as_bytes))).expect("put");
        }
        listing.problem(b"d", "no").expect("put");
        let entries: Vec<Entry> = listing.entries().map(|entry| entry.expect("read")).collect();
        let links: Vec<_> = entries.iter().map(|e| e.meta.as_ref().and_then(|meta| meta.links)).collect();
        assert_eq!(links[0], links[2]);
        assert_eq!((links[0], links[4]), (links[3], links[5]));
        assert!(links[0].is_some() && links[1].is_none() && links[4].is_some() && links[0] != links[4]);
        assert_eq!((entries[1].kind, entries[1].problem.as_deref()), (Kind::Unknown, Some("no")));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn entries_come_in_the_order_of_walks(paths in prop::collection::btree_set("[a./\u{1}-]{0,6}", 0..700)) {
            let listing = Listing::new().expect("made");
            for path in &paths {
                listing.put(&listed(path.as_bytes(), None)).expect("put");
            }
            let mut expected: Vec<Vec<u8>> = paths.iter().map(|path| path.clone().into_bytes()).collect();
            expected.sort_by(|a, b| order(a, b));
            let found: Vec<Vec<u8>> = listing.entries().map(|entry| entry.expect("read").path).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
