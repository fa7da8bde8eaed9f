//! A command whose input and output are descriptors of this host, passed on as fast as both sides take them.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use bytes::BytesMut;
use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use rustix::fs::FileType;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::exec::{Ending, ExecError, Started};
use super::{KEEPALIVE_INTERVAL, Session, protocol};
use crate::clock;
use crate::event::ExitStatus;
use crate::ssh::error::SshError;

const DOING: &str = "running rsync on";
/// How much is read from this host's side at once, bytes.
const CHUNK: usize = 256 * 1024;

/// A command that has ended its output and does not exit within this time is one that goes on without.
const LINGER: Duration = Duration::from_secs(1);

/// So often somebody looks whether the peer should be asked or told for a sign of life. A server that wants to hear of its clients more often
/// than in twice this time is rare.
const LOOK_EVERY: Duration = Duration::from_secs(3);

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

/// A command that the peer was told to start.
pub(in crate::ssh) struct Begun(Started);

impl Session {
    /// Has the peer start a command. May be dropped at any point; the connection must then not be used again.
    pub(in crate::ssh) async fn begin(&self, command: &[u8]) -> Result<Begun, ExecError> {
        self.touch();
        let (mut answer, _caller) = oneshot::channel::<()>();
        let channel = match self.open_channel(&mut answer, DOING).await? {
            Some(channel) => channel,
            None => unreachable!("the caller is here"),
        };
        self.start(channel, command).await.map(Begun)
    }

    /// Passes on input, output and errors of a command, until the peer has closed it. May be dropped at any point; the connection
    /// must then not be used again.
    pub(in crate::ssh) async fn pass<F: Future<Output = io::Result<()>>>(
        &self,
        begun: Begun,
        ends: Ends,
        error: impl Fn(Vec<u8>) -> F,
    ) -> Result<Passed, SshError> {
        let unusable = |error| protocol(&self.peer, "passing data to", error);
        let input = input(ends.input).map_err(unusable)?;
        let output = output(ends.output).map_err(unusable)?;
        let Begun(Started { reader, writer }) = begun;
        self.terms.ask(true);
        let passed = tokio::select! {
            passed = self.take(reader, &writer, output, error) => passed,
            never = feed(input, &writer) => match never {},
            never = self.keep_in_touch() => match never {},
        };
        self.terms.ask(false);
        self.touch();
        passed
    }

    /// Takes what the command says, until the peer has closed it.
    async fn take<F: Future<Output = io::Result<()>>>(
        &self,
        mut reader: ChannelReadHalf,
        writer: &ChannelWriteHalf<Msg>,
        mut output: impl AsyncWrite + Unpin,
        error: impl Fn(Vec<u8>) -> F,
    ) -> Result<Passed, SshError> {
        let mut ending = Ending::new(self, DOING);
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
                    self.terms.intake.taken();
                }
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    let _ = error(data.to_vec()).await;
                    self.terms.intake.taken();
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
    }

    /// Asks a silent peer for a sign of life. One whose output nobody takes cannot answer: OpenSSH's server waits until its answer is
    /// sent, and gives up the connection (ClientAliveInterval times ClientAliveCountMax). It also hears nothing of us; so it is told that
    /// we live.
    async fn keep_in_touch(&self) -> Infallible {
        let mut silence = Duration::ZERO;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            silence = if self.terms.heard() { Duration::ZERO } else { silence + LOOK_EVERY };
            // Sending fails when the connection is over, which the reader learns too.
            if self.terms.intake.is_held() {
                silence = Duration::ZERO;
                let _ = self.handle.send_keepalive(false).await;
            } else if silence + LOOK_EVERY > KEEPALIVE_INTERVAL {
                silence = Duration::ZERO;
                let _ = self.handle.send_keepalive(true).await;
            }
        }
    }
}

/// Passes input on; the command's end is told by its output.
async fn feed(mut input: impl AsyncRead + Unpin, writer: &ChannelWriteHalf<Msg>) -> Infallible {
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
    std::future::pending().await
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
