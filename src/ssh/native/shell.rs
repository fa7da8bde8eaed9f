//! The shell that stays: who ran a script leaves it for the next, which then takes one round trip, and none of the peer's
//! time to start a shell. A connection keeps one; scripts at the same time get shells of their own.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use russh::ChannelMsg;

use super::Session;
use super::exec::Started;

/// A shell that takes longer than this to end is left to the peer.
const END_MAX: Duration = Duration::from_secs(5);

impl Session {
    fn shell(&self) -> MutexGuard<'_, Option<Started>> {
        self.shell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shell that stayed, if it is alive.
    pub(super) fn take_shell(&self) -> Option<Started> {
        let mut started = self.shell().take()?;
        // What has come in meanwhile tells whether it lives.
        while let Some(message) = started.reader.wait().now_or_never() {
            match message? {
                ChannelMsg::Success
                | ChannelMsg::WindowAdjusted { .. }
                | ChannelMsg::Data { .. }
                | ChannelMsg::ExtendedData { .. } => {}
                _ => return None,
            }
        }
        Some(started)
    }

    /// Leaves a shell for the next script; gives back one that nobody needs.
    pub(super) fn keep_shell(&self, started: Started) -> Option<Started> {
        let mut shell = self.shell();
        if shell.is_some() {
            return Some(started);
        }
        *shell = Some(started);
        None
    }

    /// Ends the shell that stayed, if there is one, so that its place at the peer becomes free.
    pub(super) async fn close_shell(&self) {
        let shell = self.shell().take();
        if let Some(started) = shell {
            self.end_shell(started).await;
        }
    }

    /// Has a shell end by itself, which it does when no script comes any more.
    pub(super) async fn end_shell(&self, mut started: Started) {
        // Fails when the connection is over, and the shell with it.
        let _ = started.writer.eof().await;
        let end = async { while !matches!(started.reader.wait().await, None | Some(ChannelMsg::Close)) {} };
        if tokio::time::timeout(END_MAX, end).await.is_err() {
            self.abandon(&started.writer).await;
        }
    }
}
