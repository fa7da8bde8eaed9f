//! What the gate let through and what it refused, for the administrator of its host: syslog's `authpriv`, which journald takes too.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use crate::clock;

const SOCKET: &str = "/dev/log";
/// syslog(3): LOG_AUTHPRIV with LOG_INFO and LOG_WARNING.
const INFO: u8 = 10 << 3 | 6;
const WARNING: u8 = 10 << 3 | 4;
/// Bound on a line, bytes: a command line can be long.
const LINE_MAX: usize = 1024;

/// Writes lines about one session.
#[derive(Debug)]
pub struct Journal {
    /// Opened before the process is shut in. `None` where no log is kept.
    socket: Option<UnixDatagram>,
    policy: PathBuf,
    client: String,
}

impl Journal {
    /// For a session under the policy in this file. `client` is what sshd says of it (`SSH_CONNECTION`).
    pub fn open(policy: &Path, client: &str) -> Self {
        let connected = || {
            let socket = UnixDatagram::unbound()?;
            socket.connect(SOCKET)?;
            // A log that stands still must not stop a session.
            socket.set_nonblocking(true)?;
            std::io::Result::Ok(socket)
        };
        let client = client.split(' ').next().filter(|client| !client.is_empty()).unwrap_or("unknown");
        Self { socket: connected().ok(), policy: policy.to_owned(), client: client.to_owned() }
    }

    /// Something was let through.
    pub fn admitted(&self, what: &str) {
        self.line(INFO, "admitted", what);
    }

    /// Something was not.
    pub fn refused(&self, why: &str) {
        self.line(WARNING, "refused", why);
    }

    fn line(&self, priority: u8, verdict: &str, text: &str) {
        let Some(socket) = &self.socket else { return };
        let time = clock::now().to_zoned(jiff::tz::TimeZone::system()).strftime("%b %e %H:%M:%S");
        let head = format!("<{priority}>{time} rsyncdirector-gate[{}]: ", std::process::id());
        let text: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(LINE_MAX).collect();
        let line = format!("{head}{verdict}: {text} [policy {}, client {}]", self.policy.display(), self.client);
        // There is nobody else to tell.
        let _ = socket.send(line.as_bytes());
    }
}
