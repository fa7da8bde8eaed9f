//! TLS for one connection: the system's authorities, and those of a file. All of it is given back with the connection.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::http::HttpError;

/// Makes the stream one whose other side is known to be `name`.
pub(super) async fn wrap(
    stream: TcpStream,
    name: &str,
    ca_file: Option<&Path>,
) -> Result<TlsStream<TcpStream>, HttpError> {
    let failed = |error| HttpError::Tls(name.to_owned(), error);
    let server = ServerName::try_from(name.to_owned()).map_err(|error| failed(io::Error::other(error)))?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(io::Error::other(error)))?
        .with_root_certificates(roots(ca_file)?)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config)).connect(server, stream).await.map_err(failed)
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, HttpError> {
    let mut roots = RootCertStore::empty();
    // One that cannot be read is one that nobody is trusted for.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| HttpError::Authority(path.to_owned(), error);
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| failed(error.into()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| failed(error.into()))?;
            roots.add(certificate).map_err(|error| failed(error.into()))?;
        }
    }
    Ok(roots)
}
