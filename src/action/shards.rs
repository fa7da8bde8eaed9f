//! A sync that several rsyncs share: the surveys, the shards, and then the final pass, which [`super::attempt`] performs.
//!
//! Everything here is only a start that the final pass goes on from, so what cannot be divided well is left out: the result is that
//! of the final pass. It decides how the action ends, unless one of these rsyncs ends with more than a partial transfer;
//! then the others are stopped, and it is not begun. A list of files is a nameless file in memory, the shard's standard input:
//! nothing stays behind, however we end.
//!
//! Deliberately absent: a division of the deletions, of directories and links, and of a single large file.

mod parts;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustix::fs::MemfdFlags;

use super::attempt::{Attempt, Ended, Process};
use super::look::{goes_on, look};
use super::output::{Output, Rsync};
use crate::clock;
use crate::event::JobEvent;
use crate::process::{SpawnError, Stop};
use crate::rsync::stats::{Stats, StatsParser};
use crate::rsync::survey::{self, Listing, Names};
pub(super) use parts::{Parts, Sums};

/// So many new connections to a peer are made at once; sshd refuses some of more than ten that have not logged in yet
/// (sshd_config(5), `MaxStartups`).
const LOGINS: usize = 8;
/// The next ones follow after this time.
const LOGIN_PAUSE: Duration = Duration::from_millis(500);
/// rsync's exit code when the destination directory cannot be created, as when another shard creates it in this moment. The second
/// time it is there, or the error is told.
const CREATING: i32 = 11;

/// How a sync is divided, as far as its configuration tells.
pub(super) struct Split {
    /// How many rsyncs may run at once, 2 or more.
    pub(super) at_once: usize,
    pub(super) groups: Vec<Group>,
    /// How lists of files are written.
    pub(super) names: Names,
}

/// The two command lines for the sources whose names begin in the same directory.
pub(super) struct Group {
    /// Of the survey.
    pub(super) survey: Vec<OsString>,
    /// Of a shard, which reads its list from standard input.
    pub(super) shard: Vec<OsString>,
}

/// What was done before the final pass.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) stats: Sums,
    pub(super) progress: Parts,
}

/// Files for one rsync: of which group, and their list.
struct Task {
    group: usize,
    list: Arc<File>,
}

/// Surveys and shards, if there is enough to be moved for them. The error is the rsync that ends the action.
pub(super) async fn perform(attempt: &Attempt<'_>, split: &Split) -> Result<Shared, Box<Ended>> {
    let mut stats = Sums::default();
    let surveys = split.groups.iter().map(|group| survey(attempt, group));
    let mut listings = Vec::new();
    for (listing, ended) in futures_util::future::join_all(surveys).await {
        if !goes_on(&ended) {
            return Err(Box::new(ended));
        }
        stats.survey(ended.stats);
        listings.push(listing);
    }
    let shards = divide(split, &listings).map_err(|source| failed(attempt, source))?;
    let (files, bytes) = (listings.iter().map(Listing::len).sum(), listings.iter().map(Listing::bytes).sum());
    drop(listings);
    if shards.is_empty() {
        return Ok(Shared { stats, progress: Parts::default() });
    }
    attempt.send(JobEvent::Split { action: attempt.action.id.clone(), rsyncs: shards.len(), files, bytes });
    let stop = Stop { term: attempt.stop.term.child_token(), kill: attempt.stop.kill.child_token() };
    let sharing =
        Sharing { attempt, split, at_once: shards.len(), progress: Mutex::new(Parts::new(shards.len(), bytes)), stop };
    sharing.perform(&shards, &mut stats).await?;
    Ok(Shared { stats, progress: sharing.progress.into_inner().unwrap_or_else(PoisonError::into_inner) })
}

fn failed(attempt: &Attempt<'_>, source: io::Error) -> Box<Ended> {
    let exit = Err(SpawnError::Other { program: attempt.plan.program.clone(), source });
    Box::new(Ended { exit, stats: None, last_words: String::new() })
}

