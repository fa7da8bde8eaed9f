//! The walk through the files, line by line, with what applies at each line.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::keywords::{self, Weight};
use super::pattern::{fits, fits_list};
use super::values::{self, Wrong, keep};
use super::{Complaint, File, Files, Place, Placed, Query, Remedy, SYSTEM_FILE, Settings, Way, expand, words};
use crate::config::diagnostics::Severity;
use crate::config::model::AddressFamily;
use crate::config::value;

/// Files within files, as many as ssh allows.
const DEEPEST: usize = 16;

/// Whose file it is, which decides where relative paths begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    User,
    System,
}

/// Whether the lines at a place apply.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    Applies,
    DoesNot,
    /// It depends on what is not known here, which the line at this place asks; with its text, and whether that was said.
    Unjudged {
        at: Place,
        condition: String,
        said: bool,
    },
}

pub(super) struct Reader<'a> {
    files: &'a dyn Files,
    query: &'a Query<'a>,
    /// What `Host` and `Match host` are compared with.
    host: String,
    is_final: bool,
    wants_final: bool,
    ignored: Vec<String>,
    /// Keywords that are not followed, of which the first counts.
    unfollowed: HashSet<String>,
    complaints: Vec<Complaint>,
    pub(super) settings: Settings,
}

impl<'a> Reader<'a> {
    pub(super) fn new(files: &'a dyn Files, query: &'a Query<'a>) -> Self {
        let (ignored, unfollowed, complaints, settings) = Default::default();
        let host = query.host.to_owned();
        Self { files, query, host, is_final: false, wants_final: false, ignored, unfollowed, complaints, settings }
    }

    /// Reads the user's file and the system's.
    pub(super) fn read_all(&mut self) {
        if let Some(home) = self.query.home {
            self.read_file(&home.join(".ssh/config"), Kind::User, true, &mut Scope::Applies, 0);
        }
        self.read_file(Path::new(SYSTEM_FILE), Kind::System, false, &mut Scope::Applies, 0);
    }

    /// Whether a `Match final` asked for a second pass.
    pub(super) fn wants_final(&self) -> bool {
        self.wants_final
    }

    /// The second pass, in which the host is what its name has become.
    pub(super) fn read_all_again(&mut self, host: String) {
        self.is_final = true;
        if let Some(name) = &mut self.settings.host_name {
            name.value = host.replace('%', "%%");
        }
        self.host = host;
        self.read_all();
    }

    pub(super) fn finish(self) -> (Settings, Vec<Complaint>) {
        (self.settings, self.complaints)
    }

    fn complain(&mut self, severity: Severity, at: Place, message: impl Into<String>, remedy: Remedy) {
        let complaint = Complaint { severity, at, message: message.into(), remedy };
        if !self.complaints.contains(&complaint) {
            self.complaints.push(complaint);
        }
    }

    fn read_file(&mut self, path: &Path, kind: Kind, is_judged: bool, scope: &mut Scope, depth: usize) {
        let place = |line| Place { file: path.to_owned(), line };
        let File { text, owner, mode } = match self.files.read(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => {
                let advice = "ssh takes a file that it cannot read for an empty one, and so does the director";
                let message = format!("could not be read ({error})");
                return self.complain(Severity::Warning, place(1), message, Remedy::Advice(advice));
            }
        };
        let us = rustix::process::geteuid().as_raw();
        if is_judged && ((owner != 0 && owner != us) || mode & 0o022 != 0) {
            let message = format!("bad owner or permissions (uid {owner}, mode {:04o})", mode & 0o7777);
            let advice = "it must belong to the user who runs rsyncdirector, or to root, and nobody else may write it";
            return self.complain(Severity::Error, place(1), message, Remedy::Advice(advice));
        }
        for (index, line) in text.lines().enumerate() {
            let at = place(index + 1);
            if let Err(wrong) = self.line(line, &at, kind, scope, depth) {
                self.complain(Severity::Error, at, wrong, Remedy::Advice("ssh refuses the file, too"));
            }
        }
    }

    fn line(&mut self, line: &str, at: &Place, kind: Kind, scope: &mut Scope, depth: usize) -> Result<(), Wrong> {
        let Some((keyword, rest)) = words::keyword(line) else { return Ok(()) };
        if rest.is_empty() {
            return Err(format!("no argument after {keyword:?}"));
        }
        let arguments = words::arguments(rest).ok_or("a quote is not closed")?;
        match keyword.as_str() {
            "host" => *scope = self.scope_of_host(&arguments)?,
            "match" => *scope = self.scope_of_match(&arguments, rest, at)?,
            _ if *scope == Scope::DoesNot => {}
            _ if *scope != Scope::Applies => self.say_unjudged(scope, &keyword, &arguments),
            "include" => self.include(&arguments, at, kind, depth)?,
            _ => self.set(&keyword, &arguments, rest, at)?,
        }
        Ok(())
    }

