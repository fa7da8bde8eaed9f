//! The Unix socket: what the commands on the command line ask of a running instance, and tell it.
//!
//! HTTP/1.1 with JSON on `<pid_file_dir>/<rsync_id>.sock`, mode 0600: who may connect is the user that the instance runs as, and root.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/status` | how the instance and its jobs stand: a [`Status`](crate::status::Status) |
//! | `GET /v1/output?run=N` | what the actions of a run have printed that run now: a list of [`Printed`] |
//! | `POST /v1/now` | runs jobs now, or once more behind what runs: a [`Done`] |
//! | `POST /v1/cancel` | ends jobs, and takes them out of the queue: a [`Done`] |
//! | `POST /v1/pause`, `POST /v1/resume` | suspends the schedule of jobs, and ends that: a [`Done`] |
//! | `POST /v1/reload` | reads the configuration file again; a wrong one changes nothing: a [`Done`] |
//! | `POST /v1/renew` | leaves with exit code 75, to be started anew, as soon as nothing runs: a [`Done`] |
//!
//! The body of a `POST` is `{"jobs": ["ID", …]}`; none, or no body, means all jobs.
//!
//! An error is `{"error": "…"}` with a status of 4xx or 5xx.

mod client;
mod socket;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::config::{self, ActionId, Config, JobId, LoadError};
use crate::director::{Done, Order, Orders, Refusal};
use crate::event::RunId;
use crate::history::History;
use crate::history::read::OutputLine;
use crate::http;
use crate::status::{self, Board};
use crate::verify::latest::Latest;

pub use client::{Client, ClientError};
pub use socket::{Socket, bind};

/// The directory of the sockets of root's instances.
const OF_ROOT: &str = "/run/rsyncdirector";

/// The directories in which instances have their sockets unless their configurations say otherwise: root's, this user's, and
/// in root's those of services that run as other users (`XDG_RUNTIME_DIR=/run/rsyncdirector/NAME` in their drop-ins).
pub fn usual_directories() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty());
    let own = runtime.map(|directory| PathBuf::from(directory).join("rsyncdirector"));
    let entries = std::fs::read_dir(OF_ROOT).into_iter().flatten().flatten();
    let of_services = entries.map(|entry| entry.path().join("rsyncdirector")).filter(|path| path.is_dir());
    let mut all: Vec<PathBuf> = [PathBuf::from(OF_ROOT)].into_iter().chain(own).chain(of_services).collect();
    all.sort();
    all.dedup();
    all
}

/// The socket of an instance that may be another user's service: where this user's would be, else in a usual directory.
pub fn find(config: &Config) -> PathBuf {
    let expected = path(config);
    let elsewhere = || usual_directories().into_iter().map(|directory| path_in(&directory, &config.rsync_id));
    if expected.exists() { expected } else { elsewhere().find(|path| path.exists()).unwrap_or(expected) }
}

/// The socket of an instance.
pub fn path(config: &Config) -> PathBuf {
    path_in(&config.pid_file_dir, &config.rsync_id)
}

/// The socket of an instance with this `rsync_id` and `pid_file_dir`.
pub fn path_in(directory: &Path, rsync_id: &str) -> PathBuf {
    directory.join(format!("{rsync_id}.sock"))
}

/// Whoever is asked by the socket.
#[derive(Clone)]
pub struct Desk {
    /// How the instance stands.
    pub board: Arc<Board>,
    /// What is known of replicas, for it.
    pub replicas: Latest,
    /// The way to its director.
    pub orders: Orders,
    /// Its configuration file.
    pub config: PathBuf,
    /// What its actions print.
    pub history: Option<Arc<History>>,
}

/// What an action that runs has printed so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Printed {
    /// Its job.
    pub job: String,
    /// Its id.
    pub action: String,
    /// As far as it is kept.
    pub lines: Vec<Line>,
}

/// A line of output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// Of standard output.
    Out(String),
    /// Of standard error.
    Error(String),
    /// So many were left out here.
    LeftOut(u64),
}

/// Which jobs somebody means.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jobs {
    /// Their ids; none are all.
    #[serde(default)]
    pub jobs: Vec<String>,
}

/// Answers until `shutdown` is cancelled.
pub async fn serve(listener: UnixListener, desk: Desk, shutdown: CancellationToken) {
    http::serve_router(listener, router(desk), shutdown).await;
}

