//! What keeps a sync from deleting, stalling and taking the line.

use std::process::Command;

use integration_tests::sandbox::PATH;
use integration_tests::{Finished, Sandbox, Sshd, procs, wait};
use rustix::process::Signal;

use crate::syncs::assert_same;

/// 20 files here, of which the destination has 10, and 10 others there.
fn with_trees() -> Sandbox {
    let sandbox = Sandbox::new();
    for number in 0..20 {
        sandbox.write(format!("src/dir/{number}"), number.to_string());
    }
    for number in 0..10 {
        sandbox.write(format!("dst/dir/{number}"), "old");
        sandbox.write(format!("dst/gone/{number}"), "old");
    }
    sandbox
}

/// One job with one sync of `-a --delete`.
fn job(job: &str, more: &str) -> String {
    format!(
        "jobs:\n- {{id: j, {job}, actions: [{{action: sync, id: s, source: @/src/, dest: @/dst, opts: [-a, --delete], {more}}}]}}\n"
    )
}

/// Fails unless the sync was refused for this reason and changed nothing.
#[track_caller]
fn refused(sandbox: &Sandbox, config: &str, expected: &str) {
    let before = sandbox.tree("dst");
    let finished = sandbox.once(&sandbox.config(config));
    finished.expect_code(1).expect_said("nothing was changed").expect_said(expected);
    assert_eq!(sandbox.tree("dst"), before, "something was changed");
}

#[track_caller]
fn allowed(sandbox: &Sandbox, config: &str) -> Finished {
    let finished = sandbox.once(&sandbox.config(config));
    finished.expect_code(0);
    finished
}

#[test]
fn deletions_beyond_a_number_are_refused_before_anything_is_changed() {
    let sandbox = with_trees();
    let config = job("type: local", "max_delete: 10");
    // The directory, its ten files; of them, `.`, `dir` and the ten that stay.
    refused(
        &sandbox,
        &config,
        "rsync would delete 11 of the 23 entries at the destination, and max_delete allows 10; it would delete gone/",
    );
    allowed(&sandbox, &config.replace("max_delete: 10", "max_delete: 11"));
    assert_same(&sandbox, "src", "dst");
}

#[test]
fn deletions_beyond_a_share_are_refused_and_the_nearest_word_counts() {
    let sandbox = with_trees();
    let of_instance = format!("max_delete: 40%\n{}", job("type: local", ""));
    refused(&sandbox, &of_instance, "max_delete allows 40%, which is 9");
    refused(&sandbox, &of_instance.replace("type: local", "type: local, max_delete: 0"), "max_delete allows 0;");
    allowed(&sandbox, &of_instance.replace("type: local", "type: local, max_delete: 48%"));
    assert_same(&sandbox, "src", "dst");
}

#[test]
fn the_delete_guard_holds_for_pushes_and_pulls_over_either_transport_and_for_shared_syncs() {
    for transport in ["native", "openssh"] {
        for more in ["direction: push", "direction: pull", "parallel: 3"] {
            let sandbox = with_trees();
            for big in 0..4 {
                sandbox.write_big(&format!("src/big{big}"), 5);
            }
            let _peer = Sshd::start(&sandbox, "peer");
            let config =
                format!("transport: {transport}\n{}", job("type: remote, <peer>", &format!("{more}, max_delete: 5%")));
            refused(&sandbox, &config, "rsync would delete 11 of the 23 entries");
            allowed(&sandbox, &config.replace("5%", "11"));
            assert_same(&sandbox, "src", "dst");
        }
    }
}

#[test]
fn a_dry_run_tells_what_would_be_refused() {
    let sandbox = with_trees();
    let finished = sandbox.once_with(&sandbox.config(&job("type: local", "max_delete: 10")), &["--dry-run"]);
    finished.expect_code(1).expect_said("rsync would delete 11 of the 23 entries");
}

