//! What `/proc` says about processes.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// A process that is not a zombie.
#[derive(Debug, Clone)]
pub struct Proc {
    /// Its id.
    pub pid: u32,
    /// Its parent's id.
    pub parent: u32,
    /// The program's name as the kernel keeps it: at most 15 bytes.
    pub comm: String,
    /// Its arguments, separated by spaces.
    pub cmdline: String,
}

/// Sends a signal; a process that is gone is none of our business.
pub fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid is a positive number");
    let _ = kill_process(pid, signal);
}

/// Whether the process exists and is not a zombie.
pub fn alive(pid: u32) -> bool {
    read(pid).is_some()
}

/// The live processes whose arguments or environment name `dir`: those that a sandbox's program started, also by way
/// of a remote shell.
pub fn mentioning(dir: &Path) -> Vec<Proc> {
    let needle = dir.as_os_str().as_encoded_bytes();
    all().into_iter().filter(|p| names(p.pid, "cmdline", needle) || names(p.pid, "environ", needle)).collect()
}

/// Those of [`mentioning`] that run the program `comm`.
pub fn running(dir: &Path, comm: &str) -> Vec<Proc> {
    mentioning(dir).into_iter().filter(|p| p.comm == comm).collect()
}

/// The live processes below `pid`, children before their own children.
pub fn descendants(pid: u32) -> Vec<Proc> {
    let all = all();
    let mut family = vec![pid];
    let mut found = Vec::new();
    while let Some(parent) = family.pop() {
        for child in all.iter().filter(|p| p.parent == parent) {
            family.push(child.pid);
            found.push(child.clone());
        }
    }
    found
}

/// A memory figure of `/proc/PID/status` in KiB, such as `VmRSS` or `VmHWM`.
///
/// # Panics
/// When the process is gone.
pub fn memory_kib(pid: u32, field: &str) -> u64 {
    let line = status_field(pid, field).unwrap_or_else(|| panic!("process {pid} has no {field}"));
    line.trim_end_matches("kB").trim().parse().expect("a number of kB")
}

/// What a process has used of the processors; 0 when it is gone.
pub fn processor_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name, which may hold blanks: utime and stime are the fields 14 and 15 (proc_pid_stat(5)), in hundredths of a second.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    Duration::from_millis(10 * fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>())
}

/// How many descriptors the process has open.
///
/// # Panics
/// When the process is gone.
pub fn open_descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count()
}

/// Whether the process has installed a handler for the signal.
pub fn catches(pid: u32, signal: Signal) -> bool {
    let mask = status_field(pid, "SigCgt").and_then(|hex| u64::from_str_radix(&hex, 16).ok()).unwrap_or(0);
    mask & (1 << (signal.as_raw() - 1)) != 0
}

/// How many TCP connections to an IPv4 address are established.
pub fn established_to(addr: SocketAddr) -> usize {
    sockets_to(addr, "01")
}

/// How many TCP connections to an IPv4 address wait for its first answer.
pub fn connecting_to(addr: SocketAddr) -> usize {
    sockets_to(addr, "02")
}

fn sockets_to(addr: SocketAddr, state: &str) -> usize {
    let SocketAddr::V4(_) = addr else { panic!("{addr} is not IPv4") };
    let remote = as_in_proc(addr);
    let table = fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
    let sockets = table.lines().map(|line| line.split_whitespace().skip(2).take(2).collect::<Vec<_>>());
    sockets.filter(|socket| *socket == [remote.as_str(), state]).count()
}

/// Whether it is this process that listens at the address.
pub fn listens(pid: u32, addr: SocketAddr) -> bool {
    let table = if addr.is_ipv4() { "tcp" } else { "tcp6" };
    let table = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
    let local = as_in_proc(addr);
    // Local address, state and inode are the fields 1, 3 and 9; 0A is TCP_LISTEN.
    let listener = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find_map(|fields| {
        let found = fields.len() > 9 && fields[1] == local && fields[3] == "0A";
        found.then(|| format!("socket:[{}]", fields[9]))
    });
    let descriptors = || fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    listener.is_some_and(|socket| {
        descriptors().any(|it| fs::read_link(it.path()).is_ok_and(|to| to.as_os_str() == socket.as_str()))
    })
}

/// An address as the tables of sockets have it: words of four bytes in the host's order.
fn as_in_proc(addr: SocketAddr) -> String {
    let octets = match addr.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let word = |bytes: &[u8]| format!("{:08X}", u32::from_ne_bytes(bytes.try_into().expect("four bytes")));
    format!("{}:{:04X}", octets.chunks(4).map(word).collect::<String>(), addr.port())
}

/// A process id that no process has.
pub fn dead_pid() -> u32 {
    let mut child = std::process::Command::new("/bin/true").spawn().expect("/bin/true starts");
    child.wait().expect("/bin/true ends");
    child.id()
}

fn status_field(pid: u32, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

fn all() -> Vec<Proc> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    entries.filter_map(|entry| read(entry.file_name().to_str()?.parse().ok()?)).collect()
}

fn read(pid: u32) -> Option<Proc> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = stat.rsplit_once(')')?;
    let comm = head.split_once('(')?.1.to_owned();
    let mut fields = tail.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let cmdline = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let cmdline = String::from_utf8_lossy(&cmdline).replace('\0', " ");
    (!matches!(state, "Z" | "X")).then_some(Proc { pid, parent, comm, cmdline })
}

fn names(pid: u32, file: &str, needle: &[u8]) -> bool {
    let content = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    content.windows(needle.len()).any(|window| window == needle)
}
