use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Metrics;
use crate::config::{
    Action, ActionId, ActionKind, Block, Carrier, Command, Config, HistoryPolicy, HostKeyPolicy, Job, JobId,
    JobSchedule, Location, LockFile, Peer, Place, Route, SshPolicy, Sync, Via, Wait,
};
use crate::event::{
    ActionFailure, ActionReport, ExitStatus, JobEvent, JobFailure, JobOutcome, Observer, Obstacle, RunEvent, RunId,
    SkipReason, Trigger,
};
use crate::rsync::stats::Stats;
use crate::schedule::Schedule;

#[test]
fn the_first_page_has_every_known_series_at_0() {
    insta::assert_snapshot!(Metrics::new(&config(), "2.0.0").encode());
}

#[test]
fn without_legacy_names_every_name_has_the_prefix() {
    let mut config = config();
    config.metrics.legacy_names = false;
    let metrics = Metrics::new(&config, "2.0.0");
    for event in a_run() {
        metrics.observe(at(60), &event);
    }
    let page = metrics.encode();
    for line in page.lines() {
        let name = line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ");
        assert!(name.starts_with("rsyncdirector_"), "{line}");
    }
    assert!(page.contains("rsyncdirector_job_runs_total{job_id=\"photos\",trigger=\"cron\"} 1\n"), "{page}");
}

#[test]
fn every_run_is_completed_whatever_its_jobs_did() {
    let run = RunId(1);
    check(
        [
            RunEvent::RunStarted { run, trigger: Trigger::Hup },
            failed(JobFailure::Lock),
            RunEvent::RunFinished { run, duration: secs(1) },
        ],
        &[
            "job_duration_seconds_sum{job_id=\"photos\"} 2",
            "job_duration_seconds_count{job_id=\"photos\"} 1",
            "rsyncdirector_job_duration_seconds_sum{job_id=\"photos\"} 2",
            "rsyncdirector_job_duration_seconds_count{job_id=\"photos\"} 1",
            "rsyncdirector_job_failures_total{job_id=\"photos\",reason=\"lock\"} 1",
            "rsyncdirector_job_last_completion_timestamp_seconds{job_id=\"photos\"} 1800000000.25",
            "runs_completed_total{rsync_id=\"laptop\"} 1",
        ],
    );
}

#[test]
fn a_started_job_runs_and_has_a_start() {
    check(
        [started()],
        &[
            "rsyncdirector_job_last_start_timestamp_seconds{job_id=\"photos\"} 1800000000.25",
            "rsyncdirector_job_running{job_id=\"photos\"} 1",
            "rsyncdirector_job_runs_total{job_id=\"photos\",trigger=\"cron\"} 1",
        ],
    );
}

#[test]
fn a_success_is_a_completion_and_ends_running() {
    check(
        [started(), finished(JobOutcome::Succeeded)],
        &[
            "job_duration_seconds_sum{job_id=\"photos\"} 2",
            "job_duration_seconds_count{job_id=\"photos\"} 1",
            "rsyncdirector_job_duration_seconds_sum{job_id=\"photos\"} 2",
            "rsyncdirector_job_duration_seconds_count{job_id=\"photos\"} 1",
            "rsyncdirector_job_last_completion_timestamp_seconds{job_id=\"photos\"} 1800000000.25",
            "rsyncdirector_job_last_start_timestamp_seconds{job_id=\"photos\"} 1800000000.25",
            "rsyncdirector_job_last_success_timestamp_seconds{job_id=\"photos\"} 1800000000.25",
            "rsyncdirector_job_runs_total{job_id=\"photos\",trigger=\"cron\"} 1",
        ],
    );
}

#[test]
fn each_look_that_finds_a_block_counts_and_giving_up_skips_the_job() {
    let look = |obstacle, next_look| job(JobEvent::BlockWait { file: "nas:/run/x".into(), obstacle, next_look });
    check(
        [
            look(Obstacle::Present("4711".into()), Some(secs(30))),
            look(Obstacle::Unknown("refused".into()), None),
            job(JobEvent::BlocksDone { waited: secs(45) }),
            finished(JobOutcome::Skipped(SkipReason::BlockTimeout)),
        ],
        &[
            "blocked_seconds_sum{job_id=\"photos\"} 45",
            "blocked_seconds_count{job_id=\"photos\"} 1",
            "blocked_total{job_id=\"photos\"} 2",
            "job_duration_seconds_sum{job_id=\"photos\"} 2",
            "job_duration_seconds_count{job_id=\"photos\"} 1",
            "job_skipped_for_block_timeout_total{job_id=\"photos\"} 1",
            "rsyncdirector_job_block_waits_total{job_id=\"photos\"} 2",
            "rsyncdirector_job_duration_seconds_sum{job_id=\"photos\"} 2",
            "rsyncdirector_job_duration_seconds_count{job_id=\"photos\"} 1",
            "rsyncdirector_job_skipped_total{job_id=\"photos\",reason=\"block_timeout\"} 1",
        ],
    );
}

