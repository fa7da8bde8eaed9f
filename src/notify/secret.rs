//! What the configuration keeps out of itself: the first line of a file or of a credential, read anew for each use.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::Secret;

/// Bytes that such a file may have.
const SIZE_MAX: u64 = 16 << 10;

/// Why a secret is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Its file.
    #[error("could not read {}", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// Nobody handed over credentials.
    #[error("there is no credential {0}: the service manager gave no directory of them (LoadCredential=)")]
    NoCredentials(String),
}

/// The text itself.
pub(super) async fn read(secret: &Secret) -> Result<String, SecretError> {
    match secret {
        Secret::Text(text) => Ok(text.clone()),
        Secret::File(path) => first_line(path).await,
        Secret::Credential(name) => match std::env::var_os("CREDENTIALS_DIRECTORY") {
            Some(directory) => first_line(&Path::new(&directory).join(name)).await,
            None => Err(SecretError::NoCredentials(name.clone())),
        },
    }
}

async fn first_line(path: &Path) -> Result<String, SecretError> {
    use tokio::io::AsyncReadExt;
    let failed = |error| SecretError::File(path.to_owned(), error);
    let mut text = String::new();
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    file.take(SIZE_MAX).read_to_string(&mut text).await.map_err(failed)?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}
