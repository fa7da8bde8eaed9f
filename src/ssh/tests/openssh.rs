//! The command line of the system's ssh.

use std::fs;
use std::process::Command;

use super::*;
use crate::config::{HostKeyPolicy, LeftToSsh, Reach};
use crate::ssh::test_sshd::{TestSshd, chmod, keygen};

#[tokio::test]
async fn the_command_for_rsync_follows_the_same_policy() {
    let sshd = TestSshd::start();
    fs::create_dir(sshd.path("odd dir 100%")).unwrap();
    fs::rename(sshd.path("known_hosts"), sshd.path("odd dir 100%/known \"hosts\"")).unwrap();
    fs::copy(sshd.path("user"), sshd.path("odd dir 100%/key")).unwrap();
    chmod(&sshd.path("odd dir 100%/key"), 0o600);
    let known_hosts = vec![sshd.path("absent"), sshd.path("odd dir 100%/known \"hosts\"")];
    let fixture = Fixture::new(SshPolicy { known_hosts, ..sshd.policy() });
    let run_ssh = |fixture: &Fixture, key: &str| {
        let argv = fixture.pool.openssh_command(&sshd.peer_with_key(key));
        let mut command = Command::new(&argv[0]);
        command.args(["-F", "none"]).args(&argv[1..]).args(["-l", "root", "127.0.0.1", "echo there"]);
        command.env_remove("SSH_AUTH_SOCK").output().unwrap()
    };
    let output = run_ssh(&fixture, "odd dir 100%/key");
    assert_eq!(text(&output.stdout), "there\n", "{}", text(&output.stderr));
    keygen(sshd.dir.path(), "stranger", "ed25519", "");
    assert!(text(&run_ssh(&fixture, "stranger").stderr).contains("Permission denied"));
    let empty = Fixture::new(SshPolicy { known_hosts: Vec::new(), ..sshd.policy() });
    assert!(text(&run_ssh(&empty, "user").stderr).contains("Host key verification failed"));
}

#[test]
fn the_command_for_rsync_is_as_documented() {
    let policy = SshPolicy {
        connect_timeout: Duration::from_millis(2500),
        host_key_policy: HostKeyPolicy::AcceptNew,
        known_hosts: vec!["/root/.ssh/known_hosts".into(), "/etc/ssh/ssh_known_hosts".into()],
        unsaid: Default::default(),
    };
    let pool = Pool::new(policy, Events::new(Vec::new()));
    let key = Some("/root/.ssh/backup".into());
    let reach = Reach { left: LeftToSsh { way: true, port: false }, ..Reach::default() };
    let peer =
        Peer { user: "root".into(), host: "backup01".into(), port: 22000, private_key: key, reach: reach.into() };
    let argv: Vec<_> = pool.openssh_command(&peer).into_iter().map(|arg| arg.into_string().unwrap()).collect();
    let expected = [
        "ssh",
        "-p 22000",
        "-o IdentityFile=/root/.ssh/backup",
        "-o IdentitiesOnly=yes",
        "-o BatchMode=yes",
        "-o StrictHostKeyChecking=accept-new",
        "-o UserKnownHostsFile=/root/.ssh/known_hosts /etc/ssh/ssh_known_hosts",
        "-o GlobalKnownHostsFile=/dev/null",
        "-o ConnectTimeout=3",
        "-o ServerAliveInterval=15",
        "-o ServerAliveCountMax=3",
        "-o Ciphers=^aes128-gcm@openssh.com,aes256-gcm@openssh.com",
    ];
    assert_eq!(argv.join(" "), expected.join(" "));
}
