//! What a worker has of the net: the sockets that are registered with its loop, and the timers that belong to them.
//!
//! The loop hands events and time in; guests' calls, which run on the same thread, register and take out. A guest that
//! was cancelled is dropped on another thread, and its sockets with it: so all of this can be called from any thread.
//!
//! Invariant: no waker, driver or timer is called while a lock is held.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use mio::event::Event;
use mio::{Interest, Registry};
use rustix::io::Errno;
use tidegate_proto::timers::{TimerId, Wheel};

use super::http::Pool;
use super::readiness::{Driven, Readiness, Ready};
use super::resolve::Resolver;
use crate::clock::{Clock, MS, Nanos};
use crate::reactor::token::{Slot, Slots, Source};

struct Timers {
    wheel: Wheel<Slot>,
    due: Slots<Weak<dyn Driven>>,
    fired: Vec<Slot>,
}

/// A timer that was set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timer {
    id: TimerId,
    slot: Slot,
}

/// A worker's net.
pub(crate) struct Hub {
    registry: Registry,
    clock: Clock,
    pub(crate) resolver: Arc<Resolver>,
    /// Connections of the HTTP client that wait for their next request.
    pub(crate) http: Arc<Pool>,
    sockets: Mutex<Slots<Arc<Readiness>>>,
    timers: Mutex<Timers>,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

/// The place of a socket in its hub.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) readiness: Arc<Readiness>,
    slot: Slot,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// Of a worker whose event queue `registry` registers with.
    pub(crate) fn new(registry: Registry, clock: Clock, resolver: Arc<Resolver>) -> Arc<Self> {
        let wheel = Wheel::new(clock.now() / MS);
        Arc::new(Self {
            registry,
            clock,
            resolver,
            http: Pool::new(),
            sockets: Mutex::new(Slots::new()),
            timers: Mutex::new(Timers { wheel, due: Slots::new(), fired: Vec::new() }),
        })
    }

    /// Nanoseconds since the server began.
    pub(crate) fn now(&self) -> Nanos {
        self.clock.now()
    }

    /// Sockets that are registered now.
    #[cfg(test)]
    pub(crate) fn sockets(&self) -> usize {
        lock(&self.sockets).slots().len()
    }

    /// Registers a socket for both directions.
    pub(super) fn register(
        &self,
        socket: &mut impl mio::event::Source,
        readiness: Arc<Readiness>,
    ) -> Result<Registered, Errno> {
        let slot = lock(&self.sockets).insert_with(|_| Arc::clone(&readiness));
        let both = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.registry.register(socket, Source::Net(slot).token(), both) {
            lock(&self.sockets).remove(slot);
            return Err(Errno::from_io_error(&error).unwrap_or(Errno::NOMEM));
        }
        Ok(Registered { readiness, slot })
    }

    /// Takes a socket out that is about to be closed. Whoever waits for it is woken.
    pub(super) fn deregister(&self, socket: &mut impl mio::event::Source, registered: &Registered) {
        // Closing it does the same, unless the system is out of memory.
        let _ = socket.deregister(&self.registry);
        lock(&self.sockets).remove(registered.slot);
        registered.readiness.end();
    }

    /// Takes in an event. One of a socket that is closed by now is passed over.
    pub(crate) fn take_event(self: &Arc<Self>, slot: Slot, event: &Event) {
        let readiness = lock(&self.sockets).get_mut(slot).cloned();
        if let Some(readiness) = readiness {
            readiness.arm(Ready::of(event), self);
        }
    }

    /// Drives something at a point in time, or up to a millisecond after it.
    pub(crate) fn drive_at(&self, at: Nanos, driver: Weak<dyn Driven>) -> Timer {
        let mut timers = lock(&self.timers);
        let slot = timers.due.insert_with(|_| driver);
        let id = timers.wheel.insert(at.saturating_add(MS - 1) / MS, slot);
        Timer { id, slot }
    }

    /// It is not to fire, if it has not yet.
    pub(crate) fn cancel_timer(&self, timer: Timer) {
        let mut timers = lock(&self.timers);
        timers.wheel.cancel(timer.id);
        timers.due.remove(timer.slot);
    }

    /// How many milliseconds until the next timer.
    pub(crate) fn until_next_timer(&self, now: Nanos) -> Option<u64> {
        lock(&self.timers).wheel.next_at().map(|at| at.saturating_sub(now / MS))
    }

    /// Fires what is due.
    pub(crate) fn fire_timers(self: &Arc<Self>, now: Nanos) {
        let mut timers = lock(&self.timers);
        if timers.wheel.is_empty() {
            timers.wheel.advance(now / MS, &mut Vec::new());
            return;
        }
        let mut fired = std::mem::take(&mut timers.fired);
        timers.wheel.advance(now / MS, &mut fired);
        drop(timers);
        for slot in fired.drain(..) {
            let due = lock(&self.timers).due.remove(slot);
            if let Some(driver) = due.as_ref().and_then(Weak::upgrade) {
                driver.drive(self);
            }
        }
        lock(&self.timers).fired = fired;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    /// A hub of an event queue that nobody looks at.
    pub(crate) fn hub() -> Arc<Hub> {
        hub_of(&mio::Poll::new().unwrap())
    }

    pub(crate) fn hub_of(poll: &mio::Poll) -> Arc<Hub> {
        Hub::new(poll.registry().try_clone().unwrap(), Clock::start(), Resolver::new(&[]))
    }

    /// One turn of a loop that has nothing else to do.
    pub(crate) fn turn(poll: &mut mio::Poll, hub: &Arc<Hub>) {
        turn_for(poll, hub, 5_000);
    }

    /// Likewise; it waits no longer than this.
    pub(crate) fn turn_for(poll: &mut mio::Poll, hub: &Arc<Hub>, ms_max: u64) {
        let mut events = mio::Events::with_capacity(64);
        let patience = hub.until_next_timer(hub.now()).unwrap_or(ms_max).min(ms_max);
        poll.poll(&mut events, Some(std::time::Duration::from_millis(patience))).unwrap();
        for event in &events {
            let Source::Net(slot) = Source::of(event.token()) else { panic!("an event of another's") };
            hub.take_event(slot, event);
        }
        hub.fire_timers(hub.now());
    }

    /// Counts how often it is driven.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Driven for Count {
        fn drive(self: Arc<Self>, _: &Arc<Hub>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn timers_fire_once_and_not_before_their_time() {
        let hub = hub();
        let count = Arc::new(Count::default());
        let driver = || {
            let driver: Arc<dyn Driven> = Arc::clone(&count) as Arc<dyn Driven>;
            Arc::downgrade(&driver)
        };
        let now = hub.now();
        hub.drive_at(now + 50 * MS, driver());
        let cancelled = hub.drive_at(now + 20 * MS, driver());
        hub.cancel_timer(cancelled);
        hub.fire_timers(now + 49 * MS);
        assert_eq!(count.0.load(Relaxed), 0);
        hub.fire_timers(now + 51 * MS);
        hub.fire_timers(now + 100 * MS);
        hub.cancel_timer(cancelled);
        assert_eq!(count.0.load(Relaxed), 1);
        assert_eq!(hub.until_next_timer(now), None);
    }
}
