//! What guests print: cut into lines, limited per app, and never able to look like another app's.

use std::sync::Arc;

use memchr::{memchr, memchr_iter, memrchr};

use super::app_logs::AppLog;
use super::failures::{FailureLog, Tee};
use super::metrics::AppMetrics;
use super::rate::Rate;
use crate::exchange::RequestId;

/// What events of guests are told by.
pub(super) const TARGET: &str = "guest";
/// A longer line is cut.
pub(crate) const LINE_BYTES_MAX: usize = 16 * 1024;
/// What one record counts for besides its text.
const RECORD_BYTES: u64 = 64;

/// An app's log: what its guests print, and which of its requests failed.
#[derive(Debug)]
pub(crate) struct GuestLog {
    app: Arc<str>,
    rate: Arc<Rate>,
    pub(crate) failures: FailureLog,
}

impl Drop for GuestLog {
    /// Nobody asks any more.
    fn drop(&mut self) {
        self.report();
    }
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

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl GuestLog {
    /// What is said goes to the app's own log, too, as said by that version, and what is dropped is counted. Once is enough.
    pub(crate) fn tee(&self, log: Option<&AppLog>, metrics: &Arc<AppMetrics>, version: u64) {
        self.failures.tee(Tee { log: log.cloned(), metrics: Arc::clone(metrics), version });
    }

    pub(crate) fn new(app: Arc<str>, bytes_per_s_max: u64) -> Self {
        Self { app, rate: Arc::new(Rate::new(bytes_per_s_max)), failures: FailureLog::new() }
    }

    /// From now on it is `rate` that bounds it, together with whatever else that bounds.
    pub(crate) fn share(&mut self, rate: Arc<Rate>) {
        self.rate = rate;
    }

    /// One record. Over the app's rate it is dropped, and counted; then the answer is false. The text is a field of its
    /// own, quoted and escaped, behind those that are ours: whatever it says, it stays one.
    pub(crate) fn record(&self, level: Level, id: &RequestId, text: &[u8]) -> bool {
        let text = text.get(..LINE_BYTES_MAX).unwrap_or(text);
        if !self.rate.admit(text.len() as u64 + RECORD_BYTES) {
            return false;
        }
        let text = &*String::from_utf8_lossy(text);
        if let Some(Tee { log: Some(log), version, .. }) = self.failures.teed() {
            log.say(level, id, *version, text);
        }
        let app = &*self.app;
        match level {
            Level::Error => tracing::error!(target: TARGET, app, request = %id, text),
            Level::Warn => tracing::warn!(target: TARGET, app, request = %id, text),
            Level::Info => tracing::info!(target: TARGET, app, request = %id, text),
            Level::Debug => tracing::debug!(target: TARGET, app, request = %id, text),
            Level::Trace => tracing::trace!(target: TARGET, app, request = %id, text),
        }
        true
    }

    /// Says what was dropped since it was said last. For whoever does so once a second: a guest that mixes records
    /// that fit with others that do not is not to make a line of ours for each.
    pub(crate) fn report(&self) {
        let dropped = self.rate.take_dropped();
        if dropped > 0 {
            tracing::warn!(app = &*self.app, dropped, "log records dropped: over the app's rate");
            if let Some(Tee { log, metrics, .. }) = self.failures.teed() {
                metrics.log_dropped.add(dropped);
                if let Some(log) = log {
                    log.tell(
                        Level::Warn,
                        0,
                        &format!("{dropped} log records are missing: they were over the app's rate"),
                    );
                }
            }
        }
        self.failures.report(&self.app);
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

    /// Records the lines that are complete and keeps the rest, at most a line's length of it. Empty ones say nothing and
    /// are passed over. Once one is refused, the others of this write are too, in one step: a write can hold tens of
    /// thousands.
    pub(crate) fn write(&mut self, mut bytes: &[u8], log: &GuestLog, id: &RequestId) {
        loop {
            if self.partial.is_empty() {
                bytes = without_breaks(bytes);
            }
            let Some(end) = memchr(b'\n', bytes) else { break };
            let (line, rest) = bytes.split_at(end);
            self.keep(line);
            bytes = rest.get(1..).unwrap_or_default();
            if !self.end(log, id) {
                let (lines, rest) = bytes.split_at(memrchr(b'\n', bytes).map_or(0, |last| last + 1));
                log.rate.drop_more(memchr_iter(b'\n', lines).count() as u64);
                bytes = rest;
            }
        }
        self.keep(bytes);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES_MAX - self.partial.len();
        self.partial.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    /// The line is over, complete or not. False: it was dropped.
    pub(crate) fn end(&mut self, log: &GuestLog, id: &RequestId) -> bool {
        let line = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
        let recorded = log.record(Level::Info, id, line);
        self.partial.clear();
        self.partial.shrink_to(256);
        recorded
    }
}

/// What follows the line breaks at the beginning, in one step however many there are.
fn without_breaks(bytes: &[u8]) -> &[u8] {
    let first = bytes.iter().position(|byte| !matches!(byte, b'\n' | b'\r'));
    bytes.get(first.unwrap_or(bytes.len())..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::thread_cpu;
    use crate::config::LogFormat;
    use crate::observe::log::tests::written;

    #[test]
    fn over_the_rate_records_are_dropped_and_counted() {
        let log = GuestLog::new("a".into(), 10 * (RECORD_BYTES + 1));
        for _ in 0..25 {
            log.record(Level::Info, &RequestId::Nothing, b"x");
        }
        let text = written(LogFormat::Text, || {
            log.report();
            log.report();
        });
        assert!(text.ends_with("app=\"a\" dropped=15\n") && text.lines().count() == 1, "{text}");
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

    #[test]
    fn what_a_guest_writes_stays_inside_its_field() {
        const EVIL: &[u8] = b"app=\"other\" request=1-1-1 text=\"forged\" \\\" \x1b[2J\nzwei";
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = written(format, || {
                let log = GuestLog::new("forge".into(), u64::MAX);
                log.record(Level::Warn, &RequestId::Given("r-1".into()), EVIL);
            });
            let line = text.strip_suffix('\n').unwrap();
            if format == LogFormat::Json {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!((&line["app"], &line["request"]), (&"forge".into(), &"r-1".into()), "{line}");
                assert_eq!(line["text"].as_str().unwrap().as_bytes(), EVIL);
                continue;
            }
            let said = line.split_once(" WARN guest: app=\"forge\" request=r-1 text=").unwrap().1;
            // One quoted string to the end of the line: no quote inside of it is bare.
            let inside = said.strip_prefix('"').and_then(|said| said.strip_suffix('"')).unwrap();
            let bare = inside.replace("\\\\", "").replace("\\\"", "");
            assert!(!bare.contains('"') && inside.contains("forged"), "{line}");
        }
    }

    #[test]
    fn empty_lines_are_no_records() {
        let log = GuestLog::new("a".into(), u64::MAX);
        let text = written(LogFormat::Text, || {
            let mut lines = Lines::default();
            for bytes in
                [&b"\n\r\n\none\n\n"[..], b"\r", b"\n", b"two", b"\r\n", b"\n", b"\nthree  \n\r\n", b""]
            {
                lines.write(bytes, &log, &RequestId::Nothing);
            }
            assert!(lines.is_empty());
        });
        let said: Vec<_> =
            text.lines().filter_map(|line| line.split_once(" text=")).map(|(_, said)| said).collect();
        assert_eq!(said, ["\"one\"", "\"two\"", "\"three  \""], "{text}");
    }

    #[test]
    fn empty_lines_cost_next_to_nothing() {
        let log = GuestLog::new("a".into(), 0);
        let mut lines = Lines::default();
        for breaks in [b"\n".repeat(64 * 1024), b"\r\n".repeat(32 * 1024)] {
            let before = thread_cpu();
            for _ in 0..100 {
                lines.write(&breaks, &log, &RequestId::Nothing);
                assert!(lines.is_empty());
            }
            let used = thread_cpu() - before;
            // A millisecond a call.
            assert!(used < 100 * crate::clock::MS, "{used} ns for a hundred calls");
        }
        assert_eq!(log.rate.take_dropped(), 0);
    }

    #[test]
    fn a_write_of_many_lines_is_counted_in_one_step() {
        let log = GuestLog::new("a".into(), 0);
        let mut lines = Lines::default();
        let breaks = [b"x\n".repeat(32 * 1024), b"next".to_vec()].concat();
        let before = thread_cpu();
        for _ in 0..100 {
            lines.write(&breaks, &log, &RequestId::Nothing);
            assert_eq!(lines.partial, b"next");
            lines.partial.clear();
        }
        let used = thread_cpu() - before;
        assert_eq!(log.rate.take_dropped(), 100 * 32 * 1024);
        // 200 us a call.
        assert!(used < 20 * crate::clock::MS, "{used} ns for a hundred calls");
    }
}
