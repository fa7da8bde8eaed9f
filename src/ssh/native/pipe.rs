//! A command whose input and output are descriptors of this host, passed on as fast as both sides take them.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt;
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use rustix::fs::FileType;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::exec::{Ending, ExecError, Started};
use super::{KEEPALIVE_INTERVAL, Session, Use, from_library, protocol};
use crate::clock::{self, Ticks};
use crate::event::ExitStatus;
use crate::ssh::error::SshError;
use crate::ssh::precedence::Precedence;

const DOING: &str = "running rsync on";
/// How much is read from this host's side at once, bytes.
const CHUNK: usize = 256 * 1024;

/// A command that has ended its output and does not exit within this time is one that goes on without.
const LINGER: Duration = Duration::from_secs(1);
/// One that still writes when rsync here has not read for this long, since it has ended, is given up.
const REFUSED_MAX: Duration = Duration::from_secs(10);
/// How much of what rsync's generator on the peer says may wait for the sender here, bytes: 20 for each new file, more for the checksums of one that
/// has changed. A bound, since there must be one; nobody goes on when it is reached.
const GENERATED_MAX: isize = 1 << 30;
/// How much of other output may wait for what we say, bytes: what the peer may send until it hears that keys are renewed, and some more.
const OUTPUT_MAX: isize = 2 * Use::Data.window() as isize;

/// So often somebody looks whether the peer should be asked or told for a sign of life. A server that wants to hear of its clients more often
/// than in twice this time is rare.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// How much may be said to a command before the peer has answered that it runs it, bytes; rsync says four, and waits.
const OPENING_MAX: usize = 64 * 1024;

/// This host's side.
pub(in crate::ssh) struct Ends {
    input: Box<dyn AsyncRead + Send + Unpin>,
    output: Box<dyn AsyncWrite + Send + Unpin>,
    /// What was read of the input so far, until the peer has answered: it may have to be said again on another connection.
    said: BytesMut,
}

impl Ends {
    /// What the command reads, and where its output goes: sockets, as rsync gives them, or pipes.
    pub(in crate::ssh) fn new(from: OwnedFd, to: OwnedFd) -> io::Result<Self> {
        Ok(Self { input: input(from)?, output: output(to)?, said: BytesMut::new() })
    }
}

/// How a command ended.
pub(in crate::ssh) struct Passed {
    pub(in crate::ssh) status: ExitStatus,
    /// Whether all of its output was taken.
    pub(in crate::ssh) was_heard: bool,
}

/// A command that the peer was told to start, on a connection that was alive then.
pub(in crate::ssh) struct Begun {
    started: Started,
    /// What the peer said first, if that was awaited.
    first: Option<ChannelMsg>,
}

impl Session {
    /// Has the peer start a command. May be dropped at any point; the connection must then not be used again. Until it has succeeded nothing of
    /// the input is lost: another connection can be tried.
    pub(in crate::ssh) async fn begin(&self, command: &[u8], ends: &mut Ends) -> Result<Begun, ExecError> {
        self.touch();
        self.terms.intake.begin(output_max(command));
        let (channel, is_proven) = match self.take_ahead() {
            Some(channel) => (channel, false),
            None => (self.open_now().await?, true),
        };
        let mut started = self.start(channel, command).await?;
        if !ends.said.is_empty() {
            self.say(&started, &ends.said).await?;
        }
        let first = if is_proven { None } else { Some(self.first_answer(&mut started, ends).await?) };
        Ok(Begun { started, first })
    }

    /// Waits for the peer's first word, and passes on meanwhile what there is for it.
    async fn first_answer(&self, started: &mut Started, ends: &mut Ends) -> Result<ChannelMsg, ExecError> {
        let Ends { input, said, .. } = ends;
        let mut is_over = false;
        loop {
            let before = said.len();
            let read = tokio::select! {
                first = started.reader.wait() => return first.ok_or_else(|| ExecError::NotSent(self.ended_under(DOING))),
                read = input.read_buf(said), if before < OPENING_MAX && !is_over => read,
            };
            match read {
                Ok(1..) => self.say(started, &said[before..]).await?,
                // The end, which is found again when the input is passed on.
                _ => is_over = true,
            }
        }
    }

    async fn say(&self, started: &Started, bytes: &[u8]) -> Result<(), ExecError> {
        let said = started.writer.data_bytes(bytes.to_vec()).await;
        said.map_err(|error| ExecError::NotSent(from_library(&self.peer, DOING, error)))
    }

