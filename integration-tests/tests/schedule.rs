//! When runs begin: by the clock, at start, when told to.

use std::time::Duration;

use integration_tests::{Sandbox, wait};

#[test]
fn runs_by_schedule() {
    let sandbox = Sandbox::new();
    sandbox.write("src/file", "content");
    let director = sandbox.start(&sandbox.config(&format!("cron_schedule: '* * * * *'\n{}", crate::syncs::COPY)));
    let series = "rsyncdirector_job_runs_total job_id=copy trigger=cron";
    let limit = Duration::from_secs(60) + wait::DEADLINE;
    let ran = wait::within(limit, || (director.metric(series) >= 1.0).then_some(()));
    assert!(ran.is_some(), "no run within {limit:?}");
    director.wait_for_runs(1);
    crate::syncs::assert_same(&sandbox, "src", "dst");
}

#[test]
fn a_job_of_its_own_schedule_runs_at_start_when_that_says_so() {
    let sandbox = Sandbox::new();
    let director = sandbox.start(&sandbox.config(
        "jobs:
- {id: yearly, type: local, actions: [{action: command, id: c, command: 'echo yearly >> @/ran'}]}
- {id: start, type: local, cron_schedule: '@reboot', actions: [{action: command, id: c, command: 'echo start >> @/ran'}]}
",
    ));
    director.wait_for_metric("rsyncdirector_job_runs_total job_id=start trigger=cron", 1.0);
    director.wait_for_runs(1);
    assert_eq!(sandbox.lines("ran"), ["start"]);
    director.hup();
    wait::until("HUP runs all jobs", || sandbox.lines("ran").len() == 3);
}

#[test]
fn hup_runs_all_jobs_now() {
    let sandbox = Sandbox::new();
    sandbox.write("src/file", "content");
    let director = sandbox.start(&sandbox.config(crate::syncs::COPY));
    assert_eq!(director.metric("rsyncdirector_job_runs_total job_id=copy trigger=hup"), 0.0);
    director.run_now(1);
    assert_eq!(director.metric("rsyncdirector_job_runs_total job_id=copy trigger=hup"), 1.0);
    crate::syncs::assert_same(&sandbox, "src", "dst");
}

#[test]
fn hups_during_a_run_queue_exactly_one_more() {
    let sandbox = Sandbox::new();
    sandbox.define_hold();
    let director = sandbox.start(&sandbox.config(
        "jobs:
- {id: j, type: local, actions: [
    {action: command, id: note, command: 'echo run >> @/ran'}, {action: command, id: hold, command: '<hold>'}]}
",
    ));
    director.hup();
    wait::until("the run is under way", || sandbox.exists("started"));
    for _ in 0..3 {
        let seen = director.log().matches("SIGHUP").count();
        director.hup();
        director.until("the signal is logged", |it| it.log().matches("SIGHUP").count() > seen);
    }
    assert_eq!(sandbox.lines("ran").len(), 1, "it does not run twice at once");
    sandbox.write("go", "");
    director.wait_for_runs(2);
    director.run_now(3);
    assert_eq!(sandbox.lines("ran").len(), 3, "the run, one more for three signals, and the last");
}

#[test]
fn the_next_run_is_a_metric() {
    let sandbox = Sandbox::new();
    let director = sandbox.start(&sandbox.config(&format!("cron_schedule: '0 0 1 1 *'\n{}", crate::syncs::COPY)));
    // It is there a moment after the first answer.
    director.wait_for_metric("rsyncdirector_job_next_run_timestamp_seconds job_id=copy", 1.0);
    let next = director.metric("rsyncdirector_job_next_run_timestamp_seconds job_id=copy");
    let day = 86_400.0;
    assert!(next > 1.7e9 && next % day == 0.0, "{next} is not midnight, UTC");
}

#[test]
fn the_next_runs_are_listed_in_the_zone_of_the_job() {
    let sandbox = Sandbox::new();
    let config = sandbox.config(
        "jobs:
- {id: utc, type: local, cron_schedule: '17 3 * * *', actions: [{action: command, id: c, command: 'true'}]}
- {id: tokyo, type: local, cron_schedule: '18 3 * * *', timezone: Asia/Tokyo,
   actions: [{action: command, id: c, command: 'true'}]}
",
    );
    let listed = sandbox.cli(&["next", "--config", &config.display().to_string()]);
    listed.expect_code(0).expect_printed("utc").expect_printed("tokyo").expect_printed("03:17").expect_printed("03:18");
}

#[test]
fn next_tells_programs_too_when_jobs_run() {
    let sandbox = Sandbox::new();
    let config = sandbox.config(
        "cron_schedule: '0 3 * * *'\ntimezone: UTC\njobs:
- {id: a, type: local, actions: []}
- {id: b, type: local, cron_schedule: '@reboot', actions: []}
",
    );
    let mut command = sandbox.command();
    command.args(["next", "--json", "-n", "2", "--from", "2028-02-28T12:00:00Z", "--config"]).arg(&config);
    let plans: serde_json::Value =
        serde_json::from_str(&integration_tests::Finished::of(command).expect_code(0).stdout).expect("JSON");
    assert_eq!(plans[0]["jobs"][0], "a");
    assert_eq!(plans[0]["times"], serde_json::json!(["2028-02-29T03:00:00Z", "2028-03-01T03:00:00Z"]));
    assert_eq!((&plans[1]["at_start"], &plans[1]["times"]), (&true.into(), &serde_json::json!([])));
}
