//! Short commands go first: while one is under way, transfers pause, so that a lock does not wait for the processors that bulk data keeps busy
//! (`bench/busy.py`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::{self, Ticks};

/// Transfers pause for this long at most for a command, which takes some milliseconds where the peer is near.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Who goes first. Clones share it.
#[derive(Clone)]
pub(super) struct Precedence {
    under_way: Arc<watch::Sender<UnderWay>>,
    pause_max: Duration,
}

#[derive(Clone, Copy)]
struct UnderWay {
    commands: usize,
    /// When the last of them began.
    since: Ticks,
}

/// A command that is under way.
pub(super) struct Command(Precedence);

impl Default for Precedence {
    fn default() -> Self {
        Self::with(PAUSE_MAX)
    }
}

impl Precedence {
    fn with(pause_max: Duration) -> Self {
        let none = UnderWay { commands: 0, since: Ticks::now() };
        Self { under_way: Arc::new(watch::Sender::new(none)), pause_max }
    }

    /// A command begins; it ends when what is returned is dropped.
    pub(super) fn command(&self) -> Command {
        self.under_way.send_modify(|under_way| {
            *under_way = UnderWay { commands: under_way.commands + 1, since: Ticks::now() };
        });
        Command(self.clone())
    }

    /// Lets commands go first. Cheap when there are none.
    pub(super) async fn give_way(&self) {
        if self.under_way.borrow().commands == 0 {
            return;
        }
        let mut changes = self.under_way.subscribe();
        loop {
            let UnderWay { commands, since } = *changes.borrow_and_update();
            let left = self.pause_max.saturating_sub(since.elapsed());
            if commands == 0 || left.is_zero() {
                return;
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = clock::sleep(left) => return,
            }
        }
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        self.0.under_way.send_modify(|under_way| under_way.commands -= 1);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_transfer_pauses_while_a_command_is_under_way() {
        let precedence = Precedence::with(Duration::from_secs(3600));
        assert!(precedence.give_way().now_or_never().is_some());
        let (first, second) = (precedence.command(), precedence.command());
        let waiting = precedence.give_way();
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(first);
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(second);
        waiting.await;
    }

    /// Else a peer that does not answer would slow down the transfers to all others.
    #[tokio::test]
    async fn a_command_that_hangs_delays_a_transfer_once_and_not_for_long() {
        let precedence = Precedence::default();
        let _hangs = precedence.command();
        precedence.give_way().await;
        assert!(precedence.give_way().now_or_never().is_some());
    }
}
