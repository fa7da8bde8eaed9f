//! The shell that stays: who ran a script leaves it for the next, which then takes one round trip, and none of the peer's
//! time to start a shell. A connection keeps one; scripts at the same time get shells of their own.

use std::sync::{MutexGuard, PoisonError};

use futures_util::FutureExt;
use russh::ChannelMsg;

use super::Session;
use super::exec::Started;

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

    /// Leaves a shell for the next script; one that nobody needs is closed.
    pub(super) async fn keep_shell(&self, started: Started) {
        let surplus = {
            let mut shell = self.shell();
            if shell.is_none() { shell.replace(started) } else { Some(started) }
        };
        if let Some(started) = surplus {
            self.abandon(&started.writer).await;
        }
    }

    /// Closes the shell, if there is one, so that its place at the peer becomes free.
    pub(super) async fn close_shell(&self) {
        let shell = self.shell().take();
        if let Some(started) = shell {
            self.abandon(&started.writer).await;
        }
    }
}
