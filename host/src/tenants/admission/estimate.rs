//! How long a request would wait, by what was seen.
//!
//! While others wait, the line itself is the best witness: how fast it moves is what counts, whatever it waits for (the
//! gate, the one above it, places, CPU time). Before there is a line, only how long requests take says when one of those
//! that run is over; where they differ much it says little, and then nothing is promised by it.
//!
//! Smoothed values, written without a lock: two writers may lose a sample to each other, never more.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::clock::{MS, Nanos};

/// What was seen longer ago says nothing any more.
const STALE: Nanos = 60_000 * MS;
/// A move counts for one part in so many, once there were as many: about one round of those that run.
const SAMPLES: std::ops::RangeInclusive<u32> = 16..=256;

/// How long to wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wait {
    /// What to tell whoever is to come again.
    pub(super) likely: Nanos,
    /// A request that has less time than this cannot make it.
    pub(super) least: Nanos,
}

impl Wait {
    pub(super) fn max(self, other: Self) -> Self {
        Self { likely: self.likely.max(other.likely), least: self.least.max(other.least) }
    }
}

/// How fast a line moves.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// When it moved last, or began.
    moved_at: AtomicU64,
    /// Time from one move to the next.
    interval: AtomicU64,
    samples: AtomicU32,
}

/// Moves that are remembered where so many run at once.
fn samples_max(at_once: u32) -> u32 {
    at_once.clamp(*SAMPLES.start(), *SAMPLES.end())
}

impl Line {
    /// Somebody waits, and is the first.
    pub(super) fn begin(&self, now: Nanos) {
        if now.saturating_sub(self.moved_at.swap(now, Relaxed)) > STALE {
            self.samples.store(0, Relaxed);
        }
    }

    /// The first one went, where so many run at once.
    pub(super) fn step(&self, now: Nanos, at_once: u32) {
        let took = now.saturating_sub(self.moved_at.swap(now, Relaxed));
        let samples = self.samples.load(Relaxed).saturating_add(1).min(samples_max(at_once));
        self.interval.store(smoothed(self.interval.load(Relaxed), took, samples), Relaxed);
        self.samples.store(samples, Relaxed);
    }

    /// True once it has moved.
    pub(super) fn is_known(&self) -> bool {
        self.samples.load(Relaxed) > 0
    }

    /// Until `ahead` have gone.
    pub(super) fn wait(&self, now: Nanos, ahead: u32) -> Wait {
        let standing = now.saturating_sub(self.moved_at.load(Relaxed));
        let interval = self.interval.load(Relaxed);
        // A line that stands for longer than it used to is slower than it was.
        let interval =
            interval.max(smoothed(interval, standing, self.samples.load(Relaxed).saturating_add(1)));
        let likely = interval.saturating_mul(ahead.into()).saturating_sub(standing.min(interval));
        Wait { likely, least: likely }
    }
}

/// How long requests take from entering to leaving: the mean, and how much they differ from it.
#[derive(Debug, Default)]
pub(super) struct Service {
    mean: AtomicU64,
    deviation: AtomicU64,
    left_at: AtomicU64,
}

impl Service {
    pub(super) fn count(&self, now: Nanos, took: Nanos, ended: bool) {
        let mean = self.mean.load(Relaxed);
        if !ended && took <= mean {
            return;
        }
        // Two that leave at once may both look at the one before: the sample of one is lost, and nothing else.
        let left_at = self.left_at.load(Relaxed);
        self.left_at.store(now, Relaxed);
        let stale = now.saturating_sub(left_at) > STALE.max(mean.saturating_mul(4));
        if mean == 0 || stale {
            self.mean.store(took, Relaxed);
            self.deviation.store(took / 2, Relaxed);
            return;
        }
        // As TCP smooths its round trips (RFC 6298).
        let deviation = self.deviation.load(Relaxed);
        self.deviation.store(deviation - deviation / 4 + mean.abs_diff(took) / 4, Relaxed);
        self.mean.store(mean - mean / 8 + took / 8, Relaxed);
    }

    /// Until `ahead` of those have gone that run, `at_once` of them.
    pub(super) fn wait(&self, now: Nanos, ahead: u32, at_once: u32) -> Wait {
        let mean = self.mean.load(Relaxed);
        if now.saturating_sub(self.left_at.load(Relaxed)) > STALE.max(mean.saturating_mul(4)) {
            return Wait::default();
        }
        let all = |each: Nanos| each.saturating_mul(ahead.into()) / u64::from(at_once.max(1));
        let least = mean.saturating_sub(self.deviation.load(Relaxed).saturating_mul(2));
        Wait { likely: all(mean), least: all(least) }
    }
}

/// The mean with one more sample, which counts for one part in so many.
fn smoothed(mean: Nanos, sample: Nanos, parts: u32) -> Nanos {
    let parts = u64::from(parts.max(1));
    mean - mean / parts + sample / parts
}