    /// What is said of a block that cannot be judged, once it holds something that matters.
    fn say_unjudged(&mut self, scope: &mut Scope, keyword: &str, arguments: &[String]) {
        let Scope::Unjudged { at, condition, said } = scope else { return };
        if !*said && keywords::would_matter(keyword, arguments) {
            *said = true;
            let message = format!("the block `Match {condition}` is not read");
            self.complain(Severity::Warning, at.clone(), message, Remedy::OpenSsh);
        }
    }

    fn scope_of_host(&self, patterns: &[String]) -> Result<Scope, Wrong> {
        let mut scope = Scope::DoesNot;
        for pattern in patterns {
            let (is_negated, pattern) = match pattern.strip_prefix('!') {
                Some(pattern) => (true, pattern),
                None => (false, pattern.as_str()),
            };
            if !is_negated && pattern.is_empty() {
                return Err("a pattern is empty".to_owned());
            }
            if fits(&self.host, pattern) {
                if is_negated {
                    return Ok(Scope::DoesNot);
                }
                scope = Scope::Applies;
            }
        }
        Ok(scope)
    }

    fn scope_of_match(&mut self, criteria: &[String], text: &str, at: &Place) -> Result<Scope, Wrong> {
        let (mut applies, mut is_judged) = (true, true);
        let mut rest = criteria.iter();
        while let Some(criterion) = rest.next() {
            let (is_negated, name) = match criterion.strip_prefix('!') {
                Some(name) => (true, name),
                None => (false, criterion.as_str()),
            };
            let name = name.to_ascii_lowercase();
            let fits = match name.as_str() {
                "all" if criteria.len() == 1 => Some(true),
                "all" => return Err("`all` cannot be combined with other criteria".to_owned()),
                "final" | "canonical" => {
                    self.wants_final |= name == "final";
                    Some(self.is_final)
                }
                _ => {
                    let argument = rest.next().filter(|argument| !argument.is_empty());
                    self.fits(&name, argument.ok_or_else(|| format!("`{name}` of `Match` lacks its argument"))?)
                }
            };
            match fits {
                Some(fits) => applies &= fits != is_negated,
                None => is_judged = false,
            }
        }
        Ok(match (applies, is_judged) {
            (false, _) => Scope::DoesNot,
            (true, true) => Scope::Applies,
            (true, false) => Scope::Unjudged { at: at.clone(), condition: text.to_owned(), said: false },
        })
    }

    /// Whether a criterion with an argument is met; `None` if that cannot be told here.
    fn fits(&self, criterion: &str, argument: &str) -> Option<bool> {
        let Query { host, user, local_user, .. } = *self.query;
        match criterion {
            "host" => {
                let name = match &self.settings.host_name {
                    Some(name) if !self.is_final => expand::host_name(&name.value, host).ok(),
                    _ => None,
                };
                Some(fits_list(name.as_deref().unwrap_or(&self.host), &argument.to_ascii_lowercase()))
            }
            "originalhost" => Some(fits_list(host, &argument.to_ascii_lowercase())),
            "user" => {
                let configured = self.settings.user.as_ref().map(|user| user.value.as_str());
                Some(fits_list(user.or(configured).unwrap_or(local_user), argument))
            }
            "localuser" => Some(fits_list(local_user, argument)),
            _ => None,
        }
    }

    fn include(&mut self, arguments: &[String], at: &Place, kind: Kind, depth: usize) -> Result<(), Wrong> {
        if depth >= DEEPEST {
            return Err("too many files within files".to_owned());
        }
        for argument in arguments {
            for file in self.included(argument, at, kind)? {
                // What a file's last block hides does not go on behind it.
                self.read_file(&file, kind, true, &mut Scope::Applies, depth + 1);
            }
        }
        Ok(())
    }

