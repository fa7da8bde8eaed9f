//! What the whole pass over one file shares: the text, the environment, and the problems found so far.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ffi::OsString;
use std::ops::Range;
use std::path::PathBuf;

use super::diagnostics::{Diagnostic, Severity};
use super::expand::{self, Problem};
use super::raw::{Node, Value};
use super::ssh_config::{Files, Place};

/// The pass over one file.
pub(super) struct Context<'a> {
    text: &'a str,
    env: &'a dyn Fn(&str) -> Option<OsString>,
    /// Files of ssh_config(5).
    pub files: &'a dyn Files,
    /// Whether the file itself says what happens with unknown host keys.
    pub has_host_key_policy: Cell<bool>,
    complained_of: RefCell<HashSet<Place>>,
    found: RefCell<Vec<Diagnostic>>,
}

/// A problem that is being described; [`Context::report`] files it.
pub(super) struct Report {
    severity: Severity,
    message: String,
    label: Option<String>,
    help: Option<String>,
}

impl Report {
    /// Something that prevents the use of the file.
    pub fn error(message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), label: None, help: None }
    }

    /// Something that may not mean what its author thinks.
    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    /// A few words beside the carets.
    pub fn label(self, label: impl Into<String>) -> Self {
        Self { label: Some(label.into()), ..self }
    }

    /// What to do.
    pub fn help(self, help: impl Into<Option<String>>) -> Self {
        Self { help: help.into(), ..self }
    }
}

impl<'a> Context<'a> {
    pub fn new(text: &'a str, env: &'a dyn Fn(&str) -> Option<OsString>, files: &'a dyn Files) -> Self {
        let (complained_of, found) = Default::default();
        Self { text, env, files, has_host_key_policy: Cell::new(false), complained_of, found }
    }

    /// Whether a line of ssh_config(5) is complained of for the first time: it may be about many peers.
    pub fn is_first_complaint(&self, of: &Place) -> bool {
        self.complained_of.borrow_mut().insert(of.clone())
    }

    /// The environment itself.
    pub fn environment(&self) -> &'a dyn Fn(&str) -> Option<OsString> {
        self.env
    }

    /// Files a problem at some bytes of the file. What an alias or a merge key puts into several places is said once.
    pub fn report(&self, span: Range<usize>, report: Report) {
        let (line, column) = self.place(span.start);
        let Report { severity, message, label, help } = report;
        let diagnostic = Diagnostic { severity, span, line, column, message, label, help };
        let mut found = self.found.borrow_mut();
        if !found.contains(&diagnostic) {
            found.push(diagnostic);
        }
    }

    /// Everything found.
    pub fn into_found(self) -> Vec<Diagnostic> {
        self.found.into_inner()
    }

    /// An environment variable.
    pub fn env(&self, name: &str) -> Option<OsString> {
        (self.env)(name)
    }

    /// Line and column, both from 1, of a byte of the file.
    fn place(&self, at: usize) -> (usize, usize) {
        let before = &self.text[..at];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The number of a node's line, from 1.
    pub fn line(&self, node: &Node) -> usize {
        self.place(node.span.start).0
    }

    /// Where a part of a scalar's value stands in the file; the whole scalar if it is written with escapes or folded.
    pub fn part(&self, node: &Node, part: Range<usize>) -> Range<usize> {
        let Value::Scalar(value) = &node.value else { return node.span.clone() };
        match self.text[node.span.clone()].find(value.as_str()) {
            Some(at) if !value.is_empty() && !value.contains('\n') => {
                let start = node.span.start + at;
                start + part.start.min(value.len())..start + part.end.min(value.len())
            }
            _ => node.span.clone(),
        }
    }

    /// Where `needle` stands in a scalar; the whole scalar if it is not found as such.
    pub fn find(&self, node: &Node, needle: &str) -> Range<usize> {
        match self.text[node.span.clone()].find(needle) {
            Some(at) => node.span.start + at..node.span.start + at + needle.len(),
            None => node.span.clone(),
        }
    }

    /// `text`, which comes from `node`, with every `${NAME}` replaced by the environment variable.
    pub fn expand(&self, node: &Node, text: &str) -> Option<OsString> {
        self.warn_of_bare_variables(node, text);
        match expand::variables(text, self.env) {
            Ok(expanded) => Some(expanded),
            Err(Problem { reference, message, help }) => {
                self.report(self.find(node, &reference), Report::error(message).help(help));
                None
            }
        }
    }

    /// Like [`Self::expand`], with a leading `~` replaced by the home directory too.
    pub fn expand_path(&self, node: &Node, text: &str) -> Option<PathBuf> {
        let Some(rest) = text.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
            if text.starts_with('~') {
                let report = Report::error("`~name` is not replaced by a home directory");
                self.report(self.part(node, 0..1), report.help("write the path from the root on".to_owned()));
                return None;
            }
            return self.expand(node, text).map(PathBuf::from);
        };
        let expanded = self.expand(node, rest)?;
        let Some(mut path) = self.env("HOME").filter(|home| !home.is_empty()) else {
            let report = Report::error("`~` cannot be replaced: HOME is not set");
            self.report(self.part(node, 0..1), report.help("write the path from the root on".to_owned()));
            return None;
        };
        path.push(expanded);
        Some(PathBuf::from(path))
    }

    /// `$HOME` meant the variable to the shell of 1.x. It is taken as it stands now, which deserves a word if there is
    /// such a variable, unless single quotes kept the shell from seeing it then, too.
    fn warn_of_bare_variables(&self, node: &Node, text: &str) {
        if self.text[node.span.clone()].contains('\'') {
            return;
        }
        for name in expand::bare_variables(text).filter(|name| self.env(name).is_some()) {
            let report = Report::warning(format!("`${name}` is taken as it stands, not replaced by the variable"))
                .help(format!("write `${{{name}}}` for the variable's value"));
            self.report(self.find(node, &format!("${name}")), report);
        }
    }
}
