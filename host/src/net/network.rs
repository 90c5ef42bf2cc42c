//! What one call of a guest has of the net: what it may do there, what it has opened, and what it has moved.
//!
//! Everything is closed with the call. What is denied is told to the operator, with the rule that would allow it; the
//! guest learns that it was denied and nothing else.
//!
//! Invariant: an address is checked right before it is connected to, and that very address is.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use rustix::io::Errno;

use super::access::{Access, Full, Lease};
use super::hub::Hub;
use super::policy::{Denied, Protocol};
use super::resolve::{Lookup, LookupError};
pub(crate) use super::socket::Close;
use crate::clock::{MS, Nanos};

/// Names whose addresses a call has in mind at most: the one that was looked up longest ago is forgotten first.
const NAMES_MAX: usize = 256;

/// How long an address that was found under a name passes for it.
const KNOWN_MAX: Nanos = 3_600_000 * MS;

#[derive(Default)]
struct Inner {
    closed: bool,
    /// The limit that was told of last.
    limited: &'static str,
    open: Vec<Weak<dyn Close>>,
    /// Names and what they stood for when they were looked up: rules that give a name hold for these addresses.
    names: Vec<Known>,
}

/// What a name stood for when it was looked up.
struct Known {
    name: Box<str>,
    addresses: Arc<[IpAddr]>,
    at: Nanos,
}

/// A call's net.
pub(crate) struct Network {
    pub(crate) hub: Arc<Hub>,
    pub(crate) access: Arc<Access>,
    /// The request's id, for the log.
    request: Box<str>,
    /// Bytes that were received and sent.
    bytes: AtomicU64,
    inner: Mutex<Inner>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("request", &self.request).finish_non_exhaustive()
    }
}