#[test]
fn locks_are_held_from_taking_to_release() {
    let locked = || job(JobEvent::Locked { local: 1, remote: 2, waited: secs(3) });
    let waited = [
        "rsyncdirector_lock_wait_duration_seconds_sum{job_id=\"photos\"} 3",
        "rsyncdirector_lock_wait_duration_seconds_count{job_id=\"photos\"} 1",
    ];
    let held = [
        "lock_files{job_id=\"photos\"} 3",
        waited[0],
        waited[1],
        "rsyncdirector_locks_held{job_id=\"photos\",scope=\"local\"} 1",
        "rsyncdirector_locks_held{job_id=\"photos\",scope=\"remote\"} 2",
    ];
    check([locked()], &held);
    check([locked(), job(JobEvent::Released { left_behind: vec!["nas:/x: gone".into()] })], &waited);
    check([job(JobEvent::Locked { local: 0, remote: 0, waited: secs(0) })], &[]);
}

#[test]
fn lost_and_taken_over_locks_count() {
    check(
        [
            job(JobEvent::LockTakenOver { file: "nas:/x".into(), holder: "laptop2".into() }),
            job(JobEvent::LockLost { file: "nas:/x".into(), reason: "lease".into() }),
        ],
        &[
            "rsyncdirector_lock_lost_total{job_id=\"photos\"} 1",
            "rsyncdirector_lock_takeovers_total{job_id=\"photos\"} 1",
        ],
    );
}

#[test]
fn an_rsync_that_fails_after_a_retry_moves_its_own_series() {
    let stats = Stats {
        files: 10,
        created: 4,
        deleted: 3,
        transferred: 2,
        source_bytes: 5000,
        transferred_bytes: 600,
        sent_bytes: 70,
        received_bytes: 8,
    };
    check(
        [
            job(JobEvent::RsyncExit { action: copy(), code: 12 }),
            job(JobEvent::Retry { action: copy(), message: "12".into(), pause: secs(1) }),
            job(JobEvent::RsyncExit { action: copy(), code: 23 }),
            action_finished(Some(ActionFailure::Exit), Some(stats)),
        ],
        &[
            "job_aborted_for_failed_action_err_total{action_id=\"copy\",job_id=\"photos\"} 1",
            "rsyncdirector_action_duration_seconds_sum{action_id=\"copy\",job_id=\"photos\"} 1.5",
            "rsyncdirector_action_duration_seconds_count{action_id=\"copy\",job_id=\"photos\"} 1",
            "rsyncdirector_action_failures_total{action_id=\"copy\",job_id=\"photos\",reason=\"exit\"} 1",
            "rsyncdirector_job_retries_total{job_id=\"photos\"} 1",
            "rsyncdirector_rsync_exits_total{action_id=\"copy\",code=\"12\",job_id=\"photos\"} 1",
            "rsyncdirector_rsync_exits_total{action_id=\"copy\",code=\"23\",job_id=\"photos\"} 1",
            "rsyncdirector_rsync_files_created_total{action_id=\"copy\",job_id=\"photos\"} 4",
            "rsyncdirector_rsync_files_deleted_total{action_id=\"copy\",job_id=\"photos\"} 3",
            "rsyncdirector_rsync_files_transferred_total{action_id=\"copy\",job_id=\"photos\"} 2",
            "rsyncdirector_rsync_received_bytes_total{action_id=\"copy\",job_id=\"photos\"} 8",
            "rsyncdirector_rsync_sent_bytes_total{action_id=\"copy\",job_id=\"photos\"} 70",
            "rsyncdirector_rsync_source_bytes{action_id=\"copy\",job_id=\"photos\"} 5000",
            "rsyncdirector_rsync_source_files{action_id=\"copy\",job_id=\"photos\"} 10",
            "rsyncdirector_rsync_transferred_bytes_total{action_id=\"copy\",job_id=\"photos\"} 600",
        ],
    );
}

