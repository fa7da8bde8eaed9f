//! Lock files: made, honoured, given back, and never taken from another.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use integration_tests::{Sandbox, Sshd};
use serde_json::Value;

/// A job `j` with these lock files and one shell line, and a job `next` without any.
fn jobs(locks: &str, command: &str) -> String {
    format!(
        "jobs:
- {{id: j, type: local, lock_files: [{locks}], actions: [{{action: command, id: c, command: \"{command}\"}}]}}
- {{id: next, type: local, actions: [{{action: command, id: c, command: 'echo next >> @/ran'}}]}}
"
    )
}

/// Runs a job that locks `lock` and copies it to `seen`, and checks what it saw.
#[track_caller]
fn is_made_and_given_back(sandbox: &Sandbox, place: &str) {
    let lock = format!("{{{place}, path: @/new/parent/a.lock}}");
    let jobs = jobs(&lock, "cp @/new/parent/a.lock @/seen; echo $PPID > @/director");
    let config = sandbox.config(&format!("lease: 50\n{jobs}"));
    sandbox.once(&config).expect_code(0);

    assert!(!sandbox.exists("new/parent/a.lock"), "it is given back");
    let mode = fs::metadata(sandbox.path("new/parent")).expect("the parent stays").permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
    let seen = sandbox.lines("seen");
    let pid = sandbox.read("director").trim().to_owned();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert_eq!(seen[0], pid, "the first line is the director's pid");
    let record: Value = serde_json::from_str(&seen[1]).expect("the second line is JSON");
    assert_eq!(record["pid"].to_string(), pid);
    assert_eq!(record["instance"], "main");
    assert_eq!(record["job"], "j");
    assert_eq!(record["lease_seconds"], 50);
    assert_eq!(record["user"], integration_tests::sandbox::user());
    for key in ["host", "boot_id", "token", "taken_at"] {
        assert!(!record[key].is_null(), "no {key} in {record}");
    }
}

#[test]
fn creates_and_removes_a_local_lock() {
    is_made_and_given_back(&Sandbox::new(), "type: local");
}

#[test]
fn creates_and_removes_a_remote_lock() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    is_made_and_given_back(&sandbox, "type: remote, <peer>");
}

#[test]
fn a_lock_path_with_odd_characters_is_only_a_path() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    for place in ["type: local", "type: remote, <peer>"] {
        let lock = format!("{{{place}, path: \"@/odd it's; $(touch pwned) `x` & \\\\ *.lock\"}}");
        let config = sandbox.config(&jobs(&lock, "ls @/ | grep -c 'odd it.s;' >> @/seen"));
        sandbox.once(&config).expect_code(0);
    }
    assert_eq!(sandbox.lines("seen"), ["1", "1"]);
    let left: Vec<_> = sandbox.tree("").into_keys().filter(|p| p.display().to_string().contains("odd")).collect();
    assert!(left.is_empty() && !sandbox.exists("pwned"), "{left:?}");
}

/// A lock file that is not ours is respected until its timeout and stays as it is.
#[track_caller]
fn is_respected(content: &str) {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    sandbox.write("a.lock", content);
    for place in ["type: local", "type: remote, <peer>"] {
        let lock = format!("{{{place}, path: @/a.lock, wait_time: 1, timeout: 2}}");
        sandbox.once(&sandbox.config(&jobs(&lock, "echo j >> @/ran"))).expect_code(1).expect_said("a.lock");
        assert_eq!(sandbox.lines("ran"), ["next"], "{place}");
        assert_eq!(sandbox.read("a.lock"), content, "{place}");
        sandbox.remove("ran");
    }
}

#[test]
fn an_old_lock_with_the_pid_of_a_dead_process_is_respected() {
    is_respected(&format!("{}\n", integration_tests::procs::dead_pid()));
}

#[test]
fn an_old_lock_with_a_pid_and_no_newline_is_respected() {
    is_respected(&std::process::id().to_string());
}

#[test]
fn a_lock_that_a_person_touched_is_respected() {
    is_respected("");
}

#[test]
fn a_lock_with_something_else_in_it_is_respected() {
    is_respected("backup running, ask Ann\n{\"not\": \"ours\"}\n");
}

#[test]
fn a_lock_of_another_is_waited_for_until_it_is_removed() {
    let sandbox = Sandbox::new();
    sandbox.write("a.lock", "1\n");
    let config = sandbox.config(&jobs("{type: local, path: @/a.lock, wait_time: 1}", "echo j >> @/ran"));
    let director = sandbox.start(&config);
    director.hup();
    director.wait_for_log("a.lock");
    assert_eq!(sandbox.read("a.lock"), "1\n");
    sandbox.remove("a.lock");
    director.wait_for_runs(1);
    assert_eq!(sandbox.lines("ran"), ["j", "next"]);
}

#[test]
fn a_wait_for_a_lock_is_interrupted_by_shutdown_and_leaves_it() {
    let sandbox = Sandbox::new();
    sandbox.write("b.lock", "1\n");
    let locks = "{type: local, path: @/a.lock}, {type: local, path: @/b.lock, wait_time: 3600}";
    let mut director = sandbox.start(&sandbox.config(&jobs(locks, "echo j >> @/ran")));
    director.hup();
    director.wait_for_log("b.lock");
    director.stop();
    assert!(!sandbox.exists("a.lock"), "ours is given back");
    assert_eq!(sandbox.read("b.lock"), "1\n");
}

#[test]
fn all_locks_are_taken_or_none() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    sandbox.write("z.lock", "1\n");
    let locks = "{type: local, path: @/a.lock}, {type: remote, <peer>, path: @/b.lock},
        {type: remote, <peer>, path: @/z.lock, wait_time: 1, timeout: 1}";
    sandbox.once(&sandbox.config(&jobs(locks, "echo j >> @/ran"))).expect_code(1);
    assert!(!sandbox.exists("a.lock") && !sandbox.exists("b.lock"));
    assert_eq!(sandbox.read("z.lock"), "1\n");
    assert_eq!(sandbox.lines("ran"), ["next"]);
}

/// A lock path at which something stands that is no lock file: the job does not run, what stands there stays, the next
/// job and the next run are not affected.
#[track_caller]
fn is_refused_and_kept(place: &str, stands_there: impl Fn(&Sandbox), still_there: impl Fn(&Sandbox) -> bool) {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    stands_there(&sandbox);
    let locks = format!("{{type: local, path: @/a.lock}}, {{{place}, path: @/it.lock, wait_time: 1, timeout: 1}}");
    let director = sandbox.start(&sandbox.config(&jobs(&locks, "echo j >> @/ran")));
    for run in 1..=2 {
        director.run_now(run);
        assert!(still_there(&sandbox));
        assert!(!sandbox.exists("a.lock"), "the other lock is given back");
        director.wait_for_log("it.lock");
    }
    assert_eq!(sandbox.lines("ran"), ["next", "next"]);
}

#[test]
fn a_lock_path_that_is_a_directory_is_refused_and_kept() {
    for place in ["type: local", "type: remote, <peer>"] {
        is_refused_and_kept(
            place,
            |sandbox| drop(sandbox.write("it.lock/keep", "me")),
            |sandbox| sandbox.read("it.lock/keep") == "me",
        );
    }
}

#[test]
fn a_lock_path_that_is_a_symlink_is_refused_and_kept() {
    for place in ["type: local", "type: remote, <peer>"] {
        is_refused_and_kept(
            place,
            |sandbox| {
                sandbox.write("target", "precious");
                symlink("target", sandbox.path("it.lock")).expect("a link");
            },
            |sandbox| sandbox.read("target") == "precious" && sandbox.path("it.lock").is_symlink(),
        );
    }
}

#[test]
fn a_lock_path_that_is_a_dangling_symlink_makes_no_file_behind_it() {
    for place in ["type: local", "type: remote, <peer>"] {
        is_refused_and_kept(
            place,
            |sandbox| symlink("target", sandbox.path("it.lock")).expect("a link"),
            |sandbox| !sandbox.exists("target") && sandbox.path("it.lock").is_symlink(),
        );
    }
}

#[test]
fn a_lock_below_a_file_fails_its_job_only() {
    is_refused_and_kept(
        "type: local",
        |sandbox| drop(sandbox.write("it.lock", "1\n")),
        |sandbox| sandbox.read("it.lock") == "1\n",
    );
    let sandbox = Sandbox::new();
    sandbox.write("file", "");
    let lock = "{type: local, path: @/file/a.lock, wait_time: 1, timeout: 1}";
    sandbox.once(&sandbox.config(&jobs(lock, "echo j >> @/ran"))).expect_code(1).expect_said("file/a.lock");
    assert_eq!(sandbox.lines("ran"), ["next"]);
}
