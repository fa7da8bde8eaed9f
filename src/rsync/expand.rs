//! What a shell did for local paths in the old program, without a shell: `~`, and the wildcards `*`, `?` and `[`.
//!
//! Reads directories. Names are bytes: one that is not UTF-8 comes out as it is. Matches are in the order of their bytes.
//! A leading dot is matched only by a dot. A trailing slash stays, since it means something to rsync.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::args::looks_remote;
use crate::account;

/// Why a path could not be expanded.
#[derive(Debug, thiserror::Error)]
pub enum ExpandError {
    /// A pattern matches nothing.
    #[error("nothing matches {}", pattern.display())]
    NoMatch {
        /// As written.
        pattern: OsString,
    },
    /// `~` cannot be replaced.
    #[error("whose home is meant by {}?", path.display())]
    NoHome {
        /// As written.
        path: OsString,
    },
    /// A directory cannot be read, or a match not be looked at.
    #[error("could not look at {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// Whether a path stands for itself, whatever is on disk.
pub fn is_literal(path: &OsStr) -> bool {
    let bytes = path.as_bytes();
    !bytes.starts_with(b"~") && !is_pattern(bytes) && !looks_remote(bytes)
}

/// Expands local sources. Each gives at least one path; their order is kept.
///
/// # Errors
/// [`ExpandError`], naming the path: an rsync of a part of what was asked for would be a success that misleads.
pub fn expand_sources(sources: &[OsString], home: Option<&Path>) -> Result<Vec<OsString>, ExpandError> {
    let mut all = Vec::new();
    for source in sources {
        let path = expand_home(source, home)?;
        let exists = fs::symlink_metadata(&path).is_ok();
        // `host:path`, `host::module`, `rsync://host`: rsync's to understand, unless there is a file of that name.
        if exists || !is_pattern(path.as_bytes()) || looks_remote(path.as_bytes()) {
            all.push(if exists { plainly_local(path) } else { path });
            continue;
        }
        let matches = matches(path.as_bytes())?;
        if matches.is_empty() {
            return Err(ExpandError::NoMatch { pattern: source.clone() });
        }
        all.extend(matches.into_iter().map(plainly_local));
    }
    Ok(all)
}

/// A path that rsync cannot take for a host's.
fn plainly_local(path: OsString) -> OsString {
    if !looks_remote(path.as_bytes()) {
        return path;
    }
    let mut local = OsString::from("./");
    local.push(path);
    local
}

/// Replaces a leading `~` by `home`, and `~user` by that user's home as `/etc/passwd` has it.
///
/// # Errors
/// [`ExpandError::NoHome`] when it is not known.
pub fn expand_home(path: &OsStr, home: Option<&Path>) -> Result<OsString, ExpandError> {
    let Some(rest) = path.as_bytes().strip_prefix(b"~") else { return Ok(path.to_owned()) };
    let (user, below) = rest.split_at(rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len()));
    let home = if user.is_empty() { home.map(|home| home.as_os_str().to_owned()) } else { account::home_of(user) };
    let mut expanded = home.ok_or_else(|| ExpandError::NoHome { path: path.to_owned() })?;
    expanded.push(OsStr::from_bytes(below));
    Ok(expanded)
}

fn is_pattern(path: &[u8]) -> bool {
    path.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

fn matches(pattern: &[u8]) -> Result<Vec<OsString>, ExpandError> {
    let mut found: Vec<Vec<u8>> = vec![Vec::new()];
    let mut parts = pattern.split(|&byte| byte == b'/').peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        let mut next = Vec::new();
        for base in found {
            if is_pattern(part) {
                for name in names(&base, part)? {
                    next.push([&base[..], &name, if is_last { b"" } else { b"/" }].concat());
                }
            } else {
                next.push([&base[..], part, if is_last { b"" } else { b"/" }].concat());
            }
        }
        found = Vec::new();
        for path in next {
            if path.is_empty() || is_there(&path)? {
                found.push(path);
            }
        }
    }
    Ok(found.into_iter().map(OsString::from_vec).collect())
}

