//! Numbers that grow.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that one thread adds to and any may read. Were there two that add, some of it could be lost: nothing else
/// depends on it. Adding costs no more than to a plain number.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that many threads add to: for what is rare.
#[derive(Debug, Default)]
pub(crate) struct SharedCount(AtomicU64);

impl SharedCount {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How many fell into each of some classes of durations.
#[derive(Debug)]
pub(super) struct Histogram<const N: usize> {
    counts: [Count; N],
    /// Longer than all bounds.
    beyond: Count,
    sum_ns: Count,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self {
            counts: std::array::from_fn(|_| Count::default()),
            beyond: Count::default(),
            sum_ns: Count::default(),
        }
    }
}

impl<const N: usize> Histogram<N> {
    /// Counts a duration. `bounds_ns` ascend; one that meets a bound is within it.
    pub(super) fn observe(&self, bounds_ns: &[u64; N], ns: u64) {
        let class = bounds_ns.iter().zip(&self.counts).find(|(bound, _)| ns <= **bound);
        class.map_or(&self.beyond, |(_, count)| count).add(1);
        self.sum_ns.add(ns);
    }
}

/// The numbers of a histogram, summed up over workers.
#[derive(Clone, Debug)]
pub(super) struct Observed<const N: usize> {
    pub(super) counts: [u64; N],
    pub(super) beyond: u64,
    pub(super) sum_ns: u64,
}

impl<const N: usize> Default for Observed<N> {
    fn default() -> Self {
        Self { counts: [0; N], beyond: 0, sum_ns: 0 }
    }
}

impl<const N: usize> Observed<N> {
    pub(super) fn add(&mut self, other: &Histogram<N>) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count.get());
        self.beyond += other.beyond.get();
        self.sum_ns += other.sum_ns.get();
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.beyond
    }
}
