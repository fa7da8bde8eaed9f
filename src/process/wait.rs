//! Waiting for a whole process group.

use std::io;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, WaitStatus, waitpgid};
use tokio::sync::mpsc;

use super::spawn::Groups;
use super::sweep::{self, Sweep};
use crate::event::ExitStatus;

/// Pauses between two looks at what a leader left behind in its group: each is twice the one before, up to the longest.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
const LOOK_AGAIN_MAX: Duration = Duration::from_millis(20);

/// What becomes known of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// The leader has ended; others of its group may live.
    Leader(ExitStatus),
    /// Nobody is in the group any more; it must not be signalled again.
    Empty,
    /// What had left the group is gone as well.
    Gone,
}

/// Starts a thread that reaps the group of `leader` until nothing of it is left.
///
/// # Errors
/// When there is no thread to be had.
pub(super) fn watch(leader: Pid, groups: Groups, sweep: Sweep) -> io::Result<mpsc::UnboundedReceiver<News>> {
    let (tell, news) = mpsc::unbounded_channel();
    thread::Builder::new().name("wait".into()).stack_size(128 * 1024).spawn(move || {
        reap(leader, &tell);
        groups.lock().remove(&leader);
        let _ = tell.send(News::Empty);
        sweep::run(&sweep, &groups);
        let _ = tell.send(News::Gone);
    })?;
    Ok(news)
}

/// Reaps children of the group until there are none. A member whose parent lives is not our child yet, but becomes it when
/// that parent ends.
///
/// When the leader has ended, it looks again and again: the last one may leave the group by setsid(2), which wakes nobody who waits for it, and
/// neither does its end then. The leader itself cannot.
fn reap(leader: Pid, tell: &mpsc::UnboundedSender<News>) {
    let mut options = WaitOptions::empty();
    let mut pause = LOOK_AGAIN;
    loop {
        match waitpgid(leader, options) {
            Ok(Some((pid, status))) if pid == leader => {
                let _ = tell.send(News::Leader(exit_status(status)));
                options = WaitOptions::NOHANG;
            }
            Ok(None) => {
                thread::sleep(pause);
                pause = (pause * 2).min(LOOK_AGAIN_MAX);
            }
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Err(_no_child_any_more) => return,
        }
    }
}

fn exit_status(status: WaitStatus) -> ExitStatus {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitStatus::Code(code),
        (None, Some(signal)) => ExitStatus::Signal(signal),
        (None, None) => ExitStatus::Signal(0),
    }
}
