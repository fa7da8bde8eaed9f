//! The TCP listener: metrics and health for whoever asks, and pages for people.
//!
//! [`bind`] takes the port when the daemon starts, so that a port in use ends the start instead of leaving a process
//! that nobody can watch; [`serve`] answers until it is told to stop.
//!
//! | path | answer |
//! | --- | --- |
//! | `/metrics` | the page of [`Metrics::encode`] |
//! | `/healthz` | 200: the process answers |
//! | `/readyz` | 200 once the daemon takes triggers, 503 before that and while it stops |
//! | `/` | how the instance and its jobs stand ([`crate::page`]) |
//! | `/jobs/ID`, `/runs/RUN` | a job, a run |
//! | `/replica/JOB/SYNC` | what a sync made, and how far it is in step: `?dir=`, `?class=`, `?q=`, `?by=entries`, `?page=` |
//! | `/logs/N` | what an action printed, as text |
//! | `/events?of=PATH` | what changes on a page, as server-sent events (`events`) |
//! | `/style.css`, `/script.js`, `/icon.svg` | what the pages need |
//!
//! The pages show paths and logs: without `metrics.auth.page` they answer this host alone (`visitor`).
//!
//! Deliberately absent: anything that changes state.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::verify::latest::Latest;

mod answers;
mod auth;
mod bind;
mod events;
mod file;
mod holders;
mod pages;
mod replicas;
mod server;
#[cfg(test)]
mod tests;
mod tls;
mod view;
mod visitor;

pub use auth::{AuthError, Gate};
pub use bind::{BindError, bind};
pub use pages::Pages;
pub use server::{Accept, Client, serve, serve_router};
pub use tls::{Acceptor, TlsError};

/// The media type of Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Why the listener cannot be as secure as it is to be.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Who may read.
    #[error("`metrics.auth`")]
    Auth(#[from] AuthError),
    /// The certificate.
    #[error("`metrics.tls`")]
    Tls(#[from] TlsError),
}

/// Who may read what, and by HTTPS.
#[derive(Clone, Default)]
pub struct Access {
    page: Option<Gate>,
    metrics: Option<Gate>,
    tls: Option<Acceptor>,
}

impl Access {
    /// Reads the secrets, the certificate and its key.
    ///
    /// # Errors
    /// The first that cannot be read or used.
    pub fn load(metrics: &crate::config::Metrics) -> Result<Self, AccessError> {
        let directory = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let gate = |credentials: &Option<_>| {
            credentials.as_ref().map(|credentials| Gate::load(credentials, directory.clone())).transpose()
        };
        Ok(Self {
            page: gate(&metrics.page_auth)?,
            metrics: gate(&metrics.metrics_auth)?,
            tls: metrics.tls.as_ref().map(Acceptor::load).transpose()?,
        })
    }

    /// Whether the listener is one of HTTPS.
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }
}

/// What is served.
#[derive(Clone)]
pub struct Site {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// What is known of replicas.
    pub replicas: Latest,
    /// What `/readyz` says.
    pub ready: watch::Receiver<bool>,
    /// What the pages show.
    pub pages: Pages,
    /// Who may read.
    pub access: Access,
}

/// The routes. Other paths answer 404, other methods than GET and HEAD 405.
fn router(site: Site) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .route("/", get(answers::page))
        .route("/jobs/{*job}", get(answers::page))
        .route("/runs/{run}", get(answers::page))
        .route("/replica/{*replica}", get(answers::page))
        .route("/logs/{action}", get(answers::log))
        .route("/events", get(events::events))
        .route("/style.css", get(answers::style))
        .route("/script.js", get(answers::script))
        .route("/icon.svg", get(answers::icon))
        .fallback(|| async { (StatusCode::NOT_FOUND, "not found; there are /, /metrics, /healthz and /readyz\n") })
        .layer(axum::middleware::from_fn(visitor::careful))
        .with_state(site)
}

async fn metrics(State(site): State<Site>, headers: HeaderMap) -> Response {
    if let Some(gate) = &site.access.metrics
        && !gate.admits(&headers).await
    {
        return visitor::unauthorized(gate);
    }
    site.replicas.look().await;
    ([(header::CONTENT_TYPE, METRICS_TYPE)], site.metrics.encode()).into_response()
}

async fn readiness(State(site): State<Site>) -> impl IntoResponse {
    if *site.ready.borrow() { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
}

/// The address that a configuration names.
fn address(metrics: &crate::config::Metrics) -> SocketAddr {
    SocketAddr::new(metrics.addr, metrics.port)
}
