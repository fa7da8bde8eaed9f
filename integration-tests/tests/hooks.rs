//! Commands around a job's actions.

use std::time::Duration;

use integration_tests::wait::Stopwatch;
use integration_tests::{Finished, Sandbox, wait};
use serde_json::Value;

/// A job with a lock and every hook; `actions` are its actions.
fn with_hooks(sandbox: &Sandbox, before: &str, actions: &str) -> std::path::PathBuf {
    // Without a process of its own: at the end all hooks together have 5 s.
    let note = "for lock in @/locks/*; do [ -e \"$lock\" ] && lock=${lock##*/} || lock=none; done
echo \"$1 ${RSYNCDIRECTOR_OUTCOME:-none} ${RSYNCDIRECTOR_REASON:-none} ${RSYNCDIRECTOR_FAILED_ACTION:-none} $lock\" >> @/order";
    sandbox.script("note", note);
    // Refreshed every 3 s, and lost after 9 s without.
    sandbox.config(&format!(
        "lease: 12
kill_grace: 1
jobs:
- id: j
  type: local
  lock_files: [{{type: local, path: @/locks/l}}]
  before: [{{command: '@/note before'}}{before}]
  actions: [{actions}]
  on_failure: [{{command: '@/note on_failure'}}]
  after: [{{command: @/note, args: [after]}}, {{command: '@/note last'}}]
"
    ))
}

const WORK: &str = "{action: command, id: work, command: '@/note work'}";

#[test]
fn hooks_go_around_the_actions_under_the_locks_and_are_remembered() {
    let sandbox = Sandbox::new();
    let config = with_hooks(&sandbox, "", WORK);
    sandbox.once(&config).expect_code(0);
    let order = [
        "before none none none l",
        "work none none none l",
        "after succeeded none none l",
        "last succeeded none none l",
    ];
    assert_eq!(sandbox.lines("order"), order);
    assert!(sandbox.tree("locks").is_empty());
    let mut show = sandbox.command();
    show.args(["show", "--json", "--config"]).arg(&config);
    let shown: Value = serde_json::from_str(&Finished::of(show).expect_code(0).stdout).expect("JSON");
    let actions = shown["jobs"][0]["actions"].as_array().expect("actions").iter();
    assert_eq!(
        actions.map(|action| action["action"].clone()).collect::<Vec<_>>(),
        ["before-1", "work", "after-1", "after-2"]
    );
}

#[test]
fn a_failed_before_is_the_job_s_failure_and_its_actions_do_not_run() {
    let sandbox = Sandbox::new();
    let config = with_hooks(&sandbox, ", {command: 'echo no mount >&2; exit 3'}", WORK);
    sandbox.once(&config).expect_code(1).expect_said("before-2").expect_said("no mount");
    let failed = "failed action before-2 l";
    let order = [
        "before none none none l".to_owned(),
        format!("on_failure {failed}"),
        format!("after {failed}"),
        format!("last {failed}"),
    ];
    assert_eq!(sandbox.lines("order"), order);
}

#[test]
fn after_runs_after_a_timeout_and_the_first_failure_is_the_one_that_counts() {
    let sandbox = Sandbox::new();
    let work = "{action: command, id: slow, timeout: 0.2, command: 'sleep 1000'}";
    let config = sandbox.config(&format!(
        "jobs: [{{id: j, type: local, actions: [{work}], on_failure: [{{command: 'exit 9'}}],
           after: [{{command: 'exit 8'}}, {{command: 'touch @/after'}}]}}]"
    ));
    sandbox.once(&config).expect_code(1).expect_said("action slow: killed: it ran longer than 0.2 s");
    assert!(sandbox.exists("after"));
}

#[test]
fn a_failed_after_fails_a_job_that_succeeded_until_then() {
    let sandbox = Sandbox::new();
    let config = sandbox.config(
        "jobs: [{id: j, type: local, actions: [], after: [{command: 'exit 8'}], on_failure: [{command: 'touch @/no'}]}]",
    );
    sandbox.once(&config).expect_code(1).expect_said("action after-1: exit code 8");
    assert!(!sandbox.exists("no"));
}

