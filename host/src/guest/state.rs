//! What a guest's Store carries, of whatever kind the guest is: the request it serves, and its limits.

use std::sync::Arc;

use super::crash::{Crash, LastWords};
use super::limiter::Limiter;
use super::module::ModuleSide;
use super::places::Place;
use super::program::Program;
use crate::exchange::{Exchange, RequestId, Stage};
use crate::net::access::Access;
use crate::net::hub::Hub;
use crate::net::network::Network;
use crate::observe::guest_log::{Level, Lines};

/// The data of a Store: what all guests have, and what the kind of guest has besides.
#[derive(Debug)]
pub(crate) struct GuestState<S = ModuleSide> {
    pub(crate) program: Arc<Program>,
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) limiter: Limiter,
    pub(crate) side: S,
    net: Net,
    _place: Option<Place>,
}

/// Where a guest's sockets would be, and what it may do with them.
#[derive(Clone, Debug)]
pub(crate) struct Outside {
    pub(crate) hub: Arc<Hub>,
    pub(crate) access: Arc<Access>,
}

#[cfg(test)]
impl Outside {
    /// Of a loop that nobody turns, for an app with such rules.
    pub(crate) fn with(hub: Arc<Hub>, settings: &crate::config::sockets::SocketSettings) -> Self {
        use crate::net::policy::{OwnAddresses, Policy};

        let policy = Policy::new(settings, OwnAddresses::default());
        let limits = crate::config::AppLimits::default();
        Self { hub, access: Access::new("app".into(), 0, policy, limits, Arc::default()) }
    }

    /// Where there is nothing.
    pub(crate) fn nothing() -> Self {
        Self::with(crate::net::hub::tests::hub(), &Default::default())
    }
}

/// The net of the call that runs now, once it asks for it. Everything is closed when this is dropped, too.
#[derive(Debug)]
struct Net {
    outside: Outside,
    network: Option<Arc<Network>>,
}

impl Net {
    fn close(&mut self) {
        if let Some(network) = self.network.take() {
            network.close();
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.close();
    }
}

/// What a kind of guest keeps in its Store.
pub(crate) trait Side: Send + 'static {
    /// The instance takes up another request.
    fn renew(&mut self, exchange: &Arc<Exchange>);

    /// The call is over: what the guest printed last becomes lines.
    fn end(&mut self, program: &Program, id: &RequestId);

    /// How a call failed, in dev.
    fn crash(&mut self, error: &wasmtime::Error) -> Option<Box<Crash>>;
}

/// The author is told of a panic with its backtrace; but this call has not ended with it.
pub(super) fn end_words(words: Option<&mut LastWords>, program: &Program, id: &RequestId) {
    if let Some(text) = words.and_then(LastWords::forget) {
        program.log.record(Level::Error, id, text.as_bytes());
    }
}

/// What was printed without a line's end is a line now.
pub(super) fn end_lines(stdio: &mut [Lines; 2], program: &Program, id: &RequestId) {
    for lines in stdio {
        if !lines.is_empty() {
            lines.end(&program.log, id);
        }
    }
}

impl<S: Side> GuestState<S> {
    pub(crate) fn new(
        program: Arc<Program>,
        exchange: Arc<Exchange>,
        outside: Outside,
        place: Option<Place>,
        side: S,
    ) -> Self {
        let limits = &program.limits;
        let limiter = Limiter::new(limits.memory_bytes, limits.table_elements);
        let limiter = limiter.within(place.as_ref().and_then(Place::memory));
        Self { program, exchange, limiter, side, net: Net { outside, network: None }, _place: place }
    }

    /// The net of this call.
    pub(crate) fn network(&mut self) -> &Arc<Network> {
        let Net { outside: Outside { hub, access }, network } = &mut self.net;
        network.get_or_insert_with(|| {
            let request = self.exchange.lock().facts.id.to_string().into();
            Network::new(Arc::clone(hub), Arc::clone(access), request)
        })
    }

    /// The guest asks for the key-value store, and its app may keep nothing: the operator is told.
    pub(crate) fn deny_kv(&mut self) {
        let id = self.exchange.lock().facts.id.to_string();
        let access = &self.network().access;
        access.denials.tell_store(&access.app, &id);
    }

    /// A reused instance takes up another request.
    pub(crate) fn renew(&mut self, exchange: Arc<Exchange>) {
        self.side.renew(&exchange);
        self.exchange = exchange;
    }

    /// The call is over: what the guest left open is closed. False: it has given no answer.
    pub(crate) fn end(&mut self) -> bool {
        let exchange = std::mem::replace(&mut self.exchange, Arc::clone(&self.program.nobody));
        let mut inner = exchange.lock();
        let answered = inner.response.stage() != Stage::Unset;
        inner.response.abandon();
        inner.park = None;
        let id = inner.facts.id.clone();
        drop(inner);
        self.side.end(&self.program, &id);
        self.net.close();
        answered
    }
}