#[test]
fn a_guarded_sync_to_a_peer_that_cannot_be_reached_fails_as_any_other() {
    let sandbox = with_trees();
    let config = job("type: remote, user: u, host: 127.0.0.1, port: 1", "max_delete: 10, retries: 1, retry_wait: 0");
    for direction in ["", "direction: pull, "] {
        let finished = sandbox.once(&sandbox.config(&config.replace("max_delete", &format!("{direction}max_delete"))));
        finished.expect_code(1).expect_said("refused").expect_said("trying again");
    }
}

#[test]
fn without_max_delete_there_is_one_rsync_and_it_deletes() {
    let sandbox = with_trees();
    let started = count_rsyncs(&sandbox, &job("type: local", ""));
    assert_eq!(started.len(), 1, "{started:?}");
    assert_same(&sandbox, "src", "dst");
}

#[test]
fn a_sync_that_does_not_delete_is_not_looked_at() {
    let sandbox = with_trees();
    let config = job("type: local", "max_delete: 0").replace("-a, --delete", "-a");
    let started = count_rsyncs(&sandbox, &config);
    assert_eq!(started.len(), 1, "{started:?}");
}

/// Runs a configuration with an rsync that notes its arguments before it does its work; the notes.
fn count_rsyncs(sandbox: &Sandbox, config: &str) -> Vec<String> {
    with_rsync(sandbox, config, "").expect_code(0);
    sandbox.lines("argv")
}

/// Runs a configuration with an rsync of our own, that does `more` after it has looked.
fn with_rsync(sandbox: &Sandbox, config: &str, more: &str) -> Finished {
    let rsync = format!("/usr/bin/env PATH={PATH} rsync \"$@\"");
    let script = format!(
        "echo \"$*\" >> @/argv
        case \"$*\" in *--dry-run*) {rsync}; code=$?; {more}
            exit $code ;; esac
        exec {rsync}"
    );
    sandbox.script("bin/rsync", &script);
    let mut command = sandbox.command();
    command.env("PATH", format!("{}:{}", sandbox.path("bin").display(), PATH));
    command.args(["run", "--once", "--config"]).arg(sandbox.config(config));
    Finished::of(command)
}

#[test]
fn a_source_that_loses_files_after_the_look_is_not_followed_beyond_the_limit() {
    let sandbox = with_trees();
    let config = job("type: local", "max_delete: 12");
    let finished = with_rsync(&sandbox, &config, "rm @/src/dir/[0-9]");
    finished.expect_code(1).expect_said("exit code 25");
    let deleted = 20 - sandbox.tree("dst").values().filter(|content| *content == b"old").count();
    assert!(deleted <= 12, "{deleted} files are gone");
}

#[test]
fn an_empty_source_is_refused_unless_it_is_allowed() {
    for source in ["@/src/", "@/src", "@/sr*/", "['@/other/', '@/src/']"] {
        let sandbox = with_trees();
        std::fs::remove_dir_all(sandbox.path("src/dir")).expect("the tree");
        sandbox.write("other/file", "x");
        sandbox.write("dst/src/file", "x");
        let config = job("type: local", "").replace("source: @/src/", &format!("source: {source}"));
        refused(&sandbox, &config, "the source");
        allowed(&sandbox, &config.replace("--delete]", "--delete], allow_empty_source: true"));
        assert!(!sandbox.exists("dst/src/file") && !sandbox.exists("dst/dir/gone/1"), "{source}");
        allowed(&sandbox, &config.replace("-a, --delete", "-a"));
    }
}

