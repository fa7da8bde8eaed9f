//! `history`: what ran and how it ended; `show`: one run with what its actions printed.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::follow::follow;
use super::instance::{Which, runtime};
use super::table::{self, Kind, Table, WIDTH};
use super::{Exit, complain, complain_of, print};
use crate::config::Config;
use crate::control::{self, Client};
use crate::history::read::{self, ActionRun, Filter, JobRun, OutputLine};
use crate::history::schema;
use crate::logging::escaped;
use crate::{clock, daemon, human};

/// Arguments of `history`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// Only this job
    #[arg(long, value_name = "ID")]
    job: Option<String>,
    /// Only what did not succeed
    #[arg(long)]
    failed: bool,
    /// How many to show, the latest first
    #[arg(long, short = 'n', default_value_t = 20, value_name = "COUNT")]
    count: u32,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// The run, as `history` and the log number it; the latest by default
    run: Option<i64>,
    /// Go on until the run is over, with what its actions print
    #[arg(long, short, conflicts_with = "json")]
    follow: bool,
    #[command(flatten)]
    which: Which,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Exit {
    let nothing = if args.json { "[]" } else { "nothing ran yet" };
    answer(&args.which, nothing, |config, database| {
        if let Some(job) = &args.job
            && !config.jobs.iter().any(|known| known.id.as_str() == job)
            && read::jobs(database, &Filter { job: Some(job.clone()), failed: false, limit: 1 })?.is_empty()
        {
            complain_of(&super::run::unknown_job(job, config));
            return Ok(Exit::Configuration);
        }
        let filter = Filter { job: args.job.clone(), failed: args.failed, limit: args.count };
        let runs = read::jobs(database, &filter)?;
        Ok(match runs.is_empty() {
            _ if args.json => print(&format!("{:#}", json!(runs))),
            true => print("nothing ran yet"),
            false => print(list(&runs, std::io::stdout().is_terminal()).trim_end()),
        })
    })
}

pub(super) fn show(args: &ShowArgs) -> Exit {
    let nothing = if args.json { "null" } else { "nothing ran yet" };
    answer(&args.which, nothing, |config, database| {
        let run = match args.run {
            Some(run) => Some(run),
            None => read::latest_run(database)?,
        };
        let Some(run) = run else {
            complain_of("nothing ran yet");
            return Ok(Exit::NotFound);
        };
        let jobs = read::jobs_of(database, run)?;
        if jobs.is_empty() {
            complain_of(&format!("there is no run {run} in the history"));
            return Ok(Exit::NotFound);
        }
        if args.follow {
            let runtime = match runtime() {
                Ok(runtime) => runtime,
                Err(exit) => return Ok(exit),
            };
            follow(database, Client::new(control::find(config)), &runtime, run)?;
            return Ok(Exit::Success);
        }
        if args.json {
            let jobs: Result<Vec<Value>, _> = jobs.iter().map(|job| job_as_json(database, job)).collect();
            return Ok(print(&format!("{:#}", json!({ "run": run, "jobs": jobs? }))));
        }
        let mut out = Vec::new();
        for job in &jobs {
            describe(database, job, &mut out)?;
        }
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(&out).and_then(|()| stdout.flush());
        Ok(Exit::Success)
    })
}

/// Opens the instance's history and asks it something; prints `nothing` when there is none yet.
fn answer(which: &Which, nothing: &str, ask: impl FnOnce(&Config, &Connection) -> rusqlite::Result<Exit>) -> Exit {
    let config = match which.config() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let Some(path) = daemon::history_of(&config) else {
        complain_of("there is no directory for a history: set `state_dir`");
        return Exit::NotFound;
    };
    let database = match schema::open_read_only(&path) {
        Ok(Some(database)) => database,
        Ok(None) => return print(nothing),
        Err(error) => {
            complain(&error);
            return Exit::NotFound;
        }
    };
    ask(&config, &database).unwrap_or_else(|error| {
        complain_of(&format!("the history {} cannot be read: {error}", path.display()));
        Exit::NotFound
    })
}

fn list(runs: &[JobRun], color: bool) -> String {
    let columns = [
        ("RUN", Kind::Text),
        ("STARTED", Kind::Text),
        ("JOB", Kind::Name),
        ("BY", Kind::Text),
        ("RESULT", Kind::Text),
        ("TOOK", Kind::Number),
        ("FILES", Kind::Number),
        ("SIZE", Kind::Number),
    ];
    let mut table = Table::new(&columns);
    for run in runs {
        let moved = run.transferred > 0;
        let cells = [
            run.run.map_or("-".to_owned(), |run| run.to_string()),
            local(run.started),
            escaped(&run.job).into_owned(),
            run.trigger.clone(),
            run.outcome.clone(),
            took(run.started, run.ended, &run.outcome).map_or("-".to_owned(), human::duration),
            if moved { run.transferred.to_string() } else { "-".to_owned() },
            if moved { human::bytes(run.transferred_bytes.unsigned_abs()) } else { "-".to_owned() },
        ];
        table.line(cells, paint(&run.outcome));
    }
    let why = runs.iter().filter_map(|run| {
        let name = run.run.map_or_else(|| local(run.started), |run| run.to_string());
        Some(table::wrap(&escaped(&format!("{name} {}: {}", run.job, run.detail.as_ref()?)), WIDTH))
    });
    let why: String = why.collect();
    table.render(WIDTH, color) + &why
}

