//! Lock files on this host.
//!
//! A lock appears with its content in one step: the content goes to a temporary file beside it, which is then linked to the
//! lock's name; a link fails if the name exists. Where a file system has no hard links, an exclusive create does it.
//! Replacing a stale lock and removing one's own both need the *claim*, a file whose name holds the token of the lock that is
//! to go away, so that only one can ever be about to do it. `remote` is the same protocol in shell; they meet on one file.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use super::backend::{Answer, Answers, LockBackend, Op, Unreachable};
use super::record::{Content, Found, Record};
use crate::clock;

/// How much of a file is read to learn whose it is, bytes.
pub(super) const CONTENT_LIMIT: u64 = 4096;
/// How many crashed take-overs of one lock are stepped over.
const CLAIM_DEPTH: usize = 8;

/// This host's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalBackend;

impl LockBackend for LocalBackend {
    fn perform(&self, batch: Vec<Op>) -> Answers {
        Box::pin(async move {
            // File systems block, a network file system perhaps for ever: off the reactor.
            tokio::task::spawn_blocking(move || perform(&batch))
                .await
                .map_err(|error| Unreachable(format!("lock operation broke off: {error}")))
        })
    }
}

fn perform(batch: &[Op]) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(batch.len());
    for op in batch {
        let answer = match op {
            Op::Look { path } => look(path).map(Answer::Found),
            Op::Take { path, record, replaces } => take(path, record, replaces.as_ref()),
            Op::Refresh { path, record } => refresh(path, record),
            Op::Remove { path, record } => remove(path, record),
        }
        .unwrap_or_else(|error| Answer::Failed(error.to_string()));
        let stop = matches!(op, Op::Take { .. }) && answer != Answer::Taken;
        answers.push(answer);
        if stop {
            break;
        }
    }
    answers
}

fn look(path: &Path) -> io::Result<Found> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Found::Absent);
        }
        Err(error) => return Err(error),
    };
    if metadata.is_dir() {
        return Ok(Found::Other("a directory"));
    }
    if metadata.is_symlink() {
        return Ok(Found::Other("a symbolic link"));
    }
    if !metadata.is_file() {
        return Ok(Found::Other("not a regular file"));
    }
    match open(path) {
        Ok(mut file) => {
            let (content, age) = read(&mut file)?;
            Ok(Found::File { content, age })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Absent),
        // It exists, and that is what counts.
        Err(_) => Ok(Found::File { content: Content::Foreign("unreadable".into()), age: age(&metadata) }),
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32).open(path)
}

fn read(file: &mut File) -> io::Result<(Content, Duration)> {
    let mut bytes = Vec::new();
    file.take(CONTENT_LIMIT).read_to_end(&mut bytes)?;
    Ok((Content::parse(&bytes), age(&file.metadata()?)))
}

/// By this host's clock; a file from the future is new.
fn age(metadata: &fs::Metadata) -> Duration {
    let changed = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    let age = clock::now().as_nanosecond() - changed;
    Duration::from_nanos(u64::try_from(age.max(0)).unwrap_or(u64::MAX))
}

/// Whether the file at `path` carries this token, and its age.
fn holds(path: &Path, token: &str) -> Option<Duration> {
    match look(path) {
        Ok(Found::File { content: Content::Director(record), age }) if record.token == token => Some(age),
        _ => None,
    }
}

fn take(path: &Path, record: &Record, replaces: Option<&Record>) -> io::Result<Answer> {
    match look(path)? {
        Found::Absent => {}
        found @ Found::File { .. } if replaces.is_some() => {
            let stale = replaces.filter(|stale| holds(path, &stale.token).is_some());
            return match stale {
                Some(stale) => replace(path, record, stale),
                None => Ok(taken_or_found(path, record).unwrap_or(Answer::Found(found))),
            };
        }
        _ => return taken_or_found(path, record),
    }
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    let temporary = Temporary::write(beside(path, "", &record.token)?, record)?;
    link_or_create(&temporary.path, path, record)?;
    drop(temporary);
    taken_or_found(path, record)
}

fn taken_or_found(path: &Path, record: &Record) -> io::Result<Answer> {
    Ok(match look(path)? {
        Found::File { content: Content::Director(there), .. } if there.token == record.token => Answer::Taken,
        found => Answer::Found(found),
    })
}

/// Replaces a stale lock by a rename, under the claim for it.
fn replace(path: &Path, record: &Record, stale: &Record) -> io::Result<Answer> {
    let temporary = Temporary::write(beside(path, "", &record.token)?, record)?;
    if let Some(_claim) = claim(path, &temporary.path, record, stale)?
        && holds(path, &stale.token).is_some_and(|age| age >= stale.lease())
    {
        fs::rename(&temporary.path, path)?;
    }
    drop(temporary);
    taken_or_found(path, record)
}

