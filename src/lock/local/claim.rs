//! The claim: who creates it is the only one who may replace or remove the lock with a certain token.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::files::{beside, give_name};
use super::{crash, look};
use crate::clock::Ticks;
use crate::lock::record::{Content, Found, Record};

/// How many crashed take-overs of one lock are stepped over.
const DEPTH: usize = 8;

/// A claim of ours. A claim whose owner crashed is itself stale after a lease; the next one then claims that claim, and so on:
/// this is the chain of them, ours last. They go away with this value.
pub(super) struct Claim {
    chain: Vec<PathBuf>,
    since: Ticks,
}

impl Claim {
    /// Whether nobody can have stepped over it yet. After that, what was checked under it may have changed.
    pub(super) fn holds(&self, target: &Record) -> bool {
        self.since.elapsed() < target.lease() / 2
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // One that stays is garbage without an effect: its lock is gone.
        for path in &self.chain {
            let _ = fs::remove_file(path);
            crash::point();
        }
    }
}

/// Claims the lock with the token of `target`; the claim says `record`, the content of `temporary`. `None` if another has it.
pub(super) fn claim(path: &Path, temporary: &Path, record: &Record, target: &Record) -> io::Result<Option<Claim>> {
    let mut token = target.token.clone();
    let mut chain = Vec::new();
    for _ in 0..DEPTH {
        let name = beside(path, "claim-", &token)?;
        let since = Ticks::now();
        if give_name(temporary, &name, record)? {
            chain.push(name);
            return Ok(Some(Claim { chain, since }));
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
