//! Who may read.
//!
//! What a client sends is compared by SHA-256 digests in constant time, so neither the length of a secret nor how much of a guess is
//! right can be measured. A password of which only a crypt(5) hash is known costs milliseconds to judge; that is done on a thread
//! of its own, one at a time, and the last that was right is remembered by its digest.
//!
//! A file with a secret is read again when it changes; one that cannot be read lets nobody in.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{HeaderMap, header};
use base64ct::{Base64, Encoding};
use sha_crypt::password_hash::Error;
use sha_crypt::{PasswordHashRef, PasswordVerifier, ShaCrypt};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::file::{Stamp, first_line};
use crate::config::{Credentials, Password, SecretFile};

/// Why it is not known who may read.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// A secret's file.
    #[error("could not read the secret {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It has an empty first line, which anyone could send.
    #[error("the first line of {} is empty: a secret is expected there", .0.display())]
    Empty(PathBuf),
    /// A credential is named, but the service manager hands over none.
    #[error(
        "there is no credential {0}: CREDENTIALS_DIRECTORY is not set, so this was not started as a service with LoadCredential="
    )]
    NoCredentials(String),
    /// Not what crypt(5) knows.
    #[error("the password hash of {0} cannot be read")]
    Hash(String),
}

type Sum = [u8; 32];

/// Judges what clients send.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    rule: Rule,
    /// What was right last, of a hash.
    passed: Mutex<Option<Sum>>,
    /// Hashes are computed one at a time.
    judging: tokio::sync::Mutex<()>,
}

enum Rule {
    /// The value of the header that is right.
    Known { scheme: Scheme, file: PathBuf, state: Mutex<(Option<Stamp>, Sum)> },
    /// A user, and the hash of a password.
    Hashed { user: String, hash: String },
}

#[derive(Clone)]
enum Scheme {
    Bearer,
    Basic { user: String },
}

impl Gate {
    /// Reads what is needed; `directory` is that of the service manager's credentials.
    ///
    /// # Errors
    /// [`AuthError`].
    pub fn load(credentials: &Credentials, directory: Option<PathBuf>) -> Result<Self, AuthError> {
        let rule = match credentials {
            Credentials::Bearer(secret) => Rule::known(Scheme::Bearer, secret, directory)?,
            Credentials::Basic { user, password: Password::Secret(secret) } => {
                Rule::known(Scheme::Basic { user: user.clone() }, secret, directory)?
            }
            Credentials::Basic { user, password: Password::Hash(hash) } => {
                if !is_hash(hash) {
                    return Err(AuthError::Hash(user.clone()));
                }
                Rule::Hashed { user: user.clone(), hash: hash.clone() }
            }
        };
        Ok(Self(Arc::new(Inner { rule, passed: Mutex::default(), judging: tokio::sync::Mutex::default() })))
    }

    /// Whether a request with these headers is let in.
    pub(super) async fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(sent) = headers.get(header::AUTHORIZATION) else { return false };
        let sent = canonical(sent.as_bytes());
        match &self.0.rule {
            Rule::Known { .. } => self.0.rule.expected().is_some_and(|expected| equal(&sum(&sent), &expected)),
            Rule::Hashed { user, hash } => self.judge(sent, user, hash).await,
        }
    }

    async fn judge(&self, sent: Zeroizing<Vec<u8>>, user: &str, hash: &str) -> bool {
        let digest = sum(&sent);
        let passed = || self.0.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_passed = |known: Option<Sum>| known.is_some_and(|known| equal(&known, &digest));
        if is_passed(*passed()) {
            return true;
        }
        let _one_at_a_time = self.0.judging.lock().await;
        if is_passed(*passed()) {
            return true;
        }
        let (user, hash) = (user.to_owned(), hash.to_owned());
        let right = tokio::task::spawn_blocking(move || verify(&sent, &user, &hash)).await.unwrap_or(false);
        if right {
            *passed() = Some(digest);
        }
        right
    }

    /// What a client is told that it must send.
    pub(super) fn challenge(&self) -> &'static str {
        match &self.0.rule {
            Rule::Known { scheme: Scheme::Bearer, .. } => "Bearer realm=\"rsyncdirector\"",
            _ => "Basic realm=\"rsyncdirector\", charset=\"UTF-8\"",
        }
    }
}

impl Rule {
    fn known(scheme: Scheme, secret: &SecretFile, directory: Option<PathBuf>) -> Result<Self, AuthError> {
        let file = match secret {
            SecretFile::File(path) => path.clone(),
            SecretFile::Credential(name) => {
                directory.map(|directory| directory.join(name)).ok_or_else(|| AuthError::NoCredentials(name.clone()))?
            }
        };
        let stamp = Stamp::of(&file).ok();
        let expected = expected(&scheme, &file)?;
        Ok(Self::Known { scheme, file, state: Mutex::new((stamp, expected)) })
    }

    /// The digest of what is right, as the file is now.
    fn expected(&self) -> Option<Sum> {
        let Self::Known { scheme, file, state } = self else { return None };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Stamp::of(file).ok();
        if now.is_none() || now != state.0 {
            match expected(scheme, file) {
                Ok(digest) => *state = (now, digest),
                Err(error) => {
                    tracing::error!("nobody is let in: {}", crate::error_chain(&error));
                    return None;
                }
            }
        }
        Some(state.1)
    }
}