/// Removes one's own lock. One that nobody can judge stale for another half lease is just removed; an older one under the
/// claim for it, so that it cannot be replaced in the same moment.
fn remove(path: &Path, record: &Record) -> io::Result<Answer> {
    match holds(path, &record.token) {
        None => return lost(path),
        Some(age) if age < record.lease() / 2 => {
            fs::remove_file(path)?;
            return Ok(Answer::Removed);
        }
        Some(_) => {}
    }
    let removal = removal(record);
    let temporary = Temporary::write(beside(path, "", &removal.token)?, &removal)?;
    let claim = claim(path, &temporary.path, &removal, record)?;
    if claim.is_none() || holds(path, &record.token).is_none() {
        return lost(path);
    }
    fs::remove_file(path)?;
    Ok(Answer::Removed)
}

/// What the claim for removing one's own lock says.
pub(super) fn removal(record: &Record) -> Record {
    Record { token: format!("{}-release", record.token), ..record.clone() }
}

fn lost(path: &Path) -> io::Result<Answer> {
    Ok(Answer::Lost(describe(&look(path)?)))
}

/// What became of a lock that was ours, for people.
pub(super) fn describe(found: &Found) -> String {
    match found {
        Found::Absent => "it was removed".into(),
        Found::Other(what) => format!("it was replaced by {what}"),
        Found::File { content: Content::Director(record), .. } => format!("it is now held by {}", record.holder()),
        Found::File { content: Content::Foreign(_), .. } => "its content was replaced".into(),
    }
}

fn refresh(path: &Path, record: &Record) -> io::Result<Answer> {
    let mut file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return lost(path),
        Err(error) => return Err(error),
    };
    match read(&mut file)? {
        (Content::Director(there), age) if there.token == record.token => {
            if age >= record.lease() {
                return Ok(Answer::Lost("its lease ran out".into()));
            }
        }
        _ => return lost(path),
    }
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let keep = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    rustix::fs::futimens(&file, &Timestamps { last_access: keep, last_modification: now })?;
    // Someone may have replaced the file between the look and the touch: then the touch went to a file without a name.
    if holds(path, &record.token).is_some() { Ok(Answer::Refreshed) } else { lost(path) }
}

/// The claim for replacing or removing the lock with a certain token: who creates it is the only one who may. A claim whose
/// owner crashed is itself stale after a lease; the next one then claims that claim, and so on.
struct Claim(Vec<PathBuf>);

