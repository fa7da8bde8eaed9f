use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::*;
use crate::lock::record::tests::{note, record};
use Answer::{Found as There, Lost, Refreshed, Removed, Taken};

fn perform(shell: &[&str], batch: &[Op]) -> Vec<Answer> {
    let mut child = Command::new(shell[0])
        .args(&shell[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{shell:?}: {error}"));
    child.stdin.take().unwrap().write_all(script(batch, "nonce").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let noisy = [b"Welcome!\n@nonsense 0 taken\n", &output.stdout[..]].concat();
    parse(batch, "nonce", &noisy).unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stdout)))
}

fn take(path: &Path, token: &str, stale: Option<&str>) -> Op {
    Op::Take { path: path.into(), record: record(token), replaces: stale.map(record) }
}

fn refresh(path: &Path, token: &str) -> Op {
    Op::Refresh { path: path.into(), record: record(token) }
}

fn remove(path: &Path, token: &str) -> Op {
    Op::Remove { path: path.into(), record: record(token) }
}

fn look(path: &Path) -> Op {
    Op::Look { path: path.into() }
}

fn grow_old(path: &Path) {
    assert!(Command::new("touch").args(["-d", "100 seconds ago"]).arg(path).status().unwrap().success());
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// One life of a lock, in every shell that may be `/bin/sh` somewhere.
fn check(shell: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let sub = dir.path().join("a dir's \"name\" $(x) ;\n");
    let path = sub.join("x y'.lock");
    let held = |token: &str, answer: &Answer| matches!(answer, There(Found::File { content: Content::Director(r), .. }) if r.token == token);

    let answers = perform(shell, &[look(&path), take(&path, "a", None), refresh(&path, "a"), look(&path)]);
    assert_eq!(answers[..3], [There(Found::Absent), Taken, Refreshed]);
    assert!(held("a", &answers[3]), "{answers:?}");
    assert_eq!(names(&sub), ["x y'.lock"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), record("a").encode());

    let other = sub.join("other");
    let answers = perform(shell, &[take(&other, "b", None), take(&path, "b", None), look(&path)]);
    assert!(answers.len() == 2 && answers[0] == Taken && held("a", &answers[1]), "{answers:?}");
    assert_eq!(perform(shell, &[remove(&other, "b")]), [Removed]);

    assert!(held("a", &perform(shell, &[take(&path, "b", Some("a"))])[0]), "it is fresh");
    let answers = perform(shell, &[remove(&path, "b"), refresh(&path, "b")]);
    assert!(matches!(&answers[..], [Lost(_), Lost(why)] if why.contains("photos@laptop")), "{answers:?}");

    grow_old(&path);
    assert_eq!(perform(shell, &[refresh(&path, "a")]), [Lost("its lease ran out".into())]);
    assert_eq!(perform(shell, &[take(&path, "b", Some("a"))]), [Taken]);
    assert_eq!(names(&sub), ["x y'.lock"]);
    grow_old(&path);
    std::fs::write(sub.join(".x y'.lock.claim-b-0"), "").unwrap();
    assert!(held("b", &perform(shell, &[take(&path, "c", Some("b"))])[0]), "someone is replacing it");
    grow_old(&sub.join(".x y'.lock.claim-b-0"));
    assert_eq!(perform(shell, &[take(&path, "c", Some("b"))]), [Taken]);
    grow_old(&path);
    assert_eq!(perform(shell, &[remove(&path, "c")]), [Removed]);
    assert_eq!(names(&sub), [""; 0]);
    assert_eq!(perform(shell, &[remove(&path, "c")]), [Lost("it was removed".into())]);

    check_break(shell, &path);
    std::fs::write(&path, "4711").unwrap();
    let answers = perform(shell, &[take(&path, "d", None)]);
    assert!(
        matches!(&answers[..], [There(Found::File { content: Content::Foreign(pid), .. })] if pid == "4711"),
        "{answers:?}"
    );
    let link = sub.join("link");
    std::os::unix::fs::symlink(sub.join("target"), &link).unwrap();
    assert_eq!(perform(shell, &[take(&link, "d", None)]), [There(Found::Other("a symbolic link"))]);
    assert_eq!(perform(shell, &[take(&sub, "d", None)]), [There(Found::Other("a directory"))]);
    let below = path.join("below");
    assert!(matches!(&perform(shell, &[take(&below, "d", None)])[..], [Answer::Failed(_)]));
    assert_eq!(names(&sub), ["link", "x y'.lock"]);
}

/// A person breaks locks.
fn check_break(shell: &[&str], path: &Path) {
    let breaks = |seen: Option<&str>, age| {
        let (path, seen, age) = (path.into(), seen.map(record), Duration::from_secs(age));
        let note = note(seen.as_ref().map(|record| record.token.as_str()));
        perform(shell, &[Op::Break { path, seen, age, note }]).remove(0)
    };
    let notes = path.with_file_name(format!(".{}.broken", path.file_name().unwrap().to_string_lossy()));
    assert_eq!(perform(shell, &[take(path, "a", None)]), [Taken]);
    assert!(matches!(breaks(Some("b"), 0), There(Found::File { .. })), "another's than the one that was seen");
    assert!(matches!(breaks(None, 0), There(Found::File { .. })), "a director's");
    assert_eq!(breaks(Some("a"), 0), Removed);
    let lost = Lost("it was broken by ann@laptop at 1970-01-01T00:00:00Z".into());
    let answers = perform(shell, &[refresh(path, "a"), remove(path, "a"), refresh(path, "b")]);
    assert_eq!(answers, [lost.clone(), lost, Lost("it was removed".into())]);
    assert_eq!(breaks(Some("a"), 0), There(Found::Absent));
    std::fs::write(path, "4711").unwrap();
    assert!(matches!(breaks(None, 100), There(Found::File { .. })), "it is younger");
    grow_old(path);
    assert_eq!(breaks(None, 100), Removed);
    assert_eq!(std::fs::read_to_string(&notes).unwrap().lines().count(), 2);
    std::fs::remove_file(notes).unwrap();
}

#[test]
fn the_protocol_holds_in_dash() {
    check(&["dash"]);
}

#[test]
fn the_protocol_holds_in_bash() {
    check(&["bash", "--posix"]);
    check(&["bash"]);
}

#[test]
fn the_protocol_holds_in_busybox() {
    check(&["busybox", "sh"]);
}

#[test]
fn a_path_below_the_home_there_is_found() {
    let home = tempfile::tempdir().unwrap();
    let shell = ["env", &format!("HOME={}", home.path().display()), "sh"];
    let path = Path::new("~/a dir/x.lock");
    assert_eq!(perform(&shell, &[take(path, "a", None), look(path)])[0], Taken);
    assert_eq!(names(&home.path().join("a dir")), ["x.lock"]);
    assert_eq!(perform(&shell, &[remove(path, "a")]), [Removed]);
}

#[test]
fn a_script_that_broke_off_is_no_answer() {
    assert_eq!(parse(&[look(Path::new("/x"))], "n", b"\n@n 0 absent\n"), None);
    assert_eq!(parse(&[look(Path::new("/x"))], "n", b"\n@n end end\n"), None);
    assert_eq!(parse(&[look(Path::new("/x"))], "n", b"\n@n 1 absent\n\n@n end end\n"), None);
}

#[test]
fn content_cannot_pass_for_an_answer() {
    let answers = parse(&[look(Path::new("/x"))], "n", b"\n@n 0 file 3\n1\n@other 0 absent\n\n@n end end\n");
    assert!(matches!(answers.as_deref(), Some([There(Found::File { .. })])), "{answers:?}");
}

/// Runs a batch in a bash that is killed, with all that it started, before its `point`-th command. Whether it came to that.
fn crashed_at(point: usize, batch: &[Op]) -> bool {
    let trap = format!("set -T; at=0; trap 'at=$((at+1)); [ $at -le {point} ] || kill -KILL 0' DEBUG\n");
    let mut bash = Command::new("bash");
    let mut child = bash.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let text = [trap.as_bytes(), script(batch, "nonce").as_bytes()].concat();
    // A broken pipe is what a crash looks like from here.
    let _ = child.stdin.take().unwrap().write_all(&text);
    !child.wait().unwrap().success()
}

/// Lets a contender come who tries as a director does. Whether it got the lock.
fn contend(path: &Path) -> bool {
    match perform(&["dash"], &[take(path, "next", None)]).remove(0) {
        Taken => true,
        There(Found::File { content: Content::Director(stale), age }) if age >= stale.lease() => {
            perform(&["dash"], &[take(path, "next", Some(&stale.token))]) == [Taken]
        }
        There(_) => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_crash_before_any_command_leaves_nothing_that_needs_a_person() {
    type Scene = (&'static str, usize, fn(&Path), fn(&Path) -> Op);
    let scenes: [Scene; 4] = [
        ("take", 20, |_| {}, |path| take(path, "a", None)),
        ("take-over", 40, |path| held(path, "old", "100 seconds ago"), |path| take(path, "a", Some("old"))),
        ("refresh", 15, |path| held(path, "a", "now"), |path| refresh(path, "a")),
        ("late release", 25, |path| held(path, "a", "45 seconds ago"), |path| remove(path, "a")),
    ];
    for (scene, least, prepare, op) in scenes {
        let mut points = 0;
        loop {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.lock");
            prepare(&path);
            if !crashed_at(points, &[op(&path)]) {
                break;
            }
            if !contend(&path) {
                names(dir.path()).iter().for_each(|name| grow_old(&dir.path().join(name)));
                assert!(contend(&path), "{scene}, point {points}: {:?}", names(dir.path()));
            }
            assert_eq!(perform(&["dash"], &[remove(&path, "next")]), [Removed]);
            points += 1;
        }
        assert!(points >= least, "{scene} has {points} points");
    }
}

#[test]
fn a_stall_under_the_claim_changes_nothing_and_leaves_the_claim() {
    for (held_since, op) in [("100 seconds ago", true), ("now", false)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        held(&path, "old", held_since);
        // The clock goes on by more than half a lease once the claim is there.
        let date = format!(
            "date() {{ if [ -e {} ]; then echo $(($(command date +%s) + 40)); else command date +%s; fi; }}",
            dir.path().join(".x.lock.claim-old-0").display()
        );
        let shell = ["dash", "-c", &format!("{date}; . /dev/stdin")];
        let op = if op { take(&path, "a", Some("old")) } else { remove(&path, "old") };
        let answers = perform(&shell, &[op]);
        assert!(
            match &answers[..] {
                [There(Found::File { content: Content::Director(there), .. })] => there.token == "old",
                [Lost(why)] => why.contains("about to"),
                _ => false,
            },
            "{answers:?}"
        );
        assert_eq!(names(dir.path()), [".x.lock.claim-old-0", "x.lock"]);
    }
}

fn held(path: &Path, token: &str, since: &str) {
    std::fs::write(path, record(token).encode()).unwrap();
    assert!(Command::new("touch").args(["-d", since]).arg(path).status().unwrap().success());
}
