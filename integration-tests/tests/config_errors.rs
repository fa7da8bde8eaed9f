//! Configurations that are refused: each with one clear line that says where and what, and a non-zero exit.

use integration_tests::{Finished, Sandbox};

/// What `check` says of a configuration, and that `run` refuses it with the same exit code.
fn check(body: &str) -> Finished {
    let sandbox = Sandbox::new();
    let config = sandbox.config(body);
    let checked = sandbox.cli(&["check", &config.display().to_string()]);
    let mut command = sandbox.command();
    command.args(["run", "--config"]).arg(&config);
    assert_eq!(Finished::of(command).status.code(), checked.status.code(), "check and run differ");
    assert!(!sandbox.pid_file("main").exists());
    checked
}

fn job(id: &str, more: &str) -> String {
    format!("- id: {id}\n  type: local\n  {more}\n  actions:\n  - {{action: command, id: c, command: 'true'}}\n")
}

#[test]
fn a_mistyped_key_is_named_with_its_place_and_a_suggestion() {
    let jobs = "jobs:
- id: j
  type: local
  actions:
  - action: sync
    id: files
    source: /a
    dest: /b
    optz: ['-a']
";
    check(jobs).expect_code(2).expect_said("optz").expect_said("opts").expect_said("main.yaml:");
}

#[test]
fn two_jobs_with_one_id_are_refused() {
    let refused = check(&format!("jobs:\n{}{}", job("twin", ""), job("twin", "")));
    refused.expect_code(2).expect_said("twin").expect_said("main.yaml:");
}

#[test]
fn port_70000_is_refused() {
    let body = format!("metrics:\n  addr: 127.0.0.1\n  port: 70000\njobs:\n{}", job("j", ""));
    check(&body).expect_code(2).expect_said("70000").expect_said("65535");
}

#[test]
fn an_unparsable_schedule_is_refused() {
    let body = format!("cron_schedule: '0 25 * * *'\njobs:\n{}", job("j", ""));
    check(&body).expect_code(2).expect_said("25").expect_said("0 25").expect_said("main.yaml:");
}

#[test]
fn an_unknown_time_zone_is_refused() {
    let refused = check(&format!("jobs:\n{}", job("j", "timezone: Europe/Atlantis")));
    refused.expect_code(2).expect_said("Europe/Atlantis");
}

#[test]
fn several_mistakes_are_reported_at_once() {
    let body = format!("cron_schedule: nonsense\njobs:\n{}{}", job("twin", "timezone: Nowhere/Land"), job("twin", ""));
    check(&body).expect_code(2).expect_said("nonsense").expect_said("twin").expect_said("Nowhere/Land");
}

#[test]
fn a_remote_job_without_a_host_is_refused() {
    let body = "jobs:
- id: j
  type: remote
  user: me
  actions:
  - {action: sync, id: files, source: /a, dest: /b, opts: ['-a']}
";
    check(body).expect_code(2).expect_said("host");
}

#[test]
fn a_text_that_is_no_yaml_is_refused() {
    check("jobs: [unclosed\n").expect_code(2).expect_said("main.yaml:");
}

#[test]
fn a_schedule_that_never_fires_is_a_warning() {
    let sandbox = Sandbox::new();
    let config = sandbox.config(&format!("cron_schedule: '0 0 31 2 *'\njobs:\n{}", job("j", "")));
    let checked = sandbox.cli(&["check", &config.display().to_string()]);
    checked.expect_code(0).expect_said("never");

    let mut director = sandbox.start(&config);
    director.wait_for_log("never");
    director.run_now(1);
    director.stop();
}

#[test]
fn a_missing_configuration_is_named() {
    let sandbox = Sandbox::new();
    let refused = sandbox.once(&sandbox.path("no-such.yaml"));
    refused.expect_code(2).expect_said("no-such.yaml").expect_said("No such file");
}

#[test]
fn a_configuration_that_is_a_directory_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.once(&sandbox.mkdir("directory.yaml")).expect_code(2).expect_said("directory.yaml");
}

#[test]
fn no_configuration_at_all_is_an_error_that_says_what_to_give() {
    Sandbox::new().cli(&["run", "--once"]).expect_code(2).expect_said("RSYNCDIRECTOR_CONFIG");
}

#[test]
fn a_configuration_that_others_can_write_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.write("src/file", "content");
    let config = sandbox.config(crate::syncs::COPY);
    sandbox.chmod("main.yaml", 0o666);
    sandbox.once(&config).expect_code(2).expect_said("main.yaml").expect_said("writ");
    assert!(!sandbox.exists("dst"));
    sandbox.chmod("main.yaml", 0o644);
    sandbox.once(&config).expect_code(0);
}

#[test]
fn a_configuration_that_may_not_be_read_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.chmod("", 0o755);
    let binary = sandbox.path("rsyncdirector");
    std::fs::copy(integration_tests::director::binary(), &binary).expect("a copy that everyone can execute");
    let config = sandbox.config(crate::syncs::COPY);
    sandbox.chmod("main.yaml", 0o600);

    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(binary);
    command.args(["run", "--once", "--config"]).arg(config).current_dir(sandbox.dir());
    Finished::of(command).expect_code(2).expect_said("main.yaml").expect_said("ermission denied");
}
