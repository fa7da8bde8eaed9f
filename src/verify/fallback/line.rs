//! Lines of an rsync's output, in formats of ours that no name can break: pure.
//!
//! A name ends at the first two slashes, which no name has. What is no printable ASCII comes as `\#ooo` (rsync(1), `--8-bit-output`), so a line is a
//! line.

use crate::rsync::survey::unescape;
use crate::scan::{Entry, Kind, Meta, Mtime};

/// What a listing tells of each name: kind, length, time in UTC, permissions, owner, group, name, where a link leads.
pub(super) const LISTING: &str = "--out-format=%i %l %M %B %U %G %n//%L";
/// What a dry run tells of each change.
pub(super) const CHANGES: &str = "--out-format=%i %n//";

/// Of rsync's itemized flags (rsync(1), `--itemize-changes`) so many characters.
const FLAGS: usize = 11;
const DELETING: &[u8] = b"*deleting  ";
const NOT_EMPTY: &[u8] = b"cannot delete non-empty directory: ";
const SKIPPED: &[u8] = b"skipping non-regular file \"";

/// A line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) entry: Entry,
    /// Another name of the same file.
    pub(super) link: Option<Vec<u8>>,
}

/// Reads a line of a listing; `None` for one that names nothing.
pub(super) fn listed(line: &[u8], meta: bool) -> Option<Listed> {
    if let Some(name) = line.strip_prefix(SKIPPED) {
        // A device or a pipe, which a receiver that is not root does not take.
        let entry = Entry::of(unescaped(name.strip_suffix(b"\"")?), Kind::Block(0));
        return Some(Listed { entry, link: None });
    }
    let mut words = line.splitn(7, |&byte| byte == b' ');
    let kind = kind(words.next()?)?;
    let size = number(words.next()?)?;
    let mtime = time(words.next()?);
    let mode = permissions(words.next()?)?;
    let owner = number(words.next()?).unwrap_or_default();
    let group = number(words.next()?).unwrap_or_default();
    let (path, link) = name(words.next()?)?;
    let target = link.strip_prefix(b" -> ").filter(|_| kind == Kind::Symlink).map(unescaped);
    let link = link.strip_prefix(b" => ").map(unescaped);
    let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let about = Meta { mode, owner: number(owner), group: number(group), target, attributes: None, links: None };
    let size = if kind == Kind::File { size } else { 0 };
    let entry = Entry { size, mtime, meta: meta.then(|| Box::new(about)), ..Entry::of(path, kind) };
    Some(Listed { entry, link })
}

/// What a sync would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// It is deleted, or would be if nothing in it stayed.
    Deleted(Vec<u8>),
    /// It is changed.
    Changed(Vec<u8>, What),
}

/// What is changed of a name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct What {
    /// The content of a file that stays as long.
    pub(super) content: bool,
    /// The length of a file, or all of it.
    pub(super) more: bool,
    /// ACLs or other extended attributes.
    pub(super) attributes: bool,
    /// It is a device, a pipe or a socket, and is made anew.
    pub(super) device: bool,
}

/// Reads a line of a dry run; `None` for one that tells no change.
pub(super) fn change(line: &[u8]) -> Option<Change> {
    if let Some(path) = line.strip_prefix(NOT_EMPTY) {
        return Some(Change::Deleted(unescaped(path)));
    }
    let (flags, rest) = line.split_at_checked(FLAGS)?;
    let (path, _) = name(rest.strip_prefix(b" ")?)?;
    if flags == DELETING {
        return Some(Change::Deleted(path));
    }
    let kind = kind(flags)?;
    let is_there = flags[2] != b'+';
    let is = |at: usize, letter: u8| is_there && flags[at] == letter;
    let (is_file, is_device) = (kind == Kind::File, matches!(kind, Kind::Block(_)));
    let what = What {
        content: is_file && is(2, b'c') && is(3, b'.'),
        more: is_file && (!is_there || is(3, b's')),
        attributes: is(9, b'a') || is(10, b'x'),
        device: is_device && is_there && flags[0] == b'c',
    };
    Some(Change::Changed(path, what))
}

