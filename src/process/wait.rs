//! Waiting for a whole process group.

use std::io;
use std::thread;

use rustix::process::{Pid, WaitOptions, WaitStatus, waitpgid};
use tokio::sync::mpsc;

use super::spawn::Groups;
use super::sweep::{self, Sweep};
use crate::event::ExitStatus;

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
fn reap(leader: Pid, tell: &mpsc::UnboundedSender<News>) {
    loop {
        match waitpgid(leader, WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == leader => {
                let _ = tell.send(News::Leader(exit_status(status)));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
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
