//! The process that verifies.

use std::process::ExitCode;

/// The first argument that makes the binary this process.
pub const VERIFY: &str = "__verify";
/// What the last line of its output begins with; the report follows, as JSON.
pub const REPORT: &str = "rsyncdirector-verify: ";
/// What a line about its progress begins with, where the order asks for them; [`engine::Progress`] follows, as JSON.
pub const PROGRESS: &str = "rsyncdirector-verify-progress: ";

/// Reads an order from standard input, and does it.
pub fn run() -> ExitCode {
    ExitCode::from(1)
}
