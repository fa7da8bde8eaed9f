//! The alerts that we ship, in a real Prometheus that scrapes real instances with faults. `resources/prometheus/rules_test.yml` has all of
//! them, and the limits of time; here they are shortened, and the faults are real.

use std::net::SocketAddr;
use std::time::Duration;

use integration_tests::prometheus::Prometheus;
use integration_tests::{Director, Sandbox, Sshd, wait};

use crate::leases::age;

/// The rules with short limits, evaluated each 2 s.
fn rules() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../resources/prometheus/rules.yml");
    let rules = std::fs::read_to_string(path).expect("the rules");
    let shortened = [("interval: 1m", "interval: 2s"), ("for: 1m", "for: 2s"), ("> 3600", "> 2"), ("> 86400", "> 10")];
    let rules = shortened.iter().fold(rules, |rules, (long, short)| {
        assert!(rules.contains(long), "{long}");
        rules.replace(long, short)
    });
    // One more in their group, which has a sample for each evaluation.
    format!("{rules}\n      - record: evaluations\n        expr: vector(1)\n")
}

/// A Prometheus at work on instances.
struct Watch(Prometheus);

impl Watch {
    fn on(sandbox: &Sandbox, directors: &[&Director]) -> Self {
        let targets: Vec<SocketAddr> = directors.iter().map(|director| director.metrics_addr()).collect();
        let watch = Self(Prometheus::watching(sandbox, &targets, &rules()));
        let build = || watch.0.query("rsyncdirector_build_info").len() == targets.len();
        wait::until("all instances are scraped", build);
        watch
    }

    /// Since when a series of the selector has held without a break, by Prometheus's own time.
    fn since(&self, selector: &str, holds: impl Fn(f64) -> bool) -> Option<f64> {
        let series = self.0.history(&format!("{selector}[10m]"));
        let since = |samples: &Vec<(f64, f64)>| {
            samples.iter().rev().take_while(|(_, value)| holds(*value)).last().map(|(at, _)| *at)
        };
        series.iter().filter_map(since).min_by(f64::total_cmp)
    }

    /// Waits until an alert fires; when it first did.
    #[track_caller]
    fn fires(&self, alert: &str) -> f64 {
        let selector = format!("ALERTS{{alertname='Rsyncdirector{alert}',alertstate='firing'}}");
        wait::eventually(&format!("{alert} fires"), || self.since(&selector, |value| value == 1.0))
    }

    /// Waits until an alert fires, at the second evaluation at the latest after its fault was scraped; or the third, as a scrape bears
    /// the time of its beginning, and an evaluation may come before its end.
    #[track_caller]
    fn detects(&self, alert: &str, fault: &str, holds: impl Fn(f64) -> bool) {
        let fired = self.fires(alert);
        let seen = self.since(fault, holds).unwrap_or_else(|| panic!("no fault in {fault}"));
        let evaluations = self.0.history("evaluations[10m]").into_iter().flatten();
        let needed = evaluations.filter(|(at, _)| seen < *at && *at <= fired).count();
        assert!(needed <= 3, "{alert} took {needed} evaluations, {} s", fired - seen);
    }

    /// The same for a fault that a counter counts.
    #[track_caller]
    fn counts(&self, alert: &str, counter: &str) {
        self.detects(alert, &format!("rsyncdirector_{counter}"), |value| value > 0.0);
    }

    /// Nothing fires, and nothing is about to, over the next evaluations.
    #[track_caller]
    fn is_calm(&self) {
        let scrapes = || self.0.history("up[10m]").iter().map(Vec::len).min().unwrap_or_default();
        let before = scrapes();
        wait::until("some evaluations are over", || scrapes() >= before + 6);
        // A scrape that was too slow is no calm instance's fault.
        let down = "max_over_time(ALERTS{alertname='RsyncdirectorInstanceDown'}[10m])";
        let slow = format!("{down} and on (instance) min_over_time(up[10m]) == 0");
        let alerts = self.0.query(&format!("max_over_time(ALERTS[10m]) unless ({slow})"));
        assert!(alerts.is_empty(), "{alerts:?}");
    }
}

/// Jobs that are well until there is a file `fault`.
const TURNING: &str = "kill_grace: 1
jobs:
- {id: fails, type: local, actions: [{action: command, id: c, command: '[ ! -e @/fault ]'}]}
- {id: retried, type: local, actions: [{action: command, id: c, command: '[ ! -e @/fault ]', retries: 7, retry_wait: 0}]}
- {id: late, type: local, actions: [{action: command, id: c, command: '[ ! -e @/fault ] || sleep 60', timeout: 1}]}
- {id: skipped, type: local, blocks_on: [{type: local, path: @/fault, wait_time: 1, timeout: 1}], actions: [
    {action: command, id: c, command: 'true'}]}
- {id: guarded, type: local, actions: [{action: sync, id: s, source: @/many/, dest: @/d1, opts: [-a, --delete], max_delete: 20%}]}
- {id: emptied, type: local, actions: [{action: sync, id: s, source: @/few/, dest: @/d2, opts: [-a, --delete]}]}
- {id: shrunk, type: local, actions: [{action: sync, id: s, source: @/many/, dest: @/d3, opts: [-a]}]}
- {id: stalls, type: remote, <peer>, actions: [
    {action: sync, id: s, source: @/src/, dest: @/d4, opts: [-a, '--rsync-path=@/far-side'], stall_timeout: 5}]}
