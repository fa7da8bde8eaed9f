//! A million command lines, made of what rsyncs send and what attackers would: whatever is let through must not lead out.
//!
//! The judge of the judge knows nothing of its tables: it takes an accepted argument vector as rsync would, by the short list of
//! options that take a value in a bundle or reach beyond a transfer, and has the kernel resolve each path (openat2(2),
//! RESOLVE_BENEATH).

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::super::admit::{Admitted, Call, admit};
use super::super::{Access, Policy};
use super::Ground;
use crate::random::Sequence;

const LINES: usize = 1_000_000;

const WORDS: &[&str] = &[
    "rsync",
    "/usr/bin/rsync",
    "--server",
    "--server",
    "--sender",
    "-vlogDtpre.iLsfxCIvu",
    "-logDtprze.iLsfxCIvu",
    "-svlogDtpre.iLsfxCIvu",
    "-nr",
    "-e.L",
    "-e",
    "-eid",
    "-L",
    "-K",
    "-R",
    "-B1024",
    "-@1",
    "-M",
    "-T",
    "-f",
    "--delete",
    "--delete-during",
    "--partial-dir",
    ".rsync-partial",
    "--link-dest",
    "--link-dest=../sub",
    "--copy-dest",
    "--compare-dest=DIR/read",
    "--backup-dir",
    "--temp-dir",
    "--suffix=~",
    "--files-from",
    "--files-from=-",
    "--from0",
    "--log-file",
    "--log-file=DIR/write/x",
    "--daemon",
    "--config=/tmp/x",
    "--rsh=id",
    "--rsync-path=id",
    "--remote-option=--daemon",
    "--write-batch=x",
    "--copy-devices",
    "--write-devices",
    "--iconv=utf8",
    "--iconv=../x",
    "--usermap=\\*:root",
    "--timeout=1",
    "--bwlimit=100",
    "--info=FLIST2",
    "--log-format=%i",
    "--remove-source-files",
    "--fake-super",
    "--numeric-ids",
    "--inplace",
    "--safe-links",
    "--copy-unsafe-links",
    "--mkpath",
    "--secluded-args",
    "-s",
    ".",
    ".",
    ".",
    "./",
    "..",
    "../",
    "/",
    "~",
    "~/x",
    "~root",
    "/etc",
    "/etc/passwd",
    "DIR",
    "DIR/read",
    "DIR/read/",
    "DIR/read/a",
    "DIR/read/sub/./deep",
    "DIR/read/*",
    "DIR/read/etc",
    "DIR/read/etc/",
    "DIR/read/up/outside",
    "DIR/read/file",
    "DIR/read/fine/x",
    "DIR/read/../outside",
    "DIR/write",
    "DIR/write/",
    "DIR/write/sub",
    "DIR/write/new",
    "DIR/write/a\\ b",
    "DIR/write/up",
    "DIR/write/up/",
    "DIR/write/etc",
    "DIR/write/dangling",
    "DIR/write/file",
    "DIR/write/fine",
    "DIR/outside",
    "DIR/writex",
    "up",
    "etc",
    "fine",
    "../read",
    "../../x",
    "sub/../..",
    "",
    "exec",
    "/bin/sh",
    "id",
    ";",
    "$(id)",
    "`id`",
    "|",
    "&&",
    "\\",
    "'",
    "\"",
    "*",
    "?",
    "[",
    "{a,b}",
    "\n",
    "\0",
    "=",
    "--",
    "-",
];

/// Where mutations begin: lines that are let through.
const GOOD: &[&str] = &[
    "rsync --server --sender -vlogDtpre.iLsfxCIvu . DIR/read/",
    "rsync --server -vlogDtpre.iLsfxCIvu --delete-during --partial-dir .p . DIR/write/sub",
    "rsync --server -logDtprze.iLsfxCIvu --link-dest ../sub --backup-dir old . DIR/write/new",
    "rsync --server --sender -nlogDtpre.iLsfxCIvu --files-from=- --from0 . DIR/read",
    "rsync --server --sender -logDtpRe.iLsfxCIvu . DIR/read/a DIR/read/sub DIR/read/b.c",
    "rsync --server -svlogDtpre.iLsfxCIvu",
];

