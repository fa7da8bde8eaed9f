//! The last lines that a job's actions wrote to standard error, bounded. Pure.

use std::collections::VecDeque;

use crate::logging::escaped;

/// Lines that are kept.
const LINES: usize = 20;
/// Bytes that are kept of a line.
const LINE_MAX: usize = 400;

/// The last lines.
#[derive(Debug, Default)]
pub(super) struct Tail(VecDeque<Box<[u8]>>);

impl Tail {
    /// Takes lines as a child wrote them. Empty ones tell nothing.
    pub(super) fn add(&mut self, lines: &[u8]) {
        let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let last: Vec<&[u8]> = lines.rsplit(is_end).filter(|line| !line.is_empty()).take(LINES).collect();
        for line in last.into_iter().rev() {
            if self.0.len() == LINES {
                self.0.pop_front();
            }
            self.0.push_back(line[..line.len().min(LINE_MAX)].into());
        }
    }

    /// All of them, each with its `\n`, harmless for a terminal.
    pub(super) fn text(&self) -> String {
        self.0.iter().map(|line| escaped(&String::from_utf8_lossy(line)).into_owned() + "\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_each_bounded() {
        let mut tail = Tail::default();
        tail.add(b"first\n");
        tail.add((1..=30).map(|n| format!("line {n}\r\n\n")).collect::<String>().as_bytes());
        tail.add(&[b"x".repeat(9000), b"\n\xff\x1b[m\n".to_vec()].concat());
        let text = tail.text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines.len(), lines[0], lines[17]), (LINES, "line 13", "line 30"));
        assert_eq!(lines[18], "x".repeat(LINE_MAX));
        assert_eq!(lines[19], "\u{fffd}\\x1b[m");
    }
}
