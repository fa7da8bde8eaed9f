//! The backend against a real sshd that gives nothing but SFTP.

mod cuts;
mod meetings;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Timespec, Timestamps};
use tempfile::TempDir;

use super::super::backend::Answer::{Found as There, Lost, Refreshed, Removed, Taken};
use super::super::record::tests::{note, record};
use super::super::record::{Content, Found, Record};
use super::*;
use crate::event::Events;
use crate::ssh::test_sshd::{TestSshd, chmod, run};

const LONG: Duration = Duration::from_secs(30);
const SFTP: &str = "Subsystem sftp internal-sftp";
const ONLY_SFTP: &str = "Subsystem sftp internal-sftp\nForceCommand internal-sftp";

/// A peer without a shell, and a directory there.
struct Rig {
    sshd: TestSshd,
    dir: TempDir,
    backend: SftpBackend,
}

impl Rig {
    fn new() -> Self {
        Self::with(ONLY_SFTP)
    }

    fn with(config: &str) -> Self {
        let sshd = TestSshd::start_with(config);
        let backend = SftpBackend::new(pool(&sshd), sshd.peer(), LONG);
        Self { sshd, dir: tempfile::tempdir().unwrap(), backend }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("x.lock")
    }

    async fn perform(&self, batch: &[Op]) -> Vec<Answer> {
        self.backend.perform(batch.to_vec()).await.unwrap()
    }

    async fn one(&self, op: Op) -> Answer {
        self.perform(&[op]).await.remove(0)
    }

    /// Waits for removals that nobody awaits: the server works in order, so once this is answered, all before is done.
    async fn flush(&self) {
        let _ = self.one(look(Path::new("/"))).await;
    }
}

fn pool(sshd: &TestSshd) -> Pool {
    Pool::new(sshd.policy(), Events::new(Vec::new()))
}

fn take(path: &Path, token: &str) -> Op {
    Op::Take { path: path.into(), record: record(token), replaces: None }
}

