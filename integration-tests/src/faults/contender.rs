//! A contender: a real director that wants the locks, on the protected host or elsewhere, and what can be done to it.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::config;
use super::host::Host;
use super::plan::{Setup, Way};
use crate::peers::Proxy;
use crate::procs::{self, Proc};
use crate::sandbox::Sandbox;
use crate::wait::Stopwatch;

/// Names by index.
pub const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// A thawed host runs its children later than its director, at most by this: both are woken in no particular order, and a child may go on
/// for some milliseconds before the director, which has work to do first, has killed it. That is a limit of what a lease can promise.
const THAW_GAP_MAX: Duration = Duration::from_secs(2);
/// Debian's package `libfaketime`.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// What a director said of its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It began with the first action of the job: it holds the locks.
    Entered,
    /// The job did all of its actions.
    Succeeded,
    /// The job ended otherwise.
    Failed(String),
}

/// What a director is doing, as far as its log tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Nothing.
    Idle,
    /// It was told to run and has not begun.
    Told,
    /// A run.
    Running,
}

/// One of them.
pub struct Contender {
    name: &'static str,
    config: PathBuf,
    proxy: Option<Proxy>,
    log: PathBuf,
    tail: File,
    unread: Vec<u8>,
    child: Option<Child>,
    wanted: bool,
    ending: bool,
    days: i8,
    /// A HUP that it was not sent yet.
    owed: bool,
    /// A HUP of which it has said nothing yet.
    sent: bool,
    /// It said that a run is queued behind the one under way.
    queued: bool,
    /// While its host is suspended: those that stand still with the director.
    frozen: Option<Vec<Proc>>,
    /// Since the director goes on again.
    thawed: Option<Stopwatch>,
    killed_when_thawed: bool,
    doing: Doing,
    inside: bool,
}

impl Contender {
    /// Prepares the contender with this index; it is not started yet.
    pub fn new(sandbox: &Sandbox, host: &Host, setup: &Setup, index: usize) -> Self {
        let name = NAMES[index];
        let party = &setup.contenders[index];
        let proxy = (party.way != Way::Local).then(|| Proxy::before(sandbox, host.sshd()));
        if let Some(proxy) = proxy.as_ref().filter(|_| setup.late_delivery) {
            proxy.deliver_late();
        }
        let place = proxy.as_ref().map(|proxy| proxy.peer(sandbox));
        let actions = config::actions(sandbox, host, name, party);
        let text = config::of(host, setup, index, place.as_deref(), &actions);
        let log = sandbox.write(format!("{name}.log"), "");
        let tail = File::open(&log).expect("its log");
        Self {
            name,
            config: sandbox.config_of(name, &text),
            proxy,
            log,
            tail,
            unread: Vec::new(),
            child: None,
            wanted: true,
            ending: false,
            days: 0,
            owed: false,
            sent: false,
            queued: false,
            frozen: None,
            thawed: None,
            killed_when_thawed: false,
            doing: Doing::Idle,
            inside: false,
        }
    }

    /// Its name in markers.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its log, of all its processes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// What it is doing.
    pub fn doing(&self) -> Doing {
        self.doing
    }

    /// Whether it is in its section, as far as its log tells.
    pub fn inside(&self) -> bool {
        self.inside
    }

    /// Its proxy; only a remote one has one.
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// Looks after it: starts it if it should be up and is not, tells it to run if it is owed and can be told, reads its log.
    ///
    /// # Errors
    /// When it has ended by itself: how.
    pub fn tick(&mut self, sandbox: &Sandbox) -> Result<Vec<Said>, String> {
        let said = self.read();
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait().expect("wait for our child")
        {
            self.child = None;
            self.inside = false;
            (self.sent, self.queued) = (false, false);
            self.rest();
            if !self.ending {
                return Err(format!("director {} ended by itself: {status}", self.name));
            }
        }
        if self.wanted && self.child.is_none() {
            self.spawn(sandbox);
        }
        // Before it handles the signal it would be ended by it.
        if self.owed && self.pid().is_some_and(|pid| procs::catches(pid, Signal::HUP)) {
            self.signal(Signal::HUP);
            (self.owed, self.sent) = (false, true);
        }
        Ok(said)
    }

