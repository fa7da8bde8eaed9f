//! The operations on one lock file, made of single steps; a take and a claim have files of their own. See `super` for the rule that bounds them in time.

use std::path::Path;
use std::time::Duration;

use super::super::backend::{Answer, Op};
use super::super::local::{self, NOTES_LIMIT};
use super::super::record::{BreakNote, Content, Found, Record, describe_loss};
use super::ages::{Ages, at_least, roughly};
use super::files::{There, Trouble, append, failed, hidden, named, open_own, read, remote, see, see_more, time};
use super::temporary::{Act, Temporary};
use crate::ssh::{Mode, Sftp, SftpError, Status};

/// One operation.
#[derive(Clone, Copy)]
pub(super) struct Operation<'a> {
    pub(super) sftp: &'a Sftp,
    pub(super) ages: &'a Ages,
}

impl Operation<'_> {
    pub(super) async fn perform(self, op: &Op) -> Result<Answer, Trouble> {
        match op {
            Op::Look { path } => self.look(path).await.map(Answer::Found),
            Op::Take { path, record, replaces } => {
                let prepared = self.prepare(path, record).await?;
                self.take(path, record, replaces.as_ref(), prepared).await
            }
            Op::Refresh { path, record } => self.refresh(path, record).await,
            Op::Remove { path, record } => self.remove(path, record).await,
            Op::Break { path, seen, age, note } => self.break_open(path, seen.as_ref(), *age, note).await,
        }
    }

    async fn look(self, path: &Path) -> Result<Found, Trouble> {
        let there = see(self.sftp, path).await?;
        let now = match &there {
            There::File(seen) if matches!(seen.content, Content::Director(_)) => self.probe(path).await?,
            _ => None,
        };
        Ok(self.found(path, there, now))
    }

    /// The server's clock by a file that it makes in the lock's directory; `None` where it makes none.
    pub(super) async fn probe(self, path: &Path) -> Result<Option<u32>, Trouble> {
        let probe = hidden(path, &crate::random::word())?;
        let opened = self.sftp.open(remote(&probe), Mode::CreateNew).await;
        if let Err(SftpError::Status { .. }) = opened {
            return Ok(None);
        }
        let blank = Temporary::created(self.sftp, probe, opened).await?;
        let now = blank.now();
        drop(blank);
        now.await.map(Some)
    }

    /// What is there, with its age; `now` is the server's clock.
    pub(super) fn found(self, path: &Path, there: There, now: Option<u32>) -> Found {
        match there {
            There::Absent => Found::Absent,
            There::Other(what) => Found::Other(what),
            There::File(seen) => {
                let age = match (&seen.content, now) {
                    (Content::Foreign(_), _) => roughly(seen.modified),
                    (Content::Director(_), Some(now)) => at_least(seen.modified, now),
                    (Content::Director(record), None) => self.ages.known_for(path, &record.token, seen.modified),
                };
                Found::File { content: seen.content, age }
            }
        }
    }

    async fn refresh(self, path: &Path, record: &Record) -> Result<Answer, Trouble> {
        let handle = match open_own(self.sftp, path).await? {
            Ok(handle) => handle,
            Err(there) => return Ok(self.lost(path, record, there).await),
        };
        let (before, bytes) = read(path, &handle).await?;
        if !matches!(&before.content, Content::Director(there) if there.token == record.token) {
            return Ok(self.lost(path, record, There::File(before)).await);
        }
        // The same bytes again give it the server's time.
        let (written, after) = (handle.write(0, &bytes), handle.stat());
        let lstat = self.sftp.lstat(remote(path));
        written.await.map_err(|error| failed("refresh", path, error))?;
        let after = time(path, after.await.map_err(|error| failed("refresh", path, error))?)?;
        // Just before the write it was as old as the two times differ, to less than a second.
        if u64::from(after.saturating_sub(before.modified)) >= record.lease_seconds {
            return Ok(Answer::Lost("its lease ran out".into()));
        }
        // Someone may have replaced the file between the look and the write: then that went to a file without a name.
        let there = see_more(self.sftp, path, lstat.await).await?;
        if there.held_by(&record.token).is_none() {
            return Ok(self.lost(path, record, there).await);
        }
        Ok(Answer::Refreshed)
    }

    /// Removes one's own lock under the claim for it, however young it is.
    async fn remove(self, path: &Path, record: &Record) -> Result<Answer, Trouble> {
        let there = see(self.sftp, path).await?;
        if there.held_by(&record.token).is_none() {
            return Ok(self.lost(path, record, there).await);
        }
        let Some(claim) = self.claim(path, record).await? else {
            return Ok(self.lost(path, record, see(self.sftp, path).await?).await);
        };
        let there = see(self.sftp, path).await?;
        if there.held_by(&record.token).is_none() {
            self.unclaim(claim).await?;
            return Ok(self.lost(path, record, there).await);
        }
        let removed = self.remove_now(path, record).await;
        self.settle(claim, removed).await
    }

    async fn remove_now(self, path: &Path, record: &Record) -> Result<Answer, Trouble> {
        let leftover = hidden(path, &record.token)?;
        let (removed, _also) = (self.sftp.remove(remote(path)), self.sftp.remove(remote(&leftover)));
        match removed.await {
            Ok(()) => Ok(Answer::Removed),
            Err(SftpError::Status { status: Status::NoSuchFile, .. }) => {
                Ok(self.lost(path, record, There::Absent).await)
            }
            Err(error) => Err(failed("remove", path, error)),
        }
    }

    /// Removes what a person saw (`None`: what no director wrote) at an age, if it still is that. The lock of a director goes
    /// under its claim, so that it is not replaced in the same moment.
    async fn break_open(
        self,
        path: &Path,
        seen: Option<&Record>,
        seen_age: Duration,
        note: &BreakNote,
    ) -> Result<Answer, Trouble> {
        let Some(seen) = seen else {
            let found = self.look(path).await?;
            let is_that = match &found {
                // Ages in whole seconds, by two clocks.
                Found::File { content: Content::Foreign(_), age } => *age + Duration::from_secs(3) >= seen_age,
                _ => false,
            };
            return if is_that { self.break_now(path, note).await } else { Ok(Answer::Found(found)) };
        };
        let Some(claim) = self.claim(path, seen).await? else {
            return self.look(path).await.map(Answer::Found);
        };
        let there = see(self.sftp, path).await?;
        if there.held_by(&seen.token).is_none() {
            let found = self.found(path, there, Some(claim.now));
            self.unclaim(claim).await?;
            return Ok(Answer::Found(found));
        }
        let removed = self.break_now(path, note).await;
        self.settle(claim, removed).await
    }

    async fn break_now(self, path: &Path, note: &BreakNote) -> Result<Answer, Trouble> {
        let notes = named(path, local::notes(path))?;
        let noted = append(self.sftp, &notes, note.line().as_bytes()).await;
        noted.map_err(|error| failed("note in", &notes, error))?;
        let act = Act::of(self.sftp);
        let removed = self.sftp.remove(remote(path)).await;
        if !matches!(removed, Err(SftpError::Broken(_))) {
            act.over();
        }
        removed.map(|()| Answer::Removed).map_err(|error| failed("remove", path, error))
    }

    async fn lost(self, path: &Path, record: &Record, there: There) -> Answer {
        if let Some(note) = self.broken(path, record).await {
            return Answer::Lost(note.describe());
        }
        // The age is not told to anyone here.
        Answer::Lost(describe_loss(&self.found(path, there, Some(0)), record))
    }

    /// The note of who broke this lock, if someone did.
    async fn broken(self, path: &Path, record: &Record) -> Option<BreakNote> {
        let notes = local::notes(path).ok()?;
        let handle = self.sftp.open(remote(&notes), Mode::Read).await.ok()?;
        let size = handle.stat().await.ok()?.size?;
        // The last of them, with whole lines enough for any record.
        let length = size.min(NOTES_LIMIT);
        let text = handle.read(size - length, u32::try_from(length).ok()?).await.ok()?;
        String::from_utf8_lossy(&text).lines().rev().find_map(|line| BreakNote::of(line, record))
    }
}
