//! One instance of a name per host, and whose it is when there is one already.

use std::fs;

use integration_tests::{Sandbox, procs};
use rustix::process::Signal;

use crate::syncs::COPY;

#[test]
fn a_running_instance_names_itself_in_its_pid_file_and_removes_it_at_the_end() {
    let sandbox = Sandbox::new();
    let mut director = sandbox.start(&sandbox.config(COPY));

    let content = fs::read_to_string(sandbox.pid_file("main")).expect("a pid file");
    assert_eq!(content.lines().next(), Some(director.pid().to_string().as_str()));
    director.stop();
    assert!(!sandbox.pid_file("main").exists());
}

#[test]
fn refuses_to_start_beside_a_live_pid_file() {
    let sandbox = Sandbox::new();
    let config = sandbox.config(COPY);
    let mut first = sandbox.start(&config);
    let before = fs::read(sandbox.pid_file("main")).expect("a pid file");

    let mut command = sandbox.command();
    command.args(["run", "--config"]).arg(&config);
    let second = integration_tests::Finished::of(command);

    second.expect_code(3).expect_said(&first.pid().to_string());
    assert_eq!(fs::read(sandbox.pid_file("main")).expect("the first's pid file"), before);
    assert!(procs::alive(first.pid()));
    first.stop();
}

#[test]
fn a_single_run_is_refused_beside_a_live_pid_file_too() {
    let sandbox = Sandbox::new();
    let config = sandbox.config(COPY);
    let first = sandbox.start(&config);

    sandbox.once(&config).expect_code(3).expect_said(&first.pid().to_string());
    assert!(!sandbox.exists("dst"));
}

#[test]
fn instances_of_different_names_run_side_by_side() {
    let sandbox = Sandbox::new();
    let mut first = sandbox.start(&sandbox.config_of("first", COPY));
    let mut second = sandbox.start(&sandbox.config_of("second", COPY));

    assert!(sandbox.pid_file("first").exists() && sandbox.pid_file("second").exists());
    first.stop();
    assert!(sandbox.pid_file("second").exists());
    second.stop();
}

#[test]
fn a_stale_pid_file_is_taken_over() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.pid_file("main"), format!("{}\n", procs::dead_pid())).expect("a stale pid file");
    let mut director = sandbox.start(&sandbox.config(COPY));

    let content = fs::read_to_string(sandbox.pid_file("main")).expect("a pid file");
    assert_eq!(content.lines().next(), Some(director.pid().to_string().as_str()));
    director.stop();
}

#[test]
fn the_pid_file_of_a_killed_instance_is_taken_over() {
    let sandbox = Sandbox::new();
    let config = sandbox.config(COPY);
    sandbox.start(&config).kill();
    assert!(sandbox.pid_file("main").exists(), "a killed instance cannot remove its pid file");

    sandbox.start(&config).stop();
}

#[test]
fn the_pid_file_of_a_live_old_program_is_respected() {
    let sandbox = Sandbox::new();
    let ours = std::process::id().to_string();
    fs::write(sandbox.pid_file("main"), &ours).expect("a pid file");
    sandbox.once(&sandbox.config(COPY)).expect_code(3).expect_said(&ours);
    assert_eq!(fs::read_to_string(sandbox.pid_file("main")).expect("the pid file"), ours);
}

#[test]
fn a_pid_file_from_before_its_process_was_started_is_taken_over() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.pid_file("main"), std::process::id().to_string()).expect("a pid file");
    let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let file = fs::File::options().write(true).open(sandbox.pid_file("main")).expect("the pid file");
    file.set_modified(long_ago).expect("its time");
    sandbox.start(&sandbox.config(COPY)).stop();
}

#[test]
fn a_pid_file_with_nonsense_in_it_is_taken_over() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.pid_file("main"), "no number\n").expect("a pid file");
    sandbox.start(&sandbox.config(COPY)).stop();
}

#[test]
fn a_pid_file_that_is_a_directory_is_refused_and_kept() {
    let sandbox = Sandbox::new();
    sandbox.write("run/rsyncdirector-main.pid/keep", "me");

    let refused = sandbox.once(&sandbox.config(COPY));

    refused.expect_code(4).expect_said("rsyncdirector-main.pid");
    assert_eq!(sandbox.read("run/rsyncdirector-main.pid/keep"), "me");
}

#[test]
fn a_pid_file_directory_that_cannot_be_made_is_named() {
    let sandbox = Sandbox::new();
    sandbox.write("file", "");
    let config = sandbox.config(&format!("pid_file_dir: @/file/below\n{COPY}"));
    sandbox.once(&config).expect_code(4).expect_said("file/below");
}

#[test]
fn a_missing_pid_file_directory_is_made() {
    let sandbox = Sandbox::new();
    let config = sandbox.config(&format!("pid_file_dir: @/new/run\n{COPY}"));
    let mut director = sandbox.start(&config);
    assert!(sandbox.exists("new/run/rsyncdirector-main.pid"));
    director.stop();
}

#[test]
fn an_interrupt_ends_it_as_termination_does() {
    let sandbox = Sandbox::new();
    let mut director = sandbox.start(&sandbox.config(COPY));
    procs::signal(director.pid(), Signal::INT);
    director.ended(integration_tests::wait::DEADLINE).expect_code(0);
    assert!(!sandbox.pid_file("main").exists());
}
