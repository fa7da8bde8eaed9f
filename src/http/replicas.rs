//! What the pages show of replicas, collected: the configuration's syncs, and what verifications left in their database.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;

use super::pages::Pages;
use crate::clock;
use crate::config::{ActionKind, Job, Route, Sync};
use crate::history::read;
use crate::logging::escaped_bytes;
use crate::page::{self, Details, Differences, Html, Query, ReplicaRow, ReplicaView, Seen, VerifiedBy};
use crate::status::{JobStatus, State, Status};
use crate::verify::order::Replica;
use crate::verify::report::{Count, Report};
use crate::verify::store::{Kept, Point, Store, StoreError, Wanted};

/// The curves of a replica's page begin so long ago.
const SINCE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Those in a table, so long ago.
const LATELY: SignedDuration = SignedDuration::from_hours(14 * 24);
/// And have so many points at most.
const LATELY_MAX: usize = 30;

/// What the database says of a replica.
#[derive(Default)]
struct Found {
    report: Option<Report>,
    more: Option<More>,
}

/// What is asked for a whole page only.
struct More {
    query: Query,
    points: Vec<Point>,
    directories: Vec<(Vec<u8>, Count)>,
    below: u64,
    list: Vec<Kept>,
    all: u64,
}

impl Pages {
    /// The rows of these jobs' replicas, all jobs' for none.
    pub(super) async fn replica_rows(&self, job: Option<&str>, status: &Status) -> Vec<ReplicaRow> {
        let jobs = self.jobs();
        let of_job = |config: &&Arc<Job>| job.is_none_or(|job| config.id.as_str() == job);
        let syncs: Vec<(Replica, String)> = jobs
            .iter()
            .filter(of_job)
            .flat_map(|job| syncs(job))
            .map(|(replica, sync)| (replica, ends(sync).1))
            .collect();
        if syncs.is_empty() {
            return Vec::new();
        }
        let curves = syncs.len() <= page::CURVES_MAX;
        let since = clock::now() - LATELY;
        let mut known = self
            .ask_store(move |store| {
                let mut known = HashMap::new();
                for report in store.latest()? {
                    let lately = if curves { store.series(&report.replica, since)? } else { Vec::new() };
                    let few = lately[lately.len().saturating_sub(LATELY_MAX)..].to_vec();
                    known.insert(report.replica.clone(), (report, few));
                }
                Ok(known)
            })
            .await;
        let mut verified_by: Vec<_> = syncs.iter().map(|(replica, _)| verified_by(&jobs, replica, status)).collect();
        self.look_up_last(verified_by.iter_mut().flatten().collect()).await;
        let row = |((replica, dest), verified_by)| {
            let (report, lately) =
                known.remove(&replica).map_or((None, Vec::new()), |(report, few)| (Some(report), few));
            ReplicaRow { replica, dest, report, lately, verified_by }
        };
        syncs.into_iter().zip(verified_by).map(row).collect()
    }

    /// The page of a replica; without a query only what changes on it. `None` if there is no such sync.
    pub(super) async fn replica(&self, replica: &Replica, query: Option<&Query>, seen: &Seen<'_>) -> Option<Html> {
        let jobs = self.jobs();
        let job = jobs.iter().find(|job| job.id.as_str() == replica.job)?;
        let (_, sync) = syncs(job).find(|(known, _)| known == replica)?;
        let (source, dest) = ends(sync);
        let (wanted, query) = (replica.clone(), query.cloned());
        let found = self.ask_store(move |store| look(store, &wanted, query)).await;
        let details = found.more.as_ref().map(|more| Details {
            points: &more.points,
            differences: Differences {
                query: &more.query,
                directories: &more.directories,
                below: more.below,
                list: &more.list,
                all: more.all,
            },
        });
        let mut verified_by = verified_by(&jobs, replica, seen.status);
        self.look_up_last(verified_by.iter_mut().collect()).await;
        let report = found.report.as_ref();
        Some(page::replica(&ReplicaView { replica, source, dest, verified_by, report, details }, seen))
    }

