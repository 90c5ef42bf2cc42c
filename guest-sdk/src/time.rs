//! Waiting, and how much a request has used.

use std::time::{Duration, Instant};
use tidegate_abi::usage;
pub use tidegate_abi::usage::Usage;

use crate::sys;

/// Waits for `duration` without holding anything up: other requests run meanwhile, and no CPU time is charged.
///
/// `std::thread::sleep` works as well; this is one crossing less.
pub fn sleep(duration: Duration) {
    let mut left_ns = duration.as_nanos();
    while left_ns > 0 {
        // 292 years a turn.
        let turn_ns = i64::try_from(left_ns).unwrap_or(i64::MAX);
        sys::poll(&mut [], turn_ns);
        left_ns -= turn_ns.unsigned_abs() as u128;
    }
}

/// What this request has used so far, and what is left of its limits.
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

/// The instant that stands for `at_ns` on the host's monotonic clock; now, if it is past.
pub(crate) fn instant_at(at_ns: u64) -> Option<Instant> {
    let left_ns = at_ns.saturating_sub(sys::monotonic_ns());
    Instant::now().checked_add(Duration::from_nanos(left_ns))
}