impl Sequence {
    /// Words from nowhere, or a good line with a few of them changed, and sometimes bytes.
    fn line(&mut self, dir: &str) -> Vec<u8> {
        let mut words: Vec<&str> = match self.below(5) {
            0 => (0..self.below(9)).map(|_| self.pick(WORDS)).collect(),
            _ => self.pick(GOOD).split(' ').collect(),
        };
        for _ in 0..self.below(4) {
            let at = self.below(words.len() + 1);
            match self.below(3) {
                0 => words.insert(at, self.pick(WORDS)),
                1 if at < words.len() => words[at] = self.pick(WORDS),
                _ if at < words.len() => drop(words.remove(at)),
                _ => {}
            }
        }
        let mut line = words.join(" ").replace("DIR", dir).into_bytes();
        if self.below(4) == 0 && !line.is_empty() {
            for _ in 0..=self.below(3) {
                let at = self.below(line.len());
                line[at] = b"./\\ -=~*e;$\0\nKs"[self.below(15)];
            }
        }
        line
    }

    fn secluded(&mut self, dir: &str) -> Vec<Vec<u8>> {
        let line = self.line(dir);
        line.split(|&byte| byte == b' ').map(<[u8]>::to_vec).collect()
    }
}

/// The directories, opened, and their paths.
struct Roots {
    read: Vec<(PathBuf, OwnedFd)>,
    write: Vec<(PathBuf, OwnedFd)>,
}

impl Roots {
    fn new(ground: &Ground) -> Self {
        let open = |name: &str| (ground.path(name), File::open(ground.path(name)).expect("there").into());
        Self { read: vec![open("read"), open("write")], write: vec![open("write")] }
    }

    /// Whether the kernel finds that a path stays in one of them; if it exists, and as far as it does.
    fn hold(&self, path: &[u8], access: Access, follow: bool) -> bool {
        let roots = if access == Access::Write { &self.write } else { &self.read };
        roots.iter().any(|(root, opened)| {
            let Some(below) = path.strip_prefix(root.as_os_str().as_bytes()) else { return false };
            if !below.is_empty() && below[0] != b'/' {
                return false;
            }
            let below = below.iter().position(|&byte| byte != b'/').map_or(&b"."[..], |start| &below[start..]);
            stays(opened, below, follow)
        })
    }
}

fn stays(root: &OwnedFd, path: &[u8], follow: bool) -> bool {
    let nofollow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    let flags = OFlags::PATH | OFlags::CLOEXEC | nofollow;
    match openat2(root, OsStr::from_bytes(path), flags, Mode::empty(), ResolveFlags::BENEATH) {
        Ok(_) | Err(Errno::LOOP | Errno::NOTDIR | Errno::NAMETOOLONG) => true,
        // What is missing may be made: below what is there, and not at the end of a link.
        Err(Errno::NOENT) => {
            let is_link =
                openat2(root, OsStr::from_bytes(path), flags | OFlags::NOFOLLOW, Mode::empty(), ResolveFlags::BENEATH);
            let parent = Path::new(OsStr::from_bytes(path)).parent();
            is_link.is_err()
                && parent.is_none_or(|parent| {
                    parent.as_os_str().is_empty() || stays(root, parent.as_os_str().as_bytes(), true)
                })
        }
        Err(_) => false,
    }
}

/// How an accepted rsync could reach beyond its directories.
fn escape(call: &Call, roots: &Roots) -> Option<String> {
    let args: Vec<&[u8]> = call.args.iter().map(|arg| arg.as_bytes()).collect();
    if args[0] != b"--server" {
        return (!matches!(args[..], [b"--version"] | [b"-VV"])).then(|| "not a server".into());
    }
    let end = args.iter().position(|arg| *arg == b".")?;
    let access = call.access.expect("a transfer");
    let sends = args[..end].contains(&&b"--sender"[..]);
    let writes = !sends || args[..end].iter().any(|arg| arg.starts_with(b"--remove"));
    if writes && access != Access::Write {
        return Some("writes with the right to read".into());
    }
    let paths = &args[end + 1..];
    let follows = |path: &[u8]| !sends || path.ends_with(b"/") || path.ends_with(b"/.");
    if let Some(path) = paths.iter().find(|path| !roots.hold(path, access, follows(path))) {
        return Some(format!("the path {}", String::from_utf8_lossy(path)));
    }
    if paths.is_empty() || !sends && paths.len() != 1 {
        return Some("the number of paths".into());
    }
    args[1..end].iter().find_map(|arg| option_escape(arg, paths[0], roots))
}

