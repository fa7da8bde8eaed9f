//! Ports for servers that choose none themselves.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Child;

use crate::{procs, wait};

/// An address that nobody listens on at this moment.
fn free_addr(ip: IpAddr) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).expect("a free port");
    listener.local_addr().expect("its address")
}

/// Starts a server that logs into a file, and waits until it listens; at another port if somebody else took the first.
///
/// # Panics
/// When it ends for any other reason.
pub fn start(what: &str, ip: IpAddr, log: &Path, launch: impl Fn(SocketAddr, File) -> Child) -> (Child, SocketAddr) {
    wait::eventually(&format!("{what} finds a free port"), || {
        let addr = free_addr(ip);
        start_at(what, addr, log, |log| launch(addr, log)).map(|child| (child, addr))
    })
}

/// The same at this address only; `None` when somebody else has it.
///
/// # Panics
/// As [`start`].
pub fn start_at(what: &str, addr: SocketAddr, log: &Path, launch: impl Fn(File) -> Child) -> Option<Child> {
    let mut child = launch(File::create(log).expect("its log"));
    let listens = wait::eventually(&format!("{what} listens or gives up"), || {
        let ended = child.try_wait().expect("wait for our child").is_some();
        (ended || procs::listens(child.id(), addr)).then_some(!ended)
    });
    let log = String::from_utf8_lossy(&fs::read(log).expect("its log")).into_owned();
    assert!(listens || log.contains("ddress already in use"), "{what} does not start:\n{log}");
    listens.then_some(child)
}
