//! The end of `run --once`: a table of what was moved, and why what failed or was skipped did so.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::table::{self, Kind, Table};
use crate::config::{ActionId, JobId};
use crate::event::{ActionFailure, ActionReport, ExitStatus, JobEvent, JobOutcome, Observer, RunEvent};
use crate::human;
use crate::logging::{Causes, escaped, outcome};
use crate::rsync::stats::Stats;

/// Collects how the actions and jobs of a run ended. Grows with their number, so it is for one run.
#[derive(Debug, Default)]
pub struct Summary(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    rows: Vec<Row>,
    notes: Vec<String>,
    causes: Causes,
}

#[derive(Debug)]
struct Row {
    job: String,
    action: String,
    result: Verdict,
    stats: Option<Stats>,
    /// `None` for what did not even start.
    duration: Option<Duration>,
}

/// The word in the column RESULT.
#[derive(Debug)]
enum Verdict {
    Good(&'static str),
    Reserved(String),
    Bad(String),
}

impl Summary {
    /// A summary of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether any job failed, was skipped or was not run.
    pub fn failed(&self) -> bool {
        !self.state().notes.is_empty()
    }

    /// The table, a line per action and per job that came to none, then a line per job that failed or was skipped; each
    /// ends in a line feed. `width` is in columns; names are shortened to fit it, reasons are wrapped. Empty if nothing
    /// happened.
    pub fn table(&self, width: usize, color: bool) -> String {
        let state = self.state();
        if state.rows.is_empty() {
            return String::new();
        }
        let mut table = Table::new(&COLUMNS);
        state.rows.iter().for_each(|row| table.line(cells(row), paint_of(row)));
        total(&state.rows).into_iter().for_each(|total| table.line(total, table::BOLD));
        let notes = state.notes.iter().map(|note| table::wrap(note, width));
        table.render(width, color) + &notes.collect::<String>()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Summary {
    fn observe(&self, _: Timestamp, event: &RunEvent) {
        let RunEvent::Job { job, event: what, .. } = event else { return };
        let mut state = self.state();
        state.causes.observe(event);
        match what {
            JobEvent::ActionFinished { action, report } => state.rows.push(Row::of_action(job, action, report)),
            JobEvent::Finished { outcome, duration } => state.job_finished(job, outcome, *duration),
            JobEvent::NotRun { reason, .. } => {
                state.rows.push(Row::of_job(job, Verdict::Reserved("not run".to_owned()), None));
                state.note(job, "not run", outcome::skip_text(*reason));
            }
            _ => {}
        }
    }
}

impl State {
    fn job_finished(&mut self, job: &JobId, outcome: &JobOutcome, duration: Duration) {
        let why = self.causes.explain(job, outcome);
        let name = escaped(job.as_str());
        let listed = self.rows.iter().any(|row| row.job == name);
        let (verdict, what) = match outcome {
            JobOutcome::Succeeded => (Verdict::Good("ok"), ""),
            JobOutcome::Failed(_) => (Verdict::Bad("failed".to_owned()), "failed"),
            JobOutcome::Skipped(_) => (Verdict::Reserved("skipped".to_owned()), "skipped"),
        };
        if !listed {
            self.rows.push(Row::of_job(job, verdict, Some(duration)));
        }
        if let Some(why) = why {
            self.note(job, what, &why);
        }
    }

    fn note(&mut self, job: &JobId, what: &str, why: &str) {
        self.notes.push(escaped(&format!("{job}: {what}: {why}")).into_owned());
    }
}

impl Row {
    fn of_action(job: &JobId, action: &ActionId, report: &ActionReport) -> Self {
        Self {
            job: escaped(job.as_str()).into_owned(),
            action: escaped(action.as_str()).into_owned(),
            result: verdict(report),
            stats: report.stats,
            duration: Some(report.duration),
        }
    }

    fn of_job(job: &JobId, result: Verdict, duration: Option<Duration>) -> Self {
        Self { job: escaped(job.as_str()).into_owned(), action: "-".to_owned(), result, stats: None, duration }
    }
}

fn verdict(report: &ActionReport) -> Verdict {
    match (report.failure, report.status) {
        (None, Some(ExitStatus::Code(code))) if code != 0 => Verdict::Reserved(format!("ok ({code})")),
        (None, _) => Verdict::Good("ok"),
        (Some(ActionFailure::Exit), Some(ExitStatus::Code(code))) => Verdict::Bad(format!("exit {code}")),
        (Some(ActionFailure::Exit), Some(ExitStatus::Signal(signal))) => Verdict::Bad(format!("signal {signal}")),
        (Some(ActionFailure::Exit | ActionFailure::Start), _) => Verdict::Bad("failed".to_owned()),
        (Some(ActionFailure::Timeout), _) => Verdict::Bad("timeout".to_owned()),
        (Some(ActionFailure::LockLost), _) => Verdict::Bad("lock lost".to_owned()),
        (Some(ActionFailure::DeleteGuard), _) => Verdict::Bad("max_delete".to_owned()),
        (Some(ActionFailure::EmptySource), _) => Verdict::Bad("no source".to_owned()),
        (Some(ActionFailure::Stalled), _) => Verdict::Bad("stalled".to_owned()),
        (Some(ActionFailure::Drift), _) => Verdict::Bad("drift".to_owned()),
        (Some(ActionFailure::Cancelled), _) => Verdict::Reserved("stopped".to_owned()),
    }
}

const COLUMNS: [(&str, Kind); 8] = [
    ("JOB", Kind::Name),
    ("ACTION", Kind::Name),
    ("RESULT", Kind::Text),
    ("FILES", Kind::Number),
    ("NEW", Kind::Number),
    ("DELETED", Kind::Number),
    ("SIZE", Kind::Number),
    ("TIME", Kind::Number),
];

type Cells = [String; COLUMNS.len()];

fn cells(row: &Row) -> Cells {
    let number = |field: fn(&Stats) -> u64| row.stats.as_ref().map_or("-".to_owned(), |s| field(s).to_string());
    [
        row.job.clone(),
        row.action.clone(),
        match &row.result {
            Verdict::Good(text) => (*text).to_owned(),
            Verdict::Reserved(text) | Verdict::Bad(text) => text.clone(),
        },
        number(|s| s.transferred),
        number(|s| s.created),
        number(|s| s.deleted),
        row.stats.as_ref().map_or("-".to_owned(), |s| human::bytes(s.transferred_bytes)),
        row.duration.map_or("-".to_owned(), human::duration),
    ]
}

/// The sum of all syncs, if there are several.
fn total(rows: &[Row]) -> Option<Cells> {
    let syncs: Vec<(&Stats, Duration)> = rows.iter().filter_map(|row| row.stats.as_ref().zip(row.duration)).collect();
    if syncs.len() < 2 {
        return None;
    }
    let sum = |field: fn(&Stats) -> u64| syncs.iter().map(|(stats, _)| field(stats)).fold(0, u64::saturating_add);
    Some([
        "total".to_owned(),
        String::new(),
        String::new(),
        sum(|s| s.transferred).to_string(),
        sum(|s| s.created).to_string(),
        sum(|s| s.deleted).to_string(),
        human::bytes(sum(|s| s.transferred_bytes)),
        human::duration(syncs.iter().map(|(_, duration)| *duration).sum()),
    ])
}

/// Red and yellow for what went wrong.
fn paint_of(row: &Row) -> &'static str {
    match row.result {
        Verdict::Good(_) => "",
        Verdict::Reserved(_) => table::YELLOW,
        Verdict::Bad(_) => table::RED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{JobFailure, Obstacle, SkipReason, Trigger};
    use crate::logging::tests_support::{action_finished, action_report, failed_report, job_event, sync_report};

    fn finished(job: &str, outcome: JobOutcome) -> RunEvent {
        job_event(job, JobEvent::Finished { outcome, duration: Duration::from_secs(185) })
    }

    fn summary(events: Vec<RunEvent>) -> Summary {
        let summary = Summary::new();
        for event in &events {
            summary.observe(Timestamp::UNIX_EPOCH, event);
        }
        summary
    }

    fn mixed() -> Summary {
        let vanished = ActionReport { status: Some(ExitStatus::Code(24)), ..sync_report() };
        let failed = JobFailure::Action { action: ActionId::new("mirror"), failure: ActionFailure::Exit };
        summary(vec![
            action_finished("nightly", "photos", sync_report()),
            action_finished("nightly", "mail\x1b[2J", vanished),
            action_finished("nightly", "hook", action_report(None, Some(ExitStatus::Code(0)), "")),
            finished("nightly", JobOutcome::Succeeded),
            action_finished("a job whose name is longer than anyone would want", "mirror", failed_report()),
            finished("a job whose name is longer than anyone would want", JobOutcome::Failed(failed)),
            job_event(
                "weekly",
                JobEvent::BlockWait {
                    file: "backup01:/run/rsyncdirector/an-instance.lock".into(),
                    obstacle: Obstacle::Present("photos@laptop for job nightly".into()),
                    next_look: None,
                },
            ),
            finished("weekly", JobOutcome::Skipped(SkipReason::BlockTimeout)),
            job_event("hourly", JobEvent::NotRun { reason: SkipReason::Overlap, trigger: Trigger::Once }),
        ])
    }

    #[test]
    fn the_table_fits_80_columns() {
        let table = mixed().table(80, false);
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
        insta::assert_snapshot!(table);
    }

    #[test]
    fn a_wide_terminal_shows_whole_names() {
        insta::assert_snapshot!(mixed().table(200, false));
    }

    #[test]
    fn colour_is_around_lines_and_only_on_request() {
        assert!(!mixed().table(80, false).contains('\x1b'));
        let table = mixed().table(80, true);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].starts_with("\x1b[1mJOB") && lines[0].ends_with("\x1b[0m"), "{table:?}");
        assert!(lines[1].starts_with("nightly"), "{table:?}");
        assert!(lines[2].starts_with("\x1b[33mnightly"), "{table:?}");
        assert!(lines[4].starts_with("\x1b[31ma job"), "{table:?}");
        assert!(lines[7].starts_with("\x1b[1mtotal"), "{table:?}");
    }

