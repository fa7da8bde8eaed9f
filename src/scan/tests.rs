use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::rsync::filter::Filters;

fn terms(rules: &[&str], meta: bool) -> Terms {
    let opts: Vec<std::ffi::OsString> = rules.iter().map(std::ffi::OsString::from).collect();
    let filters = Filters::of(&opts, &mut |_| Ok(None), None, b"").expect("rules");
    let scope = Scope::new(Arc::new(filters));
    let attributes = Attributes { acls: meta, others: meta, user_only: false };
    Terms { scope, side: Side::Sender, one_file_system: false, meta, attributes, only: Vec::new() }
}

fn entries(root: &Path, terms: Terms) -> Vec<Entry> {
    Walk::new(root, terms).expect("a root").map(|entry| entry.expect("a walk")).collect()
}

fn paths(root: &Path, rules: &[&str]) -> Vec<String> {
    let text = |entry: Entry| String::from_utf8_lossy(&entry.path).into_owned();
    entries(root, terms(rules, false)).into_iter().map(text).collect()
}

fn tree(names: &[&str]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for name in names {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, name).expect("written");
    }
    directory
}

#[test]
fn a_tree_is_told_in_order() {
    let tree = tree(&["b", "a-b", "a/c", "a/b/x", "a.txt"]);
    let told = paths(tree.path(), &[]);
    assert_eq!(told, ["", "a", "a/b", "a/b/x", "a/c", "a-b", "a.txt", "b"]);
    assert!(told.is_sorted_by(|a, b| order(a.as_bytes(), b.as_bytes()).is_lt()));
}

#[test]
fn names_are_bytes_and_kinds_are_told() {
    let tree = tree(&["sub/file"]);
    let odd = std::ffi::OsStr::from_bytes(b"\xff\n\x01");
    fs::write(tree.path().join(odd), "12345").expect("written");
    symlink("nowhere", tree.path().join("link")).expect("linked");
    symlink("sub", tree.path().join("to-sub")).expect("linked");
    rustix::fs::mknodat(CWD, tree.path().join("pipe"), FileType::Fifo, Mode::RUSR, 0).expect("made");
    let told: Vec<_> = entries(tree.path(), terms(&[], true)).into_iter().map(|e| (e.path, e.kind, e.size)).collect();
    let expected: Vec<(&[u8], Kind, u64)> = vec![
        (b"", Kind::Directory, 0),
        (b"link", Kind::Symlink, 0),
        (b"pipe", Kind::Fifo, 0),
        (b"sub", Kind::Directory, 0),
        (b"sub/file", Kind::File, 8),
        (b"to-sub", Kind::Symlink, 0),
        (b"\xff\n\x01", Kind::File, 5),
    ];
    assert!(told.iter().map(|(path, kind, size)| (&path[..], *kind, *size)).eq(expected), "{told:?}");
}

#[test]
fn everything_else_is_told_on_request() {
    let tree = tree(&["a", "d"]);
    let path = |name: &str| tree.path().join(name);
    fs::hard_link(path("a"), path("b")).expect("linked");
    symlink("target", path("c")).expect("linked");
    fs::set_permissions(path("d"), fs::Permissions::from_mode(0o4751)).expect("chmod");
    let plain = entries(tree.path(), terms(&[], true));
    let meta = |index: usize| plain[index].meta.clone().expect("asked for");
    assert_eq!((meta(1).links, meta(2).links, meta(4).links), (Some(0), Some(0), None));
    assert_eq!((meta(3).target, meta(4).mode), (Some(b"target".to_vec()), 0o4751));
    assert_eq!(meta(4).attributes, None);
    rustix::fs::setxattr(path("d"), "user.note", b"x", rustix::fs::XattrFlags::empty()).expect("an attribute");
    let one = entries(tree.path(), terms(&[], true))[4].meta.clone().expect("asked for").attributes;
    rustix::fs::setxattr(path("d"), "user.note", b"y", rustix::fs::XattrFlags::empty()).expect("an attribute");
    let other = entries(tree.path(), terms(&[], true))[4].meta.clone().expect("asked for").attributes;
    assert!(one.is_some() && other.is_some() && one != other);
}

