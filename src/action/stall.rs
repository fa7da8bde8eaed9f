//! Whether an rsync makes progress, judged from outside: by what its processes read, write and compute.
//!
//! What an rsync prints says nothing while it makes the list of files or computes checksums. The kernel's accounts do: bytes by any read
//! or write (proc(5), `/proc/PID/io`), which a hashing rsync has without a transfer, bytes from a disk (directories), and processor time,
//! which a walk through cached directories takes. All processes of the group count but `ssh`, whose keepalives go on over a dead rsync.
//!
//! Not seen is what the other side does in silence, as when it hashes one large file: a timeout should be longer than that takes.

use std::fs;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::{self, Ticks};

/// Looks for each timeout.
const LOOKS: u32 = 8;
/// Bounds on the time between two looks.
const OFTEN: Duration = Duration::from_millis(50);
const SELDOM: Duration = Duration::from_secs(10);
/// So many clock ticks (10 ms each) of processor time are progress: an idle rsync wakes once a minute for some microseconds.
const BUSY: u64 = 2;

/// What the processes of a group have done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Done {
    /// Read and written.
    bytes: u64,
    /// Processor time.
    ticks: u64,
}

impl Done {
    /// Whether there is progress since `before`. Also when a process has ended, and took its accounts along.
    fn has_moved(self, before: Self) -> bool {
        self.bytes != before.bytes || self.ticks < before.ticks || self.ticks >= before.ticks + BUSY
    }
}

/// Resolves when the group of `leader` has made no progress for `timeout`. Time that the host sleeps does not count.
pub(super) async fn stalled(mut leader: watch::Receiver<Option<u32>>, timeout: Duration) -> Duration {
    let Ok(Some(leader)) = leader.wait_for(Option::is_some).await.map(|leader| *leader) else {
        return std::future::pending().await;
    };
    let pause = (timeout / LOOKS).clamp(OFTEN, SELDOM);
    let (mut last, mut idle) = (Done::default(), Duration::ZERO);
    loop {
        let since = Ticks::now();
        clock::sleep(pause).await;
        let now = tokio::task::spawn_blocking(move || group(leader)).await.unwrap_or_default();
        if now.has_moved(last) {
            (last, idle) = (now, Duration::ZERO);
            continue;
        }
        idle += since.elapsed().min(2 * pause);
        if idle >= timeout {
            return idle;
        }
    }
}

/// The sum over all processes of a group. One that ends meanwhile is left out.
fn group(leader: u32) -> Done {
    let mut sum = Done::default();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let Some(process) = fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|text| stat(&text)) else {
            continue;
        };
        if process.group != leader || process.name == "ssh" {
            continue;
        }
        sum.ticks += process.ticks;
        sum.bytes += fs::read_to_string(format!("/proc/{pid}/io")).map_or(0, |text| io_bytes(&text));
    }
    sum
}

/// What is of interest in `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    group: u32,
    ticks: u64,
}

/// Reads `1 (a name) S 0 GROUP …`, with the times of user and system as fields 14 and 15 (proc(5)). The name may hold anything.
fn stat(text: &str) -> Option<Stat> {
    let (before, rest) = text.rsplit_once(") ")?;
    let name = before.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat { name, group: u32::try_from(number(5)?).ok()?, ticks: number(14)? + number(15)? })
}

/// The bytes of `/proc/PID/io`: by system calls, and from and to disks.
fn io_bytes(text: &str) -> u64 {
    const COUNTED: [&str; 4] = ["rchar", "wchar", "read_bytes", "write_bytes"];
    let values = text.lines().filter_map(|line| line.split_once(": ")).filter(|(key, _)| COUNTED.contains(key));
    values.filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    use super::*;

    #[test]
    fn the_kernel_s_accounts_are_read() {
        let text = "77 (a) b) S 1 70 70 0 -1 4194304 100 0 0 0 12 30 0 0 20 0 1 0 5 6 7";
        assert_eq!(stat(text), Some(Stat { name: "a) b".into(), group: 70, ticks: 42 }));
        assert_eq!(stat("77 (a"), None);
        assert_eq!(io_bytes("rchar: 1\nwchar: 20\nsyscr: 5\nread_bytes: 300\ncancelled_write_bytes: 7\n"), 321);
    }

    #[test]
    fn bytes_processor_time_and_the_end_of_a_process_are_progress() {
        let done = |bytes, ticks| Done { bytes, ticks };
        assert!(!done(5, 11).has_moved(done(5, 10)));
        for now in [done(6, 10), done(4, 10), done(5, 12), done(5, 9)] {
            assert!(now.has_moved(done(5, 10)), "{now:?}");
        }
    }

    /// A shell line that leads a group of its own. Killed at its end.
    struct Running(Child);

    impl Running {
        fn new(line: &str) -> Self {
            let mut command = Command::new("/bin/sh");
            Self(command.args(["-c", line]).process_group(0).stdin(Stdio::null()).spawn().expect("a shell"))
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            if let Some(group) = rustix::process::Pid::from_raw(self.0.id().cast_signed()) {
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            let _ = self.0.wait();
        }
    }

    const TIMEOUT: Duration = Duration::from_millis(600);

    /// Whether a group stalls in this time.
    async fn stalls(line: &str, within: Duration) -> bool {
        let running = Running::new(line);
        let (_sender, leader) = watch::channel(Some(running.0.id()));
        tokio::select! {
            idle = stalled(leader, TIMEOUT) => {
                assert!(idle >= TIMEOUT);
                true
            }
            () = clock::sleep(within) => false,
        }
    }

    #[tokio::test]
    async fn who_waits_stalls_and_who_reads_or_computes_does_not() {
        assert!(stalls("sleep 60; :", 50 * TIMEOUT).await);
        assert!(!stalls("while :; do :; done", 4 * TIMEOUT).await);
        assert!(!stalls("cat /dev/zero > /dev/null; :", 4 * TIMEOUT).await);
    }
}
