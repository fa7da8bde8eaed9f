//! A command whose input and output are descriptors of this host, passed on as fast as both sides take them.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt;
use russh::client::Msg;
use russh::{Channel, ChannelMsg};
use rustix::fs::FileType;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::exec::{Ending, Started};
use super::{Session, protocol};
use crate::clock;
use crate::event::ExitStatus;
use crate::ssh::error::SshError;

const DOING: &str = "running rsync on";
/// How much is read from this host's side at once, bytes.
const CHUNK: usize = 256 * 1024;

/// A command that has ended its output and does not exit within this time is one that goes on without.
const LINGER: Duration = Duration::from_secs(1);

/// This host's side.
pub(in crate::ssh) struct Ends {
    /// What the command reads.
    pub(in crate::ssh) input: OwnedFd,
    /// Where its output goes.
    pub(in crate::ssh) output: OwnedFd,
}

/// How a command ended.
pub(in crate::ssh) struct Passed {
    pub(in crate::ssh) status: ExitStatus,
    /// Whether nothing of it is left on the connection.
    pub(in crate::ssh) is_clean: bool,
}

impl Session {
    /// Runs a command, passing on its input, output and errors, until the peer has closed it. May be dropped at any point; the connection
    /// must then not be used again.
    pub(in crate::ssh) async fn pass<F: Future<Output = io::Result<()>>>(
        &self,
        command: &[u8],
        ends: Ends,
        error: impl Fn(Vec<u8>) -> F,
    ) -> Result<Passed, SshError> {
        self.touch();
        let unusable = |error| protocol(&self.peer, "passing data to", error);
        let mut input = input(ends.input).map_err(unusable)?;
        let mut output = output(ends.output).map_err(unusable)?;
        let channel = match self.take_ahead() {
            Some(channel) => channel,
            None => self.open_now().await?,
        };
        let Started { mut reader, writer } = self.start(channel, command).await?;
        let feed = async {
            let mut buffer = BytesMut::with_capacity(CHUNK);
            loop {
                buffer.reserve(CHUNK);
                match input.read_buf(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
                if writer.data_bytes(buffer.split().freeze()).await.is_err() {
                    break;
                }
            }
            let _ = writer.eof().await;
            // The end is told by the other direction.
            std::future::pending::<()>().await;
        };
        let collect = async {
            let mut ending = Ending::new(&self.peer, DOING);
            let mut is_clean = true;
            let mut output_ended = false;
            loop {
                let message = tokio::select! {
                    message = reader.wait() => message,
                    () = clock::sleep(LINGER), if output_ended => {
                        output_ended = false;
                        let _ = output.shutdown().await;
                        continue;
                    }
                };
                match message {
                    Some(ChannelMsg::Data { data }) => {
                        // Nobody reads it any more: the peer learns that from its closed channel.
                        if output.write_all(&data).await.is_err() {
                            is_clean = false;
                            let _ = writer.close().await;
                        }
                    }
                    Some(ChannelMsg::ExtendedData { data, .. }) => {
                        let _ = error(data.to_vec()).await;
                    }
                    // The caller lets it be seen when the exit status, which nearly always comes with it, is told.
                    Some(ChannelMsg::Eof) => output_ended = true,
                    other => {
                        if ending.hears(other)? {
                            break;
                        }
                    }
                }
            }
            Ok(Passed { status: ending.status()?, is_clean })
        };
        let both = async { tokio::join!(collect, self.open_ahead()).0 };
        let passed = tokio::select! {
            passed = both => passed,
            () = feed => unreachable!("it never ends"),
        };
        self.touch();
        passed
    }

    async fn open_now(&self) -> Result<Channel<Msg>, SshError> {
        let (mut answer, _caller) = oneshot::channel::<()>();
        match self.open_channel(&mut answer, DOING).await? {
            Some(channel) => Ok(channel),
            None => unreachable!("the caller is here"),
        }
    }

    /// Opens the channel of the next command while one runs, which saves that one a round trip. A peer that allows one
    /// channel at a time refuses it, and the next opens its own.
    async fn open_ahead(&self) {
        if let Ok(channel) = self.handle.channel_open_session().await {
            *self.ahead() = Some(channel);
        }
    }

    /// The channel that is ready, unless the peer has closed it meanwhile.
    fn take_ahead(&self) -> Option<Channel<Msg>> {
        let mut channel = self.ahead().take()?;
        // An open channel has nothing to say before its command.
        let is_open = channel.wait().now_or_never().is_none();
        is_open.then_some(channel)
    }

    fn ahead(&self) -> MutexGuard<'_, Option<Channel<Msg>>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// rsync gives a socket; others may give a pipe.
fn input(descriptor: OwnedFd) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
    Ok(match is_socket(&descriptor)? {
        true => Box::new(stream(descriptor)?),
        false => Box::new(pipe::Receiver::from_owned_fd(descriptor)?),
    })
}

fn output(descriptor: OwnedFd) -> io::Result<Box<dyn AsyncWrite + Send + Unpin>> {
    Ok(match is_socket(&descriptor)? {
        true => Box::new(stream(descriptor)?),
        false => Box::new(pipe::Sender::from_owned_fd(descriptor)?),
    })
}

fn stream(descriptor: OwnedFd) -> io::Result<UnixStream> {
    let stream = std::os::unix::net::UnixStream::from(descriptor);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

fn is_socket(descriptor: impl AsFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(descriptor)?.st_mode) == FileType::Socket)
}
