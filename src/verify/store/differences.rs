//! Questions about the differences of a replica's last report, of which there may be a million.
//!
//! Those of a report were inserted in one transaction and in the order of paths ([`order`]), so their ids follow one another, and a directory is
//! a range of them, which a binary search finds. A sync with sources in several directories has such a run for each; their names differ. So a page of a list, and what a directory holds, cost as much as is shown; a search reads the
//! range once.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use rusqlite::{OptionalExtension, Row, params};

use super::super::compare::Class;
use super::super::order::Replica;
use super::super::report::Count;
use super::{Kept, Store, StoreError, Wanted, timestamp};
use crate::scan::order;

/// By what the largest are the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Most {
    /// By the bytes that differ.
    #[default]
    Bytes,
    /// By the entries that differ.
    Entries,
}

/// Ids of differences: from the first to before the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range(i64, i64);

impl Store {
    /// Differences of a replica's last report in the order of paths, and how many are wanted in all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn differences(
        &self,
        replica: &Replica,
        wanted: &Wanted,
        offset: u64,
        limit: u64,
    ) -> Result<(Vec<Kept>, u64), StoreError> {
        self.try_differences(replica, wanted, offset, limit).map_err(self.failed())
    }

    fn try_differences(
        &self,
        replica: &Replica,
        wanted: &Wanted,
        offset: u64,
        limit: u64,
    ) -> rusqlite::Result<(Vec<Kept>, u64)> {
        // What is asked for in pieces is that of one moment, though a verification may end meanwhile.
        let _snapshot = self.connection.unchecked_transaction()?;
        let Some((report, whole)) = self.last_range(replica)? else { return Ok((Vec::new(), 0)) };
        let Range(first, end) = self.range_at(report, whole, &wanted.directory)?;
        if wanted.class.is_none() && wanted.search.is_empty() {
            let all = u64::try_from(end - first).unwrap_or_default();
            let from = first.saturating_add(i64::try_from(offset).unwrap_or(i64::MAX)).min(end);
            return Ok((self.kept("id >= ?1 AND id < ?2 LIMIT ?3", params![from, end, limit])?, all));
        }
        let page = offset..offset.saturating_add(limit);
        let (mut all, mut ids) = (0, Vec::new());
        self.each_wanted(Range(first, end), report, wanted, |id| {
            if page.contains(&all) {
                ids.push(id);
            }
            all += 1;
        })?;
        let list = ids.into_iter().map(|id| self.kept("id = ?1", params![id]));
        Ok((list.collect::<rusqlite::Result<Vec<_>>>()?.concat(), all))
    }

    /// Hears of the id of each difference of a range that is wanted by its class and path, in order.
    fn each_wanted(
        &self,
        Range(first, end): Range,
        report: i64,
        wanted: &Wanted,
        mut hear: impl FnMut(i64),
    ) -> rusqlite::Result<()> {
        // The plus keeps SQLite from the index where the table itself, read in order, is quicker.
        let of_class = match wanted.class {
            Some(_) if wanted.search.is_empty() => "report = ?3 AND class = ?4",
            _ => "+report = ?3 AND (?4 = '' OR +class = ?4)",
        };
        let query = format!(
            "SELECT id FROM difference WHERE id >= ?1 AND id < ?2 AND {of_class} AND (?5 = '' OR path LIKE ?5 ESCAPE '\\') ORDER BY id"
        );
        let class = wanted.class.map(Class::name).unwrap_or_default();
        let mut statement = self.connection.prepare(&query)?;
        let mut rows = statement.query(params![first, end, report, class, containing(&wanted.search)])?;
        while let Some(row) = rows.next()? {
            hear(row.get(0)?);
        }
        Ok(())
    }

    fn kept(&self, filter: &str, params: &[&dyn rusqlite::ToSql]) -> rusqlite::Result<Vec<Kept>> {
        let query =
            format!("SELECT path, class, detail, bytes, source_mtime, target_mtime FROM difference WHERE {filter}");
        let mut statement = self.connection.prepare_cached(&query)?;
        statement.query_map(params, kept)?.collect()
    }

    /// What differs in each entry of a directory, the largest first, at most `limit`: its name, and all that differs at it or below it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn by_directory(
        &self,
        replica: &Replica,
        directory: &[u8],
        most: Most,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Count)>, StoreError> {
        self.try_by_directory(replica, directory, most, limit).map_err(self.failed())
    }

    fn try_by_directory(
        &self,
        replica: &Replica,
        directory: &[u8],
        most: Most,
        limit: usize,
    ) -> rusqlite::Result<Vec<(Vec<u8>, Count)>> {
        let _snapshot = self.connection.unchecked_transaction()?;
        let Some((report, whole)) = self.last_range(replica)? else { return Ok(Vec::new()) };
        let Range(first, end) = self.range_at(report, whole, directory)?;
        let mut statement = self.connection.prepare("SELECT path, bytes FROM difference WHERE id >= ?1 AND id < ?2")?;
        let mut rows = statement.query(params![first, end])?;
        let mut largest = Largest { most, limit, heap: BinaryHeap::new() };
        // What belongs to one name comes in one piece.
        let mut open: Option<(Vec<u8>, Count)> = None;
        while let Some(row) = rows.next()? {
            let path = row.get_ref(0)?.as_blob()?;
            let bytes = row.get(1)?;
            let Some(name) = child(path, directory) else { continue };
            match &mut open {
                Some((same, count)) if same.as_slice() == name => count.add(bytes),
                _ => {
                    let mut count = Count::default();
                    count.add(bytes);
                    open.replace((name.to_vec(), count)).into_iter().for_each(|done| largest.add(done));
                }
            }
        }
        open.into_iter().for_each(|done| largest.add(done));
        Ok(largest.into_sorted())
    }

    /// The last report of a replica, and the ids of its differences.
    fn last_range(&self, replica: &Replica) -> rusqlite::Result<Option<(i64, Range)>> {
        let query = "SELECT max(id) FROM report WHERE job = ?1 AND sync = ?2";
        let params = [&replica.job, &replica.sync];
        let report = self.connection.query_row(query, params, |row| row.get(0)).optional()?.flatten();
        let Some(report) = report else { return Ok(None) };
        // Of each class the index has the ids in order: the ends are found without reading what lies between.
        let (mut first, mut last): (Option<i64>, Option<i64>) = (None, None);
        for class in Class::ALL {
            let end = |which| {
                let query = format!("SELECT {which}(id) FROM difference WHERE report = ?1 AND class = ?2");
                self.connection.query_row(&query, params![report, class.name()], |row| row.get::<_, Option<i64>>(0))
            };
            first = [first, end("min")?].into_iter().flatten().min();
            last = last.max(end("max")?);
        }
        let range = first.zip(last).map_or(Range(0, 0), |(first, last)| Range(first, last + 1));
        Ok(Some((report, range)))
    }

    /// Those at a directory and below it.
    fn range_at(&self, report: i64, whole: Range, directory: &[u8]) -> rusqlite::Result<Range> {
        if directory.is_empty() {
            return Ok(whole);
        }
        let mut runs = self.connection.prepare("SELECT first FROM run WHERE report = ?1 ORDER BY first")?;
        let firsts = runs.query_map([report], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()?;
        for (index, first) in firsts.iter().enumerate() {
            let run = Range(*first, firsts.get(index + 1).copied().unwrap_or(whole.1));
            let first = self.partition(run, |path| order(path, directory) == Ordering::Less)?;
            let is_in_it = |path: &[u8]| path == directory || child(path, directory).is_some();
            let end = self.partition(Range(first, run.1), is_in_it)?;
            if first < end {
                return Ok(Range(first, end));
            }
        }
        Ok(Range(whole.1, whole.1))
    }

    /// The first id of a range whose path is not `before`, as all behind it are not.
    fn partition(&self, Range(mut low, mut high): Range, before: impl Fn(&[u8]) -> bool) -> rusqlite::Result<i64> {
        let mut path = self.connection.prepare_cached("SELECT path FROM difference WHERE id = ?1")?;
        while low < high {
            let middle = low + (high - low) / 2;
            match path.query_row([middle], |row| Ok(before(row.get_ref(0)?.as_blob()?)))? {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        Ok(low)
    }
}

/// The name in a directory that a path begins with below it; `None` for one that is not below it.
fn child<'a>(path: &'a [u8], directory: &[u8]) -> Option<&'a [u8]> {
    let rest = if directory.is_empty() { path } else { path.strip_prefix(directory)?.strip_prefix(b"/")? };
    rest.split(|byte| *byte == b'/').next().filter(|name| !name.is_empty())
}