    /// Notes of these actions how each ended last.
    async fn look_up_last(&self, verified_by: Vec<&mut VerifiedBy>) {
        let actions: Vec<_> = verified_by.iter().map(|by| (by.job.clone(), by.action.clone())).collect();
        if actions.is_empty() {
            return;
        }
        let last_of = move |database: &Connection| {
            let last = actions.iter().map(|(job, action)| read::last_of(database, job, action));
            last.collect::<rusqlite::Result<Vec<_>>>()
        };
        for (by, last) in verified_by.into_iter().zip(self.ask(last_of).await) {
            by.last = last;
        }
    }

    /// Asks the database of verifications something, on a thread for that.
    async fn ask_store<T: Send + 'static + Default>(
        &self,
        question: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> T {
        let Some(state) = self.state() else { return T::default() };
        let ask = move || Store::open_read_only(&state)?.map_or(Ok(T::default()), |store| question(&store));
        match tokio::task::spawn_blocking(ask).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::debug!("a page goes without the verifications: {}", crate::error_chain(&error));
                T::default()
            }
            Err(_) => T::default(),
        }
    }
}

fn look(store: &Store, replica: &Replica, query: Option<Query>) -> Result<Found, StoreError> {
    let Some(report) = store.last(replica)? else { return Ok(Found::default()) };
    let Some(mut query) = query else { return Ok(Found { report: Some(report), more: None }) };
    let points = store.series(replica, clock::now() - SINCE)?;
    let directory = query.directory.clone();
    let all_below = Wanted { directory: directory.clone(), ..Wanted::default() };
    let (_, below) = store.differences(replica, &all_below, 0, 0)?;
    let directories = store.by_directory(replica, &directory, query.most, page::DIRECTORIES)?;
    let wanted = Wanted { directory, class: query.class, search: query.search.clone() };
    let on_page = |page: u64| store.differences(replica, &wanted, page.saturating_mul(page::PER_PAGE), page::PER_PAGE);
    let (mut list, all) = on_page(query.page)?;
    // Behind the last page is the last page.
    if list.is_empty() && all > 0 {
        query.page = (all - 1) / page::PER_PAGE;
        list = on_page(query.page)?.0;
    }
    Ok(Found { report: Some(report), more: Some(More { query, points, directories, below, list, all }) })
}

/// The replicas that a job makes.
fn syncs(job: &Job) -> impl Iterator<Item = (Replica, &Sync)> {
    job.actions.iter().filter_map(|action| match &action.kind {
        ActionKind::Sync(sync) => Some((Replica { job: job.id.to_string(), sync: action.id.to_string() }, sync)),
        _ => None,
    })
}

/// Where a sync copies from, and to, for people.
fn ends(sync: &Sync) -> (String, String) {
    let text = |path: &OsStr| escaped_bytes(path.as_encoded_bytes());
    let sources: Vec<_> = sync.sources.iter().map(|source| text(source)).collect();
    let (sources, dest) = (sources.join(" "), text(&sync.dest));
    match &sync.route {
        Route::Local => (sources, dest),
        Route::Push(peer, _) => (sources, format!("{}:{dest}", peer.host)),
        Route::Pull(peer, _) => (format!("{}:{sources}", peer.host), dest),
    }
}

/// The actions of any job that verify a replica.
fn verified_by(jobs: &[Arc<Job>], replica: &Replica, status: &Status) -> Vec<VerifiedBy> {
    let actions = jobs.iter().flat_map(|job| job.actions.iter().map(move |action| (job, action)));
    let verifies = actions.filter(|(_, action)| action.verifies().as_ref() == Some(replica));
    let verified_by = verifies.map(|(job, action)| {
        let status = status.jobs.iter().find(|status| status.job == job.id.as_str());
        let (job, action) = (job.id.to_string(), action.id.to_string());
        let under_way = status.and_then(|status| since(status, &action));
        VerifiedBy { job, action, next: status.and_then(|status| status.next_run), under_way, last: None }
    });
    verified_by.collect()
}

/// Since when a job performs an action.
fn since(status: &JobStatus, wanted: &str) -> Option<Timestamp> {
    match &status.state {
        State::Acting { action, since, .. } if action == wanted => Some(*since),
        _ => None,
    }
}
