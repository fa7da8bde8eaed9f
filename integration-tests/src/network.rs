//! A network of the test's own whose line can go dead.

use std::fs::File;
use std::io::{BufRead, BufReader};
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

fn set(state: &str) {
    ip(&["link", "set", "lo", state]);
}

/// Changes this thread's network.
///
/// # Panics
/// When `ip` refuses.
pub(crate) fn ip(args: &[&str]) {
    let changed = Command::new("ip").args(args).status().expect("ip starts");
    assert!(changed.success(), "ip {args:?}");
}
