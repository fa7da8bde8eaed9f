use std::process::Command;

use super::claim::Claim;
use super::*;
use crate::clock;
use crate::lock::backend::Answer::{Found as There, Lost, Refreshed, Removed, Taken};
use crate::lock::record::tests::{note, record};

fn one(op: Op) -> Answer {
    perform(&[op]).remove(0)
}

fn take_op(path: &Path, token: &str) -> Op {
    Op::Take { path: path.into(), record: record(token), replaces: None }
}

fn replace_op(path: &Path, token: &str, stale: &str) -> Op {
    Op::Take { path: path.into(), record: record(token), replaces: Some(record(stale)) }
}

fn grow_old(path: &Path, seconds: i64) {
    let then = (clock::now().as_second() - seconds).max(0);
    let at = Timespec { tv_sec: then, tv_nsec: 0 };
    let file = File::open(path).unwrap();
    rustix::fs::futimens(&file, &Timestamps { last_access: at, last_modification: at }).unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_lock_is_taken_refreshed_and_removed_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/er/x.lock");
    let batch = [
        take_op(&path, "a"),
        Op::Refresh { path: path.clone(), record: record("a") },
        Op::Remove { path: path.clone(), record: record("a") },
    ];
    assert_eq!(perform(&batch), [Taken, Refreshed, Removed]);
    assert_eq!(names(path.parent().unwrap()), [""; 0]);
}

#[test]
fn a_second_taker_learns_who_holds_it_and_ends_its_batch() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.lock");
    assert_eq!(one(take_op(&path, "a")), Taken);
    assert_eq!(one(take_op(&path, "a")), Taken, "a repeated take whose answer was lost finds its own");
    let answers = perform(&[take_op(&path, "b"), take_op(&dir.path().join("y"), "b")]);
    assert!(
        matches!(&answers[..], [There(Found::File { content: Content::Director(r), .. })] if r.token == "a"),
        "{answers:?}"
    );
    assert_eq!(names(dir.path()), ["x.lock"]);
}

#[test]
fn what_is_not_ours_is_neither_refreshed_nor_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.lock");
    fs::write(&path, "4711\n").unwrap();
    assert!(matches!(one(Op::Refresh { path: path.clone(), record: record("a") }), Lost(_)));
    assert!(matches!(one(Op::Remove { path: path.clone(), record: record("a") }), Lost(_)));
    assert_eq!(fs::read(&path).unwrap(), b"4711\n");
}

#[test]
fn a_stale_lock_is_replaced_and_a_fresh_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.lock");
    assert_eq!(one(take_op(&path, "a")), Taken);
    assert!(matches!(one(replace_op(&path, "b", "a")), There(_)), "it is fresh");
    grow_old(&path, 61);
    assert!(matches!(one(Op::Refresh { path: path.clone(), record: record("a") }), Lost(_)));
    assert_eq!(one(replace_op(&path, "b", "a")), Taken);
    assert!(matches!(one(replace_op(&path, "c", "a")), There(_)), "another was faster");
    assert_eq!(names(dir.path()), ["x.lock"]);
}

#[test]
fn a_contender_that_crashed_in_a_take_over_is_stepped_over_after_a_lease() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.lock");
    assert_eq!(one(take_op(&path, "a")), Taken);
    grow_old(&path, 100);
    let claim = dir.path().join(".x.lock.claim-a-0");
    fs::write(&claim, "").unwrap();
    assert!(matches!(one(replace_op(&path, "b", "a")), There(_)), "the claim is fresh");
    grow_old(&claim, 100);
    assert_eq!(one(replace_op(&path, "b", "a")), Taken);
    assert_eq!(names(dir.path()), ["x.lock"]);
}

