//! Verifications of trees that do not stand still, by processes that are killed, by users who may not read all.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};

use integration_tests::faults::random::Random;
use integration_tests::verification::{Found, Verification};
use integration_tests::{Sandbox, procs, wait};
use rustix::process::Signal;
use serde_json::json;

const KIB: u64 = 1024;

fn rsync(sandbox: &Sandbox) {
    let mut command = Command::new("rsync");
    // What vanishes meanwhile is no failure.
    let code = command.args(["-aHAX", "--delete"]).arg(sandbox.path("source/")).arg(sandbox.path("target")).output();
    assert!(matches!(code.expect("rsync").status.code(), Some(0 | 23 | 24)));
}

fn names(found: &Found) -> Vec<String> {
    found.listed.iter().map(|(path, class)| format!("{} {class}", String::from_utf8_lossy(path))).collect()
}

/// Rewrites, truncates, lengthens, renames, makes and removes files until it is told to stop. Each round changes every one of them.
fn hammer(directory: &Path, seed: u64, ends: &AtomicBool) {
    const FILES: u64 = 12;
    let mut random = Random::of(&[seed]);
    let path = |number: u64| directory.join(format!("f{seed}-{number}"));
    while !ends.load(Ordering::Relaxed) {
        for number in 0..FILES {
            let path = path(number);
            let byte = random.between(0, 255) as u8;
            match random.between(0, 5) {
                0 => drop(fs::remove_file(&path)),
                1 => {
                    let new = path.with_extension("new");
                    fs::write(&new, vec![byte; random.between(0, 300_000) as usize]).expect("written");
                    fs::rename(&new, &path).expect("renamed");
                }
                2 => fs::write(&path, vec![byte; 100_000]).expect("written"),
                3 => {
                    let file =
                        fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path).expect("a file");
                    file.set_len(random.between(0, 200_000)).expect("its length");
                    // Always a change.
                    file.write_all_at(&[byte], 7).expect("written");
                }
                4 => {
                    fs::write(&path, [byte]).expect("written");
                    let other = directory.join(format!("g{seed}-{number}"));
                    fs::rename(&path, &other).expect("renamed");
                    fs::rename(&other, &path).expect("renamed");
                }
                _ => {
                    // A directory in its place, for a moment.
                    let _ = fs::remove_file(&path);
                    fs::create_dir(&path).expect("made");
                    fs::write(path.join("inside"), [byte]).expect("written");
                    fs::remove_dir_all(&path).expect("removed");
                    fs::write(&path, [byte; 3]).expect("written");
                }
            }
        }
    }
}

#[test]
fn files_that_change_meanwhile_are_in_flight_at_most() {
    let sandbox = Sandbox::new();
    for number in 0..60 {
        sandbox.write(
            sandbox.mkdir(&format!("source/still/{}", number % 7)).join(format!("f{number}")),
            vec![number; 50_000],
        );
    }
    let busy = sandbox.mkdir("source/still/busy");
    rsync(&sandbox);
    // These are true.
    sandbox.remove("target/still/3/f3");
    sandbox.write("target/still/4/f4", "other");
    fs::OpenOptions::new().write(true).open(sandbox.path("source/still/5/f5")).expect("open").set_len(3).expect("cut");
    let expected = ["still/3/f3 missing", "still/4/f4 target_newer", "still/5/f5 stale"];
    let ends = AtomicBool::new(false);
    let mut in_flight = 0;
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let (busy, ends) = (&busy, &ends);
            scope.spawn(move || hammer(busy, seed, ends));
        }
        let (from, to, copies) = (sandbox.path("source/still/busy/"), sandbox.path("target/still/busy"), &ends);
        scope.spawn(move || {
            while !copies.load(Ordering::Relaxed) {
                let mut command = Command::new("rsync");
                command.args(["-aHAX", "--delete", "--timeout=30"]).arg(&from).arg(&to).output().expect("rsync");
            }
        });
        let ended = Ends(&ends);
        for level in ["quick", "meta", "deep", "deep", "deep"] {
            let mut verification = Verification::new(&sandbox, level, &["-aHAX", "--delete"]);
            // Long enough for every file to be changed by then.
            verification.order["rate"] = json!(2_000_000);
            verification.order["state"] = json!(null);
            let found = verification.run();
            let (busy, still): (Vec<String>, Vec<String>) =
                names(&found).into_iter().partition(|name| name.starts_with("still/busy"));
            // The directories above it have changed before.
            let still: Vec<String> = still.into_iter().filter(|name| !name.ends_with(" meta")).collect();
            assert_eq!(still, expected, "{level}");
            if level == "deep" {
                let told: Vec<&String> = busy.iter().filter(|name| !name.ends_with(" in_flight")).collect();
                assert!(told.is_empty(), "{told:?}");
            }
            in_flight += busy.len();
        }
        drop(ended);
    });
    assert!(in_flight > 0, "nothing was seen to change");
}

