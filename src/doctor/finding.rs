//! What a check found: a value, and how it reads.

use std::fmt;

use serde_json::{Value, json};

use crate::logging::escaped;

/// What is looked at. The names are part of the interface: `docs/doctor.md` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Check {
    /// A host's name has an address.
    Resolve,
    /// A host takes a TCP connection, or is reached by way of another.
    Connect,
    /// A host proves to be the one that is meant.
    HostKey,
    /// A host lets us log in, and by which key.
    Login,
    /// A host executes what we ask for.
    Shell,
    /// The system's ssh gets there, where `transport: openssh` uses it.
    Ssh,
    /// A host's clock shows the time.
    Clock,
    /// rsync is there, in which version.
    Rsync,
    /// The rsync has the fixes that are known.
    RsyncSecurity,
    /// The rsync knows what the jobs' options ask for.
    RsyncFeatures,
    /// A peer has the agent that a verification asks, and it speaks as ours.
    Agent,
    /// What a sync reads is there and can be read.
    Source,
    /// What a sync writes can be written.
    Destination,
    /// There is room.
    Space,
    /// A lock file can be made, and removed.
    Lock,
    /// A block file can be looked at.
    Block,
    /// A private key can be used.
    Key,
    /// A file that the configuration names can be read.
    File,
    /// The lists of known host keys.
    KnownHosts,
    /// In which zone a job's schedule is read, and what daylight saving does to it.
    TimeZone,
    /// The directory of the pid file.
    PidFile,
    /// The directory of the history.
    State,
    /// The control socket.
    ControlSocket,
    /// The port of metrics and pages.
    MetricsPort,
    /// The unit of systemd.
    Unit,
    /// What the unit hides, or lets only be read.
    UnitPaths,
    /// What the unit's user and capabilities do not allow.
    UnitRights,
    /// What the unit does not let out of this host.
    UnitNetwork,
}

impl Check {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 28] = [
        Self::Resolve,
        Self::Connect,
        Self::HostKey,
        Self::Login,
        Self::Shell,
        Self::Ssh,
        Self::Clock,
        Self::Rsync,
        Self::RsyncSecurity,
        Self::RsyncFeatures,
        Self::Agent,
        Self::Source,
        Self::Destination,
        Self::Space,
        Self::Lock,
        Self::Block,
        Self::Key,
        Self::File,
        Self::KnownHosts,
        Self::TimeZone,
        Self::PidFile,
        Self::State,
        Self::ControlSocket,
        Self::MetricsPort,
        Self::Unit,
        Self::UnitPaths,
        Self::UnitRights,
        Self::UnitNetwork,
    ];

    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::HostKey => "host-key",
            Self::Login => "login",
            Self::Shell => "shell",
            Self::Ssh => "ssh",
            Self::Clock => "clock",
            Self::Rsync => "rsync",
            Self::RsyncSecurity => "rsync-security",
            Self::RsyncFeatures => "rsync-features",
            Self::Agent => "agent",
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Space => "space",
            Self::Lock => "lock",
            Self::Block => "block",
            Self::Key => "key",
            Self::File => "file",
            Self::KnownHosts => "known-hosts",
            Self::TimeZone => "time-zone",
            Self::PidFile => "pid-file",
            Self::State => "state",
            Self::ControlSocket => "control-socket",
            Self::MetricsPort => "metrics-port",
            Self::Unit => "unit",
            Self::UnitPaths => "unit-paths",
            Self::UnitRights => "unit-rights",
            Self::UnitNetwork => "unit-network",
        }
    }
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// As it should.
    Ok,
    /// A job will run; somebody should know of this all the same, or it could not be learnt.
    Warn,
    /// A job will fail.
    Fail,
}

impl Grade {
    /// `ok`, `warn` or `fail`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// On which host: `here`, or `user@host:port`.
    pub place: String,
    /// How it stands.
    pub grade: Grade,
    /// What was found.
    pub text: String,
    /// What to do about it.
    pub fix: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(check: Check, place: &str, text: impl Into<String>) -> Self {
        Self { check, place: place.to_owned(), grade: Grade::Ok, text: text.into(), fix: None }
    }

    /// Somebody should know.
    pub fn warn(check: Check, place: &str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        let fix = Some(fix.into()).filter(|fix: &String| !fix.is_empty());
        Self { check, place: place.to_owned(), grade: Grade::Warn, text: text.into(), fix }
    }

    /// A job will fail.
    pub fn fail(check: Check, place: &str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { grade: Grade::Fail, ..Self::warn(check, place, text, fix) }
    }

    /// An element of the array that `--json` prints.
    pub fn to_json(&self) -> Value {
        json!({
            "check": self.check.name(),
            "where": self.place,
            "result": self.grade.word(),
            "text": self.text,
            "fix": self.fix,
        })
    }
}

/// The line for people: `fail  root@backup:22  rsync: it has none; install the package rsync there`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (grade, check) = (self.grade.word(), self.check.name());
        write!(f, "{grade:<4}  {}  {check}: {}", escaped(&self.place), escaped(&self.text))?;
        match &self.fix {
            Some(fix) => write!(f, "; {}", escaped(fix)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_whatever_a_host_said() {
        let finding = Finding::fail(Check::Login, "root@x:22", "it said \"\n\x1b[31mhello\"", "run `x`");
        assert_eq!(finding.to_string(), "fail  root@x:22  login: it said \"\\n\\x1b[31mhello\"; run `x`");
        assert_eq!(Finding::ok(Check::Rsync, "here", "3.5.0").to_string(), "ok    here  rsync: 3.5.0");
        assert_eq!(finding.to_json()["fix"], "run `x`");
        assert!(Finding::ok(Check::Rsync, "here", "x").to_json()["fix"].is_null());
    }

    /// `docs/doctor.md` has a row for each check, in this order, and for nothing else.
    #[test]
    fn every_check_is_documented() {
        let page = include_str!("../../docs/doctor.md");
        let table = page.split("\n## ").find(|section| section.starts_with("Checks")).expect("a section on checks");
        let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let documented: Vec<&str> = rows.map(|(name, _)| name).collect();
        assert_eq!(documented, Check::ALL.map(Check::name));
    }
}
