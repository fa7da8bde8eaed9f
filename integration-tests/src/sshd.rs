//! Real sshds on loopback, each with a host key, port and log of its own: the peers.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::sandbox::{Sandbox, user};
use crate::{keys, ports, procs, wait};

/// One of them. All share this machine's files, so tests tell hosts apart by paths. Dropping it ends its sessions.
pub struct Sshd {
    child: Child,
    addr: SocketAddr,
    host_key: PathBuf,
    config: PathBuf,
    log: PathBuf,
}

impl Sshd {
    /// Starts one on 127.0.0.1 whose peer keys a configuration names as `<name>`, and makes its host key known.
    pub fn start(sandbox: &Sandbox, name: &str) -> Self {
        Self::start_with(sandbox, name, "")
    }

    /// The same with more lines of `sshd_config`.
    pub fn start_with(sandbox: &Sandbox, name: &str, options: &str) -> Self {
        Self::start_at(sandbox, name, Ipv4Addr::LOCALHOST.into(), options).known_to(sandbox)
    }

    /// The same on another address of this machine.
    pub fn start_on(sandbox: &Sandbox, name: &str, ip: IpAddr) -> Self {
        Self::start_at(sandbox, name, ip, "").known_to(sandbox)
    }

    /// Starts one whose host key nobody knows yet.
    pub fn start_unknown(sandbox: &Sandbox, name: &str) -> Self {
        Self::start_at(sandbox, name, Ipv4Addr::LOCALHOST.into(), "")
    }

    fn known_to(self, sandbox: &Sandbox) -> Self {
        let known = sandbox.read("known_hosts") + &self.known_hosts_line();
        sandbox.write("known_hosts", known);
        self
    }

    fn start_at(sandbox: &Sandbox, name: &str, ip: IpAddr, options: &str) -> Self {
        fs::create_dir_all("/run/sshd").expect("sshd's privilege separation directory");
        let host_key = sandbox.mkdir(&format!("sshd-{name}")).join("host_key");
        keys::generate(&host_key, "");
        let accepted = format!("{} test\n", keys::public(&sandbox.user_key()));
        sandbox.write(format!("sshd-{name}/authorized_keys"), accepted);
        let dir = sandbox.path(format!("sshd-{name}"));
        // The user's own start-up files of the shell are none of ours: they may be slow, and a killed one may leave locks.
        let options = sandbox.expand(&format!("SetEnv HOME=@/home\n{options}"));
        let (config_file, log) = (dir.join("config"), dir.join("log"));
        let (child, addr) = ports::start("sshd", ip, &log, |addr, log| {
            sandbox.write(&config_file, config(&dir.display().to_string(), addr, &options));
            launch(&config_file, log)
        });
        let sshd = Self { child, addr, host_key, config: config_file, log };
        sandbox.define(name, sshd.peer_with(&sandbox.user_key().display().to_string()));
        sshd
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// How many connections it has accepted so far.
    pub fn connections(&self) -> usize {
        self.log().lines().filter(|line| line.starts_with("Connection from")).count()
    }

    /// The peer keys of a configuration, to stand inside `{ }`, with this private key.
    pub fn peer_with(&self, key: &str) -> String {
        peer_at(self.addr, key)
    }

    /// Its line in a known_hosts file.
    pub fn known_hosts_line(&self) -> String {
        self.known_hosts_line_at(self.addr)
    }

    /// The same for who reaches it by way of another address.
    pub fn known_hosts_line_at(&self, addr: SocketAddr) -> String {
        format!("[{}]:{} {}\n", addr.ip(), addr.port(), keys::public(&self.host_key))
    }

    /// Stops accepting connections; sessions go on.
    pub fn stop_listening(&mut self) {
        procs::signal(self.pid(), Signal::TERM);
        self.child.wait().expect("wait for our child");
    }

    /// Kills it and its sessions, but not what those started.
    pub fn kill(&mut self) {
        self.kill_with(|session| session.comm == "sshd");
    }

    /// Kills its sessions of this moment, but not what those started; new ones are accepted.
    pub fn kill_sessions(&self) {
        let sessions = procs::descendants(self.pid()).into_iter().filter(|process| process.comm == "sshd");
        sessions.for_each(|session| procs::signal(session.pid, Signal::KILL));
    }

    /// Starts it again on the same port, with a new log.
    pub fn start_again(&mut self) {
        self.child = wait::eventually("sshd gets its port back", || {
            ports::start_at("sshd", self.addr, &self.log, |log| launch(&self.config, log))
        });
    }

    fn kill_with(&mut self, also: impl Fn(&procs::Proc) -> bool) {
        let below = procs::descendants(self.pid());
        let _ = self.child.kill();
        let _ = self.child.wait();
        for process in below.into_iter().filter(also) {
            procs::signal(process.pid, Signal::KILL);
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.kill_with(|_| true);
    }
}

fn launch(config: &Path, log: File) -> Child {
    let mut command = Command::new("/usr/sbin/sshd");
    command.args(["-D", "-e", "-f"]).arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().expect("sshd starts")
}

/// The peer keys of a configuration for whatever answers at an address.
pub fn peer_at(addr: SocketAddr, key: &str) -> String {
    format!("user: {}, host: '{}', port: {}, private_ssh_key: {key}", user(), addr.ip(), addr.port())
}

fn config(dir: &str, addr: SocketAddr, options: &str) -> String {
    // Of this one the last line counts, of all others the first.
    let startups = if options.contains("MaxStartups") { "" } else { "MaxStartups 100\n" };
    format!(
        "{options}\n{startups}\
         Port {port}\nListenAddress {ip}\nHostKey {dir}/host_key\nAuthorizedKeysFile {dir}/authorized_keys\n\
         StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
         PermitRootLogin yes\nPidFile none\nLogLevel VERBOSE\nUseDNS no\n\
         X11Forwarding no\nPrintMotd no\n",
        port = addr.port(),
        ip = addr.ip(),
    )
}