#[test]
fn what_the_rules_leave_out_is_not_told_nor_entered() {
    let tree = tree(&["a/x.o", "a/x.c", "b/y.o", ".rules", "b/.rules", "b/z"]);
    fs::write(tree.path().join(".rules"), "- *.o\n").expect("written");
    fs::write(tree.path().join("b/.rules"), "+ *.o\n- /z\n").expect("written");
    assert_eq!(paths(tree.path(), &["--exclude=b/"]), ["", ".rules", "a", "a/x.c", "a/x.o"]);
    assert_eq!(
        paths(tree.path(), &["--filter=: .rules"]),
        ["", ".rules", "a", "a/x.c", "b", "b/.rules", "b/y.o"],
        "rules of a directory come before those above it"
    );
}

#[test]
fn a_tree_deeper_than_descriptors_go_is_told_to_its_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut opened: OwnedFd = fs::File::open(directory.path()).expect("open").into();
    let depth = 3 * OPEN_MAX + 7;
    for _ in 0..depth {
        for name in ["d", "e", "z"] {
            rustix::fs::mkdirat(&opened, name, Mode::RWXU).expect("made");
        }
        opened = directory::open(&opened, c"e").expect("opened");
    }
    let before = fs::read_dir("/proc/self/fd").expect("there").count();
    let walk = Walk::new(directory.path(), terms(&[], false)).expect("a root");
    let (mut count, mut most) = (0, 0);
    for entry in walk {
        assert_eq!(entry.expect("a walk").problem, None);
        count += 1;
        most = most.max(fs::read_dir("/proc/self/fd").expect("there").count());
    }
    assert_eq!(count, 3 * depth + 1);
    assert!(most <= before + OPEN_MAX + 20, "{most} descriptors, {before} before");
}

#[test]
fn one_file_system_ends_at_a_mount_of_the_source_alone() {
    let told = |side| {
        let terms = Terms { side, one_file_system: true, only: vec![b"proc".to_vec()], ..terms(&[], false) };
        let mut walk = Walk::new(Path::new("/"), terms).expect("a root");
        walk.any(|entry| entry.expect("a walk").path == b"proc/version")
    };
    assert!(!told(Side::Sender));
    assert!(told(Side::Receiver), "rsync writes into what is mounted below its destination");
}

#[test]
fn a_directory_that_goes_away_takes_along_what_is_not_told_yet() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut path = directory.path().join("top");
    for _ in 0..OPEN_MAX + 3 {
        path.push("d");
        fs::create_dir_all(&path).expect("made");
        fs::write(path.with_file_name("z"), "").expect("written");
    }
    let mut walk = Walk::new(directory.path(), terms(&[], false)).expect("a root");
    let deepest = walk.find(|entry| entry.as_ref().is_ok_and(|entry| entry.path.ends_with(b"d/z")));
    assert!(deepest.is_some(), "the first file is the deepest");
    fs::rename(directory.path().join("top"), directory.path().join("gone")).expect("renamed");
    let rest: Vec<Entry> = walk.map(|entry| entry.expect("a walk")).collect();
    assert!(rest.iter().all(|entry| entry.problem.is_none()), "{rest:?}");
    assert!(rest.len() < OPEN_MAX, "those above the last that were kept open are gone: {}", rest.len());
}

#[test]
fn a_link_is_never_entered_and_a_root_that_is_one_is() {
    let tree = tree(&["real/x"]);
    symlink("real", tree.path().join("link")).expect("linked");
    assert_eq!(paths(tree.path(), &[]), ["", "link", "real", "real/x"]);
    assert_eq!(paths(&tree.path().join("link"), &[]), ["", "x"]);
    let missing = Walk::new(&tree.path().join("missing"), terms(&[], false)).map(|_| ()).expect_err("nothing there");
    assert!(crate::error_chain(&missing).contains("missing: No such file"), "{missing}");
}
