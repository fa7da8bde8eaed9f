//! One rule, as `--filter` and files of rules have it: rsync(1), FILTER RULES IN DEPTH and FILTER RULE MODIFIERS.

use serde::{Deserialize, Serialize};

use super::FilterError;
use super::pattern::Pattern;

/// Which end of a sync a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// Who has the source: what is not there for it is not sent.
    Sender,
    /// Who has the destination: what is not there for it is not deleted.
    Receiver,
}

/// What a rule says of a name that it matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Which names.
    pub pattern: Pattern,
    /// Whether they belong to the sync.
    pub include: bool,
    /// For whom.
    pub sides: Sides,
    /// Whether it is about all other names.
    pub negated: bool,
    /// Whether it says nothing where the whole directory is deleted.
    pub perishable: bool,
}

impl Rule {
    /// Whether it says something of a path below its root.
    pub fn applies(&self, path: &[u8], is_directory: bool, side: Side) -> bool {
        self.sides.has(side) && self.pattern.matches(path, is_directory) != self.negated
    }
}

/// One side or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sides {
    sender: bool,
    receiver: bool,
}

impl Sides {
    /// What a rule is for that does not say so.
    pub const BOTH: Self = Self { sender: true, receiver: true };
    /// Protecting only.
    pub const RECEIVER: Self = Self { sender: false, receiver: true };
    /// Hiding only.
    pub const SENDER: Self = Self { sender: true, receiver: false };

    fn has(self, side: Side) -> bool {
        match side {
            Side::Sender => self.sender,
            Side::Receiver => self.receiver,
        }
    }
}

/// How a line is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Style {
    /// With the name of the rule in front.
    Rules,
    /// As `--exclude` and `--include`: a pattern, in front of which `- ` and `+ ` are still understood.
    Old {
        /// What a bare pattern means.
        include: bool,
    },
    /// Patterns and nothing else.
    Bare {
        /// What they mean.
        include: bool,
    },
    /// As CVS reads its files: bare excludes, and `!`.
    Cvs,
}

/// What a file of rules says for its rules in general.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defaults {
    /// How its lines are read.
    pub style: Style,
    /// For whom the rules are that do not say.
    pub sides: Sides,
    /// Whether they must not say, since who merged the file did.
    pub sides_fixed: bool,
    /// Whether rules are separated by any blanks.
    pub words: bool,
    /// Whether all its rules are perishable.
    pub perishable: bool,
}

/// A line that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A rule.
    Rule(Rule),
    /// A file to be read at once.
    Merge(Vec<u8>, Defaults, bool),
    /// A file to be read in each directory.
    DirMerge(DirMerge),
    /// CVS's own list.
    CvsDefaults,
    /// Forget all that was said so far.
    Clear,
}

/// A file of rules in directories of the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirMerge {
    /// Its name.
    pub name: Vec<u8>,
    /// How it is read.
    pub defaults: Defaults,
    /// Whether its rules are good below its directory, too.
    pub inherited: bool,
    /// Whether it is left out itself.
    pub hides_itself: bool,
    /// Whether the directories above the root of the transfer are looked at (a slash before its name).
    pub from_above: bool,
}

impl DirMerge {
    /// Whether this end of a sync reads such files.
    pub(super) fn is_read(&self, end: Side) -> bool {
        !self.defaults.sides_fixed || self.defaults.sides.has(end)
    }
}

/// Reads one rule.
///
/// # Errors
/// [`FilterError`] for what rsync would refuse, and for what it understands and we do not: a rule that is ignored could hide a
/// difference.
pub fn parse(line: &[u8], defaults: Defaults) -> Result<Line, FilterError> {
    match defaults.style {
        Style::Rules => full(line, defaults),
        Style::Cvs if line == b"!" => Ok(Line::Clear),
        Style::Cvs => Ok(plain(line, false, defaults)),
        Style::Bare { include } => Ok(plain(line, include, defaults)),
        Style::Old { .. } if line == b"!" => Ok(Line::Clear),
        Style::Old { include } => Ok(match line {
            [b'-', b' ', pattern @ ..] => plain(pattern, false, defaults),
            [b'+', b' ', pattern @ ..] => plain(pattern, true, defaults),
            pattern => plain(pattern, include, defaults),
        }),
    }
}

fn plain(pattern: &[u8], include: bool, Defaults { sides, perishable, .. }: Defaults) -> Line {
    Line::Rule(Rule { pattern: Pattern::new(pattern), include, sides, negated: false, perishable })
}

/// The long names.
const NAMES: [(&[u8], u8); 9] = [
    (b"clear", b'!'),
    (b"dir-merge", b':'),
    (b"exclude", b'-'),
    (b"hide", b'H'),
    (b"include", b'+'),
    (b"merge", b'.'),
    (b"protect", b'P'),
    (b"risk", b'R'),
    (b"show", b'S'),
];

#[derive(Default)]
struct Modifiers {
    negated: bool,
    cvs: bool,
    hides_itself: bool,
    not_inherited: bool,
    words: bool,
    sender: bool,
    receiver: bool,
    perishable: bool,
    bare: Option<bool>,
}

