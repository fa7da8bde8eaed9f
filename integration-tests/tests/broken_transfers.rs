//! What goes wrong with a transfer while it is under way or between two: it ends in time, says why, leaves nothing on either side, and the
//! next one works.

use std::time::Duration;

use integration_tests::network::Network;
use integration_tests::peers::Proxy;
use integration_tests::procs::Proc;
use integration_tests::wait::Stopwatch;
use integration_tests::{Director, Sandbox, Sshd, procs, wait};
use rustix::process::Signal;

use crate::syncs::assert_same;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Push,
    Pull,
}

const WAYS: [Way; 2] = [Way::Push, Way::Pull];

/// A dead connection is noticed within 45 s; by a director that did not run for some seconds of it, which gives its peer another chance,
/// within this time.
const NOTICED: Duration = Duration::from_secs(80);

/// A job of one sync.
fn job(way: Way, opts: &str, more: &str) -> String {
    let direction = if way == Way::Pull { "direction: pull, " } else { "" };
    format!(
        "jobs:
- {{id: j, type: remote, <peer>, actions: [{{action: sync, id: s, {direction}source: @/src/, dest: @/dst, opts: ['-a {opts}'], {more}}}]}}
"
    )
}

/// A daemon that was told to begin with a sync that would take half a minute.
fn begun(sandbox: &Sandbox, way: Way, more: &str) -> Director {
    sandbox.write_big("src/big", 64);
    let director = sandbox.start(&sandbox.config(&job(way, "--bwlimit=2000", more)));
    director.hup();
    director
}

/// A daemon in the midst of that sync.
fn under_way(sandbox: &Sandbox, way: Way) -> Director {
    let director = begun(sandbox, way, "");
    wait_for_data(sandbox);
    director
}

fn wait_for_data(sandbox: &Sandbox) {
    wait::until("data arrives", || sandbox.has_data("dst"));
}

/// What is left of a transfer, here and there.
fn left(sandbox: &Sandbox) -> Vec<Proc> {
    let all = procs::mentioning(sandbox.dir()).into_iter();
    all.filter(|process| process.comm == "rsync" || process.comm == "ssh" || process.cmdline.contains(" __rsh "))
        .collect()
}

#[track_caller]
fn nothing_is_left(sandbox: &Sandbox) {
    let gone = wait::within(Duration::from_secs(10), || left(sandbox).is_empty().then_some(()));
    assert!(gone.is_some(), "left: {:#?}", left(sandbox));
}

#[track_caller]
fn fails_with(sandbox: &Sandbox, director: &Director, code: u32, why: &str) {
    director.wait_for_runs(1);
    director.wait_for_log(&format!("exit code {code}"));
    director.wait_for_log(why);
    nothing_is_left(sandbox);
}

/// The rsyncs that the daemon has started, or those that it has not.
fn rsyncs(sandbox: &Sandbox, director: &Director, here: bool) -> Vec<Proc> {
    let ours: Vec<_> = procs::descendants(director.pid()).iter().map(|process| process.pid).collect();
    let mut all = procs::running(sandbox.dir(), "rsync");
    all.retain(|process| ours.contains(&process.pid) == here);
    assert!(!all.is_empty(), "none is running");
    all
}

fn signal_all(processes: &[Proc], signal: Signal) {
    processes.iter().for_each(|process| procs::signal(process.pid, signal));
}

#[test]
fn a_killed_session_of_sshd_ends_the_transfer() {
    for way in WAYS {
        let sandbox = Sandbox::new();
        let peer = Sshd::start(&sandbox, "peer");
        let director = under_way(&sandbox, way);
        peer.kill_sessions();
        fails_with(&sandbox, &director, 255, "lost the connection");
    }
}

#[test]
fn a_killed_sshd_ends_the_transfer_and_the_next_finds_it_again() {
    for way in WAYS {
        let sandbox = Sandbox::new();
        let mut peer = Sshd::start(&sandbox, "peer");
        let director = under_way(&sandbox, way);
        peer.kill();
        fails_with(&sandbox, &director, 255, "lost the connection");
        director.run_now(2);
        director.wait_for_log("could not connect");
        peer.start_again();
        sandbox.write("src/big", "small now");
        director.run_now(3);
        assert_same(&sandbox, "src", "dst");
    }
}

#[test]
fn a_killed_rsync_ends_the_transfer() {
    for way in WAYS {
        for (here, why) in [(true, "ended by signal 9"), (false, "was ended by signal 9")] {
            let sandbox = Sandbox::new();
            let _peer = Sshd::start(&sandbox, "peer");
            let director = under_way(&sandbox, way);
            signal_all(&rsyncs(&sandbox, &director, here), Signal::KILL);
            director.wait_for_runs(1);
            director.wait_for_log(why);
            nothing_is_left(&sandbox);
            sandbox.write("src/big", "small now");
            director.run_now(2);
            assert_eq!(sandbox.read("dst/big"), "small now");
        }
    }
}

