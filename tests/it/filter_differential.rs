//! Filter rules against rsync itself: which names of generated trees it lists under generated rules.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rsyncdirector::random::Sequence;
use rsyncdirector::rsync::filter::{Filters, Scope, Side};
use rsyncdirector::scan::{Attributes, Terms, Walk, WalkError};

/// Cases in each run; `RD_FILTER_CASES` asks for more.
const CASES: u64 = 5_000;
/// Threads, each of which grows trees of its own.
const THREADS: u64 = 4;
/// Rules that are tried on one tree.
const RULES_A_TREE: u64 = 25;

const NAMES: &[&str] = &[
    "a", "b", "foo", "bar", "x", "a.o", "b.c", "foo.o", "x~", "a b", "[x]", "core", "tags", "a-b", "*", "fo", ".hid",
    "A", "1", "b\\c", "#t",
];
const PARTS: &[&str] = &[
    "a",
    "b",
    "foo",
    "bar",
    "x",
    "*",
    "*",
    "?",
    "**",
    "*.o",
    "[ab]",
    "[!a]*",
    "[^b]",
    "[a-c]*",
    "f*",
    "*o",
    "?oo",
    "[[:alpha:]]",
    "[[:digit:][:upper:]]",
    "a*b",
    "\\*",
    "\\[x\\]",
    "[x]",
    "a b",
    "***",
    "b\\c",
    "b\\\\c*",
    "[]]",
    "[a-]b",
    "*-*",
    "[*]",
    "fo?",
    "**o",
    "[[:foo:]]",
    "[a",
    "*\\",
    "A",
    "f**o",
    ".*",
];

fn pattern(random: &mut Sequence) -> String {
    let mut pattern = String::new();
    if random.below(4) == 0 {
        pattern.push('/');
    }
    for index in 0..=[0, 0, 0, 1, 1, 2][random.below(6)] {
        if index > 0 {
            pattern.push('/');
        }
        pattern.push_str(random.pick(PARTS));
    }
    match random.below(8) {
        0 | 1 => pattern.push('/'),
        2 => pattern.push_str("/***"),
        3 => pattern.push_str("/**"),
        _ => {}
    }
    pattern
}

fn rule(random: &mut Sequence) -> String {
    let head = random.pick(&[
        "-",
        "-",
        "-",
        "+",
        "+",
        "H",
        "S",
        "P",
        "R",
        "-!",
        "+!",
        "-s",
        "-r",
        "+s",
        "-p",
        "-,s",
        "exclude",
        "include",
        "hide",
        "show",
        "protect",
        "exclude,!",
    ]);
    let gap = if random.below(6) == 0 { "_" } else { " " };
    match random.below(40) {
        0 => "!".to_owned(),
        _ => format!("{head}{gap}{}", pattern(random)),
    }
}

pub(super) fn rules(random: &mut Sequence, count: usize) -> String {
    let mut text = String::new();
    for _ in 0..random.below(count + 1) {
        text += &match random.below(10) {
            0 => "# a comment\n".to_owned(),
            1 => "\n".to_owned(),
            _ => rule(random) + "\n",
        };
    }
    text
}

fn patterns(random: &mut Sequence) -> String {
    (0..random.below(4)).map(|_| pattern(random) + "\n").collect()
}

/// A tree with files of rules in it.
pub(super) fn grow(random: &mut Sequence, directory: &Path, depth: usize) {
    fs::create_dir_all(directory).expect("made");
    for _ in 0..random.below(5) + 1 {
        let path = directory.join(random.pick(NAMES));
        if depth < 4 && random.below(5) < 2 {
            if !path.exists() {
                grow(random, &path, depth + 1);
            }
        } else if !path.exists() {
            fs::write(path, "").expect("written");
        }
    }
    let mut put = |name: &str, text: String| {
        if random.below(5) == 0 && !directory.join(name).is_dir() {
            fs::write(directory.join(name), text).expect("written");
        }
    };
    let mut other = Sequence::of(directory.as_os_str().len() as u64 * 77 + depth as u64 + 1);
    put(".rules", rules(&mut other, 3));
    put(".rsync-filter", rules(&mut other, 3));
    put(".names", patterns(&mut other));
    put(".cvsignore", patterns(&mut other).replace('\n', " "));
}

