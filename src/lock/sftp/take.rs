//! Taking a lock: prepared for several at the same time, then done one after the other.

use std::path::Path;

use super::super::backend::Answer;
use super::super::record::Record;
use super::ages::at_least;
use super::files::{There, Trouble, failed, hidden, remote, see, see_more, status};
use super::protocol::Operation;
use super::temporary::{Blank, Temporary, link_or_create};
use crate::ssh::{Attributes, Mode, SftpError, Status};

/// What a take needs before it may change anything that others see.
pub(super) enum Prepared<'a> {
    /// Nothing was there; this is to be linked to the lock's name.
    Absent(Temporary<'a>),
    /// Something was there, and this tells the server's time.
    Occupied(Blank<'a>, Result<Attributes, SftpError>),
    /// Something was there, and we may make no file beside it.
    Unwritable,
}

impl<'a> Operation<'a> {
    /// Looks at the path and makes the temporary file, at the same time.
    pub(super) async fn prepare(self, path: &Path, record: &Record) -> Result<Prepared<'a>, Trouble> {
        let name = hidden(path, &record.token)?;
        let (lstat, opened) = (self.sftp.lstat(remote(path)), self.sftp.open(remote(&name), Mode::CreateNew));
        let (lstat, opened) = (lstat.await, opened.await);
        let is_absent = status(&lstat) == Some(Status::NoSuchFile);
        match Temporary::created(self.sftp, name, opened).await {
            Ok(blank) if is_absent => blank.fill(record).await.map(Prepared::Absent),
            Ok(blank) => Ok(Prepared::Occupied(blank, lstat)),
            // It may still be told what is there.
            Err(Trouble::Failed(_)) if !is_absent => Ok(Prepared::Unwritable),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn take(
        self,
        path: &Path,
        record: &Record,
        replaces: Option<&Record>,
        prepared: Prepared<'_>,
    ) -> Result<Answer, Trouble> {
        match prepared {
            Prepared::Unwritable => self.occupied(path, record, None).await,
            Prepared::Absent(temporary) => match link_or_create(self.sftp, &temporary, path, record).await? {
                true => Ok(Answer::Taken),
                false => self.occupied(path, record, Some(temporary.now)).await,
            },
            Prepared::Occupied(blank, lstat) => {
                let now = blank.now();
                let there = see_more(self.sftp, path, lstat).await?;
                let now = now.await?;
                let is_stale = |stale: &&Record| {
                    there.held_by(&stale.token).is_some_and(|seen| at_least(seen.modified, now) >= stale.lease())
                };
                match replaces.filter(is_stale) {
                    Some(stale) => self.replace(path, blank.fill(record).await?, record, stale).await,
                    None => Ok(self.taken_or_found(path, record, there, Some(now))),
                }
            }
        }
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
        let Some(claim) = self.claim(path, stale).await? else { return self.occupied(path, record, Some(now)).await };
        let there = see(self.sftp, path).await?;
        match there.held_by(&stale.token) {
            None => self.unclaim(claim).await?,
            Some(seen) if at_least(seen.modified, temporary.now) >= stale.lease() => {
                let renamed = self.sftp.rename_over(remote(&temporary.path), remote(path)).await;
                if renamed.is_ok() {
                    temporary.renamed();
                }
                let taken = renamed.map(|()| Answer::Taken).map_err(|error| failed("replace", path, error));
                return self.settle(claim, taken).await;
            }
            Some(_) => claim.left(),
        }
        self.occupied(path, record, Some(now)).await
    }
}