#[test]
fn a_transfer_that_exceeds_its_timeout_leaves_nothing() {
    for way in WAYS {
        let sandbox = Sandbox::new();
        let _peer = Sshd::start(&sandbox, "peer");
        // The time counts from the start of the action: most of it is the transfer's.
        let director = begun(&sandbox, way, "timeout: 2");
        director.wait_for_runs(1);
        director.wait_for_log("it ran longer than 2 s");
        nothing_is_left(&sandbox);
    }
}

#[test]
fn a_killed_daemon_leaves_nothing_of_a_transfer_on_either_side() {
    for way in WAYS {
        let sandbox = Sandbox::new();
        let _peer = Sshd::start(&sandbox, "peer");
        let mut director = under_way(&sandbox, way);
        director.kill();
        nothing_is_left(&sandbox);
    }
}

/// A sync that has just been made, over a connection that is kept for the next.
fn with_a_kept_connection() -> (Sandbox, Sshd, Proxy, Director) {
    let sandbox = Sandbox::new();
    let (sshd, proxy) = Proxy::before_new(&sandbox, "peer", "");
    sandbox.write("src/file", "first");
    let director = sandbox.start(&sandbox.config(&job(Way::Push, "", "")));
    director.run_now(1);
    assert_same(&sandbox, "src", "dst");
    (sandbox, sshd, proxy, director)
}

#[track_caller]
fn the_next_sync_connects_anew(sandbox: &Sandbox, sshd: &Sshd, director: &Director) {
    sandbox.write("src/file", "second");
    director.hup();
    the_second_sync_connected_anew(sandbox, sshd, director);
}

#[track_caller]
fn the_second_sync_connected_anew(sandbox: &Sandbox, sshd: &Sshd, director: &Director) {
    director.wait_for_runs(2);
    assert_same(sandbox, "src", "dst");
    assert_eq!(director.samples().sum("rsyncdirector_job_failures_total"), 0.0);
    assert_eq!(sshd.connections(), 2);
}

#[test]
fn a_kept_connection_that_died_is_replaced() {
    let (sandbox, sshd, _proxy, director) = with_a_kept_connection();
    sshd.kill_sessions();
    the_next_sync_connects_anew(&sandbox, &sshd, &director);
}

#[test]
fn a_kept_connection_that_died_this_moment_is_replaced() {
    let (sandbox, sshd, proxy, director) = with_a_kept_connection();
    sandbox.write("src/file", "second");
    procs::signal(director.pid(), Signal::STOP);
    director.hup();
    proxy.cut();
    procs::signal(director.pid(), Signal::CONT);
    the_second_sync_connected_anew(&sandbox, &sshd, &director);
}

#[test]
fn a_kept_connection_that_is_silent_is_replaced() {
    let (sandbox, sshd, proxy, director) = with_a_kept_connection();
    proxy.freeze();
    let watch = Stopwatch::start();
    the_next_sync_connects_anew(&sandbox, &sshd, &director);
    assert!(watch.elapsed() < Duration::from_secs(20), "it took {:?}", watch.elapsed());
}

/// Several transfers whose connections die in one moment, all of them noticed in time.
#[track_caller]
fn all_are_noticed(directors: &[Director], why: &str) {
    let watch = Stopwatch::start();
    for director in directors {
        let rest = NOTICED.saturating_sub(watch.elapsed());
        let said = wait::within(rest, || director.log().contains("failed after").then_some(()));
        assert!(said.is_some(), "it was not noticed within {NOTICED:?}:\n{}", director.log());
        let log = director.log();
        let verdict = log.lines().find(|line| line.contains("failed after")).expect("it failed");
        assert!(verdict.contains("exit code 255") && verdict.contains(why), "{verdict}");
        assert!(procs::descendants(director.pid()).iter().all(|process| process.comm != "rsync"));
    }
    assert!(watch.elapsed() > Duration::from_secs(10), "a short silence is no reason");
}

/// With a send buffer that is full in a moment, with one that never is, and while receiving. Each of 1 GiB would last for most of a minute or
/// longer.
const DYING: [(Way, &str); 3] =
    [(Way::Push, "--bwlimit=20000"), (Way::Push, "--bwlimit=100"), (Way::Pull, "--bwlimit=2000")];

#[test]
fn a_line_that_drops_every_packet_is_noticed() {
    let network = Network::enter();
    let (sandboxes, directors): (Vec<_>, Vec<_>) = DYING
        .iter()
        .map(|(way, opts)| {
            let sandbox = Sandbox::new();
            let peer = Sshd::start(&sandbox, "peer");
            sandbox.write_big("src/big", 1024);
            let director = sandbox.start(&sandbox.config(&job(*way, opts, "")));
            ((sandbox, peer), director)
        })
        .unzip();
    directors.iter().for_each(Director::hup);
    sandboxes.iter().for_each(|(sandbox, _)| wait_for_data(sandbox));
    network.fail();
    all_are_noticed(&directors, "lost the connection while running rsync");
    network.mend();
}

