//! Chunks of whole lines out of a stream of bytes.

/// The longest chunk, and so the longest line that is handed on in one piece, bytes.
const CAPACITY: usize = 64 * 1024;

/// Keeps an unfinished line until its end comes.
pub(super) struct Lines {
    buffer: Box<[u8]>,
    filled: usize,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; CAPACITY].into_boxed_slice(), filled: 0 }
    }

    /// Where the next bytes go; never empty.
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled..]
    }

    /// Takes note of `count` new bytes and hands on what is complete.
    pub(super) fn advance(&mut self, count: usize, mut take: impl FnMut(&[u8])) {
        let new = self.filled;
        self.filled += count;
        let end = memchr::memrchr2(b'\n', b'\r', &self.buffer[new..self.filled]).map(|at| new + at + 1);
        let end = end.or((self.filled == CAPACITY).then_some(CAPACITY));
        if let Some(end) = end {
            take(&self.buffer[..end]);
            self.buffer.copy_within(end..self.filled, 0);
            self.filled -= end;
        }
    }

    /// Hands on what is left at the end.
    pub(super) fn finish(&mut self, mut take: impl FnMut(&[u8])) {
        if self.filled > 0 {
            take(&self.buffer[..self.filled]);
            self.filled = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(reads: &[&[u8]], expected: &[&[u8]]) {
        let mut lines = Lines::new();
        let mut chunks: Vec<Vec<u8>> = Vec::new();
        for read in reads {
            let mut rest = *read;
            while !rest.is_empty() {
                let space = lines.space();
                let count = space.len().min(rest.len());
                space[..count].copy_from_slice(&rest[..count]);
                lines.advance(count, |chunk| chunks.push(chunk.to_vec()));
                rest = &rest[count..];
            }
        }
        lines.finish(|chunk| chunks.push(chunk.to_vec()));
        assert_eq!(chunks, expected);
    }

    #[test]
    fn chunks_end_where_lines_end() {
        check(&[b"a\nb\nc"], &[b"a\nb\n", b"c"]);
        check(&[b"a", b"b", b"c\nd"], &[b"abc\n", b"d"]);
        check(&[b"50%\r", b"60%\r", b"done\n"], &[b"50%\r", b"60%\r", b"done\n"]);
        check(&[b""], &[]);
    }

    #[test]
    fn a_line_without_end_comes_in_pieces() {
        let long = vec![b'x'; CAPACITY + 10];
        check(&[&long], &[&long[..CAPACITY], &long[CAPACITY..]]);
    }
}
