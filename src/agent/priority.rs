//! A verification gives way to whatever else its host does.

use std::io;

/// Added to the niceness: as nice(1) does by default.
const NICER: i32 = 10;
/// ioprio_set(2): the calling thread, and the class that gets the disk when nobody else wants it.
const WHO_PROCESS: libc::c_int = 1;
const CLASS_IDLE: libc::c_int = 3 << 13;

/// Lowers the priority of the calling thread, and of those that it starts from now on: for the processor, and for the disk where its scheduler
/// knows of classes.
///
/// # Errors
/// When the kernel has no such thing, or something forbids it.
pub fn lower() -> io::Result<()> {
    rustix::process::nice(NICER)?;
    // SAFETY: three integers; the call touches no memory.
    #[expect(unsafe_code, reason = "no crate in use has this system call")]
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, CLASS_IDLE) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_a_thread_gives_up_its_threads_do_not_have() {
        let niceness = std::thread::spawn(|| {
            let before = rustix::process::nice(0).expect("known");
            super::lower().expect("lowered");
            let after = std::thread::spawn(|| rustix::process::nice(0).expect("known")).join().expect("no panic");
            (before, after)
        });
        let (before, after) = niceness.join().expect("no panic");
        assert_eq!(after, (before + super::NICER).min(19));
    }
}
