//! Which keys to log in with: the configured file, or the agent's and the files of ssh_config(5), or the agent's and the user's default keys.
//!
//! What is decided here needs files only (`file` reads a key, `credential` its passphrase, `certificate` what stands beside
//! it); the agent is asked during the login, which also puts everything in order.
//!
//! Deliberately absent: keys on smart cards, and signing by a security key without an agent.

mod certificate;
mod credential;
mod file;

use std::env;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::{Certificate, PrivateKey, PublicKey};

use self::credential::Passphrases;
use self::file::KeyFile;
use super::error::KeyError;
use crate::account;
use crate::config::Peer;

pub(super) use self::certificate::describe;

/// The user's default keys in `.ssh`, in the order in which OpenSSH 9 tries them (ssh_config(5), IdentityFile). Its last but
/// one, `id_xmss`, is experimental and in no distribution's build.
const DEFAULT_KEYS: [&str; 6] = ["id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", "id_dsa"];

/// Where this process finds keys.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources {
    /// The agent's socket.
    pub(super) agent: Option<PathBuf>,
    /// The user's home directory.
    pub(super) home: Option<PathBuf>,
    /// The directory in which the service manager puts secrets, systemd.exec(5).
    pub(super) credentials: Option<PathBuf>,
}

impl Sources {
    /// `SSH_AUTH_SOCK`; `HOME`, or what the user database says; `CREDENTIALS_DIRECTORY`.
    pub(super) fn of_process() -> Self {
        let path = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self { agent: path("SSH_AUTH_SOCK"), home: account::home(), credentials: path("CREDENTIALS_DIRECTORY") }
    }
}

/// What to offer a peer.
#[derive(Debug)]
pub(super) struct Offer {
    /// What the agent is asked for.
    pub(super) agent: AgentUse,
    /// Keys of which there is a file, in order.
    pub(super) keys: Vec<ListedKey>,
    /// What was passed over, with the reason, for the message of a login that fails.
    pub(super) passed_over: Vec<String>,
}

/// What the agent is asked for.
#[derive(Debug)]
pub(super) enum AgentUse {
    /// Nothing.
    Nothing,
    /// Every key it has.
    Everything,
    /// Those of the listed keys that it has.
    Known,
    /// The one listed key, of this file, which nobody else can use.
    Listed(Locked, PathBuf),
}

/// A key of which there is a file.
#[derive(Debug)]
pub(super) struct ListedKey {
    /// The private key's file.
    pub(super) file: PathBuf,
    /// The public half.
    pub(super) public: PublicKey,
    /// The user certificate for it, with its file.
    pub(super) certificate: Option<(PathBuf, Certificate)>,
    /// Who can sign with it.
    pub(super) secret: Secret,
}

/// Who can sign with a listed key.
#[derive(Debug)]
pub(super) enum Secret {
    /// We can.
    Here(Arc<PrivateKey>),
    /// The agent, if it has the key.
    Agent(Locked),
}

/// Why a key file alone cannot sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locked {
    /// It has a passphrase, and there is no credential for it.
    Passphrase,
    /// It points to a FIDO device.
    SecurityKey,
    /// There is only the public half, which names a key of the agent.
    PublicHalf,
}

impl Locked {
    /// The error for a key in `file` that the agent does not help with.
    pub(super) fn error(self, file: &Path, agent: &'static str) -> KeyError {
        let file = file.to_path_buf();
        match self {
            Self::Passphrase => KeyError::Encrypted { file, agent },
            Self::SecurityKey => KeyError::SecurityKey { file, agent },
            Self::PublicHalf => KeyError::Public { file },
        }
    }

    /// As the end of a sentence about the key's file.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Passphrase => "has a passphrase",
            Self::SecurityKey => "is on a security key",
            Self::PublicHalf => "is a public key whose private half is not here",
        }
    }
}

/// Where a user's keys are, by default.
fn default_keys(sources: &Sources) -> impl Iterator<Item = PathBuf> {
    sources.home.iter().flat_map(|home| DEFAULT_KEYS.map(|name| home.join(".ssh").join(name)))
}

/// Whether a login with this private key can be tried: it is there, closed to others, of a type that is taken, and unlocked, or an
/// agent is there to be asked.
///
/// # Errors
/// As for the login of a peer that has it configured.
pub fn judge(file: &Path) -> Result<(), KeyError> {
    Offer::configured(file, &Sources::of_process()).map(drop)
}

