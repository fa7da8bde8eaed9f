//! What can go wrong with a peer. An error is `Clone`, because all who wait for one connection share its failure.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// An underlying error, kept for the reporter that walks the chain.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// Why a command did not run on a peer, or its result is not known.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SshError {
    /// The host's name has no address.
    #[error("could not resolve host name {host}")]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's answer.
        source: Cause,
    },
    /// None of the host's addresses accepted a TCP connection.
    #[error("could not connect to {peer} ({tried})")]
    Connect {
        /// The peer, `user@host:port`.
        peer: String,
        /// The addresses that were tried, with commas between.
        tried: String,
        /// The last one's error.
        source: Cause,
    },
    /// A bound passed.
    #[error("{doing} {peer} took longer than {limit:?}")]
    Timeout {
        /// The peer, `user@host:port`.
        peer: String,
        /// The step, such as `key exchange with`.
        doing: &'static str,
        /// The bound.
        limit: Duration,
    },
    /// The host did not prove that it is the one that is meant.
    #[error(transparent)]
    HostKey(#[from] Box<HostKeyError>),
    /// The peer accepted none of our keys.
    #[error("{peer} refused the login; {tried}")]
    Auth {
        /// The peer, `user@host:port`.
        peer: String,
        /// What was offered and what could not be offered, for people.
        tried: String,
    },
    /// A private key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A host on the way does not take us to the next one.
    #[error("it does not open a connection to {target}: {why}")]
    Forward {
        /// The next host, `name` or `[name]:port`.
        target: String,
        /// What it answers, for people.
        why: &'static str,
    },
    /// Something went wrong at a host on the way.
    #[error("could not reach {peer} by way of {hop}")]
    Jump {
        /// The peer, `user@host:port`.
        peer: Box<str>,
        /// The host on the way, `user@host:port`.
        hop: Box<str>,
        /// The label `reason` of what went wrong there.
        reason: &'static str,
        /// What went wrong there.
        source: Cause,
    },
    /// The connection ended under us.
    #[error("lost the connection while {doing} {peer}")]
    Lost {
        /// The peer, `user@host:port`.
        peer: String,
        /// The step.
        doing: &'static str,
        /// What ended it.
        source: Cause,
    },
    /// The peer's SSH server did something that we cannot work with.
    #[error("{doing} {peer} failed")]
    Protocol {
        /// The peer, `user@host:port`.
        peer: String,
        /// The step.
        doing: &'static str,
        /// What it did.
        source: Cause,
    },
}

impl SshError {
    /// The label `reason`: `unreachable`, `timeout`, `host_key`, `auth`, `key` or `protocol`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Resolve { .. } | Self::Connect { .. } | Self::Forward { .. } | Self::Lost { .. } => "unreachable",
            Self::Jump { reason, .. } => reason,
            Self::Timeout { .. } => "timeout",
            Self::HostKey(_) => "host_key",
            Self::Auth { .. } => "auth",
            Self::Key(_) => "key",
            Self::Protocol { .. } => "protocol",
        }
    }
}

/// Why a host key was refused. Each message names what would accept the key, once a person has checked it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HostKeyError {
    /// No known_hosts file lists the host.
    #[error(
        "host key of {host} is not known: it offered {algorithm} {fingerprint}; when that fingerprint is right, accept it by \
         `{keyscan}` or by logging in once: `{login}`"
    )]
    Unknown {
        /// Host as known_hosts writes it: `name` or `[name]:port`.
        host: String,
        /// Key type, such as `ssh-ed25519`.
        algorithm: String,
        /// `SHA256:` and base64.
        fingerprint: String,
        /// The command that records the key.
        keyscan: String,
        /// The command that asks and records it.
        login: String,
    },
    /// The host is listed with other keys.
    #[error(
        "host key of {host} has changed: it offered {algorithm} {fingerprint}, but {}:{line} lists another; somebody may be \
         intercepting the connection. If the host was given a new key, remove the old one: `{remove}`", file.display()
    )]
    Changed {
        /// Host as known_hosts writes it.
        host: String,
        /// Key type that was offered.
        algorithm: String,
        /// Its fingerprint.
        fingerprint: String,
        /// The file that lists another key.
        file: PathBuf,
        /// The line in it, from 1.
        line: usize,
        /// The command that removes it.
        remove: String,
    },
    /// The offered key is marked `@revoked`.
    #[error("host key of {host} is revoked: {}:{line} forbids {algorithm} {fingerprint}", file.display())]
    Revoked {
        /// Host as known_hosts writes it.
        host: String,
        /// Key type that was offered.
        algorithm: String,
        /// Its fingerprint.
        fingerprint: String,
        /// The file that revokes it.
        file: PathBuf,
        /// The line in it, from 1.
        line: usize,
    },
    /// A new key is to be accepted but cannot be recorded, so a later change of it could not be seen.
    #[error("could not record the host key of {host} in {}", file.display())]
    Record {
        /// Host as known_hosts writes it.
        host: String,
        /// The first known_hosts file.
        file: PathBuf,
        /// What failed.
        source: Cause,
    },
}

/// Why a private key file cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read, or is not there.
    #[error("could not read private key {}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: Cause,
    },
    /// Others can read or write it.
    #[error("permissions {mode:04o} of private key {} are too open: `chmod 600 {}`", file.display(), file.display())]
    TooOpen {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is the public half.
    #[error("{} is a public key; name the private key that belongs to it (the file without `.pub`)", file.display())]
    Public {
        /// The file.
        file: PathBuf,
    },
    /// It is something else.
    #[error("{} is not a private key that can be used", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// What the parser said; never the content.
        source: Cause,
    },
    /// It is of a type that nobody takes any more, or that we do not know.
    #[error(
        "private key {} is of the type {algorithm}, which cannot be used; make another by `ssh-keygen -t ed25519`",
        file.display()
    )]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// The key type, such as `ssh-dss`.
        algorithm: String,
    },
    /// It has a passphrase that we are not told, and no agent offers it.
    #[error(
        "private key {} has a passphrase and {agent}: load it by `ssh-add {}`, hand the passphrase over as the credential \
         `ssh-passphrase`, or use a key without one", file.display(), file.display()
    )]
    Encrypted {
        /// The file.
        file: PathBuf,
        /// What is the matter with the agent.
        agent: &'static str,
    },
    /// It is on a FIDO device, and no agent offers it.
    #[error("private key {} is on a security key and {agent}: load it by `ssh-add {}`", file.display(), file.display())]
    SecurityKey {
        /// The file.
        file: PathBuf,
        /// What is the matter with the agent.
        agent: &'static str,
    },
    /// The credential with its passphrase cannot be read.
    #[error("could not read {}, the passphrase of a private key", credential.display())]
    Credential {
        /// The credential's file.
        credential: Box<Path>,
        /// What the system said.
        source: Cause,
    },
    /// The passphrase is not the key's, or the file is encrypted in a way that we do not know.
    #[error("the passphrase in {} does not unlock private key {}", credential.display(), file.display())]
    Passphrase {
        /// The key's file.
        file: PathBuf,
        /// The credential's file.
        credential: Box<Path>,
        /// What the parser said; never the content.
        source: Cause,
    },
}