    /// Passes on input, output and errors of a command, until the peer has closed it; other commands go first. May be dropped at any point; the connection
    /// must then not be used again, and neither after an error.
    pub(in crate::ssh) async fn pass<F: Future<Output = io::Result<()>>>(
        &self,
        begun: Begun,
        ends: Ends,
        precedence: &Precedence,
        error: impl Fn(Vec<u8>) -> F,
    ) -> Result<Passed, SshError> {
        let Begun { started: Started { reader, writer }, first } = begun;
        let Ends { input, output, .. } = ends;
        let (queue, heard) = mpsc::unbounded_channel();
        let over = CancellationToken::new();
        self.terms.ask(true);
        let hear = async {
            let _over = over.clone().drop_guard();
            Ok(self.hear(reader, first, queue).await)
        };
        let tell = self.tell(heard, output, precedence, error);
        let feed = async {
            tokio::select! {
                never = self.feed(input, &writer, precedence) => match never {},
                () = async { (over.cancelled().await, clock::sleep(LINGER).await).1 } => {}
            }
            // An rsync that still writes learns that nobody reads it; else it would never take what was said last.
            std::future::pending().await
        };
        let both = async { tokio::join!(async { tokio::try_join!(hear, tell) }, self.open_ahead()).0 };
        let passed = tokio::select! {
            passed = both => passed.and_then(|(status, was_heard)| Ok(Passed { status: status?, was_heard })),
            never = feed => match never {},
            never = self.keep_in_touch() => match never {},
        };
        self.terms.ask(false);
        self.touch();
        passed
    }

    async fn open_now(&self) -> Result<Channel<Msg>, ExecError> {
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

    /// Hears what the peer says of the command, until it has closed it. Never waits for who takes the output, since what is heard between may be what the
    /// library needs to go on.
    async fn hear(
        &self,
        mut reader: ChannelReadHalf,
        mut first: Option<ChannelMsg>,
        queue: mpsc::UnboundedSender<ChannelMsg>,
    ) -> Result<ExitStatus, SshError> {
        let mut ending = Ending::new(self, DOING);
        loop {
            let message = match first.take() {
                Some(first) => Some(first),
                None => reader.wait().await,
            };
            match message {
                Some(said @ (ChannelMsg::Data { .. } | ChannelMsg::ExtendedData { .. } | ChannelMsg::Eof)) => {
                    // Who gives up to tell it ends this, too.
                    let _ = queue.send(said);
                }
                other => {
                    if ending.hears(other)? {
                        return ending.status();
                    }
                }
            }
        }
    }

    /// Tells what was heard, to its end; whether all of it was taken.
    async fn tell<F: Future<Output = io::Result<()>>>(
        &self,
        mut heard: mpsc::UnboundedReceiver<ChannelMsg>,
        mut output: impl AsyncWrite + Unpin,
        precedence: &Precedence,
        error: impl Fn(Vec<u8>) -> F,
    ) -> Result<bool, SshError> {
        let intake = &self.terms.intake;
        let mut output_ended = false;
        // Since when nobody reads the output any more.
        let mut refused: Option<Ticks> = None;
        loop {
            let message = tokio::select! {
                message = heard.recv() => message,
                () = clock::sleep(LINGER), if output_ended => {
                    output_ended = false;
                    let _ = output.shutdown().await;
                    continue;
                }
            };
            match message {
                Some(ChannelMsg::Data { data }) => {
                    match refused {
                        None => {
                            precedence.give_way().await;
                            let told = intake.until_taken(output.write_all(&data)).await;
                            refused = told.is_err().then(Ticks::now);
                        }
                        // As with `ssh`: its last words are lost, its status counts.
                        Some(since) if since.elapsed() < REFUSED_MAX => {}
                        Some(_) => {
                            let why = io::Error::other("the command goes on writing after rsync here has ended");
                            return Err(protocol(&self.peer, DOING, why));
                        }
                    }
                    intake.taken(data.len());
                }
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    let _ = intake.until_taken(error(data.to_vec())).await;
                    intake.taken(data.len());
                }
                // The caller lets it be seen when the exit status, which nearly always comes with it, is told.
                Some(_) => output_ended = true,
                None => return Ok(refused.is_none()),
            }
        }
    }

    /// Passes input on; the command's end is told by its output.
    async fn feed(
        &self,
        mut input: impl AsyncRead + Unpin,
        writer: &ChannelWriteHalf<Msg>,
        precedence: &Precedence,
    ) -> Infallible {
        let mut buffer = BytesMut::with_capacity(CHUNK);
        loop {
            precedence.give_way().await;
            buffer.reserve(CHUNK);
            match input.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            let say = writer.data_bytes(buffer.split().freeze());
            if self.terms.intake.until_said(say).await.is_err() {
                break;
            }
        }
        let _ = writer.eof().await;
        std::future::pending().await
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

/// How much output of a command may wait while it must be read.
fn output_max(command: &[u8]) -> isize {
    let has = |word: &[u8]| memchr::memmem::find(command, word).is_some();
    if has(b" --server ") && !has(b" --sender ") { GENERATED_MAX } else { OUTPUT_MAX }
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
