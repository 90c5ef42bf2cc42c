//! The monotonic clock of WASI, which is the one behind [`Instant`].

use std::time::{Duration, Instant};

use super::monotonic_ns;

pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The instant of that time.
pub(crate) fn instant_of(at_ns: u64) -> Option<Instant> {
    let (now_ns, now) = (monotonic_ns(), Instant::now());
    if at_ns < now_ns {
        now.checked_sub(Duration::from_nanos(now_ns - at_ns))
    } else {
        now.checked_add(Duration::from_nanos(at_ns - now_ns))
    }
}

/// The other way round; now, if it is past.
pub(crate) fn ns_of(at: Instant) -> u64 {
    let left = at.saturating_duration_since(Instant::now());
    monotonic_ns().saturating_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX))
}
