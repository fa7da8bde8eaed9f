//! Which keys to log in with: the configured file, or the agent's and the user's default keys.
//!
//! What is decided here needs files only; the agent is asked during the login.

use std::env;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::{PrivateKey, PublicKey, decode_secret_key};

use super::error::KeyError;
use crate::account;

/// The user's default keys below the home directory, in the order in which OpenSSH tries them.
const DEFAULT_KEYS: [&str; 3] = [".ssh/id_rsa", ".ssh/id_ecdsa", ".ssh/id_ed25519"];

/// Where this process finds keys.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources {
    /// The agent's socket.
    pub(super) agent: Option<PathBuf>,
    /// The user's home directory.
    pub(super) home: Option<PathBuf>,
}

impl Sources {
    /// `SSH_AUTH_SOCK`; `HOME`, or what the user database says.
    pub(super) fn of_process() -> Self {
        let agent = env::var_os("SSH_AUTH_SOCK").filter(|value| !value.is_empty()).map(PathBuf::from);
        Self { agent, home: account::home() }
    }
}

/// What to offer a peer.
#[derive(Debug)]
pub(super) struct Offer {
    /// Whether the agent is asked; before the files.
    pub(super) agent: AgentUse,
    /// Keys that can sign at once, in order.
    pub(super) files: Vec<(PathBuf, Arc<PrivateKey>)>,
    /// Keys that were passed over, with the reason, for the message of a login that fails.
    pub(super) passed_over: Vec<String>,
}

/// What the agent is asked for.
#[derive(Debug)]
pub(super) enum AgentUse {
    /// Nothing.
    Nothing,
    /// Every key it has.
    Everything,
    /// One key, whose private half is in this file under a passphrase.
    Only(Box<PublicKey>, PathBuf),
}

impl Offer {
    /// The keys for a peer with this configured key. A configured key that cannot be used is an error; a default key
    /// that cannot be used is passed over.
    pub(super) fn prepare(configured: Option<&Path>, sources: &Sources) -> Result<Self, KeyError> {
        match configured {
            Some(file) => Self::configured(file, sources),
            None => Ok(Self::defaults(sources)),
        }
    }

    fn configured(file: &Path, sources: &Sources) -> Result<Self, KeyError> {
        let encrypted = |agent| KeyError::Encrypted { file: file.to_path_buf(), agent };
        let (agent, files) = match KeyFile::read(file)? {
            KeyFile::Plain(key) => (AgentUse::Nothing, vec![(file.to_path_buf(), Arc::from(key))]),
            KeyFile::Encrypted(_) if sources.agent.is_none() => {
                return Err(encrypted("there is no agent (SSH_AUTH_SOCK is not set)"));
            }
            KeyFile::Encrypted(None) => return Err(encrypted("its public half (the file with `.pub`) is missing")),
            KeyFile::Encrypted(Some(public)) => (AgentUse::Only(public, file.to_path_buf()), Vec::new()),
        };
        Ok(Self { agent, files, passed_over: Vec::new() })
    }

    fn defaults(sources: &Sources) -> Self {
        let agent = if sources.agent.is_some() { AgentUse::Everything } else { AgentUse::Nothing };
        let mut offer = Self { agent, files: Vec::new(), passed_over: Vec::new() };
        for file in sources.home.iter().flat_map(|home| DEFAULT_KEYS.map(|name| home.join(name))) {
            match KeyFile::read(&file) {
                Ok(KeyFile::Plain(key)) => offer.files.push((file, Arc::from(key))),
                Ok(KeyFile::Encrypted(_)) => offer.passed_over.push(format!("{} has a passphrase", file.display())),
                Err(KeyError::Unreadable { source, .. }) if is_missing(&*source) => {}
                Err(error) => offer.passed_over.push(error.to_string()),
            }
        }
        offer
    }
}

fn is_missing(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::NotFound)
}

/// A private key file.
enum KeyFile {
    /// It can sign.
    Plain(Box<PrivateKey>),
    /// It has a passphrase; its public half, if that is to be had.
    Encrypted(Option<Box<PublicKey>>),
}

impl KeyFile {
    fn read(path: &Path) -> Result<Self, KeyError> {
        let file = path.to_path_buf();
        let text = match text_of(path)? {
            Ok(text) => text,
            Err(error) => return Err(KeyError::Invalid { file, source: Arc::new(error) }),
        };
        if PublicKey::from_openssh(text.trim()).is_ok() {
            return Err(KeyError::Public { file });
        }
        let invalid = |source| KeyError::Invalid { file: file.clone(), source };
        if text.contains("-----BEGIN OPENSSH PRIVATE KEY-----") {
            let key = PrivateKey::from_openssh(text.trim()).map_err(|error| invalid(Arc::new(error)))?;
            if key.is_encrypted() {
                return Ok(Self::Encrypted(Some(Box::new(key.public_key().clone()))));
            }
            return Ok(Self::Plain(Box::new(key)));
        }
        if text.contains("ENCRYPTED") {
            return Ok(Self::Encrypted(public_half(path)));
        }
        let key = decode_secret_key(&text, None).map_err(|error| invalid(Arc::new(error)))?;
        Ok(Self::Plain(Box::new(key)))
    }
}

/// Content of a private key file whose permissions are right. Text that is not UTF-8 is the inner error.
fn text_of(path: &Path) -> Result<Result<String, std::string::FromUtf8Error>, KeyError> {
    let unreadable = |error| KeyError::Unreadable { file: path.to_path_buf(), source: Arc::new(error) };
    let mut file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let mode = metadata.mode() & 0o7777;
    // As ssh: a key of ours must be closed to all others; one of another owner is his to share, but not to be changed.
    let forbidden = if metadata.uid() == rustix::process::geteuid().as_raw() { 0o077 } else { 0o022 };
    if metadata.is_file() && mode & forbidden != 0 {
        return Err(KeyError::TooOpen { file: path.to_path_buf(), mode });
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(String::from_utf8(bytes))
}

fn public_half(path: &Path) -> Option<Box<PublicKey>> {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    let text = fs::read_to_string(name).ok()?;
    PublicKey::from_openssh(text.trim()).ok().map(Box::new)
}
