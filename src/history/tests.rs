//! Real databases in temporary directories.

use std::path::PathBuf;

use tempfile::TempDir;

use super::read::{Filter, OutputLine};
use super::*;
use crate::event::{ActionFailure, ActionReport, ExitStatus, JobFailure, JobOutcome, SkipReason, Trigger};
use crate::rsync::stats::Stats;

const PATIENCE: Duration = Duration::from_secs(60);

struct Rig {
    directory: TempDir,
}

impl Rig {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("photos/history.db")
    }

    fn options(&self) -> Options {
        Options { path: self.path(), max_age: Duration::from_secs(86_400), max_size: 1 << 30, output_max: 10_000 }
    }

    fn open(&self) -> Arc<History> {
        History::open(self.options())
    }

    fn jobs(&self) -> Vec<read::JobRun> {
        self.find(&Filter { limit: 1000, ..Filter::default() })
    }

    fn find(&self, filter: &Filter) -> Vec<read::JobRun> {
        let database = schema::open_read_only(&self.path()).expect("readable").expect("there");
        read::jobs(&database, filter).expect("an answer")
    }

    fn actions(&self, job_run: i64) -> Vec<read::ActionRun> {
        let database = schema::open_read_only(&self.path()).expect("readable").expect("there");
        read::actions(&database, job_run).expect("an answer")
    }
}

/// Tells of things at a second each.
struct Teller<'a> {
    history: &'a History,
    second: i64,
}

impl<'a> Teller<'a> {
    fn new(history: &'a History) -> Self {
        Self { history, second: 1_800_000_000 }
    }

    fn tell(&mut self, event: RunEvent) {
        self.second += 1;
        self.history.observe(Timestamp::from_second(self.second).expect("a time"), &event);
    }

    fn job(&mut self, run: u64, job: &str, event: JobEvent) {
        self.tell(RunEvent::Job { run: Some(RunId(run)), job: JobId::new(job), event });
    }

    fn begin(&mut self, run: u64, job: &str) {
        self.tell(RunEvent::RunStarted { run: RunId(run), trigger: Trigger::Cron });
        self.job(run, job, JobEvent::Started { trigger: Trigger::Cron });
        self.job(run, job, JobEvent::ActionStarted { action: ActionId::new("copy"), command: "rsync -a /a /b".into() });
    }

    fn end(&mut self, run: u64, job: &str, failure: Option<ActionFailure>) {
        self.job(run, job, JobEvent::ActionFinished { action: ActionId::new("copy"), report: report(failure) });
        let outcome = match failure {
            None => JobOutcome::Succeeded,
            Some(failure) => JobOutcome::Failed(JobFailure::Action { action: ActionId::new("copy"), failure }),
        };
        self.job(run, job, JobEvent::Finished { outcome, duration: Duration::from_secs(2) });
        self.tell(RunEvent::RunFinished { run: RunId(run), duration: Duration::from_secs(3) });
    }
}

fn report(failure: Option<ActionFailure>) -> ActionReport {
    ActionReport {
        failure,
        status: Some(ExitStatus::Code(if failure.is_some() { 23 } else { 0 })),
        message: if failure.is_some() { "exit code 23 (partial)".into() } else { String::new() },
        stats: Some(Stats { files: 7, transferred: 3, transferred_bytes: 4096, ..Stats::default() }),
        is_rsync: true,
        duration: Duration::from_secs(1),
    }
}

#[test]
fn a_run_is_kept_with_its_jobs_actions_and_their_output() {
    let rig = Rig::new();
    let history = rig.open();
    let mut teller = Teller::new(&history);
    teller.begin(5, "nightly");
    let said = (RunId(5), JobId::new("nightly"), ActionId::new("copy"));
    OutputTap::output(&*history, said.0, &said.1, &said.2, false, b"sending\nphotos/a\n");
    OutputTap::output(&*history, said.0, &said.1, &said.2, true, b"rsync: \xff\n");
    teller.end(5, "nightly", Some(ActionFailure::Exit));
    teller.begin(6, "nightly");
    teller.end(6, "nightly", None);
    teller.tell(RunEvent::Job {
        run: None,
        job: JobId::new("weekly"),
        event: JobEvent::NotRun { reason: SkipReason::Overlap, trigger: Trigger::Hup },
    });
    history.flush_within(PATIENCE);

    let jobs = rig.jobs();
    let told: Vec<_> =
        jobs.iter().map(|job| (job.job.as_str(), job.run, job.outcome.as_str(), job.trigger.as_str())).collect();
    assert_eq!(
        told,
        [
            ("weekly", None, "skipped", "hup"),
            ("nightly", Some(6), "succeeded", "cron"),
            ("nightly", Some(5), "failed", "cron")
        ]
    );
    let failed = &jobs[2];
    assert_eq!(failed.detail.as_deref(), Some("action copy: exit code 23 (partial)"));
    assert_eq!((failed.reason.as_deref(), failed.transferred, failed.transferred_bytes), (Some("action"), 3, 4096));
    let actions = rig.actions(failed.id);
    assert_eq!((actions[0].command.as_str(), actions[0].exit_code, actions.len()), ("rsync -a /a /b", Some(23), 1));
    let database = schema::open_read_only(&rig.path()).expect("readable").expect("there");
    let lines = read::output(&database, actions[0].id).expect("an answer");
    let expected = [
        OutputLine::Out(b"sending".into()),
        OutputLine::Out(b"photos/a".into()),
        OutputLine::Error(b"rsync: \xff".into()),
    ];
    assert_eq!(lines, expected);

    assert_eq!(rig.find(&Filter { failed: true, limit: 9, job: None }).len(), 2);
    assert_eq!(rig.find(&Filter { job: Some("nightly".into()), limit: 1, failed: false })[0].run, Some(6));
    let last = last(&rig.path());
    let at = |second: i64| Some(Timestamp::from_second(1_800_000_000 + second).expect("a time"));
    let times = read::Last { start: at(8), completion: at(11), success: at(11), ..read::Last::default() };
    assert_eq!(last[0], ("nightly".into(), read::Last { first_start: at(2), ..times }));
}

