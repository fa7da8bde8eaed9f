//! What people order of a running instance, and ask it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use integration_tests::{Director, Finished, Sandbox, wait};
use serde_json::Value;

use crate::history::{ask, json};

/// Two jobs that record that they ran; the first holds on until `go` is there.
const JOBS: &str = "jobs:
- {id: first, type: local, actions: [{action: command, id: c, command: 'echo first >> @/ran; until [ -e @/go ]; do sleep 0.05; done'}]}
- {id: second, type: local, actions: [{action: command, id: c, command: 'echo second >> @/ran'}]}
";

/// What an order came to: `job result`, each.
fn results(done: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let jobs = done["jobs"].as_array().expect("a list").iter();
    jobs.map(|job| format!("{} {}", text(&job["job"]), text(&job["result"]))).collect()
}

/// The reasons of `why`, now and the last time.
fn why(sandbox: &Sandbox, config: &Path, job: &str) -> (String, String) {
    let why = json(sandbox, config, &["why", job]);
    let code = |reason: &Value| reason["code"].as_str().unwrap_or("nothing").to_owned();
    (code(&why["now"]), code(&why["last"]))
}

fn ran(sandbox: &Sandbox) -> Vec<String> {
    if sandbox.exists("ran") { sandbox.lines("ran") } else { Vec::new() }
}

fn started(jobs: &str) -> (Sandbox, std::path::PathBuf, Director) {
    let sandbox = Sandbox::new();
    let config = sandbox.config(jobs);
    let director = sandbox.start(&config);
    (sandbox, config, director)
}

#[test]
fn now_runs_the_named_jobs_and_queues_behind_what_runs() {
    let (sandbox, config, _director) = started(JOBS);
    let done = json(&sandbox, &config, &["now", "second"]);
    assert_eq!(results(&done), ["second started"]);
    assert!(done["jobs"][0]["run"].as_u64().is_some_and(|run| run > 1_700_000_000_000), "{done}");
    wait::until("it ran alone", || ran(&sandbox) == ["second"]);
    wait::until("it is over", || why(&sandbox, &config, "second") == ("not_due".into(), "succeeded".into()));

    assert_eq!(results(&json(&sandbox, &config, &["now"])), ["first started", "second started"]);
    wait::until("the first runs", || ran(&sandbox) == ["second", "first"]);
    assert_eq!(why(&sandbox, &config, "second").0, "queued", "it waits for its turn in this run");
    assert_eq!(results(&json(&sandbox, &config, &["now", "second"])), ["second queued"]);
    assert_eq!(results(&json(&sandbox, &config, &["now", "second"])), ["second already queued"]);
    sandbox.write("go", "");
    wait::until("both and the queued one ran", || ran(&sandbox) == ["second", "first", "second", "second"]);
    ask(&sandbox, &config, &["now", "nobody"]).expect_code(1).expect_said("there are: first, second");
}

#[test]
fn cancel_ends_what_runs_and_what_waits_and_leaves_the_rest_alone() {
    let (sandbox, config, director) = started(JOBS);
    ask(&sandbox, &config, &["cancel"]).expect_code(0).expect_printed("nothing of that runs");
    json(&sandbox, &config, &["now"]);
    wait::until("the first runs", || ran(&sandbox) == ["first"]);
    json(&sandbox, &config, &["now", "first"]);
    assert_eq!(results(&json(&sandbox, &config, &["cancel", "first"])), ["first cancelled", "first cancelled"]);
    wait::until("the second ran all the same", || ran(&sandbox) == ["first", "second"]);
    wait::until("that is over", || why(&sandbox, &config, "second") == ("not_due".into(), "succeeded".into()));
    // The order to the queue was the last that was recorded.
    assert_eq!(why(&sandbox, &config, "first"), ("not_due".into(), "cancelled".into()));
    assert_eq!(director.metric("rsyncdirector_job_failures_total job_id=first reason=cancelled"), 1.0);
    assert_eq!(director.metric("rsyncdirector_job_skipped_total job_id=first reason=cancelled"), 1.0);

    json(&sandbox, &config, &["now"]);
    wait::until("the first runs again", || ran(&sandbox).len() == 3);
    assert_eq!(results(&json(&sandbox, &config, &["cancel"])), ["first cancelled", "second cancelled"]);
    wait::until("the second was skipped", || why(&sandbox, &config, "second").1 == "cancelled");
    assert_eq!(ran(&sandbox).len(), 3);
}

#[test]
fn a_job_that_is_cancelled_while_it_is_blocked_is_skipped() {
    let sandbox = Sandbox::new();
    sandbox.write("block", "");
    let config = sandbox.config(
        "jobs: [{id: j, type: local, blocks_on: [{type: local, path: @/block, wait_time: 60}], actions: []}]\n",
    );
    let _director = sandbox.start(&config);
    json(&sandbox, &config, &["now"]);
    wait::until("it is blocked", || why(&sandbox, &config, "j").0 == "blocked");
    json(&sandbox, &config, &["cancel", "j"]);
    wait::until("it was skipped", || why(&sandbox, &config, "j") == ("not_due".into(), "cancelled".into()));
}