fn paint(outcome: &str) -> &'static str {
    match outcome {
        "succeeded" | "running" => "",
        "skipped" | "missed" => table::YELLOW,
        _ => table::RED,
    }
}

/// How long it took; so far, if it runs.
fn took(started: Timestamp, ended: Option<Timestamp>, outcome: &str) -> Option<Duration> {
    let until = ended.or_else(|| (outcome == "running").then(clock::now))?;
    Duration::try_from(until.duration_since(started)).ok()
}

fn local(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%m-%d %H:%M:%S").to_string()
}

/// A job for a person: what it was, its actions, what they printed.
fn describe(database: &Connection, job: &JobRun, out: &mut Vec<u8>) -> rusqlite::Result<()> {
    let at = job.started.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %:z");
    let time = took(job.started, job.ended, &job.outcome).map(|time| format!(" after {}", human::duration(time)));
    let why = job.detail.as_ref().map(|detail| format!(": {detail}"));
    let line = format!(
        "{}: {}{}{}, started {at} by {}",
        job.job,
        job.outcome,
        time.unwrap_or_default(),
        why.unwrap_or_default(),
        job.trigger
    );
    say(out, "", &line);
    let waits = [("blocks", job.blocked_ms), ("locks", job.locking_ms)];
    for (what, waited) in waits {
        if let Some(waited) = waited.and_then(|waited| u64::try_from(waited).ok()).filter(|waited| *waited >= 1000) {
            say(out, "  ", &format!("waited {} for {what}", human::duration(Duration::from_millis(waited))));
        }
    }
    for action in read::actions(database, job.id)? {
        describe_action(database, &action, out)?;
    }
    Ok(())
}

fn describe_action(database: &Connection, action: &ActionRun, out: &mut Vec<u8>) -> rusqlite::Result<()> {
    describe_end_of(action, out);
    say(out, "    $ ", &action.command);
    for line in read::output(database, action.id)? {
        match line {
            OutputLine::Out(line) => say(out, "    | ", &String::from_utf8_lossy(&line)),
            OutputLine::Error(line) => say(out, "    ! ", &String::from_utf8_lossy(&line)),
            OutputLine::Gap(lines) => say(out, "    ", &format!("… {lines} lines were not kept …")),
        }
    }
    Ok(())
}

/// How an action came out, and what it moved.
pub(super) fn describe_end_of(action: &ActionRun, out: &mut Vec<u8>) {
    let time =
        took(action.started, action.ended, &action.outcome).map(|time| format!(" after {}", human::duration(time)));
    let why = action.message.as_ref().filter(|message| !message.is_empty()).map(|message| format!(": {message}"));
    let line = format!("{}: {}{}{}", action.action, action.outcome, time.unwrap_or_default(), why.unwrap_or_default());
    say(out, "  ", &line);
    if let Some(stats) = &action.stats {
        let moved = human::bytes(stats.transferred_bytes.unsigned_abs());
        let (transferred, files, deleted) = (stats.transferred, stats.files, stats.deleted);
        say(out, "    ", &format!("{transferred} of {files} files transferred, {moved}, {deleted} deleted"));
    }
}

/// How a job came out.
pub(super) fn describe_end(job: &JobRun, out: &mut Vec<u8>) {
    let time = took(job.started, job.ended, &job.outcome).map(|time| format!(" after {}", human::duration(time)));
    let why = job.detail.as_ref().map(|detail| format!(": {detail}"));
    say(out, "", &format!("{}: {}{}{}", job.job, job.outcome, time.unwrap_or_default(), why.unwrap_or_default()));
}

/// A line whose harmful characters are escaped.
pub(super) fn say(out: &mut Vec<u8>, indent: &str, text: &str) {
    // Writing to memory does not fail.
    let _ = writeln!(out, "{indent}{}", escaped(text));
}

fn job_as_json(database: &Connection, job: &JobRun) -> rusqlite::Result<Value> {
    let actions: Result<Vec<Value>, _> = read::actions(database, job.id)?
        .iter()
        .map(|action| {
            let mut value = json!(action);
            value["output"] = read::output(database, action.id)?.iter().map(line_as_json).collect();
            Ok::<_, rusqlite::Error>(value)
        })
        .collect();
    let mut value = json!(job);
    value["actions"] = actions?.into();
    Ok(value)
}

fn line_as_json(line: &OutputLine) -> Value {
    let text = |line: &[u8]| String::from_utf8_lossy(line).into_owned();
    match line {
        OutputLine::Out(line) => json!({ "stream": "stdout", "text": text(line) }),
        OutputLine::Error(line) => json!({ "stream": "stderr", "text": text(line) }),
        OutputLine::Gap(lines) => json!({ "left_out": lines }),
    }
}
