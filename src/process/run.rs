//! The life of one child, from its start to the end of everything it started.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc::UnboundedReceiver;

use super::clone::Midwife;
use super::lines::Lines;
use super::spawn::{Group, Spawner, Started};
use super::sweep::Sweep;
use super::wait::News;
use super::{EndedBy, Exit, OutputSink, SpawnError, Spec, Stop, Stream};
use crate::clock::{self, Ticks};
use crate::event::ExitStatus;

/// When the leader has ended, the others of its group get this long to end by themselves before they are told to.
const LINGER: Duration = Duration::from_millis(100);
/// When everything has ended, the end of its output is waited for this long at most: someone else may hold the pipes open.
const DRAIN: Duration = Duration::from_secs(1);
/// When a start was given up, the end of the child is waited for this long at most: the kernel may keep it for as long as a file system does
/// not answer.
const STILLBIRTH: Duration = Duration::from_secs(1);

impl Spawner {
    /// Executes a program and waits until it and all that it started are gone, streaming its output to `output`. A child that was to end while
    /// the kernel was still about to execute its program may stay there for longer, killed: it does nothing any more.
    ///
    /// Not to be dropped half way: that kills the group at once.
    ///
    /// # Errors
    /// [`SpawnError`] when nothing was started.
    pub async fn run(&self, spec: &Spec, stop: &Stop, output: &mut dyn OutputSink) -> Result<Exit, SpawnError> {
        let failed = |source| SpawnError::Other { program: spec.program.clone(), source };
        let mut life = Life { spec, stop, started: Ticks::now(), ended_by: EndedBy::Itself };
        let Some(Started { mut group, news, stdout, stderr }) = self.begin(&mut life).await? else {
            return Ok(Exit { status: ExitStatus::Signal(Signal::KILL.as_raw()), ended_by: life.ended_by });
        };
        output.started(group.leader.as_raw_nonzero().get().unsigned_abs());
        let mut pipes = Pipes {
            stdout: Pipe::new(stdout).map_err(failed)?,
            stderr: Pipe::new(stderr).map_err(failed)?,
            stdout_every: spec.stdout_every,
            pause: spec.stdout_every.map(|pause| timer(Some(pause))),
        };
        let exit = life.live(&mut group, news, &mut pipes, output).await;
        (pipes.stdout_every, pipes.pause) = (None, None);
        // What the action itself wrote is in the pipes already. It is not much, so nobody waits for the log to have room.
        let drain = async { while pipes.read(output).await {} };
        let _ = tokio::time::timeout(DRAIN, drain).await;
        pipes.finish(output);
        Ok(exit)
    }

    /// Starts the child. `None` when it was to end before it had become its program: it never does.
    async fn begin(&self, life: &mut Life<'_>) -> Result<Option<Started>, SpawnError> {
        let Life { spec, stop, .. } = *life;
        let sweep = Sweep { cookie: self.cookie(), grace: spec.kill_grace, kill: stop.kill.clone() };
        let birth = Midwife(Arc::default());
        let spawning = self.spawn(spec, sweep, &birth.0);
        tokio::pin!(spawning);
        life.ended_by = tokio::select! {
            biased;
            started = &mut spawning => return started.map(Some),
            () = stop.told() => EndedBy::Stop,
            () = timer(spec.timeout) => EndedBy::Timeout,
        };
        birth.0.give_up();
        Ok(tokio::time::timeout(STILLBIRTH, spawning).await.ok().and_then(Result::ok))
    }
}

/// How far the end of a child has come.
enum Ending {
    /// It runs.
    No,
    /// The leader has ended; the rest is expected to follow.
    Lingering,
    /// It was sent SIGTERM.
    Termed,
    /// It was sent SIGKILL.
    Killed,
}

struct Life<'a> {
    spec: &'a Spec,
    stop: &'a Stop,
    started: Ticks,
    ended_by: EndedBy,
}

