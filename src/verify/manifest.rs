//! What is known of a replica's content from earlier verifications: the digest of each file on both sides, for the state in which it was read.
//!
//! The manifest is a file in the order of the walks, so that to ask it is to read along, in constant memory: a file counts as known while its
//! identity, times and length are those in which it was read. What is read now goes to a journal of its side, record by record. A
//! verification that is killed leaves its journals, which the next one merges into the manifest before it begins.
//!
//! It is kept per replica, here, and not per host: peers keep nothing, and both digests of a pair are found in one step.

use std::cmp::Ordering;
use std::fs::File;
use std::io;
use std::iter::Peekable;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::order::Replica;
use super::records::{self, Reader, Writer};
use super::side::State;
use crate::scan::{Mtime, order};

/// Records that nothing is there for any more are dropped when there is one of them for so many.
const GONE_PART: u64 = 5;

/// Where a file of a replica is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// In which of the pairs of trees.
    pub(super) pair: u32,
    /// From the root.
    pub(super) path: Vec<u8>,
}

impl Place {
    fn cmp(&self, pair: u32, path: &[u8]) -> Ordering {
        self.pair.cmp(&pair).then_with(|| order(&self.path, path))
    }
}

/// A file as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Digested {
    pub(super) state: State,
    pub(super) digest: [u8; 32],
    /// Seconds since the epoch.
    pub(super) at: i64,
}

/// A content that both sides had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Agreed {
    pub(super) digest: [u8; 32],
    pub(super) mtime: Mtime,
    pub(super) size: u64,
    /// Seconds since the epoch.
    pub(super) at: i64,
}

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) place: Place,
    pub(super) source: Option<Digested>,
    pub(super) target: Option<Digested>,
    /// The last time that both were the same.
    pub(super) agreed: Option<Agreed>,
}

/// The manifest of one replica, while a verification has it for itself.
pub(super) struct Manifest {
    directory: PathBuf,
    _lock: File,
}

/// Why a manifest cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Another process has it.
    #[error("another verification of this replica is under way")]
    Busy,
    /// It cannot be read or written.
    #[error("what is known of the replica, in {0}")]
    Io(PathBuf, #[source] io::Error),
}

