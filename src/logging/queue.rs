//! Entries on their way to a reader that may be slow, or may have stopped reading: nobody who logs waits for it.
//!
//! One thread writes. Whoever can wait without harm, the output of an action, asks for [`Queue::room`] first, which slows the
//! action down to the reader's pace. Everything else is queued up to a bound; what comes from then until there is room is lost, and
//! how much that was is said in its place. So a full pipe or a stopped journal never delays a signal, a lease or a release.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::Notify;

/// There is room below this many queued bytes.
const ROOM: usize = 256 * 1024;
/// Entries are lost from this many queued bytes on, until there is room.
const BOUND: usize = 4 * 1024 * 1024;

/// The queue between those who log and the thread that writes.
pub(super) struct Queue {
    state: Mutex<State>,
    /// There is something to write, or all is written.
    changed: Condvar,
    /// There is room again.
    room: Notify,
}

#[derive(Default)]
struct State {
    entries: VecDeque<Queued>,
    bytes: usize,
    /// An entry is being written that is not in `entries` any more.
    writing: bool,
    /// Entries lost since the last one that was queued.
    lost: u64,
}

impl State {
    fn has_room(&self) -> bool {
        self.bytes < ROOM
    }
}

/// An entry, and how many were lost just before it. An empty one says that they are the last, so far.
struct Queued {
    lost_before: u64,
    entry: Vec<u8>,
}

impl Queue {
    /// Starts the thread, which calls `write` for each entry, in order, and where entries are missing, for what `lost` makes of
    /// their number.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        write: impl Fn(&[u8]) + Send + 'static,
        lost: impl Fn(u64) -> Vec<u8> + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self { state: Mutex::default(), changed: Condvar::new(), room: Notify::new() });
        let ours = Arc::clone(&queue);
        // Ends with the process: it may be stuck in a write.
        thread::Builder::new().name("log".into()).stack_size(256 * 1024).spawn(move || {
            loop {
                let Queued { lost_before, entry } = ours.next();
                if lost_before > 0 {
                    write(&lost(lost_before));
                }
                if !entry.is_empty() {
                    write(&entry);
                }
                ours.written(entry.len());
            }
        })?;
        Ok(queue)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an entry, or loses it if too much is queued already. Never waits.
    pub fn push(&self, entry: &[u8]) {
        let mut state = self.lock();
        let losing = state.lost > 0 && !state.has_room();
        if losing || state.bytes >= BOUND {
            state.lost += 1;
            return;
        }
        let lost_before = std::mem::take(&mut state.lost);
        state.bytes += entry.len();
        state.entries.push_back(Queued { lost_before, entry: entry.to_vec() });
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until the reader has caught up. Cancel-safe.
    pub async fn room(&self) {
        loop {
            let notified = self.room.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.lock().has_room() {
                return;
            }
            notified.await;
        }
    }

    /// Waits until all is written, for `patience` at most.
    pub fn flush(&self, patience: Duration) {
        let busy = |state: &mut State| state.writing || !state.entries.is_empty() || state.lost > 0;
        drop(self.changed.wait_timeout_while(self.lock(), patience, busy));
    }

    fn next(&self) -> Queued {
        let mut state = self.lock();
        while state.entries.is_empty() && state.lost == 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.writing = true;
        let next = state.entries.pop_front();
        next.unwrap_or_else(|| Queued { lost_before: std::mem::take(&mut state.lost), entry: Vec::new() })
    }

    fn written(&self, bytes: usize) {
        let mut state = self.lock();
        state.writing = false;
        state.bytes -= bytes;
        let (empty, room) = (state.entries.is_empty(), state.has_room());
        drop(state);
        if empty {
            self.changed.notify_all();
        }
        if room {
            self.room.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn queue_into(writer: io::PipeWriter) -> Arc<Queue> {
        let said = |n| format!("lost {n}\n").into_bytes();
        Queue::start(move |entry| (&writer).write_all(entry).unwrap(), said).unwrap()
    }

    #[test]
    fn entries_come_out_in_order_and_a_flush_waits_for_them() {
        let (mut reader, writer) = io::pipe().unwrap();
        let queue = queue_into(writer);
        (0..100).for_each(|n| queue.push(format!("{n:03}\n").as_bytes()));
        queue.flush(Duration::from_secs(10));
        let mut text = [0; 400];
        reader.read_exact(&mut text).unwrap();
        assert!(text.starts_with(b"000\n001\n") && text.ends_with(b"099\n"));
    }

    /// A queue whose reader does not read, after `pushed` entries of 1 KiB.
    fn stopped(pushed: usize) -> (Arc<Queue>, io::PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        let queue = queue_into(writer);
        (0..pushed).for_each(|_| queue.push(&[b'x'; 1024]));
        (queue, reader)
    }

    /// What is read until it ends with `end`: how many entries came before the line of the loss, how many that line says are
    /// lost, and what came after it.
    fn read_until(mut reader: io::PipeReader, end: &[u8]) -> (usize, usize, Vec<u8>) {
        let mut text = Vec::new();
        let mut chunk = [0; 65536];
        while !text.ends_with(end) {
            let count = reader.read(&mut chunk).unwrap();
            text.extend_from_slice(&chunk[..count]);
        }
        let lost = memchr::memmem::find(&text, b"lost ").expect("it is said");
        assert!(text[..lost].iter().all(|&byte| byte == b'x'));
        let (said, rest) = text[lost + 5..].split_at(memchr::memchr(b'\n', &text[lost..]).unwrap() - 5);
        (lost / 1024, str::from_utf8(said).unwrap().parse().unwrap(), rest[1..].to_vec())
    }

    #[tokio::test]
    async fn a_reader_that_stops_delays_nobody_and_is_told_what_it_missed_and_where() {
        let (queue, reader) = stopped(8 * 1024);
        queue.flush(Duration::from_millis(20));
        assert!(tokio::time::timeout(Duration::from_millis(20), queue.room()).await.is_err());
        let reading = tokio::task::spawn_blocking(|| read_until(reader, b"end"));
        queue.room().await;
        queue.push(b"end");
        let (kept, lost, after) = reading.await.unwrap();
        assert_eq!(kept + lost, 8 * 1024);
        assert_eq!(after, b"end");
    }

    #[test]
    fn what_was_missed_last_is_said_though_nothing_follows() {
        let (_queue, reader) = stopped(8 * 1024);
        let (kept, lost, after) = read_until(reader, b"\n");
        assert_eq!(kept + lost, 8 * 1024);
        assert!(after.is_empty());
    }
}
