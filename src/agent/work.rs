//! What the agent does for a request: looks by a [`Side`](crate::verify::side::Side), and tells.

use std::io::Write as Output;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread;

use super::proto::pack::{Packer, Unpacker};
use super::proto::{self, Kind, ProtoError};
use super::serve::{Inbox, Unable, Worker};
use crate::verify::side::{Read, Scan, SideError, Wanted};

/// So many digests wait for being sent.
const DIGESTS_MAX: usize = 1024;

/// Whether a path leads below its root and nowhere else: no slash at either end, nothing empty, no `.` and no `..`. The root itself is empty.
pub(super) fn is_below(path: &[u8]) -> bool {
    let is_name = |part: &[u8]| !matches!(part, b"" | b"." | b"..");
    !path.contains(&0) && (path.is_empty() || path.split(|&byte| byte == b'/').all(is_name))
}

/// Tells all entries of a tree, unless the client has enough of them.
pub(super) fn scan<W: Output + Send>(worker: &mut Worker<W>, scan: &Scan) -> Result<(), Unable> {
    let mut packer = Packer::new(Kind::Entries);
    let Worker { inbox, output, side, .. } = worker;
    let told = side.scan(scan).map_err(Unable::from).and_then(|entries| {
        for entry in entries {
            if inbox.shared.is_stopped.load(Ordering::Relaxed) {
                break;
            }
            packer.entry(Some(&entry?))?;
            if packer.is_full() {
                flush(&mut packer, output)?;
            }
        }
        Ok(())
    });
    // What was found before a failure is as true as ever.
    flush(&mut packer, output)?;
    told?;
    Ok(worker.send(&proto::bare(Kind::End))?)
}

fn flush(packer: &mut Packer, output: &mut impl Output) -> Result<(), ProtoError> {
    match packer.take() {
        Some(frame) => Ok(proto::write(output, &frame)?),
        None => Ok(()),
    }
}

/// Looks at paths again, a frame of them at a time.
pub(super) fn look<W: Output + Send>(worker: &mut Worker<W>, scan: &Scan) -> Result<(), Unable> {
    let mut packer = Packer::new(Kind::Entries);
    loop {
        let payload = match worker.inbox.next() {
            Some((Kind::Paths, payload)) => payload,
            Some((Kind::Last, _)) => return Ok(worker.send(&proto::bare(Kind::End))?),
            Some((kind, _)) => return Err(proto::out_of_turn(kind).into()),
            None => return Ok(()),
        };
        let mut unpacker = Unpacker::new(payload);
        let mut paths = Vec::new();
        while !unpacker.is_empty() {
            paths.push(checked(unpacker.path()?)?);
        }
        for entry in worker.side.look(scan, &paths)? {
            packer.entry(entry.as_ref())?;
            if packer.is_full() {
                flush(&mut packer, &mut worker.output)?;
            }
        }
        flush(&mut packer, &mut worker.output)?;
    }
}

fn checked(path: Vec<u8>) -> Result<Vec<u8>, ProtoError> {
    if is_below(&path) { Ok(path) } else { Err(ProtoError::Malformed("a path that leads out")) }
}

/// Reads files as they are asked for. Digests are sent as soon as they are there, as many at once as there are.
pub(super) fn hash<W: Output + Send>(worker: &mut Worker<W>, scan: &Scan, rate: Option<u64>) -> Result<(), Unable> {
    let Worker { inbox, output, side, .. } = worker;
    let (answers, digests) = mpsc::sync_channel(DIGESTS_MAX);
    let shared = Arc::clone(&inbox.shared);
    let mut asked = Asked { inbox, unpacker: Unpacker::default(), end: None };
    let (hashed, sent) = thread::scope(|scope| {
        let sender = scope.spawn(move || send_digests(&digests, output));
        let hashed = side.hash(scan, &mut asked, rate, &mut |_, read| {
            let is_stopped = shared.is_stopped.load(Ordering::Relaxed);
            if is_stopped { Err(gone()) } else { answers.send(read).map_err(|_| gone()) }
        });
        drop(answers);
        (hashed, sender.join())
    });
    let end = asked.end.take();
    sent.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    hashed?;
    match end {
        Some(Ok(())) => Ok(worker.send(&proto::bare(Kind::End))?),
        Some(Err(error)) => Err(error.into()),
        // The client has gone.
        None => Ok(()),
    }
}

fn gone() -> SideError {
    SideError::Peer { who: "the client".into(), what: "it is gone".into() }
}

/// Packs digests as they come, and sends when no more is there.
fn send_digests(digests: &mpsc::Receiver<Read>, output: &mut impl Output) -> Result<(), ProtoError> {
    let mut packer = Packer::new(Kind::Digests);
    while let Ok(first) = digests.recv() {
        packer.read(&first);
        while !packer.is_full() {
            match digests.try_recv() {
                Ok(next) => packer.read(&next),
                Err(_) => break,
            }
        }
        flush(&mut packer, output)?;
    }
    Ok(())
}

/// The files that the client asks for, as they come.
struct Asked<'a> {
    inbox: &'a mut Inbox,
    unpacker: Unpacker,
    /// How the asking ended; `None` until then, and when the client has gone.
    end: Option<Result<(), ProtoError>>,
}

impl Asked<'_> {
    /// Makes sure that there is something to take; `false` at the end.
    fn refill(&mut self) -> Result<bool, ProtoError> {
        while self.unpacker.is_empty() {
            match self.inbox.next() {
                Some((Kind::Wanted, payload)) => self.unpacker = Unpacker::new(payload),
                Some((Kind::Last, _)) => {
                    self.end = Some(Ok(()));
                    return Ok(false);
                }
                Some((kind, _)) => return Err(proto::out_of_turn(kind)),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn take(&mut self) -> Result<Option<Wanted>, ProtoError> {
        if self.end.is_some() || !self.refill()? {
            return Ok(None);
        }
        let Wanted { path, state } = self.unpacker.wanted()?;
        Ok(Some(Wanted { path: checked(path)?, state }))
    }
}

impl Iterator for Asked<'_> {
    type Item = Wanted;

    fn next(&mut self) -> Option<Wanted> {
        self.take().unwrap_or_else(|error| {
            self.end = Some(Err(error));
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::is_below;

    #[test]
    fn paths_stay_below_their_root() {
        for path in ["", "a", "a/b", "a b/..c/.d", "...", "\u{e9}/\n"] {
            assert!(is_below(path.as_bytes()), "{path:?}");
        }
        for path in ["/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\0b"] {
            assert!(!is_below(path.as_bytes()), "{path:?}");
        }
    }
}
