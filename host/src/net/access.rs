//! What an app may do with the net, and what it has of it now.

use std::fmt;
use std::sync::atomic::{
    AtomicU32,
    Ordering::{AcqRel, Relaxed},
};
use std::sync::{Arc, Mutex, PoisonError};

use super::http::Trust;
use super::policy::Policy;
use crate::clock::{MS, Nanos};
use crate::config::AppLimits;
use crate::observe::denials::DenialLog;

/// How long the window is in which an app's connects and lookups are counted.
const WINDOW: Nanos = 1_000 * MS;

/// What all calls of an app have open, whatever its version and on whichever worker.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    sockets: AtomicU32,
    connects: Window,
    lookups: Window,
}

/// When the window began, and how often something was done in it.
#[derive(Debug, Default)]
struct Window(Mutex<(Nanos, u32)>);

impl Window {
    /// Counts once more. False: there were `most` within this second.
    fn count(&self, now: Nanos, most: u32) -> bool {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(window.0) >= WINDOW {
            *window = (now, 0);
        }
        let fits = window.1 < most;
        window.1 += u32::from(fits);
        fits
    }
}

impl Tally {
    /// Sockets that are open now.
    pub(crate) fn sockets(&self) -> u32 {
        self.sockets.load(Relaxed)
    }

    /// Counts a socket in. None: there are `most` already.
    fn lease(self: &Arc<Self>, most: u32) -> Option<Lease> {
        let more = |n| (n < most).then_some(n + 1);
        self.sockets.fetch_update(AcqRel, Relaxed, more).ok()?;
        Some(Lease { tally: Arc::clone(self) })
    }
}

/// A socket's place among those of its app. It is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    tally: Arc<Tally>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.tally.sockets.fetch_sub(1, AcqRel);
    }
}

/// What a version of an app may do with the net.
pub(crate) struct Access {
    pub(crate) app: Arc<str>,
    /// A number of the app, whatever its version.
    pub(crate) tenant: u64,
    pub(crate) policy: Policy,
    pub(crate) limits: AppLimits,
    pub(crate) tally: Arc<Tally>,
    pub(crate) denials: DenialLog,
    pub(crate) trust: Trust,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("app", &self.app).finish_non_exhaustive()
    }
}

impl Access {
    #[cfg(test)]
    pub(crate) fn new(
        app: Arc<str>,
        tenant: u64,
        policy: Policy,
        limits: AppLimits,
        tally: Arc<Tally>,
    ) -> Arc<Self> {
        Self::trusting(app, tenant, policy, limits, tally, Trust::default())
    }

    /// Of an app that trusts others than the web's roots, too.
    pub(crate) fn trusting(
        app: Arc<str>,
        tenant: u64,
        policy: Policy,
        limits: AppLimits,
        tally: Arc<Tally>,
        trust: Trust,
    ) -> Arc<Self> {
        Arc::new(Self { app, tenant, policy, limits, tally, denials: DenialLog::new(), trust })
    }

    /// True if there is anything that a guest could wait for.
    pub(crate) fn allows_anything(&self) -> bool {
        self.policy.allows_anything()
    }

    /// A place for one more socket.
    pub(super) fn lease(&self) -> Option<Lease> {
        self.tally.lease(self.limits.sockets_max)
    }

    /// True if it may have one more socket.
    pub(super) fn has_room(&self) -> bool {
        self.tally.sockets() < self.limits.sockets_max
    }

    /// Counts a connect. False: the app makes too many.
    pub(super) fn connect(&self, now: Nanos) -> bool {
        self.tally.connects.count(now, self.limits.connects_per_s)
    }

    /// Counts a lookup. False: the app makes too many.
    pub(super) fn lookup(&self, now: Nanos) -> bool {
        self.tally.lookups.count(now, self.limits.connects_per_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_counted_in_and_out() {
        let tally = Arc::new(Tally::default());
        let first = tally.lease(2).unwrap();
        let second = tally.lease(2).unwrap();
        assert!(tally.lease(2).is_none());
        drop(first);
        assert_eq!(tally.sockets(), 1);
        assert!(tally.lease(2).is_some());
        drop(second);
        assert_eq!(tally.sockets(), 0);
    }

    #[test]
    fn connects_are_counted_by_the_second() {
        let window = Window::default();
        let began = 5 * WINDOW;
        assert!(window.count(began, 2) && window.count(began + 1, 2));
        assert!(!window.count(began + WINDOW - 1, 2));
        assert!(window.count(began + WINDOW, 2));
        assert!(!window.count(began, 0));
    }
}
