//! A real dropbear on loopback: the SSH server of small machines.
//!
//! It knows keys only by the home directory of the account, so it sees another one: a mount namespace of its own shows a directory
//! of the sandbox there.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::sandbox::{Sandbox, home};
use crate::sshd::peer_at;
use crate::{keys, ports, procs};

/// One of them. Dropping it ends its sessions.
pub struct Dropbear {
    child: Child,
}

impl Dropbear {
    /// Starts one that a configuration names as `<name>`, and makes its host key known.
    ///
    /// # Panics
    /// When it does not start: it needs root.
    pub fn start(sandbox: &Sandbox, name: &str) -> Self {
        let dir = sandbox.mkdir(&format!("dropbear-{name}"));
        keys::generate(&dir.join("openssh_key"), "");
        let mut convert = Command::new("dropbearconvert");
        convert.args(["openssh", "dropbear"]).args([dir.join("openssh_key"), dir.join("host_key")]);
        let converted = convert.stderr(Stdio::null()).status().expect("dropbearconvert starts");
        assert!(converted.success(), "dropbearconvert takes the key");
        let accepted = format!("{} test\n", keys::public(&sandbox.user_key()));
        sandbox.write(format!("dropbear-{name}/home/.ssh/authorized_keys"), accepted);
        for private in ["home", "home/.ssh"] {
            sandbox.chmod(&format!("dropbear-{name}/{private}"), 0o700);
        }
        let launch = |addr, log| launch(&dir, addr, log);
        let (child, addr) = ports::start("dropbear", Ipv4Addr::LOCALHOST.into(), &dir.join("log"), launch);
        let line = format!("[{}]:{} {}\n", addr.ip(), addr.port(), keys::public(&dir.join("openssh_key")));
        sandbox.write("known_hosts", sandbox.read("known_hosts") + &line);
        sandbox.define(name, peer_at(addr, &sandbox.user_key().display().to_string()));
        Self { child }
    }
}

impl Drop for Dropbear {
    fn drop(&mut self) {
        let sessions = procs::descendants(self.child.id());
        let _ = self.child.kill();
        let _ = self.child.wait();
        sessions.iter().for_each(|process| procs::signal(process.pid, Signal::KILL));
    }
}

fn launch(dir: &Path, addr: SocketAddr, log: File) -> Child {
    let script = r#"mount --bind "$1" "$2" && exec dropbear -F -E -s -p "$3" -r "$4" -P "$5""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).args([dir.join("home"), home().into()]);
    command.arg(addr.to_string()).args([dir.join("host_key"), dir.join("pid")]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("unshare starts")
}