#[test]
fn a_stale_lock_of_our_own_is_removed_unless_someone_is_replacing_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.lock");
    assert_eq!(one(take_op(&path, "a")), Taken);
    grow_old(&path, 100);
    let claim = dir.path().join(".x.lock.claim-a-0");
    fs::write(&claim, "").unwrap();
    assert!(matches!(one(Op::Remove { path: path.clone(), record: record("a") }), Lost(_)));
    fs::remove_file(&claim).unwrap();
    assert_eq!(one(Op::Remove { path: path.clone(), record: record("a") }), Removed);
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn directories_links_and_pipes_are_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (sub, link, target) = (dir.path().join("sub"), dir.path().join("link"), dir.path().join("target"));
    fs::create_dir(&sub).unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    assert_eq!(one(take_op(&sub, "a")), There(Found::Other("a directory")));
    assert_eq!(one(take_op(&link, "a")), There(Found::Other("a symbolic link")));
    assert_eq!(names(dir.path()), ["link", "sub"], "a link is not followed");
}

#[test]
fn of_many_threads_exactly_one_takes_a_lock_and_one_replaces_a_stale_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.lock");
    let race = |stale: Option<&str>| {
        let winners: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|n| {
                    let op = match stale {
                        None => take_op(&path, &format!("t{n}")),
                        Some(old) => replace_op(&path, &format!("n{n}"), old),
                    };
                    scope.spawn(move || (n, one(op)))
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).filter(|(_, a)| *a == Taken).map(|(n, _)| n).collect()
        });
        assert_eq!(winners.len(), 1, "{winners:?}");
        winners[0]
    };
    for _ in 0..50 {
        let winner = race(None);
        grow_old(&path, 100);
        let _ = race(Some(&format!("t{winner}")));
        assert_eq!(names(dir.path()), ["x.lock"]);
        fs::remove_file(&path).unwrap();
    }
}

fn break_op(path: &Path, seen: Option<&str>, age: u64) -> Op {
    Op::Break { path: path.into(), seen: seen.map(record), age: Duration::from_secs(age), note: note(seen) }
}

#[test]
fn a_broken_lock_is_gone_and_its_owner_learns_by_whom() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.lock");
    assert_eq!(one(take_op(&path, "a")), Taken);
    assert!(
        matches!(one(break_op(&path, Some("b"), 0)), There(Found::File { .. })),
        "another's than the one that was seen"
    );
    assert_eq!(one(break_op(&path, Some("a"), 0)), Removed);
    assert_eq!(names(dir.path()), [".x.lock.broken"]);
    let lost = Lost("it was broken by ann@laptop at 1970-01-01T00:00:00Z".into());
    assert_eq!(one(Op::Refresh { path: path.clone(), record: record("a") }), lost);
    assert_eq!(one(Op::Remove { path: path.clone(), record: record("a") }), lost);
    assert_eq!(one(break_op(&path, Some("a"), 0)), There(Found::Absent));
    assert_eq!(one(take_op(&path, "b")), Taken);
    assert_eq!(
        one(Op::Refresh { path: path.clone(), record: record("c") }),
        Lost("it is now held by photos@laptop for job nightly".into())
    );
}

#[test]
fn a_file_of_nobody_is_broken_only_while_it_is_the_one_that_was_seen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.lock");
    fs::write(&path, "4711\n").unwrap();
    assert!(matches!(one(break_op(&path, None, 100)), There(Found::File { .. })), "it is younger");
    grow_old(&path, 101);
    assert!(matches!(one(break_op(&path, Some("a"), 0)), There(Found::File { .. })), "it is no director's");
    assert_eq!(one(break_op(&path, None, 100)), Removed);
    assert_eq!(one(take_op(&path, "a")), Taken);
    assert!(matches!(one(break_op(&path, None, 0)), There(Found::File { .. })), "it is a director's now");
}

#[test]
fn a_lock_that_is_just_being_replaced_is_not_broken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.lock");
    assert_eq!(one(take_op(&path, "a")), Taken);
    fs::write(dir.path().join(".x.lock.claim-a-0"), "").unwrap();
    assert!(matches!(one(break_op(&path, Some("a"), 0)), There(Found::File { .. })));
}

#[test]
fn a_claim_is_one_at_a_time_counts_for_half_a_lease_and_is_stepped_over_after_a_whole_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.lock");
    let first = claim(&path, &record("a")).unwrap().unwrap();
    assert!(first.is_young());
    assert!(claim(&path, &record("a")).unwrap().is_none(), "another has it");
    assert!(
        claim(&path, &record("b")).unwrap().is_some_and(|other| !Claim { lease: Duration::ZERO, ..other }.is_young())
    );
    grow_old(&dir.path().join(".x.lock.claim-a-0"), 100);
    let second = claim(&path, &record("a")).unwrap().unwrap();
    assert!(claim(&path, &record("a")).unwrap().is_none(), "another has stepped over it");
    second.over();
    assert_eq!(names(dir.path()), [".x.lock.claim-b-0"]);
}