    /// The files that an argument of `Include` stands for.
    fn included(&mut self, argument: &str, at: &Place, kind: Kind) -> Result<Vec<PathBuf>, Wrong> {
        let home = self.query.home.map(|home| home.display().to_string());
        let pattern = match (argument.strip_prefix('~'), kind) {
            (Some(_), Kind::System) => return Err(format!("bad path {argument:?}")),
            (Some(rest), Kind::User) if rest.starts_with('/') => home.map(|home| home + rest),
            (Some(_), Kind::User) => {
                let message = format!("the files of {argument:?} are not read");
                self.complain(
                    Severity::Warning,
                    at.clone(),
                    message,
                    Remedy::Advice("write the path from the root on"),
                );
                return Ok(Vec::new());
            }
            (None, _) if argument.is_empty() => return Err("a path is empty".to_owned()),
            (None, _) if argument.starts_with('/') => Some(argument.to_owned()),
            (None, Kind::User) => home.map(|home| format!("{home}/.ssh/{argument}")),
            (None, Kind::System) => Some(format!("/etc/ssh/{argument}")),
        };
        let pattern = pattern.ok_or("`~` cannot be replaced: HOME is not set")?;
        self.files.matching(&pattern).map_err(|error| format!("could not look for {pattern}: {error}"))
    }

    /// Takes a value, unless the keyword has one.
    fn set(&mut self, keyword: &str, arguments: &[String], rest: &str, at: &Place) -> Result<(), Wrong> {
        let single = || match arguments {
            [] => Err(format!("no argument after {keyword:?}")),
            [argument] if argument.is_empty() => Err(format!("no argument after {keyword:?}")),
            [argument] => Ok(argument.as_str()),
            _ => Err(format!("{keyword:?} takes one argument")),
        };
        let wrong = |what: &str| format!("{what} {:?}", arguments.join(" "));
        let text = || Ok::<_, Wrong>(Placed { value: single()?.to_owned(), at: at.clone() });
        let settings = &mut self.settings;
        match keyword {
            "hostname" => keep(&mut settings.host_name, text()?),
            "user" => keep(&mut settings.user, text()?),
            "port" => keep(&mut settings.port, value::port(single()?).ok_or_else(|| wrong("no port:"))?),
            "identityfile" | "identityfile2" => {
                let file = text()?;
                if !settings.identity_files.iter().any(|listed| listed.value == file.value) {
                    settings.identity_files.push(file);
                }
            }
            "identitiesonly" => {
                let only = value::boolean(single()?).ok_or_else(|| wrong("neither yes nor no:"))?;
                keep(&mut settings.identities_only, only);
            }
            "userknownhostsfile" => keep(&mut settings.user_known_hosts, values::files(arguments, at)?),
            "globalknownhostsfile" => keep(&mut settings.global_known_hosts, values::files(arguments, at)?),
            "hostkeyalias" => keep(&mut settings.host_key_alias, single()?.to_owned()),
            "addressfamily" => {
                let family = match single()?.to_ascii_lowercase().as_str() {
                    "any" => AddressFamily::Any,
                    "inet" => AddressFamily::V4,
                    "inet6" => AddressFamily::V6,
                    _ => return Err(wrong("no address family:")),
                };
                keep(&mut settings.address_family, family);
            }
            "connecttimeout" => {
                keep(&mut settings.connect_timeout, values::timeout(single()?).ok_or_else(|| wrong("no time:"))?);
            }
            "proxyjump" => {
                let value = values::way(rest).ok_or_else(|| wrong("no hosts to jump by:"))?;
                keep(&mut settings.way, Placed { value, at: at.clone() });
            }
            "proxycommand" => self.proxy_command(rest, at),
            "ignoreunknown" if self.ignored.is_empty() => self.ignored.push(single()?.to_owned()),
            "ignoreunknown" => {}
            _ => self.pass_over(keyword, arguments, at),
        }
        Ok(())
    }

    fn proxy_command(&mut self, command: &str, at: &Place) {
        if self.settings.way.is_some() {
            return;
        }
        let is_none = command.eq_ignore_ascii_case("none");
        let value = if is_none { Way::Direct } else { Way::Command };
        self.settings.way = Some(Placed { value, at: at.clone() });
        if !is_none {
            self.complain(Severity::Warning, at.clone(), "`ProxyCommand` is not followed", Remedy::OpenSsh);
        }
    }

    /// Says that a keyword is not followed, where that matters.
    fn pass_over(&mut self, keyword: &str, arguments: &[String], at: &Place) {
        if !self.unfollowed.insert(keyword.to_owned()) {
            return;
        }
        match keywords::weight(keyword, arguments) {
            Weight::Harmless => {}
            Weight::Matters(remedy) => {
                let message = format!("`{} {}` is not followed", keywords::spelled(keyword), arguments.join(" "));
                self.complain(Severity::Warning, at.clone(), message, remedy);
            }
            Weight::Unknown if self.ignored.iter().any(|list| fits_list(keyword, &list.to_ascii_lowercase())) => {}
            Weight::Unknown => {
                let message = format!("the keyword {keyword:?} is not known");
                self.complain(Severity::Warning, at.clone(), message, Remedy::OpenSsh);
            }
        }
    }
}
