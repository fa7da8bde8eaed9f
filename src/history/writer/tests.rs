use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, mpsc};

use tempfile::TempDir;

use super::*;
use crate::config::ActionId;
use crate::event::Trigger;
use crate::history::read;
use crate::logging::tests_support::failed_report;

/// A writer without its thread, and its database.
struct Rig {
    directory: TempDir,
    writer: Writer,
    second: i64,
}

impl Rig {
    fn new() -> Self {
        Self::named("history.db")
    }

    fn named(name: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(name);
        let max_age = Duration::from_secs(86_400);
        let mut writer = Writer::new(Options { path, max_age, max_size: 1 << 30, output_max: 10_000 });
        writer.begin(ENDED);
        Self { directory, writer, second: 1_800_000_000 }
    }

    fn path(&self) -> &Path {
        &self.writer.options.path
    }

    /// Writes events, a second each, in one transaction.
    fn write(&mut self, events: Vec<RunEvent>) {
        let notes = events.into_iter().map(|event| {
            self.second += 1;
            let at = Timestamp::from_second(self.second).expect("a time");
            Note::Event { at, event: Box::new(event), output: None }
        });
        let notes = notes.collect();
        self.writer.write(notes);
    }

    /// The same while nothing can be written to a table.
    fn fail(&mut self, table: &str, events: Vec<RunEvent>) {
        let database = Connection::open(self.path()).expect("opened");
        for what in ["INSERT", "UPDATE"] {
            let refuse = format!(
                "CREATE TRIGGER refuse_{what} BEFORE {what} ON {table} BEGIN SELECT RAISE(ABORT, 'no room'); END"
            );
            database.execute_batch(&refuse).expect("made");
        }
        self.write(events);
        assert!(self.writer.database.is_none(), "it was written");
        database.execute_batch("DROP TRIGGER refuse_INSERT; DROP TRIGGER refuse_UPDATE").expect("dropped");
    }

    /// Run, job and outcome of what is recorded, in the order in which it began.
    fn jobs(&self) -> Vec<(i64, String, String)> {
        let database = schema::open_read_only(self.path()).expect("readable").expect("there");
        let filter = read::Filter { limit: 1000, ..read::Filter::default() };
        let jobs = read::jobs(&database, &filter).expect("an answer");
        jobs.into_iter().rev().map(|job| (job.run.unwrap_or_default(), job.job, job.outcome)).collect()
    }

    #[track_caller]
    fn check(&self, expected: &[(i64, &str, &str)]) {
        let jobs = self.jobs();
        let jobs: Vec<_> = jobs.iter().map(|(run, job, outcome)| (*run, job.as_str(), outcome.as_str())).collect();
        assert_eq!(jobs, expected);
    }

    /// How much of a table is under way, as far as it tells.
    fn under_way(&self, table: &str) -> u32 {
        let database = schema::open_read_only(self.path()).expect("readable").expect("there");
        let query = format!("SELECT count(*) FROM {table} WHERE outcome IS NULL");
        database.query_row(&query, [], |row| row.get(0)).expect("an answer")
    }

    fn last(&self, job: &str) -> read::Last {
        let last = crate::history::last(self.path());
        last.into_iter().find(|(id, _)| id == job).map(|(_, last)| last).expect("a job that is known")
    }
}

fn begin(run: u64) -> RunEvent {
    RunEvent::RunStarted { run: RunId(run), trigger: Trigger::Cron }
}

fn end(run: u64) -> RunEvent {
    RunEvent::RunFinished { run: RunId(run), duration: Duration::from_secs(1) }
}

fn of(run: u64, job: &str, event: JobEvent) -> RunEvent {
    RunEvent::Job { run: Some(RunId(run)), job: JobId::new(job), event }
}

fn started(run: u64, job: &str) -> RunEvent {
    of(run, job, JobEvent::Started { trigger: Trigger::Cron })
}

fn acting(run: u64, job: &str) -> RunEvent {
    of(run, job, JobEvent::ActionStarted { action: ActionId::new("copy"), command: "rsync".into() })
}

fn acted(run: u64, job: &str) -> RunEvent {
    let report = ActionReport { failure: None, ..failed_report() };
    of(run, job, JobEvent::ActionFinished { action: ActionId::new("copy"), report })
}

fn succeeded(run: u64, job: &str) -> RunEvent {
    of(run, job, JobEvent::Finished { outcome: JobOutcome::Succeeded, duration: Duration::from_secs(1) })
}

#[test]
fn what_could_not_be_recorded_of_an_end_is_interrupted_with_the_next_run() {
    let mut rig = Rig::new();
    rig.write(vec![begin(1), started(1, "a"), acting(1, "a")]);
    rig.fail("action_run", vec![acted(1, "a")]);
    rig.write(vec![succeeded(1, "a"), end(1)]);
    rig.check(&[(1, "a", "running")]);
    rig.write(vec![begin(2), started(2, "a"), acting(2, "a"), acted(2, "a"), succeeded(2, "a"), end(2)]);
    rig.check(&[(1, "a", "interrupted"), (2, "a", "succeeded")]);
    for table in ["run", "job_run", "action_run"] {
        assert_eq!(rig.under_way(table), 0, "{table}");
    }
}

