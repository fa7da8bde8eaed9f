//! A private sshd for tests: own keys, own configuration, a free port, nothing of the machine's.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpSocket;

use crate::clock::Ticks;
use crate::config::{HostKeyPolicy, Peer, SshPolicy};

const SSHD: &str = "/usr/sbin/sshd";
/// Bound on every wait in here.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(10);
/// What sshd logs, in its directory.
const LOG: &str = "log";

/// A running sshd, ended when dropped.
pub(crate) struct TestSshd {
    pub(crate) dir: TempDir,
    pub(crate) port: u16,
    child: Child,
}

impl TestSshd {
    /// One that accepts the key `user`, has an ed25519 host key, and is listed in `known_hosts`.
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// With further lines of sshd_config(5).
    pub(crate) fn start_with(config: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        keygen(dir.path(), "host_ed25519", "ed25519", "");
        keygen(dir.path(), "user", "ed25519", "");
        fs::copy(dir.path().join("user.pub"), dir.path().join("authorized_keys")).expect("copying the user's key");
        let sshd = Self::run_in(dir, config);
        sshd.write_known_hosts("known_hosts", "host_ed25519");
        sshd
    }

    /// Runs sshd with the keys that are in `dir`.
    pub(crate) fn run_in(dir: TempDir, config: &str) -> Self {
        assert!(Path::new(SSHD).exists(), "{SSHD} is missing: these tests need it (Debian: openssh-server)");
        // Its privilege separation wants this directory, which a service manager would make.
        fs::create_dir_all("/run/sshd").expect("/run/sshd, which sshd needs (as root)");
        for _ in 0..5 {
            let port = free_port();
            let path = write_config(dir.path(), port, config);
            let log = dir.path().join(LOG);
            let mut command = Command::new(SSHD);
            command.args(["-D", "-e", "-f"]).arg(path).stdin(Stdio::null()).stdout(Stdio::null());
            let mut child = command.stderr(fs::File::create(&log).expect("a log")).spawn().expect("starting sshd");
            if listens(&mut child, &log) {
                return Self { dir, port, child };
            }
        }
        panic!("five free ports were taken by others");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// root on this sshd with the accepted key.
    pub(crate) fn peer(&self) -> Peer {
        self.peer_with_key("user")
    }

    pub(crate) fn peer_with_key(&self, key: &str) -> Peer {
        let private_key = Some(self.path(key));
        Peer { user: "root".into(), host: "127.0.0.1".into(), port: self.port, private_key, reach: Default::default() }
    }

    /// Strict, with this sshd's own known_hosts.
    pub(crate) fn policy(&self) -> SshPolicy {
        SshPolicy {
            connect_timeout: Duration::from_secs(20),
            host_key_policy: HostKeyPolicy::Strict,
            known_hosts: vec![self.path("known_hosts")],
            unsaid: Default::default(),
        }
    }

    /// Lists this sshd in a file with the public key of `key`.
    pub(crate) fn write_known_hosts(&self, file: &str, key: &str) {
        let line = format!("[127.0.0.1]:{} {}", self.port, self.public_key(key));
        fs::write(self.path(file), line).expect("writing known_hosts");
    }

    pub(crate) fn public_key(&self, key: &str) -> String {
        fs::read_to_string(self.path(&format!("{key}.pub"))).expect("a public key")
    }

    fn log(&self) -> String {
        read(&self.path(LOG))
    }

    /// Number of logins so far. The log line is written before a login's first command runs.
    pub(crate) fn logins(&self) -> usize {
        self.log().lines().filter(|line| line.contains("Accepted publickey")).count()
    }

    /// Waits for a line of the log that contains `text`. Blocks the thread, so the test's runtime needs a second one.
    pub(crate) fn wait_for_log(&self, text: &str) {
        let since = Ticks::now();
        while !self.log().lines().any(|line| line.contains(text)) {
            assert!(since.elapsed() < PATIENCE, "sshd's log lacks {text:?}: {}", self.log());
            std::thread::sleep(PAUSE);
        }
    }

    /// The processes of its connections.
    pub(crate) fn servers(&self) -> Vec<u32> {
        let mut found = children(self.pid());
        let mut at = 0;
        while at < found.len() {
            found.extend(children(found[at]));
            at += 1;
        }
        found
    }
}

impl Drop for TestSshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until an sshd listens. `false` when it has ended because another test took the port in between; anything else is a defect of the test.
fn listens(child: &mut Child, log: &Path) -> bool {
    let since = Ticks::now();
    loop {
        let has_ended = child.try_wait().expect("looking at sshd").is_some();
        let said = read(log);
        if said.contains("Server listening") {
            return true;
        }
        if has_ended && said.contains("Address already in use") {
            return false;
        }
        assert!(!has_ended && since.elapsed() < PATIENCE, "sshd does not start: {said}");
        std::thread::sleep(PAUSE);
    }
}

fn read(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).expect("sshd's log")).into_owned()
}

/// The processes that a process has started.
pub(crate) fn children(of: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// A key pair `name`, `name.pub` of the type in `dir`.
pub(crate) fn keygen(dir: &Path, name: &str, key_type: &str, passphrase: &str) {
    run("ssh-keygen", &["-q", "-t", key_type, "-N", passphrase, "-C", name, "-f", &dir.join(name).to_string_lossy()]);
}

/// Runs a program that must succeed.
pub(crate) fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}, which these tests need: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

/// A port of this host on which nobody listens as long as this is held.
pub(crate) struct ClosedPort {
    pub(crate) port: u16,
    _bound: TcpSocket,
}

impl ClosedPort {
    pub(crate) fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        Self { port: socket.local_addr().expect("its address").port(), _bound: socket }
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

fn write_config(dir: &Path, port: u16, more: &str) -> PathBuf {
    let path = dir.join("sshd_config");
    let keys = dir.join("authorized_keys");
    let host_keys: String = ["host_ed25519", "host_rsa"]
        .map(|name| dir.join(name))
        .iter()
        .filter(|path| path.exists())
        .map(|path| format!("HostKey {}\n", path.display()))
        .collect();
    // The home directory keeps the shell from reading the start-up files of the user who runs the tests.
    let text = format!(
        "{more}\nPort {port}\nListenAddress 127.0.0.1\n{host_keys}AuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
         PidFile none\nPermitRootLogin yes\nLogLevel VERBOSE\nMaxStartups 100\nSetEnv HOME={}\n",
        keys.display(),
        dir.display()
    );
    fs::write(&path, text).expect("writing sshd_config");
    path
}
