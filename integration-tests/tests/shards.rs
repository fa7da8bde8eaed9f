//! Syncs that several rsyncs share.

use integration_tests::{Director, Sandbox, Sshd, procs, wait};
use rustix::process::Signal;

use crate::syncs::assert_same;

/// A sandbox with enough for several rsyncs: some MiB, and small files in several directories.
fn with_work() -> Sandbox {
    let sandbox = Sandbox::new();
    for big in 0..4 {
        sandbox.write_big(&format!("src/big{big}"), 5);
    }
    for number in 0..200 {
        sandbox.write(format!("src/dir{}/#file {number}", number % 10), number.to_string());
    }
    sandbox.write("dst/obsolete", "x");
    sandbox
}

/// The one sync of a job, shared by three.
fn job(job: &str, more: &str, opts: &str) -> String {
    format!(
        "kill_grace: 5
jobs:
- {{id: j, {job}, actions: [
    {{action: sync, id: s, source: @/src/, dest: @/dst, opts: [{opts}], parallel: 3, {more}}},
    {{action: command, id: after, command: 'touch @/after'}}]}}
"
    )
}

#[track_caller]
fn shares(sandbox: &Sandbox, config: &str) {
    let finished = sandbox.once(&sandbox.config(config));
    finished.expect_code(0).expect_said("3 rsyncs at once: 204 files, 21.0 MB");
    finished.expect_said("204 files, 21.0 MB transferred");
    assert_same(sandbox, "src", "dst");
}

#[test]
fn a_local_sync_is_shared() {
    let sandbox = with_work();
    shares(&sandbox, &job("type: local", "", "-a, --delete"));
}

#[test]
fn pushes_and_pulls_are_shared_over_either_transport() {
    for transport in ["native", "openssh"] {
        for direction in ["push", "pull"] {
            let sandbox = with_work();
            let _peer = Sshd::start(&sandbox, "peer");
            let job = job("type: remote, <peer>", &format!("direction: {direction}"), "-a, --delete");
            shares(&sandbox, &format!("transport: {transport}\n{job}"));
        }
    }
}

#[test]
fn little_work_and_a_dry_run_are_for_one_rsync() {
    let sandbox = with_work();
    let config = sandbox.config(&job("type: local", "", "-a"));
    let finished = sandbox.once_with(&config, &["--dry-run"]);
    assert!(!finished.expect_code(0).stderr.contains("rsyncs at once"), "{}", finished.stderr);
    assert!(!sandbox.exists("dst/big0"));
    shares(&sandbox, &job("type: local", "", "-a, --delete"));
    sandbox.write("src/dir1/more", "x");
    let finished = sandbox.once(&config);
    assert!(!finished.expect_code(0).stderr.contains("rsyncs at once"), "{}", finished.stderr);
    assert_same(&sandbox, "src", "dst");
}

#[test]
fn what_cannot_be_copied_fails_the_final_pass_and_no_more_than_that() {
    let sandbox = with_work();
    std::os::unix::fs::symlink("nowhere", sandbox.path("src/dangling")).expect("a link");
    let finished = sandbox.once(&sandbox.config(&job("type: local", "", "-a, --copy-links")));
    finished.expect_code(1).expect_said("3 rsyncs at once").expect_said("exit code 23");
    assert_eq!(sandbox.read("dst/dir3/#file 13"), "13");
    assert!(sandbox.exists("dst/obsolete") && !sandbox.exists("after"));
}

/// A director in the midst of a shared push: the far side of its shards waits until a file `go` is there.
fn sharing(head: &str, lock: &str) -> (Sandbox, Sshd, Director) {
    let sandbox = with_work();
    let peer = Sshd::start(&sandbox, "peer");
    // Only the shards' rsyncs are given lists of files, which makes them relative.
    let script = "for word in \"$1\" \"$2\" \"$3\"; do case $word in
        --*) ;;
        -*R*e.*) mkdir -p @/held; touch @/held/$$; until [ -e @/go ]; do sleep 0.05; done ;;
    esac; done
    exec rsync \"$@\"";
    let far_side = sandbox.script("far-side", script);
    let opts = format!("-a, --delete, --rsync-path={}", far_side.display());
    let job = job(&format!("type: remote, <peer>{lock}"), "", &opts);
    let config = sandbox.config(&format!("{head}{job}"));
    let director = sandbox.start(&config);
    director.hup();
    wait::until("three shards are under way", || sandbox.tree("held").len() == 3);
    (sandbox, peer, director)
}

/// Nothing of it runs here, what was held on the far side finds nobody to talk to, and there was no final pass.
#[track_caller]
fn nothing_lives(sandbox: &Sandbox) {
    let here = |process: &procs::Proc| process.cmdline.contains("--files-from=-");
    wait::until("no shard lives here", || !procs::running(sandbox.dir(), "rsync").iter().any(here));
    sandbox.write("go", "");
    wait::until("nothing of it is left", || {
        ["rsync", "far-side"].iter().all(|comm| procs::running(sandbox.dir(), comm).is_empty())
    });
    assert_eq!(sandbox.tree("dst").len(), 1, "something was copied or deleted");
    assert!(!sandbox.exists("after"));
}

#[test]
fn a_killed_shard_ends_the_action_and_the_other_shards() {
    let (sandbox, _peer, director) = sharing("", "");
    let is_shard = |process: &procs::Proc| process.comm == "rsync" && process.cmdline.contains("--files-from=-");
    let shard = procs::descendants(director.pid()).into_iter().find(is_shard).expect("a shard");
    procs::signal(shard.pid, Signal::KILL);
    director.wait_for_runs(1);
    director.wait_for_log("ended by signal 9");
    nothing_lives(&sandbox);
}

#[test]
fn term_in_the_midst_of_it_leaves_nothing() {
    let (sandbox, _peer, mut director) = sharing("", "");
    director.stop();
    nothing_lives(&sandbox);
}

#[test]
fn a_lock_lost_in_the_midst_of_it_ends_all_shards() {
    let (sandbox, _peer, director) = sharing("lease: 12\n", ", lock_files: [{type: local, path: @/a.lock}]");
    sandbox.remove("a.lock");
    director.wait_for_runs(1);
    assert_eq!(director.metric("rsyncdirector_job_failures_total job_id=j reason=lock_lost"), 1.0);
    nothing_lives(&sandbox);
}

#[test]
fn a_killed_director_leaves_no_shard() {
    let (sandbox, _peer, mut director) = sharing("", "");
    director.kill();
    nothing_lives(&sandbox);
}

#[test]
fn held_shards_go_on_to_the_final_pass() {
    let (sandbox, _peer, director) = sharing("", "");
    sandbox.write("go", "");
    director.wait_for_runs(1);
    assert!(sandbox.exists("after"));
    assert_same(&sandbox, "src", "dst");
}
