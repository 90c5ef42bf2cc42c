//! Connections that wait for their app's next request to the same server.
//!
//! One pool a worker. A connection belongs to one version of one app: what that may connect to was checked when it was made.
//! One that anything happened on while it waited is closed: what came was not asked for.
//!
//! Invariants: at most [`IDLE_MAX`] in all and [`IDLE_OF_ORIGIN_MAX`] of one origin; none for longer than [`IDLE_TIME_MAX`]
//! and a sweep; the oldest stand first.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_proto::client::{Receiver, Sender, response_limits};
use tidegate_proto::limits::Limits;
use tidegate_proto::pipe::{Pipe, Watermarks};

use super::link::Link;
use crate::clock::{MS, Nanos};
use crate::net::access::Access;
use crate::net::hub::{Hub, Timer};
use crate::net::readiness::Driven;

const IDLE_MAX: usize = 256;
const IDLE_OF_ORIGIN_MAX: usize = 64;
const IDLE_TIME_MAX: Nanos = 30_000 * MS;
/// How often those are looked for whose time is over, or that their servers have closed.
const SWEEP_INTERVAL: Nanos = 2_000 * MS;
/// Storage that a pipe keeps while its connection waits.
const KEPT_BYTES_MAX: usize = 4 * 1024;
/// What is received at once where it has to be looked at.
const SCRATCH_BYTES: usize = 64 * 1024;

/// Whom a connection is to, and whose it is.
pub(super) struct Origin {
    pub(super) access: Arc<Access>,
    pub(super) https: bool,
    /// As the guest wrote it.
    pub(super) authority: Box<str>,
    /// An IPv6 address stands in brackets.
    pub(super) host: Box<str>,
    pub(super) port: u16,
}

impl Origin {
    fn is(&self, access: &Arc<Access>, https: bool, authority: &str) -> bool {
        Arc::ptr_eq(&self.access, access)
            && self.https == https
            && self.authority.eq_ignore_ascii_case(authority)
    }
}

/// What the protocol keeps of a connection.
pub(super) struct Wire {
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
    pub(super) request: Pipe,
    pub(super) response: Pipe,
    /// Wire lines of the request's trailers.
    pub(super) trailers: Vec<u8>,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            sender: Sender::default(),
            receiver: Receiver::default(),
            request: Pipe::new(Watermarks::default()),
            response: Pipe::new(Watermarks::default()),
            trailers: Vec::new(),
        }
    }
}

impl Wire {
    /// Makes it ready for the next request. False: there can be none.
    fn recycle(&mut self) -> bool {
        for pipe in [&mut self.request, &mut self.response] {
            if pipe.capacity() > KEPT_BYTES_MAX {
                *pipe = Pipe::new(Watermarks::default());
            }
            pipe.reset(Watermarks::default());
        }
        self.trailers = Vec::new();
        tidegate_proto::client::next(&mut self.sender, &mut self.receiver)
    }
}

/// A connection that waits.
pub(super) struct Idle {
    pub(super) link: Link,
    pub(super) wire: Box<Wire>,
    pub(super) origin: Arc<Origin>,
    since: Nanos,
}

#[derive(Default)]
struct Inner {
    idle: Vec<Idle>,
    sweep: Option<Timer>,
    /// The worker ends: nothing waits any more.
    closed: bool,
}

/// A worker's connections that wait.
pub(crate) struct Pool {
    inner: Mutex<Inner>,
    scratch: Mutex<Box<[u8]>>,
    /// What a response may cost.
    pub(super) limits: Limits,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), scratch: Mutex::default(), limits: response_limits() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where bytes go that are looked at before they go on.
    pub(super) fn scratch(&self) -> MutexGuard<'_, Box<[u8]>> {
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        if scratch.is_empty() {
            *scratch = vec![0; SCRATCH_BYTES].into_boxed_slice();
        }
        scratch
    }

    /// Connections that wait now.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().idle.len()
    }

    /// The one that was used last, of those to that origin. `sure` asks the system whether it is still there: for a request
    /// that could not be sent twice.
    pub(super) fn take(
        &self,
        access: &Arc<Access>,
        https: bool,
        authority: &str,
        sure: bool,
    ) -> Option<Idle> {
        loop {
            let mut inner = self.lock();
            let at = inner.idle.iter().rposition(|idle| idle.origin.is(access, https, authority))?;
            let idle = inner.idle.remove(at);
            drop(inner);
            if idle.link.is_quiet() && (!sure || idle.link.is_silent()) {
                return Some(idle);
            }
        }
    }

    /// Keeps a connection whose exchange is over, if another one can follow on it.
    pub(super) fn put(
        self: &Arc<Self>,
        hub: &Arc<Hub>,
        link: Link,
        mut wire: Box<Wire>,
        origin: Arc<Origin>,
    ) {
        if !link.is_quiet() || !wire.recycle() {
            return;
        }
        let mut inner = self.lock();
        if inner.closed {
            return;
        }
        let same = |idle: &Idle| {
            Arc::ptr_eq(&idle.origin, &origin) || {
                idle.origin.is(&origin.access, origin.https, &origin.authority)
            }
        };
        let of_app = |idle: &Idle| Arc::ptr_eq(&idle.origin.access, &origin.access);
        let place = if inner.idle.iter().filter(|idle| same(idle)).count() >= IDLE_OF_ORIGIN_MAX {
            inner.idle.iter().position(same)
        } else if inner.idle.len() >= IDLE_MAX {
            Some(inner.idle.iter().position(of_app).unwrap_or(0))
        } else {
            None
        };
        // What waits is bounded here, and is not to keep the app from opening more, here or on other workers.
        link.tcp.count(None);
        let crowded_out = place.map(|at| inner.idle.remove(at));
        inner.idle.push(Idle { link, wire, origin, since: hub.now() });
        if inner.sweep.is_none() {
            let me: Arc<dyn Driven> = Arc::clone(self) as Arc<dyn Driven>;
            inner.sweep = Some(hub.drive_at(hub.now() + SWEEP_INTERVAL, Arc::downgrade(&me)));
        }
        drop(inner);
        // Closing is a system call or two: not under the lock.
        drop(crowded_out);
    }

    /// Closes all of them, and those to come: the worker ends. They hold its hub, which holds them.
    pub(crate) fn clear(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        let idle = std::mem::take(&mut inner.idle);
        drop(inner);
        drop(idle);
    }
}

impl Driven for Pool {
    fn drive(self: Arc<Self>, hub: &Arc<Hub>) {
        let now = hub.now();
        let mut inner = self.lock();
        let (keep, over): (Vec<_>, Vec<_>) = std::mem::take(&mut inner.idle)
            .into_iter()
            .partition(|idle| idle.link.is_quiet() && now.saturating_sub(idle.since) < IDLE_TIME_MAX);
        inner.idle = keep;
        let me: Arc<dyn Driven> = Arc::clone(&self) as Arc<dyn Driven>;
        let more = !inner.idle.is_empty();
        inner.sweep = more.then(|| hub.drive_at(now + SWEEP_INTERVAL, Arc::downgrade(&me)));
        drop(inner);
        drop(over);
    }
}
