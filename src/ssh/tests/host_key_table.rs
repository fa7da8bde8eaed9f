//! Our judgement of host keys beside that of the system's `ssh -o StrictHostKeyChecking=yes`: the same known_hosts files, the
//! same real sshd, case by case.
//!
//! [`cases`] has the tables. Each case says what both decide, so that a slip in its text shows. Where they differ, ours has to be
//! the stricter one, and the case says why.
//!
//! All of it happens in a network namespace of its own, where port 22 is free for the one sshd whose hosts are listed without a
//! port. The others have a host certificate each.

mod cases;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::{self, Runtime};

use self::cases::{CERTIFICATES, Expected, ON_ANOTHER_PORT, ON_PORT_22, WITH_CERTIFICATE};
use super::*;
use crate::ssh::HostKeyError;
use crate::ssh::test_sshd::{TestSshd, keygen, run};

/// Cases at once.
const WORKERS: usize = 4;

#[test]
fn known_hosts_are_judged_as_ssh_judges_them() {
    let differences = thread::scope(|scope| {
        let judging = scope.spawn(|| {
            enter_private_network();
            let stages = Stages::start();
            let cases = stages.cases();
            assert!(cases.len() >= 60, "{} cases", cases.len());
            differences(&cases)
        });
        judging.join().expect("the thread in the private network")
    });
    assert!(differences.is_empty(), "{} cases differ:\n{}", differences.len(), differences.join("\n"));
}

/// One line of a table, with the sshd and the files that it is about.
struct Case {
    peer: Peer,
    policy: SshPolicy,
    /// known_hosts as in the table.
    template: &'static str,
    expected: Expected,
}

/// What is wrong with the cases, one text each.
fn differences(cases: &[Case]) -> Vec<String> {
    let (queue, found) = (Mutex::new(cases.iter()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                loop {
                    let Some(case) = queue.lock().unwrap().next() else { return };
                    let difference = case.difference(&runtime);
                    found.lock().unwrap().extend(difference);
                }
            });
        }
    });
    found.into_inner().unwrap()
}

impl Case {
    fn difference(&self, runtime: &Runtime) -> Option<String> {
        let got = (self.verdict_of_ssh(), runtime.block_on(self.verdict_of_ours()));
        let expected = match self.expected {
            Expected::Both(verdict) => (verdict, verdict),
            Expected::Stricter { ssh, ours, why } => {
                assert!(ssh == "known" && ours != "known" && !why.is_empty(), "not stricter: {}", self.template);
                (ssh, ours)
            }
        };
        let shown: String = self.template.chars().take(200).collect();
        (got != expected)
            .then(|| format!("{} {shown:?}\n    ssh and ours say {got:?}, the table {expected:?}", self.peer))
    }

    fn verdict_of_ssh(&self) -> &'static str {
        let Peer { user, host, port, private_key, .. } = &self.peer;
        let key = private_key.as_deref().expect("a key to log in with");
        let files: Vec<_> = self.policy.known_hosts.iter().map(|file| file.to_string_lossy()).collect();
        let mut command = Command::new("ssh");
        command.env_remove("SSH_AUTH_SOCK").args(["-F", "none", "-l", user, "-p", &port.to_string()]);
        for option in [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            &format!("UserKnownHostsFile={}", files.join(" ")),
            "GlobalKnownHostsFile=/dev/null",
            "UpdateHostKeys=no",
            "IdentitiesOnly=yes",
            &format!("IdentityFile={}", key.display()),
            // For speed.
            "KexAlgorithms=curve25519-sha256",
            "Ciphers=aes128-gcm@openssh.com",
        ] {
            command.args(["-o", option]);
        }
        let output = command.args([host, "true"]).output().expect("running ssh");
        let message = String::from_utf8_lossy(&output.stderr);
        let verdict = [
            ("REVOKED HOST KEY DETECTED", "revoked"),
            ("REMOTE HOST IDENTIFICATION HAS CHANGED", "changed"),
            ("host key is known for", "unknown"),
        ];
        let refused = verdict.iter().find(|(text, _)| message.contains(text)).map(|(_, verdict)| *verdict);
        match (output.status.success(), message.contains("Host key verification failed."), refused) {
            (true, false, None) => "known",
            (false, true, Some(verdict)) => verdict,
            _ => panic!("{:?} of ssh for {:?}: {message}", output.status, self.template),
        }
    }

    async fn verdict_of_ours(&self) -> &'static str {
        let pool = Pool::with(self.policy.clone(), Events::new(Vec::new()), Sources::default(), LONG);
        match pool.exec(&self.peer, "true", b"", LONG).await {
            Ok(_) => "known",
            Err(SshError::HostKey(error)) => match *error {
                HostKeyError::Unknown { .. } => "unknown",
                HostKeyError::Changed { .. } => "changed",
                HostKeyError::Revoked { .. } => "revoked",
                HostKeyError::Record { .. } => panic!("{error} for {:?}", self.template),
            },
            Err(error) => panic!("{error:?} for {:?}", self.template),
        }
    }
}

