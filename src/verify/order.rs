//! What is to be verified, as the daemon tells the process that does it.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::terms::Depth;

/// A verification. The default is a quick one of nothing, that tolerates nothing and keeps nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Whose replica it is.
    pub replica: Replica,
    /// The sources of the sync: paths, wildcards and `~` already expanded where they are here.
    pub sources: Vec<OsString>,
    /// Its destination.
    pub dest: OsString,
    /// Its options.
    pub opts: Vec<OsString>,
    /// Which side is elsewhere, and how it is reached; `None` when both are here.
    pub remote: Option<Elsewhere>,
    /// How closely to look.
    pub depth: Depth,
    /// The part of the bytes that is read each day, whether or not they were read before, of a [`Depth::Deep`] verification: 0.05 reads all of them in
    /// 20 days. `None` reads what is not known.
    pub share: Option<f64>,
    /// Whether what was read before is read again.
    pub fresh: bool,
    /// Drift up to this is no failure.
    pub max_drift: MaxDrift,
    /// The oldest change that may be missing at the destination, seconds; `None` is no bound.
    pub max_lag: Option<u64>,
    /// Bound on reading on each side, bytes per second.
    pub rate: Option<u64>,
    /// So many random files are copied back and compared.
    pub restore: usize,
    /// The agent's program on the peer; `None` does without one.
    pub agent: Option<String>,
    /// Where the instance keeps its state; `None` keeps nothing.
    pub state: Option<PathBuf>,
    /// What is verified for longer than this is forgotten, seconds.
    pub keep: u64,
    /// A file to which every difference is written, as a JSON object a line.
    pub list: Option<PathBuf>,
}

/// A sync of a job, and what it makes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Replica {
    /// The job's `id`.
    pub job: String,
    /// The `id` of the sync in it.
    pub sync: String,
}

/// The side that is on a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// The peer's host, as rsync is given it.
    pub host: String,
    /// The user there.
    pub user: String,
    /// Whether it has the source.
    pub is_source: bool,
    /// The program that reaches it, as rsync's `-e`, with its arguments.
    pub rsh: Vec<OsString>,
    /// Tickets for the daemon's own transport, one for each connection, in `RSYNCDIRECTOR_TRANSPORT`; none for the system's `ssh`.
    pub tickets: Vec<String>,
}

/// How much may differ.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum MaxDrift {
    /// So many entries.
    Entries(u64),
    /// This part of all entries, 0 to 1.
    Share(f64),
}

impl Default for MaxDrift {
    /// Nothing may.
    fn default() -> Self {
        Self::Entries(0)
    }
}

impl MaxDrift {
    /// Whether so much of so many is too much.
    pub fn is_over(self, differing: u64, all: u64) -> bool {
        match self {
            Self::Entries(most) => differing > most,
            // Counts are far below 2^53.
            Self::Share(most) => differing as f64 > most * all as f64,
        }
    }
}
