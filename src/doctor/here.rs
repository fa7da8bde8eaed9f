//! This host: what the director's own start needs, and what its jobs do here, with the eyes of the unit that runs them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;

use super::finding::{Check, Finding};
use super::needs::{self, End, Needs};
use super::probe::{Answers, Seen};
use super::sandbox::{self, Wants};
use super::survey::Survey;
use super::unit::{Access, Unit};
use super::{Doctor, HERE, child, files, locks, zones};
use crate::config::Config;
use crate::rsync::expand;
use crate::{account, clock, control};

/// The shell has so long for its answers: `df` may wait for a file server.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// The longest path of a socket (unix(7)).
const SOCKET_PATH_MAX: usize = 107;

/// All findings about this host.
pub(super) async fn examine(doctor: &Doctor<'_>, needs: &Needs) -> Vec<Finding> {
    let config = doctor.config;
    let name = format!("rsyncdirector@{}.service", doctor.instance);
    let unit = Unit::ask(&doctor.spawner, &name).await.filter(|unit| doctor.is_installed || unit.is_in_use());
    let eyes = Eyes::of(unit.as_ref());
    let mut findings = eyes.finding();
    findings.extend(zones::examine(config, clock::now()));
    findings.extend(starting(config));

    let mut asked = Asked::of(config, needs, unit.as_ref());
    findings.append(&mut asked.findings);
    match answers(doctor, &asked.survey, &eyes).await {
        Ok(answers) => {
            findings.extend(asked.survey.judge(HERE, &needs.here, &answers));
            findings.extend(asked.own_files(&answers));
            findings.extend(unit.iter().flat_map(|unit| sandbox::judge(unit, &asked.wants(config, needs, &answers))));
        }
        Err(why) => {
            let text = format!("this host could not be asked: {why}");
            findings.push(Finding::fail(
                Check::Shell,
                HERE,
                text,
                "see what it says; as root a unit's user can be stood in for",
            ));
        }
    }
    if eyes.are_ours() {
        findings.extend(files::keys(needs).iter().map(|key| files::key(key)));
        findings.extend(files::read(config, needs).iter().map(files::file));
        let locks = needs.here.locks.iter().map(|wanted| locks::lock(config, &doctor.stores, HERE, wanted));
        findings.extend(join_all(locks).await);
    }
    findings.extend(files::known_hosts(config, needs));
    findings.extend(join_all(needs.here.blocks.iter().map(|wanted| locks::block(&doctor.stores, HERE, wanted))).await);
    findings
}

/// As whom this host is looked at.
struct Eyes<'a> {
    unit: Option<&'a Unit>,
    /// The words before a command; none for ourselves.
    disguise: Vec<OsString>,
    /// Whether the unit's user is another, and we may not stand in for it.
    is_blind: bool,
}

impl<'a> Eyes<'a> {
    fn of(unit: Option<&'a Unit>) -> Self {
        let is_superuser = rustix::process::geteuid().is_root();
        let ours = account::name_of(rustix::process::geteuid().as_raw());
        let is_other = unit.is_some_and(|unit| ours.as_deref() != Some(unit.user()));
        let disguise = unit.filter(|_| is_superuser).map(Unit::disguise).unwrap_or_default();
        Self { unit, disguise, is_blind: is_other && !is_superuser }
    }

    /// Whether what we ourselves can read and write is what the director can.
    fn are_ours(&self) -> bool {
        self.unit.is_none_or(Unit::is_root) || self.disguise.is_empty()
    }

    fn finding(&self) -> Vec<Finding> {
        let Some(unit) = self.unit else {
            let text = "no unit of systemd runs this configuration: it is judged for whoever asks";
            return vec![Finding::ok(Check::Unit, HERE, text)];
        };
        let (name, user) = (&unit.name, unit.user());
        if self.is_blind {
            let text = format!("{name} runs as {user}, and only root can look with its eyes");
            return vec![Finding::warn(Check::Unit, HERE, text, "`sudo rsyncdirector doctor`")];
        }
        vec![Finding::ok(Check::Unit, HERE, format!("{name} runs this configuration as {user}"))]
    }
}

/// Runs the questions' script by the shell, as the unit's user.
async fn answers(doctor: &Doctor<'_>, survey: &Survey, eyes: &Eyes<'_>) -> Result<Answers, String> {
    let word = crate::random::word();
    let script = survey.questions.script(&word);
    let shell = [OsStr::new("/bin/sh"), OsStr::new("-c"), OsStr::from_bytes(&script)].map(OsStr::to_owned);
    let mut words = eyes.disguise.iter().cloned().chain(shell);
    let program = words.next().unwrap_or_default();
    let output = child::output(&doctor.spawner, program, words.collect(), ANSWER_MAX).await?;
    Answers::parse(&survey.questions, &word, &output.stdout).ok_or_else(|| output.last_words())
}

/// What is asked of the shell here, and for what.
struct Asked {
    survey: Survey,
    /// Of sources that cannot be expanded.
    findings: Vec<Finding>,
    /// By their index in the questions: files of ours, with what is done to them.
    own: Vec<(usize, Own)>,
    reads: Vec<(PathBuf, String)>,
    writes: Vec<(PathBuf, String)>,
}

