//! Why a job does not run now, and why it did not the last time. Pure: from the status, the history and the schedule to sentences.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::config::Job;
use crate::history::read::JobRun;
use crate::human;
use crate::schedule::Schedule;
use crate::status::{JobStatus, State, WaitsOn};

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Why {
    /// The job.
    pub job: String,
    /// How it stands now.
    pub now: Reason,
    /// How its last occurrence came out; none if nothing is known of one.
    pub last: Option<Reason>,
    /// When it is due next.
    pub next: Option<Timestamp>,
}

/// A reason, for programs and for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// For programs: one word.
    pub code: String,
    /// For people: a sentence without a full stop.
    pub text: String,
}

/// Judges a job: `status` is none when its instance does not run; `latest` is the newest of it in the history.
pub fn why(job: &Job, status: Option<&JobStatus>, latest: Option<&JobRun>, now: Timestamp) -> Why {
    Why {
        job: job.id.to_string(),
        now: status.map_or_else(not_running, |status| standing(job, status, now)),
        last: latest.map(|latest| occurrence(latest, now)),
        next: status
            .and_then(|status| status.next_run)
            .filter(|_| status.is_some_and(|status| status.paused.is_none())),
    }
}

fn reason(code: &str, text: impl Into<String>) -> Reason {
    Reason { code: code.to_owned(), text: text.into() }
}

fn not_running() -> Reason {
    reason("instance_down", "the instance does not run, so nobody watches its schedule")
}

fn standing(job: &Job, status: &JobStatus, now: Timestamp) -> Reason {
    let since = |at: Timestamp| format!("since {}", moment(at, now));
    match &status.state {
        State::Acting { action, since: at, progress, .. } => {
            let far = progress.map(|progress| format!(", {} % done", progress.percent)).unwrap_or_default();
            reason("running", format!("it runs: action {action} {}{far}", since(*at)))
        }
        State::Busy => reason("running", format!("it runs, {}", status.since.map(since).unwrap_or_default())),
        State::Waiting { on: WaitsOn::Block, file, obstacle, since: at } => {
            reason("blocked", format!("it waits for the block {file} to go away, {obstacle}, {}", since(*at)))
        }
        State::Waiting { on: WaitsOn::Lock, file, obstacle, since: at } => {
            reason("locked_out", format!("it waits for the lock file {file}, {obstacle}, {}", since(*at)))
        }
        State::Pending { since: at } => {
            reason("queued", format!("it waits for its turn, {}: what runs before it is not done", since(*at)))
        }
        State::Idle => idle(job, status, now),
    }
}

fn idle(job: &Job, status: &JobStatus, now: Timestamp) -> Reason {
    if let Some(since) = status.paused {
        return reason("paused", format!("its schedule is paused since {}: `resume` ends that", moment(since, now)));
    }
    let expression = &job.schedule.expression;
    match (status.next_run, &job.schedule.schedule) {
        (Some(next), _) => reason("not_due", format!("it is not due before {} ({expression})", moment(next, now))),
        (None, Schedule::Reboot) => reason("reboot", "its schedule is @reboot: it runs once, when the instance starts"),
        (None, _) => {
            reason("never_scheduled", format!("its schedule never fires: there is no such date ({expression})"))
        }
    }
}

fn occurrence(latest: &JobRun, now: Timestamp) -> Reason {
    let at = moment(latest.started, now);
    let detail = latest.detail.as_deref().unwrap_or("nothing more is known");
    let code = latest.reason.as_deref().unwrap_or(&latest.outcome);
    let text = match latest.outcome.as_str() {
        "succeeded" => format!("{at} it ran and succeeded"),
        "running" => format!("it began {at}"),
        "failed" => format!("{at} it ran and failed: {detail}"),
        "skipped" => format!("{at} it was skipped: {detail}"),
        "missed" => format!(
            "it was missed, found out {at}, since the director was down, the host slept or the clock was set: {detail}"
        ),
        "interrupted" => format!("the run that began {at} was interrupted: {detail}"),
        other => format!("{at} it ended as {other}: {detail}"),
    };
    reason(code, text)
}

