//! Puts an instance together, runs it, and takes it apart again.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::account;
use crate::action::Runner;
use crate::clock;
use crate::config::{Config, HistoryPolicy, JobId};
use crate::control;
use crate::director::{self, Director, Ending, Heartbeat, Mode, Paused, Setup, Signals};
use crate::event::{Events, Observer};
use crate::history::read::Last;
use crate::history::{self, History};
use crate::http::{self, Pages, Site};
use crate::human::count;
use crate::job::{Identity, Performer};
use crate::lock::Stores;
use crate::logging::{Log, OutputTap};
use crate::metrics::{Metrics, Notifications};
use crate::notify::{Courier, Lateness, Notifier};
use crate::pid_file::{PidFile, PidFileError};
use crate::process::Spawner;
use crate::ssh::{Pool, Transport};
use crate::status::Board;
use crate::supervisor::{self, StatusLine};
use crate::verify::latest::Latest;

/// A batch of lock operations may take this long on a connection that stands.
const LOCK_OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
/// Bound on the polite end of connections.
pub const GOODBYE: Duration = Duration::from_millis(200);

/// What is to be told when a daemon ends has this long, and when a single run ends, so long.
const LAST_LETTERS: Duration = Duration::from_secs(3);
const LAST_LETTERS_OF_ONCE: Duration = Duration::from_secs(15);

/// How an instance is run.
pub struct Options {
    /// By schedule, or once.
    pub mode: Mode,
    /// Whether nothing is to be changed: rsyncs get `--dry-run`, commands are not executed.
    pub dry_run: bool,
    /// Whether rsyncs report their progress.
    pub progress: bool,
    /// Where metrics are written to, at the start and at the end.
    pub metrics_file: Option<PathBuf>,
    /// Who else is told what happens, beside the metrics.
    pub observers: Vec<Arc<dyn Observer>>,
}

