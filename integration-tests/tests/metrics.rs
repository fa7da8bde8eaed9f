//! What the listener tells, by a real Prometheus where names matter, and what the daemon costs.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use integration_tests::http;
use integration_tests::prometheus::Prometheus;
use integration_tests::wait::Stopwatch;
use integration_tests::{Sandbox, procs, wait};

/// A job that succeeds after a block, one that is skipped, one whose action fails.
const THREE: &str = "jobs:
- {id: good, type: local, lock_files: [{type: local, path: @/a.lock}],
   blocks_on: [{type: local, path: @/busy, wait_time: 1}], actions: [
    {action: sync, id: files, source: @/src/, dest: @/dst, opts: ['-a']}]}
- {id: skipped, type: local, blocks_on: [{type: local, path: @/never, wait_time: 1, timeout: 1}], actions: [
    {action: command, id: c, command: 'true'}]}
- {id: bad, type: local, actions: [{action: command, id: breaks, command: 'exit 1'}]}
";

/// The old program's buckets, as its Python client wrote them.
const BUCKETS: [&str; 19] = [
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

#[test]
fn a_real_prometheus_stores_the_old_series_under_their_old_names() {
    let sandbox = Sandbox::new();
    sandbox.write("src/file", "content");
    sandbox.write("busy", "");
    sandbox.write("never", "");
    let director = sandbox.start(&sandbox.config(THREE));
    director.hup();
    director.wait_for_metric("blocked_total job_id=good", 1.0);
    sandbox.remove("busy");
    director.wait_for_runs(1);

    let prometheus = Prometheus::scraping(&sandbox, director.metrics_addr());
    wait::until("Prometheus has the run", || {
        !prometheus.query("runs_completed_total{rsync_id='main'} == 1").is_empty()
    });
    for (series, at_least) in [
        ("runs_completed_total{rsync_id='main'}", 1.0),
        ("job_duration_seconds_count{job_id='good'}", 1.0),
        ("job_duration_seconds_sum{job_id='good'}", 0.0),
        ("job_skipped_for_block_timeout_total{job_id='skipped'}", 1.0),
        ("blocked_total{job_id='good'}", 1.0),
        ("blocked_total{job_id='skipped'}", 1.0),
        ("blocked_seconds_count{job_id='good'}", 1.0),
        ("lock_files{job_id='good'}", 0.0),
        ("up", 1.0),
    ] {
        // A scrape that was too slow takes them away for a moment.
        wait::until(series, || matches!(prometheus.query(series)[..], [(_, value)] if value >= at_least));
    }
    wait::until("the failed action is counted under an old name", || {
        let failed = "{__name__=~'job_aborted_for_failed_.*_err_total',job_id='bad',action_id='breaks'} == 1";
        !prometheus.query(failed).is_empty()
    });
    let buckets = wait::eventually("the buckets", || {
        Some(prometheus.query("job_duration_seconds_bucket{job_id='good'}")).filter(|found| !found.is_empty())
    });
    let mut found: Vec<_> = buckets.iter().map(|(labels, _)| labels["le"].as_str().unwrap_or_default()).collect();
    let mut expected = BUCKETS;
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn the_new_series_start_at_zero_and_follow_the_conventions() {
    let sandbox = Sandbox::new();
    let director = sandbox.start(&sandbox.config(THREE));
    let samples = director.samples();
    for series in [
        "rsyncdirector_job_runs_total job_id=good trigger=hup",
        "rsyncdirector_job_runs_total job_id=good trigger=cron",
        "rsyncdirector_job_failures_total job_id=bad reason=action",
        "rsyncdirector_job_skipped_total job_id=skipped reason=block_timeout",
        "rsyncdirector_job_skipped_total job_id=skipped reason=overlap",
        "rsyncdirector_action_failures_total action_id=breaks job_id=bad reason=exit",
        "rsyncdirector_job_running job_id=good",
        "rsyncdirector_locks_held job_id=good scope=local",
    ] {
        assert_eq!(samples.get(series), Some(0.0), "{series}");
    }
    assert_eq!(samples.sum("rsyncdirector_build_info"), 1.0);
    assert_eq!(samples.sum("rsyncdirector_job_info"), 3.0);
}

#[test]
fn a_run_moves_the_new_series() {
    let sandbox = Sandbox::new();
    sandbox.write("src/file", "content");
    sandbox.write("never", "");
    let director = sandbox.start(&sandbox.config(THREE));
    director.run_now(1);
    let samples = director.samples();
    for (series, value) in [
        ("rsyncdirector_job_runs_total job_id=good trigger=hup", 1.0),
        ("rsyncdirector_rsync_exits_total action_id=files code=0 job_id=good", 1.0),
        ("rsyncdirector_rsync_files_transferred_total action_id=files job_id=good", 1.0),
        ("rsyncdirector_rsync_transferred_bytes_total action_id=files job_id=good", 7.0),
        ("rsyncdirector_job_skipped_total job_id=skipped reason=block_timeout", 1.0),
        ("rsyncdirector_job_failures_total job_id=bad reason=action", 1.0),
        ("rsyncdirector_job_running job_id=good", 0.0),
    ] {
        assert_eq!(samples.get(series), Some(value), "{series}");
    }
    assert!(samples.get("rsyncdirector_job_last_success_timestamp_seconds job_id=good").is_some_and(|at| at > 1.7e9));
    let never = samples.get("rsyncdirector_job_last_success_timestamp_seconds job_id=bad");
    assert!(never.is_none_or(|at| at == 0.0), "{never:?}");
}

#[test]
fn a_held_lock_is_a_metric_under_both_names() {
    let sandbox = Sandbox::new();
    sandbox.define_hold();
    let director = sandbox.start(&sandbox.config(
        "jobs:
- {id: j, type: local, lock_files: [{type: local, path: @/a.lock}], actions: [
    {action: command, id: c, command: '<hold>'}]}
",
    ));
    director.hup();
    wait::until("it runs", || sandbox.exists("started"));
    let of_job =
        ["lock_files job_id=j", "rsyncdirector_locks_held job_id=j scope=local", "rsyncdirector_job_running job_id=j"];
    of_job.iter().for_each(|series| director.wait_for_metric(series, 1.0));
    sandbox.write("go", "");
    director.wait_for_runs(1);
    of_job.iter().for_each(|series| assert_eq!(director.metric(series), 0.0, "{series}"));
}

#[test]
fn the_old_names_can_be_dropped() {
    let sandbox = Sandbox::new();
    sandbox.write("src/file", "content");
    let metrics = "metrics: {addr: 127.0.0.1, port: 0, legacy_names: false}";
    let director = sandbox.start(&sandbox.config(&format!("{metrics}\n{}", crate::syncs::COPY)));
    director.hup();
    director.wait_for_metric("rsyncdirector_job_last_success_timestamp_seconds job_id=copy", 1.0);
    let samples = director.samples();
    let strangers: Vec<_> = samples.names().into_iter().filter(|name| !name.starts_with("rsyncdirector_")).collect();
    assert!(strangers.iter().all(|name| name.starts_with("process_")), "{strangers:?}");
}

#[test]
fn health_and_readiness_are_answered_and_nothing_else() {
    let sandbox = Sandbox::new();
    let director = sandbox.start(&sandbox.config(crate::syncs::COPY));
    assert_eq!(director.get("/healthz").status, 200);
    wait::until("it is ready", || director.get("/readyz").status == 200);
    assert!(director.get("/metrics").head.to_lowercase().contains("content-type: text/plain"));
    assert_eq!(director.get("/etc/passwd").status, 404);
}

#[test]
fn the_listener_is_closed_when_the_daemon_has_ended() {
    let sandbox = Sandbox::new();
    let mut director = sandbox.start(&sandbox.config(crate::syncs::COPY));
    let addr = director.metrics_addr();
    director.stop();
    assert!(http::get(addr, "/metrics").is_err());
}

#[test]
fn clients_that_say_nothing_hold_up_neither_others_nor_shutdown() {
    let took = (0..3).map(|_| {
        let sandbox = Sandbox::new();
        let mut director = sandbox.start(&sandbox.config(crate::syncs::COPY));
        let addr = director.metrics_addr();
        let mut silent: Vec<_> = (0..60).map(|_| TcpStream::connect(addr).expect("it accepts")).collect();
        silent.iter_mut().take(30).for_each(|client| client.write_all(b"GET /metr").expect("half a request"));
        assert_eq!(director.get("/healthz").status, 200);
        let watch = Stopwatch::start();
        director.stop();
        watch.elapsed()
    });
    // Each of them may be silent for 5 s.
    let least = took.min().expect("some");
    assert!(least < Duration::from_secs(3), "it took {least:?}");
}

#[test]
fn two_hundred_thousand_lines_of_rsync_output_do_not_grow_memory() {
    /// rsync prints ten lines for each at this level of verbosity.
    const FILES: usize = 20_500;
    let sandbox = Sandbox::new();
    sandbox.write("src/warm", "");
    let director = sandbox.start(&sandbox.config(&crate::syncs::COPY.replace("['-a']", "['-anvvvv']")));
    director.run_now(1);
    let before = procs::memory_kib(director.pid(), "VmRSS");
    for directory in 0..20 {
        let parent = sandbox.mkdir(&format!("src/{directory}"));
        (0..FILES / 20).for_each(|file| drop(std::fs::File::create(parent.join(file.to_string())).expect("a file")));
    }

    director.run_now(2);

    let peak = procs::memory_kib(director.pid(), "VmHWM");
    let lines = director.log().lines().count();
    assert!(lines > 200_000, "only {lines} lines are in the log");
    assert!(peak < before + 5 * 1024, "{before} KiB before, {peak} KiB at most");
}
