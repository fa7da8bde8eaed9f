//! An `action: verify`: a process of our own, so that it can be told to stop, killed and bounded like an rsync.
//!
//! It gets its [`Order`] as a nameless file on standard input, with tickets for connections to the peer where ours are used. What it prints
//! for people goes to the log; its last line is the report.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use rustix::fs::MemfdFlags;

use super::attempt::{Attempt, Ended, Process};
use super::output::Output;
use super::{Plan, Runner, sync};
use crate::config::{Peer, Route, Verify};
use crate::event::{ActionFailure, ActionReport, JobEvent};
use crate::process::{OutputSink, SpawnError, Stream};
use crate::rsync::args;
use crate::rsync::progress::Progress;
use crate::ssh::Ticket;
use crate::verify::engine;
use crate::verify::order::{Elsewhere, Order, Replica};
use crate::verify::report::{Report, Verdict};
use crate::verify::worker::{PROGRESS, REPORT, VERIFY};
use crate::warrant::Warrant;

/// So many connections to the peer a verification may make: one at a time for each side's scan, look and reading, and those of a drill.
const CONNECTIONS: usize = 8;
/// A report is not longer than this, bytes.
const REPORT_MAX: usize = 4 << 20;

/// What is to be verified.
pub(super) struct Verification {
    order: Order,
    peer: Option<Peer>,
    /// How a person would order the same.
    pub(super) command: String,
}

/// The process, as it is to be started.
pub(super) async fn plan(runner: &Runner, verify: &Verify) -> Result<Plan, String> {
    let (program, args) = runner.verifier();
    let order = runner.order(verify).await?;
    let verification = Verification { order, peer: verify.sync.peer().cloned(), command: command(verify) };
    Ok(Plan { verification: Some(verification), ..Plan::of(program, args) })
}

fn command(verify: &Verify) -> String {
    let level = match verify.share {
        Some(share) => format!("deep:{}%/day", share * 100.0),
        None => verify.depth.name().to_owned(),
    };
    let what = format!("{}/{}", verify.job, verify.of);
    args::display(OsStr::new("rsyncdirector"), &["verify".into(), what.into(), "--level".into(), level.into()])
}

impl Runner {
    /// The program that verifies, and its arguments.
    pub fn verifier(&self) -> (OsString, Vec<OsString>) {
        // This very program, also when its file was replaced meanwhile.
        (format!("/proc/{}/exe", std::process::id()).into(), vec![VERIFY.into()])
    }

    /// What is to be verified, for the process that does it; without tickets.
    ///
    /// # Errors
    /// One line for people: a source that cannot be expanded.
    pub async fn order(&self, verify: &Verify) -> Result<Order, String> {
        let sync = &verify.sync;
        let here = || async {
            let named = sync::here(self, sync).await?;
            Ok::<_, String>(named.into_iter().flat_map(|(_, paths)| paths).collect::<Vec<_>>())
        };
        let (sources, dest) = match sync.route {
            Route::Local => (here().await?, sync::home(self, sync)?),
            Route::Push(..) => (here().await?, there(&sync.dest)),
            Route::Pull(..) => (sync.sources.iter().map(|path| there(path)).collect(), sync::home(self, sync)?),
        };
        let (state, keep) = self.state.clone().unzip();
        Ok(Order {
            replica: Replica { job: verify.job.as_str().into(), sync: verify.of.as_str().into() },
            sources,
            dest,
            opts: sync.opts.clone(),
            remote: self.elsewhere(verify),
            depth: verify.depth,
            share: verify.share,
            fresh: false,
            max_drift: verify.max_drift,
            max_lag: verify.max_lag.map(|lag| lag.as_secs()),
            rate: verify.rate,
            restore: verify.restore,
            agent: verify.agent.clone(),
            state,
            keep: keep.unwrap_or_default().as_secs(),
            list: None,
        })
    }

    fn elsewhere(&self, verify: &Verify) -> Option<Elsewhere> {
        let sync = &verify.sync;
        let peer = sync.peer()?;
        let own = args::own_rsh(&sync.opts);
        let rsh = own.or_else(|| Some(self.transport_of(verify)?.rsh()));
        Some(Elsewhere {
            host: if peer.host.contains(':') { format!("[{}]", peer.host) } else { peer.host.clone() },
            user: peer.user.clone(),
            is_source: matches!(sync.route, Route::Pull(..)),
            rsh: rsh.unwrap_or_else(|| self.pool.openssh_command(peer)),
            tickets: Vec::new(),
        })
    }

    fn transport_of(&self, verify: &Verify) -> Option<&crate::ssh::Transport> {
        self.transport.as_ref().filter(|_| verify.sync.is_native() && !args::has_rsh(&verify.sync.opts))
    }

