//! A command on this host whose output is wanted as a whole.

use std::ffi::OsString;
use std::time::Duration;

use crate::event::ExitStatus;
use crate::process::{EndedBy, OutputSink, Spawner, Spec, Stop, Stream};

/// More of an output is not kept, bytes.
const KEPT: usize = 1 << 20;

/// What a command left behind.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Its exit code; `None` when it was killed.
    pub(super) code: Option<i32>,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

impl Output {
    /// The last line that it said on standard error, or how it ended.
    pub(super) fn last_words(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr);
        match (text.lines().map(str::trim).rfind(|line| !line.is_empty()), self.code) {
            (Some(line), _) => line.to_owned(),
            (None, Some(code)) => format!("exit code {code}"),
            (None, None) => "it took too long".into(),
        }
    }
}

impl OutputSink for Output {
    fn output(&mut self, stream: Stream, lines: &[u8]) {
        let kept = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        kept.extend(&lines[..lines.len().min(KEPT.saturating_sub(kept.len()))]);
    }
}

/// Executes a command to its end, for `limit` at most.
///
/// # Errors
/// When it could not be started, for people.
pub(super) async fn output(
    spawner: &Spawner,
    program: OsString,
    args: Vec<OsString>,
    limit: Duration,
) -> Result<Output, String> {
    let spec = Spec {
        program,
        args,
        env: Vec::new(),
        stdin: None,
        cwd: None,
        kill_grace: Duration::from_secs(1),
        timeout: Some(limit),
        stdout_every: None,
    };
    let mut output = Output::default();
    let exit = spawner.run(&spec, &Stop::default(), &mut output).await.map_err(|error| crate::error_chain(&error))?;
    output.code = match (exit.ended_by, exit.status) {
        (EndedBy::Itself, ExitStatus::Code(code)) => Some(code),
        _ => None,
    };
    Ok(output)
}
