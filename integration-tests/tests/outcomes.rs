//! What an action's end means: exit codes, retries, timeouts, and that a failure stays within its job.

use std::process::Command;
use std::time::Duration;

use integration_tests::wait::Stopwatch;
use integration_tests::{Director, Finished, Sandbox, procs, sandbox};

/// A `PATH` whose `rsync` is a script, with the real one as `real-rsync`.
fn with_rsync(script: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("src/file", "content");
    sandbox.mkdir("bin");
    std::os::unix::fs::symlink("/usr/bin/rsync", sandbox.path("bin/real-rsync")).expect("a link");
    sandbox.script("bin/rsync", script);
    sandbox
}

/// The program with these jobs and that `PATH`.
fn command(sandbox: &Sandbox, jobs: &str) -> Command {
    let mut command = sandbox.command();
    command.env("PATH", format!("{}:{}", sandbox.path("bin").display(), sandbox::PATH));
    command.env("RSYNCDIRECTOR_CONFIG", sandbox.config(jobs));
    command
}

fn once(sandbox: &Sandbox, jobs: &str) -> Finished {
    let mut command = command(sandbox, jobs);
    command.args(["run", "--once"]);
    Finished::of(command)
}

#[test]
fn a_failed_action_ends_its_job_and_releases_its_locks_and_later_jobs_run() {
    let sandbox = Sandbox::new();
    let config = sandbox.config(
        "jobs:
- {id: bad, type: local, lock_files: [{type: local, path: @/locks/a}], actions: [
    {action: command, id: first, command: 'echo first >> @/order'},
    {action: command, id: breaks, command: 'test -e @/locks/a && echo breaks >> @/order; exit 7'},
    {action: command, id: never, command: 'echo never >> @/order'}]}
- {id: good, type: local, lock_files: [{type: local, path: @/locks/a}], actions: [
    {action: command, id: last, command: 'echo last >> @/order'}]}
",
    );
    let director = sandbox.start(&config);
    director.run_now(1);
    assert_eq!(sandbox.lines("order"), ["first", "breaks", "last"]);
    assert!(sandbox.tree("locks").is_empty());
    assert_eq!(director.metric("rsyncdirector_job_failures_total job_id=bad reason=action"), 1.0);
    assert_eq!(director.metric("rsyncdirector_action_failures_total action_id=breaks job_id=bad reason=exit"), 1.0);

    director.run_now(2);
    assert_eq!(sandbox.lines("order").len(), 6, "the next run is a whole one");
}

#[test]
fn a_single_run_with_a_failed_job_exits_with_1() {
    let sandbox = Sandbox::new();
    let config =
        sandbox.config("jobs: [{id: bad, type: local, actions: [{action: command, id: breaks, command: 'exit 7'}]}]");
    sandbox.once(&config).expect_code(1).expect_said("breaks").expect_said("7");
}

#[test]
fn a_command_that_cannot_be_started_fails_its_job_only() {
    let sandbox = Sandbox::new();
    let config = sandbox.config(
        "jobs:
- {id: bad, type: local, actions: [{action: command, id: c, command: @/no/such/program, args: [x]}]}
- {id: good, type: local, actions: [{action: command, id: c, command: 'touch @/ran'}]}
",
    );
    sandbox.once(&config).expect_code(1).expect_said("no/such/program");
    assert!(sandbox.exists("ran"));
}

#[test]
fn vanished_files_are_a_warning_that_counts_as_success() {
    let sandbox = with_rsync("real-rsync \"$@\"; exit 24");
    once(&sandbox, crate::syncs::COPY).expect_code(0).expect_said("24").expect_said("vanished");
    crate::syncs::assert_same(&sandbox, "src", "dst");
}

#[test]
fn a_partial_transfer_is_a_failure_with_a_name() {
    let sandbox = with_rsync("exit 23");
    once(&sandbox, crate::syncs::COPY).expect_code(1).expect_said("23").expect_said("partial transfer");
}

