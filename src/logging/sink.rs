//! The one place where entries become bytes and bytes leave the process, in order.

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use indicatif::MultiProgress;
use jiff::tz::TimeZone;
use tracing::Level;
use tracing::level_filters::LevelFilter;

use super::format::{Entry, Formatter, Head, Subject};
use super::queue::Queue;
use super::{Format, Options};

/// How long the end of the process waits for a slow reader.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// Formats and writes.
pub(super) struct Sink {
    level: LevelFilter,
    formatter: Formatter,
    rsync_id: OnceLock<Arc<str>>,
    out: Arc<Out>,
    /// Between us and `out`; `None` writes at once, for tests.
    queue: Option<Arc<Queue>>,
}

/// Where entries go. The lock on the writer is held for one write at a time, and taken after that of the bars.
struct Out {
    bars: RwLock<Option<MultiProgress>>,
    writer: Mutex<Box<dyn Write + Send>>,
}

impl Out {
    fn write(&self, entries: &[u8]) {
        let write = || {
            let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            // Where the log itself fails, there is nowhere to say so.
            let _ = writer.write_all(entries);
        };
        match &*self.bars.read().unwrap_or_else(PoisonError::into_inner) {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }
}

impl Sink {
    pub fn new(options: Options, writer: Box<dyn Write + Send>, timezone: TimeZone) -> Self {
        Self {
            level: options.level,
            formatter: Formatter { format: options.format, color: options.color, timezone },
            rsync_id: OnceLock::new(),
            out: Arc::new(Out { bars: RwLock::new(None), writer: Mutex::new(writer) }),
            queue: None,
        }
    }

    /// From now on a thread of its own writes, if there is one to be had, so that nobody who logs waits for the reader.
    pub fn in_background(mut self) -> Self {
        let out = Arc::clone(&self.out);
        let formatter = self.formatter.clone();
        let write = move |entry: &[u8]| out.write(entry);
        let lost = move |count| {
            let text = format!("the log was not read: {count} entries before this one are lost");
            let head = Head {
                at: crate::clock::now(),
                level: Level::WARN,
                rsync_id: None,
                subject: Subject::default(),
                stream: None,
            };
            formatter.entry(&head, text.as_bytes())
        };
        self.queue = Queue::start(write, lost).ok();
        self
    }

    /// Waits until the reader has caught up with what was written.
    pub async fn room(&self) {
        if let Some(queue) = &self.queue {
            queue.room().await;
        }
    }

    pub fn level(&self) -> LevelFilter {
        self.level
    }

    pub fn format(&self) -> Format {
        self.formatter.format
    }

    pub fn formatter(&self) -> &Formatter {
        &self.formatter
    }

    pub fn set_rsync_id(&self, rsync_id: &str) {
        // A second name is a caller's mistake that costs nothing: the first one stays.
        let _ = self.rsync_id.set(rsync_id.into());
    }

    pub fn attach_progress(&self, bars: MultiProgress) {
        *self.out.bars.write().unwrap_or_else(PoisonError::into_inner) = Some(bars);
    }

    /// Formats and writes one entry, if its level is logged.
    pub fn entry(&self, entry: &Entry<'_>) {
        if entry.level > self.level {
            return;
        }
        let head = Head {
            at: entry.at,
            level: entry.level,
            rsync_id: self.rsync_id.get().map(AsRef::as_ref),
            subject: entry.subject,
            stream: None,
        };
        self.write(&self.formatter.entry(&head, entry.text.as_bytes()));
    }

    /// Writes whole entries, above the bars if there are any. For the journal, exactly one entry.
    pub fn write(&self, entries: &[u8]) {
        match &self.queue {
            Some(queue) => queue.push(entries),
            None => self.out.write(entries),
        }
    }

    /// Waits a while for what is under way.
    pub fn flush(&self) {
        match &self.queue {
            Some(queue) => queue.flush(FLUSH_PATIENCE),
            None => drop(self.out.writer.lock().unwrap_or_else(PoisonError::into_inner).flush()),
        }
    }
}