fn router(desk: Desk) -> Router {
    let order = |make: fn(Vec<JobId>) -> Order| {
        post(move |State(desk): State<Desk>, body: Bytes| async move { carry_out(&desk, make, &body).await })
    };
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/output", get(output))
        .route("/v1/now", order(Order::Now))
        .route("/v1/cancel", order(Order::Cancel))
        .route("/v1/pause", order(Order::Pause))
        .route("/v1/resume", order(Order::Resume))
        .route("/v1/reload", post(|State(desk): State<Desk>| async move { reload(&desk).await }))
        .route(
            "/v1/renew",
            post(|State(desk): State<Desk>| async move { answer(desk.orders.give(Order::Renew).await) }),
        )
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "there is no such request; a newer release may have it") })
        .with_state(desk)
}

async fn status(State(desk): State<Desk>) -> Response {
    desk.replicas.look().await;
    as_json(&desk.board.status())
}

/// What the actions of a run have printed that run now.
async fn output(State(desk): State<Desk>, RawQuery(query): RawQuery) -> Response {
    let run = query.as_deref().and_then(|query| query.strip_prefix("run=")?.parse().ok());
    let Some(run) = run else { return refuse(StatusCode::BAD_REQUEST, "say which run: /v1/output?run=N") };
    let printed = desk.board.status().jobs.into_iter().filter(|job| job.run == Some(run)).filter_map(|job| {
        let status::State::Acting { action, .. } = job.state else { return None };
        let (of_job, of_action) = (JobId::new(job.job.as_str()), ActionId::new(action.as_str()));
        let lines = desk.history.as_ref()?.printed(RunId(run), &of_job, &of_action);
        Some(Printed { job: job.job, action, lines: lines.into_iter().map(Line::from).collect() })
    });
    as_json(&printed.collect::<Vec<_>>())
}

impl From<OutputLine> for Line {
    fn from(line: OutputLine) -> Self {
        let text = |line: &[u8]| String::from_utf8_lossy(line).into_owned();
        match line {
            OutputLine::Out(line) => Self::Out(text(&line)),
            OutputLine::Error(line) => Self::Error(text(&line)),
            OutputLine::Gap(lines) => Self::LeftOut(lines),
        }
    }
}

async fn carry_out(desk: &Desk, make: fn(Vec<JobId>) -> Order, body: &[u8]) -> Response {
    let jobs = if body.is_empty() { Ok(Jobs::default()) } else { serde_json::from_slice::<Jobs>(body) };
    match jobs {
        Ok(Jobs { jobs }) => {
            let jobs = jobs.into_iter().map(JobId::new).collect();
            answer(desk.orders.give(make(jobs)).await)
        }
        Err(error) => refuse(StatusCode::BAD_REQUEST, &format!("the body must be {{\"jobs\": [\"ID\"]}}: {error}")),
    }
}

async fn reload(desk: &Desk) -> Response {
    let path = desk.config.clone();
    let loaded = tokio::task::spawn_blocking(move || config::load(&path, &|name| std::env::var_os(name))).await;
    let config = match loaded {
        Ok(Ok(loaded)) => loaded.config,
        Ok(Err(LoadError::Invalid(diagnostics))) => {
            return refuse(StatusCode::UNPROCESSABLE_ENTITY, diagnostics.render(false).trim_end());
        }
        Ok(Err(error)) => return refuse(StatusCode::UNPROCESSABLE_ENTITY, &crate::error_chain(&error)),
        Err(error) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    };
    let (now, before) = (config.rsync_id.to_string(), desk.board.status().instance);
    if now != before {
        let why = format!("{} is of another instance now: rsync_id is {now:?}, not {before:?}", desk.config.display());
        return refuse(StatusCode::CONFLICT, &why);
    }
    answer(desk.orders.give(Order::Reload(Box::new(config))).await)
}

fn answer(result: Result<Done, Refusal>) -> Response {
    match result {
        Ok(done) => as_json(&done),
        Err(refusal) => {
            let status = match refusal {
                Refusal::UnknownJob { .. } => StatusCode::NOT_FOUND,
                Refusal::Unwritten { .. } => StatusCode::INTERNAL_SERVER_ERROR,
                Refusal::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            };
            refuse(status, &crate::error_chain(&refusal))
        }
    }
}

fn as_json(value: &impl Serialize) -> Response {
    let text = serde_json::to_string(value).expect("plain data is always JSON");
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], json!({ "error": why }).to_string()).into_response()
}