impl Network {
    pub(crate) fn new(hub: Arc<Hub>, access: Arc<Access>, request: Box<str>) -> Arc<Self> {
        Arc::new(Self { hub, access, request, bytes: AtomicU64::new(0), inner: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the operator, and the guest as little as that.
    pub(crate) fn deny(&self, denied: &Denied) -> Errno {
        self.access.denials.tell(&self.access.app, &self.request, &denied.reason(), &denied.allow());
        Errno::ACCESS
    }

    /// A limit was met: the operator is told which, once a call.
    fn limited(&self, what: &'static str, limit: &str) -> Errno {
        if std::mem::replace(&mut self.lock().limited, what) == what {
            return Errno::MFILE;
        }
        self.access.denials.tell(&self.access.app, &self.request, &what, limit);
        Errno::MFILE
    }

    /// Looks a name up, to connect to that port if it is known.
    ///
    /// # Errors
    /// ACCESS: no rule is about such a name. MFILE: the app looks up too many.
    pub(crate) fn lookup(self: &Arc<Self>, name: &str, port: Option<u16>) -> Result<NameLookup, Errno> {
        self.access.policy.lookup(name, port).map_err(|denied| self.deny(&denied))?;
        if !self.access.lookup(self.hub.now()) {
            return Err(self.limited("the app looks names up too often", "a higher `limits.connects`"));
        }
        let lookup = self.hub.resolver.lookup(name, self.access.tenant);
        Ok(NameLookup { network: Arc::clone(self), name: name.into(), lookup })
    }

    /// Remembers what a name stands for.
    fn remember(&self, name: &str, addresses: &Arc<[IpAddr]>) {
        let names = &mut self.lock().names;
        names.retain(|known| &*known.name != name);
        if names.len() >= NAMES_MAX {
            names.remove(0);
        }
        names.push(Known { name: name.into(), addresses: Arc::clone(addresses), at: self.hub.now() });
    }

    /// Whether `addr` may be connected to or sent to now, by whatever names led there.
    fn judge(&self, protocol: Protocol, addr: SocketAddr) -> Result<(), Denied> {
        if self.access.policy.connect(protocol, addr, &[]).is_ok() {
            return Ok(());
        }
        let inner = self.lock();
        let (ip, now) = (addr.ip().to_canonical(), self.hub.now());
        let led = |known: &&Known| {
            now.saturating_sub(known.at) < KNOWN_MAX
                && known.addresses.iter().any(|known| known.to_canonical() == ip)
        };
        let names: Vec<&str> = inner.names.iter().filter(led).map(|known| &*known.name).collect();
        self.access.policy.connect(protocol, addr, &names)
    }

    /// Checks that `addr` may be connected to, or sent to, now.
    ///
    /// # Errors
    /// ACCESS: it may not.
    pub(crate) fn check_connect(&self, protocol: Protocol, addr: SocketAddr) -> Result<(), Errno> {
        self.judge(protocol, addr).map_err(|denied| self.deny(&denied))
    }

    /// Counts a connect.
    ///
    /// # Errors
    /// MFILE: the app makes too many of them.
    pub(crate) fn count_connect(&self) -> Result<(), Errno> {
        if self.access.connect(self.hub.now()) {
            return Ok(());
        }
        Err(self.limited("the app connects too often", "a higher `limits.connects`"))
    }

    /// Checks that `addr` may be listened at, or bound to.
    ///
    /// # Errors
    /// ACCESS: it may not.
    pub(crate) fn check_listen(&self, protocol: Protocol, addr: SocketAddr) -> Result<(), Errno> {
        self.access.policy.listen(protocol, addr).map_err(|denied| self.deny(&denied))
    }

    /// True if a datagram from there is let through to the guest: nobody is told if it is not.
    pub(super) fn takes_from(&self, addr: SocketAddr) -> bool {
        self.judge(Protocol::Udp, addr).is_ok()
    }

    /// A place for one more socket.
    ///
    /// # Errors
    /// MFILE: the app has as many as it may.
    pub(crate) fn lease(&self) -> Result<Lease, Errno> {
        self.access.lease().map_err(|full| match full {
            Full::App => self.limited("the app has too many sockets", "a higher `limits.sockets`"),
            Full::Tenant => self.limited(
                "the tenant's apps have too many sockets together",
                "a higher `limits.sockets` of the tenant",
            ),
            Full::Process => self.limited(
                "all apps together have as many sockets as a quarter of the process's descriptors",
                "more descriptors (`ulimit -n`)",
            ),
        })
    }

    /// How many of so many bytes may still be moved.
    ///
    /// # Errors
    /// DQUOT: none.
    pub(crate) fn allowance(&self, wanted: usize) -> Result<usize, Errno> {
        let left = self.access.limits.socket_bytes_max.saturating_sub(self.bytes.load(Relaxed));
        if left == 0 && wanted > 0 {
            self.limited("the call has moved as many bytes as it may", "a higher `limits.socket_bytes`");
            return Err(Errno::DQUOT);
        }
        Ok(wanted.min(usize::try_from(left).unwrap_or(usize::MAX)))
    }

    /// So many bytes were received or sent.
    pub(crate) fn moved(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Something was opened that is to be closed with the call.
    ///
    /// # Errors
    /// CANCELED: the call is over already.
    pub(crate) fn opened(&self, what: Weak<dyn Close>) -> Result<(), Errno> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(Errno::CANCELED);
        }
        // What was closed long ago is forgotten whenever the list would grow.
        if inner.open.len() == inner.open.capacity() {
            inner.open.retain(|open| open.strong_count() > 0);
        }
        inner.open.push(what);
        Ok(())
    }

    /// The call is over: everything that it opened is closed, whoever still has it.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.names = Vec::new();
        let open = std::mem::take(&mut inner.open);
        drop(inner);
        for what in open {
            if let Some(what) = what.upgrade() {
                what.close();
            }
        }
    }
}

/// A name that is looked up for a call.
#[derive(Debug)]
pub(crate) struct NameLookup {
    network: Arc<Network>,
    name: Box<str>,
    lookup: Lookup,
}

impl NameLookup {
    /// The addresses, once they are there. From then on rules that give the name hold for them.
    ///
    /// # Errors
    /// See [`LookupError`].
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arc<[IpAddr]>, LookupError>> {
        let polled = self.lookup.poll(cx);
        match &polled {
            Poll::Ready(Ok(addresses)) => self.network.remember(&self.name, addresses),
            Poll::Ready(Err(LookupError::Failed(why))) => {
                let Network { access, request, .. } = &*self.network;
                access.denials.tell_failed(&access.app, request, &self.name, why);
            }
            _ => {}
        }
        polled
    }
}
