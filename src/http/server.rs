//! The accept loop.
//!
//! `axum::serve` would do but for three things: its tasks are detached, it waits for slow clients at shutdown, and it
//! sets no bound on how many there are. Here each connection is a task of one `JoinSet`, at most [`MAX_CONNECTIONS`] at a
//! time; those beyond wait in the kernel's queue. A client has [`HEADER_TIMEOUT`] to send a request, an idle one counts
//! as slow, and a connection is closed after [`MAX_AGE`] whatever it does.

use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::Site;
use super::tls::Acceptor;

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
///
/// # Errors
/// None for now: a failure to accept is logged and tried again.
pub async fn serve(listener: TcpListener, site: Site, shutdown: CancellationToken) -> io::Result<()> {
    match site.access.tls.clone() {
        None => serve_router(listener, super::router(site), shutdown).await,
        Some(tls) => serve_router(Secure { listener, tls }, super::router(site), shutdown).await,
    }
    Ok(())
}

/// Who asks, as far as the transport knows; every request carries it as an extension. `None` is a process of this host on a Unix
/// socket.
#[derive(Debug, Clone, Copy)]
pub struct Client(pub Option<SocketAddr>);

/// What connections come from.
pub trait Accept {
    /// A connection on which HTTP is spoken.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// What is to be done before that, with the client; it may take its time.
    type Opening: Future<Output = io::Result<Self::Stream>> + Send + 'static;

    /// The next one.
    ///
    /// # Errors
    /// The kernel's answer.
    fn connection(&self) -> impl Future<Output = io::Result<(Self::Opening, Client)>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;
    type Opening = Ready<io::Result<TcpStream>>;

    async fn connection(&self) -> io::Result<(Self::Opening, Client)> {
        self.accept().await.map(|(stream, address)| (ready(Ok(stream)), Client(Some(address))))
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;
    type Opening = Ready<io::Result<UnixStream>>;

    async fn connection(&self) -> io::Result<(Self::Opening, Client)> {
        self.accept().await.map(|(stream, _)| (ready(Ok(stream)), Client(None)))
    }
}

/// A listener of HTTPS.
struct Secure {
    listener: TcpListener,
    tls: Acceptor,
}

impl Accept for Secure {
    type Stream = TlsStream<TcpStream>;
    type Opening = tokio_rustls::Accept<TcpStream>;

    async fn connection(&self) -> io::Result<(Self::Opening, Client)> {
        let (stream, address) = self.listener.accept().await?;
        Ok((self.tls.current().accept(stream), Client(Some(address))))
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
                Ok((opening, client)) => {
                    connections.spawn(converse(opening, client, router.clone(), shutdown.clone()));
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
    opening: impl Future<Output = io::Result<S>>,
    client: Client,
    router: Router,
    shutdown: CancellationToken,
) {
    let stream = tokio::select! {
        stream = tokio::time::timeout(HEADER_TIMEOUT, opening) => match stream {
            Ok(Ok(stream)) => stream,
            // No TLS, or none that we speak.
            Ok(Err(error)) => return tracing::debug!(%error, "a connection did not come about"),
            Err(_) => return,
        },
        () = shutdown.cancelled() => return,
    };
    let service = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(client);
        service.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
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
