//! Files that make a job wait.

use std::time::Duration;

use integration_tests::wait::Stopwatch;
use integration_tests::{Director, Sandbox, Sshd};

use crate::syncs::assert_same;

/// A job `copy` that waits for blocks, looking each second.
fn copy_blocked_by(sandbox: &Sandbox, blocks: &[&str]) -> Director {
    sandbox.write("src/file", "content");
    let blocks = blocks.join(", ");
    sandbox.start(&sandbox.config(&format!(
        "jobs:
- {{id: copy, type: local, blocks_on: [{blocks}], actions: [
    {{action: sync, id: files, source: @/src/, dest: @/dst, opts: ['-a']}}]}}
"
    )))
}

/// Waits for two more looks at the blocks and checks that they were in vain.
#[track_caller]
fn assert_still_blocked(sandbox: &Sandbox, director: &Director) {
    let looks = director.metric("blocked_total job_id=copy");
    director.wait_for_metric("blocked_total job_id=copy", looks + 2.0);
    assert!(!sandbox.exists("dst"));
}

#[test]
fn waits_for_a_local_block() {
    let sandbox = Sandbox::new();
    sandbox.write("busy", "");
    let director = copy_blocked_by(&sandbox, &["{type: local, path: @/busy, wait_time: 1}"]);
    director.hup();
    assert_still_blocked(&sandbox, &director);

    sandbox.remove("busy");
    director.wait_for_runs(1);
    assert_same(&sandbox, "src", "dst");
}

#[test]
fn waits_for_a_remote_block_on_a_host_other_than_the_destination() {
    let sandbox = Sandbox::new();
    let dest = Sshd::start(&sandbox, "dest");
    let _other = Sshd::start(&sandbox, "other");
    sandbox.write("src/file", "content");
    sandbox.write("other/busy", "");
    let director = sandbox.start(&sandbox.config(
        "jobs:
- {id: copy, type: remote, <dest>, blocks_on: [{type: remote, <other>, path: @/other/busy, wait_time: 1}], actions: [
    {action: sync, id: files, source: @/src/, dest: @/dst, opts: ['-a']}]}
",
    ));
    director.hup();
    assert_still_blocked(&sandbox, &director);
    assert_eq!(dest.connections(), 0, "the destination is left alone by a job that waits");

    sandbox.remove("other/busy");
    director.wait_for_runs(1);
    assert_same(&sandbox, "src", "dst");
    assert!(dest.connections() > 0);
}

#[test]
fn waits_for_several_blocks() {
    let sandbox = Sandbox::new();
    let _one = Sshd::start(&sandbox, "one");
    let _two = Sshd::start(&sandbox, "two");
    let blocks = [
        "{type: local, path: @/here, wait_time: 1}",
        "{type: remote, <one>, path: @/one, wait_time: 1}",
        "{type: remote, <two>, path: @/two, wait_time: 1}",
    ];
    for file in ["here", "one", "two"] {
        sandbox.write(file, "");
    }
    let director = copy_blocked_by(&sandbox, &blocks);
    director.hup();
    for file in ["two", "here", "one"] {
        assert_still_blocked(&sandbox, &director);
        sandbox.remove(file);
    }
    director.wait_for_runs(1);
    assert_same(&sandbox, "src", "dst");
}

#[test]
fn a_block_that_times_out_skips_the_job_after_its_timeout_once_and_the_run_goes_on() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    sandbox.write("busy", "");
    for place in ["type: local", "type: remote, <peer>"] {
        let config = sandbox.config(&format!(
            "jobs:
- {{id: waits, type: local, blocks_on: [{{{place}, path: @/busy, wait_time: 1, timeout: 3}}], actions: [
    {{action: command, id: c, command: 'echo waits >> @/ran'}}]}}
- {{id: next, type: local, actions: [{{action: command, id: c, command: 'echo next >> @/ran'}}]}}
"
        ));
        let watch = Stopwatch::start();
        let finished = sandbox.once(&config);
        let took = watch.elapsed();
        finished.expect_code(1);
        assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(14), "{place}: it took {took:?}");
        let waits = finished.stderr.matches("next look in").count();
        assert!(waits <= 4, "{place}: {waits} waits of a second");
        assert_eq!(sandbox.lines("ran"), ["next"], "{place}");
        sandbox.remove("ran");
    }
    assert!(sandbox.exists("busy"), "a block is never removed by us");
}

#[test]
fn a_job_skipped_for_a_block_is_counted_under_both_names() {
    let sandbox = Sandbox::new();
    sandbox.write("busy", "");
    let director = copy_blocked_by(&sandbox, &["{type: local, path: @/busy, wait_time: 1, timeout: 1}"]);
    director.run_now(1);
    assert_eq!(director.metric("job_skipped_for_block_timeout_total job_id=copy"), 1.0);
    assert_eq!(director.metric("rsyncdirector_job_skipped_total job_id=copy reason=block_timeout"), 1.0);
    assert!(!sandbox.exists("dst"));
}

#[test]
fn a_wait_for_a_block_is_interrupted_by_shutdown_at_once() {
    let sandbox = Sandbox::new();
    sandbox.write("busy", "");
    let mut director = copy_blocked_by(&sandbox, &["{type: local, path: @/busy, wait_time: 3600}"]);
    director.hup();
    director.wait_for_metric("blocked_total job_id=copy", 1.0);

    let watch = Stopwatch::start();
    director.stop();
    assert!(watch.elapsed() < Duration::from_secs(15), "it took {:?}", watch.elapsed());
    assert!(!sandbox.exists("dst"));
}

#[test]
fn a_job_is_not_blocked_by_its_own_lock_file() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    for place in ["type: local", "type: remote, <peer>"] {
        let config = sandbox.config(&format!(
            "jobs:
- {{id: j, type: local, lock_files: [{{{place}, path: @/both}}],
   blocks_on: [{{{place}, path: @/both, wait_time: 1, timeout: 2}}], actions: [
    {{action: command, id: c, command: 'cp @/both @/seen'}}]}}
"
        ));
        sandbox.once(&config).expect_code(0);
        assert!(sandbox.exists("seen") && !sandbox.exists("both"), "{place}");
        sandbox.remove("seen");
    }
}

#[test]
fn a_block_that_is_a_directory_or_a_dangling_link_is_there_all_the_same() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("directory");
    std::os::unix::fs::symlink("nowhere", sandbox.path("link")).expect("a link");
    for file in ["directory", "link"] {
        let config = sandbox.config(&format!(
            "jobs:
- {{id: j, type: local, blocks_on: [{{type: local, path: @/{file}, wait_time: 1, timeout: 1}}], actions: [
    {{action: command, id: c, command: 'touch @/ran'}}]}}
"
        ));
        sandbox.once(&config).expect_code(1);
        assert!(!sandbox.exists("ran"), "{file}");
    }
}