#[test]
fn a_lock_that_cannot_be_taken_is_told_to_on_failure_alone() {
    let sandbox = Sandbox::new();
    sandbox.write("locks", "a file");
    let config = sandbox.config(
        "jobs: [{id: j, type: local, lock_files: [{type: local, path: @/locks/l}], actions: [],
           before: [{command: 'touch @/before'}], after: [{command: 'touch @/after'}],
           on_failure: [{command: 'echo $RSYNCDIRECTOR_REASON > @/why'}]}]",
    );
    sandbox.once(&config).expect_code(1);
    assert_eq!(sandbox.lines("why"), ["lock"]);
    assert!(!sandbox.exists("before") && !sandbox.exists("after"));
}

#[test]
fn a_dry_run_executes_no_hook() {
    let sandbox = Sandbox::new();
    let config = with_hooks(&sandbox, "", WORK);
    sandbox.once_with(&config, &["--dry-run"]).expect_code(0);
    assert!(!sandbox.exists("order"));
}

#[test]
fn term_ends_the_action_and_after_still_runs() {
    let sandbox = Sandbox::new();
    let config = with_hooks(&sandbox, "", "{action: command, id: work, command: 'touch @/begun; sleep 1000'}");
    let mut director = sandbox.start(&config);
    director.hup();
    wait::until("it runs", || sandbox.exists("begun"));
    director.stop();
    let failed = "failed cancelled work l";
    assert_eq!(
        sandbox.lines("order")[1..],
        [format!("on_failure {failed}"), format!("after {failed}"), format!("last {failed}")]
    );
    assert!(sandbox.tree("locks").is_empty());
}

#[test]
fn an_after_that_hangs_delays_the_end_by_a_bounded_time() {
    let sandbox = Sandbox::new();
    let config = sandbox.config(
        "jobs: [{id: j, type: local, lock_files: [{type: local, path: @/locks/l}], actions: [],
           after: [{command: 'touch @/begun; trap \"\" TERM; sleep 1000', retries: 5}, {command: 'touch @/never'}]}]",
    );
    let mut director = sandbox.start(&config);
    director.hup();
    wait::until("it hangs", || sandbox.exists("begun"));
    let watch = Stopwatch::start();
    director.stop();
    let took = watch.elapsed();
    assert!(took > Duration::from_secs(4) && took < Duration::from_secs(20), "{took:?}");
    assert!(sandbox.tree("locks").is_empty() && !sandbox.exists("never"));
}

#[test]
fn a_second_term_ends_a_hanging_after_at_once() {
    let time_to_end = || {
        let sandbox = Sandbox::new();
        let config = sandbox.config(
            "jobs: [{id: j, type: local, actions: [], after: [{command: 'touch @/begun; trap \"\" TERM; sleep 1000'}]}]",
        );
        let mut director = sandbox.start(&config);
        director.hup();
        wait::until("it hangs", || sandbox.exists("begun"));
        let watch = Stopwatch::start();
        director.term();
        director.wait_for_log("stopping");
        director.stop();
        watch.elapsed()
    };
    // Without the second it would end after 5 s; a machine that has no time for so long does not do so each time.
    assert!((0..3).any(|_| time_to_end() < Duration::from_secs(4)));
}

#[test]
fn after_runs_when_a_lock_is_lost_and_says_so() {
    let sandbox = Sandbox::new();
    let work = "{action: command, id: work, command: 'rm @/locks/l; sleep 1000'}";
    let config = with_hooks(&sandbox, "", work);
    sandbox.once(&config).expect_code(1).expect_said("lost lock file");
    let failed = "failed lock_lost work none";
    let order = [format!("on_failure {failed}"), format!("after {failed}"), format!("last {failed}")];
    assert_eq!(sandbox.lines("order")[1..], order);
}