#[test]
fn what_is_under_way_goes_on_when_the_history_is_kept_again() {
    let mut rig = Rig::new();
    rig.write(vec![begin(1), started(1, "a"), acting(1, "a")]);
    rig.fail("run", vec![begin(2), started(2, "b"), acting(2, "b"), succeeded(2, "b"), end(2)]);
    rig.write(vec![begin(3), started(3, "c")]);
    rig.check(&[(1, "a", "running"), (3, "c", "running")]);
    assert_eq!((rig.under_way("run"), rig.under_way("action_run")), (2, 1));
    rig.write(vec![acted(1, "a"), succeeded(1, "a"), end(1), succeeded(3, "c"), end(3)]);
    rig.check(&[(1, "a", "succeeded"), (3, "c", "succeeded")]);
    assert_eq!((rig.under_way("run"), rig.under_way("action_run")), (0, 0));
}

#[test]
fn the_end_of_a_job_that_was_not_recorded_is_not_that_of_another() {
    let mut rig = Rig::new();
    rig.fail("action_run", vec![begin(1), started(1, "a"), acting(1, "a")]);
    // Its rows get the numbers that the others would have had.
    rig.write(vec![begin(2), started(2, "b"), acting(2, "b")]);
    rig.write(vec![acted(1, "a"), succeeded(1, "a"), end(1)]);
    rig.check(&[(2, "b", "running")]);
    assert_eq!(rig.under_way("action_run"), 1);
}

#[test]
fn rows_are_those_of_the_database_in_which_they_were_made() {
    let mut rig = Rig::new();
    rig.write(vec![begin(1), started(1, "a"), acting(1, "a")]);
    rig.fail("run", vec![begin(2), end(2)]);
    for name in ["history.db", "history.db-wal", "history.db-shm"] {
        let _ = std::fs::remove_file(rig.directory.path().join(name));
    }
    rig.write(vec![begin(3), started(3, "b"), acting(3, "b")]);
    rig.write(vec![acted(1, "a"), succeeded(1, "a"), end(1)]);
    rig.check(&[(3, "b", "running")]);
    assert_eq!(rig.under_way("action_run"), 1);
}

#[test]
fn a_run_whose_beginning_was_not_recorded_disturbs_no_other() {
    let mut rig = Rig::new();
    rig.fail("action_run", vec![begin(1), started(1, "a"), acting(1, "a")]);
    rig.write(vec![begin(2), started(2, "b")]);
    rig.write(vec![acted(1, "a"), succeeded(1, "a"), started(1, "c"), acting(1, "c"), acting(2, "b")]);
    rig.write(vec![acted(1, "c"), succeeded(1, "c"), end(1), acted(2, "b"), succeeded(2, "b"), end(2)]);
    rig.check(&[(2, "b", "succeeded"), (1, "c", "succeeded")]);
    assert_eq!((rig.under_way("run"), rig.under_way("action_run")), (0, 0));
}

#[test]
fn a_success_is_remembered_also_when_the_run_was_not_recorded() {
    let mut rig = Rig::new();
    rig.fail("action_run", vec![begin(1), started(1, "a"), acting(1, "a")]);
    rig.write(vec![acted(1, "a"), succeeded(1, "a"), end(1)]);
    let at = Timestamp::from_second(rig.second - 1).ok();
    rig.write(vec![begin(2), started(2, "b")]);
    let last = rig.last("a");
    assert_eq!((last.success, last.completion), (at, at));
    assert_eq!(last.start, Timestamp::from_second(1_800_000_002).ok());
}

#[test]
fn who_begins_to_wait_while_others_are_served_is_served_too() {
    let (queue, notes) = mpsc::channel();
    let (hurry, hurried) = mpsc::channel::<Waiting>();
    let served = Arc::new(AtomicUsize::new(0));
    let call = |queue: &Sender<Note>, hurry: &Sender<Waiting>| {
        let served = Arc::clone(&served);
        let done = move || {
            served.fetch_add(1, Ordering::Relaxed);
        };
        hurry.send(Box::new(done)).expect("it listens");
        queue.send(Note::Hurry).expect("it listens");
    };
    call(&queue, &hurry);
    // One more comes with each of the first writes.
    let mut late = vec![(queue, hurry); 3];
    gather(&notes, &hurried, |_| {
        if let Some((queue, hurry)) = late.pop() {
            call(&queue, &hurry);
        }
    });
    assert_eq!(served.load(Ordering::Relaxed), 4);
}

#[test]
fn a_database_that_can_neither_be_used_nor_set_aside_is_left_alone() {
    // With what it would be set aside as, the name is too long.
    let mut rig = Rig::named(&"h".repeat(245));
    let database = Connection::open(rig.path()).expect("opened");
    database.execute_batch("DROP TABLE action_run").expect("dropped");
    rig.writer.begin(ENDED);
    assert!(rig.writer.database.is_none());
    assert!(rig.path().exists());
}
