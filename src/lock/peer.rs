//! Lock files on a peer by whichever way it offers: its shell, or SFTP where it gives none.
//!
//! The shell is asked first: a script decides where the file is, in one round trip. What worked is remembered until it works
//! no more; a connection that fails or a time that passes says nothing about the way.

use std::sync::{Arc, Mutex, PoisonError};

use super::backend::{Answers, LockBackend, Op, Unreachable};
use super::remote::{RemoteBackend, ShellError};
use super::sftp::SftpBackend;
use crate::config::Peer;
use crate::error_chain;
use crate::ssh::SshError;

/// A peer's files.
#[derive(Clone)]
pub struct PeerBackend {
    peer: Peer,
    shell: RemoteBackend,
    sftp: SftpBackend,
    /// Whether SFTP is what works there; the shell otherwise, or nothing so far.
    by_sftp: Arc<Mutex<bool>>,
}

impl LockBackend for PeerBackend {
    fn perform(&self, batch: Vec<Op>) -> Answers {
        let this = self.clone();
        Box::pin(async move { this.choose(&batch).await })
    }
}

impl PeerBackend {
    /// The files of `peer` by either way.
    pub fn new(peer: Peer, shell: RemoteBackend, sftp: SftpBackend) -> Self {
        Self { peer, shell, sftp, by_sftp: Arc::default() }
    }

    #[cfg(test)]
    pub(super) fn is_by_sftp(&self) -> bool {
        *self.by_sftp.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn choose(&self, batch: &[Op]) -> Result<Vec<super::Answer>, Unreachable> {
        if *self.by_sftp.lock().unwrap_or_else(PoisonError::into_inner) {
            match self.sftp.try_perform(batch).await {
                Err(SshError::Protocol { .. }) => {}
                result => return result.map_err(Unreachable::from),
            }
        }
        let no_shell = match self.shell.try_perform(batch).await {
            Err(ShellError::NoShell(why)) => why,
            Err(ShellError::Unreachable(error)) => return Err(error),
            Ok(answers) => {
                self.remember(false);
                return Ok(answers);
            }
        };
        match self.sftp.try_perform(batch).await {
            Ok(answers) => {
                self.remember(true);
                Ok(answers)
            }
            Err(error @ SshError::Protocol { .. }) => {
                self.remember(false);
                Err(Unreachable::because(format!("{no_shell}; SFTP was tried too: {}", error_chain(&error))))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn remember(&self, by_sftp: bool) {
        let mut known = self.by_sftp.lock().unwrap_or_else(PoisonError::into_inner);
        if by_sftp && !*known {
            tracing::info!(peer = %self.peer, "{} gives no shell: its lock files are reached by SFTP", self.peer.host);
        }
        *known = by_sftp;
    }
}
