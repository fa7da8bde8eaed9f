//! Keys that need a passphrase, and keys that nothing here can use.

use std::fs;

use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::{KeypairData, SkEd25519};
use russh::keys::ssh_key::{LineEnding, public};

use super::*;
use crate::error_chain;
use crate::ssh::test_sshd::{TestSshd, chmod, keygen, run};

/// An sshd, its directory being that of the credentials, too.
fn sshd_with_locked_key() -> (TestSshd, Sources) {
    let sshd = TestSshd::start();
    let key = sshd.path("user").to_string_lossy().into_owned();
    run("ssh-keygen", &["-q", "-p", "-N", "open sesame", "-f", &key]);
    let sources = Sources { credentials: Some(sshd.dir.path().to_path_buf()), ..Sources::default() };
    (sshd, sources)
}

async fn key_error(sshd: &TestSshd, sources: &Sources, key: &str) -> String {
    let error = Fixture::with(sshd.policy(), sources.clone(), LONG).fail(&sshd.peer_with_key(key)).await;
    assert_eq!(error.reason(), "key", "{error}");
    error_chain(&error).replace(&*sshd.dir.path().to_string_lossy(), "DIR")
}

#[tokio::test]
async fn a_credential_unlocks_a_key_and_one_of_the_keys_own_comes_first() {
    let (sshd, sources) = sshd_with_locked_key();
    let message = key_error(&sshd, &sources, "user").await;
    assert!(message.starts_with("private key DIR/user has a passphrase and there is no agent"), "{message}");

    for (credential, content) in [
        ("ssh-passphrase", "open sesame"),
        ("ssh-passphrase", "open sesame\nsecond line\n"),
        ("ssh-passphrase", "open sesame\r\n"),
    ] {
        fs::write(sshd.path(credential), content).unwrap();
        Fixture::with(sshd.policy(), sources.clone(), LONG).run(&sshd.peer(), "true").await;
    }
    fs::write(sshd.path("ssh-passphrase-user"), "open the door").unwrap();
    let message = key_error(&sshd, &sources, "user").await;
    assert_eq!(
        message,
        "the passphrase in DIR/ssh-passphrase-user does not unlock private key DIR/user: cryptographic error"
    );
    fs::write(sshd.path("ssh-passphrase"), "open the door").unwrap();
    fs::write(sshd.path("ssh-passphrase-user"), "open sesame").unwrap();
    Fixture::with(sshd.policy(), sources, LONG).run(&sshd.peer(), "true").await;
}

#[tokio::test]
async fn a_wrong_passphrase_is_never_told() {
    let (sshd, sources) = sshd_with_locked_key();
    fs::write(sshd.path("ssh-passphrase"), "tell-nobody").unwrap();
    let fixture = Fixture::with(sshd.policy(), sources, LONG);
    let error = fixture.fail(&sshd.peer()).await;
    assert!(!format!("{} {error:?}", error_chain(&error)).contains("tell-nobody"));
}

#[tokio::test]
async fn a_credential_that_cannot_be_read_is_named() {
    let (sshd, sources) = sshd_with_locked_key();
    fs::create_dir(sshd.path("ssh-passphrase")).unwrap();
    let message = key_error(&sshd, &sources, "user").await;
    assert!(message.starts_with("could not read DIR/ssh-passphrase, the passphrase of a private key: "), "{message}");
}

