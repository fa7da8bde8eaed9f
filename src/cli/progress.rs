//! What `run --once` shows on a terminal while it works: a line per job that waits or acts, with a bar for a sync.
//!
//! The lines stand below the log ([`crate::logging::Log::attach_progress`]) and disappear with their job. Nothing is
//! drawn between events, so there is no timer here. A thread of its own draws: a terminal may stop taking anything (Ctrl-S, a
//! connection that died), and nobody who runs jobs and keeps their locks fresh waits for it.

mod terminal;

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;

use crate::config::{ActionId, JobId};
use crate::event::{JobEvent, Observer, Obstacle, RunEvent};
use crate::human;
use crate::logging::{Stderr, escaped, outcome};
use crate::rsync::progress::Progress;
use terminal::Terminal;

/// Redraws per second at most.
const HERTZ: u8 = 10;

const LINE: &str = "{prefix} {wide_msg}";
const BAR: &str = "{prefix} [{bar:14}] {percent:>3}% {wide_msg}";

/// Draws what the jobs of a run are doing.
#[derive(Debug)]
pub struct ProgressBars {
    bars: MultiProgress,
    wanted: Arc<Wanted>,
}

/// What is to be drawn.
#[derive(Debug, Default)]
struct Wanted {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The latest line of each job of which something else was drawn last; `None` is no line.
    lines: Vec<(JobId, Option<Line>)>,
    /// Some that were here are being drawn.
    drawing: bool,
}

impl ProgressBars {
    /// On standard error, or `None` if that is no terminal that can move its cursor.
    pub fn on_stderr() -> Option<Self> {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if dumb || !std::io::stderr().is_terminal() {
            return None;
        }
        let terminal = Terminal::new(Stderr::new(), Some(terminal::stderr_size));
        Self::new(ProgressDrawTarget::term_like_with_hz(Box::new(terminal), HERTZ)).ok()
    }

    fn new(target: ProgressDrawTarget) -> std::io::Result<Self> {
        let bars = MultiProgress::with_draw_target(target);
        let wanted = Arc::new(Wanted::default());
        let ours = (bars.clone(), Arc::clone(&wanted));
        // Ends with the process: it may be stuck in a write.
        thread::Builder::new().name("bars".into()).spawn(move || draw(&ours.0, &ours.1))?;
        Ok(Self { bars, wanted })
    }

    /// The bars, for [`crate::logging::Log::attach_progress`].
    pub fn multi(&self) -> MultiProgress {
        self.bars.clone()
    }

    /// Waits until all is drawn, for `patience` at most.
    pub fn flush(&self, patience: Duration) {
        let busy = |state: &mut State| state.drawing || !state.lines.is_empty();
        drop(self.wanted.changed.wait_timeout_while(self.wanted.lock(), patience, busy));
    }

    /// From now on this is the line of a job; `None` is no line.
    fn want(&self, job: &JobId, line: Option<Line>) {
        let mut state = self.wanted.lock();
        match state.lines.iter_mut().find(|(other, _)| other == job) {
            Some((_, latest)) => *latest = line,
            None => state.lines.push((job.clone(), line)),
        }
        drop(state);
        self.wanted.changed.notify_all();
    }
}

impl Wanted {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something to draw, when all before is drawn.
    fn next(&self) -> Vec<(JobId, Option<Line>)> {
        let mut state = self.lock();
        state.drawing = false;
        self.changed.notify_all();
        let idle = |state: &mut State| state.lines.is_empty();
        let mut state = self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        state.drawing = true;
        std::mem::take(&mut state.lines)
    }
}

fn draw(bars: &MultiProgress, wanted: &Wanted) -> ! {
    let mut jobs: HashMap<JobId, ProgressBar> = HashMap::new();
    loop {
        for (job, line) in wanted.next() {
            let Some(line) = line else {
                if let Some(bar) = jobs.remove(&job) {
                    bar.finish_and_clear();
                    bars.remove(&bar);
                }
                continue;
            };
            let bar = jobs.entry(job).or_insert_with(|| bars.add(ProgressBar::new(100)));
            bar.set_style(style(if line.percent.is_some() { BAR } else { LINE }));
            bar.set_prefix(line.prefix);
            bar.set_message(line.message);
            bar.set_position(u64::from(line.percent.unwrap_or(0)));
            bar.tick();
        }
    }
}

