//! rsync's filter rules: which names of a tree belong to a sync, as rsync(1) has it under FILTER RULES.
//!
//! The way: [`Filters::of`] reads the options of a sync; a [`Scope`] is what holds in one directory, and [`Scope::enter`] makes
//! that of a directory below it, by the files of rules that lie there; [`Scope::admits`] judges a name. A directory that is not admitted
//! hides all that is below it, and the walk does not enter it.
//!
//! What rsync understands and this does not is an error, never ignored: the modifiers `/` (absolute) and `x` (attributes), files
//! of rules in each directory that are named by a path, and files of rules above the root of the transfer.
//!
//! Pure: files are read by a function of the caller's, since they may lie on another host.

mod pattern;
mod rule;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::options;
pub use pattern::{Pattern, wild};
pub use rule::{Defaults, DirMerge, Line, Rule, Side, Sides, Style, parse};

/// rsync(1), `--cvs-exclude`: the names that are left out.
const CVS: &str = "RCS SCCS CVS CVS.adm RCSLOG cvslog.* tags TAGS .make.state .nse_depinfo *~ #* .#* ,* _$* *$ *.old *.bak *.BAK \
                   *.orig *.rej .del-* *.a *.olb *.o *.obj *.so *.exe *.Z *.elc *.ln core .svn/ .git/ .hg/ .bzr/";
/// Files of rules may name each other.
const DEEPEST: usize = 16;

/// Why rules cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// A rule is not understood.
    #[error("filter rule `{rule}`: {what}")]
    Rule {
        /// As written.
        rule: String,
        /// What is wrong.
        what: String,
    },
    /// A file of rules cannot be read.
    #[error("could not read the filter file {file}")]
    File {
        /// Which.
        file: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Files of rules name each other.
    #[error("filter files are nested more than {DEEPEST} deep")]
    Nested,
}

impl FilterError {
    fn rule(rule: &[u8], what: &str) -> Self {
        Self::Rule { rule: String::from_utf8_lossy(rule).into_owned(), what: what.to_owned() }
    }
}

/// Reads a file of rules: `Ok(None)` where there is none.
pub type Read<'a> = dyn FnMut(&[u8]) -> io::Result<Option<Vec<u8>>> + 'a;

/// The rules of a sync.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Filters {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Entry {
    Rule(Rule),
    Each(DirMerge),
}

impl Filters {
    /// The rules that these options make. `read` reads files that they name, on the host that runs rsync; `home` and `ignore` are
    /// `$HOME` and `$CVSIGNORE` there, for `--cvs-exclude`.
    ///
    /// # Errors
    /// [`FilterError`].
    pub fn of(opts: &[OsString], read: &mut Read<'_>, home: Option<&[u8]>, ignore: &[u8]) -> Result<Self, FilterError> {
        let sides = if options::has(opts, &["delete-excluded"]) { Sides::SENDER } else { Sides::BOTH };
        let defaults = |style| Defaults { style, sides, sides_fixed: false, words: false, perishable: false };
        let nul = options::has(opts, &["from0"]);
        let mut builder = Builder { entries: Vec::new(), read, sides, nul, home, ignore };
        let (mut merges, mut is_cvs) = (0, false);
        for opt in options::parse(opts) {
            let value = opt.value.map(OsStrExt::as_bytes).unwrap_or_default();
            match opt.entry().map(|entry| entry.name).filter(|_| !opt.negated) {
                Some("exclude") => builder.line(value, defaults(Style::Old { include: false }), 0)?,
                Some("include") => builder.line(value, defaults(Style::Old { include: true }), 0)?,
                Some("exclude-from") => builder.file(value, defaults(Style::Old { include: false }), 0)?,
                Some("include-from") => builder.file(value, defaults(Style::Old { include: true }), 0)?,
                Some("filter") => builder.line(value, defaults(Style::Rules), 0)?,
                Some("F") => {
                    merges += 1;
                    match merges {
                        1 => builder.line(b": /.rsync-filter", defaults(Style::Rules), 0)?,
                        2 => builder.line(b"- .rsync-filter", defaults(Style::Rules), 0)?,
                        _ => {}
                    }
                }
                Some("cvs-exclude") => is_cvs = true,
                _ => {}
            }
        }
        if is_cvs {
            builder.line(b":C", defaults(Style::Rules), 0)?;
            builder.cvs(sides)?;
        }
        builder.entries.extend(backups(opts).map(Entry::Rule));
        Ok(Self { entries: builder.entries })
    }