#[test]
fn an_empty_source_on_a_peer_is_refused() {
    for transport in ["native", "openssh"] {
        for (source, opts) in [("@/src/", ""), ("@/src", ""), ("@/src/", ", --exclude=.keep"), ("'@/s*c/*'", "")] {
            let sandbox = with_trees();
            std::fs::remove_dir_all(sandbox.path("src/dir")).expect("the tree");
            if !opts.is_empty() {
                sandbox.write("src/.keep", "");
            }
            sandbox.write("dst/src/file", "x");
            let _peer = Sshd::start(&sandbox, "peer");
            let config =
                job("type: remote, <peer>", "direction: pull").replace("source: @/src/", &format!("source: {source}"));
            let config =
                format!("transport: {transport}\n{}", config.replace("--delete]", &format!("--delete{opts}]")));
            if source.contains('*') {
                // rsync itself says that nothing matches.
                sandbox.once(&sandbox.config(&config)).expect_code(1).expect_said("exit code 23");
                assert!(sandbox.exists("dst/src/file"));
                continue;
            }
            refused(&sandbox, &config, "is empty");
            sandbox.write("src/new", "x");
            allowed(&sandbox, &config);
            assert!(!sandbox.exists("dst/gone/1") || source == "@/src", "{source}");
        }
    }
}

#[test]
fn what_options_hide_does_not_fill_a_source() {
    let sandbox = with_trees();
    std::fs::remove_dir_all(sandbox.path("src/dir")).expect("the tree");
    sandbox.write("src/lost+found/x", "");
    let config = job("type: local", "").replace("--delete", "--delete, --exclude=/lost+found");
    refused(&sandbox, &config, "is empty");
    allowed(&sandbox, &config.replace(", --exclude=/lost+found", ""));
}

#[test]
fn a_missing_source_is_rsync_s_to_name_unless_it_would_go_on() {
    let sandbox = with_trees();
    let config = job("type: local", "").replace("@/src/", "['@/src/', '@/missing/']");
    sandbox.once(&sandbox.config(&config)).expect_code(1).expect_said("exit code 23");
    assert!(sandbox.exists("dst/gone/1"), "rsync deletes nothing after an error");
    let sandbox = with_trees();
    refused(&sandbox, &config.replace("--delete", "--delete, --ignore-errors"), "is missing");
}

#[test]
fn a_source_where_nothing_is_mounted_is_refused_though_it_is_not_empty() {
    let sandbox = with_trees();
    let fstab = sandbox.write("fstab", sandbox.expand("/dev/none @/src ext4 noauto 0 2\n"));
    let run = |config: &str| {
        let line = format!("mount --bind {} /etc/fstab && exec \"$@\"", fstab.display());
        let mut command: Command = sandbox.command_via(&["unshare", "--mount", "sh", "-c", &line, "sh"]);
        command.args(["run", "--once", "--config"]).arg(sandbox.config(config));
        Finished::of(command)
    };
    let config = job("type: local", "");
    run(&config).expect_code(1).expect_said("nothing is mounted on");
    assert!(sandbox.exists("dst/gone/1"));
    run(&config.replace("--delete]", "--delete], allow_empty_source: true")).expect_code(0);
    assert_same(&sandbox, "src", "dst");
}

#[test]
fn refusals_are_counted_by_their_reasons() {
    let sandbox = with_trees();
    sandbox.mkdir("empty");
    let config = "jobs:
- {id: many, type: local, actions: [{action: sync, id: s, source: @/src/, dest: @/dst, opts: [-a, --delete], max_delete: 1}]}
- {id: none, type: local, actions: [{action: sync, id: s, source: @/empty/, dest: @/dst, opts: [-a, --del]}]}
";
    let director = sandbox.start(&sandbox.config(config));
    director.run_now(1);
    for (job, reason) in [("many", "delete_guard"), ("none", "empty_source")] {
        let series = format!("rsyncdirector_action_failures_total action_id=s job_id={job} reason={reason}");
        assert_eq!(director.metric(&series), 1.0, "{series}");
        assert_eq!(director.metric(&format!("rsyncdirector_job_failures_total job_id={job} reason=action")), 1.0);
    }
}

