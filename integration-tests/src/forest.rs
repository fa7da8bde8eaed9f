//! Generated trees, for comparing what two ways of copying make of them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::faults::random::Random;

/// Names that break programs.
const ODD: [&[u8]; 8] = [b"a b", b"#c", b";s", b"new\nline", b"\xff\xfe", b"back\\#012slash", b"-v", b"it's"];

/// Generated times lie before this one, seconds since the epoch; those that somebody makes now, after it.
const AFTER: i64 = 1_600_000_000;

/// Makes a tree with directories, links, odd names, modes and times, and some files of a few MiB (holes, so they cost little).
pub fn grow(random: &mut Random, root: &Path) {
    fs::create_dir_all(root).expect("the root");
    let mut dirs = vec![root.to_owned()];
    for number in 0..random.between(2, 6) {
        let parent = &dirs[random.index(dirs.len())];
        let dir = parent.join(format!("d{number}"));
        fs::create_dir(&dir).expect("a directory");
        dirs.push(dir);
    }
    let mut files = Vec::new();
    for number in 0..random.between(3, 25) {
        let dir = &dirs[random.index(dirs.len())];
        let odd = OsStr::from_bytes(ODD[random.index(ODD.len())]);
        let name = if random.chance(25) {
            odd.to_owned()
        } else {
            format!("f{number}.{}", if random.chance(20) { "o" } else { "txt" }).into()
        };
        files.push(dir.join(name));
    }
    for number in 0..random.between(3, 5) {
        files.push(dirs[random.index(dirs.len())].join(format!("big{number}")));
    }
    for file in &files {
        let is_big = file.file_name().is_some_and(|name| name.as_bytes().starts_with(b"big"));
        write(random, file, if is_big { random.clone().between(4 << 20, 7 << 20) } else { 0 });
    }
    for number in 0..random.between(0, 4) {
        let target = files[random.index(files.len())].file_name().expect("a name").to_owned();
        let _ = symlink(target, dirs[random.index(dirs.len())].join(format!("link{number}")));
    }
    for number in 0..random.between(0, 3) {
        let _ = fs::hard_link(
            &files[random.index(files.len())],
            dirs[random.index(dirs.len())].join(format!("hard{number}")),
        );
    }
    for dir in dirs.iter().rev() {
        fs::set_permissions(dir, fs::Permissions::from_mode(random.pick(&[0o755, 0o700, 0o555, 0o2775])))
            .expect("chmod");
        touch(random, dir);
    }
}

fn write(random: &mut Random, path: &Path, size: u64) {
    let mut file = File::create(path).expect("a file");
    write!(file, "{}", random.between(0, u64::MAX - 1)).expect("content");
    if size > 0 {
        file.set_len(size).expect("its size");
    }
    fs::set_permissions(path, fs::Permissions::from_mode(random.pick(&[0o644, 0o600, 0o755, 0o444]))).expect("chmod");
    touch(random, path);
}

fn touch(random: &mut Random, path: &Path) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(random.between(1_500_000_000, AFTER as u64 - 1));
    File::open(path).and_then(|file| file.set_times(FileTimes::new().set_modified(time))).expect("a time");
}

/// Changes some of a tree's entries: other content, mode or time, gone, new, a directory in the place of a file and the reverse.
pub fn disturb(random: &mut Random, root: &Path) {
    let mut paths: Vec<PathBuf> = look(root).into_keys().filter(|path| !path.as_os_str().is_empty()).collect();
    paths.reverse();
    for path in paths.iter().map(|path| root.join(path)) {
        if !random.chance(35) || path.symlink_metadata().is_err() {
            continue;
        }
        let is_dir = path.symlink_metadata().is_ok_and(|it| it.is_dir());
        match random.between(0, 5) {
            0 | 1 if is_dir => fs::remove_dir_all(&path).expect("remove"),
            0 | 1 => fs::remove_file(&path).expect("remove"),
            2 if is_dir => {
                fs::remove_dir_all(&path).expect("remove");
                write(random, &path, 0);
            }
            2 => {
                fs::remove_file(&path).expect("remove");
                fs::create_dir(&path).expect("a directory");
                write(random, &path.join("inside"), 0);
            }
            3 if is_dir => write(random, &path.join("extra.txt"), 0),
            4 if is_dir => write(random, &path.join("extra.o"), 0),
            _ if !is_dir => {
                fs::remove_file(&path).expect("remove");
                write(random, &path, 0);
            }
            _ => touch(random, &path),
        }
    }
}

/// What can be seen of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    mode: u32,
    owner: (u32, u32),
    /// `None` for one that is not generated: of now.
    modified: Option<(i64, i64)>,
    /// The first path in order that has the same inode.
    first_link: PathBuf,
    /// A file's bytes, without the zeros at its end, and its length; a link's target.
    content: (Vec<u8>, u64),
}

/// Everything in a tree by its path, the root being the empty one; nothing if there is no such tree.
pub fn look(root: &Path) -> BTreeMap<PathBuf, Seen> {
    if root.symlink_metadata().is_err() {
        return BTreeMap::new();
    }
    let mut paths = vec![PathBuf::new()];
    let mut at = 0;
    while at < paths.len() {
        let full = root.join(&paths[at]);
        if full.symlink_metadata().is_ok_and(|it| it.is_dir()) {
            let names = fs::read_dir(&full).expect("a directory").map(|entry| entry.expect("an entry").file_name());
            let below: Vec<_> = names.map(|name| paths[at].join(name)).collect();
            paths.extend(below);
        }
        at += 1;
    }
    paths.sort();
    let mut links = BTreeMap::new();
    let seen = |path: PathBuf| {
        let full = root.join(&path);
        let it = full.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", full.display()));
        let content = match it.file_type() {
            kind if kind.is_symlink() => fs::read_link(&full).expect("a target").into_os_string().into_encoded_bytes(),
            kind if kind.is_file() => fs::read(&full).expect("content"),
            _ => Vec::new(),
        };
        let end = content.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let first_link = links.entry(it.ino()).or_insert_with(|| path.clone()).clone();
        let is_generated = !it.is_symlink() && it.mtime() < AFTER;
        let modified = is_generated.then(|| (it.mtime(), it.mtime_nsec()));
        let size = if it.is_dir() { 0 } else { it.len() };
        let seen = Seen {
            mode: it.mode(),
            owner: (it.uid(), it.gid()),
            modified,
            first_link,
            content: (content[..end].to_vec(), size),
        };
        (path, seen)
    };
    paths.into_iter().map(seen).collect()
}
