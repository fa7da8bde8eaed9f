//! The fast path for what actions print.
//!
//! A line costs a search for its end and a copy; time, prefix and check for harmful bytes are per chunk, and so is the
//! write. The buffer is bounded, whatever the chunk's size.

use std::sync::Arc;

use super::Format;
use super::escape;
use super::format::{Head, Stream, Subject};
use super::sink::Sink;
use crate::config::{ActionId, JobId};
use crate::event::RunId;

/// The buffer is written out when it has grown beyond this many bytes: enough for a chunk of 64 KiB of short lines.
const BUFFER: usize = 1 << 20;

/// Who else is shown what actions print.
pub trait OutputTap: Send + Sync {
    /// A chunk of whole lines, as the child wrote it.
    fn output(&self, run: RunId, job: &JobId, action: &ActionId, stderr: bool, lines: &[u8]);
}

/// Several that are shown the same.
impl OutputTap for Vec<Arc<dyn OutputTap>> {
    fn output(&self, run: RunId, job: &JobId, action: &ActionId, stderr: bool, lines: &[u8]) {
        self.iter().for_each(|tap| tap.output(run, job, action, stderr, lines));
    }
}

/// Logs the output of one action.
pub struct ActionLog {
    sink: Arc<Sink>,
    tap: Option<Arc<dyn OutputTap>>,
    rsync_id: Box<str>,
    run: RunId,
    job: JobId,
    action: ActionId,
    buffer: Vec<u8>,
    /// Whether the last chunk of standard output, of standard error, ended in a carriage return, so that a line feed at
    /// the start of the next one ends no line of its own.
    after_return: [bool; 2],
}

impl ActionLog {
    pub(super) fn new(
        (sink, tap): (Arc<Sink>, Option<Arc<dyn OutputTap>>),
        rsync_id: &str,
        run: RunId,
        job: JobId,
        action: ActionId,
    ) -> Self {
        Self { sink, tap, rsync_id: rsync_id.into(), run, job, action, buffer: Vec::new(), after_return: [false; 2] }
    }

    /// Logs a chunk of whole lines as the child wrote it to its standard error or output. Each ends in `\n`, `\r` or
    /// `\r\n`; the last may lack its end (the child's last words, or a line too long to wait for).
    pub fn lines(&mut self, stderr: bool, chunk: &[u8]) {
        if let Some(tap) = &self.tap {
            tap.output(self.run, &self.job, &self.action, stderr, chunk);
        }
        let stream = if stderr { Stream::Stderr } else { Stream::Stdout };
        if chunk.is_empty() || stream.level() > self.sink.level() {
            return;
        }
        let follows_return = std::mem::replace(&mut self.after_return[usize::from(stderr)], chunk.ends_with(b"\r"));
        let chunk = if follows_return { chunk.strip_prefix(b"\n").unwrap_or(chunk) } else { chunk };
        let head = self.head(stream);
        let clean = escape::are_clean_lines(chunk);
        let mut rest = chunk;
        while !rest.is_empty() {
            let (line, next) = split_line(rest);
            self.line(&head, line, clean);
            rest = next;
        }
        self.write_out();
        if self.buffer.capacity() > 2 * BUFFER {
            self.buffer.shrink_to(BUFFER);
        }
    }

    /// Waits until the log's reader has caught up: before a child is read on.
    pub async fn room(&self) {
        self.sink.room().await;
    }

    fn head(&self, stream: Stream) -> Vec<u8> {
        let mut head = Vec::with_capacity(256);
        self.sink.formatter().head(
            &mut head,
            &Head {
                at: crate::clock::now(),
                level: stream.level(),
                rsync_id: Some(&self.rsync_id),
                subject: Subject { run: Some(self.run), job: Some(&self.job), action: Some(&self.action) },
                stream: Some(stream),
            },
        );
        head
    }

    fn line(&mut self, head: &[u8], line: &[u8], clean: bool) {
        let formatter = self.sink.formatter();
        self.buffer.extend_from_slice(head);
        formatter.text(&mut self.buffer, line, clean);
        self.buffer.extend_from_slice(formatter.tail());
        if formatter.format == Format::Journald || self.buffer.len() >= BUFFER {
            self.write_out();
        }
    }

    fn write_out(&mut self) {
        if !self.buffer.is_empty() {
            self.sink.write(&self.buffer);
            self.buffer.clear();
        }
    }
}

/// The first line without its end, and what follows.
fn split_line(lines: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr2(b'\n', b'\r', lines) {
        None => (lines, &[]),
        Some(at) => {
            let end = if lines[at..].starts_with(b"\r\n") { at + 2 } else { at + 1 };
            (&lines[..at], &lines[end..])
        }
    }
}

impl std::fmt::Debug for ActionLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ActionLog({}/{})", self.job, self.action)
    }
}

#[cfg(test)]
mod tests {
    use tracing::level_filters::LevelFilter;

    use super::*;
    use crate::logging::tests_support::{RUN, Shared, log};

    fn action_log(format: Format, level: LevelFilter, out: &Shared) -> ActionLog {
        log(format, level, out).output("laptop", RUN, &JobId::new("nightly"), &ActionId::new("photos"))
    }

