//! Learning that a process which is not our child has exited.

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::descriptor::Watched;

/// A process, held by a descriptor: never another one that has got its number.
pub(super) struct Process(Watched);

impl Process {
    /// The process with this number, which must be known to live; `None` where the kernel does not let us watch it.
    pub(super) fn open(pid: i32) -> Option<Self> {
        let descriptor = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::NONBLOCK).ok()?;
        Watched::new(descriptor).ok().map(Self)
    }

    /// Completes when it has exited, so that its parent gets its status without waiting.
    pub(super) async fn exited(&self) {
        self.0.readable().await;
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[tokio::test]
    async fn an_exited_process_is_known_before_it_is_reaped() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat starts");
        let process = Process::open(child.id().cast_signed()).expect("it lives");
        let early = tokio::time::timeout(std::time::Duration::from_millis(50), process.exited()).await;
        assert!(early.is_err(), "it still reads");
        drop(child.stdin.take());
        process.exited().await;
        assert!(child.try_wait().expect("our child").is_some(), "its status is there at once");
    }
}
