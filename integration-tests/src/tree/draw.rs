//! Drawing trees.

use std::collections::BTreeMap;

use super::{Node, Path, Tree, What};
use crate::faults::random::Random;

/// Names that break programs.
const ODD: [&[u8]; 12] = [
    b"a b",
    b"#c",
    b"new\nline",
    b"\xff\xfe",
    b"back\\#012slash",
    b"-v",
    b"it's",
    "\u{fc}ml\u{e4}ut".as_bytes(),
    "u\u{308}ml".as_bytes(),
    b"a-b",
    b"a.b",
    b"\x01\x7f\t",
];
const ENDS: [&[u8]; 5] = [b"", b"", b".skip", b".keep", b".hide"];
/// Seconds: before the epoch, now, after 2038.
const TIMES: [(i64, i64); 4] = [
    (-1_000_000_000, -1),
    (1_000_000_000, 1_700_000_000),
    (1_000_000_000, 1_700_000_000),
    (2_200_000_000, 4_000_000_000),
];

/// Whether devices and owners can be made.
pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A tree.
pub(super) fn tree(random: &mut Random) -> Tree {
    let mut tree = Tree::default();
    tree.put(Path::root(), node(random, What::Directory));
    let mut directories = vec![Path::root()];
    for number in 0..random.between(0, 6) {
        let parent = directories[random.index(directories.len())].clone();
        directories.push(add(&mut tree, random, &parent, &format!("d{number}"), What::Directory));
    }
    if random.chance(5) {
        for number in 0..random.between(10, 40) {
            let parent = directories[directories.len() - 1].clone();
            directories.push(add(&mut tree, random, &parent, &format!("deep{number}"), What::Directory));
        }
    }
    let most = if random.chance(5) { 80 } else { 14 };
    for number in 0..random.between(1, most) {
        let parent = directories[random.index(directories.len())].clone();
        let what = what(random);
        let path = add(&mut tree, random, &parent, &format!("f{number}"), what);
        if tree.get(&path).is_some_and(Node::is_file) {
            for name in 0..random.between(0, 8).saturating_sub(6) {
                let parent = &directories[random.index(directories.len())];
                tree.link(parent.join(format!("h{number}-{name}").as_bytes()), &path);
            }
        }
    }
    tree
}

/// Puts something into a directory, under this name or an odd one.
fn add(tree: &mut Tree, random: &mut Random, parent: &Path, name: &str, what: What) -> Path {
    let odd = ODD[random.index(ODD.len())];
    let end = if random.chance(25) { random.pick(&ENDS) } else { b"" };
    let path = parent.join(&if random.chance(25) { [odd, end].concat() } else { [name.as_bytes(), end].concat() });
    if tree.get(&path).is_none() {
        let node = node(random, what);
        tree.put(path.clone(), node);
        return path;
    }
    let path = parent.join(name.as_bytes());
    let node = node(random, what);
    tree.put(path.clone(), node);
    path
}

fn what(random: &mut Random) -> What {
    match random.between(0, 19) {
        0..=12 => file(random),
        13..=15 => {
            What::Symlink(random.pick::<&[u8]>(&[b"nowhere", b"/etc/passwd", b".", b"../f1", b"\xfe x"]).to_vec())
        }
        16 => What::Fifo,
        17 => What::Socket,
        18 if is_root() => What::Device { block: random.chance(50), minor: random.between(1, 200) as u32 },
        _ => What::File { seed: 0, size: 0, hole: false },
    }
}

/// A file with something in it.
pub(super) fn file(random: &mut Random) -> What {
    let (size, hole) = match random.between(0, 19) {
        0 => (random.between(100_000, 300_000), false),
        1 => (random.between(1 << 20, 3 << 20), true),
        _ => (random.between(1, 300), false),
    };
    What::File { seed: random.between(1, u64::MAX - 1), size, hole }
}

/// A node of a kind, with everything else about it.
pub(super) fn node(random: &mut Random, what: What) -> Node {
    let mode = if what == What::Directory {
        random.pick(&[0o755, 0o700, 0o2775, 0o1777, 0o555])
    } else {
        random.pick(&[0o644, 0o600, 0o755, 0o444, 0o4755, 0o2711, 0o666])
    };
    let holds = matches!(what, What::File { .. } | What::Directory);
    let attributes = if holds && random.chance(20) { attributes(random) } else { BTreeMap::new() };
    let acl = (holds && random.chance(20)).then(|| acl(random));
    let (owner, group) = if is_root() {
        (random.pick(&[0, 0, 1000, 70_000]), random.pick(&[0, 0, 1000, 70_001]))
    } else {
        (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    };
    Node { what, mode, owner, group, mtime: time(random), attributes, acl }
}

/// A time, with nanoseconds.
pub(super) fn time(random: &mut Random) -> (i64, u32) {
    let (from, to) = random.pick(&TIMES);
    let seconds = from + random.between(0, to.abs_diff(from)) as i64;
    // Never such as a coarser file system would keep.
    let nanos = random.between(0, 9_999_999) as u32 * 100 + random.between(3, 96) as u32;
    (seconds, if random.chance(20) { 0 } else { nanos })
}

/// Extended attributes.
pub(super) fn attributes(random: &mut Random) -> BTreeMap<&'static str, Vec<u8>> {
    let mut found = BTreeMap::new();
    let names: &[&str] = if is_root() { &["user.note", "user.x y", "trusted.t"] } else { &["user.note", "user.x y"] };
    for _ in 0..random.between(1, 2) {
        let length = if random.chance(10) { 700 } else { random.between(0, 9) };
        let byte = random.between(0, 255) as u8;
        found.insert(random.pick(names), vec![byte; length as usize]);
    }
    found
}

/// Rights of one more user.
pub(super) fn acl(random: &mut Random) -> (u32, u8) {
    (random.pick(&[1, 1000, 70_002]), random.between(0, 7) as u8)
}
