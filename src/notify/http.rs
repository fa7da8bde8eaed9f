//! One POST over a connection of its own, which is closed behind it. An answer of 2xx is success; redirects are not followed, and there is
//! no proxy. What nobody but a change of the configuration can mend is told apart from what may pass.

use std::io;
use std::path::PathBuf;

use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, LOCATION, USER_AGENT};
use axum::http::uri::{InvalidUri, PathAndQuery};
use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::notice::Notice;
use super::secret::{self, SecretError};
use super::tls;
use crate::config::{Happening, Http, Style};

/// Why nobody took it.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The URL, a header or a certificate is not to be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The URL in a file is none.
    #[error("the URL cannot be asked: {0}")]
    Url(&'static str),
    /// A header in a file is none.
    #[error("the header {0} cannot be sent")]
    Header(String),
    /// Nobody is there.
    #[error("could not connect to {0}")]
    Connect(String, #[source] io::Error),
    /// The certificates that are trusted.
    #[error("could not use the certificates of {}", .0.display())]
    Authority(PathBuf, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server's certificate, or the conversation about it.
    #[error("no TLS with {0}")]
    Tls(String, #[source] io::Error),
    /// The conversation broke off.
    #[error("{0} broke off")]
    Broken(String, #[source] hyper::Error),
    /// It was not taken.
    #[error("{host} answered {status}{}", location.as_ref().map(|to| format!(" to {to}")).unwrap_or_default())]
    Refused {
        /// Who.
        host: String,
        /// With what.
        status: StatusCode,
        /// Where else to ask, redacted.
        location: Option<String>,
    },
}

impl HttpError {
    /// Whether another attempt may succeed.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Refused { status, .. } => status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429),
            Self::Url(_) | Self::Header(_) | Self::Authority(..) => false,
            Self::Secret(_) | Self::Connect(..) | Self::Tls(..) | Self::Broken(..) => true,
        }
    }
}

/// Tells it.
pub(super) async fn post(http: &Http, notice: &Notice) -> Result<(), HttpError> {
    let url = secret::read(&http.url).await?;
    let uri = crate::config::judge_url(&url).map_err(HttpError::Url)?;
    let uri = match http.style {
        Style::Healthchecks => ping(uri, notice.event).map_err(|_| HttpError::Url("it is no URL"))?,
        Style::Json(_) => uri,
    };
    let host = uri.authority().map(ToString::to_string).unwrap_or_default();
    let request = request(http, notice, &uri, &host).await?;
    let name = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let connected = TcpStream::connect((name.as_str(), port)).await;
    let stream = connected.map_err(|error| HttpError::Connect(host.clone(), error))?;
    let (status, location) = match secure {
        true => converse(tls::wrap(stream, &name, http.ca_file.as_deref()).await?, request, &host).await?,
        false => converse(stream, request, &host).await?,
    };
    if status.is_success() { Ok(()) } else { Err(HttpError::Refused { host, status, location }) }
}

/// The URL of a ping: that of the check for success, below it `/start`, `/fail` and `/log`.
fn ping(uri: Uri, event: Happening) -> Result<Uri, InvalidUri> {
    let below = match event {
        Happening::Start => "/start",
        Happening::Success | Happening::Recovery => "",
        Happening::Failure | Happening::Late => "/fail",
        Happening::Skip => "/log",
    };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let target: PathAndQuery = format!("{}{below}{query}", uri.path().trim_end_matches('/')).parse()?;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target);
    Ok(Uri::from_parts(parts).unwrap_or(uri))
}

async fn request(http: &Http, notice: &Notice, uri: &Uri, host: &str) -> Result<Request<String>, HttpError> {
    let (kind, body) = match &http.style {
        Style::Healthchecks => ("text/plain; charset=utf-8", notice.text()),
        Style::Json(Some(template)) => ("application/json", template.fill(|name| notice.value(name))),
        Style::Json(None) => ("application/json", notice.json().to_string()),
    };
    let length = body.len();
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    *request.uri_mut() = target.parse().map_err(|_| HttpError::Url("it is no URL"))?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::try_from(host).map_err(|_| HttpError::Header("host".into()))?);
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("rsyncdirector/", env!("CARGO_PKG_VERSION"))));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    for (name, value) in &http.headers {
        let value = HeaderValue::try_from(secret::read(value).await?);
        let header = HeaderName::try_from(name.as_str()).ok().zip(value.ok());
        let (header, mut value) = header.ok_or_else(|| HttpError::Header(name.clone()))?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    Ok(request)
}

/// Asks, and hears the status, and where a redirect leads. The connection ends with the answer's head.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<String>,
    host: &str,
) -> Result<(StatusCode, Option<String>), HttpError> {
    let broken = |error| HttpError::Broken(host.to_owned(), error);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = sender.send_request(request);
    tokio::pin!(connection, answer);
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        // It may have passed on the answer as it ended.
        _ = &mut connection => answer.await,
    };
    let answer = answer.map_err(broken)?;
    let location = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok()).map(crate::redact::url);
    Ok((answer.status(), location))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, event: Happening, expected: &str) {
        let uri = ping(url.parse().expect("an URL"), event).expect("an URL");
        assert_eq!(uri.to_string(), expected);
    }

    #[test]
    fn pings_go_below_the_url_of_the_check() {
        check("https://hc/ping/6f", Happening::Start, "https://hc/ping/6f/start");
        check("https://hc/ping/6f/", Happening::Failure, "https://hc/ping/6f/fail");
        check("https://hc/ping/6f?rid=1", Happening::Late, "https://hc/ping/6f/fail?rid=1");
        check("https://hc/ping/6f", Happening::Success, "https://hc/ping/6f");
        check("https://hc/ping/6f", Happening::Recovery, "https://hc/ping/6f");
        check("https://hc/ping/6f", Happening::Skip, "https://hc/ping/6f/log");
    }

    #[test]
    fn what_only_people_can_mend_is_not_tried_again() {
        let refused = |status| HttpError::Refused { host: "h".into(), status, location: None };
        for (status, expected) in [(404, false), (301, false), (401, false), (429, true), (408, true), (503, true)] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(refused(status).may_pass(), expected, "{status}");
        }
        assert!(!HttpError::Url("x").may_pass());
    }
}
