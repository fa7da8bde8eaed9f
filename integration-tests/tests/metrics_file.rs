//! Metrics of `run --once` for node_exporter's textfile collector.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use integration_tests::http::Samples;
use integration_tests::{Director, Sandbox, wait};

const JOBS: &str = "jobs:
- {id: good, type: local, actions: [{action: command, id: c, command: 'cp @/x.prom @/seen'}]}
- {id: bad, type: local, actions: [{action: command, id: c, command: 'exit 3'}]}
";

/// Runs once with the file `x.prom`.
fn once(sandbox: &Sandbox, config: &str, code: i32) -> Samples {
    let file = sandbox.path("x.prom").display().to_string();
    sandbox.once_with(&sandbox.config(config), &["--metrics-file", &file]).expect_code(code);
    Samples::parse(&sandbox.read("x.prom"))
}

#[test]
fn the_file_is_there_from_the_start_and_says_at_the_end_how_it_went() {
    let sandbox = Sandbox::new();
    let samples = once(&sandbox, JOBS, 1);
    let during = Samples::parse(&sandbox.read("seen"));
    assert_eq!(during.get("rsyncdirector_job_runs_total job_id=good trigger=once"), Some(0.0));
    assert_eq!(samples.get("rsyncdirector_job_runs_total job_id=good trigger=once"), Some(1.0));
    assert_eq!(samples.get("rsyncdirector_job_failures_total job_id=bad reason=action"), Some(1.0));
    assert!(samples.get("rsyncdirector_job_last_success_timestamp_seconds job_id=good").is_some_and(|at| at > 1.7e9));
    let metadata = sandbox.path("x.prom").metadata().expect("the file");
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o644);
}

#[test]
fn promtool_finds_nothing_to_complain_of() {
    let sandbox = Sandbox::new();
    once(&sandbox, &format!("metrics: {{addr: 127.0.0.1, port: 0, legacy_names: false}}\n{JOBS}"), 1);
    let page = std::fs::File::open(sandbox.path("x.prom")).expect("the file");
    let mut promtool = Command::new("promtool");
    let output = promtool.args(["check", "metrics"]).stdin(Stdio::from(page)).output().expect("promtool is installed");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn who_reads_it_again_and_again_never_sees_half_a_page() {
    let sandbox = Sandbox::new();
    sandbox.define_hold();
    let file = sandbox.path("x.prom").display().to_string();
    let config =
        sandbox.config("jobs:\n- {id: j, type: local, actions: [{action: command, id: c, command: '<hold>'}]}\n");
    let mut command = sandbox.command();
    command.args(["run", "--once", "--metrics-file", &file, "--config"]).arg(config);
    let mut director = Director::spawn(&sandbox, command);
    wait::until("the action runs", || sandbox.exists("started"));
    let first = sandbox.read("x.prom");
    sandbox.write("go", "");
    wait::until("another page is there", || {
        let page = sandbox.read("x.prom");
        assert!(page.ends_with('\n') && page.lines().count() >= first.lines().count(), "half a page:\n{page}");
        page != first
    });
    director.ended(wait::DEADLINE).expect_code(0);
}

#[test]
fn a_file_that_cannot_be_written_fails_no_run_and_a_daemon_takes_none() {
    let sandbox = Sandbox::new();
    let config =
        sandbox.config("jobs:\n- {id: j, type: local, actions: [{action: command, id: c, command: 'true'}]}\n");
    let nowhere = sandbox.once_with(&config, &["--metrics-file", "/nowhere/x.prom"]);
    nowhere.expect_code(0).expect_said("could not write metrics to /nowhere/x.prom");
    let config = config.display().to_string();
    sandbox.cli(&["run", "--config", &config, "--metrics-file", "x"]).expect_code(2).expect_said("--once only");
}
