//! Places in the engine's pools, for all apps and workers together.
//!
//! A full pool makes a request wait; it must never make one fail. So a place is taken before anything is instantiated.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The places that are free.
#[derive(Debug)]
pub(crate) struct Places {
    free: AtomicU32,
    wanted: AtomicBool,
}

/// One place. It is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Places>);

impl Places {
    pub(crate) fn new(count: u32) -> Arc<Self> {
        Arc::new(Self { free: AtomicU32::new(count), wanted: AtomicBool::new(false) })
    }

    pub(crate) fn take(self: &Arc<Self>) -> Option<Place> {
        self.free
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| n.checked_sub(1))
            .ok()
            .map(|_| Place(Arc::clone(self)))
    }

    /// No place was found: whoever holds an idle instance gives it up.
    pub(crate) fn want(&self) {
        self.wanted.store(true, Ordering::Release);
    }

    /// True if no place was found and none has come free since.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.free.fetch_add(1, Ordering::AcqRel);
        if self.0.wanted.load(Ordering::Acquire) {
            self.0.wanted.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back() {
        let places = Places::new(2);
        let one = places.take().unwrap();
        let _two = places.take().unwrap();
        assert!(places.take().is_none());
        places.want();
        drop(one);
        assert!(!places.is_wanted());
        assert!(places.take().is_some());
    }
}
