//! A tree on this host, as a side of a verification. The agent answers by it, too.
//!
//! A walk has a thread of its own, so that both sides are walked at once; files are read by as many threads as there are processors.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};

use super::side::{About, Entries, Read, Scan, Side, SideError, State, Wanted};
use crate::account;
use crate::agent::proto::message::Volume;
use crate::agent::volume;
use crate::clock::Ticks;
use crate::rsync::expand;
use crate::rsync::filter::Scope;
use crate::scan::{Entry, Kind, Terms, Tree, Walk, WalkError};

/// So many entries are handed over at once, and so many such batches wait.
const BATCH: usize = 512;
const BATCHES: usize = 8;
/// Bytes that are read from a file at a time.
const CHUNK: usize = 256 * 1024;
/// Small files are handed to a reader together: so many, or so many bytes.
const TOGETHER: usize = 32;
const TOGETHER_BYTES: u64 = 128 * 1024;
/// So many such handfuls are being read, or were and wait for one before them.
const UNDER_WAY: usize = 32;
/// Threads that read, at most.
const READERS_MAX: usize = 8;

/// This host.
#[derive(Debug, Clone, Default)]
pub struct Here {
    /// What `~/` at the beginning of a root means; `None` where roots are names already.
    pub home: Option<PathBuf>,
}

impl Here {
    fn root(&self, scan: &Scan) -> Result<PathBuf, SideError> {
        let root = OsStr::from_bytes(if scan.root.is_empty() { b"." } else { &scan.root });
        match &self.home {
            None => Ok(root.into()),
            Some(home) => {
                let expanded = expand::expand_home(root, Some(home));
                expanded
                    .map(PathBuf::from)
                    .map_err(|error| SideError::io(error.to_string(), io::ErrorKind::NotFound.into()))
            }
        }
    }

    fn tree(&self, scan: &Scan) -> Result<Option<Tree>, SideError> {
        let root = self.root(scan)?;
        Tree::open(&root).map_err(|error| SideError::io(format!("could not open {}", root.display()), error))
    }
}

impl Side for Here {
    fn about(&self) -> About {
        About {
            version: crate::VERSION.to_owned(),
            clock_offset: Some(0.0),
            user: rustix::process::geteuid().as_raw(),
            users: account::numbers("/etc/passwd"),
            groups: account::numbers("/etc/group"),
        }
    }

    fn volume(&mut self, root: &[u8]) -> Option<Volume> {
        volume::look(Path::new(OsStr::from_bytes(root))).ok()
    }

    fn scan(&mut self, scan: &Scan) -> Result<Entries<'_>, SideError> {
        let (root, scan) = (self.root(scan)?, scan.clone());
        let (batches, told) = mpsc::sync_channel(BATCHES);
        let walk = move || {
            // Who does not listen any more wants no more.
            let _ = walk(&root, &scan, &batches);
        };
        thread::Builder::new().name("walk".into()).spawn(walk).map_err(|error| SideError::io("no thread", error))?;
        Ok(Box::new(Told { batches: told, batch: Vec::new().into_iter() }))
    }

    fn look(&mut self, scan: &Scan, paths: &[Vec<u8>]) -> Result<Vec<Option<Entry>>, SideError> {
        let Some(mut tree) = self.tree(scan)? else { return Ok(vec![None; paths.len()]) };
        Ok(paths.iter().map(|path| tree.look(path, scan.meta, scan.attributes)).collect())
    }

    fn hash(
        &mut self,
        scan: &Scan,
        wanted: &mut (dyn Iterator<Item = Wanted> + Send),
        rate: Option<u64>,
        told: &mut (dyn FnMut(Wanted, Read) -> Result<(), SideError> + Send),
    ) -> Result<(), SideError> {
        let Some(tree) = self.tree(scan)? else {
            for wanted in wanted {
                told(wanted, Read::Changed)?;
            }
            return Ok(());
        };
        let pace = rate.map(Pace::new);
        thread::scope(|scope| {
            let (give, take) = mpsc::sync_channel::<Handful>(UNDER_WAY);
            let (done, results) = mpsc::sync_channel(UNDER_WAY);
            let take = Arc::new(Mutex::new(take));
            for _ in 0..thread::available_parallelism().map_or(1, usize::from).min(READERS_MAX) {
                let (take, done, tree, pace) = (Arc::clone(&take), done.clone(), &tree, pace.as_ref());
                scope.spawn(move || read_all(&take, &done, tree, pace));
            }
            drop(done);
            in_order(wanted, give, &results, told)
        })
    }
}

