//! Waiting, how long waits may take, and how much a request has used.
//!
//! Time is the host's monotonic clock, in nanoseconds. On wasm that is the clock behind [`Instant`]; the host in memory
//! has a clock of its own, which only moves while the handler waits.

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::time::{Duration, Instant};
use tidegate_abi::poll::FOREVER;
use tidegate_abi::usage;
pub use tidegate_abi::usage::Usage;

use crate::sys;

/// A point of time that never comes.
pub(crate) const NEVER_NS: u64 = u64::MAX;

thread_local! {
    static LIMIT_NS: Cell<u64> = const { Cell::new(NEVER_NS) };
    /// Whoever awaits something under the limit is dropped at it, by who set it: only what blocks has to end by itself.
    static IS_DROPPED: Cell<bool> = const { Cell::new(false) };
}

/// Waits for `duration` without holding anything up: other requests run meanwhile, and no CPU time is charged.
///
/// `std::thread::sleep` works as well; this is one crossing less. In async code use [`task::sleep`](crate::task::sleep),
/// which lets the handler's other futures run. See [`now`] for an example.
pub fn sleep(duration: Duration) {
    let mut left_ns = duration.as_nanos();
    while left_ns > 0 {
        // 292 years a turn.
        let mut turn_ns = i64::try_from(left_ns).unwrap_or(i64::MAX);
        if let Some(limit_ns) = limit_left_ns() {
            turn_ns = turn_ns.min(limit_ns);
            left_ns = turn_ns.unsigned_abs().into();
        }
        if turn_ns > 0 {
            sys::poll(&mut [], turn_ns);
        }
        left_ns -= u128::from(turn_ns.unsigned_abs());
    }
}

/// What time it is. In native tests this is the time of the host in memory, which passes only while the handler waits;
/// `Instant::now()` knows nothing of it.
///
/// ```
/// use std::time::Duration;
/// use tidegate_sdk::{now, sleep};
///
/// let before = now();
/// sleep(Duration::from_secs(3600));
/// assert!(now() - before >= Duration::from_secs(3600));
/// ```
#[must_use]
pub fn now() -> Instant {
    sys::now()
}

/// What this request has used so far, and what is left of its limits.
///
/// ```
/// use std::time::Duration;
/// use tidegate_sdk::usage;
///
/// /// True while there is time for the thorough way.
/// fn may_be_thorough() -> bool {
///     Duration::from_nanos(usage().cpu_left_ns) > Duration::from_millis(100)
/// }
/// # use tidegate_sdk::{Request, test::Exchange};
/// # assert_eq!(Exchange::get("/").run(|_: Request| may_be_thorough().to_string()).text(), "true");
/// ```
#[must_use]
pub fn usage() -> Usage {
    let mut buf = [0; usage::BYTES];
    // A newer host may have more to say than fits; what is known stands first, so ask again with room for it.
    let len = usize::try_from(sys::usage(&mut buf)).unwrap_or(0);
    if len <= buf.len() {
        return Usage::parse(&buf).unwrap_or_default();
    }
    let buf = sys::collect("usage", len, sys::usage).unwrap_or_default();
    Usage::parse(&buf).unwrap_or_default()
}

/// The instant that stands for `at_ns` on the host's monotonic clock.
pub(crate) fn instant_at(at_ns: u64) -> Option<Instant> {
    sys::instant_of(at_ns)
}

/// The point of time `duration` from now, in nanoseconds of the host's clock.
pub(crate) fn after_ns(duration: Duration) -> u64 {
    let ns = u64::try_from(duration.as_nanos()).unwrap_or(NEVER_NS);
    sys::monotonic_ns().saturating_add(ns)
}

/// While it lives, no wait of the SDK takes longer than to a point of time: blocking and async reads and writes that
/// would have to wait fail with [`io::ErrorKind::TimedOut`], and sleeps end early.
///
/// Limits nest: the earlier one counts.
#[derive(Debug)]
#[must_use = "the limit ends when this is dropped"]
pub(crate) struct WaitLimit {
    before_ns: u64,
    was_dropped: bool,
    /// It belongs to the thread it was made on.
    thread: PhantomData<*const ()>,
}

impl WaitLimit {
    /// Ends waits at `at`.
    pub(crate) fn set(at: Instant) -> Self {
        Self::set_ns(sys::ns_of(at))
    }

    /// As [`Self::set`], around a poll of a future that the caller drops at `at` if it is not done: what it awaits need not
    /// end, what it waits for while blocking does.
    pub(crate) fn set_for_poll(at: Instant) -> Self {
        let limit = Self::set_ns(sys::ns_of(at));
        IS_DROPPED.set(true);
        limit
    }