    /// What is logged of these chunks of standard output, without the time.
    #[track_caller]
    fn check(chunks: &[&[u8]], expected: &[&str]) {
        let out = Shared::default();
        let mut log = action_log(Format::Human, LevelFilter::INFO, &out);
        for chunk in chunks {
            log.lines(false, chunk);
        }
        let text = out.text();
        let lines: Vec<&str> = text.lines().map(|line| line.split_once(" | ").expect("a prefix").1).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn lines_end_in_line_feeds_returns_both_or_nothing() {
        check(&[b"one\ntwo\n"], &["one", "two"]);
        check(&[b"one\rtwo\r"], &["one", "two"]);
        check(&[b"one\r\ntwo\r\n"], &["one", "two"]);
        check(&[b"one\r", b"\ntwo"], &["one", "two"]);
        check(&[b"one\n", b"\ntwo\n"], &["one", "", "two"]);
        check(&[b"\n\n"], &["", ""]);
        check(&[b""], &[]);
    }

    #[test]
    fn harmful_bytes_are_escaped_and_do_not_spoil_their_neighbours() {
        check(&[b"ok \xc3\xa9\n\x1b[2J gone\ncaf\xe9\n"], &["ok é", "\\x1b[2J gone", "caf\\xe9"]);
    }

    #[test]
    fn a_return_of_one_stream_says_nothing_of_the_other() {
        let out = Shared::default();
        let mut log = action_log(Format::Human, LevelFilter::INFO, &out);
        log.lines(false, b"50%\r");
        log.lines(true, b"\noops\n");
        assert_eq!(out.text().lines().count(), 3);
    }

    #[test]
    fn streams_have_levels_and_the_filter_applies() {
        let out = Shared::default();
        let mut log = action_log(Format::Human, LevelFilter::WARN, &out);
        log.lines(false, b"chatter\n");
        log.lines(true, b"oops\n");
        let text = out.text();
        assert!(text.ends_with("+00:00 WARN  nightly/photos | oops\n"), "{text}");
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn json_parses_back() {
        let out = Shared::default();
        let mut log = action_log(Format::Json, LevelFilter::INFO, &out);
        log.lines(true, b"a \"quoted\" \\ path\twith tab\n\x1b \xff \"\\\n");
        let text = out.text();
        let values: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(values[0]["message"], "a \"quoted\" \\ path\twith tab");
        assert_eq!(values[1]["message"], "\\x1b \\xff \"\\");
        for value in &values {
            assert_eq!(value["level"], "WARN");
            assert_eq!(value["rsync_id"], "laptop");
            assert_eq!(value["run_id"], RUN.0);
            assert_eq!(value["job_id"], "nightly");
            assert_eq!(value["action_id"], "photos");
            assert_eq!(value["stream"], "stderr");
            value["timestamp"].as_str().expect("a text").parse::<jiff::Timestamp>().expect("RFC 3339");
        }
    }

    #[test]
    fn the_journal_gets_one_write_per_line() {
        let out = Shared::default();
        let mut log = action_log(Format::Journald, LevelFilter::INFO, &out);
        log.lines(false, b"one\ntwo\n");
        let entries: Vec<String> = out.writes().into_iter().map(|w| String::from_utf8(w).expect("UTF-8")).collect();
        assert_eq!(entries.len(), 2);
        assert_eq!(
            entries[1],
            "PRIORITY=6\nSYSLOG_IDENTIFIER=rsyncdirector\nRSYNC_ID=laptop\nRUN_ID=1795233780000\nJOB_ID=nightly\n\
             ACTION_ID=photos\nSTREAM=stdout\nMESSAGE=nightly/photos | two\n"
        );
    }

    #[test]
    fn a_million_lines_cost_one_write_per_chunk_and_a_bounded_buffer() {
        /// Counts instead of keeping.
        #[derive(Clone, Default)]
        struct Counter(Arc<std::sync::Mutex<(usize, usize)>>);
        impl std::io::Write for Counter {
            fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
                let mut counts = self.0.lock().expect("no panic");
                counts.0 += 1;
                counts.1 += memchr::memchr_iter(b'\n', buf).count();
                Ok(buf.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let counter = Counter::default();
        let options = crate::logging::Options { level: LevelFilter::INFO, format: Format::Human, color: false };
        let mut log = crate::logging::Log::new(options, Box::new(counter.clone())).output(
            "laptop",
            RUN,
            &JobId::new("nightly"),
            &ActionId::new("photos"),
        );
        let mut chunks = 0;
        let mut chunk = String::new();
        for i in 1..=1_000_000 {
            chunk += &format!("{i}\n");
            if chunk.len() > 65_000 || i == 1_000_000 {
                log.lines(false, chunk.as_bytes());
                chunks += 1;
                chunk.clear();
            }
        }
        assert_eq!(*counter.0.lock().expect("no panic"), (chunks, 1_000_000));
        assert!(log.buffer.capacity() <= 2 * BUFFER, "the buffer grew to {}", log.buffer.capacity());
    }

    #[test]
    fn a_huge_chunk_is_written_in_parts_and_its_memory_given_back() {
        let out = Shared::default();
        let mut log = action_log(Format::Human, LevelFilter::INFO, &out);
        log.lines(false, "x\n".repeat(100_000).as_bytes());
        log.lines(false, "y".repeat(10 * BUFFER).as_bytes());
        assert!(out.writes().len() > 5);
        assert!(log.buffer.capacity() <= 2 * BUFFER, "the buffer grew to {}", log.buffer.capacity());
        assert_eq!(out.text().lines().count(), 100_001);
    }
}
