//! Two directors and one file: never both at once, and none waits for ever.

use integration_tests::{Director, Finished, Sandbox, Sshd};

/// The jobs of one director: takes `lock`, blocks on `block`, records.
fn jobs(place: &str, locks: &[&str], blocks: &[&str]) -> String {
    let files = |names: &[&str]| {
        names.iter().map(|name| format!("{{{place}, path: @/{name}, wait_time: 1}}")).collect::<Vec<_>>().join(", ")
    };
    format!(
        "jobs:
- {{id: j, type: local, lock_files: [{}], blocks_on: [{}], actions: [{{action: command, id: c, command: <record>}}]}}
",
        files(locks),
        files(blocks)
    )
}

/// Lets both run `rounds` times, told at the same moment, and checks that they never did so together.
#[track_caller]
fn never_both(sandbox: &Sandbox, rounds: u32, first: &str, second: &str) {
    sandbox.define_record("0.3");
    let directors =
        [("first", first), ("second", second)].map(|(id, jobs)| sandbox.start(&sandbox.config_of(id, jobs)));
    for round in 1..=rounds {
        directors.iter().for_each(Director::hup);
        directors.iter().for_each(|director| director.wait_for_runs(round));
    }
    assert_eq!(sandbox.lines("ran").len(), 2 * rounds as usize, "each ran each time");
    assert!(sandbox.lines("clashes").is_empty(), "they ran at the same time");
    assert!(!sandbox.exists("one.lock") && !sandbox.exists("two.lock"));
}

#[test]
fn two_directors_with_one_local_lock_never_both_run() {
    let jobs = jobs("type: local", &["one.lock"], &[]);
    never_both(&Sandbox::new(), 4, &jobs, &jobs);
}

#[test]
fn two_directors_with_one_remote_lock_never_both_run() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    let jobs = jobs("type: remote, <peer>", &["one.lock"], &[]);
    never_both(&sandbox, 4, &jobs, &jobs);
}

#[test]
fn two_directors_with_block_and_lock_on_one_local_file_never_both_run() {
    let jobs = jobs("type: local", &["one.lock"], &["one.lock"]);
    never_both(&Sandbox::new(), 4, &jobs, &jobs);
}

#[test]
fn two_directors_with_block_and_lock_on_one_remote_file_never_both_run() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    let jobs = jobs("type: remote, <peer>", &["one.lock"], &["one.lock"]);
    never_both(&sandbox, 4, &jobs, &jobs);
}

#[test]
fn two_directors_that_block_on_each_others_lock_never_both_run() {
    let sandbox = Sandbox::new();
    let first = jobs("type: local", &["one.lock"], &["two.lock"]);
    let second = jobs("type: local", &["two.lock"], &["one.lock"]);
    never_both(&sandbox, 3, &first, &second);
}

#[test]
fn two_directors_that_block_on_each_others_remote_lock_never_both_run() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    let first = jobs("type: remote, <peer>", &["one.lock"], &["two.lock"]);
    let second = jobs("type: remote, <peer>", &["two.lock"], &["one.lock"]);
    never_both(&sandbox, 3, &first, &second);
}

#[test]
fn two_directors_with_the_same_locks_in_another_order_do_not_wait_for_each_other() {
    let first = jobs("type: local", &["one.lock", "two.lock"], &[]);
    let second = jobs("type: local", &["two.lock", "one.lock"], &[]);
    never_both(&Sandbox::new(), 3, &first, &second);
}

/// Starts 200 instances in one moment, each of which wants the same lock for its one job. How many ran it; the rest found it held.
#[track_caller]
fn of_200_at_once_one_runs_at_a_time(sandbox: &Sandbox, lock: &str, section: &str) -> usize {
    sandbox.define_record(section);
    let jobs = format!(
        "connect_timeout: 60
lease: 60
history: {{max_size: 0}}
jobs:
- {{id: j, type: local, lock_files: [{{{lock}, path: @/one.lock}}], actions: [{{action: command, id: c, command: <record>}}]}}
"
    );
    let starts: Vec<_> = (0..200)
        .map(|n| {
            let mut command = sandbox.command();
            command.args(["run", "--once", "--config"]).arg(sandbox.config_of(&format!("n{n}"), &jobs));
            std::thread::spawn(|| Finished::of(command))
        })
        .collect();
    let ended: Vec<_> = starts.into_iter().map(|start| start.join().expect("a start ends")).collect();
    let ran = ended.iter().filter(|ended| ended.status.code() == Some(0)).count();
    for ended in ended.iter().filter(|ended| ended.status.code() != Some(0)) {
        ended.expect_code(1).expect_said("held by");
    }
    assert_eq!(sandbox.lines("ran").len(), ran);
    assert!(sandbox.lines("clashes").is_empty(), "two ran at the same time");
    assert!(!sandbox.exists("one.lock"));
    ran
}

#[test]
fn of_200_simultaneous_starts_with_a_local_lock_one_runs_at_a_time_and_all_get_their_turn() {
    let ran = of_200_at_once_one_runs_at_a_time(&Sandbox::new(), "type: local, wait_time: 0.5", "0.01");
    assert_eq!(ran, 200);
}

#[test]
fn of_200_simultaneous_starts_with_a_remote_lock_one_runs_at_a_time() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start_with(&sandbox, "peer", "MaxStartups 1000\nLoginGraceTime 0");
    let ran = of_200_at_once_one_runs_at_a_time(&sandbox, "type: remote, <peer>, wait_time: 1, timeout: 1", "0.5");
    assert!(ran > 0);
}
