//! What all workers share: settings, apps, clocks, and the word to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use crate::clock::{Clock, MS, Nanos};
use crate::config::ServerSettings;
use crate::guest::places::Places;
use crate::guest::task::Reaper;
use crate::guest::ticker::Ticker;
use crate::observe::access_log::AccessLog;
use crate::tenants::registry::Registry;

/// Where the server's life is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It accepts and serves.
    Serving,
    /// It accepts no more and finishes what runs.
    Draining,
}

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: ServerSettings,
    pub(crate) registry: Registry,
    pub(crate) clock: Clock,
    pub(crate) places: Arc<Places>,
    pub(crate) ticker: Ticker,
    pub(crate) reaper: Reaper,
    pub(crate) access_log: Option<AccessLog>,
    /// A number of this run of the server, for request ids.
    pub(crate) run: u32,
    /// One a worker.
    pub(crate) wakers: Vec<Arc<mio::Waker>>,
    connections: AtomicUsize,
    life: AtomicU8,
}

/// The parts a [`Shared`] is made of.
pub(crate) struct Parts {
    pub(crate) settings: ServerSettings,
    pub(crate) registry: Registry,
    pub(crate) clock: Clock,
    pub(crate) places: Arc<Places>,
    pub(crate) ticker: Ticker,
    pub(crate) reaper: Reaper,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) run: u32,
    pub(crate) wakers: Vec<Arc<mio::Waker>>,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let Parts { settings, registry, clock, places, ticker, reaper, access_log, run, wakers } = parts;
        Arc::new(Self {
            settings,
            registry,
            clock,
            places,
            ticker,
            reaper,
            access_log,
            run,
            wakers,
            connections: AtomicUsize::new(0),
            life: AtomicU8::new(0),
        })
    }

    pub(crate) fn life(&self) -> Life {
        if self.life.load(Ordering::Acquire) == 0 { Life::Serving } else { Life::Draining }
    }

    /// The server is to end: workers stop accepting and finish what runs.
    pub(crate) fn drain(&self) {
        self.life.store(1, Ordering::Release);
        self.wake_all();
    }

    /// Every worker but one takes another turn.
    pub(crate) fn wake_others(&self, worker: u16) {
        for (_, waker) in self.wakers.iter().enumerate().filter(|(i, _)| *i != usize::from(worker)) {
            // It fails only if the worker is gone, and then there is nobody to wake.
            let _ = waker.wake();
        }
    }

    /// Every worker takes another turn.
    pub(crate) fn wake_all(&self) {
        for waker in &self.wakers {
            // It fails only if the worker is gone, and then there is nobody to wake.
            let _ = waker.wake();
        }
    }

    /// Counts a connection in. False: there are as many as there may be.
    pub(crate) fn connect(&self) -> bool {
        let before = self.connections.fetch_add(1, Ordering::AcqRel);
        if before >= self.settings.connections_max {
            self.connections.fetch_sub(1, Ordering::AcqRel);
            return false;
        }
        true
    }

    pub(crate) fn disconnect(&self) {
        self.connections.fetch_sub(1, Ordering::AcqRel);
    }

    /// Milliseconds of a point in time, as the protocol core counts them.
    pub(crate) fn ms(at: Nanos) -> u64 {
        at / MS
    }
}
