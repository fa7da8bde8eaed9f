//! The claim for replacing or removing the lock with a certain token: who creates it is the only one who may.

use std::path::{Path, PathBuf};

use futures_util::future::join_all;

use super::super::local::{DEPTH, claim_name};
use super::super::record::Record;
use super::ages::at_least;
use super::files::{Trouble, failed, named, remote, time};
use super::protocol::Operation;
use super::temporary::Act;
use crate::ssh::{Mode, SftpError, Status};

/// The right to replace or remove the lock with a certain token, for half a lease: the bound of the whole operation. Cuts the
/// connection when it is given up before it is known what became of it.
pub(super) struct Claim<'a> {
    /// Ours, and those that were stepped over.
    names: Vec<PathBuf>,
    /// The server's clock when it was made, seconds since 1970.
    pub(super) now: u32,
    act: Act<'a>,
}

impl Claim<'_> {
    /// The lock is still there, and so the claim stays until it is stale: without it, a next one could make the same beside the
    /// one who has stepped over it.
    pub(super) fn left(self) {
        self.act.over();
    }
}

impl<'a> Operation<'a> {
    /// Claims the lock that says `target`; `None` if another has the claim. A claim is an empty file with a number; the next number
    /// may be made when this one is older than the lease.
    pub(super) async fn claim(self, path: &Path, target: &Record) -> Result<Option<Claim<'a>>, Trouble> {
        let act = Act::of(self.sftp);
        match self.claim_numbers(path, target).await {
            Ok(Some((names, now))) => Ok(Some(Claim { names, now, act })),
            Err(error @ Trouble::Broken(_)) => Err(error),
            nothing_claimed => {
                act.over();
                nothing_claimed.map(|_| None)
            }
        }
    }

    async fn claim_numbers(self, path: &Path, target: &Record) -> Result<Option<(Vec<PathBuf>, u32)>, Trouble> {
        let mut names = Vec::new();
        for number in 0..DEPTH {
            let name = named(path, claim_name(path, target, number))?;
            match self.sftp.open(remote(&name), Mode::CreateNew).await {
                Ok(handle) => {
                    let attributes = handle.stat();
                    let closed = handle.close();
                    let now = time(&name, attributes.await.map_err(|error| failed("look at", &name, error))?)?;
                    closed.await.map_err(|error| failed("create", &name, error))?;
                    names.push(name);
                    return Ok(Some((names, now)));
                }
                Err(error @ SftpError::Broken(_)) => return Err(failed("create", &name, error)),
                Err(error) => {
                    let there = self.sftp.lstat(remote(&name)).await;
                    match (there, error) {
                        (Err(there @ SftpError::Broken(_)), _) => return Err(failed("look at", &name, there)),
                        (Ok(there), _) if self.is_stale(path, there.modified, target).await? => names.push(name),
                        (Ok(_), _) => return Ok(None),
                        // It has just been removed with its lock, or could not be made at all.
                        (Err(_), error @ SftpError::Status { status: Status::PermissionDenied, .. }) => {
                            return Err(failed("create", &name, error));
                        }
                        (Err(_), _) => return Ok(None),
                    }
                }
            }
        }
        Ok(None)
    }

    async fn is_stale(self, path: &Path, modified: Option<u32>, target: &Record) -> Result<bool, Trouble> {
        let now = self.probe(path).await?;
        Ok(modified.zip(now).is_some_and(|(modified, now)| at_least(modified, now) >= target.lease()))
    }

    /// Ends a claim by what came of the change that it was for. A connection that broke is cut with the claim.
    pub(super) async fn settle<T>(self, claim: Claim<'_>, change: Result<T, Trouble>) -> Result<T, Trouble> {
        match &change {
            Ok(_) => self.unclaim(claim).await?,
            Err(Trouble::Failed(_)) => claim.left(),
            Err(Trouble::Broken(_)) => {}
        }
        change
    }

    /// The lock is gone, and nobody can claim it any more.
    pub(super) async fn unclaim(self, claim: Claim<'_>) -> Result<(), Trouble> {
        let removals: Vec<_> = claim.names.iter().map(|name| self.sftp.remove(remote(name))).collect();
        for (removal, name) in join_all(removals).await.into_iter().zip(&claim.names) {
            if let Err(error @ SftpError::Broken(_)) = removal {
                return Err(failed("remove", name, error));
            }
            // One that stays is garbage without an effect.
        }
        claim.act.over();
        Ok(())
    }
}
