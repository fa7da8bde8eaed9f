//! Lock files on this host.
//!
//! A lock appears with its content in one step: the content goes to a temporary file beside it, which is then linked to the
//! lock's name; a link fails if the name exists. Where a file system has no hard links, an exclusive create does it.
//! Replacing a stale lock and removing one's own both need the *claim*, a file whose name holds the token of the lock that is
//! to go away, so that only one can ever be about to do it. `remote` is the same protocol in shell; they meet on one file.
//!
//! A check and the act that it allows are neighbouring system calls, and the protocol counts on them not being half a lease
//! apart (`docs/locks.md`).

mod age;
mod claim;
mod crash;
mod files;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use rustix::fs::{OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use self::age::age;
use self::claim::claim;
pub(super) use self::claim::{DEPTH, claim_name};
pub(super) use self::files::beside;
use self::files::{Temporary, give_name};
use super::backend::{Answer, Answers, LockBackend, Op, Unreachable};
use super::record::{BreakNote, Content, Found, Record, describe_loss};
use crate::patient;

/// How much of a file is read to learn whose it is, bytes.
pub(super) const CONTENT_LIMIT: u64 = 4096;
/// How much of the notes beside a lock is read, the last of them, bytes.
pub(super) const NOTES_LIMIT: u64 = 8 * CONTENT_LIMIT;
/// What crashed contenders left beside a lock is removed when it is older than this.
const LITTER_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// A look at a file of this host is answered within this time, or nothing is begun there.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// This host's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalBackend;

impl LockBackend for LocalBackend {
    fn perform(&self, batch: Vec<Op>) -> Answers {
        Box::pin(perform_within(ANSWER_MAX, batch))
    }
}

/// [`LockBackend::perform`]. File systems block, a network file system perhaps for ever: off the reactor; and nothing is begun where a look
/// is not answered in time. What has begun is waited for: a change that is given up could be done late.
async fn perform_within(limit: Duration, batch: Vec<Op>) -> Result<Vec<Answer>, Unreachable> {
    if !batch.iter().any(|op| matches!(op, Op::Look { .. } | Op::Take { .. })) {
        // Whoever gives a release up as soon as it was asked for wants it done all the same: without a look of its own before it.
        let free = join_all(batch.iter().map(|op| patient::free(vec![op.path().to_owned()])));
        tokio::time::timeout(limit, free).await.map_err(|_| Unreachable::because(no_answer(limit, batch[0].path())))?;
        return perform_all(batch).await;
    }
    let looks = join_all(batch.iter().map(|op| look_within(limit, op.path().to_owned()))).await;
    if batch.iter().all(|op| matches!(op, Op::Look { .. })) {
        return Ok(looks.into_iter().map(|looked| looked.map_or_else(Answer::Failed, or_failed)).collect());
    }
    if let Some(why) = looks.into_iter().find_map(Result::err) {
        return Err(Unreachable::because(why));
    }
    perform_all(batch).await
}

async fn perform_all(batch: Vec<Op>) -> Result<Vec<Answer>, Unreachable> {
    let performed = tokio::task::spawn_blocking(move || perform(&batch)).await;
    performed.map_err(|error| Unreachable::because(format!("lock operation broke off: {error}")))
}

/// Looks, or tells why that cannot be.
async fn look_within(limit: Duration, path: PathBuf) -> Result<io::Result<Answer>, String> {
    let for_thread = path.clone();
    let looking = patient::look(vec![path.clone()], move || look(&for_thread).map(Answer::Found));
    match tokio::time::timeout(limit, looking).await {
        Ok(looked) => looked.map_err(|error| format!("lock operation broke off: {error}")),
        Err(_) => Err(no_answer(limit, &path)),
    }
}

fn no_answer(limit: Duration, path: &Path) -> String {
    let (seconds, path) = (limit.as_secs(), path.display());
    format!("no answer within {seconds} s to a look at {path} (is a file server off? see `df`)")
}

fn or_failed(answer: io::Result<Answer>) -> Answer {
    answer.unwrap_or_else(|error| Answer::Failed(error.to_string()))
}

/// [`LockBackend::perform`], on the caller's thread.
pub fn perform(batch: &[Op]) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(batch.len());
    for op in batch {
        let answer = or_failed(match op {
            Op::Look { path } => look(path).map(Answer::Found),
            Op::Take { path, record, replaces } => take(path, record, replaces.as_ref()),
            Op::Refresh { path, record } => refresh(path, record),
            Op::Remove { path, record } => remove(path, record),
            Op::Break { path, seen, age, note } => break_open(path, seen.as_ref(), *age, note),
        });
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
            let (content, age) = read(path, &mut file)?;
            Ok(Found::File { content, age })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Absent),
        // It exists, and that is what counts.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Ok(Found::File { content: Content::Foreign("unreadable".into()), age: age(path, &metadata) })
        }
        Err(error) => Err(error),
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32).open(path)
}

fn read(path: &Path, file: &mut File) -> io::Result<(Content, Duration)> {
    let mut bytes = Vec::new();
    file.take(CONTENT_LIMIT).read_to_end(&mut bytes)?;
    Ok((Content::parse(&bytes), age(path, &file.metadata()?)))
}

/// Whether the file at `path` carries this token, and its age.
fn holds(path: &Path, token: &str) -> io::Result<Option<Duration>> {
    Ok(match look(path)? {
        Found::File { content: Content::Director(record), age } if record.token == token => Some(age),
        _ => None,
    })
}

