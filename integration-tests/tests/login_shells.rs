//! The protocol over SSH does not care which login shell the account has.

use integration_tests::{Sandbox, Sshd};

use crate::leases::SHORT;

/// An sshd that runs each command as one with this login shell does: `SHELL -c COMMAND`.
#[track_caller]
fn locks_are_taken_kept_and_released(shell: &str) {
    let sandbox = Sandbox::new();
    let forced = sandbox.script("login-shell", &format!("exec {shell} -c \"$SSH_ORIGINAL_COMMAND\"\n"));
    let _peer = Sshd::start_with(&sandbox, "peer", &format!("ForceCommand {}", forced.display()));
    sandbox.write("seen", "");
    let jobs = "jobs:
- {id: j, type: local, lock_files: [{type: remote, <peer>, path: \"@/a dir's/a.lock\"}], blocks_on: [{type: remote, <peer>, path: \"@/b\"}],
   actions: [{action: command, id: c, command: 'touch @/began; until [ \"@/a dir''s/a.lock\" -nt @/began ]; do sleep 0.1; done; cp \"@/a dir''s/a.lock\" @/seen'}]}
";
    sandbox.once(&sandbox.config(&format!("{SHORT}{jobs}"))).expect_code(0);
    assert_eq!(sandbox.lines("seen").len(), 2, "it was there when it had been refreshed");
    assert!(!sandbox.exists("a dir's/a.lock"));
    sandbox.write("b", "");
    let blocked = jobs.replace("path: \"@/b\"", "path: \"@/b\", timeout: 0.1");
    sandbox.once(&sandbox.config(&blocked)).expect_code(1).expect_said("gave up waiting");
}

#[test]
fn of_csh() {
    locks_are_taken_kept_and_released("tcsh");
}

#[test]
fn of_fish() {
    locks_are_taken_kept_and_released("fish");
}

#[test]
fn of_dash() {
    locks_are_taken_kept_and_released("dash");
}
