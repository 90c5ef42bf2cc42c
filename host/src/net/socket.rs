//! What all guests' sockets are: registered with their worker's loop, counted for their app, and closed with their call.
//!
//! Invariant: a socket that is closed is taken out of the loop first, and what is done with it from then on is an error
//! and never another socket's.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use mio::event::Source;
use rustix::io::Errno;

use super::access::Lease;
use super::hub::{Hub, Registered};
use super::network::Network;
use super::readiness::Readiness;

/// What can be closed from outside: at the end of the call that opened it.
pub(crate) trait Close: Send + Sync {
    fn close(&self);
}

/// A registered socket.
pub(super) struct Socket<S: Source> {
    hub: Arc<Hub>,
    /// None once it is closed.
    io: Mutex<Option<S>>,
    registered: Registered,
    /// The call that its bytes count for. None: it outlives calls.
    network: Option<Arc<Network>>,
    /// None: it counts for nobody now.
    lease: Mutex<Option<Lease>>,
}

impl<S: Source> fmt::Debug for Socket<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}

impl<S: Source + Send + 'static> Socket<S> {
    /// Registers `io`. With a network, it is closed with that.
    pub(super) fn new(
        hub: &Arc<Hub>,
        mut io: S,
        readiness: Arc<Readiness>,
        network: Option<&Arc<Network>>,
        lease: Lease,
    ) -> Result<Arc<Self>, Errno> {
        let registered = hub.register(&mut io, readiness)?;
        let socket = Arc::new(Self {
            hub: Arc::clone(hub),
            io: Mutex::new(Some(io)),
            registered,
            network: network.cloned(),
            lease: Mutex::new(Some(lease)),
        });
        if let Some(network) = network {
            let weak = Arc::downgrade(&socket);
            network.opened(weak)?;
        }
        Ok(socket)
    }
}

impl<S: Source> Socket<S> {
    fn lock(&self) -> MutexGuard<'_, Option<S>> {
        self.io.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it counts in this way.
    pub(super) fn count(&self, lease: Option<Lease>) {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = lease;
    }

    /// Does something with the socket, unless it is closed.
    pub(super) fn with<R>(&self, f: impl FnOnce(&S) -> Result<R, Errno>) -> Result<R, Errno> {
        self.lock().as_ref().map_or(Err(Errno::CONNABORTED), f)
    }

    /// Does what reads: `f` is given how many bytes it may take, and says how many it took. Fewer are all that there were.
    pub(super) fn read_with(
        &self,
        wanted: usize,
        f: impl FnMut(&S, usize) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        self.move_with(wanted, f, Readiness::mask_read_if_open, Readiness::mask_read)
    }

    /// Likewise for what writes.
    pub(super) fn write_with(
        &self,
        wanted: usize,
        f: impl FnMut(&S, usize) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        self.move_with(wanted, f, Readiness::mask_write, Readiness::mask_write)
    }

    /// `on_short` is for when fewer bytes were moved than might be, `on_block` for when none could be.
    fn move_with(
        &self,
        wanted: usize,
        mut f: impl FnMut(&S, usize) -> Result<usize, Errno>,
        on_short: fn(&Readiness),
        on_block: fn(&Readiness),
    ) -> Result<usize, Errno> {
        let most = self.allowance(wanted)?;
        let result = self.with(|io| {
            loop {
                match f(io, most) {
                    Err(Errno::INTR) => {}
                    result => return result,
                }
            }
        });
        match result {
            Ok(n) => {
                if n < most {
                    on_short(self.readiness());
                }
                self.moved(n);
            }
            Err(Errno::AGAIN) => on_block(self.readiness()),
            Err(_) => {}
        }
        result
    }

    /// How many of so many bytes its call may still move. DQUOT: none.
    fn allowance(&self, wanted: usize) -> Result<usize, Errno> {
        self.network.as_ref().map_or(Ok(wanted), |network| network.allowance(wanted))
    }

    /// So many bytes were received or sent.
    pub(super) fn moved(&self, bytes: usize) {
        if let Some(network) = &self.network {
            network.moved(bytes);
        }
    }

    pub(super) fn readiness(&self) -> &Readiness {
        &self.registered.readiness
    }

    pub(super) fn poll_read(&self, cx: &Context<'_>) -> Poll<()> {
        self.readiness().poll_read(cx)
    }

    pub(super) fn poll_write(&self, cx: &Context<'_>) -> Poll<()> {
        self.readiness().poll_write(cx)
    }

    fn shut(&self) {
        let io = self.lock().take();
        if let Some(mut io) = io {
            self.hub.deregister(&mut io, &self.registered);
        }
    }
}

impl<S: Source + Send> Close for Socket<S> {
    fn close(&self) {
        self.shut();
    }
}

impl<S: Source> Drop for Socket<S> {
    fn drop(&mut self) {
        self.shut();
    }
}
