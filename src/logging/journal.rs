//! systemd's journal: whether it reads our standard error, and its native protocol.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::Format;

/// Where systemd-journald(8) takes datagrams of its native protocol.
const SOCKET: &str = "/run/systemd/journal/socket";

/// The format that suits standard error: [`Format::Journald`] if systemd connected it to the journal, else
/// [`Format::Human`]. `JOURNAL_STREAM` (systemd.exec(5)) is inherited by children whose standard error is elsewhere, so
/// its device and inode must be those of ours.
pub fn detect_format() -> Format {
    let Ok(stat) = rustix::fs::fstat(io::stderr()) else { return Format::Human };
    let named = std::env::var("JOURNAL_STREAM").is_ok_and(|stream| names_file(&stream, stat.st_dev, stat.st_ino));
    if named { Format::Journald } else { Format::Human }
}

/// Whether `stream`, `device:inode` in decimal, names this file.
fn names_file(stream: &str, device: u64, inode: u64) -> bool {
    stream.split_once(':').is_some_and(|(dev, ino)| dev.parse() == Ok(device) && ino.parse() == Ok(inode))
}

/// A writer that sends each `write` as one datagram, which is one journal entry. What the journal does not take (it is
/// down, or the entry is larger than a datagram) goes to `fallback` as a plain line: systemd keeps the stream behind
/// standard error open while the journal restarts.
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
    fallback: Box<dyn Write + Send>,
}

impl Journal {
    /// # Errors
    /// No journal listens.
    pub fn connect(fallback: Box<dyn Write + Send>) -> io::Result<Self> {
        Self::connect_to(Path::new(SOCKET), fallback)
    }

    fn connect_to(path: &Path, fallback: Box<dyn Write + Send>) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // The journal ignores an empty datagram; an absent one does not take it.
        socket.send_to(&[], path)?;
        Ok(Self { socket, path: path.to_owned(), fallback })
    }
}

impl Write for Journal {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        if self.socket.send_to(entry, &self.path).is_err() {
            self.fallback.write_all(message(entry))?;
        }
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.fallback.flush()
    }
}

/// The value of the entry's last field, with its line feed.
fn message(entry: &[u8]) -> &[u8] {
    const FIELD: &[u8] = b"\nMESSAGE=";
    memchr::memmem::find(entry, FIELD).map_or(entry, |at| &entry[at + FIELD.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::tests_support::Shared;

    #[test]
    fn only_our_own_stderr_is_the_journal() {
        assert!(names_file("9:1234", 9, 1234));
        assert!(!names_file("9:1234", 9, 1235));
        assert!(!names_file("8:1234", 9, 1234));
        assert!(!names_file("", 9, 1234));
        assert!(!names_file("9", 9, 1234));
        assert!(!names_file("9:x", 9, 1234));
    }

    #[test]
    fn an_entry_is_a_datagram_and_without_a_journal_a_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("socket");
        let fallback = Shared::default();
        assert!(Journal::connect_to(&path, Box::new(fallback.clone())).is_err(), "nobody listens yet");

        let server = UnixDatagram::bind(&path).expect("bind");
        let mut journal = Journal::connect_to(&path, Box::new(fallback.clone())).expect("connect");
        journal.write_all(b"PRIORITY=6\nMESSAGE=one\n").expect("never fails");
        let mut buffer = [0; 64];
        assert_eq!(server.recv(&mut buffer).expect("the probe"), 0);
        let n = server.recv(&mut buffer).expect("the entry");
        assert_eq!(&buffer[..n], b"PRIORITY=6\nMESSAGE=one\n");
        assert_eq!(fallback.text(), "");

        drop(server);
        journal.write_all(b"PRIORITY=6\nMESSAGE=two\n").expect("never fails");
        assert_eq!(fallback.text(), "two\n");
    }

    #[test]
    fn an_entry_larger_than_a_datagram_is_not_lost() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("socket");
        let _server = UnixDatagram::bind(&path).expect("bind");
        let fallback = Shared::default();
        let mut journal = Journal::connect_to(&path, Box::new(fallback.clone())).expect("connect");
        let entry = format!("PRIORITY=6\nMESSAGE={}\n", "x".repeat(20_000_000));
        journal.write_all(entry.as_bytes()).expect("never fails");
        assert_eq!(fallback.text().len(), 20_000_001);
    }
}
