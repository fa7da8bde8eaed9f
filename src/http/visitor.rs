//! Whether the pages answer a request, and what keeps a browser from doing with them what it should not.
//!
//! With `metrics.auth.page` it is whoever sends that. Without, it is whoever asks from this host, by an address or as `localhost`: a name
//! in `Host` might be one of another's site that was made to lead here (DNS rebinding), whose scripts would then read along.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{Client, Gate, Site};

/// One that may see the pages.
pub(super) struct Visitor;

impl FromRequestParts<Site> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self, Response> {
        if let Some(gate) = &site.access.page {
            return if gate.admits(&parts.headers).await { Ok(Self) } else { Err(unauthorized(gate)) };
        }
        let client = parts.extensions.get::<Client>().copied().unwrap_or(Client(None));
        if is_here(client) && names_this_host(&parts.headers) {
            return Ok(Self);
        }
        let text = "the pages show paths and logs: they answer this host only, by its address or as localhost, unless \
                    `metrics.auth.page` says who may see them. /metrics, /healthz and /readyz are there.\n";
        Err((StatusCode::FORBIDDEN, text).into_response())
    }
}

fn is_here(Client(address): Client) -> bool {
    address.is_none_or(|address| address.ip().to_canonical().is_loopback())
}

fn names_this_host(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Some(authority) = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()) else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok() || name.parse::<SocketAddr>().is_ok()
}

/// 401, with what is to be sent.
pub(super) fn unauthorized(gate: &Gate) -> Response {
    let headers = [(header::WWW_AUTHENTICATE, gate.challenge()), (header::CACHE_CONTROL, "no-store")];
    (StatusCode::UNAUTHORIZED, headers, "a password or token is needed\n").into_response()
}

/// Nothing but our own style sheet, script, pictures, events and searches; nobody else's frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'self'; frame-ancestors 'none'";

/// Adds what every answer carries.
pub(super) async fn careful(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers: [(HeaderName, &'static str); 4] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, axum::http::HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_name_this_host() {
        for (host, expected) in [
            ("127.0.0.1:9090", true),
            ("localhost", true),
            ("LOCALHOST:9090", true),
            ("[::1]:9090", true),
            ("10.0.0.7:9090", true),
            ("evil.example:9090", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::HOST, host.parse().expect("a header"))]);
            assert_eq!(names_this_host(&headers), expected, "{host}");
        }
        assert!(names_this_host(&HeaderMap::new()));
    }

    #[test]
    fn here_is_loopback() {
        for (address, expected) in [
            ("127.0.0.1:1", true),
            ("127.8.9.1:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("10.0.0.7:1", false),
        ] {
            assert_eq!(is_here(Client(Some(address.parse().expect("an address")))), expected, "{address}");
        }
    }
}