/// A file or directory of the director itself.
enum Own {
    PidFile,
    State,
    Lock(String),
    Key,
    Read(String),
}

impl Asked {
    fn of(config: &Config, needs: &Needs, unit: Option<&Unit>) -> Self {
        let (survey, findings, own) = (Survey::default(), Vec::new(), Vec::new());
        let mut asked = Self { survey, findings, own, reads: Vec::new(), writes: Vec::new() };
        for (index, end) in needs.here.ends.iter().enumerate() {
            asked.end(index, end);
        }
        // Where a unit has a directory made, it need not be there before.
        let is_made = |path: &Path| unit.is_some_and(|unit| unit.makes(path));
        asked.own(&config.pid_file_dir, Own::PidFile, is_made(&config.pid_file_dir));
        if let Some(directory) = &config.history.directory {
            asked.own(directory, Own::State, is_made(directory));
            asked.survey.room("for the history".into(), directory.as_os_str());
        }
        for lock in &needs.here.locks {
            asked.survey.room(format!("where {} has its lock", lock.of()), lock.location.path.as_os_str());
        }
        if unit.is_some_and(|unit| !unit.is_root()) {
            for lock in &needs.here.locks {
                let directory = lock.location.path.parent().unwrap_or(Path::new("/"));
                asked.own(
                    directory,
                    Own::Lock(format!("{}, the lock of {}", lock.location.path.display(), lock.of())),
                    false,
                );
            }
            files::keys(needs).iter().for_each(|key| asked.own(key, Own::Key, false));
            for (path, who) in files::read(config, needs) {
                asked.own(&path, Own::Read(who), false);
            }
        }
        asked
    }

    fn own(&mut self, path: &Path, what: Own, is_made: bool) {
        if !is_made {
            let question = self.survey.questions.path(path.as_os_str());
            self.own.push((question, what));
        }
    }

    fn end(&mut self, index: usize, end: &End) {
        let home = account::home();
        self.survey.program(index, end);
        for source in end.sources.iter().filter(|source| !is_elsewhere(source)) {
            match expand::expand_sources(std::slice::from_ref(source), home.as_deref()) {
                Ok(paths) => {
                    for path in paths {
                        self.survey.source(index, &path);
                        self.reads.push((path.into(), end.name.clone()));
                    }
                }
                Err(error) => {
                    let text = format!("{}, which {} reads", crate::error_chain(&error), end.name);
                    self.findings.push(Finding::fail(Check::Source, HERE, text, "mount or make it, or mend `source`"));
                }
            }
        }
        let dest = end.dest.as_ref().filter(|dest| !is_elsewhere(dest));
        if let Some(dest) = dest.and_then(|dest| expand::expand_home(dest, home.as_deref()).ok()) {
            self.survey.destination(index, &dest);
            self.survey.setgid(index);
            if !end.is_dry_run() {
                self.writes.push((dest.into(), end.name.clone()));
            }
        }
        self.writes.extend(needs::option_files(&end.opts).1.into_iter().map(|path| (path, end.name.clone())));
    }

    /// What the answers say of the director's own files.
    fn own_files(&self, answers: &Answers) -> Vec<Finding> {
        let judge = |(question, own): &(usize, Own)| {
            let path = Path::new(&self.survey.questions.paths[*question]);
            own.judge(path, &answers.paths[*question])
        };
        self.own.iter().map(judge).collect()
    }

    /// What the unit must allow.
    fn wants(&self, config: &Config, needs: &Needs, answers: &Answers) -> Wants {
        let ends = needs.here.ends.iter().enumerate().filter(|(_, end)| end.dest.is_some());
        let receives = ends.map(|(index, end)| {
            let setgid = self.survey.found_setgid(index, answers).map(str::to_owned);
            (end.clone(), setgid)
        });
        let locks = needs.here.locks.iter().chain(&needs.here.blocks);
        let keys = files::keys(needs).into_iter().map(|key| (key, "the login at a peer".to_owned()));
        let state = config.history.directory.iter().map(|directory| (directory.clone(), "the history".to_owned()));
        let pid_file = [(config.pid_file_dir.clone(), "the pid file".to_owned())];
        Wants {
            reads: self.reads.iter().cloned().chain(keys).chain(files::read(config, needs)).collect(),
            writes: self.writes.iter().cloned().chain(state).chain(pid_file).collect(),
            locks: locks.map(|wanted| (wanted.location.path.clone(), wanted.of())).collect(),
            receives: receives.collect(),
            commands: needs.here.commands.clone(),
            peers: needs.peers.len(),
            port: config.metrics.port,
        }
    }
}

/// Whether rsync takes a path for another host's (rsync(1)): its own business then.
fn is_elsewhere(path: &OsStr) -> bool {
    path.as_bytes().iter().take_while(|&&byte| byte != b'/').any(|&byte| byte == b':')
}