    /// Whether there are rules in files of the tree itself.
    pub fn reads_files(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry, Entry::Each(_)))
    }

    /// Whether nothing is ever left out.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

struct Builder<'a, 'b> {
    entries: Vec<Entry>,
    read: &'a mut Read<'b>,
    /// What a rule is for that does not say so.
    sides: Sides,
    nul: bool,
    home: Option<&'a [u8]>,
    ignore: &'a [u8],
}

impl Builder<'_, '_> {
    fn line(&mut self, line: &[u8], defaults: Defaults, depth: usize) -> Result<(), FilterError> {
        match parse(line, defaults)? {
            Line::Rule(rule) => self.entries.push(Entry::Rule(rule)),
            Line::Clear => self.entries.clear(),
            Line::CvsDefaults => self.cvs(defaults.sides)?,
            Line::Merge(name, defaults, hides) => {
                self.entries.extend(hides.then(|| Entry::Rule(hiding(&name, self.sides))));
                self.file(&name, defaults, depth + 1)?;
            }
            Line::DirMerge(merge) => {
                self.entries.extend(merge.hides_itself.then(|| Entry::Rule(hiding(&merge.name, self.sides))));
                // rsync takes a file of rules for the one of that name that it knows already.
                let is_known = |entry: &Entry| matches!(entry, Entry::Each(known) if known.name == merge.name);
                if !self.entries.iter().any(is_known) {
                    self.entries.push(Entry::Each(merge));
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, name: &[u8], defaults: Defaults, depth: usize) -> Result<(), FilterError> {
        if depth > DEEPEST {
            return Err(FilterError::Nested);
        }
        let failed = |source| FilterError::File { file: String::from_utf8_lossy(name).into_owned(), source };
        let text = (self.read)(name).map_err(failed)?;
        let text = text.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let nul = self.nul;
        for line in lines(&text, defaults, nul) {
            self.line(&line, defaults, depth)?;
        }
        Ok(())
    }

    /// What CVS leaves out everywhere.
    fn cvs(&mut self, sides: Sides) -> Result<(), FilterError> {
        self.entries.extend(cvs_rules(CVS.as_bytes(), sides, true));
        if let Some(home) = self.home {
            let file = [home, b"/.cvsignore"].concat();
            let failed = |source| FilterError::File { file: String::from_utf8_lossy(&file).into_owned(), source };
            let text = (self.read)(&file).map_err(failed)?.unwrap_or_default();
            self.entries.extend(cvs_rules(&text, sides, false));
        }
        self.entries.extend(cvs_rules(self.ignore, sides, false));
        Ok(())
    }
}

/// rsync(1), `--backup`: backups beside the files are protected, behind all other rules.
fn backups(opts: &[OsString]) -> Option<Rule> {
    let is_beside = options::has(opts, &["backup"]) && !options::has(opts, &["backup-dir", "delete-excluded"]);
    let suffix =
        options::parse(opts).into_iter().filter(|opt| opt.is("suffix")).filter_map(|opt| opt.value).next_back();
    let suffix = suffix.map_or(&b"~"[..], OsStrExt::as_bytes);
    let pattern = || Pattern::new(&[b"*", suffix].concat());
    is_beside.then(|| Rule {
        pattern: pattern(),
        include: false,
        sides: Sides::RECEIVER,
        negated: false,
        perishable: false,
    })
}

fn cvs_rules(words: &[u8], sides: Sides, perishable: bool) -> impl Iterator<Item = Entry> {
    let words = words.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let pattern = Pattern::new;
    words.map(move |word| {
        Entry::Rule(Rule { pattern: pattern(word), include: false, sides, negated: false, perishable })
    })
}

/// The rule that leaves out a file of rules itself.
fn hiding(name: &[u8], sides: Sides) -> Rule {
    let name = name.rsplit(|&byte| byte == b'/').next().unwrap_or(name);
    Rule { pattern: Pattern::new(name), include: false, sides, negated: false, perishable: false }
}

/// The rules of a file, one each.
fn lines(text: &[u8], defaults: Defaults, nul: bool) -> Vec<Vec<u8>> {
    if defaults.words {
        return words(text, defaults.style);
    }
    let is_end = |byte: &u8| if nul { *byte == 0 } else { matches!(byte, b'\n' | b'\r') };
    let is_comment = |line: &[u8]| line.starts_with(b"#") || line.starts_with(b";");
    text.split(is_end).filter(|line| !line.is_empty() && !is_comment(line)).map(<[u8]>::to_vec).collect()
}

/// Rules that are separated by blanks: where they have prefixes, the blank behind one belongs to it.
fn words(text: &[u8], style: Style) -> Vec<Vec<u8>> {
    let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        let has_argument = style == Style::Rules && word != b"!" && !word.contains(&b'_');
        match if has_argument { words.next() } else { None } {
            Some(argument) => found.push([word, b" ", argument].concat()),
            None => found.push(word.to_vec()),
        }
    }
    found
}

/// Whether the rules keep a name at the destination that the source lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Kept {
    /// Where the source has its directory.
    pub alone: bool,
    /// Where the source has not, so that all of the directory goes: rules that are perishable say nothing then.
    pub with_directory: bool,
}

/// What holds in one directory.
#[derive(Debug, Clone)]
pub struct Scope {
    filters: Arc<Filters>,
    /// For each file of rules in each directory, in the order of [`Filters`]: what its rules are here.
    local: Vec<Option<Arc<Local>>>,
    /// Files of rules for the other end are not read at all.
    end: Option<Side>,
}

/// The rules of one file, before those of the directories above.
#[derive(Debug)]
struct Local {
    /// The way from where it lies to the root, where it lies above, with a slash at the end.
    lead: Vec<u8>,
    rules: Vec<Rule>,
    above: Option<Arc<Local>>,
}

impl Scope {
    /// What holds above the root of the transfer.
    pub fn new(filters: Arc<Filters>) -> Self {
        let merges = filters.entries.iter().filter(|entry| matches!(entry, Entry::Each(_))).count();
        Self { filters, local: vec![None; merges], end: None }
    }