#[tokio::test]
async fn every_kind_of_encrypted_file_is_unlocked() {
    let (sshd, sources) = sshd_with_locked_key();
    fs::write(sshd.path("ssh-passphrase"), "open sesame\n").unwrap();
    fs::write(sshd.path("ssh-passphrase-wrong"), "open the door\n").unwrap();
    for (format, key_type) in [("RFC4716", "ecdsa"), ("PKCS8", "rsa"), ("PKCS8", "ecdsa"), ("PEM", "rsa")] {
        let name = format!("{format}-{key_type}");
        let path = sshd.path(&name).to_string_lossy().into_owned();
        let options = ["-q", "-t", key_type, "-m", format, "-N", "open sesame", "-C", "", "-f", &path];
        run("ssh-keygen", &options);
        fs::copy(sshd.path(&format!("{name}.pub")), sshd.path("authorized_keys")).unwrap();
        Fixture::with(sshd.policy(), sources.clone(), LONG).run(&sshd.peer_with_key(&name), "true").await;

        fs::copy(&path, sshd.path("wrong")).unwrap();
        let message = key_error(&sshd, &sources, "wrong").await;
        let expected = "the passphrase in DIR/ssh-passphrase-wrong does not unlock private key DIR/wrong: ";
        assert!(message.starts_with(expected), "{name}: {message}");
    }
}

#[tokio::test]
async fn default_keys_are_unlocked_and_those_of_no_use_are_named_in_order() {
    let sshd = TestSshd::start();
    let directory = sshd.path(".ssh");
    fs::create_dir(&directory).unwrap();
    for (name, key_type, passphrase) in [
        ("id_dsa", "dsa", ""),
        ("id_rsa", "rsa", "other words"),
        ("id_ecdsa", "ecdsa", "open sesame"),
        ("id_ed25519", "ed25519", ""),
    ] {
        keygen(&directory, name, key_type, passphrase);
    }
    write_security_key(&directory.join("id_ed25519_sk"));
    fs::write(sshd.path("ssh-passphrase"), "open sesame\n").unwrap();
    let here = Some(sshd.dir.path().to_path_buf());
    let sources = Sources { agent: None, home: here.clone(), credentials: here };
    let peer = Peer { private_key: None, ..sshd.peer() };
    let fixture = Fixture::with(sshd.policy(), sources.clone(), LONG);
    let message = fixture.fail(&peer).await.to_string().replace(&*sshd.dir.path().to_string_lossy(), "HOME");
    let (tried, unusable) = message.split_once("; not usable: ").unwrap();
    let order = ["HOME/.ssh/id_ecdsa SHA256:", ", HOME/.ssh/id_ed25519 SHA256:"].map(|name| tried.find(name));
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{message}");
    assert_eq!(
        unusable,
        "the passphrase in HOME/ssh-passphrase does not unlock private key HOME/.ssh/id_rsa, private key \
         HOME/.ssh/id_dsa is of the type ssh-dss, which cannot be used; make another by `ssh-keygen -t ed25519`, \
         HOME/.ssh/id_ed25519_sk is on a security key"
    );

    fs::copy(directory.join("id_ecdsa.pub"), sshd.path("authorized_keys")).unwrap();
    Fixture::with(sshd.policy(), sources, LONG).run(&peer, "true").await;
}

#[tokio::test]
async fn a_configured_key_of_no_use_is_an_error() {
    let sshd = TestSshd::start();
    keygen(sshd.dir.path(), "old", "dsa", "");
    write_security_key(&sshd.path("sk"));
    for (key, expected) in [
        (
            "old",
            "private key DIR/old is of the type ssh-dss, which cannot be used; make another by `ssh-keygen -t ed25519`",
        ),
        (
            "sk",
            "private key DIR/sk is on a security key and there is no agent (SSH_AUTH_SOCK is not set): load it by \
             `ssh-add DIR/sk`",
        ),
    ] {
        assert_eq!(key_error(&sshd, &Sources::default(), key).await, expected);
    }
}

/// A file such as `ssh-keygen -t ed25519-sk` writes, which needs a device to do so.
fn write_security_key(path: &std::path::Path) {
    let public = public::SkEd25519::new(public::Ed25519PublicKey([7; 32]), "ssh:");
    let key = KeypairData::SkEd25519(SkEd25519::new(public, 1, [1, 2, 3]).unwrap());
    let text = PrivateKey::new(key, "").unwrap().to_openssh(LineEnding::LF).unwrap();
    fs::write(path, text.as_bytes()).unwrap();
    chmod(path, 0o600);
}