fn option_escape(arg: &[u8], dest: &[u8], roots: &Roots) -> Option<String> {
    const REACHING: [&str; 14] = [
        "daemon",
        "config",
        "rsh",
        "log-file",
        "batch",
        "password",
        "devices",
        "rsync-path",
        "remote-option",
        "keep-dirlinks",
        "filter",
        "exclude-from",
        "include-from",
        "early-input",
    ];
    let shown = String::from_utf8_lossy(arg).into_owned();
    if arg.contains(&0) {
        return Some("a NUL".into());
    }
    let Some(long) = shown.strip_prefix("--") else {
        let bundle = shown.split_once('e').map_or(&shown[..], |(bundle, _)| bundle);
        let abilities = shown.split_once('e').map(|(_, rest)| rest);
        let is_bad = !arg.starts_with(b"-") || bundle.contains(['K', 's', 'M', 'T', 'f', 'a', 'P', 'h', 'i', '/', '=']);
        let starts_program =
            abilities.is_some_and(|rest| !rest.starts_with(['.', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']));
        return (is_bad && !shown.starts_with("-B") || starts_program).then_some(shown);
    };
    let (name, value) = long.split_once('=').unwrap_or((long, ""));
    if REACHING.iter().any(|reaching| name.contains(reaching)) {
        return Some(shown);
    }
    let goes_up = value.split('/').any(|part| part == "..");
    let is_inside = match name {
        "files-from" | "link-dest" | "copy-dest" | "compare-dest" | "backup-dir" | "temp-dir" | "partial-dir"
            if goes_up =>
        {
            false
        }
        "files-from" => value == "-" || roots.hold(value.as_bytes(), Access::Read, true),
        "link-dest" | "copy-dest" | "compare-dest" => roots.hold(&beside(dest, value), Access::Read, true),
        "backup-dir" | "temp-dir" | "partial-dir" => roots.hold(&beside(dest, value), Access::Write, true),
        "usermap" | "groupmap" | "skip-compress" => true,
        _ => !value.contains('/') && !value.contains(".."),
    };
    (!is_inside).then_some(shown)
}

fn beside(dest: &[u8], value: &str) -> Vec<u8> {
    if value.starts_with('/') { value.as_bytes().to_vec() } else { [dest, b"/", value.as_bytes()].concat() }
}

fn judge(policy: &Policy, line: &[u8], random: &mut Sequence, dir: &str) -> Option<Call> {
    match admit(line, policy, &mut || Ok(random.secluded(dir))) {
        Ok(Admitted::Rsync(call)) => Some(call),
        _ => None,
    }
}

#[test]
fn of_a_million_lines_none_escapes() {
    let ground = Ground::new();
    let roots = Roots::new(&ground);
    let dir = ground.path.to_str().expect("text").to_owned();
    let policies = [ground.policy(""), ground.policy("confinement: paths")];
    let mut random = Sequence::of(0x9e37_79b9_7f4a_7c15);
    let mut admitted = 0;
    for number in 0..LINES {
        let line = random.line(&dir);
        let Some(call) = judge(&policies[number % 2], &line, &mut random, &dir) else { continue };
        admitted += 1;
        if let Some(how) = escape(&call, &roots) {
            panic!("line {number} escapes by {how}: {}\nas {:?}", String::from_utf8_lossy(&line), call.args);
        }
    }
    assert!((LINES / 20..LINES * 19 / 20).contains(&admitted), "{admitted} were let through: the lines test little");
}

#[test]
fn the_judge_of_the_judge_finds_escapes() {
    let ground = Ground::new();
    let roots = Roots::new(&ground);
    let call = |args: &str, access| {
        let args = args.replace("DIR", ground.path.to_str().expect("text"));
        Call { args: args.split(' ').map(Into::into).collect(), access: Some(access) }
    };
    let is_escape = |args: &str, access| escape(&call(args, access), &roots).is_some();
    assert!(!is_escape("--server --sender -re.L . DIR/read/ DIR/read/etc", Access::Read));
    assert!(!is_escape("--server -re.L --link-dest=DIR/read/sub . DIR/write/new", Access::Write));
    for args in [
        "--server --sender -re.L . /etc",
        "--server --sender . DIR/read/etc/",
        "--server --sender . DIR/read/up/outside",
        "--server --sender -esh . DIR/read",
        "--server --sender --daemon . DIR/read",
        "--server --sender -K . DIR/read",
        "--server --sender -re.L --remove-source-files . DIR/read",
        "--server . DIR/read",
    ] {
        assert!(is_escape(args, Access::Read), "{args}");
    }
    for args in [
        "--server . DIR/read",
        "--server . DIR/write/dangling",
        "--server . DIR/write/up",
        "--server --link-dest=../../outside . DIR/write/new",
        "--server --backup-dir=/tmp . DIR/write",
        "--server --temp-dir=etc . DIR/write",
        "--server --log-file=x . DIR/write",
        "--server . DIR/write DIR/write",
    ] {
        assert!(is_escape(args, Access::Write), "{args}");
    }
}
