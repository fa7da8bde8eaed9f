//! Which keys log in.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;
use crate::ssh::test_sshd::{TestSshd, chmod, keygen, run};

#[tokio::test]
async fn key_files_that_cannot_be_used_are_named() {
    let sshd = TestSshd::start();
    let fixture = Fixture::new(sshd.policy());
    keygen(sshd.dir.path(), "locked", "ed25519", "secret");
    fs::write(sshd.path("junk"), "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n").unwrap();
    fs::write(sshd.path("open"), fs::read(sshd.path("user")).unwrap()).unwrap();
    chmod(&sshd.path("junk"), 0o600);
    chmod(&sshd.path("open"), 0o640);
    chmod(&sshd.path("user.pub"), 0o600);
    for (key, expected) in [
        ("open", "permissions 0640 of private key DIR/open are too open: `chmod 600 DIR/open`"),
        ("absent", "could not read private key DIR/absent"),
        ("junk", "DIR/junk is not a private key that can be used"),
        ("user.pub", "DIR/user.pub is a public key; name the private key that belongs to it (the file without `.pub`)"),
        (
            "locked",
            "private key DIR/locked has a passphrase and there is no agent (SSH_AUTH_SOCK is not set): load it by \
             `ssh-add DIR/locked`, hand the passphrase over as the credential `ssh-passphrase`, or use a key without one",
        ),
    ] {
        let error = fixture.fail(&sshd.peer_with_key(key)).await;
        assert_eq!(error.to_string().replace(&*sshd.dir.path().to_string_lossy(), "DIR"), expected);
        assert_eq!(error.reason(), "key");
    }
    assert_eq!(fixture.events(), ["key"; 5]);
}

#[tokio::test]
async fn every_kind_of_key_logs_in() {
    let sshd = TestSshd::start();
    let mut accepted = String::new();
    for (name, key_type) in [("rsa", "rsa"), ("ecdsa", "ecdsa"), ("pem", "rsa"), ("pkcs8", "ecdsa")] {
        keygen(sshd.dir.path(), name, key_type, "");
        if name != key_type {
            let path = sshd.path(name).to_string_lossy().into_owned();
            run("ssh-keygen", &["-q", "-p", "-N", "", "-m", name, "-f", &path]);
        }
        accepted.push_str(&sshd.public_key(name));
    }
    fs::write(sshd.path("authorized_keys"), accepted).unwrap();
    for name in ["rsa", "ecdsa", "pem", "pkcs8"] {
        let output = Fixture::new(sshd.policy()).run(&sshd.peer_with_key(name), "echo in").await;
        assert_eq!(text(&output.stdout), "in\n", "{name}");
    }
}

#[tokio::test]
async fn default_keys_are_tried_in_order_and_a_refusal_lists_them() {
    let sshd = TestSshd::start();
    fs::create_dir(sshd.path(".ssh")).unwrap();
    for (name, key_type, passphrase) in
        [("id_rsa", "rsa", ""), ("id_ecdsa", "ecdsa", "secret"), ("id_ed25519", "ed25519", "")]
    {
        keygen(&sshd.path(".ssh"), name, key_type, passphrase);
    }
    let sources = Sources { home: Some(sshd.dir.path().to_path_buf()), ..Sources::default() };
    let fixture = Fixture::with(sshd.policy(), sources.clone(), LONG);
    let peer = Peer { private_key: None, ..sshd.peer() };
    let error = fixture.fail(&peer).await;
    let message = error.to_string().replace(&*sshd.dir.path().to_string_lossy(), "HOME");
    assert_eq!(error.reason(), "auth");
    let (rsa, ed25519) = (message.find("HOME/.ssh/id_rsa SHA256:"), message.find("HOME/.ssh/id_ed25519 SHA256:"));
    assert!(rsa.is_some() && rsa < ed25519, "{message}");
    assert!(message.ends_with("; not usable: HOME/.ssh/id_ecdsa has a passphrase"), "{message}");

    fs::copy(sshd.path(".ssh/id_ed25519.pub"), sshd.path("authorized_keys")).unwrap();
    fixture.run(&peer, "true").await;
    assert_eq!(fixture.events(), ["auth", "connected"]);

    let nothing = Fixture::with(sshd.policy(), Sources::default(), LONG).fail(&peer).await;
    assert!(nothing.to_string().contains("no key to offer"), "{nothing}");
}

#[tokio::test]
async fn a_refused_login_is_not_taken_for_a_lost_connection() {
    let sshd = TestSshd::start_with("MaxAuthTries 1");
    keygen(sshd.dir.path(), "stranger", "ed25519", "");
    let error = Fixture::new(sshd.policy()).fail(&sshd.peer_with_key("stranger")).await;
    assert_eq!(error.reason(), "auth", "{error}");
    assert!(error.to_string().contains(&format!("{} SHA256:", sshd.path("stranger").display())), "{error}");
}

#[tokio::test]
async fn a_connection_lost_during_the_login_is_not_taken_for_a_refusal() {
    // sshd asks this command for the keys of the user, and so ends in the middle of the login.
    let command = "AuthorizedKeysCommandUser root\nAuthorizedKeysCommand /bin/sh -c \"kill -9 $PPID\"";
    let sshd = TestSshd::start_with(command);
    let error = Fixture::new(sshd.policy()).fail(&sshd.peer_with_key("host_ed25519")).await;
    assert_eq!(error.reason(), "unreachable", "{error}");
    assert!(error.to_string().starts_with("lost the connection while login to root@127.0.0.1:"), "{error}");
}

/// A private ssh-agent, ended when dropped.
pub(super) struct Agent(std::process::Child, pub(super) Sources);

impl Agent {
    pub(super) fn start(dir: &Path) -> Self {
        let socket = dir.join("agent");
        let mut command = Command::new("ssh-agent");
        let child = command.arg("-D").arg("-a").arg(&socket).stdout(Stdio::piped()).spawn().expect("ssh-agent");
        let mut agent = Self(child, Sources { agent: Some(socket), ..Sources::default() });
        // It announces its socket when that is there.
        let stdout = agent.0.stdout.as_mut().expect("a piped standard output");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut String::new()).unwrap();
        agent
    }

    pub(super) fn add(&self, key: &Path) {
        let socket = self.1.agent.as_ref().unwrap();
        let status = Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", socket).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_agent_signs_for_default_and_for_locked_keys() {
    let sshd = TestSshd::start();
    let agent = Agent::start(sshd.dir.path());
    let sources = agent.1.clone();
    let fixture = Fixture::with(sshd.policy(), sources, LONG);
    fs::copy(sshd.path("user"), sshd.path("locked")).unwrap();
    let locked = sshd.path("locked").to_string_lossy().into_owned();
    run("ssh-keygen", &["-q", "-p", "-N", "secret", "-f", &locked]);

    let error = fixture.fail(&sshd.peer_with_key("locked")).await;
    assert!(error.to_string().contains("has a passphrase and the agent does not have it"), "{error}");
    agent.add(&sshd.path("user"));
    fixture.run(&sshd.peer_with_key("locked"), "true").await;
    fixture.run(&Peer { private_key: None, ..sshd.peer() }, "true").await;
    assert_eq!(fixture.events(), ["key", "connected", "connected"]);
}