#[test]
fn a_pause_outlives_the_instance_and_now_runs_all_the_same() {
    let sandbox = Sandbox::new();
    sandbox.write("go", "");
    let config = sandbox.config(JOBS);
    let mut director = sandbox.start(&config);
    assert_eq!(results(&json(&sandbox, &config, &["pause", "second"])), ["second paused"]);
    assert_eq!(results(&json(&sandbox, &config, &["pause", "second"])), ["second paused already"]);
    director.stop();
    let director = sandbox.start(&config);
    assert_eq!(why(&sandbox, &config, "second").0, "paused");
    assert!(ask(&sandbox, &config, &["status"]).expect_code(0).stdout.contains("paused"));
    director.hup();
    wait::until("the other ran", || why(&sandbox, &config, "first") == ("not_due".into(), "succeeded".into()));
    assert_eq!(ran(&sandbox), ["first"]);
    wait::until("it was skipped", || why(&sandbox, &config, "second").1 == "paused");
    director.wait_for_runs(1);
    assert_eq!(results(&json(&sandbox, &config, &["now", "second"])), ["second started"]);
    wait::until("it ran for who named it", || ran(&sandbox).contains(&"second".to_owned()));
    assert_eq!(results(&json(&sandbox, &config, &["resume"])), ["first not paused", "second resumed"]);
    wait::until("it is over", || why(&sandbox, &config, "second").0 == "not_due");
}

#[test]
fn reload_takes_a_right_file_and_refuses_a_wrong_one() {
    let (sandbox, config, director) = started(JOBS);
    json(&sandbox, &config, &["now", "first"]);
    wait::until("it runs", || ran(&sandbox) == ["first"]);
    sandbox.config("jobs: [{id: first, type: nowhere}]\n");
    let refused = {
        let mut command = sandbox.command();
        // The wrong file is not what the order is found by.
        command.args(["reload", "-i", "main"]).env("XDG_RUNTIME_DIR", sandbox.path("xdg"));
        std::fs::create_dir_all(sandbox.path("xdg")).expect("a directory");
        std::os::unix::fs::symlink(sandbox.path("run"), sandbox.path("xdg/rsyncdirector")).expect("a link");
        Finished::of(command)
    };
    refused.expect_code(1).expect_said("must be `local` or `remote`");
    assert_eq!(why_by_name(&sandbox, "first"), "running", "nothing has changed");

    sandbox.config(
        "jobs:
- {id: first, type: local, actions: [{action: command, id: c, command: 'echo changed >> @/ran'}]}
- {id: third, type: local, cron_schedule: '@hourly', actions: [{action: command, id: c, command: 'echo third >> @/ran'}]}
",
    );
    let done = json(&sandbox, &config, &["reload"]);
    assert_eq!(results(&done), ["first changed", "third added", "second removed"]);
    sandbox.write("go", "");
    wait::until("what ran has ended as it began", || why(&sandbox, &config, "first").1 == "succeeded");
    assert_eq!(ran(&sandbox), ["first"]);
    json(&sandbox, &config, &["now", "first", "third"]);
    wait::until("the new ones ran", || {
        let ran = ran(&sandbox);
        ran.contains(&"changed".to_owned()) && ran.contains(&"third".to_owned())
    });
    director.until("the new job has its series", |director| {
        director.samples().get("rsyncdirector_job_runs_total job_id=third trigger=now") == Some(1.0)
    });
    assert_eq!(director.samples().get("rsyncdirector_job_running job_id=second"), None);
    ask(&sandbox, &config, &["now", "second"]).expect_code(1).expect_said("there is no job");

    sandbox.config("lease: 4\nkill_grace: 3\nconnect_timeout: 5\njobs: []\n");
    let done = json(&sandbox, &config, &["reload"]);
    assert!(done["notes"][0].as_str().is_some_and(|note| note.contains("connect_timeout")), "{done}");
    assert_eq!(results(&done), ["first removed", "third removed"]);
}

