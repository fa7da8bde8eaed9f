//! Patterns of filter rules: what rsync(1) says under PATTERN MATCHING RULES, for bytes.

use serde::{Deserialize, Serialize};

/// A pattern, and how it is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pattern {
    /// Without the slashes at its ends.
    text: Vec<u8>,
    /// It began with a slash: compared from the root on.
    anchored: bool,
    /// It ended with a slash: for directories alone.
    directory: bool,
    kind: Kind,
}

/// What is compared with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    /// Characters, at the end of the path.
    Literal,
    /// The last component.
    Name,
    /// So many last components.
    Tail(usize),
    /// The path from any component on.
    Anywhere,
    /// All of the path, with a slash before it: `**/x` is `x` at the root, too.
    Rooted,
    /// All of the path.
    Whole,
}

impl Pattern {
    /// Reads a pattern.
    pub fn new(pattern: &[u8]) -> Self {
        let directory = pattern.len() > 1 && pattern.ends_with(b"/");
        let pattern = if directory { &pattern[..pattern.len() - 1] } else { pattern };
        let slashes = pattern.iter().filter(|&&byte| byte == b'/').count();
        let anchored = pattern.starts_with(b"/");
        let text = if anchored { &pattern[1..] } else { pattern };
        let is_wild = pattern.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['));
        let crosses = memchr::memmem::find(pattern, b"**").is_some();
        let kind = match (is_wild, anchored, crosses) {
            (false, ..) => Kind::Literal,
            (true, true, _) => Kind::Whole,
            (true, false, true) if pattern.starts_with(b"**") => Kind::Rooted,
            (true, false, true) => Kind::Anywhere,
            (true, false, false) if slashes > 0 => Kind::Tail(slashes + 1),
            (true, false, false) => Kind::Name,
        };
        Self { text: text.to_vec(), anchored, directory, kind }
    }

    /// As it is read in a directory, whose path ends in a slash: there its anchor is. What the path has of wildcards and backslashes counts as
    /// part of the pattern, as in rsync.
    pub fn below(&self, directory: &[u8]) -> Self {
        if !self.anchored || directory.is_empty() {
            return self.clone();
        }
        let slash: &[u8] = if self.directory { b"/" } else { b"" };
        Self::new(&[b"/", directory, &self.text, slash].concat())
    }

    /// Whether it began with a slash.
    pub fn is_anchored(&self) -> bool {
        self.anchored
    }

    /// Whether it matches a path below its root, without slashes at the ends.
    pub fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        if self.directory && !is_directory || path.is_empty() {
            return false;
        }
        // `dir/***` is `dir/` and `dir/**`.
        let with_slash =
            (is_directory && self.kind != Kind::Literal && self.text.ends_with(b"***")).then(|| [path, b"/"].concat());
        self.compare(path) || with_slash.is_some_and(|path| self.compare_directory(&path))
    }

    fn compare(&self, path: &[u8]) -> bool {
        match self.kind {
            Kind::Literal if self.anchored => path == self.text,
            Kind::Literal => {
                path.strip_suffix(&self.text[..]).is_some_and(|rest| rest.is_empty() || rest.ends_with(b"/"))
            }
            Kind::Name => wild(&self.text, tail(path, 1).unwrap_or(path)),
            Kind::Tail(components) => tail(path, components).is_some_and(|path| wild(&self.text, path)),
            Kind::Anywhere => starts(path).any(|start| wild(&self.text, &path[start..])),
            Kind::Rooted => wild(&self.text, &[b"/", path].concat()),
            Kind::Whole => wild(&self.text, path),
        }
    }

    /// The same with the slash at the end of a directory, which is no border of components.
    fn compare_directory(&self, path: &[u8]) -> bool {
        match self.kind {
            Kind::Anywhere => {
                let bare = &path[..path.len() - 1];
                starts(bare).any(|start| wild(&self.text, &path[start..]))
            }
            Kind::Rooted => wild(&self.text, &[b"/", path].concat()),
            _ => wild(&self.text, path),
        }
    }
}

/// Where components begin.
fn starts(path: &[u8]) -> impl Iterator<Item = usize> + '_ {
    std::iter::once(0).chain(memchr::memchr_iter(b'/', path).map(|slash| slash + 1))
}

/// So many last components, if there are as many.
fn tail(path: &[u8], components: usize) -> Option<&[u8]> {
    let mut slashes = memchr::memrchr_iter(b'/', path);
    match slashes.nth(components - 1) {
        Some(slash) => Some(&path[slash + 1..]),
        None => (memchr::memchr_iter(b'/', path).count() + 1 == components).then_some(path),
    }
}

