//! The one place where entries become bytes and bytes leave the process, in order.

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use indicatif::MultiProgress;
use jiff::tz::TimeZone;
use tracing::level_filters::LevelFilter;

use super::format::{Entry, Formatter, Head};
use super::{Format, Options, escape};

/// Formats and writes. The lock on the writer is held for one write at a time, and taken after that of the bars.
pub(super) struct Sink {
    level: LevelFilter,
    formatter: Formatter,
    rsync_id: OnceLock<Arc<str>>,
    bars: RwLock<Option<MultiProgress>>,
    writer: Mutex<Box<dyn Write + Send>>,
}

impl Sink {
    pub fn new(options: Options, writer: Box<dyn Write + Send>, timezone: TimeZone) -> Self {
        Self {
            level: options.level,
            formatter: Formatter { format: options.format, color: options.color, timezone },
            rsync_id: OnceLock::new(),
            bars: RwLock::new(None),
            writer: Mutex::new(writer),
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
        *self.bars.write().unwrap_or_else(PoisonError::into_inner) = Some(bars);
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
        let mut line = Vec::with_capacity(256);
        self.formatter.head(&mut line, &head);
        self.formatter.text(&mut line, entry.text.as_bytes(), escape::is_clean(entry.text.as_bytes()));
        line.extend_from_slice(self.formatter.tail());
        self.write(&line);
    }

    /// Writes whole entries, above the bars if there are any. For the journal, exactly one entry.
    pub fn write(&self, entries: &[u8]) {
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

    pub fn flush(&self) {
        let _ = self.writer.lock().unwrap_or_else(PoisonError::into_inner).flush();
    }
}
