//! The operations on one lock file, made of single steps. See `super` for the rule that bounds them in time.

use std::path::{Path, PathBuf};

use futures_util::future::join_all;

use super::super::backend::{Answer, Op};
use super::super::local::{describe, removal};
use super::super::record::{Content, Found, Record};
use super::ages::{Ages, at_least, at_most, roughly};
use super::files::{Seen, There, Trouble, failed, hidden, open_own, read, remote, see, see_more, status, time};
use super::temporary::{Act, Temporary, link_or_create};
use crate::clock::Ticks;
use crate::ssh::{Mode, Sftp, SftpError, Status};

/// How many crashed take-overs of one lock are stepped over.
const CLAIM_DEPTH: usize = 8;

/// One operation, begun at `since`.
#[derive(Clone, Copy)]
pub(super) struct Operation<'a> {
    pub(super) sftp: &'a Sftp,
    pub(super) ages: &'a Ages,
    pub(super) since: Ticks,
}

/// The right to replace or remove the lock with a certain token: files that are to be removed when that is done.
struct Claim<'a> {
    names: Vec<PathBuf>,
    act: Act<'a>,
}

impl<'a> Operation<'a> {
    pub(super) async fn perform(self, op: &Op) -> Result<Answer, Trouble> {
        match op {
            Op::Look { path } => self.look(path).await.map(Answer::Found),
            Op::Take { path, record, replaces } => self.take(path, record, replaces.as_ref()).await,
            Op::Refresh { path, record } => self.refresh(path, record).await,
            Op::Remove { path, record } => self.remove(path, record).await,
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
    async fn probe(self, path: &Path) -> Result<Option<u32>, Trouble> {
        let probe = hidden(path, "", &super::super::random_token())?;
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
    fn found(self, path: &Path, there: There, now: Option<u32>) -> Found {
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

    async fn take(self, path: &Path, record: &Record, replaces: Option<&Record>) -> Result<Answer, Trouble> {
        let name = hidden(path, "", &record.token)?;
        // The temporary file comes with the look: it also tells the time.
        let (lstat, opened) = (self.sftp.lstat(remote(path)), self.sftp.open(remote(&name), Mode::CreateNew));
        let (lstat, opened) = (lstat.await, opened.await);
        let is_absent = status(&lstat) == Some(Status::NoSuchFile);
        let blank = match Temporary::created(self.sftp, name, opened).await {
            Ok(blank) => blank,
            // It may still be told what is there.
            Err(Trouble::Failed(_)) if !is_absent => return self.occupied(path, record, None).await,
            Err(error) => return Err(error),
        };
        if !is_absent {
            let now = blank.now();
            let there = see_more(self.sftp, path, lstat).await?;
            if let Some(stale) = replaces.filter(|stale| there.held_by(&stale.token).is_some()) {
                return self.replace(path, blank.fill(record).await?, record, stale).await;
            }
            return Ok(self.taken_or_found(path, record, there, Some(now.await?)));
        }
        let temporary = blank.fill(record).await?;
        if link_or_create(self.sftp, &temporary, path, record).await? {
            return Ok(self.taken(path, record));
        }
        self.occupied(path, record, Some(temporary.now)).await
    }

    fn taken(self, path: &Path, record: &Record) -> Answer {
        self.ages.refreshed(path, &record.token, self.since);
        Answer::Taken
    }

    /// What is in the way of a take, unless it is what an earlier attempt took.
    async fn occupied(self, path: &Path, record: &Record, now: Option<u32>) -> Result<Answer, Trouble> {
        let there = see(self.sftp, path).await?;
        Ok(self.taken_or_found(path, record, there, now))
    }

    fn taken_or_found(self, path: &Path, record: &Record, there: There, now: Option<u32>) -> Answer {
        match there.held_by(&record.token) {
            Some(_) => Answer::Taken,
            None => Answer::Found(self.found(path, there, now)),
        }
    }

    /// Replaces a stale lock by a rename, under the claim for it.
    async fn replace(
        self,
        path: &Path,
        temporary: Temporary<'_>,
        record: &Record,
        stale: &Record,
    ) -> Result<Answer, Trouble> {
        if !self.sftp.can_rename_over() {
            let why = "its SFTP server cannot rename a file over another (posix-rename@openssh.com)";
            return Err(Trouble::Failed(format!("could not take over {}: {why}", path.display())));
        }
        let now = temporary.now;
        let claim = self.claim(path, &temporary, record, stale).await?;
        let Some(claim) = claim else { return self.occupied(path, record, Some(now)).await };
        let renamed = self.rename_if_stale(path, temporary, stale).await;
        self.unclaim(claim).await?;
        match renamed? {
            true => Ok(self.taken(path, record)),
            false => self.occupied(path, record, Some(now)).await,
        }
    }

    async fn rename_if_stale(self, path: &Path, temporary: Temporary<'_>, stale: &Record) -> Result<bool, Trouble> {
        let there = see(self.sftp, path).await?;
        let is_stale = |seen: &Seen| at_least(seen.modified, temporary.now) >= stale.lease();
        if !there.held_by(&stale.token).is_some_and(is_stale) {
            return Ok(false);
        }
        let renamed = self.sftp.rename_over(remote(&temporary.path), remote(path)).await;
        renamed.map_err(|error| failed("replace", path, error))?;
        temporary.renamed();
        Ok(true)
    }

    /// Claims the lock with the token of `target`. A claim whose owner crashed is itself stale after a lease; the next one then
    /// claims that claim, and so on.
    async fn claim(
        self,
        path: &Path,
        temporary: &Temporary<'_>,
        record: &Record,
        target: &Record,
    ) -> Result<Option<Claim<'a>>, Trouble> {
        let act = Act::of(self.sftp);
        match self.claim_names(path, temporary, record, target).await {
            Ok(Some(names)) => Ok(Some(Claim { names, act })),
            Err(error @ Trouble::Broken(_)) => Err(error),
            nothing_claimed => {
                act.over();
                nothing_claimed.map(|_| None)
            }
        }
    }

    async fn claim_names(
        self,
        path: &Path,
        temporary: &Temporary<'_>,
        record: &Record,
        target: &Record,
    ) -> Result<Option<Vec<PathBuf>>, Trouble> {
        let mut token = target.token.clone();
        let mut names = Vec::new();
        for _ in 0..CLAIM_DEPTH {
            let name = hidden(path, "claim-", &token)?;
            let is_ours = link_or_create(self.sftp, temporary, &name, record).await?;
            names.push(name.clone());
            if is_ours {
                return Ok(Some(names));
            }
            match see(self.sftp, &name).await? {
                There::File(Seen { content: Content::Director(other), modified })
                    if at_least(modified, temporary.now) >= target.lease() =>
                {
                    token = other.token;
                }
                _ => break,
            }
        }
        Ok(None)
    }

    async fn unclaim(self, claim: Claim<'_>) -> Result<(), Trouble> {
        let removals: Vec<_> = claim.names.iter().map(|name| self.sftp.remove(remote(name))).collect();
        for (removal, name) in join_all(removals).await.into_iter().zip(&claim.names) {
            if let Err(error @ SftpError::Broken(_)) = removal {
                return Err(failed("remove", name, error));
            }
            // One that stays is garbage without an effect: its lock is gone.
        }
        claim.act.over();
        Ok(())
    }

    async fn refresh(self, path: &Path, record: &Record) -> Result<Answer, Trouble> {
        let handle = match open_own(self.sftp, path).await? {
            Ok(handle) => handle,
            Err(there) => return Ok(self.lost(path, there)),
        };
        let (before, bytes) = read(path, &handle).await?;
        if !matches!(&before.content, Content::Director(there) if there.token == record.token) {
            return Ok(self.lost(path, There::File(before)));
        }
        // The same bytes again give it the server's time.
        let sent = Ticks::now();
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
            return Ok(self.lost(path, there));
        }
        self.ages.refreshed(path, &record.token, sent);
        Ok(Answer::Refreshed)
    }

    /// Removes one's own lock. One that nobody can judge stale for another half lease is just removed; an older one under the
    /// claim for it, so that it cannot be replaced in the same moment.
    async fn remove(self, path: &Path, record: &Record) -> Result<Answer, Trouble> {
        let there = match open_own(self.sftp, path).await? {
            Ok(handle) => There::File(read(path, &handle).await?.0),
            Err(there) => there,
        };
        let Some(seen) = there.held_by(&record.token) else { return Ok(self.lost(path, there)) };
        let known = self.ages.since_refreshed(path, &record.token);
        if known.is_some_and(|age| age < record.lease() / 2) {
            return self.remove_now(path, record).await;
        }
        let removal = removal(record);
        let blank = Temporary::create(self.sftp, hidden(path, "", &removal.token)?).await?;
        if at_most(seen.modified, blank.now().await?) < record.lease() / 2 {
            return self.remove_now(path, record).await;
        }
        let temporary = blank.fill(&removal).await?;
        let claim = self.claim(path, &temporary, &removal, record).await?;
        let Some(claim) = claim else { return Ok(self.lost(path, see(self.sftp, path).await?)) };
        let answer = self.remove_if_ours(path, record).await;
        self.unclaim(claim).await?;
        answer
    }

    async fn remove_if_ours(self, path: &Path, record: &Record) -> Result<Answer, Trouble> {
        let there = see(self.sftp, path).await?;
        match there.held_by(&record.token) {
            Some(_) => self.remove_now(path, record).await,
            None => Ok(self.lost(path, there)),
        }
    }

    async fn remove_now(self, path: &Path, record: &Record) -> Result<Answer, Trouble> {
        let leftover = hidden(path, "", &record.token)?;
        let act = Act::of(self.sftp);
        let (removed, _also) = (self.sftp.remove(remote(path)), self.sftp.remove(remote(&leftover)));
        let removed = removed.await;
        if !matches!(removed, Err(SftpError::Broken(_))) {
            act.over();
        }
        match removed {
            Ok(()) => {
                self.ages.released(path);
                Ok(Answer::Removed)
            }
            Err(SftpError::Status { status: Status::NoSuchFile, .. }) => Ok(self.lost(path, There::Absent)),
            Err(error) => Err(failed("remove", path, error)),
        }
    }

    fn lost(self, path: &Path, there: There) -> Answer {
        self.ages.released(path);
        // The age is not told to anyone here.
        Answer::Lost(describe(&self.found(path, there, Some(0))))
    }
}
