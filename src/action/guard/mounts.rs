//! Whether a path lies where a file system is missing: below a mount point that `/etc/fstab` names and on which nothing is mounted.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The file systems that should be there (fstab(5)).
const FSTAB: &str = "/etc/fstab";
/// Those that are (proc(5)).
const MOUNTS: &str = "/proc/self/mountinfo";

/// Says which of these paths lies where nothing is mounted; `None` when none does, or that cannot be told.
pub(super) fn unmounted(paths: &[OsString]) -> Option<String> {
    let (fstab, mounts) = (fs::read(FSTAB).ok()?, fs::read(MOUNTS).ok()?);
    let (wanted, mounted) = (points(&fstab, 1), points(&mounts, 4));
    paths.iter().find_map(|path| {
        let real = fs::canonicalize(path).ok()?;
        let point = missing(&real, &wanted, &mounted)?;
        let point = point.display();
        Some(format!(
            "nothing is mounted on {point}, where the source {} is and {FSTAB} has a file system",
            path.display()
        ))
    })
}

/// The mount point that is missing for a path: the nearest above it of those that are wanted.
fn missing<'a>(path: &Path, wanted: &'a [PathBuf], mounted: &[PathBuf]) -> Option<&'a Path> {
    let nearest = wanted.iter().filter(|point| path.starts_with(point)).max_by_key(|point| point.as_os_str().len())?;
    // What is mounted below it, or by hand between it and the path, is another matter.
    let is_there = mounted.iter().any(|point| path.starts_with(point) && point.starts_with(nearest));
    (!is_there && nearest != Path::new("/")).then_some(nearest.as_path())
}

/// The mount points in a column of such a file. Both write blanks, tabs, newlines and backslashes of names in octal.
fn points(text: &[u8], column: usize) -> Vec<PathBuf> {
    let lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.starts_with(b"#"));
    let words = lines.filter_map(|line| {
        line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).nth(column).map(unescape)
    });
    words.filter(|point| point.as_bytes().starts_with(b"/")).map(PathBuf::from).collect()
}

fn unescape(word: &[u8]) -> OsString {
    let mut name = Vec::new();
    let mut rest = word;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| byte == b'\\').and_then(|digits| OsStr::from_bytes(digits).to_str());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                name.push(byte);
                rest = &tail[3..];
            }
            None => {
                name.push(byte);
                rest = tail;
            }
        }
    }
    OsString::from_vec(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: &[u8] =
        b"# disks\nUUID=1 / ext4 defaults 0 1\n/dev/b\t/mnt/usb\\040disk  ext4 noauto\nUUID=2 none swap sw\n\
        /dev/c /srv ext4 defaults 0 2\n";
    const MOUNTED: &[u8] =
        b"22 1 8:1 / / rw - ext4 /dev/a rw\n23 22 8:2 / /srv rw shared:1 - ext4 /dev/c rw\n24 22 0:5 / /mnt rw - tmpfs x rw\n";

    #[test]
    fn a_path_below_a_mount_point_on_which_nothing_is_mounted_is_found() {
        let (wanted, mounted) = (points(WANTED, 1), points(MOUNTED, 4));
        assert_eq!(wanted, ["/", "/mnt/usb disk", "/srv"].map(PathBuf::from));
        for (path, expected) in [
            ("/mnt/usb disk/photos", Some("/mnt/usb disk")),
            ("/mnt/usb disk", Some("/mnt/usb disk")),
            ("/mnt/usb", None),
            ("/srv/data", None),
            ("/home", None),
            ("/", None),
        ] {
            assert_eq!(missing(Path::new(path), &wanted, &mounted), expected.map(Path::new), "{path}");
        }
        let by_hand = [mounted, vec![PathBuf::from("/mnt/usb disk/photos")]].concat();
        assert_eq!(missing(Path::new("/mnt/usb disk/photos/x"), &wanted, &by_hand), None);
        assert_eq!(missing(Path::new("/srv/data"), &wanted, &[]), Some(Path::new("/srv")));
    }
}
