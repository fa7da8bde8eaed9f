//! One attempt of an action: a process, or several rsyncs for one sync.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::guard::Stopped;
use super::output::{Output, Rsync};
use super::shards::{self, Shared};
use super::{Plan, Runner, judge, stall, verify};
use crate::clock::{self, Ticks};
use crate::config::{Action, ActionKind, JobId};
use crate::event::{ActionFailure, ActionReport, ExitStatus, JobEvent, RunEvent, RunId};
use crate::process::{EndedBy, Exit, OutputSink, SpawnError, Spec, Stop, Stream, moved};
use crate::rsync::bwlimit;
use crate::rsync::progress::Progress;
use crate::rsync::stats::Stats;
use crate::ssh::Ticket;
use crate::warrant::Warrant;

/// How long an rsync that failed waits to learn what its other side has to say of that.
const OTHER_SIDE_MAX: Duration = Duration::from_secs(1);

/// What an attempt knows.
pub(super) struct Attempt<'a> {
    pub(super) runner: &'a Runner,
    pub(super) run: RunId,
    pub(super) job: &'a JobId,
    pub(super) action: &'a Action,
    pub(super) plan: &'a Plan,
    pub(super) stop: &'a Stop,
    pub(super) warrant: &'a Warrant,
    pub(super) started: Ticks,
    /// Whether an rsync of it was killed since it made no progress.
    pub(super) stalled: AtomicBool,
}

/// One process of an attempt: the plan's program with these arguments.
pub(super) struct Process<'a> {
    pub(super) args: &'a [OsString],
    pub(super) stdin: Option<&'a Arc<File>>,
    /// Whether it prints nothing while it works.
    pub(super) is_silent: bool,
    /// How many run beside each other, itself included.
    pub(super) at_once: usize,
}

/// How one process of an attempt ended.
pub(super) struct Ended {
    pub(super) exit: Result<Exit, SpawnError>,
    /// What an rsync said of its work.
    pub(super) stats: Option<Stats>,
    /// The line of standard error that tells most.
    pub(super) last_words: String,
}

impl Ended {
    /// The exit code of a process that ended by itself.
    pub(super) fn code(&self) -> Option<i32> {
        match self.exit {
            Ok(Exit { status: ExitStatus::Code(code), ended_by: EndedBy::Itself }) => Some(code),
            _ => None,
        }
    }
}