pub(super) fn options(random: &mut Sequence, files: &Path) -> Vec<String> {
    let mut options = Vec::new();
    for number in 0..=random.below(5) {
        let file = files.join(number.to_string()).display().to_string();
        match random.below(16) {
            0..4 => options.push(format!("--exclude={}", pattern(random))),
            4..6 => options.push(format!("--include={}", pattern(random))),
            6..10 => options.push(format!("--filter={}", rule(random))),
            10 => {
                fs::write(&file, rules(random, 4)).expect("written");
                options.push(format!("--filter={} {file}", random.pick(&[".", "merge", ".s", ".,p"])));
            }
            11 => {
                fs::write(&file, patterns(random) + &format!("- {}\n+ {}\n", pattern(random), pattern(random)))
                    .expect("written");
                options.push(format!("--{}={file}", random.pick(&["exclude-from", "include-from"])));
            }
            12 => options.push(format!(
                "--filter={}",
                random.pick(&[": .rules", "dir-merge .rules", ":n .rules", ":e .rules", ":s .rules", ":p .rules"])
            )),
            13 => options.push(format!(
                "--filter={}",
                random.pick(&[
                    ":- .names",
                    ":+ .names",
                    ":n- .names",
                    "dir-merge,- .names",
                    ":C",
                    ":w- .names",
                    ":en- .names",
                    "-C"
                ])
            )),
            14 => options.push(random.pick(&["-F", "-FF", "-F"]).to_owned()),
            _ => options.push(random.pick(&["-C", "--delete-excluded", "--exclude=- x", "--include=!"]).to_owned()),
        }
    }
    options
}

/// What rsync lists, or `None` where it refuses the rules.
fn by_rsync(options: &[String], source: &Path, only: &[String], home: &Path) -> Option<Vec<Vec<u8>>> {
    let mut command = Command::new("rsync");
    // Delete-excluded is refused without a deletion, and that without a destination.
    command
        .args(["-r", "-8", "--no-human-readable", "--out-format=%n"])
        .args(options.iter().filter(|option| *option != "--delete-excluded"));
    let output = command
        .arg("-n")
        .args(operands(source, only))
        .arg(home.join("nowhere/"))
        .env("HOME", home)
        .env_remove("CVSIGNORE")
        .output();
    let output = output.expect("rsync is installed");
    if !output.status.success() {
        return None;
    }
    let lines = output.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let mut names: Vec<Vec<u8>> =
        lines.filter_map(|line| line.strip_suffix(b"/").or(Some(line))).map(<[u8]>::to_vec).collect();
    names.retain(|name| name != b"." && !name.starts_with(b"created directory "));
    names.sort();
    Some(names)
}

/// A tree as rsync is given it: its root, or names in it.
pub(super) fn operands(source: &Path, only: &[String]) -> Vec<OsString> {
    let root = || vec![source.join("").into_os_string()];
    if only.is_empty() { root() } else { only.iter().map(|name| source.join(name).into_os_string()).collect() }
}

fn by_us(options: &[String], source: &Path, only: &[String], home: &Path) -> Result<Vec<Vec<u8>>, WalkError> {
    let walk = walk(options, source, only, home, Side::Sender)?;
    let mut names = walk.map(|entry| Ok(entry?.path)).collect::<Result<Vec<_>, WalkError>>()?;
    names.retain(|name| !name.is_empty());
    names.sort();
    Ok(names)
}

