//! The variable by which a process is known to belong to an action, wherever it went.

use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use rustix::process::Pid;

/// The variable's name.
pub(super) const COOKIE: &str = "RSYNCDIRECTOR_ACTION_COOKIE";

/// How long it may remain unknown whether a process carries a cookie.
pub(super) const UNKNOWN_MAX: Duration = Duration::from_secs(10);

/// Set in the flags of a process that is a thread of the kernel (`PF_KTHREAD`).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// Whether a process carries a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carries {
    /// It does.
    Yes,
    /// It does not, or we may not know.
    No,
    /// It has no environment at this moment, as while it executes a program or ends: another look will tell.
    Unknown,
    /// It has ended. What it started may live.
    Ended,
}

/// Whether a process has such a variable (`NAME=value`) in its environment.
pub(super) fn carries(pid: Pid, is_it: impl Fn(&[u8]) -> bool) -> Carries {
    match fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())) {
        Ok(environ) if environ.split(|&byte| byte == 0).any(is_it) => Carries::Yes,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Carries::No,
        other => {
            let read = other.map_or(0, |environ| environ.len() as u64);
            Stat::of(pid).map_or(Carries::Ended, |stat| stat.without_cookie_in(read))
        }
    }
}

/// What proc(5) calls the fields of `stat`.
pub(super) struct Stat {
    pub(super) state: char,
    pub(super) ppid: i32,
    pub(super) pgrp: i32,
    flags: u64,
    end_code: u64,
    env_start: u64,
    env_end: u64,
}

impl Stat {
    /// `None` when there is no such process.
    pub(super) fn of(pid: Pid) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        // The name, the second of them, may be anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied();
        let number = |number| field(number)?.parse().ok();
        Some(Self {
            state: field(3)?.chars().next()?,
            ppid: field(4)?.parse().ok()?,
            pgrp: field(5)?.parse().ok()?,
            flags: number(9)?,
            end_code: number(27)?,
            env_start: number(50)?,
            env_end: number(51)?,
        })
    }

    /// What is to be said of a process of which so many bytes of the environment were read just before, without a cookie in them.
    fn without_cookie_in(&self, read: u64) -> Carries {
        // The kernel sets this when it has put the environment in its place; before, that looks empty for a moment.
        let executes = self.end_code == 0;
        // What is read while a program is executed ends where that happens.
        let is_all = self.env_end.checked_sub(self.env_start) == Some(read);
        match self.state {
            'Z' | 'X' => Carries::Ended,
            _ if self.flags & KERNEL_THREAD != 0 => Carries::No,
            _ if executes || !is_all => Carries::Unknown,
            _ => Carries::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// Looks until it is known.
    fn look(child: &Child) -> Carries {
        let pid = Pid::from_raw(child.id().cast_signed()).expect("a pid");
        let look = || carries(pid, |variable| variable == b"A=b");
        std::iter::repeat_with(look).find(|&carries| carries != Carries::Unknown).expect("without end")
    }

    fn sleeper(env: &[(&str, &str)]) -> Child {
        Command::new("/bin/sleep").arg("100").env_clear().envs(env.iter().copied()).spawn().expect("sleep")
    }

    #[test]
    fn a_variable_another_one_and_none_at_all_are_told_apart() {
        for (env, expected) in [(&[("A", "b")][..], Carries::Yes), (&[("A", "bc")], Carries::No), (&[], Carries::No)] {
            let mut child = sleeper(env);
            assert_eq!(look(&child), expected, "{env:?}");
            child.kill().expect("it lives");
            while look(&child) != Carries::Ended {}
            child.wait().expect("it ends");
            assert_eq!(look(&child), Carries::Ended);
        }
    }

    #[test]
    fn what_was_not_read_whole_is_not_known_unless_it_is_a_thread_of_the_kernel_s() {
        let stat = |flags| Stat { state: 'S', ppid: 0, pgrp: 0, flags, end_code: 0, env_start: 0, env_end: 0 };
        assert_eq!(stat(KERNEL_THREAD | 0x40).without_cookie_in(0), Carries::No);
        assert_eq!(stat(0x40).without_cookie_in(0), Carries::Unknown);
        let stat = Stat::of(rustix::process::getpid()).expect("we live");
        assert_eq!(stat.flags & KERNEL_THREAD, 0);
        let size = stat.env_end - stat.env_start;
        assert!(size > 0);
        assert_eq!(stat.without_cookie_in(size), Carries::No);
        assert_eq!(stat.without_cookie_in(size - 1), Carries::Unknown, "it may be in what was not read");
    }
}
