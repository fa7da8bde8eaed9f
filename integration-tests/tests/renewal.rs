//! An instance leaves with 75, to be started anew, when nothing runs; and goes on well when its program's file was replaced.

use std::fs;
use std::path::{Path, PathBuf};

use integration_tests::wait::DEADLINE;
use integration_tests::{Director, Sandbox, Sshd, director, procs, wait};
use rustix::process::Signal;

use crate::history::{ask, json};

/// A job that goes on until `go` is there, and one that runs by itself within a minute.
const HOLDS: &str = "jobs:
- {id: first, type: local, actions: [{action: command, id: c, command: 'echo first >> @/ran; until [ -e @/go ]; do sleep 0.05; done; echo over >> @/ran'}]}
- {id: second, type: local, actions: [{action: command, id: c, command: 'echo second >> @/ran'}]}
";

fn ran(sandbox: &Sandbox) -> Vec<String> {
    if sandbox.exists("ran") { sandbox.lines("ran") } else { Vec::new() }
}

#[test]
fn an_idle_instance_leaves_at_once_and_leaves_nothing_behind() {
    let sandbox = Sandbox::new();
    let config = sandbox.config(HOLDS);
    let mut director = sandbox.start(&config);
    ask(&sandbox, &config, &["renew"]).expect_code(0).expect_printed("it leaves now");
    director.ended(DEADLINE).expect_code(75);
    assert!(!sandbox.pid_file("main").exists());
    ask(&sandbox, &config, &["renew"]).expect_code(1).expect_said("does not run");
}

#[test]
fn a_busy_instance_ends_what_runs_and_what_is_queued_first() {
    let sandbox = Sandbox::new();
    let config = sandbox.config(HOLDS);
    let mut director = sandbox.start(&config);
    json(&sandbox, &config, &["now", "first"]);
    wait::until("the first runs", || ran(&sandbox) == ["first"]);
    let told = json(&sandbox, &config, &["renew"]);
    assert_eq!(
        (&told["jobs"][0]["job"], &told["jobs"][0]["result"]),
        (&"first".into(), &"waited for".into()),
        "{told}"
    );
    json(&sandbox, &config, &["now", "second"]);
    sandbox.write("go", "");
    director.ended(DEADLINE).expect_code(75);
    assert_eq!(ran(&sandbox), ["first", "over", "second"]);
}

#[test]
fn sigusr2_is_the_same_also_in_the_first_milliseconds() {
    let sandbox = Sandbox::new();
    let mut director = sandbox.spawn(&sandbox.config(HOLDS));
    let handles = wait::within(DEADLINE, || procs::catches(director.pid(), Signal::USR2).then_some(()));
    assert!(handles.is_some(), "it never handles it");
    procs::signal(director.pid(), Signal::USR2);
    director.ended(DEADLINE).expect_code(75);
    assert!(director.log().contains("SIGUSR2 from pid"), "{}", director.log());
}

/// A director whose program has a file of its own.
fn of_its_own_file(sandbox: &Sandbox, config: &Path) -> (Director, PathBuf) {
    let file = sandbox.path("rsyncdirector");
    fs::copy(director::binary(), &file).expect("a copy");
    let mut command = sandbox.command_of(&file);
    command.args(["run", "--log-format", "json", "--config"]).arg(config);
    let director = Director::spawn(sandbox, command);
    director.wait_until_ready();
    (director, file)
}

/// As dpkg does it: the new file gets the old one's name, so that the old one has none.
fn replace(sandbox: &Sandbox, file: &Path) {
    let new = sandbox.script("rsyncdirector.dpkg-new", "exit 9");
    fs::rename(new, file).expect("replaced");
}

#[test]
fn a_program_whose_file_was_replaced_still_syncs_over_its_own_connections() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    sandbox.write("src/file", "content");
    let config = sandbox.config(
        "jobs:
- {id: push, type: remote, <peer>, lock_files: [{type: remote, <peer>, path: @/lock}],
   actions: [{action: sync, id: s, source: @/src/, dest: @/dst, opts: ['-a']}]}
",
    );
    let (mut director, file) = of_its_own_file(&sandbox, &config);
    replace(&sandbox, &file);
    director.run_now(1);
    assert_eq!(sandbox.read("dst/file"), "content");
    director.stop();
}

#[test]
fn a_program_whose_file_was_replaced_still_takes_its_children_along_when_it_is_killed() {
    let sandbox = Sandbox::new();
    let config = sandbox.config(HOLDS);
    let (mut director, file) = of_its_own_file(&sandbox, &config);
    replace(&sandbox, &file);
    director.hup();
    wait::until("the first runs", || ran(&sandbox) == ["first"]);
    director.kill();
    wait::until("nothing of it lives", || procs::mentioning(sandbox.dir()).is_empty());
}