/// Whether there is such a file, or such a directory where the path ends with a slash: `*/x` also gives paths of directories that have no `x`. What
/// cannot be looked at is not taken for missing: rsync would run without it, and `--delete` would remove it at the other side.
fn is_there(path: &[u8]) -> Result<bool, ExpandError> {
    let is_directory = path.ends_with(b"/");
    let path = Path::new(OsStr::from_bytes(path));
    match if is_directory { fs::metadata(path) } else { fs::symlink_metadata(path) } {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(source) => Err(ExpandError::Read { path: path.to_owned(), source }),
    }
}

/// The names in `directory` that match, in the order of their bytes.
fn names(directory: &[u8], pattern: &[u8]) -> Result<Vec<Vec<u8>>, ExpandError> {
    let directory = Path::new(OsStr::from_bytes(if directory.is_empty() { b"." } else { directory }));
    let read = |source| ExpandError::Read { path: directory.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(read)? {
        let name = entry.map_err(read)?.file_name().into_vec();
        if (!name.starts_with(b".") || pattern.starts_with(b".")) && fits(pattern, &name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Whether a name fits a pattern without slashes (POSIX, "Pattern Matching Notation", without character classes).
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let Some((&first, rest)) = pattern.split_first() else { return name.is_empty() };
    match first {
        b'*' => (0..=name.len()).any(|skip| fits(rest, &name[skip..])),
        b'?' => char_length(name).is_some_and(|length| fits(rest, &name[length..])),
        b'[' => match (bracket(rest, name), char_length(name)) {
            (Some((inside, rest)), Some(length)) => inside && fits(rest, &name[length..]),
            (Some(_), None) => false,
            (None, _) => name.first() == Some(&b'[') && fits(rest, &name[1..]),
        },
        b'\\' if !rest.is_empty() => name.first() == Some(&rest[0]) && fits(&rest[1..], &name[1..]),
        _ => name.first() == Some(&first) && fits(rest, &name[1..]),
    }
}

/// Reads a bracket expression behind its `[`: whether the name's first character is in it, and what follows it. `None` when it has
/// no end.
fn bracket<'a>(expression: &'a [u8], name: &[u8]) -> Option<(bool, &'a [u8])> {
    let negated = matches!(expression.first(), Some(b'!' | b'^'));
    let mut rest = &expression[usize::from(negated)..];
    let character = first_char(name);
    let mut inside = false;
    let mut is_first = true;
    loop {
        if rest.first()? == &b']' && !is_first {
            return Some((inside != negated, &rest[1..]));
        }
        is_first = false;
        let (low, after) = take_char(rest)?;
        rest = after;
        let mut high = low;
        if rest.first() == Some(&b'-') && rest.get(1).is_some_and(|&byte| byte != b']') {
            (high, rest) = take_char(&rest[1..])?;
        }
        inside |= character.is_some_and(|character| (low..=high).contains(&character));
    }
}

fn take_char(bytes: &[u8]) -> Option<(u32, &[u8])> {
    Some((first_char(bytes)?, &bytes[char_length(bytes)?..]))
}

/// The first character; a byte that is not UTF-8 counts as one beyond Unicode.
fn first_char(bytes: &[u8]) -> Option<u32> {
    let length = char_length(bytes)?;
    let character = std::str::from_utf8(&bytes[..length]).ok().and_then(|text| text.chars().next());
    Some(character.map_or(0x11_0000 + u32::from(bytes[0]), u32::from))
}

fn char_length(bytes: &[u8]) -> Option<usize> {
    bytes.first()?;
    Some((1..=4.min(bytes.len())).find(|&length| std::str::from_utf8(&bytes[..length]).is_ok()).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*", "abc", true),
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("?", "ä", true),
            ("?", "ab", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[]]", "]", true),
            ("[a", "[a", true),
            (r"\*", "*", true),
            (r"\*", "a", false),
            ("*.*", "a.b", true),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
        assert!(fits(b"a?", b"a\xff"));
    }

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            for name in ["b dir", "a", "a/sub", "c", ".hidden"] {
                fs::create_dir(dir.path().join(name)).unwrap();
            }
            for name in ["a/f1", "a/sub/g", "c/f1", "file", "li[t]eral"] {
                fs::write(dir.path().join(name), "").unwrap();
            }
            fs::write(dir.path().join(OsStr::from_bytes(b"\xffraw")), "").unwrap();
            Self(dir)
        }

        #[track_caller]
        fn check(&self, pattern: &str, expected: &[&[u8]]) {
            let source = self.0.path().join(pattern).into_os_string();
            let base = self.0.path().as_os_str().len() + 1;
            let found = expand_sources(&[source], None).unwrap();
            assert_eq!(found.iter().map(|path| &path.as_bytes()[base..]).collect::<Vec<_>>(), expected, "{pattern}");
        }
    }

    #[test]
    fn sources_expand_in_a_fixed_order() {
        let tree = Tree::new();
        tree.check("plain and missing", &[b"plain and missing"]);
        tree.check("[ab]*", &[b"a", b"b dir"]);
        tree.check("*/", &[b"a/", b"b dir/", b"c/"]);
        tree.check("*/f1", &[b"a/f1", b"c/f1"]);
        tree.check("?raw", &[b"\xffraw"]);
        tree.check(".h*", &[b".hidden"]);
        tree.check("a/*/g", &[b"a/sub/g"]);
        tree.check("li[t]eral", &[b"li[t]eral"]);
    }

    #[test]
    fn what_is_literal_needs_no_look_at_the_disk() {
        for (path, literal) in [("/a b/", true), ("-x", true), ("~/x", false), ("/a/*", false), ("h:x", false)] {
            assert_eq!(is_literal(OsStr::new(path)), literal, "{path}");
        }
    }

    #[test]
    fn what_rsync_takes_for_a_host_is_left_to_it() {
        for source in ["host:path/*", "host::module/x", "rsync://host/module/[x]"] {
            assert_eq!(expand_sources(&[source.into()], None).unwrap(), [source]);
        }
        assert_eq!(plainly_local("a:b".into()), "./a:b");
        assert_eq!(plainly_local("/a:b".into()), "/a:b");
    }

    #[test]
    fn a_pattern_without_a_match_is_an_error() {
        let error = expand_sources(&["/nowhere-*/x".into()], None).unwrap_err();
        assert_eq!(error.to_string(), "nothing matches /nowhere-*/x");
    }

    #[test]
    fn a_match_that_cannot_be_looked_at_is_an_error() {
        let tree = Tree::new();
        std::os::unix::fs::symlink("loop", tree.0.path().join("loop")).unwrap();
        let below = expand_sources(&[tree.0.path().join("*/f1").into()], None);
        let Err(ExpandError::Read { path, source }) = below else { panic!("{below:?}") };
        assert_eq!(path, tree.0.path().join("loop/"));
        assert_eq!(source.raw_os_error(), Some(rustix::io::Errno::LOOP.raw_os_error()));
        tree.check("l*", &[b"li[t]eral", b"loop"]);
    }

    #[test]
    fn home_directories_are_known() {
        let home = Some(Path::new("/home/me"));
        assert_eq!(expand_home(OsStr::new("~"), home).unwrap(), "/home/me");
        assert_eq!(expand_home(OsStr::new("~/x/"), home).unwrap(), "/home/me/x/");
        assert_eq!(expand_home(OsStr::new("~root/x"), home).unwrap(), "/root/x");
        assert_eq!(expand_home(OsStr::new("/x/~"), home).unwrap(), "/x/~");
        assert!(expand_home(OsStr::new("~no-such-user/x"), home).is_err());
        assert!(expand_home(OsStr::new("~"), None).is_err());
    }
}