impl Attempt<'_> {
    /// Performs it; nothing of it lives when this returns.
    pub(super) async fn perform(&self) -> ActionReport {
        if let Some(verification) = &self.plan.verification {
            return verify::perform(self, verification).await;
        }
        let most_deletions = match &self.plan.guard {
            Some(guard) => guard.check(self).await,
            None => Ok(None),
        };
        let most_deletions = match most_deletions {
            Ok(most) => most,
            Err(Stopped::Refused(failure, message)) => return super::failed(failure, message, true),
            Err(Stopped::Ended(ended)) => return self.report(*ended, true),
        };
        let shared = match &self.plan.split {
            Some(split) => shards::perform(self, split).await,
            None => Ok(Shared::default()),
        };
        let (ended, shared) = match shared {
            Ok(shared) => (self.last(&shared, most_deletions).await, shared),
            Err(ended) => return self.report(*ended, true),
        };
        let stats = ended.stats.map(|stats| shared.stats.and_finally(stats));
        self.report(Ended { stats, ..ended }, false)
    }

    /// The one process, or the final pass.
    async fn last(&self, shared: &Shared, most_deletions: Option<u64>) -> Ended {
        let log_stats =
            matches!(&self.action.kind, ActionKind::Sync(sync) if sync.opts.iter().any(|opt| opt == "--stats"));
        let on_progress = |progress| self.progress(shared.progress.with_last(progress));
        let rsync = self.plan.is_rsync.then(|| Rsync::new(on_progress, log_stats));
        let mut output = Output::new(self.log(), rsync);
        // More may be gone from the source by now than when it was looked at.
        let bound = most_deletions.map(|most| OsString::from(format!("--max-delete={most}")));
        let args: Vec<_> = bound.into_iter().chain(self.plan.args.iter().cloned()).collect();
        if let Some(Err(source)) = self.plan.stdin.as_deref().map(|mut list| list.rewind()) {
            let exit = Err(SpawnError::Other { program: self.plan.program.clone(), source });
            return Ended { exit, stats: None, last_words: String::new() };
        }
        let stdin = self.plan.stdin.as_ref();
        let process = Process { args: &args, stdin, is_silent: self.plan.is_silent, at_once: 1 };
        let exit = self.execute(process, self.stop, &mut output).await;
        let (stats, last_words) = output.finish();
        Ended { exit, stats, last_words }
    }

    /// Executes the plan's program to its end. Whatever ends it also ends its connection.
    pub(super) async fn execute(
        &self,
        process: Process<'_>,
        stop: &Stop,
        output: &mut dyn OutputSink,
    ) -> Result<Exit, SpawnError> {
        let plan = self.plan;
        if self.warrant.is_lost() {
            let (program, source) = (plan.program.clone(), io::Error::other("it would run without its locks"));
            return Err(SpawnError::Other { program, source });
        }
        let transport = self.runner.transport.as_ref();
        let peer = plan.peer.as_ref().filter(|_| plan.native);
        let mut ticket = transport.zip(peer).map(|(transport, peer)| transport.offer(peer, self.warrant));
        let spec = Spec {
            program: plan.program.clone(),
            args: paced(self.action, process.args, process.at_once),
            env: self.environment(ticket.as_ref()),
            stdin: process.stdin.map(Arc::clone),
            cwd: None,
            kill_grace: self.runner.kill_grace,
            timeout: self.time_left(),
            stdout_every: process.is_silent.then_some(super::SILENT_LOOK),
        };
        let exit = self.watched(&spec, stop, output).await?;
        Ok(match &mut ticket {
            Some(ticket) => self.join(exit, ticket, stop).await,
            None => exit,
        })
    }

    /// Runs a process with an eye on its progress, if that is wanted.
    async fn watched(&self, spec: &Spec, stop: &Stop, output: &mut dyn OutputSink) -> Result<Exit, SpawnError> {
        let spawner = &self.runner.spawner;
        let Some(timeout) = self.action.stall_timeout() else {
            return spawner.run(spec, stop, output).await;
        };
        let stop = Stop { term: stop.term.child_token(), kill: stop.kill.child_token() };
        let (tell, leader) = watch::channel(None);
        let mut output = Watched { output, tell };
        let run = spawner.run(spec, &stop, &mut output);
        tokio::pin!(run);
        tokio::select! {
            biased;
            exit = &mut run => exit,
            idle = stall::stalled(leader, timeout) => {
                self.stalled.store(true, Ordering::Relaxed);
                self.send(JobEvent::Stalled { action: self.action.id.clone(), idle });
                stop.term.cancel();
                run.await
            }
        }
    }

    /// What the process is told of where it belongs, and of its way to the peer.
    fn environment(&self, ticket: Option<&Ticket>) -> Vec<(OsString, OsString)> {
        let own = (moved::JOB_VARIABLE.into(), self.job.as_str().into());
        let way = ticket.map(Ticket::variable).map(|(name, value)| (name.into(), value.into()));
        [own].into_iter().chain(way).chain(self.runner.env.iter().cloned()).collect()
    }

    /// The end of an rsync with that of its other side: the greater exit code counts, as rsync itself has it with `ssh`; but that of an rsync that failed
    /// before it had heard the other to its end tells more.
    async fn join(&self, exit: Exit, ticket: &mut Ticket, stop: &Stop) -> Exit {
        let Exit { status: ExitStatus::Code(code), ended_by: EndedBy::Itself } = exit else { return exit };
        let by = |ended_by| Exit { ended_by, ..exit };
        tokio::select! {
            biased;
            other = ticket.end() => {
                let other = other.filter(|other| other.was_heard || code == 0).map_or(code, |other| other.code);
                Exit { status: ExitStatus::Code(code.max(other)), ..exit }
            }
            () = stop.term.cancelled() => by(EndedBy::Stop),
            // One that failed does not wait for the other side.
            () = clock::sleep(OTHER_SIDE_MAX), if code != 0 => exit,
            () = clock::sleep(self.time_left().unwrap_or_default()), if self.action.timeout.is_some() => by(EndedBy::Timeout),
        }
    }

    /// Time until the action's timeout.
    fn time_left(&self) -> Option<Duration> {
        self.action.timeout.map(|timeout| timeout.saturating_sub(self.started.elapsed()))
    }

    /// Resolves when something that is no process of ours has taken as long as one may: the action's timeout, or its stall timeout.
    pub(super) async fn out_of_patience(&self) {
        match self.time_left().into_iter().chain(self.action.stall_timeout()).min() {
            Some(patience) => clock::sleep(patience).await,
            None => std::future::pending().await,
        }
    }

    /// A way into the log.
    pub(super) fn log(&self) -> crate::logging::ActionLog {
        self.runner.log.output(&self.runner.rsync_id, self.run, self.job, &self.action.id)
    }

    pub(super) fn send(&self, event: JobEvent) {
        self.runner.events.send(RunEvent::Job { run: Some(self.run), job: self.job.clone(), event });
    }

    pub(super) fn progress(&self, progress: Progress) {
        self.send(JobEvent::Progress { action: self.action.id.clone(), progress });
    }

    /// The report of the process that decides. `before_last` is whether it is one that the last should have followed.
    pub(super) fn report(&self, ended: Ended, before_last: bool) -> ActionReport {
        if self.plan.is_rsync
            && let Ok(Exit { status: ExitStatus::Code(code), .. }) = ended.exit
        {
            self.send(JobEvent::RsyncExit { action: self.action.id.clone(), code });
        }
        let mut report = judge(self.action, self.plan, ended.exit, &ended.last_words);
        if report.failure == Some(ActionFailure::Cancelled) && self.stalled.load(Ordering::Relaxed) {
            let timeout = self.action.stall_timeout().unwrap_or_default();
            report.failure = Some(ActionFailure::Stalled);
            report.message = format!("killed: no progress for {}", crate::human::duration(timeout));
        }
        if before_last && report.failure.is_none() {
            // The user takes its code for success, but the sync is not done.
            report.failure = Some(ActionFailure::Exit);
        }
        ActionReport { stats: ended.stats, duration: Duration::ZERO, ..report }
    }
}

/// An rsync's arguments with what it may take of the bandwidth, as it starts now beside others.
pub(super) fn paced(action: &Action, args: &[OsString], at_once: usize) -> Vec<OsString> {
    let rate = match &action.kind {
        ActionKind::Sync(sync) => sync.bwlimit.as_ref().and_then(|limit| limit.rate(clock::now())),
        ActionKind::Command(_) | ActionKind::Verify(_) => None,
    };
    let option = rate.map(|rate| bwlimit::option(rate, at_once));
    option.into_iter().chain(args.iter().cloned()).collect()
}

/// Tells who leads the group of the process whose output it passes on.
struct Watched<'a> {
    output: &'a mut dyn OutputSink,
    tell: watch::Sender<Option<u32>>,
}

impl OutputSink for Watched<'_> {
    fn ready(&mut self) -> BoxFuture<'_, ()> {
        self.output.ready()
    }

    fn started(&mut self, leader: u32) {
        self.tell.send_replace(Some(leader));
    }

    fn output(&mut self, stream: Stream, lines: &[u8]) {
        self.output.output(stream, lines);
    }
}
