//! What decides whether, when and in which order the jobs of a run go.

use std::path::Path;

use integration_tests::{Finished, Sandbox};
use serde_json::Value;

fn history(sandbox: &Sandbox, config: &Path) -> Vec<(String, String, String)> {
    let mut command = sandbox.command();
    command.args(["history", "--json", "--config"]).arg(config);
    let rows: Value = serde_json::from_str(&Finished::of(command).expect_code(0).stdout).expect("JSON");
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let rows = rows.as_array().expect("a list").iter().rev();
    rows.map(|row| (text(row, "job"), text(row, "outcome"), text(row, "detail"))).collect()
}

#[test]
fn a_job_whose_condition_does_not_hold_is_skipped_and_says_which() {
    let sandbox = Sandbox::new();
    let mount = sandbox.mkdir("mount");
    let config = sandbox.config(
        "jobs:
- {id: unmounted, type: local, when: {mounted: @/mount}, actions: [{action: command, id: c, command: 'touch @/unmounted'}]}
- {id: mounted, type: local, when: {mounted: /proc}, actions: [{action: command, id: c, command: 'touch @/mounted'}]}
- {id: no, type: local, when: {command: 'exit 3'}, actions: [{action: command, id: c, command: 'touch @/no'}]}
- {id: yes, type: local, when: [{command: test, args: ['-d', @/mount]}, {command: 'true'}], actions: [{action: command, id: c, command: 'touch @/yes'}]}
- {id: far, type: local, when: {reachable: '127.0.0.1:1'}, actions: [{action: command, id: c, command: 'touch @/far'}]}
",
    );
    let finished = sandbox.once(&config);
    finished.expect_code(1).expect_said(&format!("nothing is mounted at {}", mount.display()));
    finished.expect_said("`exit 3` ended with exit code 3").expect_said("127.0.0.1:1 is not reachable");
    for (file, there) in [("unmounted", false), ("mounted", true), ("no", false), ("yes", true), ("far", false)] {
        assert_eq!(sandbox.exists(file), there, "{file}");
    }
    let outcomes: Vec<_> = history(&sandbox, &config).into_iter().map(|(job, outcome, _)| (job, outcome)).collect();
    let expected = [
        ("unmounted", "skipped"),
        ("mounted", "succeeded"),
        ("no", "skipped"),
        ("yes", "succeeded"),
        ("far", "skipped"),
    ];
    assert_eq!(outcomes, expected.map(|(job, outcome)| (job.to_owned(), outcome.to_owned())));
}

#[test]
fn a_job_after_one_that_failed_is_skipped_and_retries_come_at_the_end() {
    let sandbox = Sandbox::new();
    let config = sandbox.config(
        "jobs:
- {id: flaky, type: local, retries: 2, actions: [{action: command, id: c, command: 'echo flaky >> @/ran; [ $(grep -c flaky @/ran) = 2 ]'}]}
- {id: broken, type: local, actions: [{action: command, id: c, command: 'echo broken >> @/ran; exit 1'}]}
- {id: behind, type: local, after: [flaky], actions: [{action: command, id: c, command: 'echo behind >> @/ran'}]}
- {id: never, type: local, after: [flaky, broken], actions: [{action: command, id: c, command: 'echo never >> @/ran'}]}
- {id: other, type: local, actions: [{action: command, id: c, command: 'echo other >> @/ran'}]}
",
    );
    sandbox.once(&config).expect_code(1).expect_said("a job that it comes after did not succeed");
    assert_eq!(sandbox.lines("ran"), ["flaky", "broken", "other", "flaky", "behind"]);
    let failed: Vec<_> =
        history(&sandbox, &config).into_iter().filter(|row| row.1 == "failed").map(|row| row.0).collect();
    assert_eq!(failed, ["flaky", "broken"]);
}

/// Each of two jobs waits for the other, which one after the other could not end.
#[test]
fn as_many_jobs_go_at_once_as_are_allowed() {
    let sandbox = Sandbox::new();
    let job = |id: &str, other: &str| {
        format!(
            "- {{id: {id}, type: local, actions: [{{action: command, id: c, timeout: 30, command: 'touch @/{id}; until [ -e @/{other} ]; do sleep 0.05; done'}}]}}\n"
        )
    };
    let config = sandbox.config(&format!("concurrency: 2\njobs:\n{}{}", job("a", "b"), job("b", "a")));
    sandbox.once(&config).expect_code(0);
}

/// The history says that the daemon was last awake an hour ago.
#[test]
fn a_run_that_was_missed_while_the_daemon_was_down_is_made_good_once() {
    let sandbox = Sandbox::new();
    // Five minutes from now, and each ten from there on: none comes meanwhile, and any hour has six.
    let minute = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs() / 60;
    let mark = (minute + 5) % 10;
    let body = |catch_up: &str| {
        format!(
            "cron_schedule: '{mark}-59/10 * * * *'\n{catch_up}\njobs:\n- {{id: j, type: local, actions: [{{action: command, id: c, command: 'echo x >> @/ran'}}]}}\n"
        )
    };
    let config = sandbox.config(&body("catch_up: one"));
    sandbox.start(&config).stop();
    let rewind = || {
        let database = sandbox.path("state/main/history.db");
        let connection = rusqlite::Connection::open(database).expect("the history");
        let changed = connection.execute("UPDATE job_state SET seen_until = seen_until - 3600000", []);
        assert_eq!(changed.expect("set back"), 1);
    };
    rewind();
    let mut director = sandbox.start(&config);
    director.wait_for_metric("rsyncdirector_job_runs_total job_id=j trigger=catch_up", 1.0);
    director.wait_for_metric("rsyncdirector_job_missed_total job_id=j", 6.0);
    director.wait_for_runs(1);
    assert_eq!(sandbox.lines("ran").len(), 1);
    director.stop();
    let mut director = sandbox.start(&config);
    assert_eq!(director.metric("rsyncdirector_job_missed_total job_id=j"), 0.0, "once is enough");
    director.stop();
    rewind();
    let director = sandbox.start(&sandbox.config(&body("catch_up: none")));
    director.wait_for_metric("rsyncdirector_job_missed_total job_id=j", 6.0);
    assert_eq!(director.metric("rsyncdirector_job_runs_total job_id=j trigger=catch_up"), 0.0);
    assert_eq!(sandbox.lines("ran").len(), 1);
}
