//! SSH key pairs, made by the real `ssh-keygen`.

use std::fs;
use std::path::Path;
use std::process::Command;

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
