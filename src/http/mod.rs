//! The TCP listener: metrics and health for whoever asks.
//!
//! [`bind`] takes the port when the daemon starts, so that a port in use ends the start instead of leaving a process
//! that nobody can watch; [`serve`] answers until it is told to stop.
//!
//! | path | answer |
//! | --- | --- |
//! | `/metrics` | the page of [`Metrics::encode`] |
//! | `/healthz` | 200: the process answers |
//! | `/readyz` | 200 once the daemon takes triggers, 503 before that and while it stops |
//! | `/` | these names |
//!
//! Deliberately absent: anything that changes state, TLS and authentication, and, as the listener answers everyone,
//! anything that shows paths or logs.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::watch;

use crate::metrics::Metrics;

mod bind;
mod server;
#[cfg(test)]
mod tests;

pub use bind::{BindError, bind};
pub use server::{serve, serve_router};

/// The media type of Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const INDEX: &str = "\
rsyncdirector

/metrics  metrics for Prometheus
/healthz  200 while the process answers
/readyz   200 while it takes triggers, else 503
";

#[derive(Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    ready: watch::Receiver<bool>,
}

/// The routes. Other paths answer 404, other methods than GET and HEAD 405.
fn router(metrics: Arc<Metrics>, ready: watch::Receiver<bool>) -> Router {
    Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/metrics", get(page))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .fallback(|| async { (StatusCode::NOT_FOUND, "not found; there are /metrics, /healthz and /readyz\n") })
        .with_state(Shared { metrics, ready })
}

async fn page(State(shared): State<Shared>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], shared.metrics.encode())
}

async fn readiness(State(shared): State<Shared>) -> impl IntoResponse {
    if *shared.ready.borrow() { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
}

/// The address that a configuration names.
fn address(metrics: &crate::config::Metrics) -> SocketAddr {
    SocketAddr::new(metrics.addr, metrics.port)
}
