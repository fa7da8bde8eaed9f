//! rsync's standard error, as we may write to it.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;

/// The pipe on which somebody reads what an rsync complains of.
pub(super) struct Voice(Option<pipe::Sender>);

impl Voice {
    /// The one behind a descriptor. It is opened anew: were ours set not to block, rsync's would be, too.
    pub(super) fn new(error: &OwnedFd) -> Self {
        let path = format!("/proc/self/fd/{}", error.as_raw_fd());
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("a flag of a few bits");
        let opened = OpenOptions::new().write(true).custom_flags(flags).open(path);
        let pipe = opened.and_then(|file| pipe::Sender::from_owned_fd(file.into()));
        if let Err(error) = &pipe {
            tracing::debug!("no pipe on an rsync's standard error: {error}");
        }
        Self(pipe.ok())
    }

    /// Says something, unchanged.
    pub(super) async fn say(&mut self, text: &[u8]) -> io::Result<()> {
        match &mut self.0 {
            Some(pipe) => pipe.write_all(text).await,
            None => {
                tracing::warn!("{}", String::from_utf8_lossy(text).trim_end());
                Ok(())
            }
        }
    }
}