impl Life<'_> {
    /// Streams output and passes on what ends the child, until all is gone.
    async fn live(
        mut self,
        group: &mut Group,
        mut news: UnboundedReceiver<News>,
        pipes: &mut Pipes,
        output: &mut dyn OutputSink,
    ) -> Exit {
        let mut status = None;
        let mut ending = Ending::No;
        let mut timeout = timer(self.spec.timeout.map(|timeout| timeout.saturating_sub(self.started.elapsed())));
        let mut patience = timer(None);
        loop {
            let not_yet = matches!(ending, Ending::No | Ending::Lingering);
            tokio::select! {
                biased;
                new = news.recv() => match new {
                    Some(News::Leader(ended)) => {
                        status = Some(ended);
                        if matches!(ending, Ending::No) {
                            ending = Ending::Lingering;
                            patience = timer(Some(LINGER));
                        }
                    }
                    Some(News::Empty) => group.live = false,
                    Some(News::Gone) | None => break,
                },
                () = self.stop.kill.cancelled(), if !matches!(ending, Ending::Killed) => {
                    self.account(EndedBy::Stop, status);
                    group.signal(Signal::KILL);
                    ending = Ending::Killed;
                }
                () = self.stop.term.cancelled(), if not_yet => {
                    self.account(EndedBy::Stop, status);
                    (ending, patience) = self.term(group);
                }
                () = &mut timeout, if not_yet && status.is_none() => {
                    self.account(EndedBy::Timeout, status);
                    (ending, patience) = self.term(group);
                }
                () = &mut patience, if !matches!(ending, Ending::No | Ending::Killed) => match ending {
                    Ending::Lingering => (ending, patience) = self.term(group),
                    _ => {
                        group.signal(Signal::KILL);
                        ending = Ending::Killed;
                    }
                },
                true = pipes.read_at_leisure(output) => {}
            }
        }
        Exit { status: status.unwrap_or(ExitStatus::Signal(0)), ended_by: self.ended_by }
    }

    /// Notes on whose account the child ends, unless its leader had ended before.
    fn account(&mut self, by: EndedBy, status: Option<ExitStatus>) {
        if status.is_none() && self.ended_by == EndedBy::Itself {
            self.ended_by = by;
        }
    }

    fn term(&self, group: &Group) -> (Ending, BoxFuture<'static, ()>) {
        group.signal(Signal::TERM);
        // One that is stopped takes note only when it goes on.
        group.signal(Signal::CONT);
        (Ending::Termed, timer(Some(self.spec.kill_grace)))
    }
}

fn timer(duration: Option<Duration>) -> BoxFuture<'static, ()> {
    match duration {
        Some(duration) => Box::pin(clock::sleep(duration)),
        None => Box::pin(pending()),
    }
}

/// Both outputs of a child.
struct Pipes {
    stdout: Pipe,
    stderr: Pipe,
    stdout_every: Option<Duration>,
    /// Runs until standard output is looked at again.
    pause: Option<BoxFuture<'static, ()>>,
}

impl Pipes {
    fn have_ended(&self) -> bool {
        self.stdout.end.is_none() && self.stderr.end.is_none()
    }

    /// [`Pipes::read`] at the pace of whoever takes the output.
    async fn read_at_leisure(&mut self, output: &mut dyn OutputSink) -> bool {
        if !self.have_ended() {
            output.ready().await;
        }
        self.read(output).await
    }

    /// Passes on what was read of lines whose ends did not come.
    fn finish(&mut self, output: &mut dyn OutputSink) {
        self.stdout.lines.finish(|line| output.output(Stream::Stdout, line));
        self.stderr.lines.finish(|line| output.output(Stream::Stderr, line));
    }

    /// Reads once from whichever has something. `false` when both have ended.
    async fn read(&mut self, output: &mut dyn OutputSink) -> bool {
        if self.have_ended() {
            return false;
        }
        let stdout = async {
            if let Some(pause) = &mut self.pause {
                pause.await;
                self.pause = None;
            }
            self.stdout.ready().await
        };
        let (stream, pipe, count) = tokio::select! {
            count = stdout => {
                self.pause = self.stdout_every.map(|pause| timer(Some(pause)));
                (Stream::Stdout, &mut self.stdout, count)
            }
            count = self.stderr.ready() => (Stream::Stderr, &mut self.stderr, count),
        };
        let take = |lines: &[u8]| output.output(stream, lines);
        match count {
            Ok(count) if count > 0 => pipe.lines.advance(count, take),
            _ended_or_broken => {
                pipe.end = None;
                pipe.lines.finish(take);
            }
        }
        true
    }
}

struct Pipe {
    /// Our end; `None` when the other has been closed.
    end: Option<Receiver>,
    lines: Lines,
}

impl Pipe {
    fn new(end: std::os::fd::OwnedFd) -> io::Result<Self> {
        Ok(Self { end: Some(Receiver::from_owned_fd(end)?), lines: Lines::new() })
    }

    /// Reads what is there into the buffer. Never ready once the pipe has ended. Cancel-safe, as a pipe's read is.
    async fn ready(&mut self) -> io::Result<usize> {
        match &mut self.end {
            Some(end) => end.read(self.lines.space()).await,
            None => pending().await,
        }
    }
}
