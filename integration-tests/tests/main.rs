//! The program with real parts, from outside. One file per theme; each test's name is what it shows.

mod bad_input;
mod blocks;
mod children;
mod cli;
mod config_errors;
mod exclusion;
mod harness;
mod history;
mod jumps;
mod leases;
mod lock_commands;
mod locks;
mod login_shells;
mod metrics;
mod names;
mod outcomes;
mod peers;
mod pid_file;
mod schedule;
mod sftp;
mod shutdown;
mod signals;
mod syncs;
mod transport;