    /// An order as standard input of the process that verifies, with tickets for its connections to the peer. They are good until
    /// they are dropped, and so are the connections.
    ///
    /// # Errors
    /// When the kernel gives no such file.
    pub fn hand_over(&self, order: &Order, peer: Option<&Peer>) -> io::Result<(Arc<File>, Vec<Ticket>)> {
        let mut order = order.clone();
        let mut tickets = Vec::new();
        if let (Some(elsewhere), Some(transport), Some(peer)) = (&mut order.remote, &self.transport, peer)
            && elsewhere.rsh == transport.rsh()
        {
            // Without an agent there are three for each of the trees.
            let reads = Warrant::without_locks();
            let connections = CONNECTIONS.max(4 + 3 * order.sources.len());
            tickets.extend((0..connections).map(|_| transport.offer(peer, &reads)));
            elsewhere.tickets = tickets.iter().map(|ticket| ticket.variable().1).collect();
        }
        let mut file = File::from(rustix::fs::memfd_create("verify-order", MemfdFlags::CLOEXEC)?);
        file.write_all(&serde_json::to_vec(&order)?)?;
        file.rewind()?;
        Ok((Arc::new(file), tickets))
    }
}

/// A path on a peer, where no shell replaces `~`: what is relative begins at the home.
fn there(path: &OsStr) -> OsString {
    match path.as_bytes().strip_prefix(b"~") {
        Some(b"" | b"/") => ".".into(),
        Some([b'/', rest @ ..]) => OsStr::from_bytes(rest).to_owned(),
        _ => path.to_owned(),
    }
}

/// One attempt; nothing of it lives when this returns.
pub(super) async fn perform(attempt: &Attempt<'_>, verification: &Verification) -> ActionReport {
    let Verification { order, peer, .. } = verification;
    let (stdin, _tickets) = match attempt.runner.hand_over(order, peer.as_ref()) {
        Ok(handed) => handed,
        Err(source) => {
            let exit = Err(SpawnError::Other { program: attempt.plan.program.clone(), source });
            return attempt.report(Ended { exit, stats: None, last_words: String::new() }, false);
        }
    };
    let log: Output<fn(Progress)> = Output::new(attempt.log(), None);
    let mut told = Told::new(log);
    let process = Process { args: &attempt.plan.args, stdin: Some(&stdin), is_silent: false, at_once: 1 };
    let exit = attempt.execute(process, attempt.stop, &mut told).await;
    let Told { inner, report, .. } = told;
    let last_words = inner.finish().1;
    let ended = attempt.report(Ended { exit, stats: None, last_words }, false);
    let judged = judged(report.as_ref(), ended);
    if let Some(report) = report {
        attempt.send(JobEvent::Verified { action: attempt.action.id.clone(), report: Arc::new(report) });
    }
    judged
}

/// How an attempt ended, by what it found, unless it was ended.
fn judged(report: Option<&Report>, ended: ActionReport) -> ActionReport {
    let by_itself = matches!(ended.failure, None | Some(ActionFailure::Exit));
    let Some(report) = report.filter(|_| by_itself) else {
        return match ended.failure {
            None => ActionReport { failure: Some(ActionFailure::Exit), message: "it told no result".into(), ..ended },
            Some(_) => ended,
        };
    };
    let (failure, message) = match report.verdict {
        Verdict::InStep | Verdict::Tolerated => (None, report.summary()),
        Verdict::Drift => (Some(ActionFailure::Drift), report.summary()),
        Verdict::Unknown => (Some(ActionFailure::Exit), format!("could not tell: {}", report.why)),
    };
    ActionReport { failure, message, ..ended }
}

/// Takes the report out of what a verification prints; the rest is passed on.
pub struct Told<S> {
    /// Who gets the rest.
    pub inner: S,
    /// The report, when it was told.
    pub report: Option<Report>,
    /// Hears how far it is, if that was ordered.
    pub on_progress: Option<Box<dyn FnMut(engine::Progress) + Send>>,
    /// The beginning of a report that came in pieces.
    pieces: Vec<u8>,
}

impl<S: OutputSink> Told<S> {
    /// One that has heard nothing.
    pub fn new(inner: S) -> Self {
        Self { inner, report: None, on_progress: None, pieces: Vec::new() }
    }

    fn line(&mut self, line: &[u8]) {
        if let Some(progress) = line.strip_prefix(PROGRESS.as_bytes()) {
            let progress = serde_json::from_slice(progress).ok();
            if let (Some(progress), Some(told)) = (progress, &mut self.on_progress) {
                told(progress);
            }
            return;
        }
        if self.pieces.is_empty() && !line.starts_with(REPORT.as_bytes()) {
            return self.inner.output(Stream::Stdout, line);
        }
        if self.pieces.len() + line.len() <= REPORT_MAX {
            self.pieces.extend_from_slice(line);
        }
        if line.ends_with(b"\n") {
            let text = std::mem::take(&mut self.pieces);
            self.report = serde_json::from_slice(text.strip_prefix(REPORT.as_bytes()).unwrap_or_default()).ok();
        }
    }
}

impl<S: OutputSink> OutputSink for Told<S> {
    fn ready(&mut self) -> BoxFuture<'_, ()> {
        self.inner.ready()
    }

    fn started(&mut self, leader: u32) {
        self.inner.started(leader);
    }

    fn output(&mut self, stream: Stream, lines: &[u8]) {
        match stream {
            Stream::Stdout => lines.split_inclusive(|&byte| byte == b'\n').for_each(|line| self.line(line)),
            Stream::Stderr => self.inner.output(stream, lines),
        }
    }
}
