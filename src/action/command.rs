//! The command line of a `command` action.

use super::Plan;
use crate::config::Command;

/// Executes it as it stands.
pub(super) fn plan(command: &Command) -> Plan {
    let (program, args) = command.argv();
    Plan {
        program,
        args,
        is_rsync: false,
        is_silent: false,
        peer: None,
        native: false,
        split: None,
        guard: None,
        stdin: None,
        verification: None,
    }
}
