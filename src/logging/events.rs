//! The events of runs, as log lines.
//!
//! Failures are errors; waits, skips, retries and successes with a reservation are warnings; what a job does is
//! information; what only matters when something is looked into is for DEBUG. Progress is not logged.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use tracing::Level;

use super::Log;
use super::format::{Entry, Subject};
use super::outcome::{self, Causes};
use crate::config::ActionId;
use crate::event::{
    ActionFailure, ActionReport, ExitStatus, JobEvent, JobFailure, JobOutcome, Observer, RunEvent, Trigger,
};
use crate::human;

/// Writes what happens to the log.
#[derive(Debug)]
pub struct EventLog {
    log: Log,
    timezone: TimeZone,
    causes: Mutex<Causes>,
}

impl EventLog {
    /// An observer that writes to `log`.
    pub fn new(log: Log) -> Self {
        Self { log, timezone: TimeZone::system(), causes: Mutex::default() }
    }

    fn line(&self, event: &RunEvent) -> Option<Line> {
        let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        causes.observe(event);
        match event {
            RunEvent::Job { job, event: JobEvent::Finished { outcome, duration }, .. } => {
                Some(finished(outcome, *duration, causes.explain(job, outcome)))
            }
            RunEvent::Job { event: JobEvent::NextRun(next), .. } => Some(next_run(*next, &self.timezone)),
            RunEvent::Job { event, .. } => job_line(event),
            other => run_line(other),
        }
    }
}

impl Observer for EventLog {
    fn observe(&self, at: Timestamp, event: &RunEvent) {
        let Some((level, text)) = self.line(event) else { return };
        self.log.entry(&Entry { at, level, subject: subject(event), text: &text });
    }
}

type Line = (Level, Cow<'static, str>);

fn line(level: Level, text: impl Into<Cow<'static, str>>) -> Line {
    (level, text.into())
}

fn subject(event: &RunEvent) -> Subject<'_> {
    match event {
        RunEvent::RunStarted { run, .. } | RunEvent::RunFinished { run, .. } => {
            Subject { run: Some(*run), ..Subject::default() }
        }
        RunEvent::Job { run, job, event } => Subject { run: *run, job: Some(job), action: action(event) },
        RunEvent::PeerConnected { .. } | RunEvent::PeerFailed { .. } => Subject::default(),
    }
}

fn action(event: &JobEvent) -> Option<&ActionId> {
    match event {
        JobEvent::ActionStarted { action, .. }
        | JobEvent::Split { action, .. }
        | JobEvent::Progress { action, .. }
        | JobEvent::Retry { action, .. }
        | JobEvent::Stalled { action, .. }
        | JobEvent::RsyncExit { action, .. }
        | JobEvent::Verified { action, .. }
        | JobEvent::ActionFinished { action, .. } => Some(action),
        _ => None,
    }
}

fn run_line(event: &RunEvent) -> Option<Line> {
    match event {
        RunEvent::RunStarted { run, trigger } => {
            Some(line(Level::INFO, format!("run {run} started by {}", trigger_text(*trigger))))
        }
        RunEvent::RunFinished { run, duration } => {
            Some(line(Level::INFO, format!("run {run} finished after {}", human::duration(*duration))))
        }
        RunEvent::PeerConnected { peer } => Some(line(Level::INFO, format!("connected to {peer}"))),
        RunEvent::PeerFailed { peer, reason } => {
            Some(line(Level::WARN, format!("could not connect to {peer}: {}", peer_reason_text(reason))))
        }
        RunEvent::Job { .. } => None,
    }
}

fn job_line(event: &JobEvent) -> Option<Line> {
    Some(match event {
        JobEvent::Started { trigger } => line(Level::INFO, format!("started by {}", trigger_text(*trigger))),
        JobEvent::BlockWait { file, obstacle, next_look } => {
            line(Level::WARN, wait_text("waiting for", file, &outcome::obstacle_text(obstacle), *next_look))
        }
        JobEvent::LockWait { file, obstacle, next_look } => {
            line(Level::WARN, wait_text("waiting to lock", file, &outcome::obstacle_text(obstacle), *next_look))
        }
        JobEvent::BlocksDone { waited } => {
            line(if_noticed(*waited), format!("waited {} for its blocks", human::duration(*waited)))
        }
        JobEvent::LockTakenOver { file, holder } => {
            line(Level::WARN, format!("took over the stale lock file {file} of {holder}"))
        }
        JobEvent::Locked { local, remote, waited } => return locked(*local, *remote, *waited),
        JobEvent::LockLost { file, reason } => line(Level::ERROR, format!("lost lock file {file}: {reason}")),
        JobEvent::Released { left_behind } => released(left_behind),
        JobEvent::ActionStarted { command, .. } => line(Level::INFO, command.clone()),
        JobEvent::Split { rsyncs, files, bytes, .. } => {
            let files = human::count(*files as u64, "file", "files");
            line(Level::INFO, format!("{rsyncs} rsyncs at once: {files}, {}", human::bytes(*bytes)))
        }
        JobEvent::Retry { message, pause, .. } => {
            line(Level::WARN, format!("{message}, trying again in {}", human::duration(*pause)))
        }
        JobEvent::Stalled { idle, .. } => {
            line(Level::WARN, format!("no progress for {}: killing rsync", human::duration(*idle)))
        }
        JobEvent::RsyncExit { code, .. } => line(Level::DEBUG, format!("rsync ended with exit code {code}")),
        JobEvent::Verified { report, .. } => line(Level::DEBUG, report.summary()),
        JobEvent::ActionFinished { report, .. } => action_finished(report),
        JobEvent::Late { last_success, max_age } => line(Level::ERROR, outcome::late_text(*last_success, *max_age)),
        JobEvent::NotRun { reason, trigger } => {
            line(Level::WARN, format!("not run by {}: {}", trigger_text(*trigger), outcome::skip_text(*reason)))
        }
        JobEvent::Missed { count } => line(
            Level::WARN,
            format!(
                "missed {} while the director was down, the host slept or the clock was set",
                human::count(*count, "run", "runs")
            ),
        ),
        JobEvent::Again { left } => {
            let more = if *left > 0 {
                format!(", and {} after that", human::count(u64::from(*left), "time", "times"))
            } else {
                String::new()
            };
            line(Level::WARN, format!("is run again at the end of this run{more}"))
        }
        JobEvent::Paused { since: Some(since) } => line(Level::WARN, format!("paused since {since:.0}")),
        JobEvent::Paused { since: None } => line(Level::INFO, "resumed".to_owned()),
        JobEvent::Pending
        | JobEvent::Unmet { .. }
        | JobEvent::Progress { .. }
        | JobEvent::Finished { .. }
        | JobEvent::NextRun(_) => {
            return None;
        }
    })
}