#[test]
fn an_internal_error_is_charged_to_the_action_under_way() {
    let name = "job_aborted_for_exception_err_total{action_id=\"copy\",job_id=\"photos\"} 1";
    let begun = || job(JobEvent::ActionStarted { action: copy(), command: "rsync".into() });
    assert!(moved([begun(), failed(JobFailure::Internal)]).iter().any(|line| line == name));
    let over = [begun(), action_finished(None, None), failed(JobFailure::Internal)];
    assert!(!moved(over).iter().any(|line| line.contains("exception")));
}

#[test]
fn the_old_names_do_not_count_what_a_shutdown_stopped() {
    let lines = moved([action_finished(Some(ActionFailure::Cancelled), None)]);
    assert!(!lines.iter().any(|line| line.starts_with("job_aborted")), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("reason=\"cancelled\"")), "{lines:?}");
}

#[test]
fn jobs_that_are_not_run_count_by_reason() {
    check(
        [
            job(JobEvent::NotRun { reason: SkipReason::Overlap, trigger: Trigger::Cron }),
            job(JobEvent::Missed { count: 5 }),
        ],
        &[
            "rsyncdirector_job_missed_total{job_id=\"photos\"} 5",
            "rsyncdirector_job_skipped_total{job_id=\"photos\",reason=\"overlap\"} 1",
        ],
    );
}

#[test]
fn a_job_that_is_never_due_has_no_next_run() {
    let next = |at| job(JobEvent::NextRun(at));
    check([next(Some(at(3600)))], &["rsyncdirector_job_next_run_timestamp_seconds{job_id=\"photos\"} 1800003600.25"]);
    check([next(Some(at(3600))), next(None)], &[]);
    check([next(None)], &[]);
}

#[test]
fn a_peer_is_up_or_down_by_its_last_connection() {
    check(
        [RunEvent::PeerConnected { peer: peer("nas") }],
        &[
            "rsyncdirector_peer_up{peer=\"backup@nas:22\"} 1",
            "rsyncdirector_ssh_connects_total{peer=\"backup@nas:22\"} 1",
        ],
    );
    check(
        [RunEvent::PeerConnected { peer: peer("nas") }, RunEvent::PeerFailed { peer: peer("nas"), reason: "host_key" }],
        &[
            "rsyncdirector_peer_up{peer=\"backup@nas:22\"} 0",
            "rsyncdirector_ssh_connect_failures_total{peer=\"backup@nas:22\",reason=\"host_key\"} 1",
            "rsyncdirector_ssh_connects_total{peer=\"backup@nas:22\"} 1",
        ],
    );
}

#[test]
fn what_the_configuration_does_not_name_makes_no_series() {
    let stranger = JobId::new("stranger");
    let of_stranger = |event| RunEvent::Job { run: None, job: stranger.clone(), event };
    let unknown_action = ActionId::new("unknown");
    check(
        [
            of_stranger(JobEvent::Started { trigger: Trigger::Cron }),
            of_stranger(JobEvent::RsyncExit { action: copy(), code: 0 }),
            job(JobEvent::RsyncExit { action: unknown_action, code: 0 }),
            job(JobEvent::RsyncExit { action: copy(), code: -1 }),
            RunEvent::PeerConnected { peer: peer("elsewhere") },
            RunEvent::PeerFailed { peer: peer("elsewhere"), reason: "auth" },
        ],
        &[],
    );
}

#[test]
fn old_and_new_histograms_have_the_old_bounds() {
    let metrics = Metrics::new(&config(), "2.0.0");
    let page = metrics.encode();
    let expected = [
        "0.01",
        "0.1",
        "0.5",
        "1.0",
        "10.0",
        "30.0",
        "60.0",
        "300.0",
        "600.0",
        "1800.0",
        "3600.0",
        "7200.0",
        "14400.0",
        "28800.0",
        "86400.0",
        "172800.0",
        "604800.0",
        "1.2096e+06",
        "+Inf",
    ];
    for name in ["job_duration_seconds", "rsyncdirector_job_duration_seconds"] {
        let start = format!("{name}_bucket{{job_id=\"photos\",le=\"");
        let bounds: Vec<_> = page.lines().filter_map(|line| line.strip_prefix(&start)?.split('"').next()).collect();
        assert_eq!(bounds, expected, "{name}");
    }
}

/// Asserts that these events change exactly these lines of the first page, in the page's order; buckets aside.
#[track_caller]
fn check(events: impl IntoIterator<Item = RunEvent>, expected: &[&str]) {
    assert_eq!(moved(events), expected);
}

