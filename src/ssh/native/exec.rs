//! One command on a connection.
//!
//! Each command is served by a task of its own, which the caller awaits: when the caller goes away, the task still brings
//! the channel to an orderly end. A channel that is merely dropped stays open at the peer and holds one of its few slots.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelOpenFailure, ChannelReadHalf, ChannelWriteHalf, Sig};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::{Session, from_library, lost, protocol};
use crate::event::ExitStatus;
use crate::ssh::error::SshError;
use crate::ssh::pool::Output;

/// Bound on the standard output of a command, in bytes; more is an error, since half an answer must not be taken for one.
pub(in crate::ssh) const STDOUT_MAX: usize = 1024 * 1024;
/// Bound on what is kept of its standard error, in bytes; the rest is dropped.
const STDERR_MAX: usize = 64 * 1024;
/// Pauses while the peer has no slot for another command.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// A peer that takes longer than this to open a channel that nobody wants any more is taken for dead.
const ABANDONED_OPEN_MAX: Duration = Duration::from_secs(5);

const DOING: &str = "running a command on";

/// A command and its standard input.
#[derive(Debug)]
pub(in crate::ssh) struct Request {
    pub(in crate::ssh) command: String,
    pub(in crate::ssh) stdin: Vec<u8>,
    /// The command is a shell and the input a script for it, whose output ends with this: then the shell stays for the next.
    pub(in crate::ssh) end: Option<Vec<u8>>,
}

/// Why a command has no result.
#[derive(Debug)]
pub(in crate::ssh) enum ExecError {
    /// The connection was over before the command was sent: it did not run.
    NotSent(SshError),
    /// It may have run.
    Failed(SshError),
}

impl From<ExecError> for SshError {
    fn from(error: ExecError) -> Self {
        match error {
            ExecError::NotSent(error) | ExecError::Failed(error) => error,
        }
    }
}

/// A command that the peer was told to start.
pub(super) struct Started {
    pub(super) reader: ChannelReadHalf,
    pub(super) writer: ChannelWriteHalf<Msg>,
}

/// What became of a command.
enum Conversation {
    /// It has ended.
    Over(Output),
    /// The script has, and its shell waits for another.
    Paused(Output),
}

type Answer = oneshot::Sender<Result<Output, ExecError>>;

impl Session {
    /// Runs a command. When the future is dropped, the command's channel is closed in the background.
    pub(in crate::ssh) async fn exec(
        self: &Arc<Self>,
        tasks: &TaskTracker,
        request: Arc<Request>,
    ) -> Result<Output, ExecError> {
        let (sender, receiver) = oneshot::channel();
        let session = Arc::clone(self);
        tasks.spawn(async move { session.serve(&request, sender).await });
        receiver.await.unwrap_or_else(|gone| Err(ExecError::Failed(lost(&self.peer, DOING, gone))))
    }

    async fn serve(&self, request: &Request, answer: Answer) {
        self.touch();
        let shell = request.end.as_ref().and_then(|_| self.take_shell());
        match shell {
            Some(shell) => self.serve_again(shell, request, answer).await,
            None => self.serve_anew(request, answer).await,
        }
        self.touch();
    }

    /// By a shell that stayed. One that ends before it has said anything ended before the script came: another gets it.
    async fn serve_again(&self, shell: Started, request: &Request, answer: Answer) {
        let Some((result, answer)) = self.run(shell, request, answer).await else { return };
        match result {
            Ok(output) if output.stdout.is_empty() => self.serve_anew(request, answer).await,
            result => drop(answer.send(result.map_err(ExecError::Failed))),
        }
    }