fn wait_text(what: &str, file: &str, obstacle: &str, next_look: Option<Duration>) -> String {
    match next_look {
        Some(pause) => format!("{what} {file}, {obstacle}, next look in {}", human::duration(pause)),
        None => format!("gave up {what} {file}, {obstacle}"),
    }
}

/// A wait that nobody would notice is not worth a line.
fn if_noticed(waited: Duration) -> Level {
    if waited >= Duration::from_secs(1) { Level::INFO } else { Level::DEBUG }
}

fn locked(local: usize, remote: usize, waited: Duration) -> Option<Line> {
    let places = match (local, remote) {
        (0, 0) => return None,
        (here, 0) => format!("{here} here"),
        (0, there) => format!("{there} on other hosts"),
        (here, there) => format!("{here} here, {there} on other hosts"),
    };
    Some(line(Level::INFO, format!("holds its lock files ({places}) after {}", human::duration(waited))))
}

fn released(left_behind: &[String]) -> Line {
    if left_behind.is_empty() {
        return line(Level::DEBUG, "released its lock files");
    }
    line(Level::WARN, format!("could not remove lock files, their leases will end: {}", left_behind.join("; ")))
}

fn action_finished(report: &ActionReport) -> Line {
    let duration = human::duration(report.duration);
    if let Some(why) = outcome::failure_text(report) {
        let level = if report.failure == Some(ActionFailure::Cancelled) { Level::WARN } else { Level::ERROR };
        return line(level, format!("failed after {duration}: {why}"));
    }
    let mut text = format!("done in {duration}");
    if let Some(moved) = outcome::moved_text(report) {
        text += ", ";
        text += &moved;
    }
    if report.message.is_empty() {
        return line(Level::INFO, text);
    }
    if report.status == Some(ExitStatus::Code(0)) {
        return line(Level::INFO, format!("{text}: {}", report.message));
    }
    let why = match report.status {
        Some(status) => outcome::with_message(&outcome::status_text(status), &report.message),
        None => report.message.clone(),
    };
    line(Level::WARN, format!("{text}, but {why}"))
}

fn finished(outcome: &JobOutcome, duration: Duration, why: Option<String>) -> Line {
    let duration = human::duration(duration);
    let why = why.unwrap_or_default();
    match outcome {
        JobOutcome::Succeeded => line(Level::INFO, format!("succeeded in {duration}")),
        JobOutcome::Failed(JobFailure::Action { failure: ActionFailure::Cancelled, .. }) => {
            line(Level::WARN, format!("stopped after {duration}: {why}"))
        }
        JobOutcome::Failed(_) => line(Level::ERROR, format!("failed after {duration}: {why}")),
        JobOutcome::Skipped(_) => line(Level::WARN, format!("skipped after {duration}: {why}")),
    }
}

fn next_run(next: Option<Timestamp>, timezone: &TimeZone) -> Line {
    match next {
        Some(at) => {
            let local = at.to_zoned(timezone.clone());
            line(Level::INFO, format!("next run at {}", local.strftime("%Y-%m-%d %H:%M:%S %:z")))
        }
        None => line(Level::INFO, "no next run is due"),
    }
}

fn trigger_text(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Cron => "the schedule",
        Trigger::Hup => "SIGHUP",
        Trigger::Once => "--once",
        Trigger::Now => "order",
        Trigger::CatchUp => "the schedule, for a missed time",
    }
}

/// The label value of [`RunEvent::PeerFailed`] in words.
fn peer_reason_text(reason: &'static str) -> &'static str {
    match reason {
        "unreachable" => "it cannot be reached",
        "timeout" => "no answer in time",
        "host_key" => "its host key is not accepted",
        "auth" => "it refuses the login",
        "key" => "the private key cannot be used",
        "protocol" => "an SSH protocol error",
        other => other,
    }
}

#[cfg(test)]
mod tests;
