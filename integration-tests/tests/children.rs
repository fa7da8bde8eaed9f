//! What an action's process gets from the daemon, and what it may do to it.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use integration_tests::wait::Stopwatch;
use integration_tests::{Director, Finished, Sandbox, procs, wait};
use rustix::process::Signal;

/// One job `j` with one shell line.
fn command(line: &str) -> String {
    let line = line.replace('\'', "''");
    format!("jobs: [{{id: j, type: local, actions: [{{action: command, id: c, command: '{line}'}}]}}]")
}

/// Runs the line once and succeeds.
#[track_caller]
fn once(sandbox: &Sandbox, line: &str) -> Finished {
    let finished = sandbox.once(&sandbox.config(&command(line)));
    finished.expect_code(0);
    finished
}

#[test]
fn an_action_starts_with_no_signal_blocked_or_ignored() {
    let sandbox = Sandbox::new();
    once(&sandbox, "grep -E 'Sig(Blk|Ign)' /proc/self/status > @/signals");
    let masks = sandbox.lines("signals");
    assert_eq!(masks.len(), 2);
    for line in masks {
        let mask = line.split_whitespace().last().and_then(|mask| u64::from_str_radix(mask, 16).ok());
        // Signals from 32 on are the C library's own.
        assert_eq!(mask.map(|mask| mask & 0x7fff_ffff), Some(0), "{line}");
    }
}

#[test]
fn an_action_inherits_no_file_of_the_daemon() {
    let sandbox = Sandbox::new();
    let list = sandbox.expand("ls -l /proc/self/fd | sed 's/.* \\([0-9]*\\) -> .*/\\1/' > @/files");
    let bare = sandbox.command_via(&["/bin/sh", "-c", &list]).status();
    assert!(bare.expect("it starts").success());
    let before = sandbox.read("files");
    let script = sandbox.script("list", &list);
    once(&sandbox, &script.display().to_string());
    assert!(before.contains('2'), "{before}");
    assert_eq!(sandbox.read("files"), before, "the tests' own child has other files than the daemon's");
}

#[test]
fn an_action_reads_an_empty_standard_input() {
    let sandbox = Sandbox::new();
    once(&sandbox, "cat > @/input; echo read >> @/input");
    assert_eq!(sandbox.read("input"), "read\n");
}

#[test]
fn an_action_that_closes_its_output_is_waited_for() {
    let sandbox = Sandbox::new();
    once(&sandbox, "exec > /dev/null 2>&1; sleep 0.5; touch @/done");
    assert!(sandbox.exists("done"));
}

#[test]
fn an_action_runs_in_a_process_group_of_its_own() {
    let sandbox = Sandbox::new();
    once(
        &sandbox,
        "cut -d ' ' -f 5 /proc/self/stat > @/group; cut -d ' ' -f 4 /proc/self/stat > @/shell; echo $PPID > @/director",
    );
    assert_eq!(sandbox.read("group"), sandbox.read("shell"), "the shell leads its group");
    assert_ne!(sandbox.read("group"), sandbox.read("director"));
}

#[test]
fn both_outputs_of_an_action_reach_the_log_line_by_line() {
    let sandbox = Sandbox::new();
    let finished = once(&sandbox, "echo to-output; echo to-error >&2; printf 'no newline'");
    finished.expect_said("to-output").expect_said("to-error").expect_said("no newline");
}

#[test]
fn output_that_is_no_text_reaches_the_log_escaped() {
    let sandbox = Sandbox::new();
    let finished = once(&sandbox, "printf 'a\\033[31mb\\377c\\rd\\n'");
    assert!(!finished.stderr.contains("\x1b[31mb"), "a control character reached the log");
    let line = finished.stderr.lines().find(|line| line.contains("[31mb")).expect("the line is in the log");
    assert!(line.contains('c') && line.contains('d'), "{line}");
}

#[test]
fn a_line_without_an_end_does_not_grow_memory() {
    let sandbox = Sandbox::new();
    let director = sandbox.start(&sandbox.config(&command("head -c $(cat @/size) /dev/zero | tr '\\0' x")));
    sandbox.write("size", "1000");
    director.run_now(1);
    let before = procs::memory_kib(director.pid(), "VmRSS");
    sandbox.write("size", "50000000");
    director.run_now(2);
    let peak = procs::memory_kib(director.pid(), "VmHWM");
    assert!(peak < before + 5 * 1024, "{before} KiB before, {peak} KiB at most");
    assert_eq!(director.metric("rsyncdirector_job_failures_total job_id=j reason=action"), 0.0);
}

#[test]
fn a_log_that_cannot_be_written_does_not_stop_the_work() {
    for full in [true, false] {
        let sandbox = Sandbox::new();
        sandbox.write("src/file", "content");
        let mut command = sandbox.command();
        command.args(["run", "--once", "--config"]).arg(sandbox.config(crate::syncs::COPY));
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        match full {
            true => command.stderr(File::options().write(true).open("/dev/full").expect("/dev/full")),
            false => command.stderr(Stdio::from(writer)),
        };
        let status = command.stdout(Stdio::null()).status().expect("it starts");
        assert_eq!(status.code(), Some(0), "full: {full}");
        crate::syncs::assert_same(&sandbox, "src", "dst");
    }
}

#[test]
fn an_action_under_way_when_its_daemon_is_told_to_stop_gets_a_term() {
    let sandbox = Sandbox::new();
    sandbox.script("polite", "trap 'echo told > @/told; exit 3' TERM\ntouch @/started\nwhile :; do sleep 0.05; done");
    let mut director = sandbox.start(&sandbox.config(&format!("kill_grace: 60\n{}", command("@/polite"))));
    director.hup();
    wait::until("it runs", || sandbox.exists("started"));
    let watch = Stopwatch::start();
    director.stop();
    assert_eq!(sandbox.read("told"), "told\n");
    assert!(watch.elapsed() < Duration::from_secs(20), "it took {:?}", watch.elapsed());
}

#[test]
fn a_log_that_nobody_reads_does_not_hold_up_shutdown() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command();
    command.args(["run", "--config"]).arg(sandbox.config(&self::command("touch @/started; seq 1000000; sleep 1000")));
    let (unread, writer) = std::io::pipe().expect("a pipe");
    let mut stuck = Director::spawn_logging_to(&sandbox, command, writer);
    wait::until("it handles signals", || procs::catches(stuck.pid(), Signal::HUP));
    stuck.hup();
    wait::until("the action runs", || sandbox.exists("started"));
    stuck.stop();
    assert!(!sandbox.pid_file("main").exists());
    drop(unread);
}

#[test]
fn a_killed_director_leaves_nothing_of_a_shell_line_either() {
    let sandbox = Sandbox::new();
    let script = sandbox.script("work", "touch @/started\n(sleep 300 | sleep 301) &\nsetsid sleep 302 &\nsleep 303");
    let mut director = sandbox.start(&sandbox.config(&format!(
        "jobs:\n- {{id: j, type: local, actions: [{{action: command, id: c, command: '{}; true'}}]}}\n",
        script.display()
    )));
    director.hup();
    wait::until("the script runs", || procs::running(sandbox.dir(), "sleep").len() == 4);
    director.kill();
    wait::until("all of it has ended", || procs::mentioning(sandbox.dir()).is_empty());
}
