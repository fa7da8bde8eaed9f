//! Logins by user certificate, against an sshd that trusts an authority and lists no key.

use std::fs;
use std::path::{Path, PathBuf};

use super::login::Agent;
use super::*;
use crate::ssh::test_sshd::{TestSshd, keygen, run};

/// An sshd that lets in whom `ca` vouches for. The keys of `types` are made with their names, without certificates.
fn trusting_sshd(types: &[&str]) -> TestSshd {
    let dir = tempfile::tempdir().unwrap();
    for (name, key_type) in [("host_ed25519", "ed25519"), ("ca", "ed25519")] {
        keygen(dir.path(), name, key_type, "");
    }
    types.iter().for_each(|key_type| keygen(dir.path(), key_type, key_type, ""));
    fs::write(dir.path().join("authorized_keys"), "").unwrap();
    let authority = format!("TrustedUserCAKeys {}", dir.path().join("ca.pub").display());
    let sshd = TestSshd::run_in(dir, &authority);
    sshd.write_known_hosts("known_hosts", "host_ed25519");
    sshd
}

/// Certifies a key, with further options of ssh-keygen; what it writes is `KEY-cert.pub`.
fn certify(dir: &Path, key: &Path, options: &[&str]) {
    let (authority, public) = (dir.join("ca"), format!("{}.pub", key.display()));
    let authority = authority.to_string_lossy();
    run("ssh-keygen", &[&["-q", "-s", &*authority, "-I", "backup"], options, &[&*public]].concat());
}

fn certificate_of(key: &Path) -> PathBuf {
    PathBuf::from(format!("{}-cert.pub", key.display()))
}

