//! The process that verifies: an order comes on standard input, what was found goes to standard output, for people; the last line is for the director.

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use super::engine::{self, Outcome, Progress, Sides};
use super::fallback;
use super::here::Here;
use super::list;
use super::order::Order;
use super::report::{By, Report, Verdict};
use crate::agent::{Agent, ConnectError, priority};
use crate::clock::Ticks;
use crate::logging::escaped_bytes;

/// The first argument that makes the binary this process.
pub const VERIFY: &str = "__verify";
/// What the last line of its output begins with; the report follows, as JSON.
pub const REPORT: &str = "rsyncdirector-verify: ";
/// What a line about its progress begins with; [`engine::Progress`] follows, as JSON.
pub const PROGRESS: &str = "rsyncdirector-verify-progress: ";

/// Progress is told so often at most.
const TOLD_EVERY: Duration = Duration::from_millis(250);
/// So many differences are told to people; the rest is in the list.
const SHOWN: usize = 20;

/// Why there is nothing to be told.
#[derive(Debug, thiserror::Error)]
enum WorkError {
    #[error("the order could not be read")]
    Order(#[source] io::Error),
    #[error("the order is not one")]
    NoOrder(#[from] serde_json::Error),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Verify(#[from] engine::VerifyError),
    #[error("the list of what differs could not be written")]
    List(#[source] io::Error),
}

/// Does what the order says; the verdict is the exit code ([`Verdict::exit_code`]).
pub fn run() -> ExitCode {
    match perform() {
        Ok(report) => {
            let json = serde_json::to_string(&report).unwrap_or_default();
            say(&format!("{REPORT}{json}"));
            ExitCode::from(report.verdict.exit_code())
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "{}", crate::error_chain(&error));
            ExitCode::from(Verdict::Unknown.exit_code())
        }
    }
}

fn perform() -> Result<Report, WorkError> {
    if let Err(error) = priority::lower() {
        // Some containers forbid it; the work is the same.
        let _ = writeln!(io::stderr(), "it runs with the usual priority: {error}");
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(WorkError::Order)?;
    let order: Order = serde_json::from_str(&text)?;
    let sides = open(&order)?;
    let outcome = engine::verify(&order, sides, &mut teller())?;
    if let Some(file) = &order.list {
        let written = outcome.differences().and_then(|differences| list::write(file, differences));
        written.map_err(WorkError::List)?;
    }
    show(&outcome).map_err(WorkError::List)?;
    Ok(outcome.report)
}

/// The two sides of an order.
fn open(order: &Order) -> Result<Sides, WorkError> {
    let here = || Box::new(Here::default());
    let Some(elsewhere) = &order.remote else {
        return Ok(Sides { source: here(), target: here(), by: By::Here });
    };
    // Where the peer has no agent, rsync does.
    let Some(program) = &order.agent else { return Ok(fallback::sides(order, elsewhere, 0)?) };
    let there = match Agent::connect(elsewhere, program) {
        Ok(agent) => Box::new(agent),
        Err(error @ ConnectError::NoAgent { .. }) => {
            say(&format!("{}; rsync compares instead, which takes longer", crate::error_chain(&error)));
            return Ok(fallback::sides(order, elsewhere, 1)?);
        }
        Err(error) => return Err(error.into()),
    };
    let by = By::Agent;
    Ok(match elsewhere.is_source {
        true => Sides { source: there, target: here(), by },
        false => Sides { source: here(), target: there, by },
    })
}

/// Tells how far it is, now and then.
fn teller() -> impl FnMut(Progress) {
    let mut last: Option<Ticks> = None;
    move |progress| {
        if last.is_none_or(|last| last.elapsed() >= TOLD_EVERY) {
            last = Some(Ticks::now());
            say(&format!("{PROGRESS}{}", serde_json::to_string(&progress).unwrap_or_default()));
        }
    }
}

/// Some of what differs, for people.
fn show(outcome: &Outcome) -> io::Result<()> {
    outcome.report.notes.iter().for_each(|note| say(&format!("note: {note}")));
    for found in outcome.differences()?.take(SHOWN) {
        let path = if found.path.is_empty() { ".".to_owned() } else { escaped_bytes(&found.path) };
        let detail = if found.detail.is_empty() { String::new() } else { format!(" ({})", found.detail) };
        say(&format!("{}: {path}{detail}", found.class.name()));
    }
    let more = outcome.report.classes.values().map(|count| count.entries).sum::<u64>().saturating_sub(SHOWN as u64);
    if more > 0 {
        say(&format!("and {more} more: `rsyncdirector verify --diff` and the replica's page list them"));
    }
    Ok(())
}

fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    // Who does not listen does not want to know.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