impl Observer for ProgressBars {
    fn observe(&self, _: Timestamp, event: &RunEvent) {
        let RunEvent::Job { job, event, .. } = event else { return };
        match event {
            JobEvent::BlockWait { file, obstacle, next_look: Some(pause) } => {
                self.want(job, Some(waiting(job, "waiting for", file, obstacle, *pause)));
            }
            JobEvent::LockWait { file, obstacle, next_look: Some(pause) } => {
                self.want(job, Some(waiting(job, "waiting to lock", file, obstacle, *pause)));
            }
            JobEvent::ActionStarted { action, .. } => self.want(job, Some(plain(job, action, "running".to_owned()))),
            JobEvent::Retry { action, message, pause } => {
                let text = format!("{}, trying again in {}", escaped(message), human::duration(*pause));
                self.want(job, Some(plain(job, action, text)));
            }
            JobEvent::Progress { action, progress } => self.want(job, Some(moving(job, action, progress))),
            JobEvent::BlocksDone { .. }
            | JobEvent::Locked { .. }
            | JobEvent::ActionFinished { .. }
            | JobEvent::Finished { .. } => self.want(job, None),
            _ => {}
        }
    }
}

/// What is shown of a job; `percent` makes it a bar.
#[derive(Debug)]
struct Line {
    prefix: String,
    percent: Option<u8>,
    message: String,
}

fn waiting(job: &JobId, what: &str, file: &str, obstacle: &Obstacle, pause: Duration) -> Line {
    let obstacle = outcome::obstacle_text(obstacle);
    let message = format!("{what} {file}, {obstacle}, next look in {}", human::duration(pause));
    Line { prefix: escaped(job.as_str()).into_owned(), percent: None, message: escaped(&message).into_owned() }
}

fn plain(job: &JobId, action: &ActionId, message: String) -> Line {
    Line { prefix: escaped(&format!("{job}/{action}")).into_owned(), percent: None, message }
}

fn moving(job: &JobId, action: &ActionId, progress: &Progress) -> Line {
    let mut message = format!("{}  {}/s", human::bytes(progress.bytes), human::bytes(progress.rate));
    if let Some(eta) = eta(progress) {
        message += &format!("  {} left", human::duration(eta));
    }
    if let Some((left, total)) = progress.to_check {
        message += &format!("  check {left}/{total}");
    }
    Line { percent: Some(progress.percent.min(100)), ..plain(job, action, message) }
}

/// As far as the percentage, a whole number, allows; in whole seconds.
fn eta(progress: &Progress) -> Option<Duration> {
    let (percent, rate) = (u64::from(progress.percent), progress.rate);
    if percent == 0 || percent >= 100 || rate == 0 {
        return None;
    }
    let left = u128::from(progress.bytes) * u128::from(100 - percent) / u128::from(percent);
    u64::try_from(left / u128::from(rate)).ok().filter(|&seconds| seconds > 0).map(Duration::from_secs)
}