impl Own {
    fn judge(&self, path: &Path, seen: &Seen) -> Finding {
        let shown = path.display();
        let (check, what) = match self {
            Self::PidFile => (Check::PidFile, "the directory of the pid file".to_owned()),
            Self::State => (Check::State, "the directory of the history".to_owned()),
            Self::Lock(of) => (Check::Lock, format!("the directory of {of}")),
            Self::Key => (Check::Key, "a private key".to_owned()),
            Self::Read(who) => (Check::File, format!("named by {who}")),
        };
        let is_read = matches!(self, Self::Key | Self::Read(_));
        let fix = match is_read {
            true => "let the unit's user read it, best as a credential (`LoadCredential=`)",
            false => "make it, and give the user write access to it",
        };
        match (is_read, seen.exists()) {
            (true, _) if seen.exists() && seen.is_readable() => {
                Finding::ok(check, HERE, format!("{shown} can be read, {what}"))
            }
            (true, true) => {
                Finding::fail(check, HERE, format!("{shown} cannot be read by the unit's user, {what}"), fix)
            }
            (true, false) => {
                Finding::fail(check, HERE, format!("{shown} is not there, {what}"), "put it there, or mend the path")
            }
            (false, true) if seen.is_dir() && seen.is_writable() => {
                Finding::ok(check, HERE, format!("{shown} can be written, {what}"))
            }
            (false, false) if seen.can_be_made() => Finding::ok(check, HERE, format!("{shown} can be made, {what}")),
            (false, _) => Finding::fail(check, HERE, format!("{shown} cannot be written, {what}"), fix),
        }
    }
}

/// The port and the socket, which another may have, or this instance.
fn starting(config: &Config) -> Vec<Finding> {
    let socket = control::path(config);
    let shown = socket.display();
    let runs = match UnixStream::connect(&socket) {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    };
    let control = if runs {
        Finding::ok(Check::ControlSocket, HERE, format!("the instance runs and listens on {shown}"))
    } else if socket.as_os_str().len() > SOCKET_PATH_MAX {
        let text = format!(
            "{shown} is longer than the {SOCKET_PATH_MAX} bytes that a socket's path may have: `status` would not work"
        );
        Finding::warn(Check::ControlSocket, HERE, text, "use a shorter `pid_file_dir`")
    } else {
        Finding::ok(Check::ControlSocket, HERE, format!("the instance does not run; {shown} is free"))
    };
    vec![control, port(config, runs)]
}

fn port(config: &Config, runs: bool) -> Finding {
    let address = SocketAddr::new(config.metrics.addr, config.metrics.port);
    match TcpListener::bind(address) {
        _ if address.port() == 0 => Finding::ok(Check::MetricsPort, HERE, "the kernel chooses a port for metrics"),
        Ok(_) => Finding::ok(Check::MetricsPort, HERE, format!("{address} is free for metrics")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && runs => {
            Finding::ok(Check::MetricsPort, HERE, format!("{address} is in use, while this instance runs"))
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let fix = format!("set `metrics.port`; `ss -ltnp 'sport = :{}'` tells who has it", address.port());
            Finding::fail(Check::MetricsPort, HERE, format!("another program listens on {address}"), fix)
        }
        Err(error) => {
            let text = format!("metrics cannot be served on {address}: {error}");
            Finding::fail(Check::MetricsPort, HERE, text, "mend `metrics.addr` or `metrics.port`")
        }
    }
}

impl Unit {
    /// Whether systemd makes this directory before the unit starts, or one above it.
    fn makes(&self, path: &Path) -> bool {
        let made = [("RuntimeDirectory", "/run"), ("StateDirectory", "/var/lib")];
        let mut names = made.iter().flat_map(|(property, parent)| {
            self.list(property).map(move |name| Path::new(parent).join(name.split(':').next().unwrap_or(name)))
        });
        names.any(|directory| path.starts_with(directory)) && self.access(path) == Access::Free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_other_hosts_are_left_to_rsync() {
        let elsewhere: Vec<bool> =
            ["host:x", "rsync://h/x", "host::m", "/a:b", "./a:b", "a"].map(OsStr::new).map(is_elsewhere).into();
        assert_eq!(elsewhere, [true, true, true, false, false, false]);
    }

    #[test]
    fn a_port_that_another_has_fails_and_that_of_the_running_instance_does_not() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port_of = taken.local_addr().expect("its address").port();
        let text = format!(
            "rsync_id: x\ncron_schedule: '@daily'\nmetrics: {{addr: 127.0.0.1, port: {port_of}}}\njobs: [{{id: j, type: local, actions: [{{action: command, id: c, command: x}}]}}]\n"
        );
        let config = crate::config::parse(Path::new("x.yaml"), &text, &|_| Some("/root".into())).expect("valid").config;
        let fails = port(&config, false).to_string();
        assert!(fails.starts_with("fail  here  metrics-port: another program listens on 127.0.0.1:"), "{fails}");
        assert!(fails.contains("set `metrics.port`"), "{fails}");
        assert!(port(&config, true).to_string().starts_with("ok "));
        drop(taken);
        assert!(port(&config, false).to_string().contains("is free for metrics"));
    }
}
