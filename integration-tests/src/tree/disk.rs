//! Trees made real.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path as Real, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, utimensat};
use rustix::fs::{llistxattr, lremovexattr, lsetxattr, makedev, mknodat};

use super::{Node, Path, Tree, What};

/// Makes a tree at a path where nothing is.
///
/// # Panics
/// When the file system does not take it.
pub fn make(root: &Real, tree: &Tree) {
    let paths: Vec<&Path> = tree.paths().collect();
    create(root, tree, &paths);
    finish(root, tree, &paths);
}

/// Makes one tree of another that is there.
///
/// # Panics
/// When the file system does not take it.
pub fn update(root: &Real, before: &Tree, after: &Tree) {
    let is_same = |path: &Path| {
        before.get(path) == after.get(path)
            && before.names_of(path) == after.names_of(path)
            && after.get(path).is_some()
    };
    for path in before.paths().filter(|path| !is_same(path)) {
        let (is, becomes) = (before.get(path), after.get(path));
        // A directory that stays one keeps what is in it.
        let stays = is.is_some_and(Node::is_directory) && becomes.is_some_and(Node::is_directory);
        if !stays {
            let real = real(root, path);
            match real.symlink_metadata() {
                Ok(about) if about.is_dir() => fs::remove_dir_all(&real).expect("removed"),
                Ok(_) => fs::remove_file(&real).expect("removed"),
                Err(_) => {}
            }
        }
    }
    let lacking: Vec<&Path> = after.paths().filter(|path| real(root, path).symlink_metadata().is_err()).collect();
    create(root, after, &lacking);
    let changed: Vec<&Path> = after.paths().filter(|path| !is_same(path)).collect();
    finish(root, after, &changed);
    // What was put into directories and taken out has changed their times.
    for path in after.paths().filter(|path| after.get(path).is_some_and(Node::is_directory)) {
        touch(&real(root, path), &after.nodes[after.names[path]]);
    }
}

/// The path of an entry.
pub fn real(root: &Real, path: &Path) -> PathBuf {
    if path.0.is_empty() { root.to_owned() } else { root.join(OsStr::from_bytes(&path.bytes())) }
}

fn create(root: &Real, tree: &Tree, paths: &[&Path]) {
    for path in paths {
        let real = real(root, path);
        let other = tree
            .names_of(path)
            .into_iter()
            .find(|name| name != *path && self::real(root, name).symlink_metadata().is_ok());
        if let Some(other) = other {
            fs::hard_link(self::real(root, &other), &real).expect("linked");
            continue;
        }
        let node = &tree.nodes[tree.names[*path]];
        let special = |kind: FileType, device| mknodat(CWD, &real, kind, Mode::RUSR, device).expect("made");
        match &node.what {
            What::Directory => fs::create_dir(&real).unwrap_or_else(|error| panic!("{}: {error}", real.display())),
            What::File { seed, size, hole } => write(&real, *seed, *size, *hole),
            What::Symlink(target) => symlink(OsStr::from_bytes(target), &real).expect("linked"),
            What::Fifo => special(FileType::Fifo, 0),
            What::Socket => special(FileType::Socket, 0),
            What::Device { block: true, minor } => special(FileType::BlockDevice, makedev(200, *minor)),
            What::Device { block: false, minor } => special(FileType::CharacterDevice, makedev(200, *minor)),
        }
    }
}

/// The bytes of a file. Those of another seed differ in the first.
fn write(path: &Real, seed: u64, size: u64, hole: bool) {
    let file = File::create(path).expect("a file");
    let bytes: Vec<u8> = seed.to_le_bytes().repeat(64);
    if hole {
        file.set_len(size).expect("its length");
    }
    let end = if hole { size.min(4096) } else { size };
    let mut at = 0;
    while at < end {
        let part = (end - at).min(bytes.len() as u64);
        file.write_all_at(&bytes[..part as usize], at).expect("written");
        at += part;
    }
}

/// Sets all that is beside content; of directories last, since what is put into them changes their times.
fn finish(root: &Real, tree: &Tree, paths: &[&Path]) {
    for path in paths.iter().rev() {
        let node = &tree.nodes[tree.names[*path]];
        let real = real(root, path);
        if super::draw::is_root() {
            lchown(&real, Some(node.owner), Some(node.group)).expect("its owner");
        }
        if !matches!(node.what, What::Symlink(_)) {
            attributes(&real, node);
            fs::set_permissions(&real, fs::Permissions::from_mode(node.mode)).expect("its mode");
        }
        touch(&real, node);
    }
}

fn attributes(path: &Real, node: &Node) {
    let mut names = vec![0; 4096];
    let length = llistxattr(path, &mut names[..]).expect("its attributes");
    for name in
        names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty() && !name.starts_with(b"security."))
    {
        lremovexattr(path, name).expect("removed");
    }
    // While it is the owner's to write.
    fs::set_permissions(path, fs::Permissions::from_mode(node.mode | 0o600)).expect("its mode");
    for (name, value) in &node.attributes {
        lsetxattr(path, *name, value, XattrFlags::empty()).expect("an attribute");
    }
    if let Some((user, rights)) = node.acl {
        lsetxattr(path, "system.posix_acl_access", &acl(node.mode, user, rights), XattrFlags::empty()).expect("an ACL");
    }
}

/// An ACL as acl(5) and the kernel's `posix_acl_xattr.h` have it: version, then tag, rights and number of each entry.
fn acl(mode: u32, user: u32, rights: u8) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let bits = |shift: u32| (mode >> shift & 7) as u16;
    // Owner, one more user, group, the mask (which stands in the mode's place for the group), others.
    let entries = [
        (1, bits(6), NOBODY),
        (2, u16::from(rights), user),
        (4, 5, NOBODY),
        (16, bits(3), NOBODY),
        (32, bits(0), NOBODY),
    ];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, number) in entries {
        bytes.extend(u16::to_le_bytes(tag));
        bytes.extend(rights.to_le_bytes());
        bytes.extend(number.to_le_bytes());
    }
    bytes
}

fn touch(path: &Real, node: &Node) {
    let time = Timespec { tv_sec: node.mtime.0, tv_nsec: i64::from(node.mtime.1) };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("its time");
}
