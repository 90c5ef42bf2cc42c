//! Health requests that are wanted: whoever deploys leaves them here, and the next worker whose turn it is takes them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::registry::App;

/// What came of a health request: the status of its answer, or why there is none.
pub(crate) type Health = Result<u16, String>;

/// A version to be asked.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) app: Arc<App>,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) tell: Sender<Health>,
    /// Nobody waits for what comes of it once this is gone.
    pub(crate) asker: Weak<()>,
}

/// The longest that a health request takes, whatever its app may: who deploys waits for it.
pub(crate) const WALL_MAX: Duration = Duration::from_secs(30);

/// What all workers share: who is to be asked.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    queue: Mutex<Vec<Probe>>,
    /// Looked at once a turn; nothing else is while nobody asks.
    any: AtomicBool,
}

impl Probes {
    /// The workers are to be woken after it.
    pub(crate) fn ask(&self, probe: Probe) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(probe);
        self.any.store(true, Ordering::Release);
    }

    /// Those that nobody took yet.
    pub(crate) fn take(&self) -> Vec<Probe> {
        if !self.any.load(Ordering::Acquire) || !self.any.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
