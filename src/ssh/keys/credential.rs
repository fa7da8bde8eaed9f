//! Passphrases that the service manager hands over: systemd.exec(5), LoadCredential= and LoadCredentialEncrypted=.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::ssh::error::KeyError;

/// The credential for every key that has none of its own; one of its own has a `-` and the key file's name after that.
const NAME: &str = "ssh-passphrase";
/// Bytes that are read of a credential, far more than a passphrase has.
const SIZE_MAX: usize = 4096;

/// The credentials that may hold passphrases.
pub(super) struct Passphrases<'a> {
    directory: Option<&'a Path>,
}

/// A passphrase, wiped from memory when dropped.
pub(super) struct Passphrase {
    file: PathBuf,
    line: Zeroizing<Vec<u8>>,
}

impl<'a> Passphrases<'a> {
    /// Those in the service manager's directory, if it gave one.
    pub(super) fn new(directory: Option<&'a Path>) -> Self {
        Self { directory }
    }

    /// The passphrase for the key in `key`: that of its own, else that of all keys.
    pub(super) fn of(&self, key: &Path) -> Result<Option<Passphrase>, KeyError> {
        let Some(directory) = self.directory else { return Ok(None) };
        let own = key.file_name().map(|name| {
            let mut credential = OsString::from(format!("{NAME}-"));
            credential.push(name);
            directory.join(credential)
        });
        for file in own.into_iter().chain([directory.join(NAME)]) {
            match first_line(&file) {
                Ok(line) => return Ok(Some(Passphrase { file, line })),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(KeyError::Credential { credential: file.into(), source: Arc::new(error) });
                }
            }
        }
        Ok(None)
    }
}

impl Passphrase {
    /// The credential's file.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// The passphrase itself.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.line
    }
}

/// The first line, without its end.
fn first_line(file: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Of the final size from the start: a buffer that grows would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SIZE_MAX + 1));
    File::open(file)?.take(SIZE_MAX as u64).read_to_end(&mut bytes)?;
    let end = memchr::memchr2(b'\n', b'\r', &bytes).unwrap_or(bytes.len());
    bytes.truncate(end);
    Ok(bytes)
}