    async fn serve_anew(&self, request: &Request, mut answer: Answer) {
        let _permit = tokio::select! {
            permit = self.permits.acquire() => permit,
            () = answer.closed() => return,
        };
        match self.open_channel(&mut answer, DOING).await {
            Ok(Some(channel)) => match self.start(channel, request.command.as_bytes()).await {
                Ok(started) => {
                    if let Some((result, answer)) = self.run(started, request, answer).await {
                        drop(answer.send(result.map_err(ExecError::Failed)));
                    }
                }
                Err(error) => drop(answer.send(Err(error))),
            },
            Ok(None) => {}
            // The caller may be gone; then nobody wants the answer.
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// Has the peer start a command, without waiting for it to say so.
    pub(super) async fn start(&self, channel: Channel<Msg>, command: &[u8]) -> Result<Started, ExecError> {
        let (reader, writer) = channel.split();
        let sent = writer.exec(true, command).await;
        sent.map_err(|error| ExecError::NotSent(from_library(&self.peer, DOING, error)))?;
        Ok(Started { reader, writer })
    }

    /// `None` when the caller went away.
    pub(super) async fn open_channel<T>(
        &self,
        answer: &mut oneshot::Sender<T>,
        doing: &'static str,
    ) -> Result<Option<Channel<Msg>>, ExecError> {
        let mut pause = FIRST_PAUSE;
        loop {
            use ChannelOpenFailure::{ConnectFailed, ResourceShortage};
            let opened = tokio::select! {
                opened = self.handle.channel_open_session() => opened,
                () = abandoned(answer) => {
                    self.cut();
                    return Ok(None);
                }
            };
            match opened {
                Ok(channel) => return Ok(Some(channel)),
                // Perhaps the place that the shell takes is the last one.
                Err(russh::Error::ChannelOpenFailure(ConnectFailed | ResourceShortage)) => self.close_shell().await,
                Err(error @ russh::Error::ChannelOpenFailure(_)) => {
                    return Err(ExecError::Failed(protocol(&self.peer, doing, error)));
                }
                Err(error) => return Err(ExecError::NotSent(from_library(&self.peer, doing, error))),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = LONGEST_PAUSE.min(pause * 2),
                () = answer.closed() => return Ok(None),
            }
        }
    }

    /// `None` when the caller went away, or has its answer.
    async fn run(
        &self,
        mut started: Started,
        request: &Request,
        mut answer: Answer,
    ) -> Option<(Result<Output, SshError>, Answer)> {
        let result = tokio::select! {
            result = self.converse(&mut started, request) => result,
            () = answer.closed() => {
                self.abandon(&started.writer).await;
                return None;
            }
        };
        let result = match result {
            Ok(Conversation::Over(output)) => Ok(output),
            Ok(Conversation::Paused(output)) => {
                if let Some(surplus) = self.keep_shell(started) {
                    drop(answer.send(Ok(output)));
                    self.end_shell(surplus).await;
                    return None;
                }
                Ok(output)
            }
            Err(error) => {
                self.abandon(&started.writer).await;
                Err(error)
            }
        };
        Some((result, answer))
    }

    /// Closes a channel whose end is not awaited: the library does not tell of it once we have closed our side. Nor does it forget the channel then,
    /// so this is counted.
    pub(super) async fn abandon(&self, writer: &ChannelWriteHalf<Msg>) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
        // Fails when the connection is over, and the channel with it.
        let _ = writer.close().await;
    }

    /// Feeds standard input and collects output at once, so that neither can block the other.
    async fn converse(&self, started: &mut Started, request: &Request) -> Result<Conversation, SshError> {
        let Started { reader, writer } = started;
        let feed = async {
            // A command may end without reading its input, which is not an error.
            let _ = writer.data_bytes(request.stdin.clone()).await;
            if request.end.is_none() {
                let _ = writer.eof().await;
            }
        };
        let collect = self.collect(reader, request.end.as_deref());
        tokio::pin!(collect);
        tokio::select! {
            result = &mut collect => return result,
            () = feed => {}
        }
        collect.await
    }

    /// Reads until `end`, or until the peer closes the channel: the status may come before the last output.
    async fn collect(&self, reader: &mut ChannelReadHalf, end: Option<&[u8]>) -> Result<Conversation, SshError> {
        let mut ending = Ending::new(self, DOING);
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            match reader.wait().await {
                Some(ChannelMsg::Data { data }) if stdout.len() + data.len() > STDOUT_MAX => {
                    return Err(ending.failed("it wrote more than 1 MiB to its standard output"));
                }
                Some(ChannelMsg::Data { data }) => {
                    let before = stdout.len();
                    stdout.extend_from_slice(&data);
                    if end.is_some_and(|end| {
                        memchr::memmem::find(&stdout[before.saturating_sub(end.len())..], end).is_some()
                    }) {
                        return Ok(Conversation::Paused(Output { status: ExitStatus::Code(0), stdout, stderr }));
                    }
                }
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    stderr.extend_from_slice(&data[..data.len().min(STDERR_MAX - stderr.len())]);
                }
                other => {
                    if ending.hears(other)? {
                        break;
                    }
                }
            }
        }
        Ok(Conversation::Over(Output { status: ending.status()?, stdout, stderr }))
    }
}

/// What the peer says of the end of a command, whoever takes its output.
pub(super) struct Ending<'a> {
    session: &'a Session,
    doing: &'static str,
    status: Option<ExitStatus>,
}

impl<'a> Ending<'a> {
    /// Of a command that has just been started; `doing` is for the message of a failure.
    pub(super) fn new(session: &'a Session, doing: &'static str) -> Self {
        Self { session, doing, status: None }
    }

    fn failed(&self, why: &str) -> SshError {
        protocol(&self.session.peer, self.doing, io::Error::other(why.to_owned()))
    }

    /// Takes note of a message that is not output; whether it was the last.
    pub(super) fn hears(&mut self, message: Option<ChannelMsg>) -> Result<bool, SshError> {
        match message {
            Some(ChannelMsg::ExitStatus { exit_status }) => {
                self.status = Some(ExitStatus::Code(i32::try_from(exit_status).unwrap_or(i32::MAX)));
            }
            Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                self.status = Some(ExitStatus::Signal(signal_number(&signal_name)));
            }
            Some(ChannelMsg::Failure) => return Err(self.failed("the peer refused to run it")),
            Some(ChannelMsg::Close) => return Ok(true),
            Some(_) => {}
            None => return Err(self.session.ended_under(self.doing)),
        }
        Ok(false)
    }

    /// How the command ended, after the last message.
    pub(super) fn status(self) -> Result<ExitStatus, SshError> {
        self.status.ok_or_else(|| self.failed("the peer did not tell its exit status"))
    }
}

/// Ends [`ABANDONED_OPEN_MAX`] after the caller has gone away.
async fn abandoned<T>(answer: &mut oneshot::Sender<T>) {
    answer.closed().await;
    tokio::time::sleep(ABANDONED_OPEN_MAX).await;
}

/// Linux's number of a signal by its RFC 4254 name; 0 for one that the RFC does not name.
fn signal_number(signal: &Sig) -> i32 {
    match signal {
        Sig::HUP => 1,
        Sig::INT => 2,
        Sig::QUIT => 3,
        Sig::ILL => 4,
        Sig::ABRT => 6,
        Sig::FPE => 8,
        Sig::KILL => 9,
        Sig::USR1 => 10,
        Sig::SEGV => 11,
        Sig::PIPE => 13,
        Sig::ALRM => 14,
        Sig::TERM => 15,
        Sig::Custom(name) if name == "USR2" => 12,
        Sig::Custom(_) => 0,
    }
}
