//! An rsync that only looks: a dry run or a listing, whose lines are read by us and not logged.

use std::ffi::OsString;

use super::attempt::{Attempt, Ended, Process};
use super::output::Output;
use crate::process::{OutputSink, Stream};
use crate::rsync::progress::Progress;

/// As much of its errors is kept, bytes; the last ones.
const ERRORS: usize = 16 << 10;

/// Reads lines, keeps the last errors.
struct Looking<F> {
    line: F,
    errors: Vec<u8>,
}

impl<F: FnMut(&[u8]) + Send> OutputSink for Looking<F> {
    fn output(&mut self, stream: Stream, lines: &[u8]) {
        if stream == Stream::Stdout {
            lines.split_inclusive(|&byte| byte == b'\n').for_each(&mut self.line);
            return;
        }
        self.errors.extend_from_slice(lines);
        self.errors.drain(..self.errors.len().saturating_sub(ERRORS));
    }
}

/// Executes it, and hands each line of its standard output to `line`. Its errors are told only when it is the last rsync of the attempt:
/// else a later one says the same.
pub(super) async fn look(attempt: &Attempt<'_>, args: &[OsString], line: impl FnMut(&[u8]) + Send) -> Ended {
    let mut looking = Looking { line, errors: Vec::new() };
    let process = Process { args, stdin: None, is_silent: false, at_once: 1 };
    let exit = attempt.execute(process, attempt.stop, &mut looking).await;
    let mut ended = Ended { exit, stats: None, last_words: String::new() };
    if !goes_on(&ended) {
        let mut log: Output<fn(Progress)> = Output::new(attempt.log(), None);
        log.errors(&looking.errors);
        ended.last_words = log.finish().1;
    }
    ended
}

/// Whether an rsync before the last ended so that this can make up for it: with all done, or but for some files.
pub(super) fn goes_on(ended: &Ended) -> bool {
    matches!(ended.code(), Some(0 | 23 | 24))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_one_by_one_and_the_last_errors_are_kept() {
        let mut lines = Vec::new();
        let mut looking = Looking { line: |line: &[u8]| lines.push(line.to_vec()), errors: Vec::new() };
        looking.output(Stream::Stdout, b"a\n\nb");
        looking.output(Stream::Stderr, &vec![b'x'; 2 * ERRORS]);
        looking.output(Stream::Stderr, b"end\n");
        assert_eq!(looking.errors.len(), ERRORS);
        assert!(looking.errors.ends_with(b"xend\n"));
        assert_eq!(lines, [&b"a\n"[..], b"\n", b"b"]);
    }
}