/// Names of rules above the root are read, then the tree is walked.
fn walk(root: &Path, scan: &Scan, batches: &SyncSender<Batch>) -> Result<(), mpsc::SendError<Batch>> {
    let walk = match open(root, scan) {
        Ok(Some(walk)) => walk,
        Ok(None) => return Ok(()),
        Err(error) => return batches.send(vec![Err(error.into())]),
    };
    let mut batch = Vec::with_capacity(BATCH);
    for entry in walk {
        batch.push(entry.map_err(SideError::from));
        if batch.len() == BATCH {
            batches.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH)))?;
        }
    }
    batches.send(batch)
}

/// `None` where there is nothing to be walked.
fn open(root: &Path, scan: &Scan) -> Result<Option<Walk>, WalkError> {
    let mut scope = Scope::new(Arc::new(scan.filters.clone()));
    if scope.looks_above()
        && let Ok(full) = root.canonicalize()
    {
        let above: Vec<_> = full.ancestors().skip(1).collect();
        for directory in above.into_iter().rev() {
            let lead = full.strip_prefix(directory).unwrap_or(&full).as_os_str().as_bytes();
            scope = scope.enter_above(&[lead, b"/"].concat(), &mut |name| match std::fs::read(
                directory.join(OsStr::from_bytes(name)),
            ) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                read => read.map(Some),
            })?;
        }
    }
    let terms = Terms {
        scope,
        side: scan.end,
        one_file_system: scan.one_file_system,
        meta: scan.meta,
        attributes: scan.attributes,
        only: scan.only.clone(),
    };
    match Walk::new(root, terms) {
        Err(WalkError::Root { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        walk => walk.map(Some),
    }
}

type Batch = Vec<Result<Entry, SideError>>;

/// What a walk in a thread of its own tells.
struct Told {
    batches: Receiver<Batch>,
    batch: std::vec::IntoIter<Result<Entry, SideError>>,
}

impl Iterator for Told {
    type Item = Result<Entry, SideError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.batch.next() {
                return Some(entry);
            }
            // The thread has ended: all is told.
            self.batch = self.batches.recv().ok()?.into_iter();
        }
    }
}

/// Files that are read by one reader, with their number among the others.
type Handful = (u64, Vec<Wanted>);
/// The same, when they were.
type Done = (u64, Vec<(Wanted, Read)>);

/// Reads what is wanted until nothing more is.
fn read_all(take: &Mutex<Receiver<Handful>>, done: &SyncSender<Done>, tree: &Tree, pace: Option<&Pace>) {
    let mut chunk = vec![0; CHUNK];
    loop {
        let next = take.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, handful)) = next else { return };
        let mut read = |wanted: Wanted| {
            let read = digest(tree, &wanted, &mut chunk, pace);
            (wanted, read)
        };
        if done.send((number, handful.into_iter().map(&mut read).collect())).is_err() {
            return;
        }
    }
}

/// Hands out what is wanted, and tells what came of it in the same order.
fn in_order(
    wanted: &mut (dyn Iterator<Item = Wanted> + Send),
    give: SyncSender<Handful>,
    results: &Receiver<Done>,
    told: &mut (dyn FnMut(Wanted, Read) -> Result<(), SideError> + Send),
) -> Result<(), SideError> {
    let (mut given, mut next) = (0, 0);
    let mut waiting = BTreeMap::new();
    let mut give = Some(give);
    loop {
        while let Some(to) = &give
            && given - next < UNDER_WAY as u64
        {
            let handful = handful(wanted);
            if handful.is_empty() {
                give = None;
                break;
            }
            // The readers live as long as this end does.
            drop(to.send((given, handful)));
            given += 1;
        }
        if next == given {
            return Ok(());
        }
        let Ok((number, handful)) = results.recv() else {
            return Err(SideError::io("reading broke off", io::ErrorKind::Interrupted.into()));
        };
        waiting.insert(number, handful);
        while let Some(handful) = waiting.remove(&next) {
            handful.into_iter().try_for_each(|(wanted, read)| told(wanted, read))?;
            next += 1;
        }
    }
}

/// The next files for one reader; none at the end.
fn handful(wanted: &mut (dyn Iterator<Item = Wanted> + Send)) -> Vec<Wanted> {
    let (mut handful, mut bytes) = (Vec::new(), 0);
    while handful.len() < TOGETHER && bytes < TOGETHER_BYTES {
        let Some(wanted) = wanted.next() else { break };
        bytes += wanted.state.size;
        handful.push(wanted);
    }
    handful
}

/// The digest of a file that is, and stays, in the wanted state.
fn digest(tree: &Tree, wanted: &Wanted, chunk: &mut [u8], pace: Option<&Pace>) -> Read {
    match try_digest(tree, wanted, chunk, pace) {
        Ok(Some(digest)) => Read::Digest(digest),
        Ok(None) => Read::Changed,
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Read::Changed,
            _ => Read::Unreadable(error.to_string()),
        },
    }
}

