//! The way to an agent: the program that reaches the peer is started, and who answers is found out.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::Agent;
use crate::agent::proto::message::{Hello, Request};
use crate::agent::proto::{self, Kind, PREFACE_MAX, Preface, PrefaceError, ProtoError};
use crate::clock::{self, Ticks};
use crate::ssh::transport;
use crate::verify::order::Elsewhere;
use crate::verify::side::About;

/// An agent that has not greeted within this time is not waited for. Connections have shorter bounds of their own.
const GREETING_MAX: Duration = Duration::from_secs(60);
/// The last words of a program that has closed its output are waited for so long.
const LAST_WORDS_MAX: Duration = Duration::from_secs(10);
/// So much of what is said on standard error is kept, bytes: the end.
const COMPLAINTS_MAX: usize = 2048;
/// ssh(1): what it exits with when the connection is at fault.
const CONNECTION_FAILED: i32 = 255;
/// What a line of the director's own transport begins with; and how such a line goes on that the peer has said: tcsh, a gate.
const OURS: &str = "rsyncdirector: ";
const NOT_OURS: [&str; 2] = ["command not found", "gate: "];

/// Why there is no agent to talk to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The peer was reached, but has none, or lets nobody use it. rsync may do.
    #[error("{who} has no agent{}", told(.said))]
    NoAgent {
        /// The peer.
        who: String,
        /// What was said on standard error; may be empty.
        said: String,
    },
    /// The peer was not reached.
    #[error("could not connect to {who}{}", told(.said))]
    NoConnection {
        /// The peer.
        who: String,
        /// What was said on standard error; may be empty.
        said: String,
    },
    /// Something else answers, or another release.
    #[error("{who}: {source}{}", hint(.source))]
    Stranger {
        /// The peer.
        who: String,
        /// What it said.
        source: PrefaceError,
    },
    /// It greets, and then does not speak as it should.
    #[error("the agent on {who} does not answer as it should")]
    Speech {
        /// The peer.
        who: String,
        /// What was wrong.
        #[source]
        source: ProtoError,
    },
    /// Nothing came in time.
    #[error("{who} has not answered within {} s", GREETING_MAX.as_secs())]
    Silent {
        /// The peer.
        who: String,
    },
    /// The program that reaches the peer could not be started.
    #[error("could not start {program}")]
    Start {
        /// Which.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

fn told(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

fn hint(source: &PrefaceError) -> &'static str {
    match source {
        PrefaceError::Noise { .. } => "; a start file of the shell there must print nothing (~/.bashrc)",
        PrefaceError::Protocol { .. } => "",
    }
}

/// What a child says on its standard error: the end of it is kept.
pub(super) struct Complaints {
    text: Arc<Mutex<VecDeque<u8>>>,
    ended: mpsc::Receiver<()>,
}

impl Complaints {
    fn of(stderr: ChildStderr) -> std::io::Result<Self> {
        let text = Arc::new(Mutex::new(VecDeque::new()));
        let (tell, ended) = mpsc::channel();
        let kept = Arc::clone(&text);
        thread::Builder::new().name("complaints".into()).spawn(move || {
            keep(stderr, &kept);
            drop(tell);
        })?;
        Ok(Self { text, ended })
    }

    /// What was said until now, in one line; last words are waited for.
    pub(super) fn heard(&self) -> String {
        // Either it has ended, or has not in time: nothing is ever sent.
        let _ = self.ended.recv_timeout(LAST_WORDS_MAX);
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = text.iter().copied().collect();
        let words = String::from_utf8_lossy(&bytes);
        let lines = words.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.collect::<Vec<_>>().join("; ").replace(|c: char| c.is_control(), "\u{fffd}")
    }
}

fn keep(mut stderr: ChildStderr, kept: &Mutex<VecDeque<u8>>) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stderr.read(&mut buffer) {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(&buffer[..count]);
        let surplus = kept.len().saturating_sub(COMPLAINTS_MAX);
        kept.drain(..surplus);
    }
}

