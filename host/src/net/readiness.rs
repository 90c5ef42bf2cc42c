//! What is known of one socket's readiness, and who waits for it.
//!
//! A socket is registered once, for both directions and edge-triggered. What its events said is remembered here until an
//! operation finds that it would block; so a direction that is not ready has an event to come. Whoever waits leaves its
//! waker; what belongs to no guest, as a kept connection does, has a driver that is called instead.
//!
//! Invariant: nothing is woken or driven while the lock is held.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use mio::event::Event;

use super::hub::Hub;
use crate::exchange::waits::{Wait, note_for};

/// What goes on by itself when its socket is ready or its timer fires.
pub(crate) trait Driven: Send + Sync {
    /// Does what can be done now. It is called on the worker's thread.
    fn drive(self: Arc<Self>, hub: &Arc<Hub>);
}

/// What an event says of a socket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ready {
    pub(super) read: bool,
    pub(super) write: bool,
    /// The peer has ended its side, or more: a short read does not mean that the socket is empty.
    pub(super) ended: bool,
    /// Dead in both directions.
    pub(super) dead: bool,
}

impl Ready {
    pub(super) fn of(event: &Event) -> Self {
        Self {
            read: event.is_readable() || event.is_read_closed(),
            write: event.is_writable(),
            ended: event.is_read_closed(),
            dead: event.is_error() || event.is_write_closed(),
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    ready: Ready,
    /// An error is told once and ends nothing.
    datagrams: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    driver: Option<Weak<dyn Driven>>,
}

/// One socket's readiness.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    inner: Mutex<Inner>,
}

impl std::fmt::Debug for dyn Driven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Driven")
    }
}

impl Readiness {
    /// Of a socket that is connected: it is taken to be ready until an operation says otherwise.
    pub(super) fn of_connected() -> Arc<Self> {
        let ready = Ready { read: true, write: true, ..Ready::default() };
        Arc::new(Self { inner: Mutex::new(Inner { ready, ..Inner::default() }) })
    }

    /// Of a socket for datagrams, likewise. That nobody took one is no end of it.
    pub(super) fn of_datagrams() -> Arc<Self> {
        let ready = Ready { write: true, ..Ready::default() };
        Arc::new(Self { inner: Mutex::new(Inner { ready, datagrams: true, ..Inner::default() }) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on `driver` is called at every event.
    pub(crate) fn set_driver(&self, driver: Weak<dyn Driven>) {
        self.lock().driver = Some(driver);
    }

    /// Takes in what an event says, and wakes whom that concerns.
    pub(super) fn arm(&self, says: Ready, hub: &Arc<Hub>) {
        let mut inner = self.lock();
        let says = match says.dead && inner.datagrams {
            true => Ready { read: true, write: true, ..Ready::default() },
            false => says,
        };
        let ready = &mut inner.ready;
        ready.read |= says.read;
        ready.write |= says.write;
        ready.ended |= says.ended;
        ready.dead |= says.dead;
        let reader = if says.read || says.dead { inner.reader.take() } else { None };
        let writer = if says.write || says.dead { inner.writer.take() } else { None };
        let driver = inner.driver.as_ref().and_then(Weak::upgrade);
        drop(inner);
        reader.into_iter().chain(writer).for_each(Waker::wake);
        if let Some(driver) = driver {
            driver.drive(hub);
        }
    }

    /// The socket is closed: nobody waits for it any longer.
    pub(super) fn end(&self) {
        let mut inner = self.lock();
        inner.ready = Ready { read: true, write: true, ended: true, dead: true };
        inner.driver = None;
        let waiting = [inner.reader.take(), inner.writer.take()];
        drop(inner);
        waiting.into_iter().flatten().for_each(Waker::wake);
    }

    /// A read would have waited.
    pub(super) fn mask_read(&self) {
        self.lock().ready.read = false;
    }

    /// A read gave less than it had room for: the socket is empty, unless the peer has ended its side.
    pub(super) fn mask_read_if_open(&self) {
        let mut inner = self.lock();
        inner.ready.read = inner.ready.ended;
    }

    /// A write finds room, though no event has said so.
    pub(super) fn unmask_write(&self) {
        self.lock().ready.write = true;
    }

    /// A write would have waited.
    pub(super) fn mask_write(&self) {
        self.lock().ready.write = false;
    }

    /// True if a read may find something.
    pub(crate) fn is_readable(&self) -> bool {
        let ready = self.lock().ready;
        ready.read || ready.dead
    }

    /// True if a write may find room.
    pub(crate) fn is_writable(&self) -> bool {
        let ready = self.lock().ready;
        ready.write || ready.dead
    }

    /// Reset, or hung up in both directions.
    pub(crate) fn is_dead(&self) -> bool {
        self.lock().ready.dead
    }

    /// Ready when a read may find something.
    pub(crate) fn poll_read(&self, cx: &Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if inner.ready.read || inner.ready.dead {
            return Poll::Ready(());
        }
        leave(&mut inner.reader, cx);
        Poll::Pending
    }

    /// Ready when a write may find room.
    pub(crate) fn poll_write(&self, cx: &Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if inner.ready.write || inner.ready.dead {
            return Poll::Ready(());
        }
        leave(&mut inner.writer, cx);
        Poll::Pending
    }
}

/// Leaves who polls now as the one to wake.
pub(crate) fn leave(place: &mut Option<Waker>, cx: &Context<'_>) {
    note_for(Wait::Socket, cx);
    match place {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        place => *place = Some(cx.waker().clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::hub::tests::hub;

    #[test]
    fn a_direction_that_would_block_waits_for_its_event() {
        let hub = hub();
        let readiness = Readiness::default();
        let cx = Context::from_waker(Waker::noop());
        assert!(readiness.poll_read(&cx).is_pending() && readiness.poll_write(&cx).is_pending());
        readiness.arm(Ready { write: true, ..Ready::default() }, &hub);
        assert!(readiness.poll_read(&cx).is_pending() && readiness.poll_write(&cx).is_ready());
        readiness.mask_write();
        assert!(readiness.poll_write(&cx).is_pending());
    }

    #[test]
    fn a_short_read_says_nothing_once_the_peer_has_ended_its_side() {
        let hub = hub();
        let readiness = Readiness::of_connected();
        readiness.mask_read_if_open();
        assert!(!readiness.is_readable());
        readiness.arm(Ready { read: true, ended: true, ..Ready::default() }, &hub);
        readiness.mask_read_if_open();
        assert!(readiness.is_readable());
    }

    #[test]
    fn an_error_of_datagrams_is_over_once_it_was_told() {
        let hub = hub();
        let cx = Context::from_waker(Waker::noop());
        let readiness = Readiness::of_datagrams();
        readiness.mask_read();
        readiness.arm(Ready { dead: true, ended: true, ..Ready::default() }, &hub);
        assert!(readiness.poll_read(&cx).is_ready());
        readiness.mask_read();
        assert!(readiness.poll_read(&cx).is_pending() && !readiness.is_dead());
    }

    #[test]
    fn what_is_closed_or_dead_makes_nobody_wait() {
        let hub = hub();
        let cx = Context::from_waker(Waker::noop());
        let readiness = Readiness::default();
        readiness.arm(Ready { dead: true, ..Ready::default() }, &hub);
        assert!(readiness.poll_read(&cx).is_ready() && readiness.poll_write(&cx).is_ready());
        let readiness = Readiness::default();
        readiness.end();
        assert!(readiness.poll_read(&cx).is_ready() && readiness.poll_write(&cx).is_ready());
    }
}