/// The sshds. All have the same keys.
struct Stages {
    plain: TestSshd,
    /// By the name of the certificate.
    certified: Vec<(&'static str, TestSshd)>,
}

impl Stages {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for (name, key_type) in [
            ("host_ed25519", "ed25519"),
            ("host_rsa", "rsa"),
            ("user", "ed25519"),
            ("other", "ed25519"),
            ("other_rsa", "rsa"),
            ("ecdsa", "ecdsa"),
            ("ca", "ed25519"),
            ("ca_rsa", "rsa"),
        ] {
            keygen(dir.path(), name, key_type, "");
        }
        fs::copy(dir.path().join("user.pub"), dir.path().join("authorized_keys")).expect("copying the user's key");
        let plain = TestSshd::run_in(dir, "Port 22\nListenAddress ::1");
        for port in [22, plain.port] {
            plain.wait_for_log(&format!("Server listening on 127.0.0.1 port {port}."));
            plain.wait_for_log(&format!("Server listening on ::1 port {port}."));
        }
        let certified = CERTIFICATES.iter().map(|&(name, key, args)| (name, certified(&plain, key, args))).collect();
        Self { plain, certified }
    }

    fn cases(&self) -> Vec<Case> {
        let plain = &self.plain;
        let on_22 = ON_PORT_22.iter().map(|&(host, template, expected)| (plain, host, 22, template, expected));
        let other = ON_ANOTHER_PORT.iter();
        let other = other.map(|&(host, template, expected)| (plain, host, plain.port, template, expected));
        let certified = WITH_CERTIFICATE.iter().map(|&(name, template, expected)| {
            let sshd = self.certified.iter().find(|(of, _)| *of == name);
            let (_, sshd) = sshd.unwrap_or_else(|| panic!("there is no certificate {name}"));
            (sshd, "localhost", sshd.port, template, expected)
        });
        on_22
            .chain(other)
            .chain(certified)
            .enumerate()
            .map(|(number, (sshd, host, port, template, expected))| {
                let policy = SshPolicy { known_hosts: write_files(sshd, number, template), ..sshd.policy() };
                let peer = Peer { host: host.into(), port, ..sshd.peer() };
                Case { peer, policy, template, expected }
            })
            .collect()
    }
}

/// An sshd with the keys of `plain` and a certificate for its host key `key`, made by ssh-keygen with `args`.
fn certified(plain: &TestSshd, key: &str, args: &[&str]) -> TestSshd {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for file in fs::read_dir(plain.dir.path()).expect("reading the directory") {
        let file = file.expect("reading the directory");
        fs::copy(file.path(), dir.path().join(file.file_name())).expect("copying keys");
    }
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let ca = path(args[0]);
    run("ssh-keygen", &[&["-q", "-s", &ca, "-I", "test"], &args[1..], &[&path(&format!("{key}.pub"))]].concat());
    let config = format!("HostCertificate {}", path(&format!("{key}-cert.pub")));
    TestSshd::run_in(dir, &config)
}

/// The known_hosts files of a case: one for each part of the text between `{next}`; `{missing}` is none.
fn write_files(sshd: &TestSshd, number: usize, template: &str) -> Vec<PathBuf> {
    let parts = template.split("{next}").enumerate();
    parts
        .map(|(index, part)| {
            let path = sshd.path(&format!("known_{number}_{index}"));
            if part != "{missing}" {
                fs::write(&path, filled(sshd, part)).expect("writing known_hosts");
            }
            path
        })
        .collect()
}

/// The text with the keys and names that it has in braces: `{rsa}` is type and base64, `{rsa:blob}` the base64 alone.
fn filled(sshd: &TestSshd, text: &str) -> String {
    let mut text = text.replace("{port}", &sshd.port.to_string());
    for (name, file) in [
        ("ed", "host_ed25519"),
        ("rsa", "host_rsa"),
        ("cert", "host_ed25519-cert"),
        ("other", "other"),
        ("other_rsa", "other_rsa"),
        ("ecdsa", "ecdsa"),
        ("ca", "ca"),
        ("ca_rsa", "ca_rsa"),
    ] {
        if text.contains(&format!("{{{name}")) {
            let line = sshd.public_key(file);
            let fields: Vec<_> = line.split_whitespace().collect();
            text = text.replace(&format!("{{{name}}}"), &fields[..2].join(" "));
            text = text.replace(&format!("{{{name}:blob}}"), fields[1]);
        }
    }
    for (placeholder, name) in
        [("{hash}", "localhost".to_owned()), ("{hash:port}", format!("[localhost]:{}", sshd.port))]
    {
        if text.contains(placeholder) {
            text = text.replace(placeholder, &hashed(sshd, &name));
        }
    }
    let names = || (0..5_000).map(|n| format!("host{n}.example")).collect::<Vec<_>>().join(",");
    text.replace("{5000 names}", &names()).replace("{1100 letters}", &"x".repeat(1100))
}

/// The name as ssh-keygen hashes it, each time with another salt.
fn hashed(sshd: &TestSshd, name: &str) -> String {
    let path = tempfile::NamedTempFile::new_in(sshd.dir.path()).expect("a temporary file").into_temp_path();
    fs::write(&path, format!("{name} {}", sshd.public_key("host_ed25519"))).expect("writing a line");
    let output = Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(&path).output().expect("running ssh-keygen");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let line = fs::read_to_string(&path).expect("reading the line");
    line.split(' ').next().expect("a first field").to_owned()
}

/// Moves the thread, and what it starts from now on, to a network namespace that has a loopback interface only.
fn enter_private_network() {
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", "ip link set lo up && echo up && exec cat"]);
    let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("running unshare");
    let mut answer = String::new();
    BufReader::new(holder.stdout.take().expect("a piped standard output")).read_line(&mut answer).expect("reading");
    assert_eq!(answer, "up\n", "no network namespace (the test needs root and iproute2)");
    let namespace = File::open(format!("/proc/{}/ns/net", holder.id())).expect("the namespace of the child");
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("entering the namespace");
    // Its input ends, and so does it.
    drop(holder.stdin.take());
    holder.wait().expect("waiting for the child");
}
