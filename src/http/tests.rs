//! Over real sockets, or pipes. Where time is paused it advances by itself whenever nothing else is left to do, also when the kernel is not
//! done with what a socket was given: where that would matter, clients come by pipes.

use std::future::{Ready, ready};
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use jiff::Timestamp;

use super::*;
use crate::config::{Config, Credentials, JobId, SecretFile};
use crate::event::{Events, JobEvent, Observer, RunEvent, RunId, Trigger};
use crate::lock::Stores;
use crate::metrics::tests::config;
use crate::ssh::Pool;
use crate::status::Board;

/// Bound on what is expected to happen at once.
const SOON: Duration = Duration::from_secs(15);

#[tokio::test]
async fn each_path_answers() {
    let server = Server::start().await;
    let ok = "HTTP/1.1 200 OK\r\n";
    let cases = [
        ("GET /metrics", ok, "runs_completed_total{rsync_id=\"laptop\"} 0\n"),
        ("GET /metrics?x=y", ok, "content-type: text/plain; version=0.0.4; charset=utf-8\r\n"),
        ("GET /healthz", ok, "\r\n\r\nok\n"),
        ("GET /readyz", "HTTP/1.1 503 ", "\r\n\r\nnot ready\n"),
        ("GET /", ok, "<h1>laptop</h1>"),
        ("GET /", ok, "content-security-policy: default-src 'none'; "),
        ("GET /jobs/nobody", "HTTP/1.1 404 ", "no such job, run or replica"),
        ("GET /runs/1", "HTTP/1.1 404 ", "no such job, run or replica"),
        ("GET /replica/nobody/x", "HTTP/1.1 404 ", "no such job, run or replica"),
        ("GET /logs/1", "HTTP/1.1 404 ", "nothing was kept"),
        ("GET /events?of=/nowhere", "HTTP/1.1 404 ", "events of which page?"),
        ("GET /events?of=%2Fjobs%2Fnobody", "HTTP/1.1 204 ", ""),
        ("GET /style.css", ok, "content-type: text/css"),
        ("GET /script.js", ok, "x-content-type-options: nosniff\r\n"),
        ("GET /nowhere", "HTTP/1.1 404 ", "\r\n\r\nnot found;"),
        ("GET /metrics/", "HTTP/1.1 404 ", "\r\n\r\nnot found;"),
        ("POST /", "HTTP/1.1 405 ", "allow: GET,HEAD\r\n"),
        ("POST /metrics", "HTTP/1.1 405 ", "allow: GET,HEAD\r\n"),
        ("DELETE /", "HTTP/1.1 405 ", "allow: GET,HEAD\r\n"),
    ];
    for (request, status, contained) in cases {
        let answer = server.ask(request).await;
        assert!(answer.starts_with(status) && answer.contains(contained), "{request}:\n{answer}");
    }
}

#[tokio::test]
async fn head_answers_without_a_body() {
    let server = Server::start().await;
    let answer = server.ask("HEAD /metrics").await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let page = config_page();
    assert!(head.contains(&format!("content-length: {}", page.len())), "{head}");
    assert_eq!(body, "");
}

#[tokio::test]
async fn readiness_follows_the_daemon() {
    let server = Server::start().await;
    server.ready.send_replace(true);
    assert!(server.ask("GET /readyz").await.starts_with("HTTP/1.1 200 OK\r\n"));
    server.ready.send_replace(false);
    assert!(server.ask("GET /readyz").await.starts_with("HTTP/1.1 503 "));
}