    fn spawn(&mut self, sandbox: &Sandbox) {
        let mut command = sandbox.command();
        command.args(["run", "--log-format", "json", "--config"]).arg(&self.config);
        let log = OpenOptions::new().append(true).open(&self.log).expect("its log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        if self.days != 0 {
            assert!(Path::new(FAKETIME).exists(), "{FAKETIME} is missing: install libfaketime");
            command.env("LD_PRELOAD", FAKETIME).env("FAKETIME", format!("{:+}d", self.days));
            command.env("DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
        }
        self.child = Some(command.spawn().expect("a director starts"));
        self.ending = false;
    }

    /// Tells it to run as soon as it can be told.
    pub fn trigger(&mut self) {
        self.owed = true;
        if self.doing == Doing::Idle {
            self.doing = Doing::Told;
        }
    }

    /// Kills it; it stays down until [`Self::start`]. On a suspended host nobody can do so: then just after that.
    pub fn kill(&mut self) {
        self.wanted = false;
        self.killed_when_thawed = self.frozen.is_some();
        if !self.killed_when_thawed {
            self.kill_now();
        }
    }

    fn kill_now(&mut self) {
        self.ending = true;
        self.signal(Signal::KILL);
    }

    /// Lets it be up again.
    pub fn start(&mut self) {
        self.wanted = true;
    }

    /// Ends it in order; it is started again when it has ended.
    pub fn terminate(&mut self) {
        self.ending = true;
        self.signal(Signal::TERM);
    }

    /// The same, and its clock is off by this many days afterwards. On the protected host itself there is one clock.
    pub fn set_clock(&mut self, days: i8) {
        self.days = if self.proxy.is_some() { days } else { 0 };
        self.terminate();
    }

    /// Stops it, as if its host were suspended, and not yet what is below it.
    pub fn freeze(&mut self) {
        self.signal(Signal::STOP);
        self.frozen.get_or_insert_default();
        self.thawed = None;
    }

    /// Stops the rest.
    pub fn freeze_children(&mut self) {
        let Some(frozen) = &mut self.frozen else { return };
        // What is forked while we look stands still at the second look.
        for _ in 0..2 {
            for process in self.child.as_ref().map(|child| procs::descendants(child.id())).unwrap_or_default() {
                procs::signal(process.pid, Signal::STOP);
                frozen.push(process);
            }
        }
    }

    /// Lets the director go on, and not yet what is below it.
    pub fn thaw(&mut self) {
        self.signal(Signal::CONT);
        self.thawed = Some(Stopwatch::start());
    }

    /// Whether the rest may go on: the director has had its time, or nothing that acts for it lives.
    pub fn may_thaw_children(&self) -> bool {
        let acts = |process: &Proc| !process.cmdline.contains(" __guard ") && procs::alive(process.pid);
        let is_over = || !self.frozen.iter().flatten().any(acts);
        self.thawed.is_some_and(|since| since.elapsed() >= THAW_GAP_MAX || is_over())
    }

    /// Lets the rest go on.
    pub fn thaw_children(&mut self) {
        for process in self.frozen.take().unwrap_or_default() {
            procs::signal(process.pid, Signal::CONT);
        }
        if std::mem::take(&mut self.killed_when_thawed) {
            self.kill_now();
        }
    }

    fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            procs::signal(pid, signal);
        }
    }

    fn read(&mut self) -> Vec<Said> {
        self.tail.read_to_end(&mut self.unread).expect("read its log");
        let complete = self.unread.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let lines: Vec<u8> = self.unread.drain(..complete).collect();
        lines.split(|byte| *byte == b'\n').filter_map(|line| self.hear(line)).collect()
    }

    fn hear(&mut self, line: &[u8]) -> Option<Said> {
        let line: Value = serde_json::from_slice(line).ok()?;
        if line.get("action_id").is_some() {
            let first = !std::mem::replace(&mut self.inside, true);
            return first.then_some(Said::Entered);
        }
        let text = line.get("message")?.as_str()?;
        if line.get("job_id").is_none() {
            if text.starts_with("run ") && text.contains(" started by ") {
                (self.sent, self.queued) = (false, false);
                self.doing = Doing::Running;
            } else if text.contains("one more is queued") {
                (self.sent, self.queued) = (false, true);
            } else if text.starts_with("run ") && text.contains(" finished after ") {
                self.rest();
            }
            return None;
        }
        let failed = ["failed after", "skipped after", "stopped after"].iter().any(|start| text.starts_with(start));
        let succeeded = text.starts_with("succeeded in");
        self.inside &= !(failed || succeeded);
        match succeeded {
            true => Some(Said::Succeeded),
            false => failed.then(|| Said::Failed(text.to_owned())),
        }
    }
}

impl Contender {
    /// Nothing runs; whether that stays so depends on what it was told.
    fn rest(&mut self) {
        self.doing = if self.owed || self.sent || self.queued { Doing::Told } else { Doing::Idle };
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
