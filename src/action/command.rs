//! The command line of a `command` action.

use std::ffi::OsString;

use super::Plan;
use crate::config::Command;

/// A shell line goes to `/bin/sh -c`, since the user wrote a shell line; anything else is executed as it stands.
pub(super) fn plan(command: &Command) -> Plan {
    let (program, args) = match command {
        Command::Shell(line) => (OsString::from("/bin/sh"), vec![OsString::from("-c"), line.clone()]),
        Command::Exec { program, args } => (program.clone(), args.clone()),
    };
    Plan { program, args, is_rsync: false, is_silent: false, peer: None, native: false, split: None, guard: None }
}