impl Agent {
    /// Starts `program` as an agent on the peer, and finds out who answers. Uses the first of the peer's tickets, if it has any.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect(elsewhere: &Elsewhere, program: &str) -> Result<Self, ConnectError> {
        let who = elsewhere.host.clone();
        let start = |source| ConnectError::Start { program: shown(elsewhere.rsh.first()), source };
        let mut child = command(elsewhere, program).spawn().map_err(start)?;
        let (Some(input), Some(output), Some(error)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            unreachable!("all three were asked for");
        };
        let complaints = Complaints::of(error).map_err(start)?;
        let (about, capabilities, payload, broken) = Default::default();
        let output = BufReader::with_capacity(128 * 1024, output);
        let mut agent = Self { who, about, capabilities, child, input, output, complaints, broken, payload };
        let line = agent.first_line()?;
        let stranger = |source| ConnectError::Stranger { who: elsewhere.host.clone(), source };
        Preface::parse(&line).map_err(stranger)?;
        agent.introduce().map_err(|source| ConnectError::Speech { who: elsewhere.host.clone(), source })?;
        Ok(agent)
    }

    /// What comes first, up to a line feed, to the end, or to the bound.
    fn first_line(&mut self) -> Result<Vec<u8>, ConnectError> {
        let since = Ticks::now();
        let mut line = Vec::new();
        while line.len() < PREFACE_MAX && !line.ends_with(b"\n") {
            let left = GREETING_MAX.saturating_sub(since.elapsed());
            if self.output.buffer().is_empty() && !is_readable(self.output.get_ref(), left) {
                return Err(ConnectError::Silent { who: self.who.clone() });
            }
            // That it failed is as good as its end.
            let came = self.output.fill_buf().unwrap_or_default();
            if came.is_empty() {
                break;
            }
            let came = &came[..came.len().min(PREFACE_MAX - line.len())];
            let length = came.iter().position(|&byte| byte == b'\n').map_or(came.len(), |at| at + 1);
            line.extend_from_slice(&came[..length]);
            self.output.consume(length);
        }
        if line.is_empty() { Err(self.absent()) } else { Ok(line) }
    }

    /// Why nothing came at all.
    fn absent(&mut self) -> ConnectError {
        let (who, said) = (self.who.clone(), self.complaints.heard());
        let code = ended(&mut self.child).and_then(|status| status.code());
        if is_unreached(code, &said) {
            ConnectError::NoConnection { who, said }
        } else {
            ConnectError::NoAgent { who, said }
        }
    }

    fn introduce(&mut self) -> Result<(), ProtoError> {
        let request = Request::Hello { version: crate::VERSION.into() };
        let (asked, since) = (clock::now(), Ticks::now());
        proto::write(&mut self.input, &proto::json(Kind::Request, &request)?)?;
        let kind = proto::read(&mut self.output, &mut self.payload)?.ok_or(ProtoError::Truncated)?;
        let took = since.elapsed();
        if kind != Kind::Hello {
            return Err(proto::out_of_turn(kind));
        }
        let Hello { capabilities, now, about } = serde_json::from_slice(&self.payload)?;
        // It looked at its clock when half of that time had passed.
        let ours = asked.as_duration().as_secs_f64() + took.as_secs_f64() / 2.0;
        self.about = About { clock_offset: Some(now - ours), ..about };
        self.capabilities = capabilities;
        Ok(())
    }
}

/// What reaches the peer, as rsync would start it.
fn command(elsewhere: &Elsewhere, program: &str) -> Command {
    let mut words = elsewhere.rsh.iter();
    let ssh = OsString::from("ssh");
    let mut command = Command::new(words.next().unwrap_or(&ssh));
    // As rsync is given it, an address may stand in brackets.
    let host = elsewhere.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&elsewhere.host);
    command.args(words).args(["-l", &elsewhere.user, host]).arg(format!("{} agent", escaped(program)));
    if let Some(ticket) = elsewhere.tickets.first() {
        command.env(transport::VARIABLE, ticket);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A program for the peer's shell, whichever that is, or the gate: with backslashes, as rsync does it. A `~` at the beginning is left to them.
pub fn escaped(program: &str) -> String {
    let mut escaped = String::with_capacity(program.len());
    for (at, character) in program.char_indices() {
        let is_plain = !character.is_ascii() || character.is_ascii_alphanumeric() || "/._-+,:@%=".contains(character);
        let is_home = at == 0 && character == '~';
        if !(is_plain || is_home) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// Whether the peer was not even reached, by what the program that reaches it exits with, and says. That of the director's own transport exits with 0
/// at once, and its last words come through the same channel as the peer's.
fn is_unreached(code: Option<i32>, said: &str) -> bool {
    let is_ours = |line: &str| {
        let line = line.to_lowercase();
        line.strip_prefix(OURS).is_some_and(|rest| !NOT_OURS.iter().any(|theirs| rest.starts_with(theirs)))
    };
    code == Some(CONNECTION_FAILED) || said.split("; ").any(is_ours)
}

fn is_readable(output: &ChildStdout, within: Duration) -> bool {
    poll_until(output.as_fd(), within)
}

/// How a child ended, if it does so soon.
fn ended(child: &mut Child) -> Option<ExitStatus> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw)?;
    let descriptor = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    if poll_until(descriptor.as_fd(), LAST_WORDS_MAX) { child.try_wait().ok().flatten() } else { None }
}

/// Waits until a descriptor is readable or at its end; `false` when that takes too long.
fn poll_until(descriptor: rustix::fd::BorrowedFd<'_>, within: Duration) -> bool {
    let since = Ticks::now();
    loop {
        let left = within.saturating_sub(since.elapsed());
        let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)], Some(&left)) {
            Ok(0) => return false,
            Err(rustix::io::Errno::INTR) => {}
            // An error is found again by reading.
            Ok(_) | Err(_) => return true,
        }
    }
}

fn shown(word: Option<&OsString>) -> String {
    word.map_or_else(|| "ssh".into(), |word| word.to_string_lossy().into_owned())
}