fn try_digest(tree: &Tree, wanted: &Wanted, chunk: &mut [u8], pace: Option<&Pace>) -> io::Result<Option<[u8; 32]>> {
    let mut file = tree.read(&wanted.path)?;
    // Whether it still is what was looked at is seen behind as well, so for a small one that does.
    if wanted.state.size > chunk.len() as u64 && !is_still(&file, wanted)? {
        return Ok(None);
    }
    let (mut digest, mut left) = (blake3::Hasher::new(), wanted.state.size);
    while left > 0 {
        let length = file.read(chunk)?;
        if length == 0 {
            break;
        }
        digest.update(&chunk[..length]);
        left = left.saturating_sub(length as u64);
        if let Some(pace) = pace {
            pace.took(length as u64);
        }
    }
    Ok(is_still(&file, wanted)?.then(|| digest.finalize().into()))
}

fn is_still(file: &File, wanted: &Wanted) -> io::Result<bool> {
    let about = Tree::about(file)?;
    Ok(about.kind == Kind::File && State::of(&about) == wanted.state)
}

/// Keeps all readers together at a rate.
struct Pace {
    rate: u64,
    /// When what was taken so far should have been, after the beginning.
    taken: Mutex<u64>,
    began: Ticks,
}

impl Pace {
    fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), taken: Mutex::new(0), began: Ticks::now() }
    }

    /// Waits until so much more may have been read.
    fn took(&self, bytes: u64) {
        let taken = {
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            *taken += bytes;
            *taken
        };
        // Far below 2^53.
        let due = Duration::from_secs_f64(taken as f64 / self.rate as f64);
        if let Some(early) = due.checked_sub(self.began.elapsed()) {
            thread::sleep(early);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rsync::filter::{Filters, Side as End};
    use crate::scan::Attributes;

    fn scan_of(root: &std::path::Path) -> Scan {
        Scan {
            root: root.as_os_str().as_bytes().to_owned(),
            only: Vec::new(),
            filters: Filters::default(),
            end: End::Sender,
            one_file_system: false,
            meta: false,
            attributes: Attributes::default(),
        }
    }

    fn tree(files: usize) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        for n in 0..files {
            std::fs::write(directory.path().join(format!("{n:04}")), vec![b'x'; n * 7]).expect("written");
        }
        directory
    }

    fn files(scan: &Scan) -> Vec<Entry> {
        let entries: Result<Vec<_>, _> = Here::default().scan(scan).expect("a walk").collect();
        entries.expect("no error").into_iter().filter(|entry| entry.kind == Kind::File).collect()
    }

    #[test]
    fn files_are_read_in_their_order() {
        let tree = tree(1000);
        let scan = scan_of(tree.path());
        let mut wanted = files(&scan).into_iter().map(|entry| Wanted { state: State::of(&entry), path: entry.path });
        let mut told = Vec::new();
        let mut tell = |wanted: Wanted, read| {
            told.push((wanted.path, read));
            Ok(())
        };
        Here::default().hash(&scan, &mut wanted, None, &mut tell).expect("read");
        assert_eq!(told.len(), 1000);
        for (n, (path, read)) in told.into_iter().enumerate() {
            assert_eq!(path, format!("{n:04}").into_bytes());
            assert_eq!(read, Read::Digest(blake3::hash(&vec![b'x'; n * 7]).into()));
        }
    }

    #[test]
    fn what_is_not_in_the_wanted_state_has_changed() {
        let tree = tree(3);
        let scan = scan_of(tree.path());
        let wanted: Vec<_> =
            files(&scan).into_iter().map(|entry| Wanted { state: State::of(&entry), path: entry.path }).collect();
        std::fs::write(tree.path().join("0001"), "1234567").expect("written");
        std::fs::remove_file(tree.path().join("0002")).expect("removed");
        let mut told = Vec::new();
        let mut tell = |_, read| {
            told.push(read);
            Ok(())
        };
        Here::default().hash(&scan, &mut wanted.into_iter(), None, &mut tell).expect("read");
        assert_eq!(told, [Read::Digest(blake3::hash(b"").into()), Read::Changed, Read::Changed]);
    }

    #[test]
    fn a_root_that_is_not_there_has_nothing() {
        let tree = tree(0);
        let scan = scan_of(&tree.path().join("none"));
        assert!(files(&scan).is_empty());
        assert_eq!(Here::default().look(&scan, &[b"x".to_vec()]).expect("looked"), [None]);
    }

    #[test]
    fn reading_keeps_to_its_rate() {
        let pace = Pace::new(1_000_000);
        let began = Ticks::now();
        pace.took(50_000);
        assert!(began.elapsed() >= Duration::from_millis(49));
    }
}
