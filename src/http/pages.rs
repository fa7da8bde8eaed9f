//! What the pages show, collected: the board, the history, the configuration, the lock files of this host.
//!
//! The history is read on a thread for blocking work, by a connection for each look, so that nothing of it stays. Lock files on other hosts
//! are not looked at: what the instance itself knows of them is told. Nothing is done while nobody looks.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use jiff::tz::TimeZone;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::holders;
use super::view::View;
use crate::clock::{self, Ticks};
use crate::config::{ActionId, Config, Job, JobId};
use crate::event::RunId;
use crate::history::read::{self, Filter, Outcome, OutputLine};
use crate::history::{History, schema};
use crate::lock::Stores;
use crate::logging::escaped_bytes;
use crate::page::{self, ActionView, Html, JobView, Line, Moved, ReplicaRow, RunJob, RunView, Seen};
use crate::process::moved;
use crate::status::{Board, JobStatus, State as JobState, Status};

/// Runs of a job on its page.
const RUNS: u32 = 50;
/// Runs of each job that the overview knows, if there are not too many jobs.
const LATELY: usize = 12;
/// Lines of an action's output on a run's page.
const LINES: usize = 300;
/// A look at what processes have moved counts for this long.
const MOVED_FRESH: Duration = Duration::from_millis(400);
/// A rate is that of about this time.
const RATE_OVER: Duration = Duration::from_secs(5);
/// Pages that are kept up to date at a time; the connections for others must not run out.
const WATCHERS_MAX: usize = 32;

/// What the pages show.
#[derive(Clone)]
pub struct Pages(Arc<Inner>);

struct Inner {
    board: Arc<Board>,
    history: Option<Arc<History>>,
    database: Option<PathBuf>,
    state: Option<PathBuf>,
    stores: Stores,
    jobs: RwLock<Arc<[Arc<Job>]>>,
    looks: Mutex<VecDeque<(Ticks, HashMap<String, u64>)>>,
    watchers: Arc<Semaphore>,
}

/// The content of a page and its title.
pub(super) struct Content {
    pub(super) title: String,
    pub(super) html: Html,
    /// Whether something goes on, whose progress nobody tells.
    pub(super) moves: bool,
}

impl Pages {
    /// The pages of an instance; `database` is where its history is.
    pub fn new(
        config: &Config,
        board: Arc<Board>,
        history: Option<Arc<History>>,
        database: Option<PathBuf>,
        stores: Stores,
    ) -> Self {
        let jobs = RwLock::new(config.jobs.clone().into());
        let watchers = Arc::new(Semaphore::new(WATCHERS_MAX));
        let state = config.history.directory.clone();
        Self(Arc::new(Inner { board, history, database, state, stores, jobs, looks: Mutex::default(), watchers }))
    }

    /// Takes note of another configuration.
    pub fn configure(&self, config: &Config) {
        *self.0.jobs.write().unwrap_or_else(PoisonError::into_inner) = config.jobs.clone().into();
    }

