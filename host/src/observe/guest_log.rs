//! What guests print: cut into lines, limited per app, and never able to look like another app's.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::exchange::RequestId;

/// A longer line is cut.
pub(crate) const LINE_BYTES_MAX: usize = 16 * 1024;
/// What one record counts for besides its text.
const RECORD_BYTES: u64 = 64;
const WINDOW: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Window {
    began: Instant,
    used: u64,
}

/// An app's log.
#[derive(Debug)]
pub(crate) struct GuestLog {
    app: Arc<str>,
    bytes_per_s_max: u64,
    window: Mutex<Window>,
    dropped: AtomicU64,
}

/// How much a record matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    /// The ABI's number for it.
    pub(crate) fn from_abi(level: u32) -> Option<Self> {
        use tidegate_abi::level as abi;
        Some(match level {
            abi::ERROR => Self::Error,
            abi::WARN => Self::Warn,
            abi::INFO => Self::Info,
            abi::DEBUG => Self::Debug,
            abi::TRACE => Self::Trace,
            _ => return None,
        })
    }
}

impl GuestLog {
    pub(crate) fn new(app: Arc<str>, bytes_per_s_max: u64) -> Self {
        let window = Mutex::new(Window { began: Instant::now(), used: 0 });
        Self { app, bytes_per_s_max, window, dropped: AtomicU64::new(0) }
    }

    /// One record. Over the app's rate it is dropped, and counted.
    pub(crate) fn record(&self, level: Level, id: &RequestId, text: &[u8]) {
        let text = text.get(..LINE_BYTES_MAX).unwrap_or(text);
        if !self.admit(text.len() as u64 + RECORD_BYTES) {
            self.dropped.fetch_add(1, Relaxed);
            return;
        }
        self.report();
        let text = String::from_utf8_lossy(text);
        let app = &*self.app;
        match level {
            Level::Error => tracing::error!(target: "guest", app, request = %id, "{text}"),
            Level::Warn => tracing::warn!(target: "guest", app, request = %id, "{text}"),
            Level::Info => tracing::info!(target: "guest", app, request = %id, "{text}"),
            Level::Debug => tracing::debug!(target: "guest", app, request = %id, "{text}"),
            Level::Trace => tracing::trace!(target: "guest", app, request = %id, "{text}"),
        }
    }

    fn admit(&self, bytes: u64) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.began.elapsed() >= WINDOW {
            *window = Window { began: Instant::now(), used: 0 };
        }
        let fits = window.used.saturating_add(bytes) <= self.bytes_per_s_max;
        if fits {
            window.used += bytes;
        }
        fits
    }

    /// Says how many records were dropped since it was said last.
    pub(crate) fn report(&self) {
        if self.dropped.load(Relaxed) > 0 {
            let dropped = self.dropped.swap(0, Relaxed);
            tracing::warn!(app = &*self.app, dropped, "log records dropped: over the app's rate");
        }
    }
}

/// Bytes of a stream, on their way to become lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    pub(crate) fn is_empty(&self) -> bool {
        self.partial.is_empty()
    }

    /// Records the lines that are complete and keeps the rest, at most a line's length of it.
    pub(crate) fn write(&mut self, mut bytes: &[u8], log: &GuestLog, id: &RequestId) {
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            let (line, rest) = bytes.split_at(end);
            self.keep(line);
            self.end(log, id);
            bytes = rest.get(1..).unwrap_or(&[]);
        }
        self.keep(bytes);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES_MAX - self.partial.len();
        self.partial.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    /// The line is over, complete or not.
    pub(crate) fn end(&mut self, log: &GuestLog, id: &RequestId) {
        let line = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
        log.record(Level::Info, id, line);
        self.partial.clear();
        self.partial.shrink_to(256);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_the_rate_records_are_dropped_and_counted() {
        let log = GuestLog::new("a".into(), 10 * (RECORD_BYTES + 1));
        for _ in 0..25 {
            log.record(Level::Info, &RequestId::Nothing, b"x");
        }
        assert_eq!(log.dropped.load(Relaxed), 15);
        log.report();
        assert_eq!(log.dropped.load(Relaxed), 0);
    }

    #[test]
    fn a_line_is_bounded_and_what_follows_it_is_kept() {
        let log = GuestLog::new("a".into(), u64::MAX);
        let mut lines = Lines::default();
        lines.write(&vec![b'x'; 3 * LINE_BYTES_MAX], &log, &RequestId::Nothing);
        assert_eq!(lines.partial.len(), LINE_BYTES_MAX);
        lines.write(b"tail\nnext", &log, &RequestId::Nothing);
        assert_eq!(lines.partial, b"next");
    }
}
