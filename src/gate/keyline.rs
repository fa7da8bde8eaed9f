//! The line of `authorized_keys` that puts a key behind the gate.

use std::path::Path;

use russh::keys::PublicKey;

/// Why there is no line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeylineError {
    /// The file holds something else than one public key.
    #[error("this is not a public key, as ssh-keygen(1) puts it into a file that ends in .pub: {0}")]
    Key(String),
    /// A path or pattern cannot stand in the line.
    #[error("{0:?} cannot stand in a line of authorized_keys: it must be text, without line breaks and double quotes")]
    Text(String),
}

/// The line: everything that sshd can restrict, the command, and perhaps from where the key is accepted (`from`, sshd(8)).
///
/// # Errors
/// [`KeylineError`].
pub fn keyline(key: &str, program: &Path, policy: &Path, from: Option<&str>) -> Result<String, KeylineError> {
    let mut lines = key.lines().map(str::trim).filter(|line| !line.is_empty());
    let key = match (lines.next(), lines.next()) {
        (Some(key), None) => key,
        (None, _) => return Err(KeylineError::Key("it is empty".into())),
        (Some(_), Some(_)) => return Err(KeylineError::Key("it has several lines".into())),
    };
    PublicKey::from_openssh(key).map_err(|error| KeylineError::Key(error.to_string()))?;
    let from = match from {
        Some(from) => format!("from=\"{}\",", text(from)?),
        None => String::new(),
    };
    let word = |path: &Path| {
        let shown = path.to_str().ok_or_else(|| KeylineError::Text(path.display().to_string()))?;
        text(shown).map(|shown| shell_words::quote(&shown).into_owned())
    };
    let command = format!("{} gate --policy {}", word(program)?, word(policy)?);
    Ok(format!("restrict,{from}command=\"{command}\" {key}"))
}

fn text(text: &str) -> Result<String, KeylineError> {
    if text.chars().any(|c| c.is_control() || c == '"') {
        return Err(KeylineError::Text(text.to_owned()));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ ann@laptop";

    fn line(key: &str, policy: &str, from: Option<&str>) -> Result<String, KeylineError> {
        keyline(key, Path::new("/usr/bin/rsyncdirector"), Path::new(policy), from)
    }

    #[test]
    fn a_line_restricts_all_that_sshd_can() {
        assert_eq!(
            line(KEY, "/etc/rsyncdirector/gate/laptop.yaml", None).expect("a line"),
            format!(
                "restrict,command=\"/usr/bin/rsyncdirector gate --policy /etc/rsyncdirector/gate/laptop.yaml\" {KEY}"
            )
        );
        assert_eq!(
            line(&format!("\n{KEY}\n"), "/etc/my gate.yaml", Some("10.0.0.0/8,!10.0.0.1")).expect("a line"),
            format!(
                "restrict,from=\"10.0.0.0/8,!10.0.0.1\",command=\"/usr/bin/rsyncdirector gate --policy '/etc/my gate.yaml'\" {KEY}"
            )
        );
    }

    #[test]
    fn what_would_make_another_line_of_it_is_refused() {
        let refused =
            |key: &str, policy: &str, from: Option<&str>| line(key, policy, from).expect_err("refused").to_string();
        assert!(refused(KEY, "/etc/a\".yaml", None).contains("cannot stand"));
        assert!(refused(KEY, "/etc/a\nssh-rsa x", None).contains("cannot stand"));
        assert!(refused(KEY, "/etc/a", Some("x\",command=\"id")).contains("cannot stand"));
        assert!(refused("", "/a", None).contains("empty"));
        assert!(refused(&format!("{KEY}\n{KEY}"), "/a", None).contains("several lines"));
        assert!(refused("-----BEGIN OPENSSH PRIVATE KEY-----", "/a", None).contains("not a public key"));
        assert!(refused(&format!("command=\"id\" {KEY}"), "/a", None).contains("not a public key"));
    }
}
