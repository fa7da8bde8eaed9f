//! What is wrong with a configuration file, where, and what to do about it.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("could not read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others could change what the director, which may be root, is going to execute.
    #[error("refusing the configuration {}: {reason}; {remedy}", path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Who can write to it.
        reason: String,
        /// The command that mends it.
        remedy: String,
    },
    /// The contents are wrong.
    #[error("{0}")]
    Invalid(Diagnostics),
}

/// Whether the file can be used all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but perhaps does not mean what its author thinks.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it prevents the use of the file.
    pub severity: Severity,
    /// The bytes of the file that it is about.
    pub span: Range<usize>,
    /// Line of the span's first character, from 1.
    pub line: usize,
    /// Column of the span's first character, in characters from 1.
    pub column: usize,
    /// What is wrong: a fragment without a final period.
    pub message: String,
    /// A few words beside the carets.
    pub label: Option<String>,
    /// What to do.
    pub help: Option<String>,
}

/// Everything that is wrong with one file, in the order of the file.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    path: PathBuf,
    text: String,
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    pub(super) fn new(path: &Path, text: &str, mut list: Vec<Diagnostic>) -> Self {
        list.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column, diagnostic.severity));
        Self { path: path.to_owned(), text: text.to_owned(), list }
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Each of them, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// All of them for people, each as `path:line:column: error: message`, the line with carets, and the help; with a
    /// blank line between two, and a final line feed.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut out = String::new();
        for diagnostic in &self.list {
            if !out.is_empty() {
                out.push('\n');
            }
            out.push_str(&self.render_one(diagnostic, &renderer));
            out.push('\n');
        }
        out
    }

    fn render_one(&self, diagnostic: &Diagnostic, renderer: &Renderer) -> String {
        let Diagnostic { severity, line, column, .. } = diagnostic;
        let name = format!("{}:{line}:{column}: {severity}", self.path.display());
        let level = match severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let (source, span) = self.line_of(diagnostic);
        let annotation = AnnotationKind::Primary.span(span).label(diagnostic.label.as_deref());
        let mut group = level
            .with_name(Some(name))
            .primary_title(diagnostic.message.as_str())
            .element(Snippet::source(source).line_start(*line).annotation(annotation));
        if let Some(help) = &diagnostic.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group])
    }

    /// The line on which a diagnostic begins, and its span within that line: a longer one is cut at the line's end.
    fn line_of(&self, diagnostic: &Diagnostic) -> (&str, Range<usize>) {
        let at = diagnostic.span.start.min(self.text.len());
        let start = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let end = self.text[at..].find('\n').map_or(self.text.len(), |newline| at + newline);
        let line = self.text[start..end].trim_end_matches('\r');
        let first = (at - start).min(line.len());
        let last = diagnostic.span.end.clamp(start, end).saturating_sub(start).clamp(first, line.len());
        (line, first..last)
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Diagnostics {
    /// [`Self::render`] without colour and without the final line feed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl std::error::Error for Diagnostics {}
