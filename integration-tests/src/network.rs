//! A network of the test's own: a line that can go dead, or one that booted machines share.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace with a loopback interface only.
pub struct Network(());

impl Network {
    /// Makes one and moves this thread there, and with it what it starts from now on.
    ///
    /// # Panics
    /// When there is none: it needs root and iproute2.
    pub fn enter() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "ip link set lo up && echo up && exec cat"]);
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare starts");
        let mut answer = String::new();
        BufReader::new(holder.stdout.take().expect("a piped output")).read_line(&mut answer).expect("its output");
        assert_eq!(answer, "up\n", "no network namespace (the test needs root and iproute2)");
        let namespace = File::open(format!("/proc/{}/ns/net", holder.id())).expect("the namespace of the child");
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("entering the namespace");
        drop(holder.stdin.take());
        holder.wait().expect("wait for our child");
        Self(())
    }

    /// No packet arrives any more, and nobody is told so.
    pub fn fail(&self) {
        set("down");
    }

    /// Packets arrive again.
    pub fn mend(&self) {
        set("up");
    }
}

/// A network that machines of one test share, and the thread that made it.
pub struct Lan {
    /// Or why there is none.
    network: Result<Network, &'static str>,
    hosts: Cell<u8>,
}

impl Lan {
    /// Makes one and moves this thread there; it is its host 10.77.0.1. Where that is not possible, no machine boots in it.
    pub fn enter() -> Self {
        Self { network: Self::connect(), hosts: Cell::new(1) }
    }

    fn connect() -> Result<Network, &'static str> {
        if !rustix::process::getuid().is_root() {
            return Err("a network for machines needs root");
        }
        let network = Network::enter();
        let lines = ["link add lan type bridge", "addr add 10.77.0.1/24 dev lan", "link set lan up"];
        let made = lines.iter().all(|line| try_ip(&line.split(' ').collect::<Vec<_>>()));
        if made { Ok(network) } else { Err("this kernel has no bridges") }
    }

    /// The address of one more host, or why it can have none.
    pub(crate) fn next_address(&self) -> Result<Ipv4Addr, String> {
        if let Err(reason) = self.network {
            return Err(reason.to_owned());
        }
        self.hosts.set(self.hosts.get() + 1);
        Ok(Ipv4Addr::new(10, 77, 0, self.hosts.get()))
    }
}

fn set(state: &str) {
    ip(&["link", "set", "lo", state]);
}

/// Changes this thread's network.
///
/// # Panics
/// When `ip` refuses.
fn ip(args: &[&str]) {
    assert!(try_ip(args), "ip {args:?}");
}

fn try_ip(args: &[&str]) -> bool {
    Command::new("ip").args(args).status().expect("ip starts").success()
}
