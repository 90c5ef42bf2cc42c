//! What all workers share: settings, apps, clocks, and the word to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::clock::{Clock, MS, Nanos};
use crate::config::ServerSettings;
use crate::guest::engine::Mode;
use crate::guest::loading::Loading;
use crate::guest::places::Places;
use crate::guest::task::Reaper;
use crate::guest::ticker::Ticker;
use crate::net::resolve::Resolver;
use crate::observe::access_log::AccessLog;
use crate::observe::app_logs::AppLogs;
use crate::observe::metrics::Metrics;
use crate::pressure::Pressure;
use crate::pulse::Pulse;
use crate::tenants::commands::Commands;
use crate::tenants::current::Current;
use crate::tenants::probes::Probes;

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: ServerSettings,
    /// The apps that are served now.
    pub(crate) current: Current,
    pub(crate) clock: Clock,
    pub(crate) places: Arc<Places>,
    pub(crate) loading: Loading,
    pub(crate) pressure: Pressure,
    pub(crate) ticker: Ticker,
    pub(crate) reaper: Reaper,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) app_logs: Option<AppLogs>,
    pub(crate) metrics: Arc<Metrics>,
    /// What operators ask the workers for.
    pub(crate) commands: Commands,
    pub(crate) resolver: Arc<Resolver>,
    /// A number of this run of the server, for request ids.
    pub(crate) run: u32,
    /// One a worker.
    pub(crate) wakers: Vec<Arc<mio::Waker>>,
    /// Whether they turn.
    pub(crate) pulse: Pulse,
    /// Health requests that are wanted.
    pub(crate) probes: Probes,
    pub(crate) state: State,
}

/// What changes while the server runs.
#[derive(Debug, Default)]
pub(crate) struct State {
    connections: AtomicUsize,
    draining: AtomicBool,
    /// Another process serves in this one's place: nobody is in a hurry.
    handed_over: AtomicBool,
}

impl Shared {
    /// Whom this server is for.
    pub(crate) fn mode(&self) -> Mode {
        Mode::of(self.settings.dev)
    }

    /// True once the server is to end.
    pub(crate) fn is_draining(&self) -> bool {
        self.state.draining.load(Ordering::Acquire)
    }

    /// True once another process serves, with the sockets of this one, and until [`Self::drain`].
    pub(crate) fn is_handed_over(&self) -> bool {
        self.state.handed_over.load(Ordering::Acquire)
    }

    /// The server is to end, as another process serves with its sockets: workers let go of them, finish what runs, and
    /// give idle connections time to say their last.
    pub(crate) fn hand_over(&self) {
        self.state.handed_over.store(true, Ordering::Release);
        self.state.draining.store(true, Ordering::Release);
        self.wake_all();
    }

    /// The server is to end: workers stop accepting and finish what runs.
    pub(crate) fn drain(&self) {
        self.state.handed_over.store(false, Ordering::Release);
        self.state.draining.store(true, Ordering::Release);
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
        let before = self.state.connections.fetch_add(1, Ordering::AcqRel);
        if before >= self.settings.connections_max {
            self.state.connections.fetch_sub(1, Ordering::AcqRel);
            return false;
        }
        true
    }

    /// Connections of clients now.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn disconnect(&self) {
        self.state.connections.fetch_sub(1, Ordering::AcqRel);
    }

    /// Milliseconds of a point in time, as the protocol core counts them.
    pub(crate) fn ms(at: Nanos) -> u64 {
        at / MS
    }
}
