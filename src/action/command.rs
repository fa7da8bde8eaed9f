//! The command line of a `command` action.

use super::Plan;
use crate::config::Command;

/// Executes it as it stands.
pub(super) fn plan(command: &Command) -> Plan {
    let (program, args) = command.argv();
    Plan::of(program, args)
}
