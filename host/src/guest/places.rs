//! Places in the engine's pools, for all apps and workers together.
//!
//! A full pool makes a request wait; it must never make one fail. So a place is taken before anything is instantiated,
//! and it costs what its module takes out of the pools. Every app is guaranteed a share: others may use it while the app
//! does not, but never so that the app finds nothing once it wants it and they have let go.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::engine::TABLES_PER_PLACE;
use super::scheduler::AppId;

#[derive(Debug)]
struct Inner {
    free: u32,
    /// What apps are guaranteed and do not hold, summed up.
    reserved: u32,
    guarantee: u32,
    held: Vec<u32>,
}

impl Inner {
    fn unused(&self, app: AppId) -> u32 {
        self.guarantee.saturating_sub(self.held.get(app as usize).copied().unwrap_or(0))
    }

    /// Moves what `app` holds by `change`, and what is reserved with it.
    fn hold(&mut self, app: AppId, change: impl FnOnce(u32) -> u32) {
        let before = self.unused(app);
        if let Some(held) = self.held.get_mut(app as usize) {
            *held = change(*held);
        }
        self.reserved = self.reserved - before + self.unused(app);
    }
}

/// The places that are free.
#[derive(Debug)]
pub(crate) struct Places {
    inner: Mutex<Inner>,
    wanted: AtomicBool,
}

/// Places that are taken. They are free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    app: AppId,
    cost: u32,
}

/// How many places an instance of a module takes: a memory each, and a share of the tables.
pub(crate) fn cost(memories: u32, tables: u32) -> u32 {
    memories.max(tables.div_ceil(TABLES_PER_PLACE)).max(1)
}

impl Places {
    /// `count` places for `apps` apps; half of them are guaranteed, in equal shares.
    pub(crate) fn new(count: u32, apps: u32) -> Arc<Self> {
        let guarantee = count / 2 / apps.max(1);
        let inner =
            Inner { free: count, reserved: guarantee * apps, guarantee, held: vec![0; apps as usize] };
        Arc::new(Self { inner: Mutex::new(inner), wanted: AtomicBool::new(false) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `cost` places for `app`, unless they are not there or are others' due.
    pub(crate) fn take(self: &Arc<Self>, app: AppId, cost: u32) -> Option<Place> {
        let mut inner = self.lock();
        let own = inner.unused(app).min(inner.reserved);
        let available = inner.free.saturating_sub(inner.reserved - own);
        if available < cost {
            return None;
        }
        inner.free -= cost;
        inner.hold(app, |held| held + cost);
        Some(Place { places: Arc::clone(self), app, cost })
    }

    /// True if `app` holds more than it is guaranteed.
    pub(crate) fn is_over_its_share(&self, app: AppId) -> bool {
        let inner = self.lock();
        inner.held.get(app as usize).is_some_and(|held| *held > inner.guarantee)
    }

    /// No place was found: whoever holds idle instances gives one up. True if nobody had said so yet.
    pub(crate) fn want(&self) -> bool {
        !self.wanted.swap(true, Ordering::AcqRel)
    }

    /// True if no place was found and none has come free since.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.places.lock();
        inner.free += self.cost;
        inner.hold(self.app, |held| held.saturating_sub(self.cost));
        drop(inner);
        if self.places.is_wanted() {
            self.places.wanted.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back() {
        let places = Places::new(2, 1);
        let one = places.take(0, 1).unwrap();
        let _two = places.take(0, 1).unwrap();
        assert!(places.take(0, 1).is_none());
        assert!(places.want() && !places.want());
        drop(one);
        assert!(!places.is_wanted());
        assert!(places.take(0, 1).is_some());
    }

    #[test]
    fn a_module_costs_what_it_takes_out_of_the_pools() {
        assert_eq!([cost(1, 1), cost(0, 0), cost(8, 0), cost(1, 16), cost(1, 5)], [1, 1, 8, 4, 2]);
        let places = Places::new(10, 1);
        let eight = places.take(0, 8).unwrap();
        assert!(places.take(0, 8).is_none());
        assert!(places.take(0, 2).is_some());
        drop(eight);
        assert!(places.take(0, 8).is_some());
    }

    #[test]
    fn an_app_finds_its_share_whatever_others_take() {
        let places = Places::new(100, 2);
        let greedy: Vec<_> = std::iter::from_fn(|| places.take(0, 1)).collect();
        assert_eq!(greedy.len(), 75, "all but the other's guarantee");
        assert!(places.is_over_its_share(0));
        let modest: Vec<_> = std::iter::from_fn(|| places.take(1, 1)).collect();
        assert_eq!(modest.len(), 25);
        assert!(!places.is_over_its_share(1));
        drop(greedy);
        drop(modest);
        let inner = places.lock();
        assert_eq!((inner.free, inner.reserved), (100, 50));
    }
}
