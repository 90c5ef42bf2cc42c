//! Which programs have their code in memory, and which of them go when there are more than there may be.
//!
//! What was not used for longest goes first. Code that somebody has an instance of never goes: of such programs the idle
//! instances are given up, and the code goes with the next look. So there may be more for a while than the budget says,
//! by as many as are running.
//!
//! Only programs that can be loaded again are here. No worker looks at this; it is for the threads that load.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::super::program::Code;
use super::slot::CodeSlot;
use crate::clock::Nanos;

/// The programs whose code is in memory.
#[derive(Debug)]
pub(crate) struct Residency {
    loaded: Mutex<Vec<Weak<CodeSlot>>>,
    /// As many as there were at the last look.
    count: AtomicUsize,
    max: AtomicUsize,
    /// Moves when idle instances of some are to be given up.
    calls: AtomicU64,
    evictions: AtomicU64,
}

impl Default for Residency {
    fn default() -> Self {
        Self {
            loaded: Mutex::default(),
            count: AtomicUsize::new(0),
            max: AtomicUsize::new(usize::MAX),
            calls: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        }
    }
}

/// What a look at the programs came to.
#[derive(Debug, Default)]
pub(crate) struct Trimmed {
    /// Code that is to be dropped, away from any loop.
    pub(crate) code: Vec<Arc<Code>>,
    /// Workers are to look for idle instances that are to go.
    pub(crate) call: bool,
}

fn is_there(slot: &Weak<CodeSlot>) -> bool {
    slot.upgrade().is_some_and(|slot| slot.is_loaded())
}

impl Residency {
    /// At most so many from now on.
    pub(crate) fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// How many there may be.
    pub(crate) fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// How many programs have their code in memory.
    pub(crate) fn count(&self) -> usize {
        let mut loaded = self.lock();
        loaded.retain(is_there);
        self.count.store(loaded.len(), Ordering::Relaxed);
        loaded.len()
    }

    /// How often code was evicted.
    pub(crate) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    /// Workers that have seen another number look for idle instances that are to go.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<CodeSlot>>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The code of another is in memory.
    pub(crate) fn add(&self, slot: &Arc<CodeSlot>) {
        let mut loaded = self.lock();
        // Programs that have gone leave no more behind than there are others.
        if loaded.len() == loaded.capacity() {
            loaded.retain(is_there);
        }
        loaded.push(Arc::downgrade(slot));
        self.count.store(loaded.len(), Ordering::Relaxed);
    }

    /// How many are kept in mind, gone or not.
    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        self.lock().capacity()
    }

    /// Evicts what is over the budget.
    pub(crate) fn trim(&self, now: Nanos) -> Trimmed {
        if self.count.load(Ordering::Relaxed) <= self.max() {
            return Trimmed::default();
        }
        self.trim_to(self.max(), now)
    }

    /// Evicts until no more than `max` are left, as far as they can go.
    pub(crate) fn trim_to(&self, max: usize, now: Nanos) -> Trimmed {
        let mut trimmed = Trimmed::default();
        let mut loaded = self.lock();
        let mut slots: Vec<Arc<CodeSlot>> =
            loaded.iter().filter_map(Weak::upgrade).filter(|slot| slot.is_loaded()).collect();
        slots.sort_by_cached_key(|slot| slot.last_used());
        let excess = slots.len().saturating_sub(max);
        let mut called = false;
        slots.retain(|slot| {
            if trimmed.code.len() == excess || slot.is_awaited(now) {
                return true;
            }
            if slot.is_in_use() {
                called |= slot.leave();
                return true;
            }
            match slot.evict() {
                Some(code) => trimmed.code.push(code),
                None => return true,
            }
            false
        });
        *loaded = slots.iter().map(Arc::downgrade).collect();
        self.count.store(loaded.len(), Ordering::Relaxed);
        drop(loaded);
        if called {
            trimmed.call = true;
            self.calls.fetch_add(1, Ordering::Release);
        }
        self.evictions.fetch_add(trimmed.code.len() as u64, Ordering::Relaxed);
        trimmed
    }
}