impl Manifest {
    /// Takes the manifest of a replica, with what a verification that was killed has left.
    pub(super) fn take(state: &Path, replica: &Replica) -> Result<Self, ManifestError> {
        let name = format!("{}.{}", file_name(&replica.job), file_name(&replica.sync));
        let directory = state.join("verify").join(name);
        let failed = |error| ManifestError::Io(directory.clone(), error);
        make(&directory).map_err(failed)?;
        let lock = records::open_or_create(&directory.join("lock")).map_err(failed)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(ManifestError::Busy),
            Err(error) => return Err(failed(error.into())),
        }
        let manifest = Self { directory, _lock: lock };
        manifest.merge(None).map_err(|error| manifest.failed(error))?;
        Ok(manifest)
    }

    pub(super) fn failed(&self, error: io::Error) -> ManifestError {
        ManifestError::Io(self.directory.clone(), error)
    }

    fn file(&self) -> PathBuf {
        self.directory.join("manifest")
    }

    fn journal_files(&self) -> [PathBuf; 2] {
        ["journal-source", "journal-target"].map(|name| self.directory.join(name))
    }

    /// Reads along.
    pub(super) fn cursor(&self) -> io::Result<Cursor> {
        let records = Reader::open(&self.file())?.map(Iterator::peekable);
        Ok(Cursor { records, gone: Writer::nameless(&self.directory)?, all: 0 })
    }

    /// Where what is read of source and target now is put down, each in the order of places.
    pub(super) fn journals(&self) -> io::Result<(Writer<Known>, Writer<Known>)> {
        let [source, target] = self.journal_files().map(|file| records::create(&file).map(Writer::new));
        Ok((source?, target?))
    }

    /// When content was last looked for, if ever.
    pub(super) fn last_pass(&self) -> Option<Timestamp> {
        std::fs::read_to_string(self.directory.join("last-pass")).ok()?.trim().parse().ok()
    }

    /// Puts down what was read, and forgets what is not there any more when that is much.
    pub(super) fn finish(&self, mut cursor: Cursor, began: Timestamp) -> io::Result<()> {
        // What nobody asked for any more.
        cursor.find(u32::MAX, b"")?;
        let (gone, all) = (cursor.gone.len(), cursor.all);
        let gone_file = cursor.gone.finish()?;
        self.merge((gone * GONE_PART > all).then_some(&gone_file))?;
        std::fs::write(self.directory.join("last-pass"), began.to_string())
    }

    /// Makes one file of manifest and journals, without what is gone.
    fn merge(&self, gone: Option<&File>) -> io::Result<()> {
        let journals = self.journal_files();
        if gone.is_none() && !journals.iter().any(|journal| journal.exists()) {
            return Ok(());
        }
        let [source, target] = &journals;
        let open = |path: &Path| Ok::<_, io::Error>(Reader::open(path)?.into_iter().flatten().peekable());
        let mut known = [open(&self.file())?, open(source)?, open(target)?];
        let mut gone = gone.map(Reader::<Place>::new).transpose()?.into_iter().flatten().peekable();
        let new = self.directory.join("manifest.new");
        let mut writer = Writer::new(records::create(&new)?);
        while let Some(known) = next_of(&mut known) {
            let Known { place, .. } = &known;
            skip_to(&mut gone, place);
            let is_gone = gone.peek().is_some_and(|gone| gone.as_ref().is_ok_and(|gone| gone == place));
            if !is_gone {
                writer.write(&known)?;
            }
        }
        writer.finish()?;
        std::fs::rename(&new, self.file())?;
        for journal in journals {
            match std::fs::remove_file(journal) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Known {
    /// With what was learned later of the same file.
    fn and_then(self, later: Self) -> Self {
        let (source, target) = (later.source.or(self.source), later.target.or(self.target));
        let same = source.zip(target).filter(|(source, target)| source.digest == target.digest);
        let agreed = same.map(|(source, target)| Agreed {
            digest: source.digest,
            mtime: source.state.mtime,
            size: source.state.size,
            at: source.at.max(target.at),
        });
        Self { place: self.place, source, target, agreed: agreed.or(self.agreed) }
    }
}

/// The next place of those that are known, with all that is known of it, what is behind in the list being later. What cannot be read any more is
/// not known any more.
fn next_of(known: &mut [Peekable<impl Iterator<Item = io::Result<Known>>>]) -> Option<Known> {
    let place = |known: Option<&io::Result<Known>>| {
        known.and_then(|known| known.as_ref().ok()).map(|known| known.place.clone())
    };
    let places = known.iter_mut().filter_map(|known| place(known.peek()));
    let first = places.min_by(|a, b| a.cmp(b.pair, &b.path))?;
    let of_first = |known: &io::Result<Known>| known.as_ref().is_ok_and(|known| known.place == first);
    let all = known.iter_mut().filter_map(|known| known.next_if(of_first)?.ok());
    all.reduce(Known::and_then)
}

fn skip_to(gone: &mut Peekable<impl Iterator<Item = io::Result<Place>>>, place: &Place) {
    while gone.next_if(|gone| gone.as_ref().is_ok_and(|gone| gone.cmp(place.pair, &place.path).is_lt())).is_some() {}
}

/// Answers questions in the order of places.
pub(super) struct Cursor {
    records: Option<Peekable<Reader<Known>>>,
    gone: Writer<Place>,
    all: u64,
}

impl Cursor {
    /// Of a replica of which nothing is known.
    pub(super) fn of_nothing(scratch: &Path) -> io::Result<Self> {
        Ok(Self { records: None, gone: Writer::nameless(scratch)?, all: 0 })
    }

    /// What is known of a file.
    pub(super) fn find(&mut self, pair: u32, path: &[u8]) -> io::Result<Option<Known>> {
        let Some(records) = &mut self.records else { return Ok(None) };
        loop {
            match records.peek() {
                Some(Ok(known)) => match known.place.cmp(pair, path) {
                    Ordering::Greater => return Ok(None),
                    found => {
                        self.all += 1;
                        let Some(Ok(known)) = records.next() else { return Ok(None) };
                        if found == Ordering::Equal {
                            return Ok(Some(known));
                        }
                        self.gone.write(&known.place)?;
                    }
                },
                // What follows cannot be read, so it is not known.
                Some(Err(_)) => {
                    self.records = None;
                    return Ok(None);
                }
                None => return Ok(None),
            }
        }
    }
}

/// A name as a name of a file: without slashes, and one for each.
fn file_name(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") }).collect()
}

fn make(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica() -> Replica {
        Replica { job: "a/b".into(), sync: "s".into() }
    }

    fn known(path: &str, at: i64) -> Known {
        let digested = Digested { state: State::default(), digest: [7; 32], at };
        let place = Place { pair: 0, path: path.into() };
        Known { place, source: Some(digested), target: None, agreed: None }
    }

    fn put_down(manifest: &Manifest, records: &[Known]) {
        let (mut journal, _) = manifest.journals().expect("made");
        records.iter().for_each(|record| journal.write(record).expect("written"));
        journal.finish().expect("written");
    }

    fn found(manifest: &Manifest, paths: &[&str]) -> (Vec<Option<i64>>, Cursor) {
        let mut cursor = manifest.cursor().expect("opened");
        let mut find = |path: &&str| {
            let known = cursor.find(0, path.as_bytes()).expect("read")?;
            known.source.map(|source| source.at)
        };
        (paths.iter().map(&mut find).collect(), cursor)
    }

    #[test]
    fn what_a_killed_verification_put_down_is_known_to_the_next() {
        let state = tempfile::tempdir().expect("a directory");
        let manifest = Manifest::take(state.path(), &replica()).expect("taken");
        put_down(&manifest, &[known("a", 1), known("a/x", 1), known("a-b", 1)]);
        assert!(matches!(Manifest::take(state.path(), &replica()).map(drop), Err(ManifestError::Busy)));
        drop(manifest);
        let manifest = Manifest::take(state.path(), &replica()).expect("taken");
        put_down(&manifest, &[known("a/x", 2), known("b", 2)]);
        drop(manifest);
        let manifest = Manifest::take(state.path(), &replica()).expect("taken");
        let (found, _) = found(&manifest, &["a", "a/w", "a/x", "a-b", "b", "c"]);
        assert_eq!(found, [Some(1), None, Some(2), Some(1), Some(2), None]);
    }

    #[test]
    fn what_is_gone_is_dropped_when_it_is_much() {
        let state = tempfile::tempdir().expect("a directory");
        let manifest = Manifest::take(state.path(), &replica()).expect("taken");
        let names: Vec<String> = (0..10).map(|n| format!("{n}")).collect();
        put_down(&manifest, &names.iter().map(|name| known(name, 1)).collect::<Vec<_>>());
        manifest.merge(None).expect("merged");
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        let size = || std::fs::metadata(manifest.file()).expect("there").len();
        let before = size();
        let (known, cursor) = found(&manifest, &all[1..]);
        assert!(known.iter().all(Option::is_some));
        manifest.finish(cursor, Timestamp::UNIX_EPOCH).expect("ended");
        assert_eq!(size(), before, "one of ten stays");
        let (_, cursor) = found(&manifest, &all[5..]);
        manifest.finish(cursor, Timestamp::UNIX_EPOCH).expect("ended");
        assert!(size() < before);
        assert_eq!(found(&manifest, &["0", "9"]).0, [None, Some(1)]);
        assert_eq!(manifest.last_pass(), Some(Timestamp::UNIX_EPOCH));
    }
}
