//! What an app may do with the net, and what it has of it now.

use std::fmt;
use std::sync::atomic::{
    AtomicU32,
    Ordering::{AcqRel, Relaxed},
};
use std::sync::{Arc, Mutex, PoisonError};

use super::http::Trust;
use rustix::process::{Resource, getrlimit};

use super::policy::Policy;
use crate::clock::{MS, Nanos};
use crate::config::AppLimits;
use crate::observe::denials::DenialLog;

/// How long the window is in which an app's connects and lookups are counted.
const WINDOW: Nanos = 1_000 * MS;

/// A process has so many descriptors for one that guests may take for their sockets. The others are for connections,
/// files, and the server itself.
const DESCRIPTORS_PER_SOCKET: u64 = 4;

/// What all apps may have open together.
#[derive(Debug)]
pub(crate) struct Ceiling {
    open: AtomicU32,
    most: u32,
}

impl Ceiling {
    /// By how many descriptors this process may have.
    pub(crate) fn of_this_process() -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = u32::try_from(descriptors / DESCRIPTORS_PER_SOCKET).unwrap_or(u32::MAX);
        Self { open: AtomicU32::new(0), most }
    }
}

/// What several apps may have open together.
#[derive(Debug)]
pub(crate) struct Allowance {
    sockets: AtomicU32,
    sockets_max: AtomicU32,
    connects: Window,
    lookups: Window,
    connects_per_s: AtomicU32,
}

impl Default for Allowance {
    /// Without bounds.
    fn default() -> Self {
        Self {
            sockets: AtomicU32::new(0),
            sockets_max: AtomicU32::new(u32::MAX),
            connects: Window::default(),
            lookups: Window::default(),
            connects_per_s: AtomicU32::new(u32::MAX),
        }
    }
}

impl Allowance {
    /// Other bounds from now on. What is open stays.
    pub(crate) fn set(&self, sockets: Option<u32>, connects_per_s: Option<u32>) {
        self.sockets_max.store(sockets.unwrap_or(u32::MAX), Relaxed);
        self.connects_per_s.store(connects_per_s.unwrap_or(u32::MAX), Relaxed);
    }

    fn count(&self, window: &Window, now: Nanos) -> bool {
        let most = self.connects_per_s.load(Relaxed);
        most == u32::MAX || window.count(now, most)
    }
}

/// What all calls of an app have open, whatever its version and on whichever worker.
#[derive(Debug)]
pub(crate) struct Tally {
    ceiling: Arc<Ceiling>,
    /// Of its tenant, if it has one.
    above: Option<Arc<Allowance>>,
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

/// Why there is no place for one more socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The app has as many as it may.
    App,
    /// The apps of its tenant have, together.
    Tenant,
    /// All apps together have.
    Process,
}

/// Adds one unless that makes it more than `most`.
fn add_below(count: &AtomicU32, most: u32) -> bool {
    count.fetch_update(AcqRel, Relaxed, |n| (n < most).then_some(n + 1)).is_ok()
}

impl Tally {
    pub(crate) fn new(ceiling: Arc<Ceiling>, above: Option<Arc<Allowance>>) -> Self {
        let (connects, lookups) = Default::default();
        Self { ceiling, above, sockets: AtomicU32::new(0), connects, lookups }
    }

    /// Sockets that are open now.
    #[cfg(test)]
    pub(crate) fn sockets(&self) -> u32 {
        self.sockets.load(Relaxed)
    }

    /// Counts a socket in, of which the app may have `most`.
    fn lease(self: &Arc<Self>, most: u32) -> Result<Lease, Full> {
        if !add_below(&self.sockets, most) {
            return Err(Full::App);
        }
        let above = |above: &Arc<Allowance>| add_below(&above.sockets, above.sockets_max.load(Relaxed));
        if !self.above.as_ref().is_none_or(above) {
            self.sockets.fetch_sub(1, AcqRel);
            return Err(Full::Tenant);
        }
        if !add_below(&self.ceiling.open, self.ceiling.most) {
            self.release();
            return Err(Full::Process);
        }
        Ok(Lease { tally: Arc::clone(self) })
    }

    fn release(&self) {
        self.sockets.fetch_sub(1, AcqRel);
        if let Some(above) = &self.above {
            above.sockets.fetch_sub(1, AcqRel);
        }
    }
}

/// A socket's place among those of its app. It is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    tally: Arc<Tally>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.tally.release();
        self.tally.ceiling.open.fetch_sub(1, AcqRel);
    }
}

#[cfg(test)]
impl Default for Ceiling {
    fn default() -> Self {
        Self { open: AtomicU32::new(0), most: u32::MAX }
    }
}

#[cfg(test)]
impl Default for Tally {
    fn default() -> Self {
        Self::new(Arc::default(), None)
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
    pub(crate) fn lease(&self) -> Result<Lease, Full> {
        self.tally.lease(self.limits.sockets_max)
    }

    /// Counts a connect. False: the app makes too many.
    pub(super) fn connect(&self, now: Nanos) -> bool {
        let tally = &self.tally;
        tally.connects.count(now, self.limits.connects_per_s)
            && tally.above.as_ref().is_none_or(|above| above.count(&above.connects, now))
    }

    /// Counts a lookup. False: the app makes too many.
    pub(super) fn lookup(&self, now: Nanos) -> bool {
        let tally = &self.tally;
        tally.lookups.count(now, self.limits.connects_per_s)
            && tally.above.as_ref().is_none_or(|above| above.count(&above.lookups, now))
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
        assert_eq!(tally.lease(2).err(), Some(Full::App));
        drop(first);
        assert_eq!(tally.sockets(), 1);
        assert!(tally.lease(2).is_ok());
        drop(second);
        assert_eq!(tally.sockets(), 0);
    }

    #[test]
    fn apps_share_what_the_process_has() {
        let ceiling = Arc::new(Ceiling { open: AtomicU32::new(0), most: 2 });
        let [one, other] = [(); 2].map(|()| Arc::new(Tally::new(Arc::clone(&ceiling), None)));
        let _kept = one.lease(9).unwrap();
        let second = one.lease(9).unwrap();
        assert_eq!(other.lease(9).err(), Some(Full::Process));
        assert_eq!(other.sockets(), 0, "what was refused is not counted");
        drop(second);
        assert!(other.lease(9).is_ok());
    }

    #[test]
    fn the_apps_of_a_tenant_share_what_it_has() {
        let above = Arc::new(Allowance::default());
        let ceiling = Arc::new(Ceiling { open: AtomicU32::new(0), most: 3 });
        let [one, other] =
            [(); 2].map(|()| Arc::new(Tally::new(Arc::clone(&ceiling), Some(Arc::clone(&above)))));
        above.set(Some(2), Some(1));
        let first = one.lease(9).unwrap();
        let second = other.lease(9).unwrap();
        assert_eq!(one.lease(9).err(), Some(Full::Tenant));
        assert_eq!(one.lease(1).err(), Some(Full::App));
        assert_eq!((one.sockets(), ceiling.open.load(Relaxed)), (1, 2), "what was refused is not counted");
        above.set(None, None);
        let third = one.lease(9).unwrap();
        assert_eq!(one.lease(9).err(), Some(Full::Process));
        drop((first, second, third));
        assert_eq!((above.sockets.load(Relaxed), ceiling.open.load(Relaxed)), (0, 0));

        above.set(None, Some(1));
        assert!(above.count(&above.connects, 5 * WINDOW) && !above.count(&above.connects, 5 * WINDOW + 1));
        assert!(above.count(&above.lookups, 5 * WINDOW), "lookups are counted by themselves");
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
