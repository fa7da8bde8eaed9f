use tracing::level_filters::LevelFilter;

use super::*;
use crate::config::{JobId, Peer};
use crate::event::{ExitStatus, Obstacle, RunId, SkipReason};
use crate::logging::Format;
use crate::logging::tests_support::{RUN, Shared, action_report, failed_report, job_event, log, sync_report};
use crate::rsync::progress::Progress;

fn lines(events: Vec<RunEvent>) -> String {
    let out = Shared::default();
    let observer = EventLog { timezone: TimeZone::UTC, ..EventLog::new(log(Format::Human, LevelFilter::DEBUG, &out)) };
    for event in &events {
        observer.observe(Timestamp::from_millisecond(1_795_233_780_123).expect("in range"), event);
    }
    out.text()
}

fn job(events: Vec<JobEvent>) -> String {
    lines(events.into_iter().map(|event| job_event("nightly", event)).collect())
}

fn photos() -> ActionId {
    ActionId::new("photos")
}

const S: Duration = Duration::from_secs(1);

#[test]
fn runs_and_peers() {
    let peer =
        Peer { user: "backup".into(), host: "backup01".into(), port: 22, private_key: None, reach: Default::default() };
    let mut events = vec![
        RunEvent::RunStarted { run: RUN, trigger: Trigger::Cron },
        RunEvent::RunStarted { run: RUN, trigger: Trigger::Hup },
        RunEvent::RunStarted { run: RunId(7), trigger: Trigger::Once },
        RunEvent::RunFinished { run: RUN, duration: 185 * S },
        RunEvent::PeerConnected { peer: peer.clone() },
    ];
    for reason in ["unreachable", "timeout", "host_key", "auth", "key", "protocol"] {
        events.push(RunEvent::PeerFailed { peer: peer.clone(), reason });
    }
    insta::assert_snapshot!(lines(events));
}

#[test]
fn waiting_and_locking() {
    let held = || Obstacle::Present("photos@laptop for job nightly".into());
    let file = || "backup01:/run/x.lock".to_owned();
    insta::assert_snapshot!(job(vec![
        JobEvent::Started { trigger: Trigger::Cron },
        JobEvent::BlockWait { file: file(), obstacle: held(), next_look: Some(30 * S) },
        JobEvent::BlockWait {
            file: file(),
            obstacle: Obstacle::Unknown("connection refused".into()),
            next_look: Some(30 * S)
        },
        JobEvent::BlockWait { file: file(), obstacle: Obstacle::Present(String::new()), next_look: None },
        JobEvent::BlocksDone { waited: 90 * S },
        JobEvent::BlocksDone { waited: S / 100 },
        JobEvent::LockWait { file: file(), obstacle: held(), next_look: Some(5 * S) },
        JobEvent::LockWait { file: file(), obstacle: held(), next_look: None },
        JobEvent::LockTakenOver { file: file(), holder: "photos@laptop".into() },
        JobEvent::Locked { local: 0, remote: 0, waited: S },
        JobEvent::Locked { local: 1, remote: 0, waited: S / 50 },
        JobEvent::Locked { local: 1, remote: 4, waited: 12 * S },
        JobEvent::Locked { local: 0, remote: 4, waited: 12 * S },
        JobEvent::LockLost { file: file(), reason: "removed by somebody".into() },
        JobEvent::Released { left_behind: vec![] },
        JobEvent::Released { left_behind: vec!["a: gone".into(), "b: no route".into()] },
    ]));
}

