//! SSH key pairs, made by the real `ssh-keygen`, and a real agent that holds one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::wait;

/// Makes an ed25519 key pair `path` and `path.pub`; an empty passphrase leaves it unencrypted.
///
/// # Panics
/// When `ssh-keygen` fails.
pub fn generate(path: &Path, passphrase: &str) {
    let keygen = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-a", "1", "-C", "integration-test", "-N", passphrase, "-f"])
        .arg(path)
        .status();
    assert!(keygen.expect("ssh-keygen starts").success(), "ssh-keygen failed for {}", path.display());
}

/// The public half's type and key, without its comment.
///
/// # Panics
/// When it cannot be read.
pub fn public(path: &Path) -> String {
    let text = fs::read_to_string(path.with_extension("pub")).expect("a public key");
    text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// Protects a private key by a passphrase.
///
/// # Panics
/// When `ssh-keygen` fails.
pub fn encrypt(path: &Path, passphrase: &str) {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-p", "-a", "1", "-P", "", "-N", passphrase, "-f"]).arg(path).stdout(Stdio::null());
    assert!(keygen.status().expect("ssh-keygen starts").success(), "ssh-keygen failed for {}", path.display());
}

/// A running `ssh-agent`. Dropping it kills it.
pub struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Agent {
    /// Starts one that listens at `socket` and holds the unencrypted private key.
    ///
    /// # Panics
    /// When the agent does not start or does not take the key.
    pub fn holding(key: &Path, socket: PathBuf) -> Self {
        let child = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn();
        let agent = Self { child: child.expect("ssh-agent starts"), socket };
        // Its socket is there before it listens.
        wait::until(&format!("the agent takes {}", key.display()), || {
            let mut add = Command::new("ssh-add");
            let added = add.arg("-q").arg(key).env("SSH_AUTH_SOCK", &agent.socket).stderr(Stdio::null()).status();
            added.expect("ssh-add starts").success()
        });
        agent
    }

    /// Where it listens: the value of `SSH_AUTH_SOCK`.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
