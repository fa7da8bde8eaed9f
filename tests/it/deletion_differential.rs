//! What a destination has too much, against rsync itself: which names of generated trees it deletes under generated rules.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use rsyncdirector::random::Sequence;
use rsyncdirector::rsync::filter::Side;
use rsyncdirector::scan::WalkError;
use rsyncdirector::verify::{Class, Depth, Judge, Judged, Promise, join};

use super::filter_differential::{difference, grow, operands, options, rules, some_names, walk};

/// Cases in each run; `RD_DELETION_CASES` asks for more.
const CASES: u64 = 2_400;
/// Threads, each of which grows trees of its own.
const THREADS: u64 = 4;
/// Rules that are tried on one pair of trees.
const RULES_A_TREE: u64 = 20;

/// What rsync deletes, or `None` where it refuses the rules.
fn by_rsync(options: &[String], source: &Path, only: &[String], target: &Path, home: &Path) -> Option<Vec<Vec<u8>>> {
    let copy = target.with_file_name("copy");
    let mut before = Vec::new();
    names(target, b"", &mut before);
    clone(target, &copy, &before);
    let mut command = Command::new("rsync");
    command.args(["-r", "--size-only", "--delete"]).args(options).args(operands(source, only)).arg(copy.join(""));
    let output = command.env("HOME", home).env_remove("CVSIGNORE").output().expect("rsync is installed");
    let mut after = Vec::new();
    names(&copy, b"", &mut after);
    fs::remove_dir_all(&copy).expect("removed");
    // 23: what is kept in a directory may be in the way of a file.
    let understands = matches!(output.status.code(), Some(0 | 23));
    before.retain(|name| !after.contains(name));
    understands.then_some(before)
}

/// Copies names of a tree.
fn clone(tree: &Path, copy: &Path, names: &[Vec<u8>]) {
    fs::create_dir(copy).expect("made");
    for name in names {
        let (from, to) = (tree.join(OsStr::from_bytes(name)), copy.join(OsStr::from_bytes(name)));
        if from.is_dir() {
            fs::create_dir(to).expect("made");
        } else {
            fs::copy(from, to).expect("copied");
        }
    }
}

/// Everything below a directory, sorted.
fn names(root: &Path, directory: &[u8], found: &mut Vec<Vec<u8>>) {
    for entry in fs::read_dir(root.join(OsStr::from_bytes(directory))).expect("a directory") {
        let entry = entry.expect("an entry");
        let slash: &[u8] = if directory.is_empty() { b"" } else { b"/" };
        let path = [directory, slash, entry.file_name().as_bytes()].concat();
        found.push(path.clone());
        if entry.file_type().expect("a type").is_dir() {
            names(root, &path, found);
        }
    }
    found.sort();
}

/// What we say is too much there.
fn by_us(
    options: &[String],
    source: &Path,
    only: &[String],
    target: &Path,
    home: &Path,
) -> Result<Vec<Vec<u8>>, WalkError> {
    let promise = Promise::of(&["-r".into(), "--delete".into()]).expect("verifiable");
    let mut judge = Judge::new(&promise, Depth::Quick);
    let mut extra = Vec::new();
    let source = walk(options, source, only, home, Side::Sender)?;
    for pair in join(source, walk(options, target, only, home, Side::Receiver)?) {
        let pair = pair?;
        if matches!(judge.judge(&pair), Judged::Differs(Class::Extra, _)) {
            extra.push(pair.path().to_owned());
        }
    }
    extra.retain(|path| !judge.kept_after_all().contains(path));
    extra.sort();
    Ok(extra)
}

/// Whether a name is in a directory where the source has a file.
fn makes_way(source: &Path, name: &[u8]) -> bool {
    let mut above = Path::new(OsStr::from_bytes(name)).ancestors().skip(1);
    above.any(|directory| source.join(directory).is_file())
}

/// Tries rules on pairs of trees; how many told something, and how many names were deleted.
fn cases(seed: u64, count: u64) -> (u64, usize) {
    let (mut told, mut deleted) = (0, 0);
    let mut random = Sequence::of(seed.wrapping_mul(0xd1b5_4a32_d192_ed03) | 1);
    let directory = tempfile::tempdir().expect("a directory");
    let home = directory.path().join("home");
    fs::create_dir(&home).expect("made");
    fs::write(home.join(".cvsignore"), "fo?\n").expect("written");
    for case in 0..count {
        let pair = directory.path().join((case / RULES_A_TREE).to_string());
        let (source, target) = (pair.join("from/src"), pair.join("to/dest"));
        if case % RULES_A_TREE == 0 {
            for tree in [&source, &target] {
                grow(&mut random, tree, 0);
                fs::write(tree.with_file_name(".rsync-filter"), rules(&mut random, 2)).expect("written");
            }
        }
        let options = options(&mut random, &home);
        let only = some_names(&mut random, &source);
        let Some(mut expected) = by_rsync(&options, &source, &only, &target, &home) else { continue };
        match by_us(&options, &source, &only, &target, &home) {
            Ok(found) => {
                // A directory that the rules leave out and that is in the way of a file is told as such, and not entered.
                expected.retain(|name| found.contains(name) || !makes_way(&source, name));
                assert!(found == expected, "{only:?} {}", difference(&options, &pair.join("x"), &found, &expected));
            }
            Err(error) => panic!("rsync understands {options:?}, we say {error}"),
        }
        told += 1;
        deleted += expected.len();
    }
    (told, deleted)
}

#[test]
fn backups_are_protected_as_rsync_protects_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let (source, target) = (directory.path().join("src"), directory.path().join("dst"));
    fs::create_dir(&source).expect("made");
    fs::create_dir(&target).expect("made");
    for name in ["x~", "y", "z.bak"] {
        fs::write(target.join(name), "").expect("written");
    }
    let check = |options: &str, expected: &[&str]| {
        let options: Vec<String> = options.split(' ').map(String::from).collect();
        let expected: Vec<Vec<u8>> = expected.iter().map(|name| name.as_bytes().to_vec()).collect();
        let by_rsync = by_rsync(&options, &source, &[], &target, directory.path());
        assert_eq!(by_rsync.as_ref(), Some(&expected), "rsync {options:?}");
        assert_eq!(by_us(&options, &source, &[], &target, directory.path()).expect("walked"), expected, "{options:?}");
    };
    check("-b", &["y", "z.bak"]);
    check("-b --suffix=.bak", &["x~", "y"]);
    check("-b --backup-dir=../old --suffix=.bak", &["x~", "y", "z.bak"]);
    check("-b --delete-excluded", &["x~", "y", "z.bak"]);
    check("-b --filter=R_x~", &["x~", "y", "z.bak"]);
}

#[test]
fn names_are_too_much_where_rsync_deletes_them() {
    let count = std::env::var("RD_DELETION_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
    let (told, deleted) = std::thread::scope(|scope| {
        // Some rules are refused by rsync, so a few more are tried.
        let threads: Vec<_> =
            (1..=THREADS).map(|seed| scope.spawn(move || cases(seed, count * 6 / 5 / THREADS))).collect();
        let sums =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        sums.fold((0, 0), |sum, (told, deleted)| (sum.0 + told, sum.1 + deleted))
    });
    assert!(told >= count * 9 / 10, "rsync refused too many of the rules: {told} of {count} were left");
    assert!(deleted as u64 > count, "rsync deleted {deleted} names only");
}
