use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, XattrFlags};

use super::*;
use crate::random::Sequence;
use crate::verify::engine;
use crate::verify::order::Replica;

/// Two trees, and a way between them that is none: what would reach a peer runs the command here.
struct Case {
    directory: tempfile::TempDir,
    opts: Vec<OsString>,
    sources: Vec<String>,
}

/// What was found: the class, the path, and more about it.
type Found = Vec<String>;

impl Case {
    fn new(opts: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let rsh = directory.path().join("rsh");
        fs::write(&rsh, "#!/bin/sh\nshift 3\nexec sh -c \"$*\"\n").expect("written");
        fs::set_permissions(&rsh, fs::Permissions::from_mode(0o755)).expect("set");
        let case = Self {
            directory,
            opts: opts.split_whitespace().map(OsString::from).collect(),
            sources: vec!["src/".into()],
        };
        for name in ["src/sub/deep", "src/empty", "dst", "state"] {
            fs::create_dir_all(case.path(name)).expect("made");
        }
        let odd = "src/new\nline -> x";
        for name in ["src/a", "src/b", "src/sub/c", "src/sub/deep/d", "src/sub-x", "src/é\\#012", odd] {
            fs::write(case.path(name), name).expect("written");
        }
        fs::hard_link(case.path("src/a"), case.path("src/sub/a-too")).expect("linked");
        symlink("tgt -> a\nb", case.path("src/link")).expect("linked");
        rustix::fs::mknodat(CWD, case.path("src/pipe"), FileType::Fifo, Mode::RUSR, 0).expect("made");
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn order(&self, remote: Option<bool>, depth: Depth) -> Order {
        let rsh = || vec![self.path("rsh").into_os_string()];
        let elsewhere = |is_source| Elsewhere {
            host: "peer".into(),
            user: "root".into(),
            is_source,
            rsh: rsh(),
            tickets: Vec::new(),
        };
        let source = |name: &String| OsString::from(format!("{}/{name}", self.directory.path().display()));
        Order {
            replica: Replica { job: "j".into(), sync: "s".into() },
            sources: self.sources.iter().map(source).collect(),
            dest: self.path("dst").into(),
            opts: self.opts.clone(),
            remote: remote.map(elsewhere),
            depth,
            ..Order::default()
        }
    }

    fn sync(&self) {
        let order = self.order(None, Depth::Quick);
        let words = order.opts.iter().chain(&order.sources).chain([&order.dest]);
        let status = Command::new("rsync").args(words.collect::<Vec<&OsString>>()).status();
        assert!(status.expect("rsync").success());
    }

    /// What is found with the agent's eyes, and by rsync with the one or the other side elsewhere.
    fn found(&self, depth: Depth) -> [Found; 3] {
        [None, Some(true), Some(false)].map(|remote| {
            let order = self.order(remote, depth);
            let both = || Sides { source: Box::new(Here::default()), target: Box::new(Here::default()), by: By::Here };
            let sides = match &order.remote {
                Some(elsewhere) => sides(&order, elsewhere, 0).expect("verifiable"),
                None => both(),
            };
            let outcome = engine::verify(&order, sides, &mut |_| {}).expect("a report");
            let mut found: Found = outcome.differences().expect("kept").map(|found| shown(&found)).collect();
            found.push(format!("{} of {:?}", outcome.report.in_step.entries, outcome.report.all));
            found
        })
    }

    #[track_caller]
    fn check(&self, depth: Depth, expected: &[&str]) {
        let [by_agent, pulled, pushed] = self.found(depth);
        assert_eq!(by_agent[..by_agent.len() - 1], *expected);
        assert_eq!(pulled, by_agent, "the source is elsewhere");
        assert_eq!(pushed, by_agent, "the target is elsewhere");
    }
}

fn shown(found: &crate::verify::Difference) -> String {
    let path = String::from_utf8_lossy(&found.path);
    format!("{} {path} {}", found.class.name(), found.detail).trim_end().to_owned()
}

fn set_time(path: &Path, seconds: i64) {
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).expect("set");
}

#[test]
fn what_rsync_made_is_in_step() {
    for opts in ["-aHX --delete", "-rt", "-a --exclude=/b --delete", "-aH --numeric-ids --filter=P_/b"] {
        let case = Case::new(opts);
        case.sync();
        for depth in [Depth::Quick, Depth::Meta, Depth::Deep] {
            case.check(depth, &[]);
        }
    }
}

