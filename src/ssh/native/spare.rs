//! A command started ahead: the next one of its kind finds it waiting for its standard input, which saves two round trips and the
//! peer's time to start a shell. Each is used once; a connection has at most one.

use std::sync::{MutexGuard, PoisonError};

use futures_util::FutureExt;
use russh::ChannelMsg;

use super::Session;
use super::exec::Started;

/// A command that waits for its input.
pub(super) struct Spare {
    command: String,
    started: Started,
}

/// Whether there is one.
#[derive(Default)]
pub(super) enum Slot {
    #[default]
    Empty,
    /// Somebody is starting one.
    Preparing,
    Ready(Spare),
}

impl Session {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The spare, if it is of this command and alive.
    pub(super) fn take_spare(&self, command: &str) -> Option<Started> {
        let mut slot = self.slot();
        if !matches!(&*slot, Slot::Ready(spare) if spare.command == command) {
            return None;
        }
        let Slot::Ready(Spare { mut started, .. }) = std::mem::take(&mut *slot) else { return None };
        // What has come in meanwhile tells whether it lives; a login shell may also have said something.
        while let Some(message) = started.reader.wait().now_or_never() {
            match message? {
                ChannelMsg::Data { data } => started.early.extend_from_slice(&data),
                ChannelMsg::Success | ChannelMsg::WindowAdjusted { .. } | ChannelMsg::ExtendedData { .. } => {}
                _ => return None,
            }
        }
        Some(started)
    }

    /// Closes the spare, if there is one, so that its place at the peer becomes free.
    pub(super) async fn close_spare(&self) {
        let spare = std::mem::take(&mut *self.slot());
        if let Slot::Ready(Spare { started, .. }) = spare {
            self.abandon(&started.writer).await;
        }
    }

    /// Starts a spare where there is none. A peer that allows no further session just has none.
    pub(super) async fn prepare_spare(&self, command: &str) {
        {
            let mut slot = self.slot();
            if !matches!(*slot, Slot::Empty) {
                return;
            }
            *slot = Slot::Preparing;
        }
        let started = match self.handle.channel_open_session().await {
            Ok(channel) => self.start(channel, command).await.ok(),
            Err(_) => None,
        };
        let unwanted = {
            let mut slot = self.slot();
            match (&*slot, started) {
                (Slot::Preparing, started) => {
                    *slot = match started {
                        Some(started) => Slot::Ready(Spare { command: command.to_owned(), started }),
                        None => Slot::Empty,
                    };
                    None
                }
                // It was to be closed meanwhile.
                (_, started) => started,
            }
        };
        if let Some(started) = unwanted {
            self.abandon(&started.writer).await;
        }
    }
}
