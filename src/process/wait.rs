//! The thread of an action: it forks the leader, waits for the whole process group, and looks for what has left that.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, WaitStatus, waitpgid};
use tokio::sync::{mpsc, oneshot};

use super::clone::{Birth, Cloned, Image};
use super::spawn::{Group, Groups, Started};
use super::sweep::{self, Sweep};
use crate::event::ExitStatus;

/// Bytes of the thread's stack.
const STACK: usize = 128 * 1024;
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

/// Starts a thread that starts a child, and reaps its group until nothing of it is left, whatever becomes of who waits for the `reply`.
///
/// # Errors
/// When there is no thread to be had.
pub(super) fn start(
    image: Image,
    sweep: Sweep,
    groups: Groups,
    birth: Arc<Birth>,
    reply: oneshot::Sender<io::Result<Started>>,
) -> io::Result<()> {
    let life = move || {
        let cloned = image.start(&birth);
        drop(image);
        let (tell, news) = mpsc::unbounded_channel();
        let Cloned { leader, stdout, stderr } = match cloned {
            Ok(cloned) => cloned,
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        groups.lock().insert(leader);
        // A caller that has gone away, or goes before it takes what it is sent, drops the group, which ends it.
        let _ = reply.send(Ok(Started { group: Group { leader, live: true }, news, stdout, stderr }));
        reap(leader, &tell);
        groups.lock().remove(&leader);
        let _ = tell.send(News::Empty);
        sweep::run(&sweep, &groups);
        let _ = tell.send(News::Gone);
    };
    thread::Builder::new().name("action".into()).stack_size(STACK).spawn(life).map(|_detached| ())
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