/// A walk through one end of a sync.
pub(super) fn walk(
    options: &[String],
    root: &Path,
    only: &[String],
    home: &Path,
    side: Side,
) -> Result<Walk, WalkError> {
    let options: Vec<OsString> = options.iter().map(OsString::from).collect();
    let mut named = |path: &[u8]| read(Path::new(std::ffi::OsStr::from_bytes(path)));
    let filters = Filters::of(&options, &mut named, Some(home.as_os_str().as_bytes()), b"")?;
    let mut scope = Scope::new(Arc::new(filters));
    if scope.looks_above() {
        let parents: Vec<&Path> = root.ancestors().skip(1).collect();
        for parent in parents.into_iter().rev() {
            let lead = root.strip_prefix(parent).expect("below").as_os_str().as_bytes();
            let mut read = |name: &[u8]| read(&parent.join(std::ffi::OsStr::from_bytes(name)));
            scope = scope.enter_above(&[lead, b"/"].concat(), &mut read)?;
        }
    }
    let only = only.iter().map(|name| name.clone().into_bytes()).collect();
    Walk::new(root, Terms { scope, side, one_file_system: false, meta: false, attributes: Attributes::default(), only })
}

/// Some of the names in a tree, or none.
pub(super) fn some_names(random: &mut Sequence, tree: &Path) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(tree).expect("a directory") {
        names.push(entry.expect("an entry").file_name().into_string().expect("text"));
    }
    names.sort();
    let takes = random.below(4) == 0;
    names.retain(|_| takes && random.below(2) == 0);
    names
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Tries rules on trees; how many told something.
fn cases(seed: u64, count: u64) -> u64 {
    let mut told = 0;
    let mut random = Sequence::of(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let directory = tempfile::tempdir().expect("a directory");
    let home = directory.path().join("home");
    fs::create_dir(&home).expect("made");
    fs::write(home.join(".cvsignore"), "fo?\n").expect("written");
    for case in 0..count {
        let source = directory.path().join(format!("{}/src", case / RULES_A_TREE));
        if case % RULES_A_TREE == 0 {
            grow(&mut random, &source, 0);
            fs::write(source.with_file_name(".rsync-filter"), rules(&mut random, 2)).expect("written");
        }
        let options = options(&mut random, &home);
        let only = some_names(&mut random, &source);
        let Some(expected) = by_rsync(&options, &source, &only, &home) else { continue };
        match by_us(&options, &source, &only, &home) {
            Ok(found) => {
                assert!(found == expected, "{only:?} {}", difference(&options, &source, &found, &expected));
            }
            Err(error) => panic!("rsync understands {options:?}, we say {error}"),
        }
        told += 1;
    }
    told
}

pub(super) fn difference(options: &[String], source: &Path, found: &[Vec<u8>], expected: &[Vec<u8>]) -> String {
    let only = |these: &[Vec<u8>], those: &[Vec<u8>]| -> Vec<String> {
        these
            .iter()
            .filter(|name| !those.contains(name))
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect()
    };
    let mut text = format!(
        "{options:?} in {}\nonly we: {:?}\nonly rsync: {:?}\n",
        source.display(),
        only(found, expected),
        only(expected, found)
    );
    let files = Command::new("grep")
        .args(["-r", "--include=.*", "", "."])
        .current_dir(source.parent().expect("above"))
        .output()
        .expect("grep");
    text += &String::from_utf8_lossy(&files.stdout);
    for (number, option) in options.iter().enumerate() {
        let file = option.rsplit(['=', ' ']).next().unwrap_or_default();
        if file.starts_with('/') && Path::new(file).is_file() {
            text += &format!("file of option {number}: {:?}\n", fs::read_to_string(file));
        }
    }
    text
}

#[test]
fn names_are_left_out_as_rsync_leaves_them_out() {
    let count = std::env::var("RD_FILTER_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
    let told: u64 = std::thread::scope(|scope| {
        // Some rules are refused by rsync, so a few more are tried.
        let threads: Vec<_> =
            (1..=THREADS).map(|seed| scope.spawn(move || cases(seed, count * 6 / 5 / THREADS))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).sum()
    });
    assert!(told >= count * 9 / 10, "rsync refused too many of the rules: {told} of {count} were left");
}
