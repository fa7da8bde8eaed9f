//! Start, reload, stop, kill, reboot, hang.

use integration_tests::wait;

use super::Host;

/// A job that copies slowly under a lock.
const SLOW: &str = "jobs:
- id: slow
  type: local
  lock_files: [{type: local, path: /run/lock/rsyncdirector/slow.lock, wait_time: 1}]
  actions: [{action: sync, id: copy, source: /srv/src/, dest: /srv/dst, opts: ['-a', '--bwlimit=1000']}]
";

/// Starts it where its source takes minutes, and waits until it copies.
fn slow(host: &Host) {
    host.machine.sh("mkdir -p /srv/src && truncate -s 1G /srv/src/big");
    host.configure("slow", SLOW);
    host.start("slow");
    host.machine.sh("systemctl reload rsyncdirector@slow");
    host.machine.until("pgrep -x rsync && test -e /run/lock/rsyncdirector/slow.lock");
}

#[test]
fn two_instances_run_beside_each_other_and_a_reload_forces_a_run_of_one() {
    let Some(host) = Host::boot() else { return };
    for name in ["one", "two"] {
        let command = format!("echo ran >> /srv/{name}");
        let job = format!("{{id: j, type: local, actions: [{{action: command, id: c, command: '{command}'}}]}}");
        host.configure(name, &format!("jobs:\n- {job}\n"));
    }
    host.machine.sh("systemctl enable --now rsyncdirector@one rsyncdirector@two");
    let status = host.property("one", "StatusText");
    let new_year =
        status.strip_prefix("idle, 1 job; next: j at 20").and_then(|rest| rest.strip_suffix("-01-01 00:00:00 UTC"));
    assert!(new_year.is_some_and(|year| year.len() == 2), "{status}");
    assert_eq!(host.run("one"), ["succeeded"]);
    assert_eq!((host.machine.read("/srv/one"), host.machine.read("/srv/two")), ("ran\n".into(), String::new()));
    let pids = host.machine.sh("cat /run/rsyncdirector/rsyncdirector-one.pid /run/rsyncdirector/rsyncdirector-two.pid");
    assert_eq!(pids, format!("{}\n{}\n", host.property("one", "MainPID"), host.property("two", "MainPID")));
    host.machine.sh("systemctl stop rsyncdirector@one");
    assert_eq!(host.run("two"), ["succeeded"]);
    host.machine.reboot();
    host.machine.until("systemctl is-active rsyncdirector@one rsyncdirector@two");
    assert_eq!(host.run("one"), ["succeeded"]);
}

#[test]
fn a_start_returns_when_the_instance_serves_and_fails_when_it_cannot() {
    let Some(host) = Host::boot() else { return };
    let job = "jobs:\n- {id: j, type: local, actions: [{action: command, id: c, command: 'true'}]}\n";
    host.configure("ready", job);
    host.start("ready");
    assert_eq!(host.ask("ready", "status")["instance"], "ready");
    assert_eq!(host.property("ready", "SubState"), "running");

    host.configure("wrong", "jobz: []\n");
    let started = host.machine.run("systemctl start rsyncdirector@wrong");
    assert!(!started.status.success());
    assert_eq!(host.property("wrong", "ExecMainStatus"), "2");
    assert_eq!(
        (host.property("wrong", "NRestarts"), host.property("wrong", "ActiveState")),
        ("0".into(), "failed".into())
    );
    assert!(host.log("wrong").contains("did you mean `jobs`?") || host.log("wrong").contains("jobz"));
}

#[test]
fn what_an_instance_says_is_in_the_journal_with_its_fields() {
    let Some(host) = Host::boot() else { return };
    host.configure(
        "fields",
        "jobs:\n- {id: j, type: local, actions: [{action: command, id: c, command: 'echo said by the command'}]}\n",
    );
    host.start("fields");
    host.run("fields");
    let entries = host.machine.journal("rsyncdirector@fields");
    let said = entries.iter().find(|entry| entry["MESSAGE"] == "j/c | said by the command").expect("its output");
    assert_eq!((&said["RSYNC_ID"], &said["JOB_ID"], &said["ACTION_ID"]), (&"fields".into(), &"j".into(), &"c".into()));
    let run = said["RUN_ID"].as_str().expect("a run");
    assert_eq!(host.ask("fields", "history")[0]["run"].to_string(), run);
    let of_run = host.machine.sh(&format!("journalctl --no-pager -o cat RUN_ID={run}"));
    assert!(of_run.contains("said by the command"), "{of_run}");
}

