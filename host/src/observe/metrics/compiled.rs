//! What is counted of compilations.

use crate::clock::{MS, Nanos};

/// Bounds of the CPU time of compilations, in nanoseconds.
pub(super) const CPU_BOUNDS: [Nanos; 7] =
    [10 * MS, 50 * MS, 200 * MS, 1_000 * MS, 5_000 * MS, 30_000 * MS, 120_000 * MS];
/// Bounds of their memory, in bytes.
pub(super) const MEMORY_BOUNDS: [u64; 7] =
    [32 << 20, 64 << 20, 128 << 20, 256 << 20, 512 << 20, 1 << 30, 4 << 30];

/// How a compilation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Done,
    Refused,
    Limits,
    /// The child could not be started, or somebody ended it.
    Failed,
}

/// The words for it, in the same order.
pub(super) const ENDINGS: [(Ending, &str); 4] = [
    (Ending::Done, "ok"),
    (Ending::Refused, "refused"),
    (Ending::Limits, "limits"),
    (Ending::Failed, "failed"),
];

/// How many fell into each of some classes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spread<const N: usize> {
    pub(super) counts: [u64; N],
    /// More than all bounds.
    pub(super) beyond: u64,
    pub(super) sum: u64,
}

/// What all compilations took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ledger {
    /// By how they ended.
    pub(super) ended: [u64; ENDINGS.len()],
    pub(super) cpu: Spread<{ CPU_BOUNDS.len() }>,
    pub(super) memory: Spread<{ MEMORY_BOUNDS.len() }>,
    /// The largest of each.
    pub(super) cpu_ns_max: Nanos,
    pub(super) memory_bytes_max: u64,
}

impl Ledger {
    pub(crate) const fn new() -> Self {
        Self {
            ended: [0; ENDINGS.len()],
            cpu: Spread { counts: [0; CPU_BOUNDS.len()], beyond: 0, sum: 0 },
            memory: Spread { counts: [0; MEMORY_BOUNDS.len()], beyond: 0, sum: 0 },
            cpu_ns_max: 0,
            memory_bytes_max: 0,
        }
    }

    /// A compilation is over; one that never began took nothing.
    pub(crate) fn add(&mut self, ending: Ending, cpu_ns: Nanos, peak_bytes: u64) {
        for ((known, _), count) in ENDINGS.iter().zip(&mut self.ended) {
            *count += u64::from(*known == ending);
        }
        if (cpu_ns, peak_bytes) != (0, 0) {
            self.cpu.add(&CPU_BOUNDS, cpu_ns);
            self.memory.add(&MEMORY_BOUNDS, peak_bytes);
            self.cpu_ns_max = self.cpu_ns_max.max(cpu_ns);
            self.memory_bytes_max = self.memory_bytes_max.max(peak_bytes);
        }
    }
}

impl<const N: usize> Spread<N> {
    fn add(&mut self, bounds: &[u64; N], value: u64) {
        let class = bounds.iter().position(|bound| value <= *bound);
        *class.and_then(|class| self.counts.get_mut(class)).unwrap_or(&mut self.beyond) += 1;
        self.sum = self.sum.wrapping_add(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_them_are_summed_up() {
        let mut ledger = Ledger::new();
        ledger.add(Ending::Done, 10 * MS, (32 << 20) + 1);
        ledger.add(Ending::Limits, 121_000 * MS, 1);
        ledger.add(Ending::Failed, 0, 0);
        assert_eq!(ledger.ended, [1, 0, 1, 1]);
        assert_eq!((ledger.cpu.counts[0], ledger.cpu.beyond), (1, 1));
        assert_eq!((ledger.memory.counts[0], ledger.memory.counts[1], ledger.memory.beyond), (1, 1, 0));
        assert_eq!(ledger.memory.sum, (32 << 20) + 2);
        assert_eq!((ledger.cpu_ns_max, ledger.memory_bytes_max), (121_000 * MS, (32 << 20) + 1));
    }
}
