//! What is asked of the shell on this host, and what its answers mean for the director's own files and for the unit.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::finding::{Check, Finding};
use super::needs::{self, End, Needs};
use super::probe::{Answers, Seen};
use super::sandbox::Wants;
use super::survey::Survey;
use super::unit::{Access, Unit};
use super::{HERE, files};
use crate::config::Config;
use crate::rsync::args::looks_remote;
use crate::rsync::expand;

/// What is asked of the shell here, and for what.
pub(super) struct Asked {
    /// The questions.
    pub(super) survey: Survey,
    /// Of sources that cannot be expanded.
    pub(super) findings: Vec<Finding>,
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
    /// What has to be asked; `home` is that of the director's user. Reads directories, where sources have wildcards.
    pub(super) fn of(config: &Config, needs: &Needs, unit: Option<&Unit>, home: Option<&Path>) -> Self {
        let (survey, findings, own) = (Survey::default(), Vec::new(), Vec::new());
        let mut asked = Self { survey, findings, own, reads: Vec::new(), writes: Vec::new() };
        for (index, end) in needs.here.ends.iter().enumerate() {
            asked.end(index, end, home);
            if end.dest.is_some() && end.keeps("perms") && unit.is_some_and(|unit| unit.is_set("RestrictSUIDSGID")) {
                asked.survey.setgid(index);
            }
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
            let is_handed_over = |path: &Path| files::is_credential(path);
            files::keys(needs).iter().for_each(|key| asked.own(key, Own::Key, is_handed_over(key)));
            for (path, who) in files::read(config, needs) {
                asked.own(&path, Own::Read(who), is_handed_over(&path));
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

    fn end(&mut self, index: usize, end: &End, home: Option<&Path>) {
        self.survey.program(index, end);
        for source in end.sources.iter().filter(|source| !looks_remote(source.as_bytes())) {
            match expand::expand_sources(std::slice::from_ref(source), home) {
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
        let dest = end.dest.as_ref().filter(|dest| !looks_remote(dest.as_bytes()));
        if let Some(dest) = dest.and_then(|dest| expand::expand_home(dest, home).ok()) {
            self.survey.destination(index, &dest);
            if !end.is_dry_run() {
                self.writes.push((dest.into(), end.name.clone()));
            }
        }
        self.writes.extend(needs::option_files(&end.opts).1.into_iter().map(|path| (path, end.name.clone())));
    }

    /// What the answers say of the director's own files.
    pub(super) fn own_files(&self, answers: &Answers) -> Vec<Finding> {
        let judge = |(question, own): &(usize, Own)| {
            let path = Path::new(&self.survey.questions.paths[*question]);
            own.judge(path, &answers.paths[*question])
        };
        self.own.iter().map(judge).collect()
    }

    /// What the unit must allow.
    pub(super) fn wants(&self, config: &Config, needs: &Needs, answers: &Answers) -> Wants {
        let ends = needs.here.ends.iter().enumerate().filter(|(_, end)| end.dest.is_some());
        let receives = ends.map(|(index, end)| {
            let setgid = self.survey.found_setgid(index, answers).map(str::to_owned);
            (end.clone(), setgid)
        });
        let locks = needs.here.locks.iter().chain(&needs.here.blocks);
        let keys = files::keys(needs).into_iter().map(|key| (key, "the login at a peer".to_owned()));
        let state = config.history.directory.iter().map(|directory| (directory.clone(), "the history".to_owned()));
        let pid_file = [(config.pid_file_dir.clone(), "the pid file".to_owned())];
        let questions = self.survey.questions.paths.iter().zip(&answers.paths);
        let missing = questions.filter(|(_, seen)| !seen.exists() && seen.above.starts_with('/'));
        Wants {
            above: missing.map(|(path, seen)| (path.into(), PathBuf::from(&seen.above))).collect(),
            reads: self.reads.iter().cloned().chain(keys).chain(files::read(config, needs)).collect(),
            writes: self.writes.iter().cloned().chain(state).chain(pid_file).collect(),
            locks: locks.map(|wanted| (wanted.location.path.clone(), wanted.of())).collect(),
            receives: receives.collect(),
            sends: needs.here.ends.iter().filter(|end| end.dest.is_none()).cloned().collect(),
            commands: needs.here.commands.clone(),
            peers: needs.peers.len(),
            port: config.metrics.port,
        }
    }
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
            ["host:x", "rsync://h/x", "host::m", "/a:b", "./a:b", "a"].map(|path| looks_remote(path.as_bytes())).into();
        assert_eq!(elsewhere, [true, true, true, false, false, false]);
    }
}
