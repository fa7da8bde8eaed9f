//! `status`: how a running instance and its jobs stand.

use std::io::IsTerminal;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::instance::{Which, ask};
use super::table::{self, Kind, Table, WIDTH};
use super::{Exit, print};
use crate::logging::escaped;
use crate::status::{JobStatus, State, Status, WaitsOn};
use crate::verify::report::Verdict;
use crate::{clock, human};

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Exit {
    match args.which.client().and_then(|client| ask(client.get::<Status>("/v1/status"))) {
        Ok(status) if args.json => print(&format!("{:#}", json!(status))),
        Ok(status) => print(describe(&status, clock::now(), std::io::stdout().is_terminal()).trim_end()),
        Err(exit) => exit,
    }
}

fn describe(status: &Status, now: Timestamp, color: bool) -> String {
    let up = human::duration(since(status.since, now));
    let head = format!("{} {}, pid {}, up {up}", status.instance, status.version, status.pid);
    let is_verified = status.jobs.iter().any(|job| !job.replicas.is_empty());
    let mut columns = vec![
        ("JOB", Kind::Name),
        ("STATE", Kind::Text),
        ("FOR", Kind::Number),
        ("LAST", Kind::Text),
        ("NEXT", Kind::Text),
    ];
    columns.extend(is_verified.then_some(("IN STEP", Kind::Number)));
    let mut table = Table::new(&columns);
    for job in &status.jobs {
        let (state, begun) = state(job);
        let cells = vec![
            escaped(&job.job).into_owned(),
            state,
            begun.map_or("-".to_owned(), |begun| human::duration(whole_seconds(since(begun, now)))),
            last(job, now),
            job.next_run
                .map_or("-".to_owned(), |next| next.to_zoned(TimeZone::system()).strftime("%m-%d %H:%M").to_string()),
        ];
        let in_step = is_verified.then(|| in_step(job));
        table.line(cells.into_iter().chain(in_step), paint(job));
    }
    let notes: String = status.jobs.iter().filter_map(note).map(|note| table::wrap(&escaped(&note), WIDTH)).collect();
    format!("{}\n", escaped(&head)) + &table.render(WIDTH, color) + &notes
}

fn state(job: &JobStatus) -> (String, Option<Timestamp>) {
    match &job.state {
        State::Idle if job.paused.is_some() => ("paused".into(), job.paused),
        State::Idle => ("idle".into(), None),
        State::Pending { since } => ("queued".into(), Some(*since)),
        State::Busy => ("running".into(), job.since),
        State::Waiting { on: WaitsOn::Block, since, .. } => ("blocked".into(), Some(*since)),
        State::Waiting { on: WaitsOn::Lock, since, .. } => ("locked out".into(), Some(*since)),
        State::Acting { progress: Some(progress), since, .. } => {
            (format!("running {} %", progress.percent), Some(*since))
        }
        State::Acting { since, .. } => ("running".into(), Some(*since)),
    }
}

/// `ok 3 h ago`, `failed 5 min ago`; before the first end in this process, the last success.
fn last(job: &JobStatus, now: Timestamp) -> String {
    let ago = |at| format!("{} ago", human::duration(whole_seconds(since(at, now))));
    match (&job.last, job.last_success) {
        (Some(last), _) if last.outcome == "succeeded" => format!("ok {}", ago(last.at)),
        (Some(last), _) => format!("{} {}", last.outcome, ago(last.at)),
        (None, Some(success)) => format!("ok {}", ago(success)),
        (None, None) => "-".into(),
    }
}

/// The share of the replica of the job that is worst, by its last verification.
fn in_step(job: &JobStatus) -> String {
    match job.replicas.iter().min_by(|a, b| a.ratio.total_cmp(&b.ratio)) {
        Some(worst) if worst.ratio < 1.0 => format!("{:.2} %", (worst.ratio * 100.0).min(99.99)),
        Some(_) if job.replicas.iter().any(|replica| replica.verdict == Verdict::Unknown) => "?".into(),
        Some(_) => "100 %".into(),
        None => "-".into(),
    }
}

/// What is worth a sentence: what a job waits for, what it runs, why it failed.
fn note(job: &JobStatus) -> Option<String> {
    let text = match (&job.state, &job.last) {
        (State::Waiting { file, obstacle, .. }, _) => format!("waits for {file}, {obstacle}"),
        (State::Acting { action, progress: Some(progress), .. }, _) => {
            format!("{action}: {}, {}/s", human::bytes(progress.bytes), human::bytes(progress.rate))
        }
        (State::Acting { action, command, .. }, _) => format!("{action}: {command}"),
        (_, Some(last)) => last.detail.clone()?,
        _ => return None,
    };
    Some(format!("{}: {text}", job.job))
}

fn paint(job: &JobStatus) -> &'static str {
    match (&job.state, &job.last) {
        (State::Waiting { .. }, _) => table::YELLOW,
        (State::Idle, _) if job.paused.is_some() => table::YELLOW,
        (State::Idle, Some(last)) if last.outcome == "failed" => table::RED,
        (State::Idle, Some(last)) if last.outcome == "skipped" => table::YELLOW,
        _ => "",
    }
}

fn since(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(at)).unwrap_or_default()
}

/// Without the parts that nobody wants to know.
fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}
