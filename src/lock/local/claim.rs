//! The claim: who creates it is the only one who may replace or remove the lock with a certain token.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::age::age;
use super::crash;
use super::files::beside;
use crate::clock::Ticks;
use crate::lock::record::Record;

/// How many crashed take-overs and removals of one lock are stepped over.
pub(in crate::lock) const DEPTH: usize = 8;

/// The right to replace or remove a lock. An empty file with a number; the next number may be made when this one is older than
/// the lease: then its owner has crashed, or must not rely on it any more.
pub(super) struct Claim {
    /// Ours, and those that were stepped over.
    pub(super) names: Vec<PathBuf>,
    pub(super) since: Ticks,
    pub(super) lease: Duration,
}

impl Claim {
    /// Whether it may be relied on: not after half a lease, so that it is over long before it can be stepped over.
    pub(super) fn is_young(&self) -> bool {
        self.since.elapsed() < self.lease / 2
    }

    /// The lock is gone, and nobody can claim it any more. A claim on a lock that is still there stays until it is stale: without
    /// it, a next one could make the same claim beside the one who has stepped over it.
    pub(super) fn over(self) {
        for name in &self.names {
            // One that stays is garbage without an effect.
            let _ = fs::remove_file(name);
            crash::point();
        }
    }
}

/// Claims the lock that says `target`; `None` if another has the claim.
pub(super) fn claim(path: &Path, target: &Record) -> io::Result<Option<Claim>> {
    let mut names = Vec::new();
    for number in 0..DEPTH {
        let name = claim_name(path, target, number)?;
        let since = Ticks::now();
        match OpenOptions::new().write(true).create_new(true).mode(0o644).open(&name) {
            Ok(_) => {
                crash::point();
                names.push(name);
                return Ok(Some(Claim { names, since, lease: target.lease() }));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        match fs::symlink_metadata(&name) {
            Ok(there) if age(&name, &there) >= target.lease() => names.push(name),
            // It is another's, or was and has just been removed with its lock.
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// `.NAME.claim-TOKEN-NUMBER`.
pub(in crate::lock) fn claim_name(path: &Path, target: &Record, number: usize) -> io::Result<PathBuf> {
    beside(path, "claim-", &format!("{}-{number}", target.token))
}