#[test]
fn exit_codes_may_be_declared_a_success() {
    let sandbox = Sandbox::new();
    let jobs = |codes: &str| {
        sandbox.config(&format!(
            "jobs: [{{id: j, type: local, actions: [
                {{action: command, id: c, command: 'exit 3', success_exit_codes: {codes}}}]}}]"
        ))
    };
    sandbox.once(&jobs("[0, 3]")).expect_code(0);
    sandbox.once(&jobs("[0, 4]")).expect_code(1);
}

#[test]
fn what_a_retry_can_mend_is_retried() {
    let sandbox = with_rsync(
        "echo attempt >> @/attempts
         [ $(wc -l < @/attempts) -ge 3 ] || exit 12
         exec real-rsync \"$@\"",
    );
    let jobs = crate::syncs::COPY.replace("id: files,", "id: files, retries: 5, retry_wait: 0.1,");
    once(&sandbox, &jobs).expect_code(0);
    assert_eq!(sandbox.lines("attempts").len(), 3);
    crate::syncs::assert_same(&sandbox, "src", "dst");
}

#[test]
fn retries_come_to_an_end() {
    let sandbox = with_rsync("echo attempt >> @/attempts; exit 12");
    let jobs = crate::syncs::COPY.replace("id: files,", "id: files, retries: 2, retry_wait: 0.1,");
    once(&sandbox, &jobs).expect_code(1);
    assert_eq!(sandbox.lines("attempts").len(), 3, "one attempt and two more");
}

#[test]
fn a_pause_between_retries_is_interrupted_by_shutdown() {
    let sandbox = with_rsync("exit 12");
    let jobs = crate::syncs::COPY.replace("id: files,", "id: files, retries: 2, retry_wait: 3600,");
    let mut director = Director::spawn(&sandbox, command(&sandbox, &jobs));
    director.wait_until_ready();
    director.hup();
    director.wait_for_metric("rsyncdirector_job_retries_total job_id=copy", 1.0);
    let watch = Stopwatch::start();
    director.stop();
    assert!(watch.elapsed() < Duration::from_secs(15), "it took {:?}", watch.elapsed());
}

#[test]
fn what_a_retry_cannot_mend_is_not_retried() {
    let sandbox = with_rsync("echo attempt >> @/attempts; exit 23");
    let jobs = crate::syncs::COPY.replace("id: files,", "id: files, retries: 5, retry_wait: 0.1,");
    once(&sandbox, &jobs).expect_code(1);
    assert_eq!(sandbox.lines("attempts").len(), 1);
}

#[test]
fn an_action_that_takes_too_long_is_killed_with_all_it_started() {
    let sandbox = Sandbox::new();
    let config = sandbox.config(
        "jobs:
- {id: slow, type: local, actions: [{action: command, id: c, timeout: 1, command: 'sleep 1000 & sleep 1001'}]}
- {id: next, type: local, actions: [{action: command, id: c, command: 'touch @/ran'}]}
",
    );
    let director = sandbox.start(&config);
    director.run_now(1);
    assert_eq!(director.metric("rsyncdirector_action_failures_total action_id=c job_id=slow reason=timeout"), 1.0);
    assert!(sandbox.exists("ran"));
    assert!(procs::running(sandbox.dir(), "sleep").is_empty());
}

#[test]
fn nothing_that_an_action_started_outlives_it() {
    let sandbox = Sandbox::new();
    let config = sandbox.config(
        "kill_grace: 1
jobs:
- {id: litter, type: local, actions: [{action: command, id: c, command: 'sleep 1000 & setsid sleep 1001 & exit 0'}]}
",
    );
    let director = sandbox.start(&config);
    director.run_now(1);
    integration_tests::wait::until("no sleep is left", || procs::running(sandbox.dir(), "sleep").is_empty());
    assert_eq!(director.metric("rsyncdirector_job_runs_total job_id=litter trigger=hup"), 1.0);
}
