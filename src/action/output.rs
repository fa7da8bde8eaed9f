//! What becomes of an action's output: the log, rsync's statistics and progress, and the last words of a failure.

use futures_util::future::BoxFuture;

use crate::logging::ActionLog;
use crate::process::{OutputSink, Stream};
use crate::rsync::progress::{self, Progress};
use crate::rsync::stats::{Stats, StatsParser};

/// How much of a failing action's last error line goes into its report, bytes.
const LAST_WORDS: usize = 300;

/// Takes an action's output as it comes; keeps nothing but counters and one line.
pub(super) struct Output<F> {
    log: ActionLog,
    rsync: Option<Rsync<F>>,
    last_words: Vec<u8>,
}

/// What is read out of an rsync's output.
pub(super) struct Rsync<F> {
    /// Told of progress.
    pub(super) on_progress: F,
    /// Whether the statistics, which we ask every rsync for, are to be logged, since the user asks for them too.
    pub(super) log_stats: bool,
    /// Whether others do the same work, so that its summary is none.
    is_part: bool,
    stats: StatsParser,
}

impl<F: FnMut(Progress) + Send> Output<F> {
    pub(super) fn new(log: ActionLog, rsync: Option<Rsync<F>>) -> Self {
        Self { log, rsync, last_words: Vec::new() }
    }

    /// The statistics, if rsync printed them, and the line of standard error that tells most.
    pub(super) fn finish(self) -> (Option<Stats>, String) {
        let stats = self.rsync.and_then(|rsync| rsync.stats.finish());
        let words = String::from_utf8_lossy(&self.last_words);
        (stats, words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned())
    }

    /// Takes what was said on standard error.
    pub(super) fn errors(&mut self, lines: &[u8]) {
        self.remember(lines);
        self.log.lines(true, lines);
    }

    /// Logs what is said to people. Progress lines move the bar instead, and empty lines tell nothing.
    fn rsync_output(&mut self, lines: &[u8]) {
        let Some(rsync) = &mut self.rsync else { return };
        let mut plain = 0;
        let mut start = 0;
        while start < lines.len() {
            let end = memchr::memchr2(b'\n', b'\r', &lines[start..]).map_or(lines.len(), |n| start + n + 1);
            if rsync.takes(&lines[start..end]) {
                self.log.lines(false, &lines[plain..start]);
                plain = end;
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

impl<F: FnMut(Progress)> Rsync<F> {
    pub(super) fn new(on_progress: F, log_stats: bool) -> Self {
        Self { on_progress, log_stats, is_part: false, stats: StatsParser::default() }
    }

    /// One of several that do the same work.
    pub(super) fn part(on_progress: F) -> Self {
        Self { is_part: true, ..Self::new(on_progress, false) }
    }

    /// Reads a line; tells whether it is not for the log.
    fn takes(&mut self, line: &[u8]) -> bool {
        let text = line.trim_ascii_end();
        if let Some(progress) = progress::parse(line) {
            (self.on_progress)(progress);
            return true;
        }
        let summary = self.is_part && self.stats.is_complete();
        self.stats.line(text) && !self.log_stats || text.is_empty() || summary
    }
}

/// What rsync says when all has been said: its exit code again, and that the other side has gone. The line before tells why.
fn is_epilogue(line: &[u8]) -> bool {
    line.starts_with(b"rsync error:")
        || line.starts_with(b"rsync: connection unexpectedly closed")
        || line.starts_with(b"rsync: [") && line.ends_with(b"write error: Broken pipe (32)")
}

impl<F: FnMut(Progress) + Send> OutputSink for Output<F> {
    fn ready(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.log.room())
    }

    fn output(&mut self, stream: Stream, lines: &[u8]) {
        match stream {
            Stream::Stdout if self.rsync.is_some() => self.rsync_output(lines),
            Stream::Stdout => self.log.lines(false, lines),
            Stream::Stderr => self.errors(lines),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::config::{ActionId, JobId};
    use crate::event::RunId;
    use crate::logging::{self, Format, Log};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    const PRINTED: &str = "sending incremental file list\n\nphotos/a\n  32,768  50%  1.00MB/s    0:00:01\r
Number of files: 2 (reg: 1, dir: 1)\nLiteral data: 3 bytes\nTotal bytes sent: 118\nTotal bytes received: 75\n\nsent 118 bytes\n";

    /// What reaches the log of an rsync that prints this, how often progress was told, and what is told at the end.
    fn check(log_stats: bool, is_part: bool, stderr: &str) -> (Vec<String>, usize, (Option<Stats>, String)) {
        let page = Page::default();
        let level = logging::parse_level("info").unwrap();
        let log = Log::new(logging::Options { level, format: Format::Human, color: false }, Box::new(page.clone()));
        let mut told = 0;
        let rsync = Rsync { is_part, ..Rsync::new(|_| told += 1, log_stats) };
        let action = log.output("i", RunId(1), &JobId::new("j"), &ActionId::new("a"));
        let mut output = Output::new(action, Some(rsync));
        output.output(Stream::Stdout, PRINTED.as_bytes());
        output.output(Stream::Stderr, stderr.as_bytes());
        let end = output.finish();
        log.flush();
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        (text.lines().filter_map(|line| Some(line.split_once("| ")?.1.to_owned())).collect(), told, end)
    }

    #[test]
    fn names_are_logged_progress_moves_the_bar_and_statistics_are_read() {
        let (logged, told, (stats, words)) = check(false, false, "");
        assert_eq!(logged, ["sending incremental file list", "photos/a", "sent 118 bytes"]);
        assert_eq!((told, words.as_str()), (1, ""));
        assert_eq!(stats.map(|stats| (stats.files, stats.sent_bytes)), Some((2, 118)));
    }

    #[test]
    fn statistics_are_logged_for_who_asks_for_them() {
        assert_eq!(check(true, false, "").0.len(), 7);
    }

    #[test]
    fn one_of_several_does_not_sum_up() {
        assert_eq!(check(false, true, "").0, ["sending incremental file list", "photos/a"]);
    }

    #[test]
    fn the_last_words_are_those_that_tell_why() {
        let stderr =
            "Host key verification failed.\nrsync: connection unexpectedly closed (0 bytes)\nrsync error: code 12\n";
        assert_eq!(check(false, false, stderr).2.1, "Host key verification failed.");
        let stderr = "lost the connection\nrsync: [sender] write error: Broken pipe (32)\nrsync error: code 255\n";
        assert_eq!(check(false, false, stderr).2.1, "lost the connection");
    }
}