fn expected(scheme: &Scheme, file: &std::path::Path) -> Result<Sum, AuthError> {
    let secret = first_line(file).map_err(|source| AuthError::Read { path: file.to_owned(), source })?;
    if secret.is_empty() {
        return Err(AuthError::Empty(file.to_owned()));
    }
    let mut value = Zeroizing::new(Vec::new());
    match scheme {
        Scheme::Bearer => value.extend_from_slice(&[b"bearer ", &secret[..]].concat()),
        Scheme::Basic { user } => {
            let pair = Zeroizing::new([user.as_bytes(), b":", &secret[..]].concat());
            value.extend_from_slice(&[b"basic ", Base64::encode_string(&pair).as_bytes()].concat());
        }
    }
    Ok(sum(&value))
}

/// The header's value with the scheme in lower case (RFC 9110, 11.1) and one blank behind it.
fn canonical(value: &[u8]) -> Zeroizing<Vec<u8>> {
    let end = value.iter().position(|&byte| byte == b' ').unwrap_or(value.len());
    let (scheme, rest) = value.split_at(end);
    Zeroizing::new([&scheme.to_ascii_lowercase(), &b" "[..], rest.trim_ascii()].concat())
}

/// Whether a password could be judged by it.
fn is_hash(hash: &str) -> bool {
    let Ok(hash) = PasswordHashRef::new(hash) else { return false };
    matches!(ShaCrypt::default().verify_password(b"", hash), Ok(()) | Err(Error::PasswordInvalid))
}

fn verify(sent: &[u8], user: &str, hash: &str) -> bool {
    let pair = sent.strip_prefix(b"basic ").and_then(|text| std::str::from_utf8(text).ok());
    let Some(pair) = pair.and_then(|text| Base64::decode_vec(text).ok()).map(Zeroizing::new) else { return false };
    let Some(colon) = memchr::memchr(b':', &pair) else { return false };
    let (name, password) = (&pair[..colon], &pair[colon + 1..]);
    // The hash is computed also for another user, so that the time does not tell the name.
    let right =
        PasswordHashRef::new(hash).is_ok_and(|hash| ShaCrypt::default().verify_password(password, hash).is_ok());
    right & equal(&sum(name), &sum(user.as_bytes()))
}

fn sum(bytes: &[u8]) -> Sum {
    Sha256::digest(bytes).into()
}

fn equal(a: &Sum, b: &Sum) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// What `openssl passwd -6 -salt abcdefgh secret` prints.
    const HASH: &str =
        "$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.";

    async fn admits(gate: &Gate, value: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().expect("a header"));
        gate.admits(&headers).await
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(&file, text).expect("written");
        file
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", Base64::encode_string(pair.as_bytes()))
    }

    #[tokio::test]
    async fn a_token_is_the_first_line_of_its_file_as_that_is_now() {
        let file = file("secret\nnotes\n");
        let gate = Gate::load(&Credentials::Bearer(SecretFile::File(file.path().into())), None).expect("loads");
        for (value, expected) in [
            ("Bearer secret", true),
            ("bearer  secret", true),
            ("Bearer secre", false),
            ("Bearer secret2", false),
            ("Bearer", false),
            ("secret", false),
            (basic("x:secret").as_str(), false),
        ] {
            assert_eq!(admits(&gate, value).await, expected, "{value}");
        }
        assert!(!gate.admits(&HeaderMap::new()).await);
        std::fs::write(&file, "another one\n").expect("written");
        assert!(admits(&gate, "Bearer another one").await && !admits(&gate, "Bearer secret").await);
        drop(file);
        assert!(!admits(&gate, "Bearer another one").await);
    }

    #[tokio::test]
    async fn a_password_belongs_to_its_user() {
        let file = file("se:cret");
        let secret = Password::Secret(SecretFile::File(file.path().into()));
        let hash = Password::Hash(HASH.into());
        for (password, word) in [(secret, "se:cret"), (hash, "secret")] {
            let credentials = Credentials::Basic { user: "ann".into(), password };
            let gate = Gate::load(&credentials, None).expect("loads");
            for _ in 0..2 {
                assert!(admits(&gate, &basic(&format!("ann:{word}"))).await, "{credentials:?}");
                assert!(!admits(&gate, &basic(&format!("bob:{word}"))).await);
                assert!(!admits(&gate, &basic("ann:")).await);
                assert!(!admits(&gate, "Basic !!!").await);
            }
        }
    }

    #[test]
    fn what_cannot_be_a_secret_is_said() {
        let empty = file("\n");
        let error = |secret| Gate::load(&Credentials::Bearer(secret), None).err().expect("refused").to_string();
        assert!(error(SecretFile::File(empty.path().into())).contains("is empty"));
        std::fs::set_permissions(&empty, std::fs::Permissions::from_mode(0o644)).expect("its mode");
        let open =
            Gate::load(&Credentials::Bearer(SecretFile::File(empty.path().into())), None).err().expect("refused");
        assert!(crate::error_chain(&open).contains("its mode 0644 lets others in"), "{open:?}");
        assert!(error(SecretFile::File("/nowhere/token".into())).contains("/nowhere/token"));
        assert!(error(SecretFile::Credential("token".into())).contains("CREDENTIALS_DIRECTORY"));
        let credentials = Credentials::Basic { user: "ann".into(), password: Password::Hash("$6$x".into()) };
        assert!(Gate::load(&credentials, None).is_err());
    }
}