    #[test]
    fn every_kind_of_end_has_its_word() {
        let word = |failure, status| match verdict(&action_report(failure, status, "")) {
            Verdict::Good(text) => text.to_owned(),
            Verdict::Reserved(text) | Verdict::Bad(text) => text,
        };
        use ActionFailure::{Cancelled, DeleteGuard, EmptySource, Exit, LockLost, Stalled, Start, Timeout};
        assert_eq!(word(None, None), "ok");
        assert_eq!(word(Some(Exit), Some(ExitStatus::Signal(9))), "signal 9");
        assert_eq!(word(Some(Start), None), "failed");
        assert_eq!(word(Some(Timeout), Some(ExitStatus::Signal(15))), "timeout");
        assert_eq!(word(Some(LockLost), Some(ExitStatus::Code(20))), "lock lost");
        assert_eq!(word(Some(DeleteGuard), None), "max_delete");
        assert_eq!(word(Some(EmptySource), None), "no source");
        assert_eq!(word(Some(Stalled), Some(ExitStatus::Code(20))), "stalled");
        assert_eq!(word(Some(Cancelled), Some(ExitStatus::Code(20))), "stopped");
    }

    #[test]
    fn only_a_run_in_which_all_succeeded_is_no_failure() {
        assert!(!summary(vec![]).failed());
        assert!(!summary(vec![finished("a", JobOutcome::Succeeded)]).failed());
        let bad = [
            finished("a", JobOutcome::Failed(JobFailure::Lock)),
            finished("a", JobOutcome::Skipped(SkipReason::LockTimeout)),
            job_event("a", JobEvent::NotRun { reason: SkipReason::Overlap, trigger: Trigger::Once }),
        ];
        for event in bad {
            assert!(summary(vec![event.clone(), finished("b", JobOutcome::Succeeded)]).failed(), "{event:?}");
        }
    }

    #[test]
    fn nothing_that_happened_is_no_table() {
        assert_eq!(summary(vec![]).table(80, false), "");
    }
}