";

#[test]
fn a_calm_instance_alerts_nobody_and_faults_of_actions_do_within_two_evaluations() {
    let sandbox = Sandbox::new();
    (0..10).for_each(|number| drop(sandbox.write(format!("many/{number}"), "x")));
    sandbox.write("few/file", "x");
    sandbox.write("src/file", "x");
    sandbox.script("far-side", "[ ! -e @/fault ] || exec sleep 600\nexec rsync \"$@\"");
    let _peer = Sshd::start(&sandbox, "peer");
    let director = sandbox.start(&sandbox.config(TURNING));
    let watch = Watch::on(&sandbox, &[&director]);
    director.run_now(1);
    watch.is_calm();

    (3..10).for_each(|number| sandbox.remove(&format!("many/{number}")));
    sandbox.remove("few/file");
    sandbox.write("fault", "");
    director.hup();

    let failing = "rsyncdirector_job_failures_total{job_id='fails',reason='action'}";
    watch.detects("JobFailing", failing, |value| value > 0.0);
    watch.detects("ManyRetries", "rsyncdirector_job_retries_total", |value| value > 5.0);
    watch.counts("ActionTimeout", "action_failures_total{reason='timeout'}");
    watch.counts("JobSkipped", "job_skipped_total{reason='block_timeout'}");
    watch.counts("DeletionRefused", "action_failures_total{reason='delete_guard'}");
    watch.counts("SourceEmpty", "action_failures_total{reason='empty_source'}");
    watch.detects("SourceShrank", "rsyncdirector_rsync_source_files{job_id='shrunk'}", |value| value < 5.0);
    watch.counts("SyncStalled", "rsync_stalls_total");
}

/// A job that holds a lock until there is a file `go`, and one that waits for a file.
const HOLDING: &str = "lease: 12
jobs:
- {id: j, type: local, lock_files: [{type: local, path: @/LOCK, wait_time: 1}], WAITING actions: [{action: command, id: c, command: '<hold>'}]}
";

#[test]
fn faults_of_locks_peers_and_instances_alert_within_two_evaluations() {
    let sandbox = Sandbox::new();
    sandbox.define_hold();
    let _unknown = Sshd::start_unknown(&sandbox, "peer");
    let start = |id: &str, lock: &str, blocks: &str| {
        let body = HOLDING.replace("LOCK", lock).replace("WAITING", blocks);
        sandbox.start(&sandbox.config_of(id, &body))
    };
    let blocks = "blocks_on: [{type: local, path: @/foreign, wait_time: 1}],";
    let (loser, blocked) = (start("loser", "a.lock", ""), start("blocked", "b.lock", blocks));
    let (mut dying, heir) = (start("dying", "c.lock", ""), start("heir", "c.lock", ""));
    let waiting = start("waiting", "foreign", "");
    let stranger = "jobs:\n- {id: j, type: remote, <peer>, actions: [{action: sync, id: s, source: @/home, dest: @/d, opts: [-a]}]}\n";
    let stranger = sandbox.start(&sandbox.config_of("stranger", stranger));
    sandbox.write("foreign", "");
    let watch = Watch::on(&sandbox, &[&loser, &blocked, &dying, &heir, &waiting, &stranger]);
    watch.is_calm();

    for director in [&loser, &blocked, &dying, &waiting, &stranger] {
        director.hup();
    }
    wait::until("two hold their locks", || sandbox.exists("a.lock") && sandbox.exists("c.lock"));
    let gone = dying.metrics_addr();
    dying.kill();
    age(&sandbox.path("c.lock"));
    heir.hup();
    sandbox.remove("a.lock");

    watch.counts("LockLost", "lock_lost_total");
    watch.counts("LockTakenOver", "lock_takeovers_total");
    watch.counts("HostKeyRefused", "ssh_connect_failures_total{reason='host_key'}");
    watch.detects("PeerDown", "rsyncdirector_peer_up", |value| value == 0.0);
    watch.detects("JobNeverSucceeded", "rsyncdirector_job_failures_total", |value| value > 0.0);
    watch.detects("InstanceDown", &format!("up{{instance='{gone}'}}"), |value| value == 0.0);
    for limit in ["LockStuck", "BlockStuck", "JobRunsLong"] {
        watch.fires(limit);
    }
    sandbox.write("go", "");
}

#[test]
fn an_overlap_of_what_runs_by_schedule_alerts_within_two_evaluations() {
    let sandbox = Sandbox::new();
    sandbox.define_hold();
    let body = "cron_schedule: '* * * * *'\njobs:\n- {id: j, type: local, actions: [{action: command, id: c, command: '<hold>'}]}\n";
    let director = sandbox.start(&sandbox.config(body));
    let watch = Watch::on(&sandbox, &[&director]);
    director.hup();
    let overlap = "rsyncdirector_job_skipped_total job_id=j reason=overlap";
    let skipped = wait::within(Duration::from_secs(75), || (director.metric(overlap) > 0.0).then_some(()));
    assert!(skipped.is_some(), "no minute has passed");
    watch.counts("Overlap", "job_skipped_total{reason='overlap'}");
    sandbox.write("go", "");
}
