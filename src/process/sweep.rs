//! What left its process group by setsid(2) and outlived its parents: adopted by us, the subreaper, and known by its cookie.

use std::fs;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpid, kill_process, waitid, waitpid};
use tokio_util::sync::CancellationToken;

use super::spawn::{COOKIE, Groups};
use crate::clock::Ticks;

/// Pause between two looks while something that was told to end still lives.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What an action's last sweep looks for.
pub(super) struct Sweep {
    /// The value of the cookie.
    pub(super) cookie: String,
    /// Time between SIGTERM and SIGKILL.
    pub(super) grace: Duration,
    /// No grace any more.
    pub(super) kill: CancellationToken,
}

/// Ends and reaps every adopted child with the cookie. Each that ends may leave us children of its own, so it looks until there is
/// none. Zombies of earlier escapes go, too.
pub(super) fn run(sweep: &Sweep, groups: &Groups) {
    // The usual case, for one system call: no child at all.
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if matches!(waitid(WaitId::All, look), Err(rustix::io::Errno::CHILD)) {
        return;
    }
    let cookie = format!("{COOKIE}={}", sweep.cookie);
    let started = Ticks::now();
    let mut told: Vec<Pid> = Vec::new();
    loop {
        let mut any = false;
        for child in children() {
            if reap_zombie(child, groups) || !carries(child, |variable| variable == cookie.as_bytes()) {
                continue;
            }
            any = true;
            if sweep.kill.is_cancelled() || started.elapsed() >= sweep.grace {
                let _ = kill_process(child, Signal::KILL);
            } else if !told.contains(&child) {
                told.push(child);
                let _ = kill_process(child, Signal::TERM);
            }
        }
        if !any {
            return;
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// The children of our first thread (proc(5): `children`), to which the kernel gives all that lose their parent, as long as it lives. Those that
/// other threads forked are the leaders of groups, which are waited for.
fn children() -> Vec<Pid> {
    let pid = getpid().as_raw_nonzero();
    let list = fs::read_to_string(format!("/proc/self/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

/// Reaps a child that has ended and is of no action's group; the others are for their own action to reap.
fn reap_zombie(child: Pid, groups: &Groups) -> bool {
    let groups = groups.lock();
    match state_and_group(child) {
        Some(('Z', group)) if !groups.contains(&group) => {
            let _ = waitpid(Some(child), WaitOptions::NOHANG);
            true
        }
        Some(('Z', _)) | None => true,
        Some(_) => false,
    }
}

/// State and process group of a child of ours (proc(5): fields 3, 4 and 5 of `stat`).
fn state_and_group(pid: Pid) -> Option<(char, Pid)> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent: i32 = fields.next()?.parse().ok()?;
    let group = Pid::from_raw(fields.next()?.parse().ok()?)?;
    (Pid::from_raw(parent) == Some(getpid())).then_some((state, group))
}

/// Whether a process has such a variable (`NAME=value`) in its environment. A zombie has none any more.
pub(super) fn carries(pid: Pid, is_it: impl Fn(&[u8]) -> bool) -> bool {
    fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero()))
        .is_ok_and(|environ| environ.split(|&byte| byte == 0).any(is_it))
}