/// A complaint about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// As the host has it that complains, from its root on.
    pub(super) path: Vec<u8>,
    /// What was tried: `[sender] opendir`.
    pub(super) tried: String,
    /// For people: `Permission denied`.
    pub(super) reason: String,
    /// errno(3).
    pub(super) errno: i32,
}

/// Reads a line of standard error; `None` for one that is about no path.
pub(super) fn problem(line: &[u8]) -> Option<Problem> {
    let text = line.strip_prefix(b"rsync: ")?.strip_suffix(b")")?;
    let at = memchr::memmem::rfind(text, b" (")?;
    let errno = std::str::from_utf8(&text[at + 2..]).ok()?.parse().ok()?;
    let text = &text[..at];
    let ends: [&[u8]; 3] = [b"\" failed: ", b"\") failed: ", b"\": "];
    let ends = ends.iter().filter_map(|end| Some((memchr::memmem::rfind(text, end)?, end.len())));
    let (quote, length) = ends.max_by_key(|(at, _)| *at)?;
    let start = memchr::memchr(b'"', text).filter(|start| *start < quote)?;
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let (tried, reason) = (words(&text[..start]), words(&text[quote + length..]));
    Some(Problem { path: unescaped(&text[start + 1..quote]), tried, reason, errno })
}

/// A name up to its end, from the root of the transfer, and what follows.
fn name(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let end = memchr::memmem::find(text, b"//")?;
    let (name, rest) = (&text[..end], &text[end + 2..]);
    // A directory's name has a slash of its own.
    let rest = rest.strip_prefix(b"/").unwrap_or(rest);
    let name = if name == b"." { b"" } else { name };
    Some((unescaped(name), rest))
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    unescape(text, &mut out);
    out
}

