//! `locks`: how every lock and block file of a configuration stands, and `locks break`.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::instance::{Which, runtime};
use super::{Exit, complain_of, print};
use crate::config::{Config, JobId, Place};
use crate::event::Events;
use crate::human;
use crate::lock::inventory::{self, Listed, State};
use crate::lock::record::{BreakNote, Holder, Record};
use crate::logging::escaped;
use crate::ssh::Pool;
use crate::{account, clock, daemon};

/// Arguments of `locks`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    which: Which,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Remove a lock file whose holder will not do so, and note beside it who did
    Break {
        /// The file, as `locks` shows it: PATH, or HOST:PATH
        file: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

pub(super) fn run(args: &Args) -> Exit {
    let config = match args.which.config() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    let pool = Pool::new(config.ssh.clone(), Events::new(Vec::new()));
    let exit = runtime.block_on(async {
        let exit = match &args.command {
            None => list(&config, &pool, args.json).await,
            Some(Command::Break { file, yes }) => break_open(&config, &pool, file, *yes).await,
        };
        pool.close(daemon::GOODBYE).await;
        exit
    });
    runtime.shutdown_background();
    exit
}

async fn list(config: &Config, pool: &Pool, as_json: bool) -> Exit {
    let files = inventory::list(config, &daemon::stores(pool.clone())).await;
    let now = clock::now();
    if as_json {
        let listed: Vec<Value> = files.iter().map(|file| describe_as_json(file, now)).collect();
        print(&format!("{:#}", Value::Array(listed)));
    } else if files.is_empty() {
        print("no job has lock files or blocks");
    } else {
        let texts: Vec<String> = files.iter().map(|file| describe(file, now)).collect();
        print(&texts.join("\n"));
    }
    let all_known = files.iter().all(|file| !matches!(file.state, State::Unknown(_)));
    if all_known { Exit::Success } else { Exit::LockFailed }
}

/// Three lines for a person.
fn describe(file: &Listed, now: Timestamp) -> String {
    let role = |what: &str, jobs: &[JobId]| match jobs {
        [] => None,
        jobs => Some(format!("{what} {}", jobs.iter().map(JobId::as_str).collect::<Vec<_>>().join(", "))),
    };
    let roles = [role("lock of", &file.lock_of), role("block of", &file.block_of)];
    let roles: Vec<String> = roles.into_iter().flatten().collect();
    let state = describe_state(&file.state, now);
    format!("{}\n  {}\n  {}", escaped(&file.location.to_string()), roles.join("; "), escaped(&state))
}

fn describe_state(state: &State, now: Timestamp) -> String {
    match state {
        State::Free => "free".into(),
        State::Held(holder @ Holder::Director { record, age }) => {
            format!("held by {} (pid {}, {} s left)", holder.describe(now), record.pid, lease_left(record, *age))
        }
        State::Stale { record, age } => format!(
            "stale: {} did not refresh it for {}; the next job that wants it takes it over",
            record.holder(),
            human::duration(Duration::from_secs(age.as_secs()))
        ),
        State::Held(holder) => format!("held by {}; it stays until it is removed", holder.describe(now)),
        State::Unusable(what) => format!("unusable: there is {what} in its place"),
        State::Unknown(why) => format!("cannot be asked: {why}"),
    }
}

fn lease_left(record: &Record, age: Duration) -> u64 {
    record.lease().saturating_sub(age).as_secs()
}

fn describe_as_json(file: &Listed, now: Timestamp) -> Value {
    let names = |jobs: &[JobId]| jobs.iter().map(|job| job.as_str().to_owned()).collect::<Vec<_>>();
    let (state, record, age, error) = match &file.state {
        State::Free => ("free", None, None, None),
        State::Held(Holder::Director { record, age }) => ("held", Some(record), Some(age), None),
        State::Stale { record, age } => ("stale", Some(record), Some(age), None),
        State::Held(Holder::Other { age, .. }) => ("foreign", None, Some(age), None),
        State::Unusable(what) => ("unusable", None, None, Some((*what).to_owned())),
        State::Unknown(why) => ("unknown", None, None, Some(why.clone())),
    };
    let peer = match &file.location.place {
        Place::Local => Value::Null,
        Place::Remote(peer, _) => json!(peer.to_string()),
    };
    json!({
        "file": file.location.to_string(),
        "peer": peer,
        "path": file.location.path.to_string_lossy(),
        "lock_of": names(&file.lock_of),
        "block_of": names(&file.block_of),
        "state": state,
        "holder": record,
        "age_seconds": age.map(Duration::as_secs),
        "lease_left_seconds": record.zip(age).map(|(record, age)| lease_left(record, *age)),
        "text": describe_state(&file.state, now),
        "error": error,
    })
}

async fn break_open(config: &Config, pool: &Pool, name: &str, yes: bool) -> Exit {
    let stores = daemon::stores(pool.clone());
    let files = inventory::list(config, &stores).await;
    let file = match find(&files, name) {
        Ok(file) => file,
        Err(problem) => {
            complain_of(&problem);
            return Exit::Configuration;
        }
    };
    let now = clock::now();
    let state = describe_state(&file.state, now);
    let (holder, token) = match &file.state {
        State::Free => return print(&format!("{name} is free")),
        State::Held(Holder::Director { record, .. }) | State::Stale { record, .. } => {
            (record.holder(), Some(record.token.clone()))
        }
        State::Held(other) => (other.describe(now), None),
        State::Unusable(_) | State::Unknown(_) => {
            complain_of(&format!("{name} is {state}"));
            return Exit::LockFailed;
        }
    };
    if !(yes || confirmed(file, &state)) {
        complain_of("nothing was broken");
        return Exit::LockFailed;
    }
    match inventory::break_open(&stores, file, BreakNote { by: person(), at: now, token, holder }).await {
        Ok(Ok(())) => print(&format!("broke {name}; noted in {}", escaped(&file.notes().to_string()))),
        Ok(Err(State::Free)) => print(&format!("{name} was released meanwhile")),
        Ok(Err(other)) => {
            complain_of(&format!(
                "{name} changed meanwhile and was left alone: {}",
                describe_state(&other, clock::now())
            ));
            Exit::LockFailed
        }
        Err(why) => {
            complain_of(&format!("could not break {name}: {why}"));
            Exit::LockFailed
        }
    }
}

/// The file that a person means.
fn find<'a>(files: &'a [Listed], name: &str) -> Result<&'a Listed, String> {
    let mut meant = files.iter().filter(|file| file.location.to_string() == name);
    match (meant.next(), meant.next()) {
        (Some(file), None) => Ok(file),
        (Some(_), Some(_)) => Err(format!("the configuration has more than one {name}, with different users or ports")),
        (None, _) if files.is_empty() => Err("no job has lock files or blocks".into()),
        (None, _) => {
            let names: Vec<String> = files.iter().map(|file| file.location.to_string()).collect();
            Err(format!("the configuration has no lock file or block {name}; it has {}", names.join(", ")))
        }
    }
}

/// Asks, on a terminal. Without one, nobody can say yes.
fn confirmed(file: &Listed, state: &str) -> bool {
    let mut out = std::io::stderr();
    let name = escaped(&file.location.to_string()).to_string();
    let _ = writeln!(out, "{name} is {}.", escaped(state));
    if matches!(file.state, State::Held(Holder::Director { .. })) {
        let _ = writeln!(
            out,
            "Its director is alive: it will end what it runs when it finds the lock gone, within a quarter of its lease."
        );
    }
    if !std::io::stdin().is_terminal() {
        complain_of("not on a terminal: use --yes to break it without a question");
        return false;
    }
    let _ = write!(out, "Break it? [y/N] ").and_then(|()| out.flush());
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// Who breaks it: `ann@laptop`, and behind sudo `ann as root@laptop`.
fn person() -> String {
    let user = account::name().unwrap_or_else(|| format!("uid {}", rustix::process::geteuid().as_raw()));
    let host = daemon::host_name();
    match std::env::var("SUDO_USER") {
        Ok(behind) if !behind.is_empty() && behind != user => format!("{behind} as {user}@{host}"),
        _ => format!("{user}@{host}"),
    }
}
