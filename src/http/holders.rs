//! Who has the lock files and blocks of a job. Those of this host are looked at; of others is told what the job found itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::config::{Job, Location, Place};
use crate::lock::record::in_the_way;
use crate::lock::{Answer, Stores, Unreachable};
use crate::page::FileRow;
use crate::status::{JobStatus, State};

/// A look at this host's lock files takes no longer.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// The lock files and blocks of a job, those here looked at.
pub(super) async fn files(stores: &Stores, job: &Job, all: &[Arc<Job>], status: &JobStatus) -> Vec<FileRow> {
    let locks = job.lock_files.iter().map(|lock| ("lock", &lock.location));
    let files: Vec<_> = locks.chain(job.blocks_on.iter().map(|block| ("block", &block.location))).collect();
    let here: Vec<Location> =
        files.iter().map(|(_, file)| (*file).clone()).filter(|file| file.place == Place::Local).collect();
    let answers = tokio::time::timeout(LOOK_MAX, stores.look(&here)).await.unwrap_or_default();
    let found: HashMap<Location, _> = here.into_iter().zip(answers).collect();
    let row = |(role, file): (&'static str, &Location)| {
        let (holder, in_the_way) = holder(role, file, found.get(file), status);
        let shared = all.iter().filter(|other| other.id != job.id && uses(other, file));
        let shared_with = shared.map(|other| other.id.to_string()).collect();
        FileRow { role, file: file.to_string(), holder, in_the_way, shared_with }
    };
    files.into_iter().map(row).collect()
}

fn uses(job: &Job, file: &Location) -> bool {
    job.lock_files.iter().any(|lock| lock.location == *file)
        || job.blocks_on.iter().any(|block| block.location == *file)
}

/// Who has a file, as far as that is known, and whether that is in the way of the job.
fn holder(
    role: &str,
    file: &Location,
    found: Option<&Result<Answer, Unreachable>>,
    status: &JobStatus,
) -> (String, bool) {
    if let State::Waiting { file: waited_for, obstacle, .. } = &status.state
        && *waited_for == file.to_string()
    {
        return (obstacle.strip_prefix("held by ").unwrap_or(obstacle).to_owned(), true);
    }
    if role == "lock" && matches!(status.state, State::Acting { .. }) {
        return ("this job".to_owned(), false);
    }
    match found {
        Some(Ok(Answer::Found(found))) => match in_the_way(found, &[], clock::now()) {
            Some(holder) => (holder, true),
            None => ("nobody".to_owned(), false),
        },
        Some(Ok(Answer::Failed(why)) | Err(Unreachable { why, .. })) => (format!("unknown: {why}"), true),
        _ => ("not looked at now".to_owned(), false),
    }
}
