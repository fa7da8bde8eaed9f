//! The small messages, which are JSON.

use serde::{Deserialize, Serialize};

use super::ProtoError;
use crate::verify::side::{About, Scan};

/// What this release's agent can do, beside saying who it is.
pub const CAPABILITIES: [&str; 4] = ["scan", "look", "hash", "statfs"];

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Request {
    /// Who the agent is: answered by [`Hello`](super::Kind::Hello).
    Hello {
        /// The version of the client.
        version: String,
    },
    /// All entries of a tree: [`Entries`](super::Kind::Entries), then [`End`](super::Kind::End).
    Scan {
        /// Which.
        scan: Scan,
    },
    /// Some of them again. [`Paths`](super::Kind::Paths) follow, then [`Last`](super::Kind::Last); answered in their order.
    Look {
        /// The tree.
        scan: Scan,
    },
    /// Digests of files. [`Wanted`](super::Kind::Wanted) follow, then [`Last`](super::Kind::Last); answered in their order, by
    /// [`Digests`](super::Kind::Digests), as they are read.
    Hash {
        /// The tree.
        scan: Scan,
        /// Bound on reading, bytes per second.
        rate: Option<u64>,
    },
    /// The file system of a directory: [`Volume`](super::Kind::Volume).
    Statfs {
        /// Which.
        root: Vec<u8>,
    },
}

/// Why a request is not performed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It is for a later release.
    #[error("the agent (rsyncdirector {}) does not know the verb {verb:?}", crate::VERSION)]
    Verb {
        /// As it came.
        verb: String,
    },
    /// It is none.
    #[error(transparent)]
    Malformed(#[from] ProtoError),
}

impl Request {
    /// Reads one.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn parse(payload: &[u8]) -> Result<Self, RequestError> {
        #[derive(Deserialize)]
        struct Verb {
            verb: String,
        }
        let Verb { verb } = serde_json::from_slice(payload).map_err(ProtoError::from)?;
        if verb != "hello" && !CAPABILITIES.contains(&&verb[..]) {
            return Err(RequestError::Verb { verb: super::shortened(&verb) });
        }
        Ok(serde_json::from_slice(payload).map_err(ProtoError::from)?)
    }
}

/// Who an agent is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The verbs that it knows.
    pub capabilities: Vec<String>,
    /// Its clock, seconds since the Unix epoch.
    pub now: f64,
    /// Itself.
    pub about: About,
}

/// A file system, as far as it matters to a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its number on that host, while it is mounted.
    pub id: u64,
    /// Its type: `ext4`; a number where the name is not known.
    pub kind: String,
    /// How finely it keeps times of changes, nanoseconds.
    pub granularity: u32,
    /// Whether names that differ in case only are different; `None` where that could not be seen.
    pub is_case_sensitive: Option<bool>,
    /// All its room, bytes.
    pub size: u64,
    /// What of it this user may still write, bytes.
    pub free: u64,
    /// So many more files may be made there; `None` where there is no such bound.
    pub free_files: Option<u64>,
}

/// Why something cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// For people.
    pub what: String,
}