fn full(line: &[u8], defaults: Defaults) -> Result<Line, FilterError> {
    let wrong = |what: &str| Err(FilterError::rule(line, what));
    let (kind, rest) = match NAMES.iter().find(|(name, _)| is_word(line, name)) {
        Some((name, letter)) => (*letter, &line[name.len()..]),
        None => match line.split_first() {
            Some((&letter, rest)) => (letter, rest),
            None => return wrong("it is empty"),
        },
    };
    if kind == b'!' {
        return if rest.is_empty() { Ok(Line::Clear) } else { wrong("nothing may follow a `!`") };
    }
    if !b":-+.HSPR".contains(&kind) {
        return wrong("no rule begins so");
    }
    let rest = rest.strip_prefix(b",").unwrap_or(rest);
    let end = rest.iter().position(|byte| matches!(byte, b' ' | b'_')).unwrap_or(rest.len());
    let modifiers = modifiers(line, kind, &rest[..end])?;
    let argument = rest.get(end + 1..).unwrap_or_default();
    let sides = match (kind, modifiers.sender, modifiers.receiver) {
        (b'H' | b'S', ..) => Sides::SENDER,
        (b'P' | b'R', ..) => Sides::RECEIVER,
        (_, false, false) => defaults.sides,
        (_, sender, receiver) => Sides { sender, receiver },
    };
    if defaults.sides_fixed && (b"HSPR".contains(&kind) || modifiers.sender || modifiers.receiver) {
        return wrong("who merged this file says already for which side it is");
    }
    match kind {
        b'.' | b':' => merge(line, kind, argument, &modifiers, sides, defaults),
        _ if modifiers.cvs && argument.is_empty() && kind == b'-' => Ok(Line::CvsDefaults),
        _ if modifiers.cvs => wrong("a modifier that we do not know how to combine"),
        _ if argument.is_empty() => wrong("it has no pattern"),
        _ => {
            let include = matches!(kind, b'+' | b'S' | b'R');
            let perishable = defaults.perishable || modifiers.perishable;
            let negated = modifiers.negated;
            Ok(Line::Rule(Rule { pattern: Pattern::new(argument), include, sides, negated, perishable }))
        }
    }
}

fn is_word(line: &[u8], name: &[u8]) -> bool {
    line.strip_prefix(name).is_some_and(|rest| rest.first().is_none_or(|byte| matches!(byte, b' ' | b'_' | b',')))
}

fn modifiers(line: &[u8], kind: u8, letters: &[u8]) -> Result<Modifiers, FilterError> {
    let mut found = Modifiers::default();
    let merges = matches!(kind, b'.' | b':');
    for &letter in letters {
        match letter {
            b'!' if !merges => found.negated = true,
            b'C' => found.cvs = true,
            b'e' if merges => found.hides_itself = true,
            b'n' if merges => found.not_inherited = true,
            b'w' if merges => found.words = true,
            b'-' if merges && found.bare.is_none() => found.bare = Some(false),
            b'+' if merges && found.bare.is_none() => found.bare = Some(true),
            b's' if !b"HSPR".contains(&kind) => found.sender = true,
            b'r' if !b"HSPR".contains(&kind) => found.receiver = true,
            b'p' => found.perishable = true,
            b'/' | b'x' => {
                let what = format!("the modifier `{}` is not supported here", letter as char);
                return Err(FilterError::rule(line, &what));
            }
            _ => return Err(FilterError::rule(line, &format!("unknown modifier `{}`", letter.escape_ascii()))),
        }
    }
    Ok(found)
}

fn merge(
    line: &[u8],
    kind: u8,
    name: &[u8],
    modifiers: &Modifiers,
    sides: Sides,
    outer: Defaults,
) -> Result<Line, FilterError> {
    let style = match (modifiers.cvs, modifiers.bare) {
        (true, _) => Style::Cvs,
        (false, Some(include)) => Style::Bare { include },
        (false, None) => Style::Rules,
    };
    let sides_fixed = outer.sides_fixed || modifiers.sender || modifiers.receiver;
    let perishable = outer.perishable || modifiers.perishable;
    let defaults = Defaults { style, sides, sides_fixed, words: modifiers.words || modifiers.cvs, perishable };
    let name = if name.is_empty() && modifiers.cvs { b".cvsignore" } else { name };
    if name.is_empty() {
        return Err(FilterError::rule(line, "it names no file"));
    }
    if kind == b'.' {
        return Ok(Line::Merge(name.to_vec(), defaults, modifiers.hides_itself));
    }
    let (from_above, bare) = match name.strip_prefix(b"/") {
        Some(bare) => (true, bare),
        None => (false, name),
    };
    if bare.contains(&b'/') {
        return Err(FilterError::rule(line, "a file in each directory that is named by a path is not supported here"));
    }
    let inherited = !modifiers.not_inherited && !modifiers.cvs;
    Ok(Line::DirMerge(DirMerge {
        name: bare.to_vec(),
        defaults,
        inherited,
        hides_itself: modifiers.hides_itself,
        from_above,
    }))
}