/// What rsync does not tell apart is told as one: all devices, and pipes and sockets.
fn kind(flags: &[u8]) -> Option<Kind> {
    let (b'.' | b'<' | b'>' | b'c' | b'h', FLAGS) = (*flags.first()?, flags.len()) else { return None };
    Some(match flags[1] {
        b'f' => Kind::File,
        b'd' => Kind::Directory,
        b'L' => Kind::Symlink,
        b'D' => Kind::Block(0),
        b'S' => Kind::Fifo,
        _ => return None,
    })
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `2026/11/21-20:19:03`; one that no calendar has is the epoch.
fn time(text: &[u8]) -> Mtime {
    let parse = || jiff::civil::DateTime::strptime("%Y/%m/%d-%H:%M:%S", text).ok();
    let zoned = parse().and_then(|time| time.to_zoned(jiff::tz::TimeZone::UTC).ok());
    Mtime { seconds: zoned.map_or(0, |zoned| zoned.timestamp().as_second()), nanos: 0 }
}

/// `rwsr-xr-t`.
fn permissions(text: &[u8]) -> Option<u32> {
    let text: &[u8; 9] = text.try_into().ok()?;
    let mut mode = 0;
    for (at, &letter) in text.iter().enumerate() {
        let bit = 0o400 >> at;
        let special = [0o4000, 0o2000, 0o1000][at / 3];
        mode |= match letter {
            b'-' => 0,
            b's' | b't' => bit | special,
            b'S' | b'T' => special,
            _ => bit,
        };
    }
    Some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn of(line: &[u8]) -> Listed {
        listed(line, true).unwrap_or_else(|| panic!("{line:?}"))
    }

    #[test]
    fn a_listing_is_read() {
        let file = of(br">f+++++++++ 12 2026/11/21-20:19:03 rwsr-x--T 0 1000 d/new\#012 line -> x//");
        assert_eq!((&file.entry.path[..], file.entry.size), (&b"d/new\n line -> x"[..], 12));
        assert_eq!(file.entry.mtime, Mtime { seconds: 1_795_292_343, nanos: 0 });
        let meta = file.entry.meta.expect("asked for");
        assert_eq!((meta.mode, meta.owner, meta.group), (0o5750, 0, 1000));
        let link = of(b"cL+++++++++ 10 1960/01/01-00:00:00 rwxrwxrwx 0 0 l -> k// -> tgt//x");
        assert_eq!((link.entry.kind, link.entry.size, link.entry.mtime.seconds), (Kind::Symlink, 0, -315_619_200));
        assert_eq!(link.entry.meta.expect("asked for").target.as_deref(), Some(&b"tgt//x"[..]));
        let root = of(b"cd+++++++++ 4096 2026/11/21-20:33:41 rwxr-xr-x 1000 DEFAULT .///");
        assert_eq!((&root.entry.path[..], root.entry.kind, root.link), (&b""[..], Kind::Directory, None));
        assert_eq!(of(b"cd+++++++++ 4096 2026/11/21-20:33:41 rwxr-xr-x 0 0 a/b///").entry.path, b"a/b");
        let again = of(b"hf+++++++++ 2 2026/11/21-20:33:41 rw-r--r-- 0 0 d/c// => d/e");
        assert_eq!(again.link.as_deref(), Some(&b"d/e"[..]));
        assert_eq!(of(b"skipping non-regular file \"de\"v\"").entry.path, b"de\"v");
        for other in
            [&b"created directory /x y z a b c d//"[..], b"", b"sending incremental file list", b"cannot delete"]
        {
            assert_eq!(listed(other, true), None);
        }
    }

    #[test]
    fn changes_are_read() {
        let what = |line: &[u8]| match change(line) {
            Some(Change::Changed(_, what)) => what,
            other => panic!("{other:?}"),
        };
        let nothing = What::default();
        assert_eq!(change(b"*deleting   k/q//"), Some(Change::Deleted(b"k/q".to_vec())));
        assert_eq!(change(b"*deleting   k///"), Some(Change::Deleted(b"k".to_vec())));
        assert_eq!(change(b"cannot delete non-empty directory: k"), Some(Change::Deleted(b"k".to_vec())));
        assert_eq!(what(b">fc........ a//"), What { content: true, ..nothing });
        assert_eq!(what(b">fcst...... a//"), What { more: true, ..nothing });
        assert_eq!(what(b">f+++++++++ a//"), What { more: true, ..nothing });
        assert_eq!(what(b".f.......a. a//"), What { attributes: true, ..nothing });
        assert_eq!(what(b".d........x a///"), What { attributes: true, ..nothing });
        assert_eq!(what(b"cD+++++++++ a//"), nothing);
        assert_eq!(what(b"cDc.t...... a//"), What { device: true, ..nothing });
        assert_eq!(change(b"created directory /x//"), None);
    }

    #[test]
    fn complaints_are_read() {
        let read = |line: &str| {
            let found = problem(line.as_bytes()).unwrap_or_else(|| panic!("{line}"));
            (String::from_utf8(found.path).expect("text"), found.tried, found.reason, found.errno)
        };
        let denied = || "Permission denied".to_owned();
        assert_eq!(
            read(r#"rsync: [sender] opendir "/a/q"uo failed: te" failed: Permission denied (13)"#),
            ("/a/q\"uo failed: te".into(), "[sender] opendir".into(), denied(), 13)
        );
        assert_eq!(
            read(r#"rsync: [sender] readlink_stat("/a/b\#012") failed: Permission denied (13)"#),
            ("/a/b\n".into(), "[sender] readlink_stat(".into(), denied(), 13)
        );
        assert_eq!(read(r#"rsync: [sender] send_files failed to open "/a": Permission denied (13)"#).0, "/a");
        assert_eq!(problem(b"rsync error: some files/attrs were not transferred (code 23) at main.c(1394)"), None);
        assert_eq!(problem(b"rsync: connection unexpectedly closed (0 bytes received so far) [Receiver]"), None);
    }
}
