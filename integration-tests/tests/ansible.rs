//! The Ansible role, on booted machines that the test reaches by ssh.

mod fleet;
mod instances;
mod takeover;

use integration_tests::playbook::Controller;
use integration_tests::{Machine, director};

/// The variables of a host that gets the program as it was built for the tests, without a package.
fn with_binary(controller: &Controller, host: &str, variables: &str) {
    let binary = director::binary();
    let install = format!("rsyncdirector_install: binary\nrsyncdirector_binary: {}\n", binary.display());
    controller.set(host, &(install + variables));
}

/// The process of an instance.
fn pid(machine: &Machine, instance: &str) -> String {
    machine.sh(&format!("systemctl show --value --property=MainPID rsyncdirector@{instance}"))
}
