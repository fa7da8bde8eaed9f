//! The program under test: running, or run to its end.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::PipeWriter;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::http::{self, Response, Samples};
use crate::procs;
use crate::sandbox::Sandbox;
use crate::wait::{self, DEADLINE};

/// The binary under test: `RSYNCDIRECTOR_BIN`, else the one beside the test's own directory in `target`.
///
/// # Panics
/// When there is none: run `cargo build` first.
pub fn binary() -> PathBuf {
    let built = || {
        let test = std::env::current_exe().expect("the test has a path");
        test.parent().and_then(Path::parent).expect("target/debug/deps").join("rsyncdirector")
    };
    let path = std::env::var_os("RSYNCDIRECTOR_BIN").map_or_else(built, PathBuf::from);
    assert!(path.is_file(), "{} is missing: run `cargo build` first", path.display());
    path
}

/// A program that has ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error, where the log goes.
    pub stderr: String,
}

impl Finished {
    /// Runs the command to its end.
    ///
    /// # Panics
    /// When it has not ended after twice the usual deadline.
    pub fn of(mut command: Command) -> Self {
        let out = tempfile::NamedTempFile::new().expect("a temporary file");
        let err = tempfile::NamedTempFile::new().expect("a temporary file");
        command.stdin(Stdio::null()).stdout(out.reopen().expect("reopen")).stderr(err.reopen().expect("reopen"));
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let status = wait::within(2 * DEADLINE, || child.try_wait().expect("wait for our child"));
        let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).expect("its output")).into_owned();
        let (stdout, stderr) = (text(out.path()), text(err.path()));
        let status = status.unwrap_or_else(|| {
            child.kill().expect("kill our child");
            child.wait().expect("wait for our child");
            panic!("{command:?} does not end; it said:\n{stderr}")
        });
        Self { status, stdout, stderr }
    }

    /// Fails unless it exited with this code.
    #[track_caller]
    pub fn expect_code(&self, code: i32) -> &Self {
        let text = format!("{}\n{}", self.stdout, self.stderr);
        assert_eq!(self.status.code(), Some(code), "{}, it said:\n{text}", self.status);
        self
    }

    /// Fails unless standard error holds the text.
    #[track_caller]
    pub fn expect_said(&self, text: &str) -> &Self {
        assert!(self.stderr.contains(text), "nothing of {text:?} in:\n{}", self.stderr);
        self
    }

    /// Fails unless standard output holds the text.
    #[track_caller]
    pub fn expect_printed(&self, text: &str) -> &Self {
        assert!(self.stdout.contains(text), "nothing of {text:?} in:\n{}", self.stdout);
        self
    }
}

/// A running daemon. Dropping it kills it, and shows its log if the test is failing.
pub struct Director {
    child: Child,
    log: PathBuf,
    metrics: OnceCell<SocketAddr>,
}

impl Director {
    /// Starts the command with its log going to a file of its own.
    pub fn spawn(sandbox: &Sandbox, mut command: Command) -> Self {
        let (log, path) = tempfile::Builder::new()
            .prefix("director-")
            .suffix(".log")
            .tempfile_in(sandbox.dir())
            .and_then(|file| file.keep().map_err(|e| e.error))
            .expect("a log file");
        let both: File = log.try_clone().expect("a second handle");
        let child = command.stdin(Stdio::null()).stdout(both).stderr(log).spawn();
        let child = child.unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Self { child, log: path, metrics: OnceCell::new() }
    }

    /// Starts the command with its log going into a pipe, of which no more is known here.
    pub fn spawn_logging_to(sandbox: &Sandbox, mut command: Command, pipe: PipeWriter) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(pipe).spawn();
        let child = child.unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Self { child, log: sandbox.path("no-log"), metrics: OnceCell::new() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits for a state that it should reach while it runs.
    ///
    /// # Panics
    /// After the usual deadline, or as soon as it has ended without reaching it.
    #[track_caller]
    pub fn until(&self, what: &str, mut probe: impl FnMut(&Self) -> bool) {
        let reached = wait::within(DEADLINE, || {
            let running = procs::alive(self.pid());
            (probe(self) || !running).then_some(())
        });
        assert!(reached.is_some(), "waited {DEADLINE:?} for this: {what}");
        assert!(probe(self), "it ended before this: {what}");
    }

    /// Waits for a text in the log.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        self.until(&format!("{text:?} in the log"), |it| it.log().contains(text));
    }

