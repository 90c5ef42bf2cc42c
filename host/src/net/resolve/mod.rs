//! Names to addresses, for all workers, off their loops.
//!
//! A [`Resolver`] is a cache, and behind it one thread that asks name servers: started by the first name that is not in the
//! cache, ended with the resolver. A [`Lookup`] never waits. It is ready at once, or polled with a waker that the thread
//! calls. It knows no policy: whoever connects to what comes out of it checks each address first.
//!
//! What is decided here:
//! - Names are absolute. One without a dot is first tried below the search domains of `/etc/resolv.conf`, as programs of
//!   the same system do; one with a dot never is, whatever `ndots` says.
//! - `/etc/hosts` goes before name servers, and a name that stands in it is not asked for. Name servers that the settings
//!   name take the place of both files.
//! - `localhost` and what is below it is loopback, an address answers itself, and nobody is asked for either.
//! - Of each family as many addresses as [`ask::ADDRESSES_MAX`], in the order of the answer. IPv6 goes first where this
//!   machine has a route to it and an address of its own to use, else last.
//! - A failed family is left out if the other has addresses.
//!
//! Invariants: as many queries are under way as [`QUERIES_MAX`], and each is counted, for the app that began it, until it
//! is answered, whoever still waits for it: to ask and give up, over and over, is no way around the bound. No waker is
//! called while a lock is held.

mod ask;
mod cache;
mod flight;
mod name;
mod sockets;
mod source;
#[cfg(test)]
mod tests;
mod thread;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use self::ask::Found;
use self::cache::Cache;
use self::flight::Flight;
use self::name::{Name, Target};
use self::source::Servers;
use self::thread::Line;
use crate::clock::{Clock, Nanos};

/// Names that the cache holds.
const NAMES_MAX: usize = 4_096;
/// Queries that are under way.
const QUERIES_MAX: usize = 256;
/// Queries of one app that are under way. Fewer if there is less room than that: an app may have as many as would still
/// fit, so that a few busy ones never leave nothing for the next.
const QUERIES_OF_ONE_MAX: usize = 64;

/// What became of a name. There is at least one address.
pub(crate) type Answer = Result<Arc<[IpAddr]>, LookupError>;

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    #[error("there is no such name")]
    NotFound,
    #[error("the name has no address")]
    NoAddress,
    #[error("no name server answered in time")]
    Timeout,
    /// For the log: it may tell of name servers.
    #[error("{0}")]
    Failed(Arc<str>),
    #[error("this is neither a host's name nor an address")]
    BadName,
    #[error("too many names are being looked up")]
    Busy,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// A lookup as a whole.
    lookup: Duration,
    /// One try with one name server.
    server: Duration,
    /// One family, once the other has addresses.
    other_family: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            lookup: Duration::from_secs(5),
            server: Duration::from_millis(1_500),
            other_family: Duration::from_secs(1),
        }
    }
}

struct State {
    cache: Cache,
    flights: HashMap<Arc<str>, Arc<Flight>>,
    /// Queries under way, for each app that has any.
    tenants: HashMap<u64, usize>,
}