fn style(template: &'static str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a valid template").progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{JobOutcome, Trigger};
    use crate::logging::Format;
    use crate::logging::tests_support::{Shared, job_event, log, sync_report};

    const PROGRESS: Progress =
        Progress { bytes: 1_200_000_000, percent: 40, rate: 34_000_000, to_check: Some((34, 200)) };

    fn bars(out: &Shared) -> ProgressBars {
        // Unlimited redraws, so that what is shown does not depend on time.
        ProgressBars::new(ProgressDrawTarget::term_like(Box::new(Terminal::new(out.clone(), None)))).expect("a thread")
    }

    fn photos() -> ActionId {
        ActionId::new("photos")
    }

    /// Sends an event and waits until it is drawn.
    fn send(bars: &ProgressBars, event: JobEvent) {
        bars.observe(Timestamp::UNIX_EPOCH, &job_event("nightly", event));
        bars.flush(Duration::from_secs(60));
    }

    /// The last line that was drawn.
    #[track_caller]
    fn check(event: JobEvent, expected: &str) {
        let out = Shared::default();
        let bars = bars(&out);
        send(&bars, event);
        let text = out.text();
        let last = text.rsplit(['\r', '\n', 'K']).find(|line| !line.trim().is_empty()).unwrap_or_default();
        assert_eq!(last.trim(), expected);
    }

    #[test]
    fn a_running_sync_has_a_bar() {
        check(
            JobEvent::Progress { action: photos(), progress: PROGRESS },
            "nightly/photos [=====>        ]  40% 1.2 GB  34.0 MB/s  52 s left  check 34/200",
        );
        check(
            JobEvent::Progress {
                action: photos(),
                progress: Progress { bytes: 0, percent: 0, rate: 0, to_check: None },
            },
            "nightly/photos [              ]   0% 0 B  0 B/s",
        );
    }

    #[test]
    fn a_wait_and_a_start_have_a_line() {
        check(
            JobEvent::BlockWait {
                file: "/run/\x1bx".into(),
                obstacle: Obstacle::Present("pid 7".into()),
                next_look: Some(Duration::from_secs(30)),
            },
            "nightly waiting for /run/\\x1bx, held by pid 7, next look in 30 s",
        );
        check(
            JobEvent::LockWait {
                file: "/run/x".into(),
                obstacle: Obstacle::Present("pid 7".into()),
                next_look: Some(Duration::from_secs(5)),
            },
            "nightly waiting to lock /run/x, held by pid 7, next look in 5 s",
        );
        check(JobEvent::ActionStarted { action: photos(), command: "rsync".into() }, "nightly/photos running");
        check(
            JobEvent::Retry { action: photos(), message: "exit code 12".into(), pause: Duration::from_secs(30) },
            "nightly/photos exit code 12, trying again in 30 s",
        );
    }

    #[test]
    fn nothing_is_left_when_a_job_is_over() {
        let out = Shared::default();
        let bars = bars(&out);
        for event in [
            JobEvent::Started { trigger: Trigger::Once },
            JobEvent::ActionStarted { action: photos(), command: "rsync".into() },
            JobEvent::Progress { action: photos(), progress: PROGRESS },
        ] {
            send(&bars, event);
        }
        assert!(screen(&out.text()).starts_with("nightly/photos ["), "{}", screen(&out.text()));
        send(&bars, JobEvent::ActionFinished { action: photos(), report: sync_report() });
        assert_eq!(screen(&out.text()), "");
        send(&bars, JobEvent::Finished { outcome: JobOutcome::Succeeded, duration: Duration::ZERO });
        assert_eq!(screen(&out.text()), "");
    }

    #[test]
    fn a_terminal_that_takes_nothing_delays_nobody() {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let bars =
            ProgressBars::new(ProgressDrawTarget::term_like(Box::new(Terminal::new(writer, None)))).expect("a thread");
        for percent in (0..100).cycle().take(20_000) {
            let progress = Progress { percent, ..PROGRESS };
            bars.observe(
                Timestamp::UNIX_EPOCH,
                &job_event("nightly", JobEvent::Progress { action: photos(), progress }),
            );
        }
        bars.flush(Duration::from_millis(20));
        assert!(bars.wanted.lock().drawing, "it takes all of them");
        assert_eq!(bars.wanted.lock().lines.len(), 1);
        let reading = thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
        bars.flush(Duration::from_secs(60));
        assert!(bars.wanted.lock().lines.is_empty());
        drop(reading);
    }

    #[test]
    fn log_lines_stand_above_the_bars() {
        let out = Shared::default();
        let bars = bars(&out);
        let log = log(Format::Human, tracing::level_filters::LevelFilter::INFO, &out);
        log.attach_progress(bars.multi());
        let mut output = log.output("laptop", crate::logging::tests_support::RUN, &JobId::new("nightly"), &photos());
        send(&bars, JobEvent::Progress { action: photos(), progress: PROGRESS });
        output.lines(false, b"one\ntwo\n");
        let shown = screen(&out.text());
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), 3, "{shown}");
        assert!(lines[0].ends_with("nightly/photos | one"), "{shown}");
        assert!(lines[1].ends_with("nightly/photos | two"), "{shown}");
        assert!(lines[2].starts_with("nightly/photos [=====>"), "{shown}");
    }

    /// What a terminal of any width shows after these bytes; knows only the sequences of [`Terminal`].
    fn screen(bytes: &str) -> String {
        let (mut rows, mut row, mut column) = (vec![String::new()], 0, 0);
        let mut chars = bytes.chars();
        while let Some(c) = chars.next() {
            match c {
                '\x1b' => {
                    let sequence: String = chars.by_ref().skip(1).take_while_inclusive_letter();
                    let (number, letter) = sequence.split_at(sequence.len() - 1);
                    let n: usize = number.parse().unwrap_or(1);
                    match letter {
                        "A" => row -= n,
                        "B" => row += n,
                        "C" => column += n,
                        "D" => column -= n,
                        "K" => rows[row].clear(),
                        other => panic!("unknown sequence {other}"),
                    }
                }
                '\r' => column = 0,
                '\n' => {
                    (row, column) = (row + 1, 0);
                    if row == rows.len() {
                        rows.push(String::new());
                    }
                }
                c => {
                    let mut cells: Vec<char> = rows[row].chars().collect();
                    cells.resize(cells.len().max(column + 1), ' ');
                    cells[column] = c;
                    rows[row] = cells.into_iter().collect();
                    column += 1;
                }
            }
        }
        let rows: Vec<&str> = rows.iter().map(|row| row.trim_end()).collect();
        rows.join("\n").trim_end().to_owned()
    }

    trait Sequence {
        fn take_while_inclusive_letter(self) -> String;
    }

    impl<I: Iterator<Item = char>> Sequence for I {
        fn take_while_inclusive_letter(self) -> String {
            let mut sequence = String::new();
            for c in self {
                sequence.push(c);
                if c.is_ascii_alphabetic() {
                    break;
                }
            }
            sequence
        }
    }
}