/// Why an instance did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The pid file.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// The metrics port.
    #[error(transparent)]
    Bind(#[from] http::BindError),
    /// Who may read there, or its certificate.
    #[error(transparent)]
    Access(#[from] http::AccessError),
    /// The system refuses something that every instance needs.
    #[error("could not {operation}")]
    System {
        /// What.
        operation: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// Runs an instance to its end, and says why that came.
///
/// # Errors
/// [`StartError`] before anything was run. Later nothing is an error of the instance: a failed job is an event.
pub async fn run(config: &Config, options: Options, log: Log, mut signals: Signals) -> Result<Ending, StartError> {
    let pid_file = PidFile::create(&config.pid_file_dir, &config.rsync_id)?;
    tracing::debug!("pid file {}", pid_file.path().display());
    let system = |operation| move |source| StartError::System { operation, source };
    let spawner = Spawner::start_guarded().map_err(system("start what starts and guards children"))?;
    let metrics = Metrics::new(config, crate::VERSION);
    let metrics_observer: Arc<dyn Observer> = metrics.clone();
    let kept = history(config, &options);
    let last = kept.as_ref().map(|options| history::last(&options.path)).unwrap_or_default();
    metrics.restore(&last);
    let page = MetricsFile { metrics: Arc::clone(&metrics), path: options.metrics_file.clone() };
    page.write();
    let board = Board::new(config, crate::VERSION, &last);
    let replicas = (Arc::clone(&metrics), Arc::clone(&board));
    let replicas = Latest::new(config, move |reports| {
        replicas.0.restore_replicas(reports);
        replicas.1.restore_replicas(reports);
    });
    replicas.look_now();
    let history = kept.map(History::open);
    let recorder = history.iter().map(|history| Arc::clone(history) as Arc<dyn Observer>);
    let own = [metrics_observer, Arc::clone(&board) as Arc<dyn Observer>].into_iter();
    let told = tell(config, &options, &last, metrics.notifications(), spawner.clone());
    let teller = told.iter().map(|(notifier, _)| Arc::clone(notifier) as Arc<dyn Observer>);
    let lateness = Lateness::new(config, &last, clock::now());
    let status_line = StatusLine::new(&board).into_iter().map(|line| Arc::new(line) as Arc<dyn Observer>);
    let observers = own.chain(status_line).chain(options.observers.iter().cloned()).chain(recorder).chain(teller);
    let events = Events::new(observers.chain([Arc::clone(&lateness) as Arc<dyn Observer>]).collect());
    let recorder = history.iter().map(|history| Arc::clone(history) as Arc<dyn OutputTap>);
    let taps = recorder.chain(told.iter().map(|(notifier, _)| Arc::clone(notifier) as Arc<dyn OutputTap>));
    let log = log.with_tap(Arc::new(taps.collect::<Vec<_>>()));

    let pool = Pool::new(config.ssh.clone(), events.clone());
    let mut services = Services::default();
    let (orders, inbox) = director::orders();
    let mut on_reload: Box<dyn Fn(&Config) + Send> = Box::new(|_| {});
    if options.mode == Mode::Daemon {
        let access = http::Access::load(&config.metrics)?;
        let Some(listener) = unless_terminated(&mut signals, http::bind(&config.metrics)).await else {
            return Ok(Ending::Over);
        };
        let pages = Pages::new(config, Arc::clone(&board), history.clone(), history_of(config), stores(pool.clone()));
        let shown = pages.clone();
        on_reload = Box::new(move |config| shown.configure(config));
        services.serve(
            listener?,
            Site { metrics, replicas: replicas.clone(), ready: services.ready.subscribe(), pages, access },
        );
        services.late(lateness, events.clone());
    }
    let (mut post, end_of_post) = (JoinSet::new(), CancellationToken::new());
    let flush = if options.mode == Mode::Once { LAST_LETTERS_OF_ONCE } else { LAST_LETTERS };
    if let Some((_, courier)) = told {
        post.spawn(courier.run(end_of_post.clone(), flush));
    }
    // A daemon's next configuration may need it.
    let transport = match config.uses_native_transport() || options.mode == Mode::Daemon {
        true => Some(Transport::start(pool.clone()).map_err(system("open the socket for rsyncs"))?),
        false => None,
    };
    let performer = performer(config, &options, spawner, (pool.clone(), transport.clone()), log, events);
    let host = performer.identity.host.clone();
    let of_daemon = |path: &PathBuf| (options.mode == Mode::Daemon).then(|| path.clone());
    let paused = Paused::open(config.history.directory.as_ref().and_then(of_daemon).as_deref());
    let seen = |(job, last): &(String, Last)| Some((JobId::new(job.as_str()), last.seen_until?));
    let seen_until = last.iter().filter_map(seen).collect();
    let mut director = Director::new(Setup {
        config: config.clone(),
        host,
        mode: options.mode,
        paused,
        seen_until,
        inbox,
        performer,
        on_reload,
        heartbeat: heartbeat(options.mode),
    });

    director.begin();
    if options.mode == Mode::Daemon {
        services.control(
            &control::path(config),
            control::Desk { board, replicas, orders, config: config.path.clone(), history: history.clone() },
        );
    }
    services.ready(config, options.mode);
    let ending = director.run(&mut signals).await;
    supervisor::stopping();
    end_of_post.cancel();
    if let Some(transport) = transport {
        transport.close(GOODBYE).await;
    }
    pool.close(GOODBYE).await;
    services.end().await;
    // An order to stop is one to wait for nobody.
    unless_terminated(&mut signals, post.join_next()).await;
    if let Some(history) = history {
        history.flush();
    }
    page.write();
    Ok(ending)
}

/// Metrics for those who read them from a file. One that cannot be written fails no run.
struct MetricsFile {
    metrics: Arc<Metrics>,
    path: Option<PathBuf>,
}

impl MetricsFile {
    fn write(&self) {
        let Some(path) = &self.path else { return };
        if let Err(error) = self.metrics.write_file(path) {
            tracing::error!("could not write metrics to {}: {error}", path.display());
        }
    }
}

/// Who tells what becomes of jobs, and who carries that. Nobody is told of a dry run.
fn tell(
    config: &Config,
    options: &Options,
    last: &[(String, Last)],
    counts: Notifications,
    spawner: Spawner,
) -> Option<(Arc<Notifier>, Courier)> {
    (!options.dry_run).then(|| Notifier::new(config, &host_name(), last, counts, spawner))
}

/// Where what happens is kept, and how much of it. A dry run is none to remember.
fn history(config: &Config, options: &Options) -> Option<history::Options> {
    let policy = &config.history;
    let path = history_of(config).filter(|_| policy.max_size > 0 && !options.dry_run)?;
    let output_max = usize::try_from(policy.output_max).unwrap_or(usize::MAX);
    Some(history::Options { path, max_age: policy.max_age, max_size: policy.max_size, output_max })
}

/// An instance's database.
pub fn history_of(config: &Config) -> Option<PathBuf> {
    config.history.directory.as_ref().map(|directory| directory.join("history.db"))
}

/// Where an instance keeps what it knows of its replicas, and for how long.
pub fn state_of(config: &Config) -> Option<(PathBuf, Duration)> {
    let HistoryPolicy { directory, max_age, .. } = &config.history;
    Some((directory.clone()?, *max_age))
}

fn performer(
    config: &Config,
    options: &Options,
    spawner: Spawner,
    (pool, transport): (Pool, Option<Transport>),
    log: Log,
    events: Events,
) -> Performer {
    let identity = identity(config);
    let stores = stores(pool.clone());
    let runner = Runner {
        spawner,
        pool,
        transport,
        log,
        events,
        rsync_id: config.rsync_id.to_string(),
        kill_grace: config.kill_grace,
        dry_run: options.dry_run,
        progress: options.progress,
        home: account::home(),
        env: Vec::new(),
        state: state_of(config),
    };
    Performer { runner, stores, identity, lease: config.lease }
}

/// The hosts that store an instance's lock files.
pub fn stores(pool: Pool) -> Stores {
    Stores::new(pool, LOCK_OPERATION_TIMEOUT, host_name().as_str().into())
}

/// This host's name, as others know it from its lock files.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Who an instance is in lock files.
pub fn identity(config: &Config) -> Identity {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Identity {
        rsync_id: config.rsync_id.to_string(),
        host: host_name(),
        user: account::name().unwrap_or_else(|| format!("uid {}", rustix::process::geteuid().as_raw())),
        pid: std::process::id(),
        boot_id: boot_id.trim().to_owned(),
    }
}

/// Waits for something at start-up that SIGTERM may interrupt; `None` when it did.
async fn unless_terminated<T>(signals: &mut Signals, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        result = work => Some(result),
        () = signals.terminated() => None,
    }
}

/// What goes on beside the director.
#[derive(Default)]
struct Services {
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
    ready: watch::Sender<bool>,
}

impl Services {
    fn serve(&mut self, listener: tokio::net::TcpListener, site: Site) {
        if let Ok(addr) = listener.local_addr() {
            let scheme = if site.access.is_secure() { "https" } else { "http" };
            tracing::info!(%addr, "metrics on {scheme}://{addr}/metrics");
        }
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            if let Err(error) = http::serve(listener, site, shutdown).await {
                tracing::error!("the metrics server ended: {error}");
            }
        });
    }

    /// Tells when jobs get late.
    fn late(&mut self, lateness: Arc<Lateness>, events: Events) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move { lateness.run(&events, &shutdown).await });
    }

    /// Serves the control socket. An instance without one runs all the same.
    fn control(&mut self, path: &Path, desk: control::Desk) {
        match control::bind(path) {
            Ok((listener, socket)) => {
                let shutdown = self.shutdown.clone();
                self.tasks.spawn(async move {
                    control::serve(listener, desk, shutdown).await;
                    drop(socket);
                });
            }
            Err(error) => tracing::error!("`status` will not work: could not listen on {}: {error}", path.display()),
        }
    }

    fn ready(&self, config: &Config, mode: Mode) {
        self.ready.send_replace(true);
        if mode == Mode::Daemon {
            let jobs = count(config.jobs.len() as u64, "job", "jobs");
            tracing::info!("instance {} with {jobs} is ready", config.rsync_id);
        }
        supervisor::ready();
    }

    async fn end(mut self) {
        self.shutdown.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Signs of life for the service manager, if it waits for them. A single run ends by itself.
fn heartbeat(mode: Mode) -> Option<Heartbeat> {
    let interval = supervisor::interval().filter(|_| mode == Mode::Daemon)?;
    Some(Heartbeat::new(interval, supervisor::sign_of_life))
}