#[test]
fn what_was_under_way_when_the_process_ended_is_interrupted() {
    let rig = Rig::new();
    let history = rig.open();
    Teller::new(&history).begin(5, "nightly");
    history.flush_within(PATIENCE);
    assert_eq!(rig.jobs()[0].outcome, "running");
    drop(history);
    let again = rig.open();
    again.flush_within(PATIENCE);
    let jobs = rig.jobs();
    assert_eq!((jobs[0].outcome.as_str(), jobs[0].ended), ("interrupted", None));
    assert_eq!(rig.actions(jobs[0].id)[0].outcome, "interrupted");
}

#[test]
fn a_file_that_is_no_database_is_set_aside() {
    for content in [&b"this is no database, it only has its name and some length"[..], &[0; 5000]] {
        let rig = Rig::new();
        std::fs::create_dir(rig.path().parent().expect("a parent")).expect("made");
        std::fs::write(rig.path(), content).expect("written");
        let history = rig.open();
        let mut teller = Teller::new(&history);
        teller.begin(5, "nightly");
        teller.end(5, "nightly", None);
        history.flush_within(PATIENCE);
        assert_eq!(rig.jobs().len(), 1);
        let names: Vec<_> =
            std::fs::read_dir(rig.path().parent().expect("a parent")).expect("readable").flatten().collect();
        let broken = names.iter().find(|entry| entry.file_name().to_string_lossy().contains(".broken-")).expect("kept");
        assert_eq!(std::fs::read(broken.path()).expect("readable"), content);
    }
}

#[test]
fn a_database_of_a_later_release_is_set_aside() {
    let rig = Rig::new();
    drop(schema::open(&rig.path()).expect("made"));
    let database = rusqlite::Connection::open(rig.path()).expect("opened");
    database.pragma_update(None, "user_version", 99).expect("set");
    drop(database);
    assert!(matches!(schema::open_read_only(&rig.path()), Err(schema::HistoryError::Later(_))));
    let history = rig.open();
    history.flush_within(PATIENCE);
    assert_eq!(rig.jobs(), []);
}

#[test]
fn a_database_damaged_while_it_is_written_is_begun_anew() {
    let rig = Rig::new();
    let history = rig.open();
    let mut teller = Teller::new(&history);
    for run in 0..200 {
        teller.begin(run, "nightly");
        teller.end(run, "nightly", None);
    }
    history.flush_within(PATIENCE);
    // As a failing disk would: the pages change under the open file.
    let mut bytes = std::fs::read(rig.path()).expect("readable");
    bytes[100..].fill(0x5a);
    std::fs::write(rig.path(), &bytes).expect("written");
    for run in 200..210 {
        teller.begin(run, "nightly");
        teller.end(run, "nightly", None);
    }
    history.flush_within(PATIENCE);
    let jobs = rig.jobs();
    assert!(jobs.iter().any(|job| job.run == Some(209)), "{jobs:?}");
}

#[test]
fn without_a_place_for_it_runs_go_on_and_it_comes_back() {
    let rig = Rig::new();
    std::fs::write(rig.path().parent().expect("a parent"), "a file in the place of the directory").expect("written");
    let history = rig.open();
    let mut teller = Teller::new(&history);
    teller.begin(5, "nightly");
    teller.end(5, "nightly", None);
    history.flush_within(PATIENCE);
    std::fs::remove_file(rig.path().parent().expect("a parent")).expect("removed");
    teller.begin(6, "nightly");
    teller.end(6, "nightly", None);
    history.flush_within(PATIENCE);
    assert_eq!(rig.jobs().len(), 1);
}

