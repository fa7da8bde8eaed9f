//! Standard error as a writer that cannot fail its user.

use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Writes to a descriptor, by default standard error, unbuffered.
///
/// - Non-blocking (an inherited pipe may be): waits until it takes more, as a blocking one would.
/// - Closed, its reader gone, its disk full: what does not fit is dropped and reported as written, since there is
///   nobody left to tell. The process lives on.
#[derive(Debug)]
pub struct Stderr<F = io::Stderr>(F);

impl Stderr {
    /// Standard error.
    pub fn new() -> Self {
        Self(io::stderr())
    }
}

impl Default for Stderr {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: AsFd> Write for Stderr<F> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(&self.0, buf) {
                Ok(written) if written > 0 || buf.is_empty() => return Ok(written),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => wait_until_writable(self.0.as_fd()),
                Ok(_) | Err(_) => return Ok(buf.len()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An error here shows again, and is judged, at the next write.
fn wait_until_writable(fd: std::os::fd::BorrowedFd<'_>) {
    let _ = poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], None);
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_full_nonblocking_pipe_loses_nothing() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&writer, true).expect("make it non-blocking");
        let text: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
        let expected = text.clone();
        let writing = std::thread::spawn(move || Stderr(writer).write_all(&text));
        let mut got = Vec::new();
        reader.read_to_end(&mut got).expect("read the pipe");
        writing.join().expect("no panic").expect("no error");
        assert!(got == expected, "{} of {} bytes arrived", got.len(), expected.len());
    }

    #[test]
    fn a_closed_reader_is_no_error() {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let mut stderr = Stderr(writer);
        stderr.write_all(b"nobody reads this").expect("dropped");
        stderr.flush().expect("nothing to do");
    }

    #[test]
    fn a_full_disk_is_no_error() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("open /dev/full");
        Stderr(full).write_all(b"does not fit").expect("dropped");
    }
}
