//! The times of jobs that are never forgotten, until they are recorded: also those of what could not be recorded otherwise.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use crate::config::JobId;
use crate::event::{JobEvent, JobOutcome};

/// What is not recorded yet: by job and column of `job_state`, milliseconds since the Unix epoch; `None` takes away what is recorded.
#[derive(Debug, Default)]
pub(super) struct Times(HashMap<(JobId, &'static str), Option<i64>>);

impl Times {
    /// Takes note of what happened to a job at a time.
    pub(super) fn observe(&mut self, at: i64, job: &JobId, event: &JobEvent) {
        let columns: &[_] = match event {
            JobEvent::Started { .. } => &[("last_start", Some(at))],
            JobEvent::Finished { outcome: JobOutcome::Succeeded, .. } => {
                &[("last_completion", Some(at)), ("last_success", Some(at)), ("last_late", None)]
            }
            JobEvent::Finished { outcome: JobOutcome::Failed(_), .. } => &[("last_completion", Some(at))],
            JobEvent::Late { .. } => &[("last_late", Some(at))],
            JobEvent::NextRun(_) => &[("seen_until", Some(at))],
            _ => &[],
        };
        self.0.extend(columns.iter().map(|(column, at)| ((job.clone(), *column), *at)));
    }

    pub(super) fn write(&self, database: &Connection) -> rusqlite::Result<()> {
        for ((job, column), at) in &self.0 {
            let upsert = format!(
                "INSERT INTO job_state (job, {column}) VALUES (?1, ?2)
                 ON CONFLICT (job) DO UPDATE SET {column} = excluded.{column}"
            );
            database.prepare_cached(&upsert)?.execute(params![job.as_str(), at])?;
        }
        Ok(())
    }

    /// They are recorded.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