    /// What holds for the names that rsync is given as sources: it reads no file of rules before it looks at them.
    pub fn named(&self) -> Self {
        Self { end: self.end, ..Self::new(Arc::clone(&self.filters)) }
    }

    /// The same at one end of the sync.
    pub fn at(self, end: Side) -> Self {
        Self { end: Some(end), ..self }
    }

    /// What holds in a directory of this one. `directory` is its path from the root of the transfer, empty for the root itself; `read` reads a
    /// file by its path from there.
    ///
    /// # Errors
    /// [`FilterError`].
    pub fn enter(&self, directory: &[u8], read: &mut Read<'_>) -> Result<Self, FilterError> {
        let base = if directory.is_empty() { Vec::new() } else { [directory, b"/"].concat() };
        let merges = self.filters.entries.iter().filter_map(|entry| match entry {
            Entry::Each(merge) => Some(merge),
            Entry::Rule(_) => None,
        });
        let mut local = Vec::with_capacity(self.local.len());
        for (merge, above) in merges.zip(&self.local) {
            if self.end.is_some_and(|end| !merge.is_read(end)) {
                local.push(None);
                continue;
            }
            let above = above.clone().filter(|_| merge.inherited);
            let path = [&base[..], &merge.name].concat();
            let failed = |source| FilterError::File { file: String::from_utf8_lossy(&path).into_owned(), source };
            let Some(text) = read(&path).map_err(failed)? else {
                local.push(above);
                continue;
            };
            let (mut rules, cleared) = local_rules(&text, merge.defaults)?;
            rules.iter_mut().for_each(|rule| rule.pattern = rule.pattern.below(&base));
            let above = above.filter(|_| !cleared);
            local.push(Some(Arc::new(Local { lead: Vec::new(), rules, above })));
        }
        Ok(Self { filters: Arc::clone(&self.filters), local, end: self.end })
    }

