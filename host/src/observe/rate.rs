//! How much may be logged within a second, and a count of what was more.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(1);

/// A bound of bytes a second.
#[derive(Debug)]
pub(super) struct Rate {
    bytes_per_s_max: u64,
    /// When the window began, and what was used of it.
    window: Mutex<Option<(Instant, u64)>>,
    dropped: AtomicU64,
}

impl Rate {
    pub(super) const fn new(bytes_per_s_max: u64) -> Self {
        Self { bytes_per_s_max, window: Mutex::new(None), dropped: AtomicU64::new(0) }
    }

    /// True if a record of so many bytes may be logged. If not, it is counted as dropped.
    pub(super) fn admit(&self, bytes: u64) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (began, used) = window.filter(|(began, _)| now - *began < WINDOW).unwrap_or((now, 0));
        let after = used.saturating_add(bytes);
        let fits = after <= self.bytes_per_s_max;
        *window = Some((began, if fits { after } else { used }));
        drop(window);
        if !fits {
            self.drop_more(1);
        }
        fits
    }

    /// Records that were not even tried.
    pub(super) fn drop_more(&self, records: u64) {
        self.dropped.fetch_add(records, Relaxed);
    }

    /// How many were dropped since it was asked for last.
    pub(super) fn take_dropped(&self) -> u64 {
        // A look is cheaper than a write to a line that all workers share.
        if self.dropped.load(Relaxed) == 0 { 0 } else { self.dropped.swap(0, Relaxed) }
    }
}
