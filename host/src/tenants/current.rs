//! The registry that is served now, and how another takes its place.
//!
//! Workers keep an `Arc` of their own and look at a counter once a turn, after they were woken: a request costs no lock
//! and no write to shared memory. Whoever puts another registry in place wakes the workers and waits until each has
//! taken it up, so that no request which begins after [`Current::replace`] has returned meets the old one. What had
//! begun before keeps its version alive for itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::registry::Registry;

/// What a worker that is gone has seen: everything.
const GONE: u64 = u64::MAX;

#[derive(Debug)]
struct Inner {
    registry: Arc<Registry>,
    /// The generation that each worker serves.
    seen: Vec<u64>,
}

/// What is served now.
#[derive(Debug)]
pub(crate) struct Current {
    /// Counts the registries. It moves under the lock, with the registry.
    generation: AtomicU64,
    inner: Mutex<Inner>,
    /// A worker has taken a registry up, or is gone.
    taken_up: Condvar,
}

impl Current {
    /// `registry` is the first, and `workers` are going to serve it.
    pub(crate) fn new(registry: Registry, workers: usize) -> Self {
        let inner = Inner { registry: Arc::new(registry), seen: vec![0; workers] };
        Self { generation: AtomicU64::new(0), inner: Mutex::new(inner), taken_up: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the registry that is served now.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The registry that is served now.
    pub(crate) fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.lock().registry)
    }

    /// The registry that is served now, and its number. [`Self::took_up`] follows.
    pub(crate) fn get(&self) -> (u64, Arc<Registry>) {
        let inner = self.lock();
        (self.generation.load(Ordering::Relaxed), Arc::clone(&inner.registry))
    }

    /// A worker serves the registry of that number, and has let go of the ones before.
    pub(crate) fn took_up(&self, worker: u16, generation: u64) {
        if let Some(seen) = self.lock().seen.get_mut(usize::from(worker)) {
            *seen = generation;
        }
        self.taken_up.notify_all();
    }

    /// A worker has ended: nobody waits for it any more.
    pub(crate) fn leave(&self, worker: u16) {
        self.took_up(worker, GONE);
    }

    /// Puts `registry` in the place of the one before, and waits until every worker serves it; `wake` makes them look.
    /// Not for a worker to call. The old registry is dropped here, away from their loops.
    pub(crate) fn replace(&self, registry: Registry, wake: impl FnOnce()) {
        let mut inner = self.lock();
        let generation = self.generation.load(Ordering::Relaxed) + 1;
        let old = std::mem::replace(&mut inner.registry, Arc::new(registry));
        self.generation.store(generation, Ordering::Release);
        drop(inner);
        wake();
        let behind = |inner: &mut Inner| inner.seen.iter().any(|seen| *seen < generation);
        drop(self.taken_up.wait_while(self.lock(), behind));
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::tenants::notice::Notice;

    fn registry(text: &str) -> Registry {
        Registry::of_notice(Notice {
            status: 503,
            code: "starting",
            html: String::new(),
            text: text.to_owned(),
        })
    }

    fn text(registry: &Registry) -> &str {
        &registry.notice().unwrap().text
    }

    #[test]
    fn whoever_replaces_waits_for_every_worker() {
        let current = Current::new(registry("old"), 2);
        let (woken, wake) = mpsc::channel();
        thread::scope(|scope| {
            let replacing = scope.spawn(|| current.replace(registry("new"), || woken.send(()).unwrap()));
            wake.recv().unwrap();
            assert_eq!(current.generation(), 1);
            let (generation, taken) = current.get();
            assert_eq!((generation, text(&taken)), (1, "new"));
            current.took_up(0, generation);
            assert!(!replacing.is_finished(), "the other has not seen it");
            current.leave(1);
            replacing.join().unwrap();
        });
        // Nobody is left but one, and it is up to date only once it has looked again.
        current.took_up(0, GONE);
        current.replace(registry("newest"), || {});
        assert_eq!(text(&current.registry()), "newest");
    }

    #[test]
    fn the_old_one_goes_when_nobody_serves_it() {
        let current = Current::new(registry("old"), 1);
        let (_, mine) = current.get();
        let old = Arc::downgrade(&mine);
        thread::scope(|scope| {
            let (woken, wake) = mpsc::channel();
            let current = &current;
            scope.spawn(move || current.replace(registry("new"), || woken.send(()).unwrap()));
            wake.recv().unwrap();
            let (generation, new) = current.get();
            drop((mine, new));
            current.took_up(0, generation);
        });
        assert!(old.upgrade().is_none());
    }
}