/// Stops the writers, however a test ends.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Bytes that a process has read by any system call.
fn bytes_read(child: &Child) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

#[test]
fn what_was_hashed_before_a_kill_is_not_read_again() {
    const FILES: u64 = 120;
    const SIZE: u64 = 200 * KIB;
    let sandbox = Sandbox::new();
    let mut random = Random::of(&[7]);
    for number in 0..FILES {
        sandbox.mkdir(&format!("source/d{}", number % 9));
        let byte = random.between(0, 255) as u8;
        sandbox.write(format!("source/d{}/f{number}", number % 9), vec![byte; SIZE as usize]);
    }
    rsync(&sandbox);
    let mut verification = Verification::new(&sandbox, "deep", &["-a", "--delete"]);
    verification.order["rate"] = json!(FILES * SIZE / 4);
    let mut kill_and_go_on = |attempt| {
        verification.order["state"] = json!(sandbox.mkdir(&format!("state/{attempt}")));
        let (mut read, mut killed) = (0, 0);
        let found = loop {
            let mut child = verification.start();
            // Anywhere between its first and its last byte.
            let until = random.between(0, FILES * SIZE * 2 / 6);
            let ended = wait::within(wait::DEADLINE, || {
                let has_ended = child.try_wait().expect("our child").is_some();
                (has_ended || bytes_read(&child) >= until).then_some(has_ended)
            });
            if ended.expect("it reads or ends") {
                break verification.found(&child.wait_with_output().expect("its output"));
            }
            procs::signal(child.id(), Signal::STOP);
            read += bytes_read(&child);
            child.kill().expect("killed");
            child.wait().expect("ended");
            killed += 1;
            assert!(killed < 100, "it does not come forward");
            // The last one reads the rest.
            if read > FILES * SIZE * 2 * 3 / 4 {
                break verification.run();
            }
        };
        assert_eq!(
            (found.code, found.number("/in_step/entries")),
            (0, found.number("/all/entries")),
            "{}",
            found.report
        );
        let rest = found.number("/read/bytes");
        let (all, once) = (2 * FILES * SIZE, SIZE + 256 * KIB);
        // What was under way is lost: a file for each thread that reads, on each side; and each start reads the program's libraries and manifest.
        let lost = killed * 2 * (std::thread::available_parallelism().map_or(1, usize::from) as u64 + 2) * once;
        assert!(read + rest <= all + lost, "{read} bytes before {killed} kills, {rest} after them, of {all}");
        killed >= 2 && rest < all / 2
    };
    // Where this thread stands still for seconds, one gets too far before it is killed.
    assert!((1..=4).any(&mut kill_and_go_on), "none was killed twice and left less than half to the last one");
    let again = verification.run();
    assert_eq!((again.number("/read/bytes"), again.number("/known/entries")), (0, FILES), "{}", again.report);
}

