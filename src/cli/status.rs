//! `status`: how a running instance and its jobs stand.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::table::{self, Kind, Table};
use super::{Exit, complain, complain_of, config_path, load, print};
use crate::control::{self, Client};
use crate::logging::escaped;
use crate::status::{JobStatus, State, Status, WaitsOn};
use crate::{clock, human};

/// Columns of a line.
const WIDTH: usize = 80;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Exit {
    let config = match config_path(args.config.as_ref()).and_then(|path| load(&path)) {
        Ok(loaded) => loaded.config,
        Err(exit) => return exit,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain_of(&format!("could not start the runtime: {error}"));
            return Exit::CannotStart;
        }
    };
    match runtime.block_on(Client::new(control::path(&config)).get::<Status>("/v1/status")) {
        Ok(status) if args.json => print(&format!("{:#}", json!(status))),
        Ok(status) => print(describe(&status, clock::now(), std::io::stdout().is_terminal()).trim_end()),
        Err(error) => {
            complain(&error);
            Exit::NotFound
        }
    }
}

fn describe(status: &Status, now: Timestamp, color: bool) -> String {
    let up = human::duration(since(status.since, now));
    let head = format!("{} {}, pid {}, up {up}\n", status.instance, status.version, status.pid);
    let columns =
        [("JOB", Kind::Name), ("STATE", Kind::Text), ("FOR", Kind::Number), ("LAST", Kind::Text), ("NEXT", Kind::Text)];
    let mut table = Table::new(&columns);
    for job in &status.jobs {
        let (state, begun) = state(job);
        let cells = [
            escaped(&job.job).into_owned(),
            state,
            begun.map_or("-".to_owned(), |begun| human::duration(whole_seconds(since(begun, now)))),
            last(job, now),
            job.next_run
                .map_or("-".to_owned(), |next| next.to_zoned(TimeZone::system()).strftime("%m-%d %H:%M").to_string()),
        ];
        table.line(cells, paint(job));
    }
    let notes: String = status.jobs.iter().filter_map(note).map(|note| table::wrap(&escaped(&note), WIDTH)).collect();
    escaped_head(&head) + &table.render(WIDTH, color) + &notes
}

fn escaped_head(head: &str) -> String {
    format!("{}\n", escaped(head.trim_end()))
}

fn state(job: &JobStatus) -> (String, Option<Timestamp>) {
    match &job.state {
        State::Idle => ("idle".into(), None),
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