#[test]
fn faults_of_every_class_are_named_as_an_agent_names_them() {
    let case = Case::new("-aHX --delete --filter=P_*.keep");
    case.sync();
    let dst = |name: &str| case.path(&format!("dst/{name}"));
    fs::remove_file(dst("b")).expect("removed");
    fs::create_dir_all(dst("more/held")).expect("made");
    fs::write(dst("more/held/x.keep"), "x").expect("written");
    fs::write(dst("more/y"), "y").expect("written");
    fs::write(dst("z.keep"), "z").expect("written");
    set_time(&dst("sub/c"), 1_000_000_000);
    set_time(&dst("new\nline -> x"), 4_000_000_000);
    fs::remove_file(dst("link")).expect("removed");
    symlink("elsewhere", dst("link")).expect("linked");
    fs::remove_dir(dst("empty")).expect("removed");
    fs::write(dst("empty"), "").expect("written");
    fs::set_permissions(dst("sub/deep"), fs::Permissions::from_mode(0o700)).expect("set");
    rustix::fs::lsetxattr(dst("sub-x"), "user.note", b"x", XattrFlags::empty()).expect("an attribute");
    let rotten = fs::metadata(dst("sub/deep/d")).expect("there").modified().expect("known");
    fs::write(dst("sub/deep/d"), "SRC/sub/deep/d").expect("written");
    fs::File::options().write(true).open(dst("sub/deep/d")).expect("open").set_modified(rotten).expect("set");
    // Directories have the times that they should have, but for what is missing there.
    for name in ["sub", "sub/deep", "."] {
        let time = fs::metadata(case.path(&format!("src/{name}"))).expect("there").modified().expect("known");
        fs::File::open(dst(name)).expect("open").set_modified(time).expect("set");
    }
    case.check(
        Depth::Quick,
        &[
            "missing b",
            "type empty a file, not a directory",
            "extra more/y",
            "target_newer new\nline -> x",
            "stale sub/c",
        ],
    );
    let [by_agent, pulled, pushed] = case.found(Depth::Deep);
    let named = |found: &Found, text: &str| found.iter().any(|line| line.starts_with(text));
    for text in ["content sub/deep/d", "meta link", "meta sub/deep mode 0700", "meta sub-x other attributes"] {
        assert!(named(&by_agent, text), "{text} in {by_agent:?}");
    }
    assert_eq!(pulled, by_agent, "the source is elsewhere");
    assert_eq!(pushed, by_agent, "the target is elsewhere");
}

#[test]
fn sources_may_be_named_and_rules_lie_in_directories() {
    let mut case = Case::new("-a --delete -F");
    case.sources = vec!["src/sub".into(), "src/a".into()];
    fs::write(case.path("src/sub/.rsync-filter"), "- c\n").expect("written");
    case.sync();
    fs::write(case.path("dst/sub/c"), "kept").expect("written");
    fs::write(case.path("dst/sub/deep/e"), "too much").expect("written");
    fs::write(case.path("dst/other"), "of nobody's business").expect("written");
    case.check(Depth::Quick, &["extra sub/deep/e"]);
}

#[test]
fn a_root_that_is_not_there_has_nothing() {
    let case = Case::new("-a --delete");
    case.sync();
    fs::remove_dir_all(case.path("dst")).expect("removed");
    let [by_agent, _, pushed] = case.found(Depth::Meta);
    assert!(by_agent.len() > 10, "{by_agent:?}");
    assert_eq!(pushed, by_agent);
}

#[test]
fn devices_and_directories_that_cannot_be_read_are_told() {
    let case = Case::new("-aA --delete");
    let device = |name: &str, number| {
        rustix::fs::mknodat(
            CWD,
            case.path(name),
            FileType::CharacterDevice,
            Mode::RUSR,
            rustix::fs::makedev(1, number),
        )
        .expect("made");
    };
    device("src/device", 3);
    device("src/other", 3);
    case.sync();
    fs::remove_file(case.path("dst/device")).expect("removed");
    device("dst/device", 5);
    for name in ["device", "."] {
        let time = fs::metadata(case.path(&format!("src/{name}"))).expect("there");
        set_time(&case.path(&format!("dst/{name}")), std::os::unix::fs::MetadataExt::mtime(&time));
    }
    case.check(Depth::Quick, &[]);
    case.check(Depth::Meta, &["meta device another device"]);
    // The peer's user is another.
    let text = "#!/bin/sh\nshift 3\nexec setpriv --reuid 65534 --clear-groups sh -c \"$*\"\n";
    fs::write(case.path("rsh"), text).expect("written");
    fs::set_permissions(case.directory.path(), fs::Permissions::from_mode(0o755)).expect("set");
    fs::set_permissions(case.path("src/sub"), fs::Permissions::from_mode(0o700)).expect("set");
    fs::set_permissions(case.path("dst/sub"), fs::Permissions::from_mode(0o700)).expect("set");
    let [_, pulled, pushed] = case.found(Depth::Quick);
    for found in [pulled, pushed] {
        assert_eq!(found[0], "unreadable sub Permission denied", "{found:?}");
        assert_eq!(found.len(), 2, "{found:?}");
    }
}

#[test]
fn what_the_peer_says_when_it_fails_is_told() {
    let case = Case::new("-a");
    fs::write(case.path("rsh"), "#!/bin/sh\necho Host key verification failed. >&2\nexit 255\n").expect("written");
    let order = case.order(Some(false), Depth::Quick);
    let elsewhere = order.remote.clone().expect("there");
    let sides = sides(&order, &elsewhere, 0).expect("verifiable");
    let error = engine::verify(&order, sides, &mut |_| {}).expect_err("no report");
    let text = crate::error_chain(&error);
    assert!(text.contains("peer: ") && text.contains("Host key verification failed."), "{text}");
}

