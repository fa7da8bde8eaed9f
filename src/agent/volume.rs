//! What a comparison must know of the file system that a directory is on. Found out by looking alone: nothing is made or changed.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statfs, statvfs, statx};

use super::proto::message::Volume;

/// statfs(2): the numbers of types, their names, and how finely they keep times, nanoseconds. ext4 keeps whole seconds where its inodes are old and
/// small, which nothing tells.
const TYPES: [(u32, &str, u32); 16] = [
    (0xef53, "ext4", 1),
    (0x5846_5342, "xfs", 1),
    (0x9123_683e, "btrfs", 1),
    (0x0102_1994, "tmpfs", 1),
    (0x2fc1_2fc1, "zfs", 1),
    (0xf2f5_2010, "f2fs", 1),
    (0x6969, "nfs", 1),
    (0xff53_4d42, "cifs", 100),
    (0xfe53_4d42, "smb2", 100),
    (0x5346_544e, "ntfs", 100),
    (0x7366_746e, "ntfs3", 100),
    (0x2011_bab0, "exfat", 10_000_000),
    (0x4d44, "vfat", 2_000_000_000),
    (0x482b, "hfsplus", 1_000_000_000),
    (0x6573_5546, "fuse", 1),
    (0x794c_7630, "overlay", 1),
];
/// So many names of a directory are looked at for one that has letters.
const NAMES_MAX: usize = 1000;

/// Looks at the file system of a directory.
///
/// # Errors
/// When the directory cannot be looked at.
pub fn look(root: &Path) -> io::Result<Volume> {
    let about = statx(CWD, root, AtFlags::empty(), StatxFlags::BASIC_STATS)?;
    let room = statvfs(root)?;
    // The field is wider than the numbers, and signed.
    let number = statfs(root)?.f_type as u32;
    let known = TYPES.iter().find(|(of, ..)| *of == number);
    Ok(Volume {
        id: (u64::from(about.stx_dev_major) << 32) | u64::from(about.stx_dev_minor),
        kind: known.map_or_else(|| format!("{number:#x}"), |(_, name, _)| (*name).to_owned()),
        granularity: known.map_or(1, |(.., granularity)| *granularity),
        is_case_sensitive: is_case_sensitive(root),
        size: room.f_blocks.saturating_mul(room.f_frsize),
        free: room.f_bavail.saturating_mul(room.f_frsize),
        free_files: (room.f_files > 0).then_some(room.f_favail),
    })
}

/// Whether a name that is there is not found when its letters have the other case.
fn is_case_sensitive(root: &Path) -> Option<bool> {
    let entries = fs::read_dir(root).ok()?.take(NAMES_MAX).filter_map(Result::ok);
    let (name, other) = entries
        .map(|entry| entry.file_name())
        .find_map(|name| swapped(name.as_bytes()).map(|other| (name.clone(), other)))?;
    let inode = |name: &[u8]| {
        let path = root.join(std::ffi::OsStr::from_bytes(name));
        let found = statx(CWD, &path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::INO);
        found.map(|found| found.stx_ino)
    };
    let found = inode(name.as_bytes()).ok()?;
    match inode(&other) {
        // Perhaps another file, of that very name.
        Ok(same) => Some(same != found),
        Err(rustix::io::Errno::NOENT) => Some(true),
        Err(_) => None,
    }
}

/// The name with its ASCII letters in the other case; `None` where it has none.
fn swapped(name: &[u8]) -> Option<Vec<u8>> {
    let swap =
        |byte: &u8| if byte.is_ascii_lowercase() { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
    let other: Vec<u8> = name.iter().map(swap).collect();
    (other != name).then_some(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_tells_its_file_system_and_stays_as_it_is() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(look(directory.path()).expect("looked at").is_case_sensitive, None, "no name to look for");
        fs::write(directory.path().join("1-2"), "").expect("written");
        fs::write(directory.path().join("Name"), "").expect("written");
        let volume = look(directory.path()).expect("looked at");
        assert_eq!(volume.is_case_sensitive, Some(true), "{volume:?}");
        assert!(volume.size > 0 && volume.free <= volume.size && volume.granularity >= 1, "{volume:?}");
        fs::write(directory.path().join("nAME"), "").expect("written");
        assert_eq!(look(directory.path()).expect("looked at").is_case_sensitive, Some(true), "two files");
        assert_eq!(fs::read_dir(directory.path()).expect("there").count(), 3);
        assert!(look(&directory.path().join("none")).is_err());
    }
}
