//! What is counted for the server as a whole.

use std::sync::Arc;

use super::app::{AppMetrics, Rest};
use super::count::{Count, Histogram, SharedCount};
use crate::clock::{MS, Nanos};

/// Bounds of the time from the end of one wait for events to the beginning of the next, in nanoseconds: for so long at
/// most a socket that is ready is not looked at.
pub(super) const TURNS: [Nanos; 7] = [MS / 4, MS, 2 * MS, 5 * MS, 20 * MS, 100 * MS, 1_000 * MS];

/// Why nobody is let in for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PauseReason {
    /// There are as many connections as there may be.
    Connections,
    /// The system has no more descriptors or memory.
    Descriptors,
    /// The memory budget is used up.
    Memory,
}

pub(super) const PAUSE_REASONS: [(PauseReason, &str); 3] = [
    (PauseReason::Connections, "connections"),
    (PauseReason::Descriptors, "descriptors"),
    (PauseReason::Memory, "memory"),
];

/// What a worker counts for itself.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct WorkerMetrics {
    pub(super) accepted: Count,
    pub(super) turns: Histogram<{ TURNS.len() }>,
}

impl WorkerMetrics {
    /// Somebody was let in.
    pub(crate) fn accepted(&self) {
        self.accepted.add(1);
    }

    /// A turn is over that took so long, the wait for events left out.
    pub(crate) fn turn(&self, took: Nanos) {
        self.turns.observe(&TURNS, took);
    }
}

/// The server's numbers.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(super) workers: Box<[WorkerMetrics]>,
    pub(super) pauses: [SharedCount; PAUSE_REASONS.len()],
    /// Requests that found no app, or were refused before one was looked for.
    pub(crate) without_app: AppMetrics,
    pub(super) rest: Arc<Rest>,
}

impl Metrics {
    pub(crate) fn new(workers: usize) -> Arc<Self> {
        let rest = Arc::<Rest>::default();
        Arc::new(Self {
            workers: (0..workers.max(1)).map(|_| WorkerMetrics::default()).collect(),
            pauses: Default::default(),
            without_app: AppMetrics::new(workers, 0, &rest),
            rest,
        })
    }

    /// What is counted for another app, of this number.
    pub(crate) fn app(&self, app: u32) -> Arc<AppMetrics> {
        Arc::new(AppMetrics::new(self.workers.len(), app, &self.rest))
    }

    /// Where that worker counts, and no other.
    pub(crate) fn worker(&self, worker: u16) -> &WorkerMetrics {
        &self.workers[usize::from(worker).min(self.workers.len() - 1)]
    }

    /// Nobody is let in any more, for now.
    pub(crate) fn paused(&self, reason: PauseReason) {
        if let Some(at) = PAUSE_REASONS.iter().position(|(known, _)| *known == reason) {
            self.pauses[at].add(1);
        }
    }
}