#[test]
fn a_name_is_given_once_without_hard_links_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.lock");
    assert!(files::without_hard_links(&path, &record("a")).unwrap());
    assert!(!files::without_hard_links(&path, &record("b")).unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), record("a").encode());
    assert_eq!(names(dir.path()), ["x.lock"]);
}

#[test]
fn the_clock_of_a_file_system_is_asked_by_a_file_that_does_not_stay() {
    let dir = tempfile::tempdir().unwrap();
    let second = 1_000_000_000;
    let before = clock::now().as_nanosecond();
    let there = age::clock_there(&dir.path().join("x.lock")).unwrap();
    assert!((before - second..=clock::now().as_nanosecond()).contains(&there), "{before} {there}");
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn litter_of_crashes_goes_with_a_later_take_over_and_notes_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.lock");
    assert_eq!(one(take_op(&path, "a")), Taken);
    grow_old(&path, 100);
    for (name, age) in
        [(".x.lock.claim-0", 100_000), (".x.lock.fresh", 100), (".x.lock.broken", 100_000), (".y.old", 100_000)]
    {
        fs::write(dir.path().join(name), "").unwrap();
        grow_old(&dir.path().join(name), age);
    }
    assert_eq!(one(replace_op(&path, "b", "a")), Taken);
    assert_eq!(names(dir.path()), [".x.lock.broken", ".x.lock.fresh", ".y.old", "x.lock"]);
}

#[test]
fn of_the_notes_beside_a_lock_the_last_are_read_and_a_pipe_in_their_place_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.lock");
    let refresh = || one(Op::Refresh { path: path.clone(), record: record("a") });
    let notes = dir.path().join(".x.lock.broken");
    let file = File::create(&notes).unwrap();
    // More than there is memory for.
    file.set_len(1 << 38).unwrap();
    assert_eq!(refresh(), Lost("it was removed".into()));
    let line = format!("\n{}", note(Some("a")).line());
    OpenOptions::new().append(true).open(&notes).unwrap().write_all(line.as_bytes()).unwrap();
    assert_eq!(refresh(), Lost("it was broken by ann@laptop at 1970-01-01T00:00:00Z".into()));
    fs::remove_file(&notes).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &notes, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    assert_eq!(refresh(), Lost("it was removed".into()));
}

#[tokio::test]
async fn where_a_look_is_not_answered_nothing_is_begun() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.lock");
    let (answer, wait_for_answer) = std::sync::mpsc::channel::<()>();
    let (begin, begun) = tokio::sync::oneshot::channel();
    let mut stuck = tokio::task::JoinSet::new();
    stuck.spawn(patient::look(vec![path.clone()], move || {
        begin.send(()).unwrap();
        wait_for_answer.recv()
    }));
    begun.await.unwrap();
    let soon = Duration::from_millis(100);
    let look = || vec![Op::Look { path: path.clone() }, Op::Look { path: dir.path().join("y") }];
    let looked = perform_within(soon, look()).await.unwrap();
    assert!(
        matches!(&looked[..], [Answer::Failed(why), There(Found::Absent)] if why.contains("no answer")),
        "{looked:?}"
    );
    let refused = perform_within(soon, vec![take_op(&path, "a")]).await.unwrap_err();
    assert!(refused.why.contains("no answer") && !refused.broke_off, "{refused:?}");
    let release = Op::Remove { path: path.clone(), record: record("a") };
    assert!(perform_within(soon, vec![release]).await.is_err());
    assert_eq!(names(dir.path()), [""; 0]);
    answer.send(()).unwrap();
    stuck.join_next().await.unwrap().unwrap().unwrap().unwrap();
    assert_eq!(perform_within(ANSWER_MAX, vec![take_op(&path, "a")]).await.unwrap(), [Taken]);
}

const POOR: &str = "RSYNCDIRECTOR_TEST_POOR";