/// The message of a login that fails, with `DIR` for the sshd's directory and `SHA256` for every fingerprint.
async fn refusal(sshd: &TestSshd, key: &str) -> String {
    let error = Fixture::new(sshd.policy()).fail(&sshd.peer_with_key(key)).await;
    assert_eq!(error.reason(), "auth", "{error}");
    let message = error.to_string().replace(&*sshd.dir.path().to_string_lossy(), "DIR");
    let (_, tried) = message.split_once("; ").unwrap();
    let end = |word: &str| word.find(|c| ",;".contains(c)).unwrap_or(word.len());
    let words = tried.split(' ').map(|word| match word.strip_prefix("SHA256:") {
        Some(digest) => format!("SHA256{}", &digest[end(digest)..]),
        None => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_certificate_of_every_kind_of_key_logs_in() {
    let types = ["ed25519", "ecdsa", "rsa"];
    let sshd = trusting_sshd(&types);
    for key in types {
        assert!(
            refusal(&sshd, key).await.starts_with(&format!("keys that it did not accept: DIR/{key} SHA256")),
            "{key}"
        );
        certify(sshd.dir.path(), &sshd.path(key), &["-n", "root"]);
        let output = Fixture::new(sshd.policy()).run(&sshd.peer_with_key(key), "echo in").await;
        assert_eq!(text(&output.stdout), "in\n", "{key}");
    }
}

#[tokio::test]
async fn the_certificate_is_offered_before_its_key() {
    let sshd = trusting_sshd(&["ed25519"]);
    fs::copy(sshd.path("ed25519.pub"), sshd.path("authorized_keys")).unwrap();
    certify(sshd.dir.path(), &sshd.path("ed25519"), &["-n", "root"]);
    Fixture::new(sshd.policy()).run(&sshd.peer_with_key("ed25519"), "true").await;
    assert_eq!(sshd.logins(), 1);
    sshd.wait_for_log("Accepted publickey for root");
    sshd.wait_for_log("ssh2: ED25519-CERT");
}

#[tokio::test]
async fn a_refusal_says_what_was_offered_and_what_is_wrong_with_it() {
    let sshd = trusting_sshd(&["ed25519", "rsa"]);
    let key = sshd.path("ed25519");
    for (options, described) in [
        (&["-n", "root", "-V", "20200101Z:20200102Z"][..], "for root; expired at 2020-01-02T00:00:00Z"),
        (&["-n", "root", "-V", "99990101Z:99990102Z"], "for root; not valid before 9999-01-01T00:00:00Z"),
        (&["-n", "ann,backup"], "for ann, backup"),
        (&[], "without principals"),
    ] {
        certify(sshd.dir.path(), &key, options);
        assert_eq!(
            refusal(&sshd, "ed25519").await,
            format!(
                "keys that it did not accept: DIR/ed25519-cert.pub SHA256 (ID \"backup\" {described}), DIR/ed25519 SHA256"
            )
        );
    }
    certify(sshd.dir.path(), &key, &["-h", "-n", "root"]);
    let alone = "keys that it did not accept: DIR/ed25519 SHA256; not usable: ";
    let expected = format!("{alone}DIR/ed25519-cert.pub is a host's certificate, not a user's");
    assert_eq!(refusal(&sshd, "ed25519").await, expected);

    certify(sshd.dir.path(), &sshd.path("rsa"), &["-n", "root"]);
    fs::copy(certificate_of(&sshd.path("rsa")), certificate_of(&key)).unwrap();
    let expected = format!("{alone}DIR/ed25519-cert.pub certifies another key than DIR/ed25519");
    assert_eq!(refusal(&sshd, "ed25519").await, expected);

    fs::copy(sshd.path("ed25519.pub"), certificate_of(&key)).unwrap();
    let message = refusal(&sshd, "ed25519").await;
    assert!(message.starts_with(&format!("{alone}DIR/ed25519-cert.pub is not a certificate: ")), "{message}");
}

#[tokio::test]
async fn a_certificate_that_is_no_use_does_not_keep_its_key_from_logging_in() {
    let sshd = trusting_sshd(&["ed25519"]);
    fs::copy(sshd.path("ed25519.pub"), sshd.path("authorized_keys")).unwrap();
    for options in [&["-n", "ann"][..], &["-n", "root", "-V", "20200101Z:20200102Z"], &["-h", "-n", "root"]] {
        certify(sshd.dir.path(), &sshd.path("ed25519"), options);
        Fixture::new(sshd.policy()).run(&sshd.peer_with_key("ed25519"), "true").await;
    }
}

#[tokio::test]
async fn default_keys_have_certificates_too() {
    let sshd = trusting_sshd(&[]);
    fs::create_dir(sshd.path(".ssh")).unwrap();
    for name in ["id_rsa", "id_ed25519"] {
        keygen(&sshd.path(".ssh"), name, name.trim_start_matches("id_"), "");
    }
    certify(sshd.dir.path(), &sshd.path(".ssh/id_ed25519"), &["-n", "root"]);
    let sources = Sources { home: Some(sshd.dir.path().to_path_buf()), ..Sources::default() };
    let peer = Peer { private_key: None, ..sshd.peer() };
    Fixture::with(sshd.policy(), sources, LONG).run(&peer, "true").await;
}

#[tokio::test]
async fn the_agent_signs_for_its_certificates_and_for_those_in_files() {
    for key_type in ["ed25519", "rsa"] {
        let sshd = trusting_sshd(&[key_type]);
        let agent = Agent::start(sshd.dir.path());
        let fixture = Fixture::with(sshd.policy(), agent.1.clone(), LONG);
        let anyone = Peer { private_key: None, ..sshd.peer() };
        let key = sshd.path(key_type);
        agent.add(&key);
        let refused = fixture.fail(&anyone).await.to_string();
        assert!(refused.contains("did not accept: agent key SHA256:"), "{refused}");

        // The configured key is locked, its certificate is in a file, and the agent has the plain key.
        run("ssh-keygen", &["-q", "-p", "-N", "secret", "-f", &key.to_string_lossy()]);
        certify(sshd.dir.path(), &key, &["-n", "root"]);
        fixture.run(&sshd.peer_with_key(key_type), "true").await;

        // The certificate is in the agent alone.
        run("ssh-keygen", &["-q", "-p", "-P", "secret", "-N", "", "-f", &key.to_string_lossy()]);
        agent.add(&key);
        fs::remove_file(certificate_of(&key)).unwrap();
        fixture.run(&anyone, "true").await;
        assert_eq!(fixture.events(), ["auth", "connected", "connected"], "{key_type}");
    }
}

#[tokio::test]
async fn keys_of_the_agent_that_no_host_takes_are_passed_over() {
    let sshd = trusting_sshd(&["dsa", "ed25519"]);
    let agent = Agent::start(sshd.dir.path());
    certify(sshd.dir.path(), &sshd.path("ed25519"), &["-h", "-n", "root"]);
    agent.add(&sshd.path("dsa"));
    agent.add(&sshd.path("ed25519"));
    let fixture = Fixture::with(sshd.policy(), agent.1.clone(), LONG);
    let anyone = Peer { private_key: None, ..sshd.peer() };
    let refused = fixture.fail(&anyone).await.to_string();
    let (tried, unusable) = refused.split_once("; not usable: ").unwrap();
    assert_eq!(tried.matches("SHA256:").count(), 1, "{refused}");
    assert!(unusable.contains(" is of the type DSA"), "{refused}");
    assert!(unusable.contains("(ID \"backup\" for root) is a host's"), "{refused}");
}

#[tokio::test]
async fn a_key_that_is_in_the_agent_and_in_a_file_is_offered_once() {
    let sshd = trusting_sshd(&[]);
    fs::create_dir(sshd.path(".ssh")).unwrap();
    keygen(&sshd.path(".ssh"), "id_rsa", "rsa", "");
    keygen(&sshd.path(".ssh"), "id_ed25519", "ed25519", "");
    keygen(sshd.dir.path(), "other", "ed25519", "");
    let agent = Agent::start(sshd.dir.path());
    agent.add(&sshd.path("other"));
    agent.add(&sshd.path(".ssh/id_ed25519"));
    let sources = Sources { home: Some(sshd.dir.path().to_path_buf()), ..agent.1.clone() };
    let peer = Peer { private_key: None, ..sshd.peer() };
    let refused = Fixture::with(sshd.policy(), sources, LONG).fail(&peer).await.to_string();
    let order = ["id_ed25519 SHA256:", "agent key SHA256:", "id_rsa SHA256:"].map(|name| refused.find(name));
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{refused}");
    assert_eq!(refused.matches("SHA256:").count(), 3, "{refused}");
}