async fn survey(attempt: &Attempt<'_>, group: &Group) -> (Listing, Ended) {
    let (mut listing, mut stats) = (Listing::default(), StatsParser::default());
    let line = |line: &[u8]| {
        if !listing.line(line) {
            stats.line(line.trim_ascii_end());
        }
    };
    let ended = look(attempt, &group.survey, line).await;
    (listing, Ended { stats: stats.finish(), ..ended })
}

/// The lists, made: for each shard what it does one after the other.
fn divide(split: &Split, listings: &[Listing]) -> io::Result<Vec<Vec<Task>>> {
    let weights: Vec<u64> = listings.iter().flat_map(Listing::weights).collect();
    let shards = survey::divide(&weights, split.at_once);
    shards.iter().map(|runs| tasks(split, listings, runs)).collect()
}

/// A shard's runs of the one list of all groups, as one list a group.
fn tasks(split: &Split, listings: &[Listing], runs: &[Range<usize>]) -> io::Result<Vec<Task>> {
    let mut tasks = Vec::new();
    let mut before = 0;
    for (group, listing) in listings.iter().enumerate() {
        let mut list = Vec::new();
        for run in runs {
            let (start, end) = (run.start.max(before), run.end.min(before + listing.len()));
            if start < end {
                listing.write(start - before..end - before, split.names, &mut list);
            }
        }
        if !list.is_empty() {
            tasks.push(Task { group, list: Arc::new(in_memory(&list)?) });
        }
        before += listing.len();
    }
    Ok(tasks)
}

/// A file without a name, to be read from its beginning.
pub(super) fn in_memory(content: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("rsync-files", MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    Ok(file)
}

/// Shards at work.
struct Sharing<'a> {
    attempt: &'a Attempt<'a>,
    split: &'a Split,
    /// How many rsyncs run beside each other.
    at_once: usize,
    progress: Mutex<Parts>,
    /// Ends with the attempt's own, or alone.
    stop: Stop,
}

impl Sharing<'_> {
    /// Runs all shards at once. The first that fails stops the others, which are waited for.
    async fn perform(&self, shards: &[Vec<Task>], stats: &mut Sums) -> Result<(), Box<Ended>> {
        let mut running = FuturesUnordered::new();
        for (index, tasks) in shards.iter().enumerate() {
            running.push(self.shard(index, tasks));
        }
        let mut failure = None;
        while let Some((done, ended)) = running.next().await {
            stats.shard(done);
            if let (Some(ended), None) = (ended, &failure) {
                self.stop.term.cancel();
                failure = Some(Box::new(ended));
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// One shard: what its rsyncs did, and the one that ends the action.
    async fn shard(&self, index: usize, tasks: &[Task]) -> (Vec<Stats>, Option<Ended>) {
        let mut done = Vec::new();
        self.pace(index).await;
        for task in tasks {
            let mut ended = self.task(index, task).await;
            if ended.code() == Some(CREATING) {
                ended = self.task(index, task).await;
            }
            if !goes_on(&ended) {
                return (done, Some(ended));
            }
            done.extend(ended.stats);
            self.progress().next_rsync(index);
        }
        (done, None)
    }

    async fn pace(&self, index: usize) {
        if let Ok(turn @ 1..) = u32::try_from(index / LOGINS) {
            tokio::select! {
                () = clock::sleep(LOGIN_PAUSE * turn) => {}
                () = self.stop.term.cancelled() => {}
            }
        }
    }

    async fn task(&self, index: usize, task: &Task) -> Ended {
        if let Err(source) = (&*task.list).rewind() {
            return *failed(self.attempt, source);
        }
        let on_progress = |of_shard| {
            let sum = self.progress().note(index, of_shard);
            self.attempt.progress(sum);
        };
        let mut output = Output::new(self.attempt.log(), Some(Rsync::part(on_progress)));
        let args = &self.split.groups[task.group].shard;
        let process =
            Process { args, stdin: Some(&task.list), is_silent: self.attempt.plan.is_silent, at_once: self.at_once };
        let exit = self.attempt.execute(process, &self.stop, &mut output).await;
        let (stats, last_words) = output.finish();
        Ended { exit, stats, last_words }
    }

    fn progress(&self) -> MutexGuard<'_, Parts> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