fn moved(events: impl IntoIterator<Item = RunEvent>) -> Vec<String> {
    let metrics = Metrics::new(&config(), "2.0.0");
    let before = metrics.encode();
    let before: HashSet<_> = before.lines().collect();
    for event in events {
        metrics.observe(at(0), &event);
    }
    let after = metrics.encode();
    let moved = after.lines().filter(|line| !before.contains(line) && !line.contains("_bucket{"));
    moved.filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

/// A run whose job succeeds.
fn a_run() -> [RunEvent; 4] {
    let run = RunId(1);
    [
        RunEvent::RunStarted { run, trigger: Trigger::Cron },
        started(),
        finished(JobOutcome::Succeeded),
        RunEvent::RunFinished { run, duration: secs(2) },
    ]
}

fn job(event: JobEvent) -> RunEvent {
    RunEvent::Job { run: Some(RunId(1)), job: JobId::new("photos"), event }
}

fn started() -> RunEvent {
    job(JobEvent::Started { trigger: Trigger::Cron })
}

fn finished(outcome: JobOutcome) -> RunEvent {
    job(JobEvent::Finished { outcome, duration: secs(2) })
}

fn failed(failure: JobFailure) -> RunEvent {
    finished(JobOutcome::Failed(failure))
}

fn action_finished(failure: Option<ActionFailure>, stats: Option<Stats>) -> RunEvent {
    let report = ActionReport {
        failure,
        status: Some(ExitStatus::Code(0)),
        message: String::new(),
        stats,
        is_rsync: true,
        duration: Duration::from_millis(1500),
    };
    job(JobEvent::ActionFinished { action: copy(), report })
}

fn copy() -> ActionId {
    ActionId::new("copy")
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A quarter second and this many after a round Unix time.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_250 + seconds * 1000).expect("in range")
}

fn peer(host: &str) -> Peer {
    Peer { user: "backup".into(), host: host.into(), port: 22, private_key: None, reach: Default::default() }
}

/// A job `photos` with a push `copy` and a command `note`, a block and a lock on its peer; its listener is a free port
/// of the loopback interface.
pub(crate) fn config() -> Config {
    let nas = |path: &str| Location { place: Place::Remote(peer("nas"), Via::Auto), path: path.into() };
    let wait = Wait { every: secs(30), timeout: None };
    let sync = Sync {
        sources: vec!["/srv/photos".into()],
        dest: "/backup".into(),
        opts: vec!["-a".into()],
        parallel: 1,
        max_delete: None,
        allow_empty_source: false,
        stall_timeout: None,
        bwlimit: None,
        route: Route::Push(peer("nas"), Carrier::Native),
        list: None,
    };
    let photos = Job {
        id: JobId::new("photos"),
        schedule: JobSchedule {
            expression: "@reboot".into(),
            schedule: Schedule::Reboot,
            timezone: TimeZone::UTC,
            jitter: secs(0),
            overlap: Default::default(),
            catch_up: None,
            own: false,
        },
        peer: Some(peer("nas")),
        lock_files: vec![LockFile { location: nas("/run/lock"), wait }],
        blocks_on: vec![Block { location: nas("/run/block"), wait }],
        before: vec![],
        on_failure: vec![],
        after: vec![],
        max_age: None,
        notify: vec![],
        actions: vec![
            action("copy", ActionKind::Sync(sync)),
            action("note", ActionKind::Command(Command::Shell("true".into()))),
        ],
        when: vec![],
        after_jobs: vec![],
        retries: 0,
    };
    Config {
        path: PathBuf::from("/etc/rsyncdirector/laptop.yaml"),
        rsync_id: "laptop".into(),
        pid_file_dir: PathBuf::from("/run/rsyncdirector"),
        metrics: listener(),
        history: HistoryPolicy { directory: None, max_age: secs(0), max_size: 0, output_max: 0 },
        ssh: SshPolicy {
            connect_timeout: secs(10),
            host_key_policy: HostKeyPolicy::Strict,
            known_hosts: vec![],
            unsaid: Default::default(),
        },
        lease: secs(60),
        kill_grace: secs(10),
        concurrency: 1,
        jobs: vec![Arc::new(photos)],
    }
}

fn action(id: &str, kind: ActionKind) -> Action {
    let id = ActionId::new(id);
    Action { id, kind, timeout: None, success_exit_codes: vec![0], retries: 0, retry_wait: secs(1) }
}

fn listener() -> crate::config::Metrics {
    crate::config::Metrics {
        addr: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 0,
        startup_timeout: secs(10),
        startup_retry_wait: secs(2),
        startup_retry_limit: 3,
        page_auth: None,
        metrics_auth: None,
        tls: None,
        legacy_names: true,
    }
}
