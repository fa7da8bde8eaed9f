//! The claim for replacing or removing the lock with a certain token: who creates it is the only one who may.

use std::path::{Path, PathBuf};

use futures_util::future::join_all;

use super::super::record::{Content, Record};
use super::ages::at_least;
use super::files::{Seen, There, Trouble, failed, hidden, remote, see};
use super::protocol::Operation;
use super::temporary::{Act, Temporary, link_or_create};
use crate::ssh::SftpError;

/// How many crashed take-overs of one lock are stepped over.
const CLAIM_DEPTH: usize = 8;

/// The right to replace or remove the lock with a certain token: files that are to be removed when that is done.
pub(super) struct Claim<'a> {
    names: Vec<PathBuf>,
    act: Act<'a>,
}

impl<'a> Operation<'a> {
    /// Claims the lock with the token of `target`. A claim whose owner crashed is itself stale after a lease; the next one then
    /// claims that claim, and so on.
    pub(super) async fn claim(
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

    pub(super) async fn unclaim(self, claim: Claim<'_>) -> Result<(), Trouble> {
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
}
