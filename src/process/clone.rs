//! Starting a program without copying the director: clone(2) with `CLONE_VM` and `CLONE_VFORK`, as posix_spawn(3) does it, which knows no
//! parent-death signal.
//!
//! The child shares our memory, and the thread that cloned it waits, until it has executed its program. What it does before is system
//! calls alone, on a stack of its own, with every signal blocked until none has a handler of ours any more. So a start costs the same however
//! much memory the director has (`bench/noop.py`).

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString, c_char, c_int, c_void};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::Spec;
use super::cookie::COOKIE;

/// Bytes of the child's stack beside what its arguments need: execvpe(3) takes up to 64 KiB to try the directories of `PATH`.
const STACK: usize = 128 * 1024;
/// The exit status of a child that did not get as far as its program. Nobody sees it.
const NOT_STARTED: c_int = 127;
/// The last signal (signal(7)).
const LAST_SIGNAL: c_int = 64;

/// A child that runs, with our ends of its pipes.
pub(super) struct Cloned {
    pub(super) leader: Pid,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// A start that goes on, and can be given up: a program on a file system that does not answer is executed only when this does, if ever.
#[derive(Default)]
pub(super) struct Birth {
    /// The child's process id, which it tells by itself; 0 before.
    child: AtomicI32,
    given_up: AtomicBool,
    /// Whether the child is another's to signal, and to reap. Locked while it is signalled, so that nobody does.
    over: Mutex<bool>,
}

impl Birth {
    /// Ends the child unless it has become its program. What it waits for in the kernel may hold up its end, but it executes nothing any more.
    pub(super) fn give_up(&self) {
        let over = self.lock();
        // Whichever of both is first, this or the child that tells of itself: one of them sees the other.
        self.given_up.store(true, Ordering::SeqCst);
        if let Some(child) = Pid::from_raw(self.child.load(Ordering::SeqCst)).filter(|_| !*over) {
            let _ = kill_process(child, Signal::KILL);
        }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever waits for a birth. It is given up when this is dropped.
pub(super) struct Midwife(pub(super) Arc<Birth>);

impl Drop for Midwife {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

/// What is executed, in the form that the kernel wants.
pub(super) struct Image {
    args: Vec<CString>,
    env: Vec<CString>,
    cwd: Option<CString>,
    stdin: Arc<File>,
}

impl Image {
    /// The program of `spec`, with our own environment and what is added to it.
    pub(super) fn new(spec: &Spec, cookie: &str) -> io::Result<Self> {
        let mut variables: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        variables.extend(spec.env.iter().cloned());
        variables.insert(COOKIE.into(), cookie.into());
        let variable =
            |(name, value): (OsString, OsString)| c_string(&[name.as_bytes(), b"=", value.as_bytes()].concat());
        let stdin = spec.stdin.as_ref().map(Arc::clone);
        Ok(Self {
            args: [&spec.program]
                .into_iter()
                .chain(&spec.args)
                .map(|arg| c_string(arg.as_bytes()))
                .collect::<Result<_, _>>()?,
            env: variables.into_iter().map(variable).collect::<Result<_, _>>()?,
            cwd: spec.cwd.as_ref().map(|cwd| c_string(OsStr::as_bytes(cwd.as_os_str()))).transpose()?,
            stdin: stdin.map_or_else(|| File::open("/dev/null").map(Arc::new), Ok)?,
        })
    }

    /// Executes it as the leader of a group of its own.
    ///
    /// # Errors
    /// What kept it from being executed: nothing of it is left then.
    pub(super) fn start(&self, birth: &Birth) -> io::Result<Cloned> {
        let (stdout, child_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, child_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        let (args, env) = (pointers(&self.args), pointers(&self.env));
        let mut plan = Plan {
            args: args.as_ptr(),
            env: env.as_ptr(),
            cwd: self.cwd.as_ref().map_or(ptr::null(), |cwd| cwd.as_ptr()),
            files: [self.stdin.as_raw_fd(), child_stdout.as_raw_fd(), child_stderr.as_raw_fd()],
            director: rustix::process::getpid().as_raw_nonzero().get(),
            birth,
            error: 0,
        };
        let leader = clone(&mut plan, STACK + 2 * size_of_val(&*args))?;
        Ok(Cloned { leader, stdout, stderr })
    }
}

fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a NUL byte in an argument or a variable"))
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// What the child needs, and where it says why it failed.
struct Plan {
    args: *const *const c_char,
    env: *const *const c_char,
    /// Null for our own.
    cwd: *const c_char,
    /// Its first three descriptors. Ours are all above those, since Rust's runtime sees to it that they are never free.
    files: [RawFd; 3],
    director: c_int,
    birth: *const Birth,
    /// An `errno`.
    error: c_int,
}

#[expect(
    unsafe_code,
    reason = "no safe way to start a program has a parent-death signal without a copy of all page tables"
)]
fn clone(plan: &mut Plan, stack_size: usize) -> io::Result<Pid> {
    let mut stack: Vec<MaybeUninit<u128>> = Vec::with_capacity(stack_size.div_ceil(size_of::<u128>()));
    let top = stack.spare_capacity_mut().as_mut_ptr_range().end;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the signal sets are initialised by the calls that take them. The child runs `child` on a stack that nobody else uses, and has
    // left it for good when `clone` returns; until then this thread stands still, so `plan` and what it points at outlive their use.
    let (pid, error, birth) = unsafe {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        let pid = libc::clone(child, top.cast(), flags, ptr::from_mut(plan).cast());
        let error = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
        (pid, error, &*plan.birth)
    };
    *birth.lock() = true;
    let pid = Pid::from_raw(pid).filter(|_| pid > 0).ok_or(error)?;
    if plan.error == 0 {
        return Ok(pid);
    }
    // It has ended; nobody else reaps it.
    let _ = waitpid(Some(pid), WaitOptions::empty());
    Err(io::Error::from_raw_os_error(plan.error))
}

/// The child's whole life before its program. Returns only on failure.
#[expect(unsafe_code, reason = "as for `clone`")]
extern "C" fn child(plan: *mut c_void) -> c_int {
    // SAFETY: `clone` hands over a plan that nobody else looks at before this function's end.
    let plan = unsafe { &mut *plan.cast::<Plan>() };
    // SAFETY: see `execute`.
    plan.error = unsafe { execute(plan) };
    NOT_STARTED
}

/// Becomes the program. Returns the `errno` of what failed.
///
/// # Safety
/// To be called in the child alone. System calls only: no allocation and no lock, since another thread may hold it.
#[expect(unsafe_code, reason = "as for `clone`")]
unsafe fn execute(plan: &Plan) -> c_int {
    // SAFETY: the pointers in the plan are those of strings, arrays and a birth that live; the rest are plain system calls.
    unsafe {
        let errno = || *libc::__errno_location();
        (*plan.birth).child.store(libc::getpid(), Ordering::SeqCst);
        if (*plan.birth).given_up.load(Ordering::SeqCst) {
            return libc::ECANCELED;
        }
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
            return errno();
        }
        // Whoever died before the line above does not tell us any more.
        if libc::getppid() != plan.director {
            return libc::EPIPE;
        }
        if libc::setpgid(0, 0) != 0 || !plan.cwd.is_null() && libc::chdir(plan.cwd) != 0 {
            return errno();
        }
        for (target, &file) in (0..).zip(&plan.files) {
            if libc::dup2(file, target) < 0 {
                return errno();
            }
        }
        // The table of handlers is a copy, unlike the memory in which they would run.
        reset_signals();
        let mut none = MaybeUninit::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
        libc::execvpe(*plan.args, plan.args, plan.env);
        errno()
    }
}

/// No signal has a handler of ours any more, and SIGPIPE, which Rust ignores, ends a program again. What we were told to ignore stays so.
///
/// # Safety
/// As for [`execute`].
#[expect(unsafe_code, reason = "as for `clone`")]
unsafe fn reset_signals() {
    // SAFETY: a `sigaction` of zeros is one: no flags, an empty mask, the default action. Signals that cannot be changed are left alone.
    unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        for signal in 1..=LAST_SIGNAL {
            let mut now: libc::sigaction = std::mem::zeroed();
            let is_known = libc::sigaction(signal, ptr::null(), &raw mut now) == 0;
            let is_ignored = now.sa_sigaction == libc::SIG_IGN && signal != libc::SIGPIPE;
            if is_known && now.sa_sigaction != libc::SIG_DFL && !is_ignored {
                libc::sigaction(signal, &raw const default, ptr::null_mut());
            }
        }
    }
}
