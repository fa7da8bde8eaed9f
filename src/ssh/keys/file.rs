//! A private key file: OpenSSH's own format, or PEM.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use russh::keys::{Algorithm, PrivateKey, PublicKey, decode_secret_key};
use zeroize::Zeroizing;

use super::credential::{Passphrase, Passphrases};
use super::{Locked, beside};
use crate::ssh::error::{Cause, KeyError};

/// A private key file.
pub(super) enum KeyFile {
    /// It can sign.
    Plain(Box<PrivateKey>),
    /// It cannot by itself; with its public half, if that is to be had.
    Locked(Locked, Option<Box<PublicKey>>),
}

impl KeyFile {
    /// Reads a key, by its passphrase where there is a credential with that.
    pub(super) fn read(path: &Path, passphrases: &Passphrases) -> Result<Self, KeyError> {
        let invalid = |source| KeyError::Invalid { file: path.to_path_buf(), source };
        let bytes = content(path)?;
        let text = std::str::from_utf8(&bytes).map_err(|error| invalid(Arc::new(error)))?;
        if PublicKey::from_openssh(text.trim()).is_ok() {
            return Err(KeyError::Public { file: path.to_path_buf() });
        }
        if text.contains("-----BEGIN OPENSSH PRIVATE KEY-----") {
            let key = PrivateKey::from_openssh(text.trim()).map_err(|error| invalid(Arc::new(error)))?;
            return Self::of_openssh(path, key, passphrases);
        }
        if !text.contains("ENCRYPTED") {
            let key = decode_secret_key(text, None).map_err(|error| invalid(Arc::new(error)))?;
            return Ok(Self::Plain(Box::new(key)));
        }
        match passphrases.of(path)? {
            Some(passphrase) => Ok(Self::Plain(Box::new(unlock_pem(path, text, &passphrase)?))),
            None => Ok(Self::Locked(Locked::Passphrase, public_half(path))),
        }
    }

    /// A key whose public half can be read in any case.
    fn of_openssh(path: &Path, key: PrivateKey, passphrases: &Passphrases) -> Result<Self, KeyError> {
        let public = || Some(Box::new(key.public_key().clone()));
        match key.algorithm() {
            Algorithm::Ed25519 | Algorithm::Ecdsa { .. } | Algorithm::Rsa { .. } => {}
            Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256 => {
                return Ok(Self::Locked(Locked::SecurityKey, public()));
            }
            other => {
                return Err(KeyError::Unsupported { file: path.to_path_buf(), algorithm: other.to_string() });
            }
        }
        if !key.is_encrypted() {
            return Ok(Self::Plain(Box::new(key)));
        }
        let Some(passphrase) = passphrases.of(path)? else { return Ok(Self::Locked(Locked::Passphrase, public())) };
        let unlocked = key.decrypt(passphrase.bytes());
        Ok(Self::Plain(Box::new(unlocked.map_err(|error| not_unlocked(path, &passphrase, Arc::new(error)))?)))
    }
}

fn unlock_pem(path: &Path, text: &str, passphrase: &Passphrase) -> Result<PrivateKey, KeyError> {
    let characters =
        std::str::from_utf8(passphrase.bytes()).map_err(|error| not_unlocked(path, passphrase, Arc::new(error)))?;
    decode_secret_key(text, Some(characters)).map_err(|error| not_unlocked(path, passphrase, Arc::new(error)))
}

fn not_unlocked(path: &Path, passphrase: &Passphrase, source: Cause) -> KeyError {
    KeyError::Passphrase { file: path.to_path_buf(), credential: passphrase.file().into(), source }
}

/// Content of a private key file whose permissions are right.
fn content(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let unreadable = |error| KeyError::Unreadable { file: path.to_path_buf(), source: Arc::new(error) };
    let mut file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let mode = metadata.mode() & 0o7777;
    // As ssh: a key of ours must be closed to all others; one of another owner is his to share, but not to be changed.
    let forbidden = if metadata.uid() == rustix::process::geteuid().as_raw() { 0o077 } else { 0o022 };
    if metadata.is_file() && mode & forbidden != 0 {
        return Err(KeyError::TooOpen { file: path.to_path_buf(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// The public half beside a private key.
pub(super) fn public_half(path: &Path) -> Option<Box<PublicKey>> {
    public_key(&beside(path, ".pub"))
}

/// The public key in a file.
pub(super) fn public_key(path: &Path) -> Option<Box<PublicKey>> {
    let text = fs::read_to_string(path).ok()?;
    PublicKey::from_openssh(text.trim()).ok().map(Box::new)
}