#[test]
fn old_runs_are_forgotten_and_last_times_are_not() {
    let rig = Rig::new();
    let history = rig.open();
    let mut teller = Teller::new(&history);
    teller.begin(5, "nightly");
    teller.end(5, "nightly", None);
    teller.second += 2 * 86_400;
    teller.begin(6, "weekly");
    teller.end(6, "weekly", None);
    history.flush_within(PATIENCE);
    let jobs = rig.jobs();
    assert_eq!((jobs.len(), jobs[0].job.as_str()), (1, "weekly"));
    assert_eq!(last(&rig.path()).len(), 2);
}

#[test]
fn a_failure_and_what_was_told_of_lateness_are_remembered() {
    let rig = Rig::new();
    let history = rig.open();
    let mut teller = Teller::new(&history);
    let late = || JobEvent::Late { last_success: None, max_age: Duration::from_secs(9) };
    teller.tell(RunEvent::Job { run: None, job: JobId::new("nightly"), event: late() });
    let told = teller.second;
    history.flush_within(PATIENCE);
    assert_eq!(last(&rig.path())[0].1.late.map(Timestamp::as_second), Some(told));
    for (run, failure) in [(5, Some(ActionFailure::Exit)), (6, None), (7, Some(ActionFailure::Exit))] {
        teller.begin(run, "nightly");
        teller.end(run, "nightly", failure);
        history.flush_within(PATIENCE);
        let last = last(&rig.path())[0].1;
        assert_eq!(last.failed, failure.is_some(), "run {run}");
        // Until it succeeds.
        assert_eq!(last.late.map(Timestamp::as_second), (run == 5).then_some(told), "run {run}");
    }
}

#[test]
fn what_an_earlier_release_remembers_is_read_before_it_is_brought_up_to_date() {
    let rig = Rig::new();
    std::fs::create_dir_all(rig.path().parent().expect("a directory")).expect("made");
    let database = rusqlite::Connection::open(rig.path()).expect("made");
    database.execute_batch(schema::MIGRATIONS[0]).expect("its tables");
    database.pragma_update(None, "user_version", 1).expect("set");
    database.execute("INSERT INTO job_state VALUES ('nightly', 1000, 2000, 2000)", []).expect("a row");
    drop(database);
    let known = last(&rig.path());
    assert_eq!(known[0].1.success.map(Timestamp::as_second), Some(2));
    rig.open().flush_within(PATIENCE);
    assert_eq!(last(&rig.path()), known);
}

#[test]
fn the_size_is_bounded() {
    let rig = Rig::new();
    let limit = 1_000_000;
    let history = History::open(Options { max_size: limit, ..rig.options() });
    let mut teller = Teller::new(&history);
    for run in 0..2000_u64 {
        teller.begin(run, "nightly");
        let said = (RunId(run), JobId::new("nightly"), ActionId::new("copy"));
        let noise: Vec<u8> = (0..4000_u64).map(|n| b'!' + ((run + n * n * 7919) % 90) as u8).collect();
        OutputTap::output(&*history, said.0, &said.1, &said.2, false, &noise);
        teller.end(run, "nightly", None);
        if run % 100 == 99 {
            history.flush_within(PATIENCE);
        }
    }
    let jobs = rig.jobs();
    assert_eq!(jobs[0].run, Some(1999));
    assert!(jobs.len() > 50, "{}", jobs.len());
    let size = std::fs::metadata(rig.path()).expect("there").len();
    assert!(size < 3 * limit / 2, "{size}");
}

#[test]
fn what_is_printed_is_left_out_while_too_much_of_it_waits() {
    const MIB: usize = 1 << 20;
    let (queue, notes) = mpsc::sync_channel(WAITING_MAX);
    let (hurry, _hurried) = mpsc::sync_channel(WAITERS_MAX);
    let history = History::new(queue, hurry, 16 * MIB);
    let end = || {
        let (run, job, action) = (RunId(5), JobId::new("nightly"), ActionId::new("copy"));
        let line = [[b'x'; 1023].as_slice(), b"\n"].concat();
        OutputTap::output(&history, run, &job, &action, false, &line.repeat(7 * MIB / 1024));
        Teller::new(&history).job(5, "nightly", JobEvent::ActionFinished { action, report: report(None) });
    };
    let told = || {
        notes.try_iter().map(|note| match note {
            Note::Event { output: Some((capture, _)), .. } => capture.so_far().len(),
            _ => panic!("an end with what was printed"),
        })
    };
    (0..6).for_each(|_| end());
    let lines = 7 * MIB / 1024;
    assert_eq!(told().collect::<Vec<_>>(), [lines, lines, lines, lines, 1, 1]);
    end();
    assert_eq!(told().collect::<Vec<_>>(), [lines]);
}