/// What the resolver and its thread have in common.
struct Shared {
    clock: Clock,
    state: Mutex<State>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks names up.
pub(crate) struct Resolver {
    shared: Arc<Shared>,
    loopback: Arc<[IpAddr]>,
    line: Line,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl Resolver {
    /// A resolver that asks `dns`; if that is empty, whom the system's files name. Nothing is started or read yet.
    pub(crate) fn new(dns: &[SocketAddr]) -> Arc<Self> {
        let servers = if dns.is_empty() { Servers::system() } else { Servers::Given(dns.into()) };
        Self::with(servers, Patience::default())
    }

    fn with(servers: Servers, patience: Patience) -> Arc<Self> {
        let state = State { cache: Cache::new(NAMES_MAX), flights: HashMap::new(), tenants: HashMap::new() };
        Arc::new(Self {
            shared: Arc::new(Shared { clock: Clock::start(), state: Mutex::new(state) }),
            loopback: Arc::from([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]),
            line: Line::new(servers, patience),
        })
    }

    /// Looks `name` up for the app that `tenant` stands for. What is known already is ready at once; queries for one name
    /// are shared, also between apps.
    pub(crate) fn lookup(&self, name: &str, tenant: u64) -> Lookup {
        self.lookup_at(name, tenant, self.shared.clock.now())
    }

    fn lookup_at(&self, name: &str, tenant: u64, now: Nanos) -> Lookup {
        let stage = match name::parse(name) {
            Ok(Target::Name(name)) => self.find(&name, tenant, now),
            Ok(Target::Address(address)) => Stage::Done(Ok(Arc::from([address]))),
            Ok(Target::Loopback) => Stage::Done(Ok(Arc::clone(&self.loopback))),
            Err(error) => Stage::Done(Err(error)),
        };
        Lookup { stage }
    }

    fn find(&self, name: &Name, tenant: u64, now: Nanos) -> Stage {
        let name = name.as_str();
        let mut state = self.shared.lock();
        if let Some(answer) = state.cache.get(name, now) {
            return Stage::Done(answer);
        }
        if let Some(flight) = state.flights.get(name) {
            return Stage::Waiting { flight: Arc::clone(flight), place: None };
        }
        let room = QUERIES_MAX.saturating_sub(state.flights.len());
        let count = state.tenants.get(&tenant).copied().unwrap_or(0);
        if count >= room.min(QUERIES_OF_ONE_MAX) {
            return Stage::Done(Err(LookupError::Busy));
        }
        let name: Arc<str> = name.into();
        let flight = Arc::new(Flight::default());
        state.tenants.insert(tenant, count + 1);
        state.flights.insert(Arc::clone(&name), Arc::clone(&flight));
        drop(state);
        let query = Query {
            shared: Arc::clone(&self.shared),
            name,
            tenant,
            flight: Arc::clone(&flight),
            done: false,
        };
        self.line.send(query);
        Stage::Waiting { flight, place: None }
    }
}

enum Stage {
    Done(Answer),
    Waiting { flight: Arc<Flight>, place: Option<usize> },
}

/// A name that is looked up. To drop it is to give up interest; the answer goes to the cache all the same.
pub(crate) struct Lookup {
    stage: Stage,
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.stage {
            Stage::Done(answer) => f.debug_tuple("Lookup").field(answer).finish(),
            Stage::Waiting { .. } => f.debug_struct("Lookup").finish_non_exhaustive(),
        }
    }
}

impl Lookup {
    /// The answer, again and again once it is there; until then the last waker is called when it comes.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        match &mut self.stage {
            Stage::Done(answer) => Poll::Ready(answer.clone()),
            Stage::Waiting { flight, place } => flight.poll(place, cx).map(|answer| {
                self.stage = Stage::Done(answer.clone());
                answer
            }),
        }
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        if let Stage::Waiting { flight, place: Some(place) } = &self.stage {
            flight.leave(*place);
        }
    }
}

/// One query on its way through the thread. It is answered in any case: when it is dropped, as a failure.
struct Query {
    shared: Arc<Shared>,
    name: Arc<str>,
    tenant: u64,
    flight: Arc<Flight>,
    done: bool,
}

impl Query {
    fn answer(mut self, found: Found) {
        self.end(found.answer, Some(found.ttl_seconds));
    }

    fn end(&mut self, answer: Answer, keep: Option<u32>) {
        self.done = true;
        let now = self.shared.clock.now();
        let mut state = self.shared.lock();
        state.flights.remove(&self.name);
        if let Some(count) = state.tenants.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                state.tenants.remove(&self.tenant);
            }
        }
        if let Some(ttl_seconds) = keep {
            let until = now.saturating_add(cache::lifetime(&answer, ttl_seconds));
            state.cache.put(Arc::clone(&self.name), answer.clone(), until, now);
        }
        drop(state);
        self.flight.land(answer);
    }
}

impl Drop for Query {
    fn drop(&mut self) {
        if !self.done {
            self.end(
                Err(LookupError::Failed("the resolver's thread ended before the answer came".into())),
                None,
            );
        }
    }
}
