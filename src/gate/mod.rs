//! The gate: what an account may do that exists for rsyncdirector alone. `rsyncdirector gate --policy FILE` is the forced command of a key
//! (`command="…"` in `authorized_keys`), and lets through exactly the lock operations on the policy's lock files, and `rsync --server` and the agent of a
//! verification in its directories.
//!
//! The way of a session: sshd puts what the client asked for into `SSH_ORIGINAL_COMMAND`; [`admit()`] judges it by the [`Policy`];
//! then [`serve`](locks::serve) performs lock operations until the client goes, or [`confine`](mod@confine) shuts this process in and it becomes rsync,
//! or the [`agent`](mod@crate::agent), whose every root is judged, too ([`agent::Within`]).
//!
//! What judges is pure but for looking at paths: `words` takes the command line apart without a shell, `options` knows every argument that an
//! rsync sends to its other side, [`paths`] decides whether a path lies in a directory of the policy. The judgement is the first wall. The
//! second is the kernel's ([`confine`]): whatever rsync is led to do, by a symbolic link that appears in the wrong moment or by a defect of
//! its own, it sees nothing else than those directories.
//!
//! Deliberately absent: a shell, SFTP, options that no rsync sends by itself, and any way to hand the policy or a key line in.

pub mod admit;
pub mod agent;
pub mod confine;
pub mod journal;
pub mod keyline;
pub mod locks;
mod options;
pub mod paths;
pub mod policy;
pub mod words;

#[cfg(test)]
mod tests;

pub use admit::{Admitted, admit};
pub use policy::Policy;

/// What a directory is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To read it.
    Read,
    /// To write it, and to read.
    Write,
}

/// Why the gate stays shut. For the client's eyes as well, so it names nothing that the policy does not allow to be seen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}{}", if hint.is_empty() { String::new() } else { format!(" ({hint})") })]
pub struct Refusal {
    why: String,
    hint: String,
}

impl Refusal {
    /// For this reason.
    pub fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), hint: String::new() }
    }

    /// With something that may help.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }
}