#[test]
fn a_job_does_not_run_beside_itself_whatever_a_reload_makes_of_its_schedule() {
    let (sandbox, config, _director) = started(JOBS);
    let own = JOBS.replace("id: first,", "id: first, cron_schedule: '@yearly',");
    let without =
        "jobs: [{id: second, type: local, actions: [{action: command, id: c, command: 'echo second >> @/ran'}]}]\n";
    let reload = |jobs: &str| {
        sandbox.config(jobs);
        json(&sandbox, &config, &["reload"])
    };
    json(&sandbox, &config, &["now", "first"]);
    wait::until("it runs", || ran(&sandbox) == ["first"]);
    reload(&own);
    assert_eq!(results(&json(&sandbox, &config, &["now"])), ["second queued", "first queued"]);
    assert_eq!(results(&reload(without)), ["first removed"]);
    reload(&own);
    assert_eq!(results(&json(&sandbox, &config, &["now", "first"])), ["first queued"]);
    assert_eq!(results(&json(&sandbox, &config, &["cancel", "first"])), ["first cancelled", "first cancelled"]);
    wait::until("what began before ended, and the other came", || ran(&sandbox) == ["first", "second"]);
    wait::until("it is told", || why(&sandbox, &config, "first") == ("not_due".into(), "cancelled".into()));

    json(&sandbox, &config, &["now", "first"]);
    wait::until("it runs again", || ran(&sandbox).len() == 3);
    reload(JOBS);
    assert_eq!(results(&json(&sandbox, &config, &["now"])), ["first queued", "second started"]);
    reload(without);
    assert_eq!(results(&json(&sandbox, &config, &["cancel", "first"])), ["first cancelled"], "it still runs");
    wait::until("it is over", || json(&sandbox, &config, &["cancel"])["jobs"].as_array().is_none_or(Vec::is_empty));
    ask(&sandbox, &config, &["cancel", "first"]).expect_code(1).expect_said("there is no job");
    assert_eq!(ran(&sandbox).iter().filter(|job| *job == "first").count(), 2);
}

#[test]
fn what_is_queued_behind_a_run_comes_to_the_lane_that_a_reload_gives_it() {
    let (sandbox, config, _director) = started(JOBS);
    json(&sandbox, &config, &["now", "first"]);
    wait::until("it runs", || ran(&sandbox) == ["first"]);
    assert_eq!(results(&json(&sandbox, &config, &["now", "second"])), ["second queued"]);
    sandbox.config(&JOBS.replace("id: second,", "id: second, cron_schedule: '@yearly',"));
    json(&sandbox, &config, &["reload"]);
    wait::until("its own lane is free", || ran(&sandbox) == ["first", "second"]);
}

fn why_by_name(sandbox: &Sandbox, job: &str) -> String {
    let mut command = sandbox.command();
    command.args(["status", "-i", "main", "--json"]).env("XDG_RUNTIME_DIR", sandbox.path("xdg"));
    let status: Value = serde_json::from_str(&Finished::of(command).expect_code(0).stdout).expect("JSON");
    let jobs = status["jobs"].as_array().expect("a list");
    let state = &jobs.iter().find(|known| known["job"] == job).expect("the job")["state"]["name"];
    if state == "acting" { "running".to_owned() } else { state.to_string() }
}

#[test]
fn an_instance_is_found_by_its_name_or_by_being_the_only_one() {
    let sandbox = Sandbox::new();
    let cli = |arguments: &[&str]| {
        let mut command = sandbox.command();
        command.args(arguments).env("XDG_RUNTIME_DIR", sandbox.path("xdg"));
        Finished::of(command)
    };
    cli(&["status"]).expect_code(1).expect_said("no instance runs");
    let instance = |id: &str| sandbox.config_of(id, &format!("pid_file_dir: @/xdg/rsyncdirector\n{JOBS}"));
    let photos = sandbox.start(&instance("photos"));
    cli(&["status"]).expect_code(0).expect_printed("photos ");
    cli(&["history"]).expect_code(0).expect_printed("nothing ran yet");
    cli(&["why", "first"]).expect_code(0).expect_printed("it is not due before");
    let _music = sandbox.start(&instance("music"));
    cli(&["status"]).expect_code(2).expect_said("there are: music, photos");
    cli(&["status", "-i", "music"]).expect_code(0).expect_printed("music ");
    cli(&["next", "-i", "photos"]).expect_code(0).expect_printed("first, second");
    cli(&["status", "-i", "films"]).expect_code(1).expect_said("no instance \"films\" runs; there are: music, photos");
    drop(photos);
    cli(&["status"]).expect_code(0).expect_printed("music ");
}

#[test]
fn the_socket_says_what_is_wrong_with_a_request() {
    let (sandbox, _config, _director) = started(JOBS);
    let say = |method: &str, what: &str, body: &str| {
        let mut stream = UnixStream::connect(sandbox.path("run/main.sock")).expect("it listens");
        let length = body.len();
        let request = format!(
            "{method} {what} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    };
    assert!(say("POST", "/v1/now", "{").contains("the body must be"));
    assert!(say("POST", "/v1/now", "{\"job\": \"x\"}").contains("unknown field"));
    assert!(say("GET", "/v1/later", "").contains("there is no such request"));
    assert!(say("GET", "/v1/now", "").starts_with("HTTP/1.1 405 "));
}