    pub(super) fn jobs(&self) -> Arc<[Arc<Job>]> {
        Arc::clone(&self.0.jobs.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where the instance keeps its state.
    pub(super) fn state(&self) -> Option<PathBuf> {
        self.0.state.clone()
    }

    pub(super) fn board(&self) -> &Board {
        &self.0.board
    }

    pub(super) fn watchers(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.watchers)
    }

    /// The content of a page as it is now; `None` if there is no such thing.
    pub(super) async fn content(&self, view: &View) -> Option<Content> {
        let status = self.0.board.status();
        let moves = status.jobs.iter().any(|job| matches!(job.state, JobState::Acting { .. }));
        let moved = if moves { self.moved() } else { HashMap::new() };
        let zone = TimeZone::system();
        let seen = |recent, replicas| Looked { status: &status, recent, moved: &moved, replicas, zone: &zone };
        let (title, html) = match view {
            View::Overview => {
                let recent = self.recent(&status).await;
                let replicas = self.replica_rows(None, &status).await;
                ("Jobs".to_owned(), page::overview(&seen(recent, replicas).seen()))
            }
            View::Job(id) => {
                let recent = self.recent_of(std::slice::from_ref(id), LATELY).await;
                let replicas = self.replica_rows(Some(id), &status).await;
                (id.clone(), self.job(id, &seen(recent, replicas).seen()).await?)
            }
            View::Run(run) => {
                let found = self.run(*run).await;
                let view = if found.jobs.is_empty() { self.begun(*run, &status)? } else { found };
                let jobs: Vec<String> = view.jobs.iter().map(|job| job.job.job.clone()).collect();
                let recent = if moves { self.recent_of(&jobs, LATELY).await } else { HashMap::new() };
                (format!("Run {run}"), page::run(&view, &seen(recent, Vec::new()).seen()))
            }
            View::Replica(replica, query) => {
                let seen = seen(HashMap::new(), Vec::new());
                let html = self.replica(replica, query.as_ref(), &seen.seen()).await?;
                (format!("{}/{}", replica.job, replica.sync), html)
            }
        };
        Some(Content { title, html, moves })
    }

    /// Asks the history something, on a thread for that.
    pub(super) async fn ask<T: Send + 'static + Default>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> T {
        let Some(path) = self.0.database.clone() else { return T::default() };
        let answer = tokio::task::spawn_blocking(move || {
            let database = schema::open_read_only(&path).map_err(|error| crate::error_chain(&error))?;
            database.map_or(Ok(T::default()), |database| question(&database).map_err(|error| error.to_string()))
        });
        match answer.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::debug!("a page goes without the history: {error}");
                T::default()
            }
            Err(_) => T::default(),
        }
    }

    /// The last runs of all jobs; of many jobs only the last one, and more of those that act.
    async fn recent(&self, status: &Status) -> HashMap<String, Vec<Outcome>> {
        let few = status.jobs.len() <= page::STRIPS_MAX;
        let wanted = |job: &JobStatus| {
            let more = few || matches!(job.state, JobState::Acting { .. });
            (job.job.clone(), if more { LATELY } else { 2 })
        };
        self.recent_each(status.jobs.iter().map(wanted).collect()).await
    }

    async fn recent_of(&self, jobs: &[String], limit: usize) -> HashMap<String, Vec<Outcome>> {
        self.recent_each(jobs.iter().map(|job| (job.clone(), limit)).collect()).await
    }

    async fn recent_each(&self, jobs: Vec<(String, usize)>) -> HashMap<String, Vec<Outcome>> {
        self.ask(move |database| {
            jobs.into_iter().map(|(job, limit)| Ok((job.clone(), read::outcomes(database, &job, limit)?))).collect()
        })
        .await
    }

    async fn job(&self, id: &str, seen: &Seen<'_>) -> Option<Html> {
        let job = seen.status.jobs.iter().find(|job| job.job == id)?;
        let jobs = self.jobs();
        let config = jobs.iter().find(|config| config.id.as_str() == id)?;
        let filter = Filter { job: Some(id.to_owned()), failed: false, limit: RUNS };
        let runs = self.ask(move |database| read::jobs(database, &filter)).await;
        let files = holders::files(&self.0.stores, config, &jobs, job).await;
        let actions = config.actions.iter().map(|action| action.id.as_str()).collect();
        let view = JobView { job, schedule: &config.schedule.expression, actions, runs: &runs, files };
        Some(page::job(&view, seen))
    }

    async fn run(&self, run: i64) -> RunView {
        let mut jobs = self.ask(move |database| run_of(database, run)).await;
        for job in &mut jobs {
            for action in job.actions.iter_mut().filter(|action| action.action.outcome == "running") {
                (action.lines, action.more) = self.printed(run, &job.job.job, &action.action.action);
            }
        }
        RunView { run, jobs }
    }

    /// What an action that runs has printed so far.
    fn printed(&self, run: i64, job: &str, action: &str) -> (Vec<Line>, bool) {
        let Some((history, run)) = self.0.history.as_ref().zip(u64::try_from(run).ok()) else {
            return Default::default();
        };
        last_lines(&history.printed(RunId(run), &JobId::new(job), &ActionId::new(action)))
    }

    /// A run that has begun and is not in the history yet.
    fn begun(&self, run: i64, status: &Status) -> Option<RunView> {
        let number = u64::try_from(run).ok()?;
        status.jobs.iter().any(|job| job.run == Some(number)).then(|| RunView { run, jobs: Vec::new() })
    }

    /// What the processes of each job have moved, looked at now, or a moment ago.
    fn moved(&self) -> HashMap<String, Moved> {
        let mut looks = self.looks();
        if looks.back().is_none_or(|(at, _)| at.elapsed() >= MOVED_FRESH) {
            let now = (Ticks::now(), moved::by_job());
            looks.retain(|(at, _)| at.elapsed() <= RATE_OVER);
            looks.push_back(now);
        }
        let Some((latest, now)) = looks.back() else { return HashMap::new() };
        let rated = |job: &String, bytes: u64| {
            let earlier = looks.iter().find_map(|(at, then)| {
                let seconds = at.elapsed().saturating_sub(latest.elapsed()).as_secs_f64();
                let before = *then.get(job)?;
                (seconds > 0.0 && before <= bytes).then_some((Moved { bytes: before, rate: None }, seconds))
            });
            Moved { bytes, rate: None }.since(earlier)
        };
        now.iter().map(|(job, &bytes)| (job.clone(), rated(job, bytes))).collect()
    }

    fn looks(&self) -> MutexGuard<'_, VecDeque<(Ticks, HashMap<String, u64>)>> {
        self.0.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a page is made of, for as long as that takes.
struct Looked<'a> {
    status: &'a Status,
    recent: HashMap<String, Vec<Outcome>>,
    moved: &'a HashMap<String, Moved>,
    replicas: Vec<ReplicaRow>,
    zone: &'a TimeZone,
}

impl Looked<'_> {
    fn seen(&self) -> Seen<'_> {
        let (status, recent, moved, replicas) = (self.status, &self.recent, self.moved, &self.replicas);
        Seen { status, recent, moved, replicas, at: clock::now(), zone: self.zone }
    }
}

fn run_of(database: &Connection, run: i64) -> rusqlite::Result<Vec<RunJob>> {
    let jobs = read::jobs_of(database, run)?.into_iter().map(|job| {
        let actions = read::actions(database, job.id)?.into_iter().map(|action| {
            let (lines, more) = last_lines(&read::output(database, action.id)?);
            Ok(ActionView { action, lines, more })
        });
        let actions = actions.collect::<rusqlite::Result<_>>()?;
        Ok(RunJob { job, actions })
    });
    jobs.collect()
}

/// The last lines of many, and whether there were more.
fn last_lines(lines: &[OutputLine]) -> (Vec<Line>, bool) {
    let shown = &lines[lines.len().saturating_sub(LINES)..];
    let line = |line: &OutputLine| match line {
        OutputLine::Out(text) => Line { is_error: false, text: escaped_bytes(text) },
        OutputLine::Error(text) => Line { is_error: true, text: escaped_bytes(text) },
        OutputLine::Gap(n) => Line { is_error: false, text: format!("… {n} lines were not kept …") },
    };
    (shown.iter().map(line).collect(), shown.len() < lines.len())
}