#[test]
fn a_connection_that_hangs_is_noticed() {
    let (_peers, directors): (Vec<_>, Vec<_>) = DYING
        .iter()
        .map(|(way, opts)| {
            let sandbox = Sandbox::new();
            let (sshd, proxy) = Proxy::before_new(&sandbox, "peer", "");
            sandbox.write_big("src/big", 1024);
            let director = sandbox.start(&sandbox.config(&job(*way, opts, "")));
            director.hup();
            wait_for_data(&sandbox);
            proxy.freeze();
            ((sandbox, sshd, proxy), director)
        })
        .unzip();
    all_are_noticed(&directors, "nothing was heard of it");
}

/// A server that takes a client which says nothing for 20 s for dead.
const IMPATIENT: &str = "ClientAliveInterval 5\nClientAliveCountMax 3";

#[test]
fn a_transfer_that_nobody_takes_waits_and_holds_up_nobody_else() {
    let transfers = WAYS.map(|way| {
        let sandbox = Sandbox::new();
        let peer = Sshd::start_with(&sandbox, "peer", IMPATIENT);
        sandbox.write_big("src/big", 200);
        // The lock is refreshed several times meanwhile.
        let config = format!(
            "lease: 30\n{}- {{id: other, cron_schedule: '0 0 2 1 *', type: local, lock_files: [{{type: remote, <peer>, path: @/other.lock}}],\n   actions: [{{action: command, id: c, command: 'echo >> @/ran'}}]}}\n",
            job(way, "--bwlimit=20000", "").replace("id: j,", "id: j, lock_files: [{type: remote, <peer>, path: @/j.lock}],")
        );
        let director = sandbox.start(&sandbox.config(&config));
        let before = procs::memory_kib(director.pid(), "VmRSS");
        director.hup();
        wait_for_data(&sandbox);
        // Who reads: there for a push, here for a pull.
        let readers = rsyncs(&sandbox, &director, way == Way::Pull);
        signal_all(&readers, Signal::STOP);
        wait::until("the other job has run", || sandbox.lines("ran").len() == 1);
        (way, director, readers, before, sandbox, peer)
    });
    // Longer than any silence is borne.
    let watch = Stopwatch::start();
    let mut runs = 1;
    while watch.elapsed() < Duration::from_secs(33) {
        runs += 1;
        for (_, director, _, _, sandbox, _) in &transfers {
            let asked = Stopwatch::start();
            director.hup();
            wait::until("the other job runs", || sandbox.lines("ran").len() == runs);
            assert!(asked.elapsed() < Duration::from_secs(12), "it took {:?}", asked.elapsed());
        }
        let pause = Stopwatch::start();
        wait::until("some time has passed", || pause.elapsed() > Duration::from_secs(3));
    }
    for (way, director, readers, before, ..) in &transfers {
        let grown = procs::memory_kib(director.pid(), "VmRSS").saturating_sub(*before);
        assert!(grown < 12 * 1024, "{way:?}: {grown} KiB more");
        signal_all(readers, Signal::CONT);
    }
    for (way, director, _, _, sandbox, peer) in &transfers {
        director.wait_for_metric("rsyncdirector_action_duration_seconds_count job_id=j action_id=s", 1.0);
        let failures = director.samples().sum("rsyncdirector_job_failures_total");
        assert_eq!(failures, 0.0, "{way:?}; the peer:\n{}", peer.log());
        assert_same(sandbox, "src", "dst");
    }
}

#[test]
fn descriptors_do_not_pile_up() {
    let sandbox = Sandbox::new();
    let _peer = Sshd::start(&sandbox, "peer");
    sandbox.write("src/file", "content");
    let action = |n| format!("{{action: sync, id: s{n}, source: @/src/, dest: @/dst, opts: ['-a']}}");
    let actions = (0..50).map(action).collect::<Vec<_>>().join(", ");
    let config = format!("jobs:\n- {{id: j, type: remote, <peer>, actions: [{actions}]}}\n");
    let director = sandbox.start(&sandbox.config(&config));
    director.run_now(1);
    let after = |run| {
        director.run_now(run);
        procs::open_descriptors(director.pid())
    };
    let first = after(2);
    let last = after(3);
    assert!(last <= first + 3, "{first} after 100 syncs, {last} after 150");
    assert_eq!(director.samples().sum("rsyncdirector_job_failures_total"), 0.0);
}

#[test]
fn the_system_s_ssh_ends_with_its_transfer_too() {
    for way in WAYS {
        let sandbox = Sandbox::new();
        let (_sshd, proxy) = Proxy::before_new(&sandbox, "peer", "");
        sandbox.write_big("src/big", 64);
        let config = format!("transport: openssh\n{}", job(way, "--bwlimit=2000", ""));
        let mut director = sandbox.start(&sandbox.config(&config));
        director.hup();
        wait_for_data(&sandbox);
        proxy.cut();
        director.wait_for_runs(1);
        director.wait_for_log("exit code");
        nothing_is_left(&sandbox);
        director.hup();
        director.until("another is under way", |_| !left(&sandbox).is_empty());
        director.stop();
        nothing_is_left(&sandbox);
    }
}
