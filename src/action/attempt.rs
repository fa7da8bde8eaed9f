//! One attempt of an action: a process, or several rsyncs for one sync.

use std::ffi::OsString;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use super::output::{Output, Rsync};
use super::shards::{self, Shared};
use super::{Plan, Runner, judge};
use crate::clock::{self, Ticks};
use crate::config::{Action, ActionKind, JobId};
use crate::event::{ActionFailure, ActionReport, ExitStatus, JobEvent, RunEvent, RunId};
use crate::process::{EndedBy, Exit, OutputSink, SpawnError, Spec, Stop, moved};
use crate::rsync::progress::Progress;
use crate::rsync::stats::Stats;
use crate::ssh::Ticket;

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
    pub(super) started: Ticks,
}

/// One process of an attempt: the plan's program with these arguments.
pub(super) struct Process<'a> {
    pub(super) args: &'a [OsString],
    pub(super) stdin: Option<&'a Arc<File>>,
    /// Whether it prints nothing while it works.
    pub(super) is_silent: bool,
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
        let shared = match &self.plan.split {
            Some(split) => shards::perform(self, split).await,
            None => Ok(Shared::default()),
        };
        let (ended, shared) = match shared {
            Ok(shared) => (self.last(&shared).await, shared),
            Err(ended) => return self.report(*ended, true),
        };
        let stats = ended.stats.map(|stats| shared.stats.and_finally(stats));
        self.report(Ended { stats, ..ended }, false)
    }

    /// The one process, or the final pass.
    async fn last(&self, shared: &Shared) -> Ended {
        let log_stats =
            matches!(&self.action.kind, ActionKind::Sync(sync) if sync.opts.iter().any(|opt| opt == "--stats"));
        let on_progress = |progress| self.progress(shared.progress.with_last(progress));
        let rsync = self.plan.is_rsync.then(|| Rsync::new(on_progress, log_stats));
        let mut output = Output::new(self.log(), rsync);
        let process = Process { args: &self.plan.args, stdin: None, is_silent: self.plan.is_silent };
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
        let transport = self.runner.transport.as_ref();
        let mut ticket = transport.zip(plan.peer.as_ref().filter(|_| plan.native)).map(|(t, peer)| t.offer(peer));
        let spec = Spec {
            program: plan.program.clone(),
            args: process.args.to_vec(),
            env: self.environment(ticket.as_ref()),
            stdin: process.stdin.map(Arc::clone),
            cwd: None,
            kill_grace: self.runner.kill_grace,
            timeout: self.time_left(),
            stdout_every: process.is_silent.then_some(super::SILENT_LOOK),
        };
        let exit = self.runner.spawner.run(&spec, stop, output).await?;
        Ok(match &mut ticket {
            Some(ticket) => self.join(exit, ticket, stop).await,
            None => exit,
        })
    }

    /// What the process is told of where it belongs, and of its way to the peer.
    fn environment(&self, ticket: Option<&Ticket>) -> Vec<(OsString, OsString)> {
        let own = (moved::JOB_VARIABLE.into(), self.job.as_str().into());
        let way = ticket.map(Ticket::variable).map(|(name, value)| (name.into(), value.into()));
        [own].into_iter().chain(way).collect()
    }

    /// The end of an rsync with that of its other side: the greater exit code counts, as rsync itself has it with `ssh`.
    async fn join(&self, exit: Exit, ticket: &mut Ticket, stop: &Stop) -> Exit {
        let Exit { status: ExitStatus::Code(code), ended_by: EndedBy::Itself } = exit else { return exit };
        let by = |ended_by| Exit { ended_by, ..exit };
        tokio::select! {
            biased;
            other = ticket.end() => Exit { status: ExitStatus::Code(code.max(other.unwrap_or(code))), ..exit },
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
    fn report(&self, ended: Ended, before_last: bool) -> ActionReport {
        if self.plan.is_rsync
            && let Ok(Exit { status: ExitStatus::Code(code), .. }) = ended.exit
        {
            self.send(JobEvent::RsyncExit { action: self.action.id.clone(), code });
        }
        let mut report = judge(self.action, self.plan, ended.exit, &ended.last_words);
        if before_last && report.failure.is_none() {
            // The user takes its code for success, but the sync is not done.
            report.failure = Some(ActionFailure::Exit);
        }
        ActionReport { stats: ended.stats, duration: Duration::ZERO, ..report }
    }
}
