//! The commands and options, and the environment variables that stand for them.

use std::path::{Path, PathBuf};

use integration_tests::{Finished, Sandbox};
use serde_json::Value;

use crate::syncs::{COPY, assert_same};

fn with_source() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("src/file", "content");
    sandbox
}

/// Runs the program without arguments in this environment.
fn bare(sandbox: &Sandbox, environment: &[(&str, &str)]) -> Finished {
    let mut command = sandbox.command();
    command.envs(environment.iter().copied());
    Finished::of(command)
}

#[test]
fn a_dry_run_changes_nothing() {
    let sandbox = with_source();
    sandbox.write("dst/obsolete", "x");
    let config = sandbox.config(
        "jobs:
- {id: copy, type: local, lock_files: [{type: local, path: @/a.lock}], actions: [
    {action: sync, id: files, source: @/src/, dest: @/dst, opts: ['-av --delete']},
    {action: command, id: c, command: 'touch @/ran'}]}
",
    );
    sandbox.once_with(&config, &["--dry-run"]).expect_code(0).expect_said("obsolete");
    assert_eq!(sandbox.tree("dst").into_keys().collect::<Vec<_>>(), [Path::new("obsolete")]);
    assert!(!sandbox.exists("ran"), "a dry run executes no command");
    assert!(!sandbox.exists("a.lock"));
}

#[test]
fn chosen_jobs_run_alone() {
    let sandbox = Sandbox::new();
    let job = |id: &str| {
        format!("- {{id: {id}, type: local, actions: [{{action: command, id: c, command: 'echo {id} >> @/ran'}}]}}\n")
    };
    let config = sandbox.config(&format!("jobs:\n{}{}{}", job("one"), job("two"), job("three")));
    sandbox.once_with(&config, &["--job", "three", "--job", "one"]).expect_code(0);
    let mut ran = sandbox.lines("ran");
    ran.sort_unstable();
    assert_eq!(ran, ["one", "three"]);
}

#[test]
fn a_chosen_job_that_does_not_exist_is_an_error_that_names_it() {
    let sandbox = with_source();
    sandbox
        .once_with(&sandbox.config(COPY), &["--job", "coppy"])
        .expect_code(2)
        .expect_said("coppy")
        .expect_said("copy");
    assert!(!sandbox.exists("dst"));
}

#[test]
fn the_environment_stands_for_the_options_in_both_spellings() {
    for prefix in ["RSYNCDIRECTOR", "RSYNCMANANGER"] {
        let sandbox = with_source();
        let config = sandbox.config(COPY).display().to_string();
        let name = |option: &str| format!("{prefix}_{option}");
        let (path, once, dry) = (name("CONFIG"), name("RUNONCE"), name("DRYRUN"));

        bare(&sandbox, &[(&path, &config), (&once, "true"), (&dry, "true")]).expect_code(0);
        assert!(!sandbox.exists("dst"), "{dry} is ignored");
        bare(&sandbox, &[(&path, &config), (&once, "true")]).expect_code(0);
        assert_same(&sandbox, "src", "dst");
    }
}

#[test]
fn the_log_level_comes_from_the_environment() {
    let sandbox = with_source();
    let config = sandbox.config(COPY).display().to_string();
    let said = |level: &str| {
        let level = [
            ("RSYNCDIRECTOR_CONFIG", config.as_str()),
            ("RSYNCDIRECTOR_RUNONCE", "true"),
            ("RSYNCDIRECTOR_LOGLEVEL", level),
        ];
        bare(&sandbox, &level).expect_code(0).stderr.lines().count()
    };
    assert!(said("debug") > said("error"));
}

#[test]
fn json_logs_are_one_object_per_line() {
    let sandbox = with_source();
    let finished = sandbox.once_with(&sandbox.config(COPY), &["--log-format", "json"]);
    finished.expect_code(0);
    let lines: Vec<_> = finished.stderr.lines().collect();
    assert!(!lines.is_empty());
    for line in lines {
        assert!(serde_json::from_str::<Value>(line).is_ok_and(|it| it.is_object()), "{line}");
    }
}

#[test]
fn the_schema_is_json_and_knows_the_keys() {
    let printed = Sandbox::new().cli(&["schema"]);
    printed.expect_code(0);
    let schema: Value = serde_json::from_str(&printed.stdout).expect("JSON");
    for key in ["rsync_id", "cron_schedule", "pid_file_dir", "metrics", "jobs"] {
        assert!(!schema["properties"][key].is_null(), "no {key}");
    }
}

#[test]
fn version_completions_and_help_are_printed() {
    let sandbox = Sandbox::new();
    sandbox.cli(&["version"]).expect_code(0).expect_printed("2.0.0");
    for shell in ["bash", "zsh", "fish"] {
        sandbox.cli(&["completions", shell]).expect_code(0).expect_printed("rsyncdirector");
    }
    let help = sandbox.cli(&["--help"]);
    help.expect_code(0).expect_printed("xit").expect_printed("RSYNCDIRECTOR_CONFIG");
}

#[test]
fn an_unknown_option_is_refused() {
    let refused = Sandbox::new().cli(&["run", "--no-such-option"]);
    refused.expect_code(2).expect_said("--no-such-option");
}

/// The files of the repository's `resources/` directory that end in `.yaml`, not of those below it.
fn samples(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../resources").join(directory);
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let samples: Vec<_> = paths.filter(|path| path.extension().is_some_and(|ext| ext == "yaml")).collect();
    assert!(!samples.is_empty(), "no samples in {}", directory.display());
    samples
}

#[test]
fn every_shipped_sample_passes_the_check() {
    let sandbox = Sandbox::new();
    for path in [samples(""), samples("samples")].concat() {
        let text = std::fs::read_to_string(&path).expect("a sample");
        let variables = text.split("${").skip(1).filter_map(|rest| Some((rest.split_once('}')?.0, "/value")));
        let mut command = sandbox.command();
        command.envs(variables).arg("check").arg(&path);
        Finished::of(command).expect_code(0);
    }
}

#[test]
fn every_invalid_sample_fails_the_check() {
    let sandbox = Sandbox::new();
    for path in samples("samples/invalid") {
        let name = path.file_name().expect("a name").display().to_string();
        sandbox.cli(&["check", &path.display().to_string()]).expect_code(2).expect_said(&name);
    }
}