#[test]
fn a_path_of_the_peer_is_found_below_its_root() {
    let found = |root: &str, path: &str| {
        let found = candidates(root.as_bytes(), path.as_bytes());
        found.into_iter().map(|path| String::from_utf8(path).expect("text")).collect::<Vec<_>>()
    };
    assert_eq!(found("/data/", "/data/a/b"), ["a/b"]);
    assert_eq!(found("/data/.", "/data"), [""]);
    assert_eq!(found("/", "/a"), ["a"]);
    assert_eq!(found("/data", "/database/x"), [""; 0]);
    assert_eq!(found("x/y/", "/home/u/x/y/z"), ["z"]);
    assert_eq!(found("x/y", "/home/u/x/y"), [""]);
    assert_eq!(found(".", "/home/u/x"), ["home/u/x", "u/x", "x"]);
}

const OPTIONS: [&str; 12] = [
    "-au --delete",
    "-a --size-only",
    "-a --delete",
    "-aHX --delete --filter=P_*.k",
    "-a --delete --exclude=*.o",
    "-a --delete-excluded --exclude=*.o",
    "-a --delete --exclude=*.o --filter=-p_x",
    "-rt",
    "-aH",
    "-rlt --delete -F",
    "-aA --delete -C",
    "-rlpt --delete --modify-window=1",
];

/// All below a directory, itself included, what is in a directory before it.
fn all_below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.is_dir() && !path.is_symlink() {
            true => all_below(&path, found),
            false => found.push(path),
        }
    }
    found.push(directory.to_owned());
}

fn grow(random: &mut Sequence, directory: &Path, depth: usize) {
    fs::create_dir_all(directory).expect("made");
    for _ in 0..random.below(5) {
        let names =
            ["a", "b.o", "c.k", "x", "new\nline", "d -> e", "\\#012", "\u{e9}", "y//z", "core", ".rsync-filter"];
        let path = directory.join(random.pick(&names).replace('/', "+"));
        match random.below(8) {
            _ if fs::symlink_metadata(&path).is_ok() => {}
            0..=2 if depth < 3 => grow(random, &path, depth + 1),
            3 => symlink("nowhere -> x", &path).expect("linked"),
            _ if path.ends_with(".rsync-filter") => fs::write(&path, "- x\n").expect("written"),
            _ => fs::write(&path, &b"0123456789"[..random.below(11)]).expect("written"),
        }
    }
}

/// Makes something else of what has a name at the destination.
fn spoil(random: &mut Sequence, path: &Path) {
    let about = fs::symlink_metadata(path).expect("there");
    let owned = |name: &str| path.join(name);
    match random.below(10) {
        0 if !about.is_dir() => fs::remove_file(path).expect("removed"),
        1 if about.is_dir() => grow(random, &owned("more"), 1),
        2 if about.is_dir() => fs::write(owned("extra.k"), "x").expect("written"),
        3 if about.is_file() => fs::write(path, "longer than it was").expect("written"),
        4 if about.is_file() && about.len() > 0 => {
            let text = vec![b'~'; usize::try_from(about.len()).expect("short")];
            fs::write(path, text).expect("written");
            set_time(path, std::os::unix::fs::MetadataExt::mtime(&about));
        }
        5 => set_time(path, 1_400_000_000),
        6 => set_time(path, 1_700_000_000),
        7 if !about.is_symlink() => fs::set_permissions(path, fs::Permissions::from_mode(0o750)).expect("set"),
        8 if about.is_file() => {
            fs::remove_file(path).expect("removed");
            grow(random, path, 2);
        }
        _ => std::os::unix::fs::lchown(path, Some(7), Some(8)).expect("set"),
    }
}

#[test]
fn trees_of_all_kinds_are_told_as_an_agent_tells_them() {
    let mut random = Sequence::of(0x9e37_79b9_7f4a_7c15);
    let mut faults = 0;
    let rounds = std::env::var("RD_FALLBACK_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(24);
    for round in 0..rounds {
        let case = Case::new(OPTIONS[round % OPTIONS.len()]);
        grow(&mut random, &case.path("src/grown"), 0);
        let mut names = Vec::new();
        all_below(&case.path("src"), &mut names);
        names.iter().for_each(|path| set_time(path, 1_500_000_000 + path.as_os_str().len() as i64));
        case.sync();
        let mut copies = Vec::new();
        all_below(&case.path("dst"), &mut copies);
        for _ in 0..random.below(6) {
            let path = &copies[random.below(copies.len())];
            if fs::symlink_metadata(path).is_ok() {
                spoil(&mut random, path);
            }
        }
        let depth = random.pick(&[Depth::Quick, Depth::Meta, Depth::Deep]);
        let [by_agent, pulled, pushed] = case.found(depth);
        assert_eq!(pulled, by_agent, "{round}: {:?} {depth:?}, the source is elsewhere", case.opts);
        assert_eq!(pushed, by_agent, "{round}: {:?} {depth:?}, the target is elsewhere", case.opts);
        faults += by_agent.len() - 1;
    }
    assert!(faults > 30, "{faults} faults only");
}