#[test]
fn acting() {
    let action = photos;
    insta::assert_snapshot!(job(vec![
        JobEvent::ActionStarted { action: action(), command: "rsync -a -- '/srv/my photos' /mnt".into() },
        JobEvent::Progress { action: action(), progress: Progress { bytes: 1, percent: 1, rate: 1, to_check: None } },
        JobEvent::Split { action: action(), rsyncs: 4, files: 20_001, bytes: 82_000_000 },
        JobEvent::Retry { action: action(), message: "exit code 12 (protocol error)".into(), pause: 30 * S },
        JobEvent::Stalled { action: action(), idle: 60 * S },
        JobEvent::RsyncExit { action: action(), code: 12 },
        JobEvent::ActionFinished { action: action(), report: sync_report() },
        JobEvent::ActionFinished { action: action(), report: action_report(None, Some(ExitStatus::Code(0)), "") },
        JobEvent::ActionFinished {
            action: action(),
            report: ActionReport {
                status: Some(ExitStatus::Code(24)),
                message: "some files vanished before they could be transferred".into(),
                ..sync_report()
            }
        },
        JobEvent::ActionFinished { action: action(), report: failed_report() },
        JobEvent::ActionFinished {
            action: action(),
            report: action_report(Some(ActionFailure::Exit), Some(ExitStatus::Signal(9)), "")
        },
        JobEvent::ActionFinished {
            action: action(),
            report: action_report(Some(ActionFailure::Exit), Some(ExitStatus::Code(3)), "exit code 3: no such file")
        },
        JobEvent::ActionFinished {
            action: action(),
            report: action_report(Some(ActionFailure::Timeout), Some(ExitStatus::Signal(15)), "")
        },
        JobEvent::ActionFinished {
            action: action(),
            report: action_report(Some(ActionFailure::Start), None, "could not start rsync: not found")
        },
        JobEvent::ActionFinished {
            action: action(),
            report: action_report(Some(ActionFailure::Cancelled), Some(ExitStatus::Code(20)), "")
        },
    ]));
}

#[test]
fn ending() {
    let finished = |outcome| JobEvent::Finished { outcome, duration: 185 * S };
    let action_failed = |failure| finished(JobOutcome::Failed(JobFailure::Action { action: photos(), failure }));
    insta::assert_snapshot!(job(vec![
        finished(JobOutcome::Succeeded),
        JobEvent::ActionFinished { action: photos(), report: failed_report() },
        action_failed(ActionFailure::Exit),
        action_failed(ActionFailure::Exit),
        action_failed(ActionFailure::Cancelled),
        JobEvent::LockLost { file: "/run/a".into(), reason: "no refresh for 60 s".into() },
        finished(JobOutcome::Failed(JobFailure::LockLost)),
        finished(JobOutcome::Failed(JobFailure::Lock)),
        finished(JobOutcome::Failed(JobFailure::Internal)),
        JobEvent::BlockWait { file: "/run/b".into(), obstacle: Obstacle::Present("pid 7".into()), next_look: None },
        finished(JobOutcome::Skipped(SkipReason::BlockTimeout)),
        finished(JobOutcome::Skipped(SkipReason::LockTimeout)),
        finished(JobOutcome::Skipped(SkipReason::Shutdown)),
        JobEvent::NotRun { reason: SkipReason::Overlap, trigger: Trigger::Cron },
        JobEvent::Missed { count: 1 },
        JobEvent::Missed { count: 3 },
        JobEvent::NextRun(Some(Timestamp::from_second(1_795_300_200).expect("in range"))),
        JobEvent::NextRun(None),
    ]));
}

#[test]
fn a_cause_does_not_outlive_its_job() {
    let failed = || JobEvent::ActionFinished { action: photos(), report: failed_report() };
    let text = job(vec![
        failed(),
        JobEvent::Started { trigger: Trigger::Cron },
        JobEvent::Finished {
            outcome: JobOutcome::Failed(JobFailure::Action { action: photos(), failure: ActionFailure::Start }),
            duration: S,
        },
    ]);
    let last = text.lines().last().expect("a line");
    assert!(last.ends_with("nightly: failed after 1 s: action photos: could not be started"), "{last}");
}

#[test]
fn a_job_event_outside_of_a_run_is_logged() {
    let event = RunEvent::Job { run: None, job: JobId::new("nightly"), event: JobEvent::Missed { count: 2 } };
    assert!(lines(vec![event]).contains("WARN  nightly: missed 2 runs"));
}