/// Not a test of its own: the process of the next one, which has no descriptor left, or one.
#[test]
fn a_process_without_descriptors() {
    let Some(path) = std::env::var_os(POOR).map(std::path::PathBuf::from) else { return };
    assert_eq!(one(take_op(&path, "a")), Taken);
    let limit = rustix::process::Rlimit { current: Some(64), maximum: Some(64) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let mut all: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let remove = one(Op::Remove { path: path.clone(), record: record("a") });
    all.pop();
    let refresh = one(Op::Refresh { path: path.clone(), record: record("a") });
    all.clear();
    assert!(matches!(&remove, Answer::Failed(why) if why.contains("open files")), "{remove:?}");
    assert!(matches!(&refresh, Answer::Failed(why) if why.contains("open files")), "{refresh:?}");
    assert_eq!(one(Op::Remove { path, record: record("a") }), Removed);
}

#[test]
fn a_lock_that_cannot_be_opened_for_a_moment_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "lock::local::tests::a_process_without_descriptors", "--nocapture"]);
    let output = child.env(POOR, dir.path().join("x.lock")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(names(dir.path()), [""; 0]);
}

/// The operations that a crash interrupts, each on a lock in a certain state, and how many points there are at least.
const SCENES: [(&str, u32); 5] = [("take", 4), ("take-over", 5), ("refresh", 1), ("release", 3), ("late release", 3)];

/// Brings the lock into the state from which the operation starts.
fn set_the_scene(scene: &str, path: &Path) {
    match scene {
        "take" => return,
        "take-over" => assert_eq!(one(take_op(path, "old")), Taken),
        _ => assert_eq!(one(take_op(path, "a")), Taken),
    }
    match scene {
        "take-over" => grow_old(path, 100),
        "late release" => grow_old(path, 45),
        _ => {}
    }
}

/// What happens in the process that crashes.
fn play(scene: &str, path: &Path) {
    one(match scene {
        "take" => take_op(path, "a"),
        "take-over" => replace_op(path, "a", "old"),
        "refresh" => Op::Refresh { path: path.into(), record: record("a") },
        _ => Op::Remove { path: path.into(), record: record("a") },
    });
}

const SCENE: &str = "RSYNCDIRECTOR_TEST_SCENE";
const LOCK: &str = "RSYNCDIRECTOR_TEST_LOCK";

/// Not a test of its own: the process that crashes in the next one.
#[test]
fn a_process_that_crashes() {
    if let (Ok(scene), Ok(path)) = (std::env::var(SCENE), std::env::var(LOCK)) {
        play(&scene, Path::new(&path));
    }
}

/// Plays a scene in a process of its own that dies at a point. Whether it came to that.
fn crashed_at(point: u32, scene: &str, path: &Path) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "lock::local::tests::a_process_that_crashes", "--quiet"]);
    child.env(crash::testing::AT, point.to_string()).env(SCENE, scene).env(LOCK, path);
    let output = child.output().unwrap();
    assert!(output.status.code() == Some(crash::testing::CODE) || output.status.success(), "{output:?}");
    !output.status.success()
}

/// Lets a contender come who tries as a director does. Whether it got the lock.
fn contend(path: &Path) -> bool {
    match one(take_op(path, "next")) {
        Taken => true,
        There(Found::File { content: Content::Director(stale), age }) if age >= stale.lease() => {
            one(Op::Take { path: path.into(), record: record("next"), replaces: Some(stale) }) == Taken
        }
        There(_) => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_crash_at_any_point_leaves_nothing_that_needs_a_person() {
    for (scene, least) in SCENES {
        let mut points = 0;
        loop {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.lock");
            set_the_scene(scene, &path);
            if !crashed_at(points, scene, &path) {
                break;
            }
            if !contend(&path) {
                // A lease later, in the eyes of all files.
                names(dir.path()).iter().for_each(|name| grow_old(&dir.path().join(name), 100));
                assert!(contend(&path), "{scene}, point {points}: {:?}", names(dir.path()));
            }
            assert_eq!(one(Op::Remove { path: path.clone(), record: record("next") }), Removed);
            points += 1;
        }
        assert!(points >= least, "{scene} has {points} points");
    }
}
