use super::super::probe::Answers;
use super::super::probe::Questions;
use super::*;

/// What was seen at `path`: its flags, those of the nearest directory above, and which that is.
fn seen(path: &str, flags: &str, above_flags: &str, above: &str, df: &[&str; 2]) -> Seen {
    let mut questions = Questions::default();
    questions.path(OsStr::new(path));
    let output = format!(
        "\n@w 0 path {flags}\n\n@w 0 above {above_flags} {above}\n\n@w 0 bytes {}\n\n@w 0 inodes {}\n\n@w 0 end\n",
        df[0], df[1]
    );
    Answers::parse(&questions, "w", output.as_bytes()).expect("complete").paths.remove(0)
}

const ROOMY: [&str; 2] = ["d 100000 50000 50000 50% /", "d 1000 10 990 1% /"];

fn end(opts: &[&str]) -> End {
    End {
        name: "job j, action a".into(),
        opts: opts.iter().map(OsString::from).collect(),
        program: "rsync".into(),
        sources: Vec::new(),
        dest: None,
        crosses: true,
    }
}

#[track_caller]
fn check_destination(opts: &[&str], path: &str, flags: &str, above_flags: &str, above: &str, expected: &str) {
    let finding = destination("h", &end(opts), OsStr::new(path), &seen(path, flags, above_flags, above, &ROOMY));
    assert!(finding.to_string().starts_with(expected), "{finding}");
}

#[test]
fn rsync_makes_one_level_of_a_destination() {
    check_destination(&[], "/b/x", "drwx", "drwx", "/b/x", "ok    h  destination: /b/x can be written");
    check_destination(
        &[],
        "/b/x",
        "drx",
        "drx",
        "/b/x",
        "fail  h  destination: /b/x cannot be written, into which job j, action a copies",
    );
    check_destination(&["-n"], "/b/x", "drx", "drx", "/b/x", "ok    h  destination: /b/x is not written");
    check_destination(&[], "/b/x/", "-", "drwx", "/b", "ok    h  destination: /b/x/ is not there yet and can be made");
    check_destination(&[], "/x", "-", "drwx", "/", "ok    h  destination: /x is not there yet and can be made");
    check_destination(
        &[],
        "/b/x/y",
        "-",
        "drwx",
        "/b",
        "fail  h  destination: /b/x/y is not there, into which job j, action a copies, and /b is the last",
    );
    check_destination(&["--mkpath"], "/b/x/y", "-", "drwx", "/b", "ok ");
    check_destination(
        &[],
        "/b/x",
        "-",
        "drx",
        "/b",
        "fail  h  destination: /b/x is not there and cannot be made in /b",
    );
    check_destination(&[], "x", "-", "drwx", ".", "ok ");
}

#[track_caller]
fn check_source(opts: &[&str], flags: &str, expected: &str) {
    let finding = source("h", &end(opts), OsStr::new("/s"), &seen("/s", flags, "drwx", "/", &ROOMY));
    assert!(finding.to_string().starts_with(expected), "{finding}");
}

#[test]
fn a_source_is_there_and_can_be_read() {
    check_source(&[], "drx", "ok    h  source: /s can be read");
    check_source(&[], "fr", "ok ");
    check_source(&[], "-", "fail  h  source: /s is not there");
    check_source(&[], "l", "fail  h  source: /s is not there");
    let finding =
        source("h", &end(&[]), OsStr::new("/root/s"), &seen("/root/s", "-", "d", "/root", &ROOMY)).to_string();
    assert!(finding.contains("/root/s cannot be reached, which job j, action a reads: /root is closed"), "{finding}");
    check_source(&["--ignore-missing-args"], "-", "ok ");
    check_source(&[], "dr", "fail  h  source: /s cannot be read");
    check_source(&[], "fw", "fail  h  source: /s cannot be read");
    check_source(&["--remove-source-files"], "drx", "fail  h  source: /s cannot be changed");
    check_source(&["--remove-source-files", "-n"], "drx", "ok ");
}

#[track_caller]
fn check_space(bytes: &str, inodes: &str, expected: &str) {
    let finding = space("h", "for x", &seen("/b", "drwx", "drwx", "/b", &[bytes, inodes]));
    let text = finding.map(|finding| finding.to_string()).unwrap_or_default();
    assert!(text.starts_with(expected) && text.is_empty() == expected.is_empty(), "{text}");
}

#[test]
fn little_room_is_a_warning_and_none_a_failure() {
    check_space(ROOMY[0], ROOMY[1], "ok    h  space: 51.2 MB of 102 MB are free at /b, for x");
    check_space("d 100000 96000 4000 96% /", ROOMY[1], "warn  h  space: only 4.1 MB of 102 MB are free at /b");
    check_space("d 100000 100000 0 100% /", ROOMY[1], "fail  h  space: 0 B of 102 MB are free at /b");
    check_space(ROOMY[0], "d 1000 1000 0 100% /", "fail  h  space: no inode of 1000 is free at /b");
    check_space(ROOMY[0], "d 1000 980 20 98% /", "warn  h  space: only 20 of 1000 inodes are free");
    check_space(ROOMY[0], "btrfs 0 0 0 - /", "ok ");
    check_space("", "", "");
}

#[track_caller]
fn check_clock(theirs: i64, before: f64, after: f64, expected: &str) {
    let finding = clock("h", theirs, before, after).to_string();
    assert!(finding.starts_with(expected), "{finding}");
}

#[test]
fn a_clock_is_judged_by_no_more_than_what_is_known() {
    check_clock(1000, 1000.1, 1000.2, "ok ");
    check_clock(999, 1000.1, 1000.2, "ok ");
    check_clock(1003, 1000.1, 1000.9, "warn  h  clock: its clock is at least 2.1 s ahead of ours");
    check_clock(1002, 1000.1, 1000.9, "ok ");
    check_clock(990, 1000.5, 1000.6, "warn  h  clock: its clock is at least 9.5 s behind ours");
    // A login shell that takes five seconds hides as much.
    check_clock(1004, 1000.0, 1005.0, "ok ");
}

#[test]
fn the_directory_of_a_pattern_is_looked_at() {
    let plain = |path| without_wildcards(OsStr::new(path));
    assert_eq!((plain("/a/b*/c"), plain("/a/b")), ("/a".into(), "/a/b".into()));
    assert_eq!((plain("/*"), plain("x?")), ("/".into(), "".into()));
}
