//! The guard: a process of our own that outlives a killed director for as long as it takes to end what that left behind.
//!
//! The parent-death signal reaches only the leader of an action, not what the leader started: an rsync's other processes, or
//! what a shell line runs. All of them carry a cookie in their environment that begins with a word of this director. The guard
//! waits for the end of a pipe, whose other end only the director holds, and then kills whoever carries such a cookie.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, PipeWriter, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpid, kill_process};

use super::spawn::COOKIE;
use super::sweep::carries;

/// The first argument that makes the binary the guard; the second is the word.
pub const GUARD: &str = "__guard";

/// Pause between two looks while something still lives.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The director's side. The guard ends when this is dropped, after a last look.
pub(super) struct Guard {
    end: Option<PipeWriter>,
    process: Child,
}

impl Guard {
    /// Starts it for the children of which the cookie begins with `word`.
    pub(super) fn start(word: &str) -> io::Result<Self> {
        let (watched, end) = io::pipe()?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("rsyncdirector").args([GUARD, word]).env_clear().current_dir("/").process_group(0);
        command.stdin(watched).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { end: Some(end), process: command.spawn()? })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.end.take());
        // It looks once more and ends: some milliseconds.
        let _ = self.process.wait();
    }
}

/// The guard's side: returns when the director is gone and nothing of it lives any more.
pub fn run(word: &OsStr) {
    let mut byte = [0];
    // Nothing is ever written; whatever ends this also ends the wait.
    while io::stdin().read(&mut byte).is_ok_and(|count| count > 0) {}
    let prefix = [COOKIE.as_bytes(), b"=", word.as_encoded_bytes(), b"-"].concat();
    while kill_all(&prefix) {
        thread::sleep(LOOK_AGAIN);
    }
}

/// Kills all processes that carry the cookie. Whether there were any.
fn kill_all(prefix: &[u8]) -> bool {
    let Ok(entries) = fs::read_dir("/proc") else { return false };
    let pids = entries.flatten().filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    let mut any = false;
    for pid in pids.filter(|pid| *pid != getpid() && carries(*pid, |variable| variable.starts_with(prefix))) {
        any = true;
        let _ = kill_process(pid, Signal::KILL);
    }
    any
}