#[test]
fn what_a_user_may_not_read_is_told_and_never_in_step() {
    let sandbox = Sandbox::new();
    for name in ["source/open/f", "source/closed/f", "source/secret", "source/zz"] {
        sandbox.mkdir(Path::new(name).parent().and_then(Path::to_str).expect("a parent"));
        sandbox.write(name, name);
    }
    rsync(&sandbox);
    for side in ["source", "target"] {
        sandbox.chmod(&format!("{side}/secret"), 0o600);
    }
    let same_time = |name: &str| {
        let [of, to] = ["source", "target"].map(|side| sandbox.path(format!("{side}/{name}")));
        assert!(Command::new("touch").arg("-r").arg(of).arg(to).status().expect("touch").success());
    };
    sandbox.chmod("source/closed", 0o700);
    sandbox.remove("target/zz");
    same_time("");
    // Nobody comes to these otherwise.
    fs::set_permissions(sandbox.dir(), fs::Permissions::from_mode(0o755)).expect("open");
    let program = sandbox.path("program");
    fs::copy(integration_tests::director::binary(), &program).expect("copied");
    let verify = |level: &str| {
        let mut verification = Verification::new(&sandbox, level, &["-rt", "--delete"]);
        verification.order["state"] = json!(null);
        for name in ["lists", "state"] {
            sandbox.chmod(name, 0o777);
        }
        fs::write(sandbox.path("lists/list"), "").expect("written");
        sandbox.chmod("lists/list", 0o666);
        verification.program = program.clone();
        if rustix::process::geteuid().is_root() {
            let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
            verification.before = user.map(str::to_owned).to_vec();
        } else {
            sandbox.chmod("source/closed", 0o000);
            sandbox.chmod("source/secret", 0o000);
        }
        verification.run()
    };
    let quick = verify("quick");
    assert_eq!(names(&quick), ["closed unreadable", "zz missing"]);
    assert_eq!(
        (quick.code, quick.report["verdict"].as_str()),
        (2, Some("drift")),
        "a drift that is known is told first"
    );
    assert_eq!(names(&verify("deep")), ["closed unreadable", "secret unreadable", "zz missing"]);
    sandbox.write("target/zz", "source/zz");
    same_time("zz");
    let nothing_else = verify("quick");
    assert_eq!(names(&nothing_else), ["closed unreadable"]);
    assert_eq!((nothing_else.code, nothing_else.report["verdict"].as_str()), (1, Some("unknown")));
}

#[test]
fn of_rotten_content_it_is_said_which_side_changed() {
    let sandbox = Sandbox::new();
    for name in ["a", "b", "both", "new", "same"] {
        sandbox.mkdir("source");
        sandbox.write(format!("source/{name}"), "good");
    }
    rsync(&sandbox);
    let rot = |path: &str, text: &str| {
        let path = sandbox.path(path);
        let before = path.metadata().expect("there").modified().expect("a time");
        fs::write(&path, text).expect("written");
        fs::File::options().write(true).open(&path).and_then(|file| file.set_modified(before)).expect("its time");
    };
    let verification = Verification::new(&sandbox, "deep", &["-a"]);
    rot("source/new", "baad");
    let first = verification.run();
    assert_eq!(first.details.len(), 1, "{:?}", first.details);
    assert!(first.details[0].2.contains("never seen to agree"), "{:?}", first.details);
    rot("source/a", "bad!");
    rot("target/b", "bad!");
    rot("source/both", "bad1");
    rot("target/both", "bad2");
    let found = verification.run();
    let said = |name: &str| {
        let of = |(path, class, detail): &(Vec<u8>, String, String)| {
            (path == name.as_bytes()).then(|| format!("{class}: {detail}"))
        };
        found.details.iter().find_map(of).unwrap_or_default()
    };
    assert!(said("a").starts_with("content: the source changed since 20"), "{}", said("a"));
    assert!(said("b").starts_with("content: the target changed since 20"), "{}", said("b"));
    assert!(said("both").starts_with("content: both sides changed since 20"), "{}", said("both"));
    assert_eq!((said("same"), found.details.len()), (String::new(), 4));
}
