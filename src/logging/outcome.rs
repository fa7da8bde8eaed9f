//! How actions and jobs ended, in words.
//!
//! A job's last event says only the kind of its failure; the details were in an earlier event. [`Causes`] remembers
//! them for as long as the job runs.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::config::JobId;
use crate::event::{
    ActionFailure, ActionReport, ExitStatus, JobEvent, JobFailure, JobOutcome, Obstacle, RunEvent, SkipReason,
};
use crate::human;

/// What stood in the way of each running job last. Bounded by the number of jobs.
#[derive(Debug, Default)]
pub struct Causes(HashMap<JobId, Cause>);

#[derive(Debug)]
enum Cause {
    Action(String),
    Lock(String),
    GaveUp(String),
    Unmet(String),
}

impl Causes {
    /// Remembers what the event tells; call it for every event, in order.
    pub fn observe(&mut self, event: &RunEvent) {
        let RunEvent::Job { job, event, .. } = event else { return };
        let cause = match event {
            JobEvent::Started { .. } => {
                self.0.remove(job);
                return;
            }
            JobEvent::ActionFinished { report, .. } => {
                // What fails after that are hooks, which the job does not fail of.
                if let Some(text) = failure_text(report) {
                    self.0.entry(job.clone()).or_insert(Cause::Action(text));
                }
                return;
            }
            JobEvent::LockLost { file, reason } => Cause::Lock(format!("lost lock file {file}: {reason}")),
            JobEvent::BlockWait { file, obstacle, next_look: None }
            | JobEvent::LockWait { file, obstacle, next_look: None } => {
                Cause::GaveUp(format!("gave up waiting for {file}, {}", obstacle_text(obstacle)))
            }
            JobEvent::Unmet { condition } => Cause::Unmet(condition.clone()),
            _ => return,
        };
        self.0.insert(job.clone(), cause);
    }

    /// Why the job did not succeed, or `None` if it did. Forgets what was remembered of it.
    pub fn explain(&mut self, job: &JobId, outcome: &JobOutcome) -> Option<String> {
        let cause = self.0.remove(job);
        match (outcome, cause) {
            (JobOutcome::Succeeded, _) => None,
            (JobOutcome::Failed(JobFailure::Action { action, .. }), Some(Cause::Action(text))) => {
                Some(format!("action {action}: {text}"))
            }
            (JobOutcome::Failed(JobFailure::Lock | JobFailure::LockLost), Some(Cause::Lock(text)))
            | (JobOutcome::Skipped(SkipReason::BlockTimeout | SkipReason::LockTimeout), Some(Cause::GaveUp(text)))
            | (JobOutcome::Skipped(SkipReason::Condition), Some(Cause::Unmet(text))) => Some(text),
            (JobOutcome::Failed(failure), _) => Some(job_failure_text(failure)),
            (JobOutcome::Skipped(reason), _) => Some(skip_text(*reason).to_owned()),
        }
    }
}

/// Why an action failed: `exit code 23 (partial transfer due to error)`, or the report's own words; `None` for success.
pub(crate) fn failure_text(report: &ActionReport) -> Option<String> {
    let failure = report.failure?;
    Some(match (failure, report.status) {
        (ActionFailure::Exit, Some(status)) => with_message(&status_text(status), &report.message),
        _ if report.message.is_empty() => action_failure_text(failure).to_owned(),
        _ => report.message.clone(),
    })
}

/// `status (message)`; a message that names the status already stands alone.
pub(crate) fn with_message(status: &str, message: &str) -> String {
    if message.is_empty() {
        status.to_owned()
    } else if message.contains(status) {
        message.to_owned()
    } else {
        format!("{status} ({message})")
    }
}

/// `exit code 23`, `signal 9`.
pub(crate) fn status_text(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("exit code {code}"),
        ExitStatus::Signal(signal) => format!("signal {signal}"),
    }
}

/// What a successful sync moved: `12 files, 3.4 MB transferred, 2 deleted`; `None` for a command.
pub(crate) fn moved_text(report: &ActionReport) -> Option<String> {
    let stats = report.stats?;
    let files = human::count(stats.transferred, "file", "files");
    let mut text = format!("{files}, {} transferred", human::bytes(stats.transferred_bytes));
    if stats.deleted > 0 {
        text += &format!(", {} deleted", stats.deleted);
    }
    Some(text)
}

/// `held by …`, `which exists`, `which cannot be asked: …`.
pub(crate) fn obstacle_text(obstacle: &Obstacle) -> String {
    match obstacle {
        Obstacle::Present(holder) if holder.is_empty() => "which exists".to_owned(),
        Obstacle::Present(_) => obstacle.to_string(),
        Obstacle::Unknown(_) => format!("which {obstacle}"),
    }
}

fn action_failure_text(failure: ActionFailure) -> &'static str {
    match failure {
        ActionFailure::Exit => "ended without success",
        ActionFailure::Timeout => "ran longer than its timeout and was killed",
        ActionFailure::Start => "could not be started",
        ActionFailure::LockLost => "killed because a lock file was lost",
        ActionFailure::Cancelled => "killed because it was told to stop",
        ActionFailure::DeleteGuard => "not run because it would have deleted more than max_delete allows",
        ActionFailure::EmptySource => "not run because a source is empty or not mounted",
        ActionFailure::Stalled => "made no progress and was killed",
        ActionFailure::Drift => "found that the replica differs by more than may be",
    }
}

fn job_failure_text(failure: &JobFailure) -> String {
    match failure {
        JobFailure::Action { action, failure } => format!("action {action}: {}", action_failure_text(*failure)),
        JobFailure::Lock => "a lock file could not be taken".to_owned(),
        JobFailure::LockLost => "a lock file was lost".to_owned(),
        JobFailure::Internal => "an error in rsyncdirector itself".to_owned(),
    }
}

/// Why a job is late.
pub fn late_text(last_success: Option<Timestamp>, max_age: Duration) -> String {
    let bound = human::duration(max_age);
    match last_success {
        Some(at) => {
            format!("late: it last succeeded at {}, longer than {bound} ago", at.strftime("%Y-%m-%d %H:%M:%S UTC"))
        }
        None => format!("late: it did not succeed within {bound}"),
    }
}

/// Why a job was not run.
pub fn skip_text(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::Overlap => "it still runs from an earlier trigger",
        SkipReason::BlockTimeout => "a block stayed until the timeout",
        SkipReason::LockTimeout => "a lock file was held by another until the timeout",
        SkipReason::Shutdown => "the director stops",
        SkipReason::Paused => "it is paused",
        SkipReason::Cancelled => "it was cancelled",
        SkipReason::Condition => "a condition does not hold",
        SkipReason::After => "a job that it comes after did not succeed",
    }
}