impl Drop for Claim {
    fn drop(&mut self) {
        // One that stays is garbage without an effect: its lock is gone.
        for path in &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

fn claim(path: &Path, temporary: &Path, record: &Record, target: &Record) -> io::Result<Option<Claim>> {
    let mut token = target.token.clone();
    let mut chain = Vec::new();
    for _ in 0..CLAIM_DEPTH {
        let name = beside(path, "claim-", &token)?;
        if link_or_create(temporary, &name, record)? {
            chain.push(name);
            return Ok(Some(Claim(chain)));
        }
        match look(&name)? {
            Found::File { content: Content::Director(other), age } if age >= target.lease() => {
                token = other.token;
                chain.push(name);
            }
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// Gives `path` the content of `temporary` if nothing is there: `Ok(false)` if something is.
fn link_or_create(temporary: &Path, path: &Path, record: &Record) -> io::Result<bool> {
    let here = rustix::fs::CWD;
    match rustix::fs::linkat(here, temporary, here, path, AtFlags::empty()) {
        Ok(()) => return Ok(true),
        Err(rustix::io::Errno::EXIST) => return Ok(false),
        Err(_no_hard_links_here) => {}
    }
    match Temporary::write(path.to_owned(), record) {
        Ok(mut created) => {
            created.remove = false;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// A hidden name in the lock's own directory: `.<name>.<kind><token>`.
pub(super) fn beside(path: &Path, kind: &str, token: &str) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no file name"))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{kind}{token}"));
    Ok(path.with_file_name(hidden))
}

/// A file that was created by us and goes away again with this value, unless `remove` is taken back.
struct Temporary {
    path: PathBuf,
    remove: bool,
}

impl Temporary {
    fn write(path: PathBuf, record: &Record) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path)?;
        let created = Self { path, remove: true };
        file.write_all(record.encode().as_bytes())?;
        Ok(created)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.remove {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::backend::Answer::{Found as There, Lost, Refreshed, Removed, Taken};
    use super::super::record::tests::record;
    use super::*;

    fn one(op: Op) -> Answer {
        perform(&[op]).remove(0)
    }

    fn take_op(path: &Path, token: &str) -> Op {
        Op::Take { path: path.into(), record: record(token), replaces: None }
    }

    fn replace_op(path: &Path, token: &str, stale: &str) -> Op {
        Op::Take { path: path.into(), record: record(token), replaces: Some(record(stale)) }
    }

    fn grow_old(path: &Path, seconds: i64) {
        let then = (clock::now().as_second() - seconds).max(0);
        let at = Timespec { tv_sec: then, tv_nsec: 0 };
        let file = File::open(path).unwrap();
        rustix::fs::futimens(&file, &Timestamps { last_access: at, last_modification: at }).unwrap();
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_lock_is_taken_refreshed_and_removed_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/x.lock");
        let batch = [
            take_op(&path, "a"),
            Op::Refresh { path: path.clone(), record: record("a") },
            Op::Remove { path: path.clone(), record: record("a") },
        ];
        assert_eq!(perform(&batch), [Taken, Refreshed, Removed]);
        assert_eq!(names(path.parent().unwrap()), [""; 0]);
    }

    #[test]
    fn a_second_taker_learns_who_holds_it_and_ends_its_batch() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        assert_eq!(one(take_op(&path, "a")), Taken);
        assert_eq!(one(take_op(&path, "a")), Taken, "a repeated take whose answer was lost finds its own");
        let answers = perform(&[take_op(&path, "b"), take_op(&dir.path().join("y"), "b")]);
        assert!(
            matches!(&answers[..], [There(Found::File { content: Content::Director(r), .. })] if r.token == "a"),
            "{answers:?}"
        );
        assert_eq!(names(dir.path()), ["x.lock"]);
    }

    #[test]
    fn what_is_not_ours_is_neither_refreshed_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        fs::write(&path, "4711\n").unwrap();
        assert!(matches!(one(Op::Refresh { path: path.clone(), record: record("a") }), Lost(_)));
        assert!(matches!(one(Op::Remove { path: path.clone(), record: record("a") }), Lost(_)));
        assert_eq!(fs::read(&path).unwrap(), b"4711\n");
    }

    #[test]
    fn a_stale_lock_is_replaced_and_a_fresh_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        assert_eq!(one(take_op(&path, "a")), Taken);
        assert!(matches!(one(replace_op(&path, "b", "a")), There(_)), "it is fresh");
        grow_old(&path, 61);
        assert!(matches!(one(Op::Refresh { path: path.clone(), record: record("a") }), Lost(_)));
        assert_eq!(one(replace_op(&path, "b", "a")), Taken);
        assert!(matches!(one(replace_op(&path, "c", "a")), There(_)), "another was faster");
        assert_eq!(names(dir.path()), ["x.lock"]);
    }

    #[test]
    fn a_contender_that_crashed_in_a_take_over_is_stepped_over_after_a_lease() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        assert_eq!(one(take_op(&path, "a")), Taken);
        grow_old(&path, 100);
        let claim = dir.path().join(".x.lock.claim-a");
        fs::write(&claim, record("crashed").encode()).unwrap();
        assert!(matches!(one(replace_op(&path, "b", "a")), There(_)), "the claim is fresh");
        grow_old(&claim, 100);
        assert_eq!(one(replace_op(&path, "b", "a")), Taken);
        assert_eq!(names(dir.path()), ["x.lock"]);
    }

    #[test]
    fn a_stale_lock_of_our_own_is_removed_unless_someone_is_replacing_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        assert_eq!(one(take_op(&path, "a")), Taken);
        grow_old(&path, 100);
        let claim = dir.path().join(".x.lock.claim-a");
        fs::write(&claim, record("other").encode()).unwrap();
        assert!(matches!(one(Op::Remove { path: path.clone(), record: record("a") }), Lost(_)));
        fs::remove_file(&claim).unwrap();
        assert_eq!(one(Op::Remove { path: path.clone(), record: record("a") }), Removed);
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[test]
    fn directories_links_and_pipes_are_named_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (sub, link, target) = (dir.path().join("sub"), dir.path().join("link"), dir.path().join("target"));
        fs::create_dir(&sub).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert_eq!(one(take_op(&sub, "a")), There(Found::Other("a directory")));
        assert_eq!(one(take_op(&link, "a")), There(Found::Other("a symbolic link")));
        assert_eq!(names(dir.path()), ["link", "sub"], "a link is not followed");
    }

    #[test]
    fn of_many_threads_exactly_one_takes_a_lock_and_one_replaces_a_stale_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let race = |stale: Option<&str>| {
            let winners: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..16)
                    .map(|n| {
                        let op = match stale {
                            None => take_op(&path, &format!("t{n}")),
                            Some(old) => replace_op(&path, &format!("n{n}"), old),
                        };
                        scope.spawn(move || (n, one(op)))
                    })
                    .collect();
                threads.into_iter().map(|t| t.join().unwrap()).filter(|(_, a)| *a == Taken).map(|(n, _)| n).collect()
            });
            assert_eq!(winners.len(), 1, "{winners:?}");
            winners[0]
        };
        for _ in 0..50 {
            let winner = race(None);
            grow_old(&path, 100);
            let _ = race(Some(&format!("t{winner}")));
            assert_eq!(names(dir.path()), ["x.lock"]);
            fs::remove_file(&path).unwrap();
        }
    }
}
