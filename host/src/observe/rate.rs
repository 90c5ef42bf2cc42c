//! How much may be logged within a second, and a count of what was more.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(1);

/// Moves with every record that any rate of this process has dropped: who reports need not ask all of them.
static DROPS: AtomicU64 = AtomicU64::new(0);

/// Another number than before if records were dropped since.
pub(crate) fn drops() -> u64 {
    DROPS.load(Acquire)
}

/// What was used of a window.
#[derive(Clone, Copy, Debug)]
struct Window {
    began: Instant,
    bytes: u64,
    lines: u64,
}

/// A bound of bytes and of lines a second. There may be another one above it, which holds for several together.
#[derive(Debug)]
pub(crate) struct Rate {
    bytes_per_s_max: AtomicU64,
    lines_per_s_max: AtomicU64,
    window: Mutex<Option<Window>>,
    dropped: AtomicU64,
    above: Option<Arc<Self>>,
}

impl Default for Rate {
    /// Without bounds.
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl Rate {
    pub(super) const fn new(bytes_per_s_max: u64) -> Self {
        Self {
            bytes_per_s_max: AtomicU64::new(bytes_per_s_max),
            lines_per_s_max: AtomicU64::new(u64::MAX),
            window: Mutex::new(None),
            dropped: AtomicU64::new(0),
            above: None,
        }
    }

    /// Without bounds but those of `above`.
    pub(crate) fn below(above: Option<Arc<Self>>) -> Self {
        Self { above, ..Self::default() }
    }

    /// Other bounds from now on.
    pub(crate) fn set(&self, bytes_per_s_max: u64, lines_per_s_max: Option<u32>) {
        self.bytes_per_s_max.store(bytes_per_s_max, Relaxed);
        self.lines_per_s_max.store(lines_per_s_max.map_or(u64::MAX, u64::from), Relaxed);
    }

    /// True if a record of so many bytes may be logged. If not, it is counted as dropped.
    pub(super) fn admit(&self, bytes: u64) -> bool {
        let fits = self.take(bytes) && self.admit_above(bytes);
        if !fits {
            self.drop_more(1);
        }
        fits
    }

    fn admit_above(&self, bytes: u64) -> bool {
        let Some(above) = &self.above else { return true };
        let fits = above.take(bytes);
        if !fits && let Some(window) = &mut *self.window.lock().unwrap_or_else(PoisonError::into_inner) {
            // It was counted here and is not logged.
            window.bytes = window.bytes.saturating_sub(bytes);
            window.lines = window.lines.saturating_sub(1);
        }
        fits
    }

    fn take(&self, bytes: u64) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let running = window.filter(|window| now - window.began < WINDOW);
        let before = running.unwrap_or(Window { began: now, bytes: 0, lines: 0 });
        let after = Window {
            bytes: before.bytes.saturating_add(bytes),
            lines: before.lines.saturating_add(1),
            ..before
        };
        let fits = after.bytes <= self.bytes_per_s_max.load(Relaxed)
            && after.lines <= self.lines_per_s_max.load(Relaxed);
        *window = Some(if fits { after } else { before });
        fits
    }

    /// Records that were not even tried.
    pub(super) fn drop_more(&self, records: u64) {
        self.dropped.fetch_add(records, Relaxed);
        DROPS.fetch_add(records, Release);
    }

    /// How many were dropped since it was asked for last.
    pub(super) fn take_dropped(&self) -> u64 {
        // A look is cheaper than a write to a line that all workers share.
        if self.dropped.load(Relaxed) == 0 { 0 } else { self.dropped.swap(0, Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many records of ten bytes are taken. A second window may begin meanwhile: then it is tried again.
    fn taken(make: impl Fn() -> Vec<Rate>, records: usize) -> Vec<usize> {
        loop {
            let rates = make();
            let began = Instant::now();
            let taken = rates.iter().map(|rate| (0..records).filter(|_| rate.admit(10)).count()).collect();
            if began.elapsed() < WINDOW {
                return taken;
            }
        }
    }

    fn rate(bytes: u64, lines: Option<u32>, above: Option<&Arc<Rate>>) -> Rate {
        let rate = Rate::below(above.cloned());
        rate.set(bytes, lines);
        rate
    }

    #[test]
    fn bytes_and_lines_are_both_counted() {
        assert_eq!(taken(|| vec![rate(1_000, None, None)], 200), [100]);
        assert_eq!(taken(|| vec![rate(1_000, Some(7), None)], 200), [7]);
        assert_eq!(taken(|| vec![rate(u64::MAX, Some(0), None)], 5), [0]);
        assert_eq!(taken(|| vec![rate(u64::MAX, None, None)], 5), [5]);
    }

    #[test]
    fn what_is_above_holds_for_all_together() {
        let two = || {
            let above = Arc::new(rate(u64::MAX, Some(30), None));
            let rates = vec![rate(200, None, Some(&above)), rate(u64::MAX, None, Some(&above))];
            assert!(rates.iter().all(|rate| rate.take_dropped() == 0));
            rates
        };
        assert_eq!(taken(two, 100), [20, 10]);
    }

    #[test]
    fn what_is_refused_above_uses_nothing_up_below() {
        let above = Arc::new(rate(0, None, None));
        let rate = rate(100, None, Some(&above));
        for _ in 0..50 {
            assert!(!rate.admit(10));
        }
        assert_eq!(rate.take_dropped(), 50);
        let window = rate.window.lock().unwrap().unwrap();
        assert_eq!((window.bytes, window.lines), (0, 0));
    }
}
