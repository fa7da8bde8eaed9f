//! Which hosts are trusted.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::config::HostKeyPolicy;
use crate::ssh::test_sshd::{TestSshd, keygen, run};

#[tokio::test]
async fn an_unknown_host_key_is_refused_with_the_command_that_accepts_it() {
    let sshd = TestSshd::start();
    fs::write(sshd.path("known_hosts"), "").unwrap();
    let fixture = Fixture::new(sshd.policy());
    let error = fixture.fail(&sshd.peer()).await;
    let (port, file) = (sshd.port, sshd.path("known_hosts"));
    let message = error.to_string();
    assert_eq!(error.reason(), "host_key");
    assert!(
        message.starts_with(&format!("host key of [127.0.0.1]:{port} is not known: it offered ssh-ed25519 SHA256:"))
    );
    assert!(message.contains(&format!("`ssh-keyscan -p {port} 127.0.0.1 >> {}`", file.display())), "{message}");
    assert!(message.contains(&format!("`ssh -p {port} root@127.0.0.1`")), "{message}");
    assert_eq!(fs::read_to_string(file).unwrap(), "");
    assert_eq!(fixture.events(), ["host_key"]);
}

#[tokio::test]
async fn a_changed_or_revoked_host_key_is_refused_under_every_policy() {
    let sshd = TestSshd::start();
    let file = sshd.path("known_hosts");
    let fixture = Fixture::new(SshPolicy { host_key_policy: HostKeyPolicy::AcceptNew, ..sshd.policy() });
    sshd.write_known_hosts("known_hosts", "user");
    let error = fixture.fail(&sshd.peer()).await.to_string();
    assert!(error.starts_with(&format!("host key of [127.0.0.1]:{} has changed", sshd.port)), "{error}");
    assert!(error.contains(&format!("{}:1 lists another", file.display())), "{error}");
    let command = format!("`ssh-keygen -R '[127.0.0.1]:{}' -f {}`", sshd.port, file.display());
    assert!(error.contains(&command), "{error}");

    fs::write(&file, format!("# revoked\n@revoked * {}", sshd.public_key("host_ed25519"))).unwrap();
    let error = fixture.fail(&sshd.peer()).await;
    assert!(error.to_string().contains(&format!("is revoked: {}:2", file.display())), "{error}");
    assert_eq!(fixture.events(), ["host_key", "host_key"]);
}

#[tokio::test]
async fn accept_new_records_the_key_once() {
    let sshd = TestSshd::start();
    let file = sshd.path("new/dir/known_hosts");
    let policy = SshPolicy {
        host_key_policy: HostKeyPolicy::AcceptNew,
        known_hosts: vec![file.clone(), sshd.path("absent")],
        ..sshd.policy()
    };
    Fixture::new(policy.clone()).run(&sshd.peer(), "true").await;
    let key = sshd.public_key("host_ed25519");
    let key = key.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let line = format!("[127.0.0.1]:{} {key}\n", sshd.port);
    assert_eq!(fs::read_to_string(&file).unwrap(), line);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(file.parent().unwrap()), mode(&file)), (0o700, 0o600));

    Fixture::new(SshPolicy { host_key_policy: HostKeyPolicy::Strict, ..policy.clone() })
        .run(&sshd.peer(), "true")
        .await;
    assert_eq!(fs::read_to_string(&file).unwrap(), line);
    // A file whose last line is not ended, as editors leave it.
    fs::write(&file, "other.example ssh-ed25519 AAAA").unwrap();
    Fixture::new(policy).run(&sshd.peer(), "true").await;
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("other.example ssh-ed25519 AAAA\n{line}"));
}

#[tokio::test]
async fn accept_new_without_a_place_to_record_refuses() {
    let sshd = TestSshd::start();
    let policy = SshPolicy {
        host_key_policy: HostKeyPolicy::AcceptNew,
        known_hosts: vec![sshd.path("user").join("known_hosts")],
        ..sshd.policy()
    };
    let error = Fixture::new(policy).fail(&sshd.peer()).await;
    assert_eq!(error.reason(), "host_key");
    assert!(error.to_string().starts_with("could not record the host key of [127.0.0.1]:"), "{error}");
}

#[tokio::test]
async fn the_type_of_host_key_that_is_known_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    for (name, key_type) in [("host_ed25519", "ed25519"), ("host_rsa", "rsa"), ("user", "ed25519")] {
        keygen(dir.path(), name, key_type, "");
    }
    fs::copy(dir.path().join("user.pub"), dir.path().join("authorized_keys")).unwrap();
    let sshd = TestSshd::run_in(dir, "");
    for key in ["host_rsa", "host_ed25519"] {
        sshd.write_known_hosts("known_hosts", key);
        Fixture::new(sshd.policy()).run(&sshd.peer(), "true").await;
    }
}

#[tokio::test]
async fn a_host_certificate_of_a_listed_authority_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["host_ed25519", "ca", "user"] {
        keygen(dir.path(), name, "ed25519", "");
    }
    fs::copy(dir.path().join("user.pub"), dir.path().join("authorized_keys")).unwrap();
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    run("ssh-keygen", &["-q", "-s", &path("ca"), "-I", "t", "-h", "-n", "127.0.0.1", &path("host_ed25519.pub")]);
    let config = format!("HostCertificate {}", path("host_ed25519-cert.pub"));
    let sshd = TestSshd::run_in(dir, &config);
    fs::write(sshd.path("known_hosts"), format!("@cert-authority * {}", sshd.public_key("ca"))).unwrap();
    Fixture::new(sshd.policy()).run(&sshd.peer(), "true").await;
    fs::write(sshd.path("known_hosts"), format!("@cert-authority * {}", sshd.public_key("user"))).unwrap();
    assert_eq!(Fixture::new(sshd.policy()).fail(&sshd.peer()).await.reason(), "host_key");
}
