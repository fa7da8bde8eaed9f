//! Signals that arrive early, often or at a bad moment.

use integration_tests::wait::DEADLINE;
use integration_tests::{Director, Sandbox, procs, wait};
use rustix::process::Signal;

const NOTE: &str = "jobs: [{id: j, type: local, actions: [{action: command, id: c, command: 'echo run >> @/ran'}]}]";

/// The daemon at the first moment at which it handles the signal: milliseconds after its start, before it is ready.
fn as_soon_as_it_handles(sandbox: &Sandbox, signal: Signal) -> Director {
    let director = sandbox.spawn(&sandbox.config(NOTE));
    let handles = wait::within(DEADLINE, || procs::catches(director.pid(), signal).then_some(()));
    assert!(handles.is_some(), "it never handles {signal:?}");
    director
}

#[test]
fn a_hup_in_the_first_milliseconds_runs_the_jobs() {
    let sandbox = Sandbox::new();
    let director = as_soon_as_it_handles(&sandbox, Signal::HUP);
    director.hup();
    director.wait_for_runs(1);
    assert_eq!(sandbox.lines("ran"), ["run"]);
}

#[test]
fn hups_all_through_the_start_do_not_end_it() {
    let sandbox = Sandbox::new();
    let mut director = as_soon_as_it_handles(&sandbox, Signal::HUP);
    director.until("it is ready", |it| {
        it.hup();
        it.log().contains("/metrics")
    });
    director.wait_for_runs(1);
    director.stop();
}

#[test]
fn a_term_in_the_first_milliseconds_ends_it_well() {
    for _ in 0..5 {
        let sandbox = Sandbox::new();
        let mut director = as_soon_as_it_handles(&sandbox, Signal::TERM);
        director.stop();
        assert!(!sandbox.pid_file("main").exists());
    }
}

#[test]
fn two_hups_within_a_millisecond_are_handled() {
    let sandbox = Sandbox::new();
    let mut director = sandbox.start(&sandbox.config(NOTE));
    for _ in 0..20 {
        director.hup();
        director.hup();
    }
    director.wait_for_runs(1);
    let runs = sandbox.lines("ran").len();
    director.hup();
    wait::until("it still runs when told to", || sandbox.lines("ran").len() > runs);
    director.stop();
}

#[test]
fn the_log_says_which_process_sent_a_signal() {
    let sandbox = Sandbox::new();
    let mut director = sandbox.start(&sandbox.config(NOTE));
    director.run_now(1);
    director.wait_for_log("SIGHUP");
    let of_hup = director.log().lines().filter(|line| line.contains("SIGHUP")).collect::<String>();
    assert!(of_hup.contains(&std::process::id().to_string()), "our pid is not in {of_hup:?}");
    let uid = format!("uid {}", rustix::process::getuid().as_raw());
    assert!(of_hup.contains(&uid), "our {uid} is not in {of_hup:?}");
    let finished = director.stop();
    let of_term = finished.stderr.lines().filter(|line| line.contains("SIGTERM")).collect::<String>();
    assert!(of_term.contains(&std::process::id().to_string()), "our pid is not in {of_term:?}");
}
