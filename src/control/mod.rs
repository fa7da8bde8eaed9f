//! The Unix socket: what the commands on the command line ask of a running instance, and tell it.
//!
//! HTTP/1.1 with JSON on `<pid_file_dir>/<rsync_id>.sock`, mode 0600: who may connect is the user that the instance runs as, and root.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/status` | how the instance and its jobs stand: a [`Status`] |
//!
//! An error is `{"error": "…"}` with a status of 4xx or 5xx.

mod client;
mod socket;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::http;
use crate::status::{Board, Status};

pub use client::{Client, ClientError};
pub use socket::{Socket, bind};

/// The socket of an instance.
pub fn path(config: &Config) -> PathBuf {
    path_in(&config.pid_file_dir, &config.rsync_id)
}

fn path_in(directory: &Path, rsync_id: &str) -> PathBuf {
    directory.join(format!("{rsync_id}.sock"))
}

/// Answers until `shutdown` is cancelled.
pub async fn serve(listener: UnixListener, board: Arc<Board>, shutdown: CancellationToken) {
    http::serve_router(listener, router(board), shutdown).await;
}

fn router(board: Arc<Board>) -> Router {
    Router::new()
        .route("/v1/status", get(|State(board): State<Arc<Board>>| async move { as_json(&board.status()) }))
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "there is no such request; a newer release may have it") })
        .with_state(board)
}

fn as_json(value: &Status) -> Response {
    let text = serde_json::to_string(value).expect("a status is always JSON");
    ([(axum::http::header::CONTENT_TYPE, "application/json")], text).into_response()
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, [(axum::http::header::CONTENT_TYPE, "application/json")], json!({ "error": why }).to_string())
        .into_response()
}
