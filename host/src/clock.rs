//! The clocks of the server: one monotonic base for all workers, and a thread's own CPU time.

use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the server began. Guests see the same clock as WASI's monotonic one.
pub(crate) type Nanos = u64;

/// Nanoseconds in a millisecond.
pub(crate) const MS: Nanos = 1_000_000;

/// A monotonic clock that counts from the server's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    base: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { base: Instant::now() }
    }

    pub(crate) fn now(&self) -> Nanos {
        u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// CPU time that the calling thread has used.
pub(crate) fn thread_cpu() -> Nanos {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(t.tv_sec).unwrap_or(0) * 1_000 * MS + u64::try_from(t.tv_nsec).unwrap_or(0)
}
