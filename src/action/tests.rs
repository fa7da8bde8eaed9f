use std::io;

use tracing::level_filters::LevelFilter;

use super::*;
use crate::config::{Sync, Verify};
use crate::logging::{Format, Options};
use crate::metrics::tests::config;

fn runner() -> Runner {
    let events = Events::new(Vec::new());
    let config = config();
    let options = Options { level: LevelFilter::OFF, format: Format::Json, color: false };
    Runner {
        spawner: Spawner::start().expect("a spawner"),
        pool: Pool::new(config.ssh, events.clone()),
        transport: None,
        log: Log::new(options, Box::new(io::sink())),
        events,
        rsync_id: "test".into(),
        kill_grace: Duration::from_secs(10),
        dry_run: false,
        progress: false,
        home: None,
        env: Vec::new(),
        state: None,
    }
}

/// A sync of which the source has to be looked for.
fn sync() -> (Action, Sync) {
    let action = config().jobs[0].actions[0].clone();
    let ActionKind::Sync(sync) = action.kind.clone() else { panic!("it is a sync") };
    (action, Sync { sources: vec!["/mnt/*".into()], ..sync })
}

/// As on a file system that does not answer: whoever looks at files waits for the only thread that may.
fn plan_for_ever(action: &Action, stop: &Stop, warrant: &Warrant) -> ActionReport {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
    runtime.expect("a runtime").block_on(async {
        let (release, held) = std::sync::mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || held.recv());
        let job = JobId::new("photos");
        let assignment = Assignment { run: RunId(1), job: &job, action, stop, warrant };
        let runner = runner();
        let report = tokio::time::timeout(Duration::from_secs(60), runner.run(&assignment)).await;
        drop(release);
        report.expect("it ends")
    })
}

#[test]
fn who_looks_for_a_source_for_ever_is_told_to_stop() {
    let (action, sync) = sync();
    let verify = Verify::quick(&JobId::new("photos"), &action.id, &sync);
    for kind in [ActionKind::Sync(sync), ActionKind::Verify(verify)] {
        let (action, stop) = (Action { kind, ..action.clone() }, Stop::default());
        stop.term.cancel();
        let report = plan_for_ever(&action, &stop, &Warrant::without_locks());
        assert_eq!((report.failure, &*report.message), (Some(ActionFailure::Cancelled), "killed: it was told to stop"));
        let warrant = Warrant::without_locks();
        warrant.taken();
        let report = plan_for_ever(&action, &stop, &warrant);
        assert_eq!((report.failure, &*report.message), (Some(ActionFailure::LockLost), "killed: a lock was lost"));
    }
}

#[test]
fn who_looks_for_a_source_for_ever_runs_out_of_time() {
    let (action, sync) = sync();
    let soon = Some(Duration::from_millis(20));
    let check = |action: &Action, expected| {
        let report = plan_for_ever(action, &Stop::default(), &Warrant::without_locks());
        assert_eq!(report.failure, Some(expected), "{}", report.message);
        assert!(report.message.contains("0.02 s"), "{}", report.message);
    };
    let kind = ActionKind::Sync(sync.clone());
    check(&Action { kind, timeout: soon, ..action.clone() }, ActionFailure::Timeout);
    let kind = ActionKind::Sync(Sync { stall_timeout: soon, ..sync });
    check(&Action { kind, ..action }, ActionFailure::Stalled);
}
