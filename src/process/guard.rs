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

use super::cookie::{COOKIE, Carries, UNKNOWN_MAX, carries};
use crate::clock::Ticks;

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
    let started = Ticks::now();
    let mut unknown = Vec::new();
    // Who was started while one look went on is seen by the next.
    let mut clear = 0;
    while clear < 2 {
        let found = kill_all(&prefix);
        // On a busy host there is always one that is about to end or to execute something; one that stays so may be ours.
        let stays = |pid| unknown.contains(pid) && started.elapsed() < UNKNOWN_MAX;
        clear = if found.carriers || found.unknown.iter().any(stays) { 0 } else { clear + 1 };
        unknown = found.unknown;
        thread::sleep(LOOK_AGAIN);
    }
}

/// What there was at a look.
#[derive(Default)]
struct Found {
    carriers: bool,
    /// Of which it cannot be known yet.
    unknown: Vec<Pid>,
}

/// Kills all processes that carry the cookie.
fn kill_all(prefix: &[u8]) -> Found {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    let mut found = Found::default();
    for pid in pids.filter(|pid| *pid != getpid()) {
        match carries(pid, |variable| variable.starts_with(prefix)) {
            Carries::Yes => {
                found.carriers = true;
                let _ = kill_process(pid, Signal::KILL);
            }
            Carries::Unknown => found.unknown.push(pid),
            Carries::No | Carries::Ended => {}
        }
    }
    found
}
