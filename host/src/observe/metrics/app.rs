//! What is counted for one app.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::APPS_MAX;
use super::count::{Count, Histogram, Observed, SharedCount};
use super::kv::{KvCounts, KvSeen, KvSums};
use crate::clock::{MS, Nanos};

/// Classes of statuses, by their first digit. `none`: the connection ended before there was one.
pub(super) const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// How requests end that do not end well: the words of the access log. One that is not among them counts as the last.
pub(super) const OUTCOMES: [&str; 28] = [
    "guest-trap",
    "guest-memory",
    "guest-error",
    "cpu-limit",
    "wall-limit",
    "no-response",
    "bad-response",
    "response-too-large",
    "unfinished",
    "overloaded",
    "rate-limited",
    "load-failed",
    "app-unavailable",
    "cancelled",
    "slow-reader",
    "drained",
    "no-such-app",
    "dev-build",
    "starting",
    "bad-request",
    "request-timeout",
    "body-too-large",
    "target-too-long",
    "expectation-failed",
    "head-too-large",
    "not-implemented",
    "version-not-supported",
    "other",
];

/// Bounds of the durations of requests, in nanoseconds.
pub(super) const DURATIONS: [Nanos; 8] =
    [MS, 10 * MS, 50 * MS, 100 * MS, 500 * MS, 1_000 * MS, 5_000 * MS, 30_000 * MS];

type ByClass = [Count; CLASSES.len()];

/// A request that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// 0: there was none.
    pub(crate) status: u16,
    /// None: all went well.
    pub(crate) outcome: Option<&'static str>,
    /// From its head to the last byte of its answer.
    pub(crate) took: Nanos,
    /// How much of that it waited for admission.
    pub(crate) queued: Nanos,
    /// Bytes of the bodies.
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// What one worker has counted for an app. The others read it.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Shard {
    ok: ByClass,
    /// By outcome; made with the first failure.
    failed: OnceLock<Box<[ByClass; OUTCOMES.len()]>>,
    durations: Histogram<{ DURATIONS.len() }>,
    queued: Count,
    queued_ns: Count,
    cpu_ns: Count,
    created: Count,
    reused: Count,
    cold: Count,
    bytes_in: Count,
    bytes_out: Count,
}

impl Shard {
    /// A request is over.
    pub(crate) fn request(&self, request: &Request) {
        let class = usize::from(request.status / 100);
        let class = if class < CLASSES.len() { class } else { 0 };
        let by_class = match request.outcome {
            None => &self.ok,
            Some(word) => {
                let last = OUTCOMES.len() - 1;
                let outcome = OUTCOMES.iter().position(|known| *known == word).unwrap_or(last);
                &self.failed.get_or_init(Box::default)[outcome]
            }
        };
        by_class[class].add(1);
        self.durations.observe(&DURATIONS, request.took);
        if request.queued > 0 {
            self.queued.add(1);
            self.queued_ns.add(request.queued);
        }
        self.bytes_in.add(request.bytes_in);
        self.bytes_out.add(request.bytes_out);
    }

    /// Its guests have used so much CPU time.
    pub(crate) fn cpu(&self, used: Nanos) {
        self.cpu_ns.add(used);
    }

    /// An instance was made.
    pub(crate) fn created(&self) {
        self.created.add(1);
    }

    /// An instance serves another request.
    pub(crate) fn reused(&self) {
        self.reused.add(1);
    }

    /// A request found the app's code not in memory.
    pub(crate) fn cold(&self) {
        self.cold.add(1);
    }
}

/// What is counted for an app, whatever its version.
#[derive(Debug)]
pub(crate) struct AppMetrics {
    /// One a worker, made when it first serves the app.
    shards: Box<[OnceLock<Box<Shard>>]>,
    /// Lines that its guests were not let write.
    pub(crate) log_dropped: SharedCount,
    kv: KvSeen,
    /// Where its numbers go in the end, if it has no series of its own.
    rest: Option<Arc<Rest>>,
}

impl AppMetrics {
    pub(super) fn new(workers: usize, app: u32, rest: &Arc<Rest>) -> Self {
        Self {
            shards: (0..workers.max(1)).map(|_| OnceLock::new()).collect(),
            log_dropped: SharedCount::default(),
            kv: KvSeen::default(),
            rest: (app >= APPS_MAX).then(|| Arc::clone(rest)),
        }
    }

    /// Where that worker counts, and no other.
    pub(crate) fn shard(&self, worker: u16) -> &Shard {
        let at = usize::from(worker).min(self.shards.len() - 1);
        self.shards[at].get_or_init(Box::default)
    }

    /// Its operations on key-value data are counted there.
    pub(crate) fn follow_kv(&self, counts: &Arc<KvCounts>) {
        self.kv.follow(counts);
    }

    /// True if it has series of its own.
    pub(super) fn is_shown(&self) -> bool {
        self.rest.is_none()
    }
}

impl Drop for AppMetrics {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take() {
            rest.lock().add(self);
        }
    }
}

/// The sums of apps without series of their own that are gone: a sum that shrank would look like a restart.
#[derive(Debug, Default)]
pub(super) struct Rest(Mutex<Totals>);

impl Rest {
    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, Totals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The numbers of one app, or of several, summed up over workers.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    pub(super) ok: [u64; CLASSES.len()],
    pub(super) failed: [[u64; CLASSES.len()]; OUTCOMES.len()],
    pub(super) durations: Observed<{ DURATIONS.len() }>,
    pub(super) queued: u64,
    pub(super) queued_ns: u64,
    pub(super) cpu_ns: u64,
    pub(super) created: u64,
    pub(super) reused: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) cold: u64,
    pub(super) log_dropped: u64,
    pub(super) kv: KvSums,
}

fn add_classes(sums: &mut [u64; CLASSES.len()], counts: &ByClass) {
    sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count.get());
}

impl Totals {
    pub(super) fn of(app: &AppMetrics) -> Self {
        let mut totals = Self::default();
        totals.add(app);
        totals
    }

    pub(super) fn add(&mut self, app: &AppMetrics) {
        for shard in app.shards.iter().filter_map(OnceLock::get) {
            add_classes(&mut self.ok, &shard.ok);
            if let Some(failed) = shard.failed.get() {
                self.failed.iter_mut().zip(&**failed).for_each(|(sums, counts)| add_classes(sums, counts));
            }
            self.durations.add(&shard.durations);
            self.queued += shard.queued.get();
            self.queued_ns += shard.queued_ns.get();
            self.cpu_ns += shard.cpu_ns.get();
            self.created += shard.created.get();
            self.reused += shard.reused.get();
            self.cold += shard.cold.get();
            self.bytes_in += shard.bytes_in.get();
            self.bytes_out += shard.bytes_out.get();
        }
        self.log_dropped += app.log_dropped.get();
        app.kv.add_to(&mut self.kv);
    }
}