impl Offer {
    /// The keys for a peer. A configured key that cannot be used is an error; a key of ssh_config(5) or a default key
    /// that cannot be used is passed over, and so is every certificate.
    pub(super) fn prepare(peer: &Peer, sources: &Sources) -> Result<Self, KeyError> {
        if let Some(file) = &peer.private_key {
            return Self::configured(file, sources);
        }
        let agent = match (&sources.agent, peer.reach.identities_only) {
            (None, _) => AgentUse::Nothing,
            (Some(_), true) => AgentUse::Known,
            (Some(_), false) => AgentUse::Everything,
        };
        let mut offer = Self { agent, keys: Vec::new(), passed_over: Vec::new() };
        let passphrases = Passphrases::new(sources.credentials.as_deref());
        match &peer.reach.identities {
            Some(files) => files.iter().for_each(|file| offer.try_identity(file, &passphrases)),
            None => offer.try_defaults(sources, &passphrases),
        }
        Ok(offer)
    }

    /// The private keys that are read for a peer, those that there are.
    pub(super) fn files(peer: &Peer, sources: &Sources) -> Vec<PathBuf> {
        match (&peer.private_key, &peer.reach.identities) {
            (Some(file), _) => vec![file.clone()],
            (None, Some(files)) => files.clone(),
            (None, None) => default_keys(sources).collect(),
        }
    }

    fn configured(file: &Path, sources: &Sources) -> Result<Self, KeyError> {
        let mut offer = Self { agent: AgentUse::Nothing, keys: Vec::new(), passed_over: Vec::new() };
        match KeyFile::read(file, &Passphrases::new(sources.credentials.as_deref()))? {
            KeyFile::Plain(key) => offer.list(file, key.public_key().clone(), Secret::Here(Arc::from(key))),
            KeyFile::Locked(why, _) if sources.agent.is_none() => {
                return Err(why.error(file, "there is no agent (SSH_AUTH_SOCK is not set)"));
            }
            KeyFile::Locked(why, None) => {
                return Err(why.error(file, "its public half (the file with `.pub`) is missing"));
            }
            KeyFile::Locked(why, Some(public)) => {
                offer.agent = AgentUse::Listed(why, file.to_path_buf());
                offer.list(file, *public, Secret::Agent(why));
            }
        }
        Ok(offer)
    }

    fn try_defaults(&mut self, sources: &Sources, passphrases: &Passphrases) {
        for file in default_keys(sources) {
            match KeyFile::read(&file, passphrases) {
                Err(KeyError::Unreadable { source, .. }) if is_missing(&*source) => {}
                read => self.try_key(&file, read),
            }
        }
    }

    /// As ssh, a file that is a public key or has only its public half beside it names a key of the agent.
    fn try_identity(&mut self, file: &Path, passphrases: &Passphrases) {
        let public = file::public_key(file).or_else(|| file::public_half(file).filter(|_| !file.exists()));
        match public {
            Some(public) => self.list(file, *public, Secret::Agent(Locked::PublicHalf)),
            None => self.try_key(file, KeyFile::read(file, passphrases)),
        }
    }

    fn try_key(&mut self, file: &Path, read: Result<KeyFile, KeyError>) {
        match read {
            Ok(KeyFile::Plain(key)) => self.list(file, key.public_key().clone(), Secret::Here(Arc::from(key))),
            Ok(KeyFile::Locked(why, Some(public))) => self.list(file, *public, Secret::Agent(why)),
            Ok(KeyFile::Locked(why, None)) => self.pass_over(file, why),
            Err(error @ KeyError::Unreadable { .. }) => self.passed_over.push(crate::error_chain(&error)),
            Err(error) => self.passed_over.push(error.to_string()),
        }
    }

    fn list(&mut self, file: &Path, public: PublicKey, secret: Secret) {
        let certificate = certificate::beside(file, &public).unwrap_or_else(|reason| {
            self.passed_over.push(reason);
            None
        });
        self.keys.push(ListedKey { file: file.to_path_buf(), public, certificate, secret });
    }

    fn pass_over(&mut self, file: &Path, why: Locked) {
        self.passed_over.push(format!("{} {}", file.display(), why.text()));
    }
}

fn is_missing(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::NotFound)
}

/// The file beside `file` whose name goes on with `suffix`.
fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn default_keys_are_those_of_ssh_in_its_order() {
        let output =
            Command::new("ssh").args(["-G", "-F", "none", "host"]).output().expect("ssh, which this test needs");
        let text = String::from_utf8(output.stdout).unwrap();
        let files = text.lines().filter_map(|line| line.strip_prefix("identityfile ~/.ssh/"));
        let theirs: Vec<_> = files.filter(|name| *name != "id_xmss").collect();
        assert!(theirs.len() > 4, "{text}");
        // OpenSSH 10 has no DSA any more.
        let ours: Vec<_> = DEFAULT_KEYS.into_iter().filter(|name| *name != "id_dsa" || theirs.contains(name)).collect();
        assert_eq!(ours, theirs);
    }
}
