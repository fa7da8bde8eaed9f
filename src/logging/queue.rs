//! Entries on their way to a reader that may be slow, or may have stopped reading: nobody who logs waits for it.
//!
//! One thread writes. Whoever can wait without harm, the output of an action, asks for [`Queue::room`] first, which slows the
//! action down to the reader's pace. Everything else is queued up to a bound; what comes then is lost, counted, and said when the
//! reader reads again. So a full pipe or a stopped journal never delays a signal, a lease or a release.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::Notify;

/// There is room below this many queued bytes.
const ROOM: usize = 256 * 1024;
/// Entries are lost beyond this many queued bytes.
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
    entries: VecDeque<Vec<u8>>,
    bytes: usize,
    /// An entry is being written that is not in `entries` any more.
    writing: bool,
    lost: u64,
}

impl Queue {
    /// Starts the thread, which calls `write` for each entry, in order, and `lost` with the number of entries lost before the
    /// next one.
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
                let (entry, missing) = ours.next();
                if missing > 0 {
                    write(&lost(missing));
                }
                write(&entry);
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
        if state.bytes >= BOUND {
            state.lost += 1;
            return;
        }
        state.bytes += entry.len();
        state.entries.push_back(entry.to_vec());
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until the reader has caught up. Cancel-safe.
    pub async fn room(&self) {
        loop {
            let notified = self.room.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.lock().bytes < ROOM {
                return;
            }
            notified.await;
        }
    }

    /// Waits until all is written, for `patience` at most.
    pub fn flush(&self, patience: Duration) {
        let busy = |state: &mut State| state.writing || !state.entries.is_empty();
        drop(self.changed.wait_timeout_while(self.lock(), patience, busy));
    }

    fn next(&self) -> (Vec<u8>, u64) {
        let mut state = self.lock();
        loop {
            if let Some(entry) = state.entries.pop_front() {
                state.writing = true;
                return (entry, std::mem::take(&mut state.lost));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn written(&self, bytes: usize) {
        let mut state = self.lock();
        state.writing = false;
        state.bytes -= bytes;
        let (empty, room) = (state.entries.is_empty(), state.bytes < ROOM);
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

    #[tokio::test]
    async fn a_reader_that_stops_delays_nobody_and_is_told_what_it_missed() {
        let (mut reader, writer) = io::pipe().unwrap();
        let queue = queue_into(writer);
        let entry = [b'x'; 1024];
        (0..8 * 1024).for_each(|_| queue.push(&entry));
        queue.flush(Duration::from_millis(20));
        assert!(tokio::time::timeout(Duration::from_millis(20), queue.room()).await.is_err());
        let reading = tokio::task::spawn_blocking(move || {
            let mut text = Vec::new();
            let mut chunk = [0; 65536];
            while !text.ends_with(b"end") {
                let count = reader.read(&mut chunk).unwrap();
                text.extend_from_slice(&chunk[..count]);
            }
            text
        });
        queue.room().await;
        queue.push(b"end");
        let text = reading.await.unwrap();
        let lost = memchr::memmem::find(&text, b"lost ").expect("it is said");
        let digits = text[lost + 5..].iter().take_while(|byte| byte.is_ascii_digit());
        let number = digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
        let kept = text.iter().filter(|&&byte| byte == b'x').count() / 1024;
        assert_eq!(kept + number, 8 * 1024);
    }
}
