//! Futures that wait for time to pass.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::coop;
use super::reactor::{self, TimerKey};
use crate::sys;
use crate::time::{WaitLimit, after_ns, instant_at};

/// Waits for `duration`, counted from this call. The handler's other futures run meanwhile.
///
/// ```
/// use std::time::Duration;
/// use tidegate_sdk::task;
///
/// async fn pause() {
///     task::sleep(Duration::from_secs(1)).await;
/// }
/// ```
pub fn sleep(duration: Duration) -> Sleep {
    // What takes no time need not look at the clock.
    Sleep::until(if duration.is_zero() { 0 } else { after_ns(duration) })
}

/// Waits until `at`. In native tests that counts on [`crate::now`].
///
/// ```
/// use std::time::Duration;
/// use tidegate_sdk::{Request, task};
///
/// /// Waits until a second before the response's head is due.
/// async fn wait_long(request: &Request) {
///     if let Some(deadline) = request.deadline() {
///         task::sleep_until(deadline - Duration::from_secs(1)).await;
///     }
/// }
/// ```
pub fn sleep_until(at: Instant) -> Sleep {
    Sleep::until(sys::ns_of(at))
}

/// A wait for a point of time: see [`sleep`]. Dropped, it is forgotten.
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Sleep {
    at_ns: u64,
    /// Registered: absent in the reactor, it has fired.
    key: Option<TimerKey>,
}

impl Sleep {
    fn until(at_ns: u64) -> Self {
        Self { at_ns, key: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(key) = self.key {
            if reactor::rearm_timer(key, cx) {
                return Poll::Pending;
            }
            self.key = None;
            // Everybody is woken at a limit on waits: also who is not under it, and goes on waiting.
            if WaitLimit::ends_sleeps() || sys::monotonic_ns() >= self.at_ns {
                self.at_ns = 0;
                return Poll::Ready(());
            }
        }
        if self.at_ns == 0 || WaitLimit::ends_sleeps() {
            return coop::proceed(cx);
        }
        // One that is past fires at the next look: that is cheaper than a look at the clock here.
        self.key = Some(reactor::arm_timer(self.at_ns, cx));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            reactor::disarm_timer(key);
        }
    }
}

/// Ticks at once and then every `period`, whatever time passes between the ticks. Who comes late gets one tick at once;
/// further ones that were missed are left out.
///
/// # Panics
/// If `period` is zero.
///
/// ```
/// use std::time::Duration;
/// use tidegate_sdk::{BodyWriter, Result, task};
///
/// async fn count(body: &mut BodyWriter) -> Result<()> {
///     let mut ticks = task::interval(Duration::from_secs(1));
///     for i in 0..10 {
///         ticks.tick().await;
///         body.send(format!("{i}\n").as_bytes()).await?;
///     }
///     Ok(())
/// }
/// ```
pub fn interval(period: Duration) -> Interval {
    assert!(!period.is_zero(), "an interval of no time would tick for ever");
    let period_ns = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
    Interval { next_ns: sys::monotonic_ns(), period_ns }
}

/// See [`interval`].
#[derive(Debug)]
pub struct Interval {
    next_ns: u64,
    period_ns: u64,
}

impl Interval {
    /// Waits for the next tick, and says when it was due. Dropped before, it loses no tick.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate_sdk::task;
    ///
    /// task::block_on(async {
    ///     let mut ticks = task::interval(Duration::from_secs(2));
    ///     let first = ticks.tick().await;
    ///     assert_eq!(ticks.tick().await - first, Duration::from_secs(2));
    /// });
    /// ```
    pub async fn tick(&mut self) -> Instant {
        let at_ns = self.next_ns;
        Sleep::until(at_ns).await;
        let late_ns = sys::monotonic_ns().saturating_sub(at_ns);
        let periods = late_ns / self.period_ns + 1;
        self.next_ns = at_ns.saturating_add(periods.saturating_mul(self.period_ns));
        instant_at(at_ns).unwrap_or_else(crate::now)
    }
}

/// A future took longer than [`timeout`] allowed.
///
/// ```
/// use std::time::Duration;
/// use tidegate_sdk::task;
///
/// let elapsed = task::block_on(task::timeout(Duration::from_secs(5), std::future::pending::<()>()));
/// assert_eq!(elapsed.unwrap_err().to_string(), "not done within 5s");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed {
    after: Duration,
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not done within {:?}", self.after)
    }
}

impl std::error::Error for Elapsed {}

/// Runs `future` for at most `duration`. It is polled once at least.
///
/// # Errors
/// [`Elapsed`] if that was not enough; the future is dropped then.
///
/// ```
/// use std::time::Duration;
/// use tidegate_sdk::task;
///
/// let never = std::future::pending::<()>();
/// assert!(task::block_on(task::timeout(Duration::from_secs(5), never)).is_err());
/// ```
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut sleep = pin!(sleep(duration));
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        coop::refill();
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Err(Elapsed { after: duration }))
    })
    .await
}