    /// What holds below a directory above the root of the transfer, for rules that are looked for there, too (`: /.rsync-filter`). To be asked for
    /// all of them, the highest first, before the root itself is entered. `lead` is the way from there to the root, with a slash at the end;
    /// `read` reads a file of this directory by its name.
    ///
    /// # Errors
    /// [`FilterError`].
    pub fn enter_above(&self, lead: &[u8], read: &mut Read<'_>) -> Result<Self, FilterError> {
        let merges = self.filters.entries.iter().filter_map(|entry| match entry {
            Entry::Each(merge) => Some(merge),
            Entry::Rule(_) => None,
        });
        let mut local = self.local.clone();
        for (merge, local) in merges.zip(&mut local).filter(|(merge, _)| merge.from_above && merge.inherited) {
            let failed = |source| FilterError::File { file: String::from_utf8_lossy(&merge.name).into_owned(), source };
            let Some(text) = read(&merge.name).map_err(failed)? else { continue };
            let (rules, cleared) = local_rules(&text, merge.defaults)?;
            let above = local.take().filter(|_| !cleared);
            *local = Some(Arc::new(Local { lead: lead.to_vec(), rules, above }));
        }
        Ok(Self { filters: Arc::clone(&self.filters), local, end: self.end })
    }

    /// Whether there are rules that are looked for above the root of the transfer.
    pub fn looks_above(&self) -> bool {
        self.filters.entries.iter().any(|entry| matches!(entry, Entry::Each(merge) if merge.from_above))
    }

    /// Whether a path from the root of the transfer belongs to the sync, for one side.
    pub fn admits(&self, path: &[u8], is_directory: bool, side: Side) -> bool {
        self.includes(path, &|rule, path| rule.applies(path, is_directory, side))
    }

    /// What keeps a path at the destination from being deleted, should the source not have it.
    pub fn kept(&self, path: &[u8], is_directory: bool) -> Kept {
        let applies = |rule: &Rule, path: &[u8]| rule.applies(path, is_directory, Side::Receiver);
        Kept {
            alone: !self.includes(path, &applies),
            with_directory: !self.includes(path, &|rule, path| !rule.perishable && applies(rule, path)),
        }
    }

    /// Whether the source does not send a path, whatever the files of rules say that are there alone.
    pub fn is_never_sent(&self, path: &[u8], is_directory: bool) -> bool {
        let everywhere = self.filters.entries.iter().map_while(|entry| match entry {
            Entry::Rule(rule) => Some(rule),
            Entry::Each(_) => None,
        });
        let mut applying = everywhere.filter(|rule| rule.applies(path, is_directory, Side::Sender));
        applying.next().is_some_and(|rule| !rule.include)
    }

    /// What the first rule that applies says.
    fn includes(&self, path: &[u8], applies: &dyn Fn(&Rule, &[u8]) -> bool) -> bool {
        let mut locals = self.local.iter();
        for entry in &self.filters.entries {
            let verdict = match entry {
                Entry::Rule(rule) => applies(rule, path).then_some(rule.include),
                Entry::Each(_) => locals.next().and_then(|local| verdict(local.as_deref(), path, applies)),
            };
            if let Some(include) = verdict {
                return include;
            }
        }
        true
    }
}

fn verdict(local: Option<&Local>, path: &[u8], applies: &dyn Fn(&Rule, &[u8]) -> bool) -> Option<bool> {
    let mut local = local;
    while let Some(Local { lead, rules, above }) = local {
        let anchored = [lead, path].concat();
        for rule in rules {
            // An anchor above the root is the directory of the file; other patterns see the path from the root.
            let path = if rule.pattern.is_anchored() { &anchored } else { path };
            if applies(rule, path) {
                return Some(rule.include);
            }
        }
        local = above.as_deref();
    }
    None
}

/// The rules of a file in a directory, and whether it forgets those from above.
fn local_rules(text: &[u8], defaults: Defaults) -> Result<(Vec<Rule>, bool), FilterError> {
    let (mut rules, mut cleared) = (Vec::new(), false);
    for line in lines(text, defaults, false) {
        match parse(&line, defaults)? {
            Line::Rule(rule) => rules.push(rule),
            Line::Clear => {
                rules.clear();
                cleared = true;
            }
            Line::CvsDefaults => {
                rules.extend(cvs_rules(CVS.as_bytes(), defaults.sides, true).filter_map(|entry| match entry {
                    Entry::Rule(rule) => Some(rule),
                    Entry::Each(_) => None,
                }))
            }
            Line::Merge(..) | Line::DirMerge(_) => {
                return Err(FilterError::rule(
                    &line,
                    "a file of rules within one that lies in a directory is not supported here",
                ));
            }
        }
    }
    Ok((rules, cleared))
}