#[tokio::test]
async fn shutdown_waits_neither_for_idle_nor_for_slow_clients() {
    let mut server = Server::start().await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("write");
    let mut answer = [0; 1024];
    let read = idle.read(&mut answer).await.expect("an answer");
    assert!(String::from_utf8_lossy(&answer[..read]).ends_with("ok\n"));
    let mut slow = server.connect().await;
    slow.write_all(b"GET /healthz HTTP/1.1\r\nhost:").await.expect("write");
    // Answered, hence accepted, hence so was `slow` before it.
    server.ask("GET /healthz").await;

    // From here on time is only what somebody waits for.
    tokio::time::pause();
    let begin = Instant::now();
    server.shutdown.cancel();
    let served = server.tasks.join_next().await;
    served.expect("a task").expect("no panic").expect("no error");
    for mut client in [idle, slow] {
        // Ends, by an end of file or a reset.
        let _ = client.read_to_end(&mut Vec::new()).await;
    }
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    assert!(TcpStream::connect(server.address).await.is_err(), "the port is free again");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_finish_its_request_is_dropped() {
    let server = Piped::start();
    let mut client = server.connect();
    let start = Instant::now();
    client.write_all(b"GET /metrics HTTP/1.1\r\nhost:").await.expect("write");
    client.read_to_end(&mut Vec::new()).await.expect("the server closes");
    let life = start.elapsed();
    assert!((4..7).contains(&life.as_secs()), "{life:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_beyond_the_bound_waits_until_another_is_gone() {
    let server = Piped::start();
    let crowd: Vec<_> = (0..64).map(|_| server.connect()).collect();
    let start = Instant::now();
    assert!(send(server.connect(), &request("GET /healthz")).await.ends_with("ok\n"));
    let waited = start.elapsed();
    assert!((4..7).contains(&waited.as_secs()), "{waited:?}");
    drop(crowd);
}

#[tokio::test(start_paused = true)]
async fn a_port_in_use_is_tried_as_often_as_configured_and_then_named() {
    let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = holder.local_addr().expect("bound");
    // Timeout, pause, retries (seconds, seconds, number) and the seconds after which it gives up.
    for (timeout, pause, retries, expected) in
        [(10, 2, 3, 6), (10, 2, 0, 0), (10, 2, 100, 10), (5, 2, 100, 4), (0, 2, 3, 0), (10, 0, 3, 0)]
    {
        let metrics = crate::config::Metrics {
            port: address.port(),
            startup_timeout: Duration::from_secs(timeout),
            startup_retry_wait: Duration::from_secs(pause),
            startup_retry_limit: retries,
            ..config().metrics
        };
        let start = Instant::now();
        let error = bind(&metrics).await.expect_err("in use");
        assert_eq!(start.elapsed().as_secs(), expected, "{metrics:?}");
        assert!(matches!(error, BindError::InUse { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!("could not listen on {address}: the port is in use; stop what listens there or set `metrics.port`")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_port_that_becomes_free_is_taken() {
    let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let metrics = crate::config::Metrics { port: holder.local_addr().expect("bound").port(), ..config().metrics };
    let release = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        drop(holder);
    };
    let (bound, ()) = tokio::join!(bind(&metrics), release);
    assert_eq!(bound.expect("free by now").local_addr().expect("bound").port(), metrics.port);
}

#[tokio::test(start_paused = true)]
async fn an_address_of_another_host_is_named() {
    // TEST-NET-1 of RFC 5737: nobody's.
    let addr = Ipv4Addr::new(192, 0, 2, 1).into();
    let error = bind(&crate::config::Metrics { addr, port: 9, ..config().metrics }).await.expect_err("not ours");
    assert_eq!(error.to_string(), "could not listen on 192.0.2.1:9");
    assert!(std::error::Error::source(&error).is_some(), "{error:?}");
}

fn config_page() -> String {
    Metrics::new(&config(), "2.0.0").encode()
}

/// The pages of an instance without a history.
fn pages(config: &Config, board: &Arc<Board>) -> Pages {
    let pool = Pool::new(config.ssh.clone(), Events::new(Vec::new()));
    let stores = Stores::new(pool, SOON, "here".into());
    Pages::new(config, Arc::clone(board), None, None, stores)
}

#[tokio::test]
async fn what_is_asked_for_a_password_is_not_shown_without() {
    let token = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&token, "secret\n").expect("written");
    let gate = || Gate::load(&Credentials::Bearer(SecretFile::File(token.path().into())), None).expect("loads");
    let server = Server::start_with(Access { page: Some(gate()), ..Access::default() }).await;
    for path in ["/", "/jobs/photos", "/runs/1", "/logs/1", "/events?of=/", "/script.js"] {
        let answer = server.ask(&format!("GET {path}")).await;
        assert!(
            answer.starts_with("HTTP/1.1 401 ") && answer.contains("www-authenticate: Bearer "),
            "{path}: {answer}"
        );
    }
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert!(!server.ask(&format!("GET {path}")).await.starts_with("HTTP/1.1 401 "), "{path}");
    }
    let server = Server::start_with(Access { metrics: Some(gate()), ..Access::default() }).await;
    assert!(server.ask("GET /metrics").await.starts_with("HTTP/1.1 401 "));
    assert!(server.ask("GET /").await.starts_with("HTTP/1.1 200 "));
    let with_token = "GET /metrics HTTP/1.1\r\nauthorization: Bearer secret\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert!(server.send(with_token).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn the_pages_are_not_for_sites_that_were_made_to_lead_here() {
    let server = Server::start().await;
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n");
    assert!(server.send(&ask("/")).await.starts_with("HTTP/1.1 403 "));
    assert!(server.send(&ask("/metrics")).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn who_looks_is_sent_what_changes_and_nothing_else() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.write_all(b"GET /events?of=%2F HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("write");
    let first = event(&mut client).await;
    assert!(first.contains("\"j0\":") && first.contains("\"sum\":"), "{first}");
    let job = JobId::new(server.board.status().jobs[0].job.as_str());
    let run = Some(RunId(7));
    let event_of = |event| RunEvent::Job { run, job: job.clone(), event };
    server.board.observe(Timestamp::UNIX_EPOCH, &event_of(JobEvent::Started { trigger: Trigger::Hup }));
    let second = event(&mut client).await;
    assert!(second.contains("\"j0\":") && second.contains("/runs/7"), "{second}");
    assert!(!second.contains("\"j1\":"), "{second}");
}

/// What is sent up to the end of the next event.
async fn event(client: &mut TcpStream) -> String {
    let mut text = String::new();
    let mut bytes = [0; 4096];
    while !text.contains("data: ") || !text.ends_with("\n\n\r\n") {
        let read = timeout(SOON, client.read(&mut bytes)).await.expect("in time").expect("read");
        assert!(read > 0, "it ended: {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    text
}

/// A server on a free port.
struct Server {
    address: SocketAddr,
    ready: watch::Sender<bool>,
    board: Arc<Board>,
    shutdown: CancellationToken,
    tasks: JoinSet<std::io::Result<()>>,
}

impl Server {
    async fn start() -> Self {
        Self::start_with(Access::default()).await
    }

    async fn start_with(access: Access) -> Self {
        let listener = bind(&config().metrics).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (site, ready, board) = site(access);
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, site, shutdown.clone()));
        Self { address, ready, board, shutdown, tasks }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("the server listens")
    }

    /// Sends a request of this method and path; the answer as text.
    async fn ask(&self, what: &str) -> String {
        self.send(&request(what)).await
    }

    async fn send(&self, request: &str) -> String {
        send(self.connect().await, request).await
    }
}

/// What is served, and what tells it how things stand.
fn site(access: Access) -> (Site, watch::Sender<bool>, Arc<Board>) {
    let config = config();
    let (ready, is_ready) = watch::channel(false);
    let board = Board::new(&config, "2.0.0", &[]);
    let metrics = Metrics::new(&config, "2.0.0");
    let replicas = Latest::new(&config, |_| {});
    let site = Site { metrics, replicas, ready: is_ready, pages: pages(&config, &board), access };
    (site, ready, board)
}

/// A request of this method and path, the only one of its connection.
fn request(what: &str) -> String {
    format!("{what} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
}

async fn send(mut client: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    client.write_all(request.as_bytes()).await.expect("write");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("an answer");
    answer
}

/// A server whose clients come by pipes, which the kernel has no part in.
struct Piped {
    clients: mpsc::UnboundedSender<DuplexStream>,
    _served: JoinSet<()>,
}

struct Arrivals(Mutex<mpsc::UnboundedReceiver<DuplexStream>>);

impl Accept for Arrivals {
    type Stream = DuplexStream;
    type Opening = Ready<std::io::Result<DuplexStream>>;

    async fn connection(&self) -> std::io::Result<(Self::Opening, Client)> {
        let next = self.0.lock().await.recv().await.ok_or(std::io::ErrorKind::BrokenPipe)?;
        Ok((ready(Ok(next)), Client(None)))
    }
}

impl Piped {
    fn start() -> Self {
        let (clients, arrivals) = mpsc::unbounded_channel();
        let (site, ..) = site(Access::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_router(Arrivals(Mutex::new(arrivals)), router(site), CancellationToken::new()));
        Self { clients, _served: tasks }
    }

    fn connect(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        self.clients.send(theirs).expect("it accepts");
        ours
    }
}
