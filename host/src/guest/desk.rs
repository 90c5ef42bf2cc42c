//! What the resources of a component share with the call that runs now.
//!
//! A stream or a timer is an object of its own in the Store's table and can not reach the Store's data: it holds the
//! desk. Each carries the turn that it was made in. A call that is over has taken its turn with it, so that what a
//! reused component kept of an earlier request finds nothing here, least of all another request's bytes.
//!
//! Invariants: between calls the exchange is nobody's. Locks are taken in one order: a draft's, the desk's, the exchange's.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime::{Result, bail};

use super::cost::spend_of;
use super::crash::{Crash, LastWords};
use super::engine::Mode;
use super::program::Program;
use super::state::{end_lines, end_words};
use crate::clock::{Clock, Nanos};
use crate::exchange::{Exchange, Park, RequestId};
use crate::observe::guest_log::Lines;

/// Bytes that the host keeps for all resources of one Store: lists of fields, bodies that wait for their head.
const HELD_BYTES_MAX: usize = 1 << 20;

/// Tells the calls of one instance apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn(u64);

/// The streams that a component prints to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdio {
    Output,
    Error,
}

/// What a parked guest may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Bytes of the request body, or its end.
    Readable,
    /// Room for the response body.
    Writable,
    /// A point in time.
    Until(Nanos),
}

#[derive(Debug)]
struct Inner {
    turn: u64,
    exchange: Arc<Exchange>,
    /// What the resources that the guest waits for have asked for since it was last resumed.
    park: Option<Park>,
    stdio: [Lines; 2],
    /// What the guest said last, where its author is to be told of its end.
    words: Option<Box<LastWords>>,
}

/// A Store's desk.
#[derive(Debug)]
pub(crate) struct Desk {
    program: Arc<Program>,
    clock: Clock,
    /// Bytes that the host keeps for the guest's resources.
    held_bytes: AtomicUsize,
    inner: Mutex<Inner>,
}

/// Bytes that the host keeps for one of the guest's resources. They are free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    desk: Arc<Desk>,
    bytes: usize,
}

impl Held {
    /// Keeps another number of bytes.
    ///
    /// # Errors
    /// It has too many kept then: a trap. What was kept stays so.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<()> {
        if bytes > self.bytes {
            self.desk.take_bytes(bytes - self.bytes)?;
        } else {
            self.desk.held_bytes.fetch_sub(self.bytes - bytes, Relaxed);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.desk.held_bytes.fetch_sub(self.bytes, Relaxed);
    }
}

impl Desk {
    pub(crate) fn new(program: Arc<Program>, exchange: Arc<Exchange>, mode: Mode) -> Arc<Self> {
        let clock = exchange.slice.clock();
        let words = (mode == Mode::Dev).then(Box::default);
        let inner = Inner { turn: 0, exchange, park: None, stdio: Default::default(), words };
        Arc::new(Self { program, clock, held_bytes: AtomicUsize::new(0), inner: Mutex::new(inner) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another request is served from now on.
    pub(super) fn renew(&self, exchange: &Arc<Exchange>) {
        let mut inner = self.lock();
        inner.turn += 1;
        inner.exchange = Arc::clone(exchange);
    }

    /// The call is over, and its turn.
    pub(super) fn end(&self, id: &RequestId) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.turn += 1;
        inner.exchange = Arc::clone(&self.program.nobody);
        inner.park = None;
        end_words(inner.words.as_deref_mut(), &self.program, id);
        end_lines(&mut inner.stdio, &self.program, id);
    }

    pub(super) fn crash(&self, error: &wasmtime::Error) -> Option<Box<Crash>> {
        self.lock().words.as_deref_mut().map(|words| Box::new(Crash::new(error, words)))
    }

    /// The turn of the call that runs now.
    pub(crate) fn turn(&self) -> Turn {
        Turn(self.lock().turn)
    }

    /// The exchange of a turn. None: its call is over.
    pub(crate) fn exchange(&self, turn: Turn) -> Option<Arc<Exchange>> {
        let inner = self.lock();
        (inner.turn == turn.0).then(|| Arc::clone(&inner.exchange))
    }

    /// Keeps so many bytes for the guest.
    ///
    /// # Errors
    /// It has too many kept already: a trap.
    pub(crate) fn hold(self: &Arc<Self>, bytes: usize) -> Result<Held> {
        self.take_bytes(bytes)?;
        Ok(Held { desk: Arc::clone(self), bytes })
    }

    fn take_bytes(&self, bytes: usize) -> Result<()> {
        let more = |held: usize| Some(held.saturating_add(bytes)).filter(|held| *held <= HELD_BYTES_MAX);
        match self.held_bytes.fetch_update(Relaxed, Relaxed, more) {
            Ok(_) => Ok(()),
            Err(_) => bail!("the guest's resources hold more than {HELD_BYTES_MAX} bytes in the host"),
        }
    }

    /// Bytes that may still be kept.
    pub(crate) fn room(&self) -> usize {
        HELD_BYTES_MAX.saturating_sub(self.held_bytes.load(Relaxed))
    }

    /// Spends `cost` of the slice that runs now.
    ///
    /// # Errors
    /// The guest is stopped: a trap.
    pub(crate) fn spend(&self, cost: Nanos) -> Result<()> {
        spend_of(&self.lock().exchange, &self.program, cost)
    }

    /// Likewise, for who has the exchange at hand.
    ///
    /// # Errors
    /// As [`Self::spend`].
    pub(crate) fn spend_of(&self, exchange: &Exchange, cost: Nanos) -> Result<()> {
        spend_of(exchange, &self.program, cost)
    }

    /// Nanoseconds since the server began: the guest's monotonic clock.
    pub(crate) fn now(&self) -> Nanos {
        self.clock.now()
    }

    /// Whoever waits is woken by this too.
    pub(crate) fn wish(&self, wish: Wish) {
        let mut inner = self.lock();
        let nothing = Park { readable: false, writable: false, faults: false, until: None };
        let park = inner.park.get_or_insert(nothing);
        match wish {
            Wish::Readable => park.readable = true,
            Wish::Writable => park.writable = true,
            Wish::Until(at) => park.until = Some(park.until.map_or(at, |earlier| earlier.min(at))),
        }
    }

    /// The guest is resumed: it no longer waits for anything.
    pub(super) fn resume(&self) {
        let mut inner = self.lock();
        inner.park = None;
        inner.exchange.lock().park = None;
    }

    /// The guest waits: the worker wakes it by what is noted in the exchange.
    pub(super) fn park(&self) {
        let mut inner = self.lock();
        let park = inner.park.take();
        inner.exchange.lock().park = park;
    }

    /// The guest prints.
    pub(crate) fn print(&self, stream: Stdio, text: &[u8]) {
        let mut inner = self.lock();
        let Inner { stdio: [output, error], words, exchange, .. } = &mut *inner;
        let lines = match stream {
            Stdio::Output => output,
            Stdio::Error => {
                if let Some(words) = words {
                    words.overhear(text);
                }
                error
            }
        };
        lines.write(text, &self.program.log, &exchange.lock().facts.id);
    }
}
