//! What is remembered of runs.

use integration_tests::{Finished, Sandbox, wait};
use serde_json::Value;

const JOBS: &str = "jobs:
- id: copy
  type: local
  actions:
  - {action: sync, id: s, source: @/src/, dest: @/dst, opts: ['-av']}
  - {action: command, id: hook, command: 'echo done; echo careful >&2'}
- {id: broken, type: local, actions: [{action: command, id: c, command: 'exit 7'}]}
";

/// A command about an instance.
pub(crate) fn ask(sandbox: &Sandbox, config: &std::path::Path, arguments: &[&str]) -> Finished {
    let mut command = sandbox.command();
    command.args(arguments).arg("--config").arg(config);
    Finished::of(command)
}

/// What it prints with `--json`.
pub(crate) fn json(sandbox: &Sandbox, config: &std::path::Path, arguments: &[&str]) -> Value {
    let answer = ask(sandbox, config, &[arguments, &["--json"]].concat());
    serde_json::from_str(&answer.expect_code(0).stdout).expect("JSON")
}

#[test]
fn runs_are_listed_and_shown_with_their_output() {
    let sandbox = Sandbox::new();
    sandbox.write("src/<script>", "x");
    let config = sandbox.config(JOBS);
    assert!(ask(&sandbox, &config, &["history"]).expect_code(0).stdout.contains("nothing ran yet"));
    sandbox.once(&config).expect_code(1);

    let listed = ask(&sandbox, &config, &["history"]);
    let listed = &listed.expect_code(0).stdout;
    assert!(listed.contains("succeeded") && listed.contains("broken: action c: exit code 7"), "{listed}");
    assert!(listed.lines().all(|line| line.chars().count() <= 80), "{listed}");
    let shown = ask(&sandbox, &config, &["show"]);
    let shown = &shown.expect_code(0).stdout;
    for expected in
        ["copy: succeeded", "$ rsync -av", "| <script>", "| done", "! careful", "broken: failed", "c: failed"]
    {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }

    let failed = json(&sandbox, &config, &["history", "--failed"]);
    assert_eq!((failed.as_array().expect("a list").len(), &failed[0]["job"]), (1, &"broken".into()));
    let run = failed[0]["run"].to_string();
    let shown = json(&sandbox, &config, &["show", &run]);
    assert_eq!(shown["jobs"][0]["actions"][0]["stats"]["transferred"], 1);
    assert_eq!(shown["jobs"][1]["actions"][0]["exit_code"], 7);
    ask(&sandbox, &config, &["show", "1"]).expect_code(1).expect_said("there is no run 1");
    ask(&sandbox, &config, &["history", "--job", "nobody"]).expect_code(2).expect_said("there is no job");
}

