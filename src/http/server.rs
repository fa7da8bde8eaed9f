//! The accept loop.
//!
//! `axum::serve` would do but for three things: its tasks are detached, it waits for slow clients at shutdown, and it
//! sets no bound on how many there are. Here each connection is a task of one `JoinSet`, at most [`MAX_CONNECTIONS`] at a
//! time; those beyond wait in the kernel's queue. A client has [`HEADER_TIMEOUT`] to send a request, an idle one counts
//! as slow, and a connection is closed after [`MAX_AGE`] whatever it does.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Connections that are served at a time. Prometheus keeps one.
const MAX_CONNECTIONS: usize = 64;
/// Time to send a request's head, counted from the end of the answer before.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Life of a connection; a client that wants more makes a new one.
const MAX_AGE: Duration = Duration::from_secs(300);
/// Time for an answer that is under way when its connection is to be closed.
const CLOSING: Duration = Duration::from_millis(100);
/// Pause after an accept that failed for want of a resource (file descriptors, memory).
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Answers requests until `shutdown` is cancelled, then closes idle connections at once and busy ones within 100 ms.
/// `ready` is what `/readyz` says.
///
/// # Errors
/// None for now: a failure to accept is logged and tried again.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    ready: watch::Receiver<bool>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    serve_router(listener, super::router(metrics, ready), shutdown).await;
    Ok(())
}

/// What connections come from.
pub trait Accept {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one.
    ///
    /// # Errors
    /// The kernel's answer.
    fn connection(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn connection(&self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn connection(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// The same for any listener and routes.
pub async fn serve_router(listener: impl Accept, router: Router, shutdown: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.connection(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok(stream) => {
                    connections.spawn(converse(stream, router.clone(), shutdown.clone()));
                }
                Err(error) => recover(&error, &shutdown).await,
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection to its end.
async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: Router,
    shutdown: CancellationToken,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    // An error is the client's doing (gone, too slow, not HTTP): nothing that anyone here could mend.
    tokio::select! {
        result = &mut connection => {
            if let Err(error) = result {
                tracing::debug!(%error, "http connection ended early");
            }
            return;
        }
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(MAX_AGE) => {}
    }
    connection.as_mut().graceful_shutdown();
    if tokio::time::timeout(CLOSING, connection).await.is_err() {
        tracing::debug!("http connection cut while it was busy");
    }
}

/// After an accept that failed: goes on at once if only that connection failed, else after a pause.
async fn recover(error: &io::Error, shutdown: &CancellationToken) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted) {
        return;
    }
    tracing::warn!(%error, "could not accept an http connection");
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(ACCEPT_PAUSE) => {}
    }
}