/// `11-21 04:00 (3 h ago)`, `11-21 04:00 (in 5 min)`.
fn moment(at: Timestamp, now: Timestamp) -> String {
    let seconds = |from: Timestamp, to: Timestamp| Duration::from_secs(to.as_second().abs_diff(from.as_second()));
    let apart = human::duration(seconds(at, now));
    let relation = if at > now { format!("in {apart}") } else { format!("{apart} ago") };
    format!("{} ({relation})", at.to_zoned(TimeZone::system()).strftime("%m-%d %H:%M"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::JobId;
    use crate::metrics::tests::config;
    use crate::status::Progress;

    const NOW: &str = "2028-01-02T12:00:00Z";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn job(expression: &str) -> Job {
        let mut job = (*config().jobs[0]).clone();
        job.schedule.expression = expression.to_owned();
        job.schedule.schedule = Schedule::parse(expression).unwrap();
        job
    }

    fn status(change: impl FnOnce(&mut JobStatus)) -> JobStatus {
        let mut status = JobStatus::new(&JobId::new("photos"), None);
        status.next_run = Some(at("2028-01-03T03:00:00Z"));
        change(&mut status);
        status
    }

    #[track_caller]
    fn check_now(expression: &str, status: Option<JobStatus>, code: &str, words: &[&str]) {
        let why = why(&job(expression), status.as_ref(), None, at(NOW));
        assert_eq!(why.now.code, code, "{}", why.now.text);
        words.iter().for_each(|word| assert!(why.now.text.contains(word), "{}", why.now.text));
    }

    fn waits(on: WaitsOn, obstacle: &str) -> Option<JobStatus> {
        let (file, obstacle, since) = ("nas:/run/x.lock".to_owned(), obstacle.to_owned(), at("2028-01-02T11:00:00Z"));
        Some(status(|status| status.state = State::Waiting { on, file, obstacle, since }))
    }

    #[test]
    fn how_a_job_stands_now() {
        check_now("@daily", None, "instance_down", &["does not run"]);
        check_now("0 3 * * *", Some(status(|_| {})), "not_due", &["in 15 h", "0 3 * * *"]);
        let never = || Some(status(|status| status.next_run = None));
        check_now("0 0 30 2 *", never(), "never_scheduled", &["no such date"]);
        check_now("@reboot", never(), "reboot", &["when the instance starts"]);
        let paused = status(|status| status.paused = Some(at("2028-01-01T12:00:00Z")));
        check_now("@daily", Some(paused), "paused", &["1 d ago", "resume"]);
        let held = "held by photos@laptop (pid 7)";
        check_now("@daily", waits(WaitsOn::Block, held), "blocked", &["nas:/run/x.lock", held, "1 h ago"]);
        let silent = "cannot be asked: connection refused";
        check_now("@daily", waits(WaitsOn::Block, silent), "blocked", &[silent]);
        check_now("@daily", waits(WaitsOn::Lock, held), "locked_out", &["nas:/run/x.lock", held, "1 h ago"]);
        let since = at("2028-01-02T11:58:00Z");
        let pending = status(|status| status.state = State::Pending { since });
        check_now("@daily", Some(pending), "queued", &["turn", "2 min ago"]);
        let busy = status(|status| (status.state, status.since) = (State::Busy, Some(since)));
        check_now("@daily", Some(busy), "running", &["2 min ago"]);
        let progress = Some(Progress { bytes: 5, percent: 40, rate: 1 });
        let acting = State::Acting { action: "mirror".into(), command: "rsync".into(), since, progress };
        check_now("@daily", Some(status(|status| status.state = acting)), "running", &["mirror", "40 %"]);
    }

    #[track_caller]
    fn check_last(outcome: &str, code: Option<&str>, detail: &str, expected: &str, words: &[&str]) {
        let latest = JobRun {
            id: 1,
            run: Some(1),
            job: "photos".into(),
            trigger: "cron".into(),
            started: at("2028-01-02T03:00:00Z"),
            ended: None,
            outcome: outcome.into(),
            reason: code.map(str::to_owned),
            detail: Some(detail.to_owned()),
            blocked_ms: None,
            locking_ms: None,
            transferred: 0,
            transferred_bytes: 0,
        };
        let last = why(&job("@daily"), None, Some(&latest), at(NOW)).last.unwrap();
        assert_eq!(last.code, expected);
        words.iter().for_each(|word| assert!(last.text.contains(word), "{}", last.text));
        assert!(last.text.contains("9 h ago"), "{}", last.text);
    }

    #[test]
    fn how_the_last_occurrence_came_out() {
        let gave_up = "gave up waiting for nas:/x, held by photos@laptop";
        check_last("skipped", Some("block_timeout"), gave_up, "block_timeout", &["skipped", gave_up]);
        check_last("skipped", Some("lock_timeout"), gave_up, "lock_timeout", &["skipped", gave_up]);
        check_last("skipped", Some("overlap"), "it still runs", "overlap", &["skipped: it still runs"]);
        check_last("skipped", Some("paused"), "it is paused", "paused", &["skipped: it is paused"]);
        check_last("skipped", Some("cancelled"), "it was cancelled", "cancelled", &["was cancelled"]);
        check_last("skipped", Some("condition"), "nothing is mounted at /usb", "condition", &["/usb"]);
        check_last("skipped", Some("after"), "a job that it comes after", "after", &["comes after"]);
        check_last("skipped", Some("shutdown"), "the director stops", "shutdown", &["the director stops"]);
        check_last("missed", Some("missed"), "3 scheduled times passed", "missed", &["was down", "3 scheduled"]);
        check_last("failed", Some("action"), "action a: exit code 23", "action", &["failed: action a: exit code 23"]);
        check_last("failed", Some("lock"), "permission denied", "lock", &["permission denied"]);
        check_last("failed", Some("lock_lost"), "lost lock file", "lock_lost", &["lost lock file"]);
        check_last("failed", Some("cancelled"), "action a: killed", "cancelled", &["killed"]);
        check_last("failed", Some("internal"), "an error in rsyncdirector", "internal", &["an error"]);
        check_last("interrupted", None, "the director ended", "interrupted", &["interrupted: the director ended"]);
        check_last("succeeded", None, "", "succeeded", &["ran and succeeded"]);
        check_last("running", None, "", "running", &["began"]);
    }

    #[test]
    fn nothing_is_known_of_one_that_never_ran() {
        let why = why(&job("@daily"), Some(&status(|_| {})), None, at(NOW));
        assert_eq!((why.last, why.next), (None, Some(at("2028-01-03T03:00:00Z"))));
    }
}
