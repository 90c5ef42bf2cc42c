//! What is counted for the server as a whole, and facts about it.

use std::sync::Arc;

use serde::Serialize;

use super::app::{AppMetrics, Rest};
use super::count::{Count, Histogram, SharedCount};
use crate::clock::{MS, Nanos};
use crate::guest::scheduler::AppId;
use crate::shared::Shared;

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

    /// The numbers of another app.
    pub(crate) fn app(&self, app: AppId) -> Arc<AppMetrics> {
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

/// Facts about a server, as its admin side shows them.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct ServerFacts {
    pub(crate) version: &'static str,
    pub(crate) pid: u32,
    pub(crate) uptime_ms: u64,
    pub(crate) workers: usize,
    pub(crate) connections: usize,
    pub(crate) connections_max: usize,
    pub(crate) apps: usize,
    /// None: the system does not say.
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) descriptors: Option<u64>,
    pub(crate) draining: bool,
}

impl ServerFacts {
    pub(crate) fn of(shared: &Shared) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            // Clocks begin with their servers.
            uptime_ms: Shared::ms(shared.clock.now()),
            workers: shared.wakers.len(),
            connections: shared.connections(),
            connections_max: shared.settings.connections_max,
            apps: shared.current.registry().apps().len(),
            memory_bytes: resident_bytes(),
            descriptors: open_descriptors(),
            draining: shared.is_draining(),
        }
    }
}

/// Memory of this process that is in use.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(rustix::param::page_size() as u64))
}

/// Descriptors of this process. The look itself takes one, which is left out.
fn open_descriptors() -> Option<u64> {
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    Some(count.saturating_sub(1))
}
