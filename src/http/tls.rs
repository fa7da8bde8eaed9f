//! HTTPS: a certificate and its key from files, which are read again when they change.
//!
//! TLS 1.2 and 1.3 by rustls with ring. A certificate that is renewed counts from the next connection on; one that cannot be read, or does not
//! fit its key, is said once, and the one before goes on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, ServerConfig, crypto::ring};

use super::file::Stamp;
use crate::config::Tls;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("could not read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// A file holds something else.
    #[error("there is no {what} in {}", path.display())]
    Lacks {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// They do not belong together, or are of a kind that is not supported.
    #[error("the certificate {} and the key {} cannot be used", cert.display(), key.display())]
    Unusable {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// The way from a connection to one that nobody else reads.
#[derive(Clone)]
pub struct Acceptor(Arc<Inner>);

struct Inner {
    files: Tls,
    current: Mutex<(Stamps, TlsAcceptor)>,
}

type Stamps = [io::Result<Stamp>; 2];

impl Acceptor {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(files: &Tls) -> Result<Self, TlsError> {
        let stamps = stamps(files);
        let acceptor = read(files)?;
        Ok(Self(Arc::new(Inner { files: files.clone(), current: Mutex::new((stamps, acceptor)) })))
    }

    /// What accepts with the files as they are now.
    pub(super) fn current(&self) -> TlsAcceptor {
        let Inner { files, current } = &*self.0;
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamps(files);
        if !same(&now, &current.0) {
            match read(files) {
                Ok(acceptor) => {
                    tracing::info!("the certificate {} was read again", files.cert.display());
                    current.1 = acceptor;
                }
                Err(error) => tracing::error!("the certificate before goes on: {}", crate::error_chain(&error)),
            }
            current.0 = now;
        }
        current.1.clone()
    }
}

fn stamps(files: &Tls) -> Stamps {
    [Stamp::of(&files.cert), Stamp::of(&files.key)]
}

fn same(a: &Stamps, b: &Stamps) -> bool {
    a.iter().zip(b).all(|(a, b)| match (a, b) {
        (Ok(a), Ok(b)) => a == b,
        (Err(a), Err(b)) => a.kind() == b.kind(),
        _ => false,
    })
}

fn read(files: &Tls) -> Result<TlsAcceptor, TlsError> {
    let chain = chain(&files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| wrong(&files.key, error, "private key"))?;
    let unusable = |source| TlsError::Unusable { cert: files.cert.clone(), key: files.key.clone(), source };
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = |error| wrong(path, error, "certificate");
    let chain: Vec<_> = CertificateDer::pem_file_iter(path).map_err(read)?.collect::<Result<_, _>>().map_err(read)?;
    match chain.is_empty() {
        true => Err(TlsError::Lacks { path: path.to_owned(), what: "certificate" }),
        false => Ok(chain),
    }
}

fn wrong(path: &Path, error: pem::Error, what: &'static str) -> TlsError {
    match error {
        pem::Error::NoItemsFound => TlsError::Lacks { path: path.to_owned(), what },
        source => TlsError::Read { path: path.to_owned(), source },
    }
}
