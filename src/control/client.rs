//! The commands' side.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;

/// An instance that does not answer within this time hangs.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// No answer is larger, bytes.
const ANSWER_SIZE: usize = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No socket, or nobody behind it.
    #[error("the instance does not run: nobody answers on {}", .0.display())]
    NotRunning(PathBuf),
    /// It is another user's.
    #[error("{} belongs to another user: ask as that user, or as root", .0.display())]
    Denied(PathBuf),
    /// It was refused.
    #[error("{0}")]
    Refused(String),
    /// The conversation broke off.
    #[error("the instance gave no answer")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Asks one instance.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// The instance that listens there.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned() }
    }

    /// Asks for something.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, what: &str) -> Result<T, ClientError> {
        self.request(Method::GET, what, &Value::Null).await
    }

    /// Orders something of these jobs; of all, if none is named.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post<T: DeserializeOwned>(&self, what: &str, jobs: &[String]) -> Result<T, ClientError> {
        self.request(Method::POST, what, &serde_json::json!({ "jobs": jobs })).await
    }

    async fn request<T: DeserializeOwned>(&self, method: Method, what: &str, body: &Value) -> Result<T, ClientError> {
        let answer = tokio::time::timeout(ANSWER_MAX, self.converse(method, what, body)).await;
        let (status, text) = answer.map_err(|elapsed| ClientError::Broken(elapsed.into()))??;
        if !status.is_success() {
            let told = serde_json::from_slice::<Value>(&text).ok();
            let why = told.as_ref().and_then(|told| told["error"].as_str()).unwrap_or(status.as_str());
            return Err(ClientError::Refused(why.to_owned()));
        }
        serde_json::from_slice(&text).map_err(|error| ClientError::Broken(error.into()))
    }

    async fn converse(&self, method: Method, what: &str, body: &Value) -> Result<(StatusCode, Vec<u8>), ClientError> {
        let broken = |error: Box<dyn std::error::Error + Send + Sync>| ClientError::Broken(error);
        let stream = UnixStream::connect(&self.path).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning(self.path.clone()),
            io::ErrorKind::PermissionDenied => ClientError::Denied(self.path.clone()),
            _ => ClientError::Broken(error.into()),
        })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(error.into()))?;
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = Request::builder().method(method).uri(what).header("Host", "localhost").body(body);
        let request = request.map_err(|error| broken(error.into()))?;
        let ask = async {
            let answer = sender.send_request(request).await.map_err(|error| broken(error.into()))?;
            let status = answer.status();
            let text =
                to_bytes(Body::new(answer.into_body()), ANSWER_SIZE).await.map_err(|error| broken(error.into()))?;
            Ok((status, text.to_vec()))
        };
        tokio::pin!(ask);
        tokio::select! {
            answer = &mut ask => answer,
            // Its end is the end of the answer, which may have come before.
            ended = connection => {
                ended.map_err(|error| broken(error.into()))?;
                ask.await
            }
        }
    }
}
