//! The signals that steer a director, and who sent them.

use std::collections::VecDeque;
use std::fmt;
use std::io;

use futures_util::StreamExt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook_tokio::SignalsInfo;

use crate::account;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// SIGHUP.
    RunNow,
    /// SIGTERM or SIGINT.
    Terminate,
    /// SIGUSR2: leave, to be started anew, as soon as nothing runs.
    Renew,
}

/// A signal that came in. Displays its name and its sender.
#[derive(Debug, Clone)]
pub struct Received {
    /// What it asks for.
    pub request: Request,
    name: &'static str,
    sender: Option<(i32, u32)>,
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        let Some((pid, uid)) = self.sender else { return f.write_str(" from the terminal") };
        write!(f, " from pid {pid}")?;
        if let Ok(name) = std::fs::read_to_string(format!("/proc/{pid}/comm")) {
            write!(f, " ({})", name.trim_end())?;
        }
        write!(f, ", uid {uid}")?;
        if let Some(user) = account::name_of(uid) {
            write!(f, " ({user})")?;
        }
        Ok(())
    }
}

/// The signals of this process from the moment of registration on; earlier ones have their default effect.
pub struct Signals {
    stream: SignalsInfo<WithOrigin>,
    /// Requests that came in before anything could run, one of each kind.
    early: VecDeque<Received>,
}

impl Signals {
    /// Registers for SIGHUP, SIGTERM, SIGINT and SIGUSR2.
    ///
    /// # Errors
    /// When the kernel refuses the registration.
    pub fn register() -> io::Result<Self> {
        let stream = SignalsInfo::<WithOrigin>::new([SIGHUP, SIGTERM, SIGINT, SIGUSR2])?;
        Ok(Self { stream, early: VecDeque::new() })
    }

    /// Waits for a request to stop; others are kept for later.
    pub async fn terminated(&mut self) {
        loop {
            let received = self.receive().await;
            match received.request {
                Request::Terminate => return,
                Request::RunNow | Request::Renew => {
                    if !self.early.iter().any(|early| early.request == received.request) {
                        self.early.push_back(received);
                    }
                }
            }
        }
    }

    /// The next one. Equal signals that arrive before the first is read may come as one.
    pub(super) async fn next(&mut self) -> Received {
        match self.early.pop_front() {
            Some(early) => early,
            None => self.receive().await,
        }
    }

    async fn receive(&mut self) -> Received {
        let Some(origin) = self.stream.next().await else { return std::future::pending().await };
        let (request, name) = match origin.signal {
            SIGHUP => (Request::RunNow, "SIGHUP"),
            SIGUSR2 => (Request::Renew, "SIGUSR2"),
            SIGINT => (Request::Terminate, "SIGINT"),
            _ => (Request::Terminate, "SIGTERM"),
        };
        Received { request, name, sender: origin.process.map(|process| (process.pid, process.uid)) }
    }
}