    /// Waits until it says that it is ready: metrics are served, and it hears orders.
    #[track_caller]
    pub fn wait_until_ready(&self) {
        self.wait_for_log(" is ready");
    }

    /// Where it serves metrics.
    #[track_caller]
    pub fn metrics_addr(&self) -> SocketAddr {
        *self.metrics.get_or_init(|| {
            self.until("metrics are served", |it| address_in(&it.log()).is_some());
            address_in(&self.log()).expect("the log names the address")
        })
    }

    /// Asks its HTTP listener.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        http::get(self.metrics_addr(), path).unwrap_or_else(|e| panic!("GET {path}: {e}"))
    }

    /// All samples of `/metrics`.
    #[track_caller]
    pub fn samples(&self) -> Samples {
        Samples::parse(&self.get("/metrics").body)
    }

    /// A series written as `name label=value`; 0 when it is not there (yet).
    #[track_caller]
    pub fn metric(&self, series: &str) -> f64 {
        self.samples().get(series).unwrap_or(0.0)
    }

    /// Waits until a series has at least this value.
    #[track_caller]
    pub fn wait_for_metric(&self, series: &str, at_least: f64) {
        self.until(&format!("{series} >= {at_least}"), |it| {
            http::get(it.metrics_addr(), "/metrics")
                .is_ok_and(|page| Samples::parse(&page.body).get(series).unwrap_or(0.0) >= at_least)
        });
    }

    /// Waits until this many runs are over, whatever became of their jobs.
    #[track_caller]
    pub fn wait_for_runs(&self, runs: u32) {
        self.until(&format!("{runs} runs are over"), |it| {
            let page = http::get(it.metrics_addr(), "/metrics");
            page.is_ok_and(|page| Samples::parse(&page.body).sum("runs_completed_total") >= f64::from(runs))
        });
    }

    /// Runs all jobs now, as the `nth` run of this daemon, and waits for its end.
    #[track_caller]
    pub fn run_now(&self, nth: u32) {
        self.hup();
        self.wait_for_runs(nth);
    }

    /// Sends SIGHUP: run now.
    pub fn hup(&self) {
        procs::signal(self.pid(), Signal::HUP);
    }

    /// Sends SIGTERM and does not wait.
    pub fn term(&self) {
        procs::signal(self.pid(), Signal::TERM);
    }

    /// Kills it and waits until it is gone, but not for what it leaves behind.
    pub fn kill(&mut self) {
        procs::signal(self.pid(), Signal::KILL);
        self.child.wait().expect("wait for our child");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it takes longer than `limit`.
    #[track_caller]
    pub fn ended(&mut self, limit: Duration) -> Finished {
        let child = &mut self.child;
        let status = wait::within(limit, || child.try_wait().expect("wait for our child"));
        let status = status.unwrap_or_else(|| panic!("it has not ended after {limit:?}"));
        Finished { status, stdout: String::new(), stderr: self.log() }
    }

    /// Sends SIGTERM and waits for an exit with 0.
    #[track_caller]
    pub fn stop(&mut self) -> Finished {
        self.term();
        let finished = self.ended(DEADLINE);
        finished.expect_code(0);
        finished
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of process {}:\n{}---", self.pid(), self.log());
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

/// The address in `http://ADDRESS/metrics`.
fn address_in(log: &str) -> Option<SocketAddr> {
    log.split("http://").skip(1).find_map(|rest| rest.split_once("/metrics")?.0.parse().ok())
}