#[test]
fn a_stalled_rsync_is_killed_tried_again_and_counted() {
    // Time without progress counts while the peer is logged in to, too.
    for (transport, timeout) in [("native", 4.0), ("openssh", 1.5)] {
        let sandbox = with_trees();
        let _peer = Sshd::start(&sandbox, "peer");
        let far_side = sandbox.script("far-side", "echo $$ >> @/hung\nexec sleep 600");
        let more = format!("stall_timeout: {timeout}, retries: 1, retry_wait: 0");
        let config = job("type: remote, <peer>", &more);
        let config = config.replace("--delete", &format!("--delete, --rsync-path={}", far_side.display()));
        let director = sandbox.start(&sandbox.config(&format!("transport: {transport}\nkill_grace: 2\n{config}")));
        director.run_now(1);
        assert_eq!(director.metric("rsyncdirector_rsync_stalls_total action_id=s job_id=j"), 2.0);
        assert_eq!(director.metric("rsyncdirector_action_failures_total action_id=s job_id=j reason=stalled"), 1.0);
        director.wait_for_log("no progress for");
        if transport == "native" {
            assert_eq!(sandbox.lines("hung").len(), 2);
        }
    }
}

#[test]
fn a_slow_rsync_and_one_that_only_reads_are_not_stalled() {
    let sandbox = Sandbox::new();
    // 3 MiB at 400 KiB per second, with time for a disk that is behind; then 1 GiB of holes, read and compared by both sides.
    sandbox.write("src/slow", vec![7; 3 << 20]);
    let config = job("type: local", "stall_timeout: 6").replace("--delete", "--bwlimit=400");
    allowed(&sandbox, &config);
    let config = config.replace("stall_timeout: 6", "stall_timeout: 3");
    for name in ["src/slow", "dst/slow"] {
        sandbox.write_big(name, 1024);
    }
    allowed(&sandbox, &config.replace("--bwlimit=400", "--checksum"));
}

#[test]
fn the_bandwidth_of_this_hour_is_asked_for_and_shared() {
    let sandbox = with_trees();
    for big in 0..4 {
        sandbox.write_big(&format!("src/big{big}"), 5);
    }
    let always = "bwlimit: [{from: '00:00', to: '24:00', rate: 300M}]";
    let started = count_rsyncs(
        &sandbox,
        &format!("timezone: Asia/Tokyo\n{}", job("type: local", &format!("parallel: 3, {always}"))),
    );
    let asked = |rate: &str| started.iter().filter(|line| line.contains(rate)).count();
    assert_eq!((asked("--bwlimit=307200 "), asked("--bwlimit=102400 ")), (2, 3), "{started:?}");
    assert_same(&sandbox, "src", "dst");
}

#[test]
fn a_limit_of_the_instance_ends_where_a_sync_says_0() {
    let sandbox = with_trees();
    let config = format!("bwlimit: 5M\n{}", job("type: local", ""));
    let finished = allowed(&sandbox, &config);
    finished.expect_said("rsync --bwlimit=5120 -a --delete");
    let own = config.replace("--delete]", "--delete, --bwlimit=9M]");
    sandbox.once(&sandbox.config(&own)).expect_code(2).expect_said("limit the same rsync");
    let left = own.replace("--bwlimit=9M]", "--bwlimit=9M], bwlimit: 0");
    assert!(!allowed(&sandbox, &left).stderr.contains("--bwlimit=5120"));
}

#[test]
fn a_stopped_rsync_is_stalled_and_ends() {
    let sandbox = with_trees();
    sandbox.write_big("src/big", 200);
    let config = job("type: local", "stall_timeout: 3").replace("--delete", "--bwlimit=100");
    let director = sandbox.start(&sandbox.config(&config));
    director.hup();
    let rsyncs = || {
        let all = procs::descendants(director.pid());
        all.into_iter().filter(|process| process.comm == "rsync").collect::<Vec<_>>()
    };
    wait::until("three rsyncs run", || rsyncs().len() == 3);
    for process in rsyncs() {
        procs::signal(process.pid, Signal::STOP);
    }
    director.wait_for_runs(1);
    assert_eq!(director.metric("rsyncdirector_action_failures_total action_id=s job_id=j reason=stalled"), 1.0);
}