#[test]
fn a_stop_during_a_sync_leaves_no_process_lock_or_pid_file() {
    let Some(host) = Host::boot() else { return };
    slow(&host);
    assert_eq!(host.property("slow", "StatusText"), "slow runs copy");
    host.machine.sh("systemctl stop rsyncdirector@slow");
    assert_eq!(host.machine.sh("pgrep -l 'rsync' || true"), "");
    assert_eq!(
        host.machine.sh("ls -A /run/lock/rsyncdirector /run/rsyncdirector"),
        "/run/lock/rsyncdirector:\n\n/run/rsyncdirector:\n"
    );
    assert_eq!(
        (host.property("slow", "ActiveState"), host.property("slow", "Result")),
        ("inactive".into(), "success".into())
    );
}

#[test]
fn a_killed_instance_is_started_again_and_goes_on_with_its_work() {
    let Some(host) = Host::boot() else { return };
    host.drop_in("slow", "soon", "[Service]\nRestartSec=100ms\n");
    slow(&host);
    let rsyncs = host.machine.sh("pgrep -x rsync");
    let before = host.property("slow", "MainPID");
    host.machine.sh("systemctl kill -s KILL --kill-who=main rsyncdirector@slow");
    wait::until("it is started again", || {
        let now = host.property("slow", "MainPID");
        now != before && now != "0" && host.property("slow", "ActiveState") == "active"
    });
    assert_eq!(host.property("slow", "NRestarts"), "1");
    for rsync in rsyncs.lines() {
        host.machine.until(&format!("! kill -0 {rsync}"));
    }
    host.machine.sh("truncate -s 1k /srv/src/big");
    host.machine.sh("touch -d '57 seconds ago' /run/lock/rsyncdirector/slow.lock");
    assert_eq!(host.run("slow"), ["succeeded"], "the lock of the killed one is taken over");
    assert_eq!(host.machine.sh("stat -c %s /srv/dst/big"), "1024\n");
}

#[test]
fn a_hanging_instance_is_started_again_and_a_living_one_is_not() {
    let Some(host) = Host::boot() else { return };
    host.drop_in("hangs", "soon", "[Service]\nRestartSec=100ms\nWatchdogSec=12s\n");
    host.configure("hangs", "jobs:\n- {id: j, type: local, actions: [{action: command, id: c, command: 'true'}]}\n");
    host.start("hangs");
    let before = host.property("hangs", "MainPID");
    let sign = || host.property("hangs", "WatchdogTimestampMonotonic");
    for _ in 0..2 {
        let last = sign();
        wait::until("it gives a sign of life", || sign() != last);
    }
    assert_eq!((host.property("hangs", "MainPID"), host.property("hangs", "NRestarts")), (before.clone(), "0".into()));
    host.machine.sh(&format!("kill -STOP {before}"));
    wait::until("it is started again", || {
        // In this order: in between there is no main process, and the unit is not active.
        let now = host.property("hangs", "MainPID");
        now != before && now != "0" && host.property("hangs", "ActiveState") == "active"
    });
    assert_eq!(host.property("hangs", "NRestarts"), "1");
    let log = host.machine.sh("journalctl --no-pager -o cat -u rsyncdirector@hangs");
    assert!(log.contains("Watchdog timeout"), "{log}");
    assert_eq!(host.run("hangs"), ["succeeded"]);
}

#[test]
fn a_reboot_runs_what_was_missed_meanwhile() {
    let Some(host) = Host::boot() else { return };
    // Due once, at the beginning of a minute that is at least 20 s away.
    let due = host.machine.sh("date -u -d '+80 seconds' '+%-M %-H %-d %-m *'");
    host.configure(
        "missed",
        &format!(
            "cron_schedule: '{}'\ntimezone: UTC\ncatch_up: one\n\
             jobs:\n- {{id: j, type: local, actions: [{{action: command, id: c, command: 'echo ran >> /srv/ran'}}]}}\n",
            due.trim()
        ),
    );
    host.machine.sh("systemctl enable --now rsyncdirector@missed");
    assert_eq!(host.property("missed", "ActiveState"), "active");
    host.machine.reboot_when(|| {
        let minute = std::process::Command::new("date").args(["-u", "+%-M %-H %-d %-m *"]).output().expect("date runs");
        String::from_utf8_lossy(&minute.stdout) == due
    });
    host.machine.until("test -e /srv/ran");
    assert_eq!(host.ask("missed", "history")[0]["trigger"], "catch_up");
    assert_eq!(host.machine.read("/srv/ran"), "ran\n");
}
