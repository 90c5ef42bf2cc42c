//! A line for each request that failed, under the id that its client was told.
//!
//! Clients can make requests fail as fast as they can send them: each app has a window of its own for these lines, and
//! one more is for requests that found no app. What is over it is counted, and the count is told.

use std::sync::{Arc, OnceLock};

use super::app_logs::AppLog;
use super::guest_log::Level;
use super::metrics::AppMetrics;
use super::rate::Rate;
use crate::exchange::RequestId;

const BYTES_PER_S_MAX: u64 = 256 * 1024;
/// What a line counts for besides its texts.
const LINE_BYTES: u64 = 128;

/// The failures of requests that found no app.
pub(crate) static WITHOUT_APP: FailureLog = FailureLog::new();

/// What the log says of a failed request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed<'a> {
    /// `-` if it found none.
    pub(crate) app: &'a str,
    pub(crate) request: &'a RequestId,
    pub(crate) code: &'a str,
    /// The status that its client was sent; 0: none.
    pub(crate) status: u16,
    pub(crate) detail: &'a str,
}

/// A window for failures.
#[derive(Debug)]
pub(crate) struct FailureLog {
    rate: Rate,
    tee: OnceLock<Tee>,
}

/// Where else what is said of an app goes, and where what is dropped is counted.
#[derive(Debug)]
pub(super) struct Tee {
    pub(super) log: Option<AppLog>,
    pub(super) metrics: Arc<AppMetrics>,
    pub(super) version: u64,
}

impl FailureLog {
    pub(crate) const fn new() -> Self {
        Self { rate: Rate::new(BYTES_PER_S_MAX), tee: OnceLock::new() }
    }

    /// Every line goes to the app's own log, too. Once is enough.
    pub(super) fn tee(&self, tee: Tee) {
        // A version that serves again has its own already.
        let _ = self.tee.set(tee);
    }

    /// Where else what is said of the app goes.
    pub(super) fn teed(&self) -> Option<&Tee> {
        self.tee.get()
    }

    /// One line. Over the rate it is dropped, and counted; one that nobody would see uses nothing up.
    pub(crate) fn tell(&self, level: Level, failed: &Failed<'_>) {
        let Failed { app, request, code, status, detail } = *failed;
        // Clients that go away are no failures of the app.
        let quiet = matches!(level, Level::Debug | Level::Trace);
        let own = self.tee.get().filter(|_| !quiet).and_then(|tee| Some((tee.log.as_ref()?, tee.version)));
        macro_rules! line {
            ($level:ident) => {{
                let seen = tracing::enabled!(target: "tidegate", tracing::Level::$level);
                if (seen || own.is_some()) && self.rate.admit(LINE_BYTES + detail.len() as u64) {
                    if let Some((log, version)) = own {
                        log.fail(level, request, version, (code, status), detail);
                    }
                    tracing::event!(
                        target: "tidegate", tracing::Level::$level,
                        app, %request, error = code, status, detail, "request failed"
                    );
                }
            }};
        }
        match level {
            Level::Error => line!(ERROR),
            Level::Warn => line!(WARN),
            Level::Info => line!(INFO),
            Level::Debug => line!(DEBUG),
            Level::Trace => line!(TRACE),
        }
    }

    /// Says how many lines were dropped since it was said last.
    pub(crate) fn report(&self, app: &str) {
        let dropped = self.rate.take_dropped();
        if dropped > 0 {
            tracing::warn!(target: "tidegate", app, dropped, "failed requests without a line: over the rate");
            if let Some(log) = self.teed().and_then(|tee| tee.log.as_ref()) {
                log.tell(
                    Level::Warn,
                    0,
                    &format!("{dropped} failed requests have no line: they were over the rate"),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;
    use crate::observe::log::tests::written;

    const FAILED: Failed<'_> =
        Failed { app: "a", request: &RequestId::Nothing, code: "guest-trap", status: 500, detail: "d" };

    #[test]
    fn failures_have_lines_up_to_a_rate_and_the_rest_is_counted() {
        let text = written(LogFormat::Text, || {
            let log = FailureLog::new();
            for _ in 0..10_000 {
                log.tell(Level::Warn, &FAILED);
            }
            log.report("a");
            log.report("a");
        });
        let lines = text.lines().filter(|line| line.contains("error=\"guest-trap\"")).count();
        let told: Vec<&str> = text.lines().filter(|line| line.contains("dropped=")).collect();
        let [told] = told[..] else { panic!("{told:?}") };
        let dropped: usize = told.rsplit_once("dropped=").unwrap().1.parse().unwrap();
        // A second window may have begun meanwhile.
        assert!(lines >= 2_000 && lines + dropped == 10_000, "{lines} + {dropped}");
    }

    #[test]
    fn a_line_that_nobody_sees_uses_nothing_up() {
        let text = written(LogFormat::Text, || {
            let log = FailureLog::new();
            for _ in 0..10_000 {
                log.tell(Level::Debug, &FAILED);
            }
            log.report("a");
            log.tell(Level::Info, &FAILED);
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        for part in ["INFO tidegate: request failed app=\"a\"", "request=-", "status=500", "detail=\"d\""] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