/// Whether a text is what a pattern with wildcards describes, all of it.
pub fn wild(pattern: &[u8], text: &[u8]) -> bool {
    let Some((&first, rest)) = pattern.split_first() else { return text.is_empty() };
    match first {
        b'*' => star(pattern, text),
        b'?' => text.split_first().is_some_and(|(&byte, text)| byte != b'/' && wild(rest, text)),
        b'[' => match (class(rest, text.first().copied()), text) {
            (Some((true, rest)), [byte, text @ ..]) => *byte != b'/' && wild(rest, text),
            _ => false,
        },
        b'\\' => match (rest.split_first(), text.split_first()) {
            (Some((wanted, rest)), Some((byte, text))) => wanted == byte && wild(rest, text),
            _ => false,
        },
        wanted => text.split_first().is_some_and(|(&byte, text)| wanted == byte && wild(rest, text)),
    }
}

fn star(pattern: &[u8], text: &[u8]) -> bool {
    let stars = pattern.iter().take_while(|&&byte| byte == b'*').count();
    let (rest, crosses) = (&pattern[stars..], stars > 1);
    if rest.is_empty() {
        return crosses || !text.contains(&b'/');
    }
    for skipped in 0..=text.len() {
        if skipped > 0 && !crosses && text[skipped - 1] == b'/' {
            return false;
        }
        if wild(rest, &text[skipped..]) {
            return true;
        }
    }
    false
}

/// Whether a byte is in the class that begins the pattern (behind its bracket), and what follows the class; `None` when it does not end.
fn class(pattern: &[u8], byte: Option<u8>) -> Option<(bool, &[u8])> {
    let byte = byte?;
    let (negated, mut rest) = match pattern.split_first()? {
        (b'!' | b'^', rest) => (true, rest),
        _ => (false, pattern),
    };
    let (mut found, mut previous, mut is_first) = (false, None, true);
    loop {
        let (&next, after) = rest.split_first()?;
        match next {
            b']' if !is_first => return Some((found != negated, after)),
            b'-' if previous.is_some() && after.first().is_some_and(|&byte| byte != b']') => {
                let (&end, after) = match after {
                    [b'\\', escaped, after @ ..] => (escaped, after),
                    _ => after.split_first()?,
                };
                found |= previous.is_some_and(|start| (start..=end).contains(&byte));
                (previous, rest) = (None, after);
            }
            b'\\' => {
                let (&escaped, after) = after.split_first()?;
                found |= escaped == byte;
                (previous, rest) = (Some(escaped), after);
            }
            b'[' if after.first() == Some(&b':') => match named(after, byte) {
                Named::Class(is_in, after) => {
                    found |= is_in;
                    (previous, rest) = (None, after);
                }
                Named::Unknown => return None,
                Named::Plain => {
                    found |= next == byte;
                    (previous, rest) = (Some(next), after);
                }
            },
            next => {
                found |= next == byte;
                (previous, rest) = (Some(next), after);
            }
        }
        is_first = false;
    }
}

enum Named<'a> {
    Class(bool, &'a [u8]),
    /// No such class: nothing matches.
    Unknown,
    /// No class at all: the bracket stands for itself.
    Plain,
}

/// A class by name, such as `:alpha:]`.
fn named(pattern: &[u8], byte: u8) -> Named<'_> {
    let Some(end) = memchr::memchr(b']', pattern) else { return Named::Unknown };
    let Some(name) = pattern[1..end].strip_suffix(b":").filter(|_| end >= 2) else { return Named::Plain };
    let is_in = match name {
        b"alnum" => byte.is_ascii_alphanumeric(),
        b"alpha" => byte.is_ascii_alphabetic(),
        b"blank" => byte == b' ' || byte == b'\t',
        b"cntrl" => byte.is_ascii_control(),
        b"digit" => byte.is_ascii_digit(),
        b"graph" => byte.is_ascii_graphic(),
        b"lower" => byte.is_ascii_lowercase(),
        b"print" => byte.is_ascii_graphic() || byte == b' ',
        b"punct" => byte.is_ascii_punctuation(),
        b"space" => byte.is_ascii_whitespace() || byte == 0x0b,
        b"upper" => byte.is_ascii_uppercase(),
        b"xdigit" => byte.is_ascii_hexdigit(),
        _ => return Named::Unknown,
    };
    Named::Class(is_in, &pattern[end + 1..])
}
