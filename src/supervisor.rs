//! What the service manager is told, where there is one: sd_notify(3).
//!
//! That the instance is ready, that it stops, that it lives ([`sign_of_life`]), and in a line how it stands ([`StatusLine`]),
//! which `systemctl status` shows. Nothing of it fails anything: who is not told goes by what he sees.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use sd_notify::NotifyState;

use crate::event::{JobEvent, Observer, RunEvent};
use crate::human::count;
use crate::logging::escaped;
use crate::status::{Board, JobStatus, State, Status};

/// How many signs of life there are in the time after which the manager takes us for dead (sd_watchdog_enabled(3)).
const SIGNS: u32 = 2;

/// The instance serves.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// It ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// It lives.
pub fn sign_of_life() {
    tell(&[NotifyState::Watchdog]);
}

/// How often signs of life are to be given; `None` if nobody waits for them.
pub fn interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / SIGNS).filter(|interval| !interval.is_zero())
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("systemd could not be told: {error}");
    }
}

/// Tells in a line how the instance stands, whenever that changes.
pub struct StatusLine {
    board: Arc<Board>,
    told: Mutex<String>,
}

impl StatusLine {
    /// One that reads this board; `None` if nobody wants to know.
    pub fn new(board: &Arc<Board>) -> Option<Self> {
        let is_wanted = std::env::var_os("NOTIFY_SOCKET").is_some();
        is_wanted.then(|| Self { board: Arc::clone(board), told: Mutex::default() })
    }

    fn refresh(&self) {
        let line = line(&self.board.status(), &TimeZone::system());
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != line {
            tell(&[NotifyState::Status(&line)]);
            *told = line;
        }
    }
}

/// Told after the board, by the order in which observers stand.
impl Observer for StatusLine {
    fn observe(&self, _at: Timestamp, event: &RunEvent) {
        match event {
            RunEvent::Job { event: JobEvent::Progress { .. }, .. } => {}
            RunEvent::Job { .. } => self.refresh(),
            _ => {}
        }
    }

    fn configured(&self, _config: &crate::config::Config) {
        self.refresh();
    }
}

/// What runs; if nothing does, what is next. And what did not succeed last.
fn line(status: &Status, zone: &TimeZone) -> String {
    let busy: Vec<String> = status.jobs.iter().filter_map(doing).collect();
    let mut line = if busy.is_empty() { next(status, zone) } else { busy.join("; ") };
    let failed = status.jobs.iter().filter(|job| job.last.as_ref().is_some_and(|last| last.outcome != "succeeded"));
    let failed: Vec<&str> = failed.map(|job| job.job.as_str()).collect();
    if !failed.is_empty() {
        line += &format!(" (not successful last: {})", failed.join(", "));
    }
    // A line feed would begin another assignment.
    escaped(&line).into_owned()
}

fn doing(job: &JobStatus) -> Option<String> {
    let name = &job.job;
    match &job.state {
        State::Idle => None,
        State::Pending { .. } => Some(format!("{name} is queued")),
        State::Busy => Some(format!("{name} runs")),
        State::Waiting { file, .. } => Some(format!("{name} waits for {file}")),
        State::Acting { action, .. } => Some(format!("{name} runs {action}")),
    }
}

fn next(status: &Status, zone: &TimeZone) -> String {
    let jobs = count(status.jobs.len() as u64, "job", "jobs");
    let due = status.jobs.iter().filter(|job| job.paused.is_none());
    match due.filter_map(|job| Some((job.next_run?, &job.job))).min() {
        Some((at, job)) => {
            let at = at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string();
            format!("idle, {jobs}; next: {job} at {at}")
        }
        None => format!("idle, {jobs}; none is due"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::JobId;
    use crate::status::Ended;

    fn job(name: &str, state: State, next: Option<i64>) -> JobStatus {
        let next_run = next.map(|second| Timestamp::from_second(second).expect("a time"));
        JobStatus { state, next_run, ..JobStatus::new(&JobId::new(name), None) }
    }

    fn check(jobs: Vec<JobStatus>, expected: &str) {
        let (instance, version) = ("laptop".to_owned(), "2".to_owned());
        let status = Status { instance, version, pid: 1, since: Timestamp::UNIX_EPOCH, config: "c".into(), jobs };
        assert_eq!(line(&status, &TimeZone::UTC), expected);
    }

    #[test]
    fn an_idle_instance_tells_what_is_next() {
        let paused = JobStatus { paused: Some(Timestamp::UNIX_EPOCH), ..job("mail", State::Idle, Some(60)) };
        let jobs = vec![job("photos", State::Idle, Some(7200)), job("music", State::Idle, Some(3600)), paused.clone()];
        check(jobs, "idle, 3 jobs; next: music at 1970-01-01 01:00:00 UTC");
        check(vec![paused], "idle, 1 job; none is due");
    }

    #[test]
    fn a_busy_one_tells_what_runs_and_what_is_waited_for() {
        let since = Timestamp::UNIX_EPOCH;
        let acting = State::Acting { action: "mirror".into(), command: "rsync".into(), since, progress: None };
        let on = crate::status::WaitsOn::Lock;
        let waiting = State::Waiting { on, file: "nas:/x".into(), obstacle: "held".into(), since };
        check(
            vec![job("a", acting, None), job("b", waiting, None), job("c", State::Idle, None)],
            "a runs mirror; b waits for nas:/x",
        );
        check(vec![job("a", State::Busy, None), job("b", State::Pending { since }, None)], "a runs; b is queued");
    }

    #[test]
    fn what_failed_is_named_and_no_name_begins_another_line() {
        let ended = |outcome: &str| Ended {
            run: None,
            at: Timestamp::UNIX_EPOCH,
            outcome: outcome.to_owned(),
            detail: None,
            seconds: 1.0,
        };
        let with = |name, outcome| JobStatus { last: Some(ended(outcome)), ..job(name, State::Idle, None) };
        let jobs = vec![with("a", "failed"), with("b", "succeeded"), with("c\nMAINPID=1", "skipped")];
        check(jobs, "idle, 3 jobs; none is due (not successful last: a, c\\nMAINPID=1)");
    }
}