#[test]
fn the_times_of_the_last_success_survive_a_restart() {
    let sandbox = Sandbox::new();
    sandbox.write("src/file", "x");
    let config = sandbox.config(JOBS);
    sandbox.once(&config).expect_code(1);
    let director = sandbox.start(&config);
    let time = |what: &str, job: &str| {
        let series = format!("rsyncdirector_job_last_{what}_timestamp_seconds{{job_id=\"{job}\"}}");
        let text = director.get("/metrics").body;
        let line = text.lines().find(|line| line.starts_with(&series))?.to_owned();
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    assert!(time("success", "copy").is_some_and(|at| at > 1.7e9));
    assert_eq!(time("success", "broken"), None);
    assert!(time("completion", "broken").is_some());
}

#[test]
fn a_killed_director_s_run_is_interrupted() {
    let sandbox = Sandbox::new();
    let config = sandbox.config("jobs:\n- {id: long, type: local, actions: [{action: command, id: c, command: 'echo begun > @/begun; sleep 600'}]}\n");
    let mut director = sandbox.start(&config);
    director.hup();
    wait::until("it runs", || sandbox.exists("begun"));
    let outcome = || json(&sandbox, &config, &["history"])[0]["outcome"].clone();
    wait::until("that is recorded", || outcome() == "running");
    director.kill();
    let again = sandbox.start(&config);
    wait::until("the next start has said so", || outcome() == "interrupted");
    drop(again);
}

#[test]
fn a_history_that_cannot_be_kept_stops_nothing() {
    let sandbox = Sandbox::new();
    sandbox.write("src/file", "x");
    sandbox.write("blocked", "a file");
    let config = sandbox.config(&format!("state_dir: @/blocked\n{JOBS}"));
    sandbox.once(&config).expect_code(1).expect_said("no history is kept for now");
    assert!(sandbox.exists("dst/file"));

    let config = sandbox.config(&format!("history: {{max_size: 0}}\n{JOBS}"));
    sandbox.once(&config).expect_code(1);
    assert!(std::fs::read_dir(sandbox.path("state")).expect("there").next().is_none());
}

#[test]
fn a_dry_run_is_not_remembered() {
    let sandbox = Sandbox::new();
    sandbox.write("src/file", "x");
    let config = sandbox.config(JOBS);
    let mut command = sandbox.command();
    command.args(["run", "--once", "--dry-run", "--config"]).arg(&config);
    Finished::of(command).expect_code(0);
    assert!(ask(&sandbox, &config, &["history"]).expect_code(0).stdout.contains("nothing ran yet"));
}

#[test]
fn the_status_of_a_running_instance_tells_what_each_job_does() {
    let sandbox = Sandbox::new();
    sandbox.write("block", "");
    let config = sandbox.config(
        "jobs:
- {id: waits, type: local, blocks_on: [{type: local, path: @/block, wait_time: 1}], actions: [{action: command, id: c, command: 'echo > @/begun; sleep 600'}]}
",
    );
    ask(&sandbox, &config, &["status"]).expect_code(1).expect_said("does not run");
    let mut director = sandbox.start(&config);
    assert_eq!(json(&sandbox, &config, &["status"])["jobs"][0]["state"]["name"], "idle");
    director.hup();
    let state = || json(&sandbox, &config, &["status"])["jobs"][0]["state"].clone();
    wait::until("it is blocked", || state()["name"] == "waiting");
    assert!(state()["file"].as_str().expect("a file").ends_with("/block"));
    let said = ask(&sandbox, &config, &["status"]);
    let said = &said.expect_code(0).stdout;
    assert!(said.contains("blocked") && said.contains("held by someone else (an empty file"), "{said}");
    sandbox.remove("block");
    wait::until("it acts", || sandbox.exists("begun"));
    assert_eq!((state()["name"].as_str(), state()["action"].as_str()), (Some("acting"), Some("c")));
    director.term();
    director.stop();
    assert!(!sandbox.exists("run/main.sock"));
    ask(&sandbox, &config, &["status"]).expect_code(1).expect_said("does not run");
}

/// Killed at eight moments of a run of many short actions: what the last one did before the kill is the most that nothing is known of,
/// unless the next one began though the record was not written, since that had taken 50 ms.
#[test]
fn a_kill_at_any_moment_loses_at_most_the_running_action_s_record() {
    // Each notes when it ran, in seconds with two decimals.
    let short =
        |n| format!("  - {{action: command, id: c{n}, command: 'read now idle < /proc/uptime; echo $now >> @/ran'}}\n");
    let actions: String = (0..300).map(short).collect();
    let last = "  - {action: command, id: last, command: 'sleep 1000'}\n";
    let jobs = format!("jobs:\n- id: many\n  type: local\n  actions:\n{actions}{last}");
    for moment in 0..8u64 {
        let sandbox = Sandbox::new();
        let config = sandbox.config(&jobs);
        let mut director = sandbox.start(&config);
        director.hup();
        wait::until("it runs", || sandbox.exists("ran") && sandbox.lines("ran").len() as u64 > 3 + moment * 5);
        std::thread::sleep(std::time::Duration::from_micros(700 * moment));
        director.kill();
        let ran: Vec<f64> = sandbox.lines("ran").iter().map(|at| at.parse().expect("a time")).collect();
        let _again = sandbox.start(&config);
        let job = || json(&sandbox, &config, &["show"])["jobs"][0].clone();
        wait::until("the next start has said so", || job()["outcome"] == "interrupted");
        let job = job();
        let outcomes: Vec<&str> =
            job["actions"].as_array().expect("a list").iter().filter_map(|action| action["outcome"].as_str()).collect();
        let succeeded = outcomes.iter().filter(|outcome| **outcome == "succeeded").count();
        let of_unknown_end = ran.get(succeeded..).unwrap_or_default();
        let not_waited_for = of_unknown_end.windows(2).filter(|pair| pair[1] - pair[0] < 0.04).count();
        assert_eq!(not_waited_for, 0, "the end of {succeeded} actions is known, those that ran did so at {ran:?}");
        assert!(outcomes.len() <= succeeded + 1, "at most the last one was under way: {outcomes:?}");
        assert!(outcomes[succeeded..].iter().all(|outcome| *outcome == "interrupted"), "{outcomes:?}");
    }
}

#[test]
fn a_run_that_goes_on_is_followed_to_its_end() {
    let sandbox = Sandbox::new();
    let config = sandbox.config(
        "jobs:
- {id: quick, type: local, actions: [{action: command, id: q, command: 'echo first'}]}
- {id: slow, type: local, actions: [{action: command, id: s, command: 'echo second; echo third >&2; until [ -e @/go ]; do sleep 0.05; done; echo last'}]}
",
    );
    let director = sandbox.start(&config);
    director.hup();
    wait::until("the second job runs", || json(&sandbox, &config, &["status"])["jobs"][1]["state"]["name"] == "acting");
    let mut command = sandbox.command();
    command.args(["show", "--follow", "--config"]).arg(&config).stdout(std::process::Stdio::piped());
    let mut follower = command.spawn().expect("it starts");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(follower.stdout.take().expect("piped")));
    let mut until = |expected: &str| {
        let mut seen = Vec::new();
        for line in lines.by_ref() {
            seen.push(line.expect("UTF-8"));
            if seen.last().is_some_and(|line| line.contains(expected)) {
                return seen;
            }
        }
        panic!("{expected} was not said: {seen:?}");
    };
    let mut seen = until("! third");
    sandbox.write("go", "");
    seen.extend(until("slow: succeeded"));
    for once in ["    | first", "    | second", "    ! third", "    | last", "quick: started by hup"] {
        assert_eq!(seen.iter().filter(|line| *line == once).count(), 1, "{once}: {seen:?}");
    }
    assert!(follower.wait().expect("it ends").success());
}
