//! The end of `run --once`: a table of what was moved, and why what failed or was skipped did so.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

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
        let mut lines = vec![header()];
        lines.extend(state.rows.iter().map(cells));
        lines.extend(total(&state.rows));
        let widths = column_widths(&lines, width);
        let mut out = String::new();
        for (index, line) in lines.iter().enumerate() {
            let paint = if color { paint_of(index, state.rows.get(index.wrapping_sub(1))) } else { "" };
            out += &render(line, &widths, paint);
        }
        for note in &state.notes {
            out += &wrap(note, width);
        }
        out
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
        (Some(ActionFailure::Cancelled), _) => Verdict::Reserved("stopped".to_owned()),
    }
}

const COLUMNS: usize = 8;
/// The columns JOB and ACTION, whose texts may be shortened, and RESULT are flush left; numbers are flush right.
const LEFT: usize = 3;
const NAMES: usize = 2;
/// Below this a name says nothing, so a narrower terminal gets wider lines.
const NARROWEST_NAME: usize = 8;

type Cells = [String; COLUMNS];

fn header() -> Cells {
    ["JOB", "ACTION", "RESULT", "FILES", "NEW", "DELETED", "SIZE", "TIME"].map(str::to_owned)
}

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

/// The widest cell of each column; the wider name gives way first where the line would be longer than `width`.
fn column_widths(lines: &[Cells], width: usize) -> [usize; COLUMNS] {
    let mut widths = [0; COLUMNS];
    for line in lines {
        for (widest, cell) in widths.iter_mut().zip(line) {
            *widest = (*widest).max(cell.chars().count());
        }
    }
    let gaps = 2 * (COLUMNS - 1);
    while widths.iter().sum::<usize>() + gaps > width {
        let wider = usize::from(widths[1] > widths[0]);
        if widths[wider] <= NARROWEST_NAME {
            break;
        }
        widths[wider] -= 1;
    }
    widths
}

fn render(line: &Cells, widths: &[usize; COLUMNS], paint: &str) -> String {
    let mut out = String::new();
    for (column, (cell, &width)) in line.iter().zip(widths).enumerate() {
        let cell = if column < NAMES { shorten(cell, width) } else { cell.clone() };
        let gap = if column == 0 { "" } else { "  " };
        out += gap;
        out += &if column < LEFT { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
    }
    if paint.is_empty() { format!("{}\n", out.trim_end()) } else { format!("{paint}{}\x1b[0m\n", out.trim_end()) }
}

fn shorten(name: &str, width: usize) -> String {
    if name.chars().count() <= width {
        return name.to_owned();
    }
    name.chars().take(width - 1).chain(['…']).collect()
}

/// Bold for the header and the total, red and yellow for what went wrong.
fn paint_of(line: usize, row: Option<&Row>) -> &'static str {
    match row.map(|row| &row.result) {
        _ if line == 0 => "\x1b[1m",
        None => "\x1b[1m",
        Some(Verdict::Good(_)) => "",
        Some(Verdict::Reserved(_)) => "\x1b[33m",
        Some(Verdict::Bad(_)) => "\x1b[31m",
    }
}

/// Breaks at spaces, indents what follows; a longer word stays whole so that a path can be copied.
fn wrap(text: &str, width: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            out += "\n ";
            column = 1;
        }
        if column > 0 {
            out.push(' ');
            column += 1;
        }
        out += word;
        column += length;
    }
    out.push('\n');
    out
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
        use ActionFailure::{Cancelled, Exit, LockLost, Start, Timeout};
        assert_eq!(word(None, None), "ok");
        assert_eq!(word(Some(Exit), Some(ExitStatus::Signal(9))), "signal 9");
        assert_eq!(word(Some(Start), None), "failed");
        assert_eq!(word(Some(Timeout), Some(ExitStatus::Signal(15))), "timeout");
        assert_eq!(word(Some(LockLost), Some(ExitStatus::Code(20))), "lock lost");
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
