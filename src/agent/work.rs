//! What the agent does for a request: looks by a [`Side`](crate::verify::side::Side), and tells.

use std::io::Write as Output;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread;

use super::proto::pack::{Packer, Unpacker};
use super::proto::{self, Kind, ProtoError};
use super::serve::{Bounds, Inbox, Unable, Worker};
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
        let admitted: Vec<bool> = paths.iter().map(|path| worker.bounds.path(&scan.root, path)).collect();
        let mut verdicts = admitted.iter();
        paths.retain(|_| verdicts.next().copied().unwrap_or_default());
        let mut found = worker.side.look(scan, &paths)?.into_iter();
        for is_admitted in admitted {
            // What it may not see is not there.
            let entry = if is_admitted { found.next().flatten() } else { None };
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
    let Worker { inbox, output, side, bounds } = worker;
    let (answers, digests) = mpsc::sync_channel(DIGESTS_MAX);
    let (skip, skipped) = mpsc::channel();
    let shared = Arc::clone(&inbox.shared);
    let unpacker = Unpacker::default();
    let mut asked = Asked { inbox, bounds: &**bounds, root: &scan.root, unpacker, count: 0, skip, end: None };
    let (hashed, sent) = thread::scope(|scope| {
        let sender = scope.spawn(move || send_digests(&digests, output));
        let mut order = Order { next: 0, skipped, pending: None };
        let answers = move |read: Read| answers.send(read).map_err(|_| gone());
        let hashed = side.hash(scan, &mut asked, rate, &mut |_: Wanted, read: Read| {
            if shared.is_stopped.load(Ordering::Relaxed) {
                return Err(gone());
            }
            order.answer(Some(read), &answers)
        });
        let hashed = hashed.and_then(|()| order.answer(None, &answers));
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
    bounds: &'a dyn Bounds,
    root: &'a [u8],
    unpacker: Unpacker,
    /// So many were asked for.
    count: u64,
    /// Told the number of each that may not be read.
    skip: mpsc::Sender<u64>,
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

    /// The next one, and whether it may be read.
    fn take(&mut self) -> Result<Option<(Wanted, bool)>, ProtoError> {
        if self.end.is_some() || !self.refill()? {
            return Ok(None);
        }
        let Wanted { path, size } = self.unpacker.wanted()?;
        let path = checked(path)?;
        let is_admitted = self.bounds.path(self.root, &path);
        Ok(Some((Wanted { path, size }, is_admitted)))
    }
}

impl Iterator for Asked<'_> {
    type Item = Wanted;

    fn next(&mut self) -> Option<Wanted> {
        loop {
            match self.take() {
                Ok(Some((wanted, is_admitted))) => {
                    let number = self.count;
                    self.count += 1;
                    if is_admitted {
                        return Some(wanted);
                    }
                    // Fails when nobody listens any more.
                    let _ = self.skip.send(number);
                }
                Ok(None) => return None,
                Err(error) => {
                    self.end = Some(Err(error));
                    return None;
                }
            }
        }
    }
}

/// Puts what was not read into its place among what was.
struct Order {
    /// The number of the next answer.
    next: u64,
    skipped: mpsc::Receiver<u64>,
    pending: Option<u64>,
}

impl Order {
    /// Answers what was skipped before `read`, and then that.
    fn answer(
        &mut self,
        read: Option<Read>,
        answers: &dyn Fn(Read) -> Result<(), SideError>,
    ) -> Result<(), SideError> {
        loop {
            self.pending = self.pending.or_else(|| self.skipped.try_recv().ok());
            if self.pending != Some(self.next) {
                break;
            }
            self.pending = None;
            self.next += 1;
            // As if it were not there.
            answers(Read::Changed)?;
        }
        self.next += 1;
        read.map_or(Ok(()), answers)
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
