//! Who is told what became of a job.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::model::Command;
use crate::notify::template::Template;
use crate::redact;

/// What may be told of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Happening {
    /// A run of it begins.
    Start,
    /// A run of it succeeded.
    Success,
    /// A run of it failed.
    Failure,
    /// A run of it succeeded after one that failed.
    Recovery,
    /// It was due and is not run, or gave up waiting.
    Skip,
    /// Its last success is older than its `max_age`.
    Late,
}

impl Happening {
    /// Every one.
    pub const ALL: [Self; 6] = [Self::Start, Self::Success, Self::Failure, Self::Recovery, Self::Skip, Self::Late];

    /// Its word in configurations and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Recovery => "recovery",
            Self::Skip => "skip",
            Self::Late => "late",
        }
    }

    /// The happening of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|happening| happening.as_str() == word)
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Someone who is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// What of.
    pub on: Vec<Happening>,
    /// How.
    pub way: Way,
    /// Of failures in a row only one in this time is told; `None` tells each.
    pub every: Option<Duration>,
    /// Bound on one attempt.
    pub timeout: Duration,
    /// Attempts after the first.
    pub retries: u32,
    /// Pause before the first retry; doubles with each.
    pub retry_wait: Duration,
}

/// How someone is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Way {
    /// A POST.
    Http(Http),
    /// A program with variables.
    Command(Command),
    /// A message by the system's sendmail.
    Mail(Mail),
}

impl Way {
    /// The label `target` of metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Command(_) => "command",
            Self::Mail(_) => "mail",
        }
    }
}

/// For people, without secrets: `https://hc-ping.com/***`, `command /usr/local/bin/tell`, `mail to root`.
impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(Http { url: Secret::Text(url), .. }) => f.write_str(&redact::url(url)),
            Self::Http(Http { url: Secret::File(path), .. }) => write!(f, "http to the URL in {}", path.display()),
            Self::Http(Http { url: Secret::Credential(name), .. }) => write!(f, "http to the URL in credential {name}"),
            Self::Command(Command::Exec { program, .. }) => write!(f, "command {}", program.display()),
            Self::Command(Command::Shell(line)) => {
                write!(f, "command {}", redact::command_line(&line.to_string_lossy()).escape_debug())
            }
            Self::Mail(mail) => write!(f, "mail to {}", mail.to.join(", ")),
        }
    }
}

/// A POST.
#[derive(Debug, Clone, PartialEq)]
pub struct Http {
    /// Where to: `http` or `https`.
    pub url: Secret,
    /// What is sent.
    pub style: Style,
    /// Headers beside our own: name, value.
    pub headers: Vec<(String, Secret)>,
    /// Certificates of authorities that are trusted beside the system's, PEM.
    pub ca_file: Option<PathBuf>,
}

/// What is sent by HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Style {
    /// JSON: by this template, or everything that there is to tell.
    Json(Option<Template>),
    /// Pings of healthchecks.io: `/start`, the URL itself for success, `/fail`; with the last lines as text.
    Healthchecks,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// To whom, one address each.
    pub to: Vec<String>,
    /// From whom; `None` is `rsyncdirector` at this host.
    pub from: Option<String>,
    /// The program that is executed with `-t -i`.
    pub sendmail: PathBuf,
}

/// A text that people need not see. Files are read anew for each use.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// Written in the configuration.
    Text(String),
    /// The first line of a file.
    File(PathBuf),
    /// The first line of a file in the service manager's directory of credentials.
    Credential(String),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(***)"),
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Credential(name) => write!(f, "Credential({name})"),
        }
    }
}
