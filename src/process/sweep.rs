//! What left its process group by setsid(2) and outlived its parents: adopted by us, the subreaper, and known by its cookie.

use std::fs;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpid, kill_process, waitid, waitpid};
use tokio_util::sync::CancellationToken;

use super::cookie::{COOKIE, Carries, Stat, UNKNOWN_MAX, carries};
use super::spawn::Groups;
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

/// Ends and reaps every adopted child with the cookie. Each that ends may leave us children of its own, so it looks until a look
/// finds nothing and nobody came or went meanwhile. Zombies of earlier escapes go, too.
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
        let children = children();
        let mut again = false;
        for &child in &children {
            let found = match reap_zombie(child, groups) {
                Child::Lives => carries(child, |variable| variable == cookie.as_bytes()),
                Child::Ended => Carries::Ended,
                Child::Another => Carries::No,
            };
            again |= match found {
                Carries::Yes => {
                    let is_new = !told.contains(&child);
                    told.extend(is_new.then_some(child));
                    if sweep.kill.is_cancelled() || started.elapsed() >= sweep.grace {
                        let _ = kill_process(child, Signal::KILL);
                    } else if is_new {
                        let _ = kill_process(child, Signal::TERM);
                    }
                    true
                }
                Carries::Ended => true,
                // One of ours is waited for until it has ended: what it started becomes our child only then.
                Carries::Unknown => told.contains(&child) || started.elapsed() < UNKNOWN_MAX,
                Carries::No => false,
            };
        }
        if !again && children == self::children() {
            return;
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// The children of our first thread (proc(5): `children`), to which the kernel gives all that lose their parent, as long as it lives. Those that
/// other threads forked are the leaders of groups, which are waited for. While one of them is reaped, another may be missing.
fn children() -> Vec<Pid> {
    let pid = getpid().as_raw_nonzero();
    let list = fs::read_to_string(format!("/proc/self/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

/// How it stands with a child.
enum Child {
    /// It runs.
    Lives,
    /// It is gone, and what it started may have become our child.
    Ended,
    /// It is of another action, which reaps it.
    Another,
}

/// Reaps a child that has ended and is of no action's group; the others are for their own action to reap.
fn reap_zombie(child: Pid, groups: &Groups) -> Child {
    let groups = groups.lock();
    match Stat::of(child).filter(|stat| Pid::from_raw(stat.ppid) == Some(getpid())) {
        None => Child::Ended,
        Some(stat) if stat.state != 'Z' => Child::Lives,
        Some(stat) if Pid::from_raw(stat.pgrp).is_some_and(|group| groups.contains(&group)) => Child::Another,
        // One of which only the first thread has ended cannot be reaped yet.
        Some(_) => match waitpid(Some(child), WaitOptions::NOHANG) {
            Ok(None) => Child::Another,
            Ok(Some(_)) | Err(_) => Child::Ended,
        },
    }
}
