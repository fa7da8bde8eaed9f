//! The process that verifies: an order comes on standard input, what was found goes to standard output, for people; the last line is for the director.

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use super::engine::{self, Progress, Sides, VerifyError};
use super::here::Here;
use super::order::Order;
use super::report::{By, Report, Verdict};
use crate::clock::Ticks;

/// The first argument that makes the binary this process.
pub const VERIFY: &str = "__verify";
/// What the last line of its output begins with; the report follows, as JSON.
pub const REPORT: &str = "rsyncdirector-verify: ";
/// What a line about its progress begins with, where the order asks for them; [`engine::Progress`] follows, as JSON.
pub const PROGRESS: &str = "rsyncdirector-verify-progress: ";

/// Between two lines about its progress.
const PAUSE: Duration = Duration::from_millis(200);

/// Does what the order says; the verdict is the exit code ([`Verdict::exit_code`]).
pub fn run() -> ExitCode {
    match perform() {
        Ok(report) => {
            let json = serde_json::to_string(&report).unwrap_or_default();
            let mut stdout = io::stdout().lock();
            // Who does not listen does not want to know.
            let _ = writeln!(stdout, "{}\n{REPORT}{json}", report.summary()).and_then(|()| stdout.flush());
            ExitCode::from(report.verdict.exit_code())
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "{}", crate::error_chain(error.as_ref()));
            ExitCode::from(Verdict::Unknown.exit_code())
        }
    }
}

fn perform() -> Result<Report, Box<dyn std::error::Error>> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    let order: Order = serde_json::from_str(&text)?;
    let sides = open(&order)?;
    let mut told = None;
    let mut tell = |progress: Progress| {
        if order.progress && told.is_none_or(|told: Ticks| told.elapsed() >= PAUSE) {
            told = Some(Ticks::now());
            let json = serde_json::to_string(&progress).unwrap_or_default();
            let mut stdout = io::stdout().lock();
            // Who does not listen does not want to know.
            let _ = writeln!(stdout, "{PROGRESS}{json}").and_then(|()| stdout.flush());
        }
    };
    Ok(engine::verify(&order, sides, &mut tell)?)
}

/// The two sides of an order.
///
/// # Errors
/// When one that is elsewhere cannot be reached.
pub fn open(_order: &Order) -> Result<Sides, VerifyError> {
    Ok(Sides { source: Box::new(Here::default()), target: Box::new(Here::default()), by: By::Here })
}