fn take(path: &Path, record: &Record, replaces: Option<&Record>) -> io::Result<Answer> {
    match look(path)? {
        Found::Absent => {}
        found @ Found::File { .. } if replaces.is_some() => {
            let is_stale =
                |stale: &Record| holds(path, &stale.token).map(|age| age.is_some_and(|age| age >= stale.lease()));
            return match replaces {
                Some(stale) if is_stale(stale)? => replace(path, record, stale),
                _ => Ok(taken_or_found(path, record).unwrap_or(Answer::Found(found))),
            };
        }
        _ => return taken_or_found(path, record),
    }
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        crash::point();
    }
    let temporary = Temporary::write(beside(path, "", &record.token)?, record)?;
    give_name(&temporary.path, path, record)?;
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
    if let Some(claim) = claim(path, stale)? {
        match holds(path, &stale.token)? {
            None => claim.over(),
            Some(age) if age >= stale.lease() && claim.is_young() => {
                fs::rename(&temporary.path, path)?;
                crash::point();
                claim.over();
                remove_litter(path);
            }
            Some(_) => {}
        }
    }
    drop(temporary);
    taken_or_found(path, record)
}

/// Removes what crashed contenders left beside a lock long ago.
fn remove_litter(path: &Path) {
    let (Some(directory), Ok(prefix), Ok(notes)) = (path.parent(), beside(path, "", ""), notes(path)) else { return };
    let Some(prefix) = prefix.file_name().map(ToOwned::to_owned) else { return };
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let is_beside = entry.file_name().as_encoded_bytes().starts_with(prefix.as_encoded_bytes());
        let is_old = || entry.metadata().is_ok_and(|found| found.is_file() && age(&entry.path(), &found) >= LITTER_AGE);
        if is_beside && entry.path() != notes && is_old() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Removes one's own lock under the claim for it, however young it is: a removal that was asked for twice, or one that was slow, must
/// not meet the next holder's.
fn remove(path: &Path, record: &Record) -> io::Result<Answer> {
    if holds(path, &record.token)?.is_none() {
        return lost(path, record);
    }
    let Some(claim) = claim(path, record)? else { return lost(path, record) };
    if holds(path, &record.token)?.is_none() {
        claim.over();
        return lost(path, record);
    }
    if !claim.is_young() {
        return lost(path, record);
    }
    unlink(path)?;
    claim.over();
    Ok(Answer::Removed)
}

fn unlink(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    crash::point();
    Ok(())
}

/// Removes what a person saw (`None`: what no director wrote) at an age, if it still is that. The lock of a director goes
/// under its claim, so that it is not replaced in the same moment.
fn break_open(path: &Path, seen: Option<&Record>, seen_age: Duration, note: &BreakNote) -> io::Result<Answer> {
    let Some(seen) = seen else {
        let found = look(path)?;
        // Clocks of whole seconds: a second less is still the same file.
        let is_that = matches!(&found, Found::File { content: Content::Foreign(_), age }
            if *age + Duration::from_secs(1) >= seen_age);
        if !is_that {
            return Ok(Answer::Found(found));
        }
        write_note(path, note)?;
        return unlink(path).map(|()| Answer::Removed);
    };
    let Some(claim) = claim(path, seen)? else { return Ok(Answer::Found(look(path)?)) };
    if holds(path, &seen.token)?.is_none() {
        claim.over();
        return Ok(Answer::Found(look(path)?));
    }
    write_note(path, note)?;
    if !claim.is_young() {
        return Ok(Answer::Found(look(path)?));
    }
    unlink(path)?;
    claim.over();
    Ok(Answer::Removed)
}

fn write_note(path: &Path, note: &BreakNote) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options.append(true).create(true).mode(0o644).custom_flags(flags.bits() as i32);
    options.open(notes(path)?)?.write_all(note.line().as_bytes())?;
    crash::point();
    Ok(())
}

/// The file that tells who broke a lock.
pub(super) fn notes(path: &Path) -> io::Result<PathBuf> {
    beside(path, "broken", "")
}

/// The end of a file of notes. Others may have put something else in its place.
fn last_of(notes: &Path) -> io::Result<String> {
    let mut file = open(notes)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    file.seek(SeekFrom::Start(metadata.len().saturating_sub(NOTES_LIMIT)))?;
    let mut bytes = Vec::new();
    file.take(NOTES_LIMIT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn lost(path: &Path, record: &Record) -> io::Result<Answer> {
    let notes = notes(path).and_then(|notes| last_of(&notes)).unwrap_or_default();
    let broken = notes.lines().rev().find_map(|line| BreakNote::of(line, record));
    Ok(Answer::Lost(match broken {
        Some(note) => note.describe(),
        None => describe_loss(&look(path)?, record),
    }))
}

fn refresh(path: &Path, record: &Record) -> io::Result<Answer> {
    let mut file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return lost(path, record),
        Err(error) => return Err(error),
    };
    match read(path, &mut file)? {
        (Content::Director(there), age) if there.token == record.token => {
            if age >= record.lease() {
                return Ok(Answer::Lost("its lease ran out".into()));
            }
        }
        _ => return lost(path, record),
    }
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let keep = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    rustix::fs::futimens(&file, &Timestamps { last_access: keep, last_modification: now })?;
    crash::point();
    // Someone may have replaced the file between the look and the touch: then the touch went to a file without a name.
    if holds(path, &record.token)?.is_some() { Ok(Answer::Refreshed) } else { lost(path, record) }
}

#[cfg(test)]
mod tests;
