//! What becomes of an action's output: the log, rsync's statistics and progress, and the last words of a failure.

use crate::logging::ActionLog;
use crate::process::{OutputSink, Stream};
use crate::rsync::progress::{self, Progress};
use crate::rsync::stats::{Stats, StatsParser};

/// How much of a failing action's last error line goes into its report, bytes.
const LAST_WORDS: usize = 300;

/// Takes an action's output as it comes; keeps nothing but counters and one line.
pub(super) struct Output<F> {
    log: ActionLog,
    rsync: Option<(StatsParser, F)>,
    last_words: Vec<u8>,
}

impl<F: FnMut(Progress) + Send> Output<F> {
    pub(super) fn new(log: ActionLog, is_rsync: bool, on_progress: F) -> Self {
        Self { log, rsync: is_rsync.then(|| (StatsParser::default(), on_progress)), last_words: Vec::new() }
    }

    /// The statistics, if rsync printed them, and the line of standard error that tells most.
    pub(super) fn finish(self) -> (Option<Stats>, String) {
        let stats = self.rsync.and_then(|(parser, _)| parser.finish());
        let words = String::from_utf8_lossy(&self.last_words);
        (stats, words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned())
    }

    /// Progress lines move the bar and do not reach the log.
    fn rsync_output(&mut self, lines: &[u8]) {
        let Some((parser, on_progress)) = &mut self.rsync else { return };
        let mut plain = 0;
        let mut start = 0;
        while start < lines.len() {
            let end = memchr::memchr2(b'\n', b'\r', &lines[start..]).map_or(lines.len(), |n| start + n + 1);
            let line = &lines[start..end];
            if let Some(progress) = progress::parse(line) {
                on_progress(progress);
                self.log.lines(false, &lines[plain..start]);
                plain = end;
            } else {
                parser.line(line.trim_ascii_end());
            }
            start = end;
        }
        self.log.lines(false, &lines[plain..]);
    }

    fn remember(&mut self, lines: &[u8]) {
        for line in lines.split(|&byte| byte == b'\n' || byte == b'\r').filter(|line| !line.is_empty()) {
            if self.last_words.is_empty() || !is_epilogue(line) {
                self.last_words.clear();
                self.last_words.extend_from_slice(&line[..line.len().min(LAST_WORDS)]);
            }
        }
    }
}

/// What rsync says when all has been said: its exit code again, and that the other side has gone. The line before tells why.
fn is_epilogue(line: &[u8]) -> bool {
    line.starts_with(b"rsync error:") || line.starts_with(b"rsync: connection unexpectedly closed")
}

impl<F: FnMut(Progress) + Send> OutputSink for Output<F> {
    fn output(&mut self, stream: Stream, lines: &[u8]) {
        match stream {
            Stream::Stdout if self.rsync.is_some() => self.rsync_output(lines),
            Stream::Stdout => self.log.lines(false, lines),
            Stream::Stderr => {
                self.remember(lines);
                self.log.lines(true, lines);
            }
        }
    }
}