fn replace(path: &Path, token: &str, stale: &str) -> Op {
    Op::Take { path: path.into(), record: record(token), replaces: Some(record(stale)) }
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

/// The age of the lock of the run with this token, if that is what an answer shows.
fn age_of(answer: &Answer, token: &str) -> Option<u64> {
    match answer {
        There(Found::File { content: Content::Director(record), age }) if record.token == token => Some(age.as_secs()),
        _ => None,
    }
}

/// Whether it shows the lock of the run with this token, much younger than `grow_old` makes it.
fn is_young(answer: &Answer, token: &str) -> bool {
    age_of(answer, token).is_some_and(|age| age < 15)
}

fn grow_old(path: &Path, seconds: i64) {
    let at = Timespec { tv_sec: clock::now().as_second() - seconds, tv_nsec: 0 };
    let file = fs::File::open(path).unwrap();
    rustix::fs::futimens(&file, &Timestamps { last_access: at, last_modification: at }).unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = entries.collect();
    names.sort();
    names
}

/// The directory holds these names and no others.
async fn settles(rig: &Rig, expected: &[&str]) {
    rig.flush().await;
    assert_eq!(names(rig.dir.path()), expected);
}

#[tokio::test]
async fn a_lock_lives_as_on_the_other_backends() {
    let rig = Rig::new();
    let sub = rig.dir.path().join(OsStr::from_bytes(b"a dir's \"name\" $(x) ;\n\xff"));
    let path = sub.join("x y'.lock");

    let answers = rig.perform(&[look(&path), take(&path, "a"), refresh(&path, "a"), look(&path)]).await;
    assert_eq!(answers[..3], [There(Found::Absent), Taken, Refreshed]);
    assert!(is_young(&answers[3], "a"), "{answers:?}");
    rig.flush().await;
    assert_eq!(names(&sub), ["x y'.lock"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), record("a").encode());
    assert_eq!(rig.one(take(&path, "a")).await, Taken, "a repeated take whose answer was lost finds its own");

    assert_eq!(rig.perform(&[take(&path, "a"), take(&path, "a")]).await, [Taken, Taken], "the same file twice");
    let other = sub.join("other");
    let answers = rig.perform(&[take(&other, "b"), take(&path, "b"), look(&path)]).await;
    assert!(answers.len() == 2 && answers[0] == Taken && age_of(&answers[1], "a").is_some(), "{answers:?}");
    assert_eq!(rig.one(remove(&other, "b")).await, Removed);

    assert!(age_of(&rig.one(replace(&path, "b", "a")).await, "a").is_some(), "it is fresh");
    let answers = rig.perform(&[remove(&path, "b"), refresh(&path, "b")]).await;
    assert!(matches!(&answers[..], [Lost(_), Lost(why)] if why.contains("photos@laptop")), "{answers:?}");

    grow_old(&path, 100);
    assert_eq!(rig.one(refresh(&path, "a")).await, Lost("its lease ran out".into()));
    assert!(is_young(&rig.one(look(&path)).await, "a"), "but it is written");
    grow_old(&path, 100);
    assert!(matches!(age_of(&rig.one(look(&path)).await, "a"), Some(98..=115)));
    assert_eq!(rig.one(replace(&path, "b", "a")).await, Taken);
    assert!(age_of(&rig.one(replace(&path, "c", "a")).await, "b").is_some(), "another was faster");
    assert_eq!(rig.one(remove(&path, "b")).await, Removed);
    rig.flush().await;
    assert_eq!(names(&sub), [""; 0]);
    assert_eq!(rig.one(remove(&path, "b")).await, Lost("it was removed".into()));
}

#[tokio::test]
async fn a_broken_lock_is_gone_and_its_owner_learns_by_whom() {
    let rig = Rig::new();
    let path = rig.path();
    let broken = |seen: Option<&str>, age| Op::Break {
        path: path.clone(),
        seen: seen.map(record),
        age: Duration::from_secs(age),
        note: note(seen),
    };
    assert_eq!(rig.one(take(&path, "a")).await, Taken);
    assert!(age_of(&rig.one(broken(Some("b"), 0)).await, "a").is_some(), "another's than the one that was seen");
    assert!(age_of(&rig.one(broken(None, 0)).await, "a").is_some(), "a director's");
    assert_eq!(rig.one(broken(Some("a"), 0)).await, Removed);
    settles(&rig, &[".x.lock.broken"]).await;
    let lost = Lost("it was broken by ann@laptop at 1970-01-01T00:00:00Z".into());
    assert_eq!(rig.perform(&[refresh(&path, "a"), remove(&path, "a")]).await, [lost.clone(), lost]);
    assert_eq!(rig.one(refresh(&path, "b")).await, Lost("it was removed".into()));
    assert_eq!(rig.one(broken(Some("a"), 0)).await, There(Found::Absent));
    fs::write(&path, "4711").unwrap();
    assert!(matches!(rig.one(broken(None, 100)).await, There(Found::File { .. })), "it is younger");
    grow_old(&path, 100);
    assert_eq!(rig.one(broken(None, 100)).await, Removed);
    assert_eq!(fs::read_to_string(rig.dir.path().join(".x.lock.broken")).unwrap().lines().count(), 2);
}

#[tokio::test]
async fn what_no_director_wrote_is_neither_refreshed_nor_removed() {
    let rig = Rig::new();
    let path = rig.path();
    fs::write(&path, "4711\n").unwrap();
    for op in [refresh(&path, "a"), remove(&path, "a")] {
        assert_eq!(rig.one(op).await, Lost("its content was replaced".into()));
    }
    grow_old(&path, 1000);
    let answer = rig.one(take(&path, "a")).await;
    let There(Found::File { content: Content::Foreign(pid), age }) = answer else { panic!("{answer:?}") };
    assert!(pid == "4711" && age >= Duration::from_secs(999), "{age:?}");
    assert_eq!(fs::read(&path).unwrap(), b"4711\n");
    settles(&rig, &["x.lock"]).await;
}

#[tokio::test]
async fn directories_links_and_pipes_are_named_and_left_alone() {
    let rig = Rig::new();
    let [sub, link, pipe] = ["sub", "link", "pipe"].map(|name| rig.dir.path().join(name));
    fs::create_dir(&sub).unwrap();
    fs::write(rig.path(), record("a").encode()).unwrap();
    std::os::unix::fs::symlink(rig.path(), &link).unwrap();
    run("mkfifo", &[&pipe.to_string_lossy()]);
    for (path, what) in [(&sub, "a directory"), (&link, "a symbolic link"), (&pipe, "not a regular file")] {
        assert_eq!(rig.perform(&[look(path)]).await, [There(Found::Other(what))]);
        assert_eq!(rig.perform(&[take(path, "a")]).await, [There(Found::Other(what))]);
        let lost = Lost(format!("it was replaced by {what}"));
        assert_eq!(rig.perform(&[refresh(path, "a"), remove(path, "a")]).await, [lost.clone(), lost]);
    }
    settles(&rig, &["link", "pipe", "sub", "x.lock"]).await;
    let below = rig.path().join("below");
    let Answer::Failed(why) = rig.one(take(&below, "d")).await else { panic!("x.lock is a file") };
    assert_eq!(why, format!("{} is not a directory", rig.path().display()));
    assert_eq!(rig.one(look(&below)).await, There(Found::Absent));
}

#[tokio::test]
async fn a_contender_that_crashed_in_a_take_over_is_stepped_over_after_a_lease() {
    let rig = Rig::new();
    let path = rig.path();
    assert_eq!(rig.one(take(&path, "a")).await, Taken);
    grow_old(&path, 100);
    let claim = rig.dir.path().join(".x.lock.claim-a-0");
    fs::write(&claim, "").unwrap();
    assert!(age_of(&rig.one(replace(&path, "b", "a")).await, "a").is_some(), "the claim is fresh");
    assert!(
        matches!(rig.one(remove(&path, "a")).await, Lost(why) if why.contains("about to")),
        "it cannot be removed either"
    );
    grow_old(&path, 100);
    grow_old(&claim, 100);
    assert_eq!(rig.one(replace(&path, "b", "a")).await, Taken);
    settles(&rig, &["x.lock"]).await;
}

#[tokio::test]
async fn a_stale_lock_of_our_own_is_removed_unless_someone_is_replacing_it() {
    let rig = Rig::new();
    let path = rig.path();
    // A director that was restarted knows of no refresh.
    fs::write(&path, record("a").encode()).unwrap();
    grow_old(&path, 100);
    let claim = rig.dir.path().join(".x.lock.claim-a-0");
    fs::write(&claim, "").unwrap();
    assert!(matches!(rig.one(remove(&path, "a")).await, Lost(_)));
    fs::remove_file(&claim).unwrap();
    assert_eq!(rig.one(remove(&path, "a")).await, Removed);
    settles(&rig, &[]).await;
}

#[tokio::test]
async fn paths_below_the_home_and_in_a_chroot_are_found() {
    let home = tempfile::tempdir().unwrap();
    let rig = Rig::with(&format!("{SFTP}\nForceCommand internal-sftp -d {}", home.path().display()));
    let path = Path::new("~/a dir/x.lock");
    assert_eq!(rig.perform(&[take(path, "a"), refresh(path, "a")]).await, [Taken, Refreshed]);
    rig.flush().await;
    assert_eq!(names(&home.path().join("a dir")), ["x.lock"]);
    assert_eq!(rig.perform(&[remove(path, "a"), look(Path::new("~/none"))]).await, [Removed, There(Found::Absent)]);

    // All directories on the way to it must be root's alone, which /tmp is not.
    let root = tempfile::tempdir_in("/run").unwrap();
    let rig = Rig::with(&format!("{ONLY_SFTP}\nChrootDirectory {}", root.path().display()));
    let path = Path::new("/locks/x.lock");
    assert_eq!(rig.perform(&[take(path, "a"), refresh(path, "a")]).await, [Taken, Refreshed]);
    rig.flush().await;
    assert_eq!(names(&root.path().join("locks")), ["x.lock"]);
    grow_old(&root.path().join("locks/x.lock"), 100);
    assert_eq!(rig.perform(&[replace(path, "b", "a"), remove(path, "b")]).await, [Taken, Removed]);
}

#[tokio::test]
async fn a_directory_that_we_cannot_write_lets_us_look_and_says_why_it_lets_us_take_nothing() {
    let sshd = TestSshd::start_with(ONLY_SFTP);
    chmod(sshd.dir.path(), 0o755);
    let peer = Peer { user: "nobody".into(), ..sshd.peer() };
    let backend = SftpBackend::new(pool(&sshd), peer, LONG);
    let rig = Rig { sshd, dir: tempfile::tempdir().unwrap(), backend };
    chmod(rig.dir.path(), 0o755);
    let path = rig.path();
    let denied = |doing: &str, name: &str| {
        let path = rig.dir.path().join(name);
        Answer::Failed(format!("could not {doing} {}: permission denied", path.display()))
    };
    assert_eq!(rig.one(take(&path, "a")).await, denied("create", ".x.lock.a"));
    assert_eq!(rig.one(take(&rig.dir.path().join("new/x.lock"), "a")).await, denied("create directory", "new"));
    fs::write(&path, record("a").encode()).unwrap();
    assert_eq!(rig.one(refresh(&path, "a")).await, denied("open", "x.lock"));

    // The age is what we know of it ourselves, never more than the truth.
    grow_old(&path, 100);
    assert!(is_young(&rig.one(look(&path)).await, "a"));
    assert!(is_young(&rig.one(take(&path, "b")).await, "a"), "in spite of its time");
    let known = || rig.backend.ages.known_for(&path, "a", fs::metadata(&path).unwrap().modified_seconds());
    while known() < Duration::from_millis(1) {}
    let answer = rig.one(look(&path)).await;
    assert!(matches!(&answer, There(Found::File { age, .. }) if !age.is_zero()), "{answer:?}");

    chmod(&path, 0o600);
    let answer = rig.one(look(&path)).await;
    assert!(matches!(&answer, There(Found::File { content: Content::Foreign(why), .. }) if why == "unreadable"));
    chmod(rig.dir.path(), 0o700);
    assert_eq!(rig.one(look(&path)).await, denied("look at", "x.lock"));
    settles(&rig, &["x.lock"]).await;
}

trait ModifiedSeconds {
    fn modified_seconds(&self) -> u32;
}

impl ModifiedSeconds for fs::Metadata {
    fn modified_seconds(&self) -> u32 {
        use std::os::unix::fs::MetadataExt;
        u32::try_from(self.mtime()).unwrap()
    }
}

#[tokio::test]
async fn a_server_without_hard_links_is_content_with_an_exclusive_create() {
    let rig = Rig::with(&format!("{ONLY_SFTP} -P hardlink"));
    let path = rig.path();
    assert_eq!(rig.perform(&[take(&path, "a"), refresh(&path, "a")]).await, [Taken, Refreshed]);
    assert_eq!(fs::read_to_string(&path).unwrap(), record("a").encode());
    assert!(age_of(&rig.one(take(&path, "b")).await, "a").is_some());
    grow_old(&path, 100);
    assert_eq!(rig.perform(&[replace(&path, "b", "a"), remove(&path, "b")]).await, [Taken, Removed]);
    settles(&rig, &[]).await;
}

#[tokio::test]
async fn a_server_without_a_replacing_rename_says_so_and_keeps_the_stale_lock() {
    let rig = Rig::with(&format!("{ONLY_SFTP} -P posix-rename"));
    let path = rig.path();
    fs::write(&path, record("a").encode()).unwrap();
    grow_old(&path, 100);
    let Answer::Failed(why) = rig.one(replace(&path, "b", "a")).await else { panic!("it cannot be replaced") };
    assert!(why.starts_with(&format!("could not take over {}: ", path.display())), "{why}");
    assert_eq!(fs::read_to_string(&path).unwrap(), record("a").encode());
    settles(&rig, &["x.lock"]).await;
}

#[tokio::test]
async fn a_full_disk_is_named_and_leaves_nothing() {
    let rig = Rig::new();
    let disk = rig.dir.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let disk_name = disk.to_string_lossy().into_owned();
    run("mount", &["-t", "tmpfs", "-o", "size=8k", "none", &disk_name]);
    let unmount = Unmount(disk_name);
    // One page of it is the directory's or free, according to the kernel; the other is full now.
    let _ = fs::write(disk.join("filler"), [0; 16 * 1024]);
    let Answer::Failed(why) = rig.one(take(&disk.join("x.lock"), "a")).await else { panic!("there is no room") };
    assert!(why.contains("a full disk") && why.contains("x.lock"), "{why}");
    rig.flush().await;
    assert_eq!(names(&disk), ["filler"]);
    fs::remove_file(disk.join("filler")).unwrap();
    assert_eq!(rig.one(take(&disk.join("x.lock"), "a")).await, Taken);
    drop(rig.backend);
    drop(unmount);
}

struct Unmount(String);

impl Drop for Unmount {
    fn drop(&mut self) {
        run("umount", &["-l", &self.0]);
    }
}
