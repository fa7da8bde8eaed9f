//! The first and the last of what an action prints.

use std::collections::VecDeque;
use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::read::{self, OutputLine};

/// Longer lines are cut, bytes.
const LINE_MAX: usize = 4096;

/// Bytes of lines, each with a mark for its stream before it and a line feed behind it: the first of them up to half of the bound, and the
/// last up to the other half.
pub(super) struct Capture {
    head: Vec<u8>,
    tail: VecDeque<Vec<u8>>,
    tail_size: usize,
    half: usize,
    /// Lines that were neither.
    dropped: u64,
}

/// What was kept, compressed.
pub(super) struct Captured {
    /// zlib of the lines.
    pub(super) text: Vec<u8>,
    /// Lines that were left out between the first and the last.
    pub(super) dropped: u64,
    /// Where in the uncompressed text they were, bytes.
    pub(super) gap: usize,
}

impl Capture {
    /// Keeps `max` bytes at most.
    pub(super) fn new(max: usize) -> Self {
        Self { head: Vec::new(), tail: VecDeque::new(), tail_size: 0, half: max / 2, dropped: 0 }
    }

    /// Adds whole lines.
    pub(super) fn add(&mut self, stderr: bool, lines: &[u8]) {
        for line in lines.split(|&byte| byte == b'\n' || byte == b'\r').filter(|line| !line.is_empty()) {
            self.line(if stderr { b'e' } else { b'o' }, &line[..line.len().min(LINE_MAX)]);
        }
    }

    fn line(&mut self, mark: u8, line: &[u8]) {
        let size = line.len() + 2;
        if self.tail.is_empty() && self.dropped == 0 && self.head.len() + size <= self.half {
            self.head.push(mark);
            self.head.extend_from_slice(line);
            self.head.push(b'\n');
            return;
        }
        self.tail_size += size;
        self.tail.push_back([&[mark], line, b"\n"].concat());
        while self.tail_size > self.half
            && let Some(oldest) = self.tail.pop_front()
        {
            self.tail_size -= oldest.len();
            self.dropped += 1;
        }
    }

    /// Memory that it takes, bytes.
    pub(super) fn size(&self) -> usize {
        self.head.len() + self.tail_size
    }

    /// Leaves out all of it.
    pub(super) fn empty(&mut self) {
        let kept = self.head.iter().filter(|&&byte| byte == b'\n').count() + self.tail.len();
        *self = Self { dropped: self.dropped + kept as u64, ..Self::new(2 * self.half) };
    }

    /// What is kept so far.
    pub(super) fn so_far(&self) -> Vec<OutputLine> {
        let text = self.tail.iter().fold(self.head.clone(), |mut text, line| {
            text.extend_from_slice(line);
            text
        });
        read::lines(&text, self.dropped, self.head.len())
    }

    /// Compresses it, which takes its time.
    pub(super) fn finish(self) -> Captured {
        let gap = self.head.len();
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        let written =
            encoder.write_all(&self.head).and_then(|()| self.tail.iter().try_for_each(|line| encoder.write_all(line)));
        let text = written.and_then(|()| encoder.finish()).expect("writing to memory does not fail");
        Captured { text, dropped: self.dropped, gap }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn text(capture: Capture) -> (String, u64, usize) {
        let Captured { text, dropped, gap } = capture.finish();
        let mut out = String::new();
        flate2::read::ZlibDecoder::new(&text[..]).read_to_string(&mut out).unwrap();
        (out, dropped, gap)
    }

    #[test]
    fn little_is_kept_whole_and_in_order() {
        let mut capture = Capture::new(1000);
        capture.add(false, b"one\ntwo\r\n");
        capture.add(true, b"three");
        assert_eq!(text(capture), ("oone\notwo\nethree\n".into(), 0, 17));
    }

    #[test]
    fn of_much_the_first_and_the_last_are_kept() {
        let mut capture = Capture::new(40);
        (0..100).for_each(|n| capture.add(false, format!("line {n:02}\n").as_bytes()));
        let so_far = capture.so_far();
        assert_eq!((so_far.len(), &so_far[2]), (5, &OutputLine::Gap(96)));
        let (text, dropped, gap) = text(capture);
        assert_eq!(text, "oline 00\noline 01\noline 98\noline 99\n");
        assert_eq!((dropped, gap), (96, 18));
    }

    #[test]
    fn of_one_that_is_emptied_the_gap_is_kept() {
        let mut capture = Capture::new(40);
        (0..100).for_each(|n| capture.add(false, format!("line {n:02}\n").as_bytes()));
        assert_eq!(capture.size(), 36);
        capture.empty();
        assert_eq!((capture.size(), capture.so_far()), (0, vec![OutputLine::Gap(100)]));
    }

    #[test]
    fn memory_is_bounded_also_by_endless_lines() {
        let mut capture = Capture::new(100_000);
        (0..100).for_each(|_| capture.add(false, &[b'x'; 60_000]));
        assert!(capture.head.len() + capture.tail_size <= 100_000);
        assert!(capture.head.len() > 40_000);
    }
}