    /// The same limit, for what blocks: whoever awaits something from here on ends with it.
    pub(crate) fn block() -> Self {
        Self::replace(LIMIT_NS.get())
    }

    /// In place of the limit there is.
    fn replace(at_ns: u64) -> Self {
        let (before_ns, was_dropped) = (LIMIT_NS.replace(at_ns), IS_DROPPED.replace(false));
        Self { before_ns, was_dropped, thread: PhantomData }
    }

    /// Ends waits `duration` from now.
    #[cfg(test)]
    fn after(duration: Duration) -> Self {
        Self::set_ns(after_ns(duration))
    }

    fn set_ns(at_ns: u64) -> Self {
        Self::replace(LIMIT_NS.get().min(at_ns))
    }

    /// No limit while this lives, whatever there is around it.
    pub(crate) fn suspend() -> Self {
        Self::replace(NEVER_NS)
    }

    /// The error of a wait that came to its limit.
    pub(crate) fn error() -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, TimeOver)
    }

    /// When waits end; [`NEVER_NS`] without a limit.
    pub(crate) fn at_ns() -> u64 {
        LIMIT_NS.get()
    }

    /// True if there is a limit and it has passed.
    pub(crate) fn is_over() -> bool {
        limit_left_ns() == Some(0)
    }

    /// True if it has passed, and async sleeps end by it.
    pub(crate) fn ends_sleeps() -> bool {
        !IS_DROPPED.get() && Self::is_over()
    }
}

/// The error of [`WaitLimit::error`]. A type and not a text, which would bring code for texts as errors into every module.
#[derive(Debug)]
struct TimeOver;

impl std::fmt::Display for TimeOver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the time for this request is over")
    }
}

impl std::error::Error for TimeOver {}

impl Drop for WaitLimit {
    fn drop(&mut self) {
        LIMIT_NS.set(self.before_ns);
        IS_DROPPED.set(self.was_dropped);
    }
}

/// Nanoseconds until the limit on waits: 0 once it has passed, `None` if there is none.
fn limit_left_ns() -> Option<i64> {
    match LIMIT_NS.get() {
        NEVER_NS => None,
        at_ns => Some(left_ns(at_ns)),
    }
}

/// Nanoseconds until `at_ns`, 0 if it is past.
pub(crate) fn left_ns(at_ns: u64) -> i64 {
    i64::try_from(at_ns.saturating_sub(sys::monotonic_ns())).unwrap_or(i64::MAX)
}

/// What a blocking wait gives `poll` as its timeout.
pub(crate) fn wait_timeout_ns() -> i64 {
    limit_left_ns().unwrap_or(FOREVER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::Exchange;
    use crate::{BodyWriter, Request, ResponseWriter, Result, StatusCode};

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn limits_nest_and_the_earlier_counts() {
        let long = WaitLimit::after(seconds(100));
        let start = now();
        {
            let _short = WaitLimit::set(start + seconds(1));
            let _longer = WaitLimit::after(seconds(5));
            sleep(seconds(20));
            assert_eq!(now() - start, seconds(1));
            assert!(WaitLimit::is_over());
        }
        assert!(!WaitLimit::is_over());
        sleep(seconds(20));
        assert_eq!(now() - start, seconds(21));
        drop(long);
        sleep(seconds(200));
        assert_eq!(now() - start, seconds(221));
    }

    /// Writes until it is told off.
    fn flood(body: &mut BodyWriter) -> io::Error {
        loop {
            if let Err(error) = std::io::Write::write_all(body, &[0; 100]) {
                return error;
            }
        }
    }

    #[test]
    fn a_wait_past_the_limit_is_an_error_and_others_go_on() {
        let answer = Exchange::post("/").chunk_after(seconds(3), "late").stalled_client().run_streaming(
            |mut request: Request, response: ResponseWriter| -> Result<()> {
                let start = now();
                let mut body = response.start(StatusCode::OK)?;
                {
                    let _limit = WaitLimit::after(seconds(2));
                    assert_eq!(
                        request.body().bytes().unwrap_err().status_code(),
                        StatusCode::INTERNAL_SERVER_ERROR
                    );
                    assert_eq!(now() - start, seconds(2));
                    // What needs no wait is not refused.
                    assert_eq!(body.try_write(b"x")?, 1);
                    let error = flood(&mut body);
                    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                    assert_eq!(error.to_string(), "the time for this request is over");
                    assert_eq!(now() - start, seconds(2));
                }
                assert_eq!(request.body().bytes()?, b"late");
                assert_eq!(now() - start, seconds(3));
                Ok(())
            },
        );
        assert_eq!(answer.queued_bytes_max, 64 << 10);
    }
}
