//! The director for rsync on Linux fleets, as a library under a thin binary.
//!
//! Modules in reading order: what happens ([`event`]), what is configured ([`config`], [`schedule`]), what decides
//! ([`director`], [`job`]), what acts ([`action`], [`rsync`], [`process`], [`lock`], [`ssh`]), what tells
//! ([`metrics`], [`http`], [`logging`]), and what puts it together ([`daemon`], [`cli`]).
//!
//! `ARCHITECTURE.md` is the map: the layers, the invariants and what is deliberately absent.

pub mod account;
pub mod event;
pub mod human;
pub mod redact;

pub mod config;
pub mod schedule;

pub mod director;
pub mod job;

pub mod action;
pub mod agent;
pub mod clock;
pub mod descriptor;
pub mod lock;
pub mod patient;
pub mod process;
pub mod random;
pub mod rsync;
pub mod scan;
pub mod ssh;
pub mod status;
pub mod supervisor;
pub mod verify;
pub mod warrant;
pub mod why;

pub mod control;
pub mod history;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod notify;
pub mod page;

pub mod cli;
pub mod daemon;
pub mod doctor;

pub mod gate;
pub mod pid_file;

/// The program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// An error and its causes in one line: `could not x: because of y: permission denied`.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors repeat their source in their own text.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
