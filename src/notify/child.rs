//! Telling by a program: the user's own with variables, or sendmail with a message.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::MemfdFlags;

use super::mail;
use super::notice::Notice;
use super::template::NAMES;
use crate::config::{Command, Mail};
use crate::event::ExitStatus;
use crate::process::{EndedBy, Exit, OutputSink, SpawnError, Spawner, Spec, Stop, Stream};

/// Time between TERM and KILL for a program that takes too long.
const KILL_GRACE: Duration = Duration::from_secs(1);
/// Bytes that are kept of what it said last.
const WORDS_MAX: usize = 200;

/// Why nobody was told.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The message could not be handed to it.
    #[error("could not keep the message in memory")]
    Message(#[source] io::Error),
    /// It did not end well.
    #[error("{0}")]
    Ended(String),
}

/// Executes the user's program.
pub(super) async fn command(
    spawner: &Spawner,
    command: &Command,
    notice: &Notice,
    timeout: Duration,
    stop: &Stop,
) -> Result<(), ChildError> {
    let (program, args) = command.argv();
    let spec = spec(program, args, timeout);
    execute(spawner, Spec { env: variables(notice), ..spec }, stop).await
}

/// Hands a message to sendmail, which finds whom it is for in the message.
pub(super) async fn sendmail(
    spawner: &Spawner,
    mail: &Mail,
    notice: &Notice,
    timeout: Duration,
    stop: &Stop,
) -> Result<(), ChildError> {
    let message = mail::message(mail, notice, &crate::random::word());
    let stdin = in_memory(&message).map_err(ChildError::Message)?;
    let spec = spec(mail.sendmail.clone().into(), vec!["-t".into(), "-i".into()], timeout);
    execute(spawner, Spec { stdin: Some(Arc::new(stdin)), ..spec }, stop).await
}

fn spec(program: OsString, args: Vec<OsString>, timeout: Duration) -> Spec {
    let env = Vec::new();
    Spec {
        program,
        args,
        env,
        stdin: None,
        cwd: None,
        kill_grace: KILL_GRACE,
        timeout: Some(timeout),
        stdout_every: None,
    }
}

fn in_memory(text: &str) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("message", MemfdFlags::CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

/// `RSYNCDIRECTOR_JOB` and so on. A variable cannot hold a NUL.
fn variables(notice: &Notice) -> Vec<(OsString, OsString)> {
    let names = NAMES.iter().map(|name| (name.to_uppercase(), notice.value(name)));
    let test = ("TEST".to_owned(), if notice.test { "1" } else { "" }.to_owned());
    names
        .chain([test])
        .map(|(name, value)| (format!("RSYNCDIRECTOR_{name}").into(), value.replace('\0', "").into()))
        .collect()
}

async fn execute(spawner: &Spawner, spec: Spec, stop: &Stop) -> Result<(), ChildError> {
    let mut words = Words::default();
    let exit = spawner.run(&spec, stop, &mut words).await?;
    let words = match words.text() {
        words if words.is_empty() => words,
        words => format!(": {words}"),
    };
    match exit {
        Exit { status: ExitStatus::Code(0), .. } => Ok(()),
        Exit { ended_by: EndedBy::Timeout, .. } => Err(ChildError::Ended(format!("killed: it took too long{words}"))),
        Exit { ended_by: EndedBy::Stop, .. } => Err(ChildError::Ended("killed: the director ends".into())),
        Exit { status: ExitStatus::Code(code), .. } => Err(ChildError::Ended(format!("exit code {code}{words}"))),
        Exit { status: ExitStatus::Signal(signal), .. } => Err(ChildError::Ended(format!("signal {signal}{words}"))),
    }
}

/// Keeps the last line of standard error.
#[derive(Default)]
struct Words(Vec<u8>);

impl Words {
    fn text(&self) -> String {
        crate::logging::escaped(&String::from_utf8_lossy(&self.0)).into_owned()
    }
}

impl OutputSink for Words {
    fn output(&mut self, stream: Stream, lines: &[u8]) {
        let last = lines.rsplit(|byte| matches!(byte, b'\n' | b'\r')).find(|line| !line.is_empty());
        if let (Stream::Stderr, Some(line)) = (stream, last) {
            self.0 = line[..line.len().min(WORDS_MAX)].to_vec();
        }
    }
}