/// A pattern of SQL's LIKE for what contains a text; empty for none.
fn containing(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    format!("%{}%", text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"))
}

type Ranked = ((u64, u64), Reverse<Vec<u8>>);

/// The largest of many.
struct Largest {
    most: Most,
    limit: usize,
    /// The least on top: the size that counts, the other one, and of equal ones the name that comes last.
    heap: BinaryHeap<Reverse<Ranked>>,
}

impl Largest {
    fn add(&mut self, (name, count): (Vec<u8>, Count)) {
        let size = match self.most {
            Most::Bytes => (count.bytes, count.entries),
            Most::Entries => (count.entries, count.bytes),
        };
        self.heap.push(Reverse((size, Reverse(name))));
        if self.heap.len() > self.limit {
            self.heap.pop();
        }
    }

    fn into_sorted(self) -> Vec<(Vec<u8>, Count)> {
        let most = self.most;
        let count = |(one, other)| match most {
            Most::Bytes => Count { bytes: one, entries: other },
            Most::Entries => Count { entries: one, bytes: other },
        };
        self.heap.into_sorted_vec().into_iter().map(|Reverse((size, Reverse(name)))| (name, count(size))).collect()
    }
}

fn kept(row: &Row<'_>) -> rusqlite::Result<Kept> {
    let class: String = row.get(1)?;
    let time = |millis: Option<i64>| millis.map(timestamp);
    Ok(Kept {
        path: row.get(0)?,
        // None but ours are written.
        class: Class::named(&class).unwrap_or(Class::Unreadable),
        detail: row.get(2)?,
        bytes: row.get(3)?,
        source_mtime: time(row.get(4)?),
        target_mtime: time(row.get(5)?),
    })
}
