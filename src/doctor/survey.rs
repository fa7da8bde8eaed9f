//! One host's questions and what its answers mean: which of its paths is whose, which rsync serves which sync. Pure.

use std::ffi::{OsStr, OsString};

use super::build;
use super::finding::{Check, Finding};
use super::needs::{End, Site};
use super::places;
use super::probe::{Answers, Questions};

/// What is asked of a host, and for what.
#[derive(Debug, Default)]
pub struct Survey {
    /// What is asked.
    pub questions: Questions,
    sources: Vec<At>,
    destinations: Vec<At>,
    programs: Vec<(usize, usize)>,
    /// Other places whose room counts.
    rooms: Vec<(String, usize)>,
}

/// A path of an end.
#[derive(Debug)]
struct At {
    /// By its index in the site.
    end: usize,
    path: OsString,
    /// By its index in the questions.
    question: usize,
}

impl Survey {
    /// The questions to a peer, whose paths are its own shell's to expand.
    pub fn of_peer(site: &Site) -> Self {
        let mut survey = Self::default();
        for (index, end) in site.ends.iter().enumerate() {
            survey.program(index, end);
            end.sources.iter().for_each(|path| survey.source(index, &places::without_wildcards(path)));
            end.dest.iter().for_each(|path| survey.destination(index, path));
        }
        for lock in &site.locks {
            survey.room(format!("where {} has its lock", lock.of()), lock.location.path.as_os_str());
        }
        survey
    }

    /// An end has this rsync.
    pub fn program(&mut self, index: usize, end: &End) {
        self.programs.push((index, self.questions.program(&end.program)));
    }

    /// An end reads this path.
    pub fn source(&mut self, end: usize, path: &OsStr) {
        let question = self.questions.path(path);
        self.sources.push(At { end, path: path.to_owned(), question });
    }

    /// An end writes this path.
    pub fn destination(&mut self, end: usize, path: &OsStr) {
        let question = self.questions.path(path);
        self.destinations.push(At { end, path: path.to_owned(), question });
    }

    /// Something else needs room at this path.
    pub fn room(&mut self, what: String, path: &OsStr) {
        let question = self.questions.path(path);
        self.rooms.push((what, question));
    }

    /// Asks whether there is a setgid directory below what an end reads.
    pub fn setgid(&mut self, end: usize) {
        let questions: Vec<usize> =
            self.sources.iter().filter(|source| source.end == end).map(|source| source.question).collect();
        for question in questions {
            if !self.questions.setgid.contains(&question) {
                self.questions.setgid.push(question);
            }
        }
    }

    /// A setgid directory below what an end reads, if one was searched and found.
    pub fn found_setgid<'a>(&self, end: usize, answers: &'a Answers) -> Option<&'a str> {
        let mut sources = self.sources.iter().filter(|source| source.end == end);
        sources.find_map(|source| answers.paths.get(source.question)?.setgid.as_deref())
    }

    /// What the answers mean.
    pub fn judge(&self, place: &str, site: &Site, answers: &Answers) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (index, installed) in answers.programs.iter().enumerate() {
            let users = self.programs.iter().filter(|(_, program)| *program == index).map(|(end, _)| &site.ends[*end]);
            let ends: Vec<(&str, &[OsString])> = users.map(|end| (end.name.as_str(), end.opts.as_slice())).collect();
            findings.extend(build::judge(place, installed, &ends));
        }
        for at in &self.sources {
            findings.push(places::source(place, &site.ends[at.end], &at.path, &answers.paths[at.question]));
        }
        for at in &self.destinations {
            findings.push(places::destination(place, &site.ends[at.end], &at.path, &answers.paths[at.question]));
        }
        findings.extend(self.space(place, site, answers));
        findings
    }

    /// One finding for each file system.
    fn space(&self, place: &str, site: &Site, answers: &Answers) -> Vec<Finding> {
        let writes = self.destinations.iter().filter(|at| !site.ends[at.end].is_dry_run());
        let writes = writes.map(|at| (format!("for {}", site.ends[at.end].name), at.question));
        let mut seen = Vec::new();
        let mut findings = Vec::new();
        for (what, question) in writes.chain(self.rooms.iter().cloned()) {
            let path = &answers.paths[question];
            if !seen.contains(&&path.mount) {
                seen.push(&path.mount);
                findings.extend(places::space(place, &what, path));
            }
        }
        findings
    }
}

/// What remains unknown of a host that executes only what is allowed there.
pub fn behind_a_gate(place: &str, end: &End) -> Vec<Finding> {
    let unknown = |check, text: String| {
        Finding::warn(check, place, format!("cannot tell: {text}"), "look there by another account or key")
    };
    let (check, paths) = match &end.dest {
        Some(dest) => (Check::Destination, vec![dest.display().to_string()]),
        None => (Check::Source, end.sources.iter().map(|path| path.display().to_string()).collect()),
    };
    let paths = paths.join(", ");
    vec![
        unknown(Check::Rsync, "which rsync there is".into()),
        unknown(
            check,
            format!("only {} itself may look at {paths}, and it could not be tried by the system's ssh", end.name),
        ),
    ]
}
