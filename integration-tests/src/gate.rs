//! A peer whose one key stands behind the gate.

use std::path::Path;
use std::process::Command;

use crate::{Sandbox, Sshd, director, keys};

/// Starts a peer that lets in the sandbox's key by `rsyncdirector gate` alone, under this policy (`@/` stands for the sandbox).
///
/// # Panics
/// When the line of `authorized_keys` cannot be made.
pub fn gated(sandbox: &Sandbox, name: &str, policy: &str) -> Sshd {
    let peer = Sshd::start_with(sandbox, name, "Subsystem sftp internal-sftp");
    let policy = sandbox.write(format!("{name}.gate.yaml"), sandbox.expand(policy));
    put_behind(sandbox, name, &policy);
    peer
}

/// Lets a peer accept the sandbox's key behind the gate only.
pub fn put_behind(sandbox: &Sandbox, name: &str, policy: &Path) {
    let key = sandbox.write("id_user.public", format!("{} test\n", keys::public(&sandbox.user_key())));
    let program = director::binary();
    let mut command = sandbox.command();
    command.args(["gate", "keyline", "--program"]).arg(program).arg("--policy").arg(policy).arg(key);
    let line = director::Finished::of(command);
    line.expect_code(0);
    sandbox.write(format!("sshd-{name}/authorized_keys"), &line.stdout);
}

/// What a plain client gets for a command.
pub fn ssh(sandbox: &Sandbox, peer: &Sshd, args: &[&str]) -> director::Finished {
    let mut command = Command::new("ssh");
    let known_hosts = format!("UserKnownHostsFile={}", sandbox.path("known_hosts").display());
    command.args(["-F", "none", "-o", &known_hosts, "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-i"]);
    command.arg(sandbox.user_key()).args(["-p", &peer.addr().port().to_string()]).args(args);
    command.env_remove("SSH_AUTH_SOCK");
    director::Finished::of(command)
}
