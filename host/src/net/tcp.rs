//! Guests' TCP sockets: one that is not connected yet, a stream, a listener.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::{Domain, Protocol as Transport, SockRef, Type};

use super::access::Lease;
use super::hub::Hub;
use super::network::Network;
use super::policy::Protocol;
use super::readiness::{Driven, Readiness};
use super::socket::Socket;
use crate::clock::Nanos;

/// Bytes that a socket takes of us beyond what is on its way to the peer: as for clients' sockets, the guest is to learn
/// soon that the peer is slow.
const UNSENT_BYTES_MAX: u32 = 128 * 1024;
/// Connections that wait at a guest's listener at most, whatever it asks for.
pub(crate) const BACKLOG_MAX: i32 = 1024;
/// Bytes that are thrown away in one go.
const DISCARD_BYTES: usize = 16 * 1024;

/// The system's number of an error. What has none is of our own making, and does not happen.
pub(super) fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(addr: SocketAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn domain(self) -> Domain {
        match self {
            Self::V4 => Domain::IPV4,
            Self::V6 => Domain::IPV6,
        }
    }
}

/// A socket that is neither connected nor listens.
#[derive(Debug)]
pub(crate) struct TcpSocket {
    network: Arc<Network>,
    socket: socket2::Socket,
    lease: Lease,
}

impl TcpSocket {
    /// # Errors
    /// MFILE: the app has too many. Others are the system's.
    pub(crate) fn new(network: &Arc<Network>, family: Family) -> Result<Self, Errno> {
        let lease = network.lease()?;
        Ok(Self { network: Arc::clone(network), socket: open(family)?, lease })
    }

    /// Binds it. Any address but the unspecified one with port 0, which is as good as none, has to be one that may be
    /// listened at.
    ///
    /// # Errors
    /// ACCESS: it may not be. Others are the system's.
    pub(crate) fn bind(&self, addr: SocketAddr) -> Result<(), Errno> {
        if !(addr.ip().is_unspecified() && addr.port() == 0) {
            self.network.check_listen(Protocol::Tcp, addr)?;
        }
        self.socket.set_reuse_address(true).map_err(|e| errno(&e))?;
        self.socket.bind(&addr.into()).map_err(|e| errno(&e))
    }

    /// Where it is bound to.
    pub(crate) fn local_addr(&self) -> Result<SocketAddr, Errno> {
        local_addr(SockRef::from(&self.socket))
    }

    /// Does something with its options.
    pub(crate) fn options<R>(&self, f: impl FnOnce(SockRef<'_>) -> R) -> R {
        f(SockRef::from(&self.socket))
    }

    /// Begins to connect: see [`TcpStream::poll_connected`].
    ///
    /// # Errors
    /// ACCESS: the app may not. MFILE: it connects too often. Others are the system's.
    pub(crate) fn connect(self, addr: SocketAddr) -> Result<TcpStream, Errno> {
        self.network.check_connect(Protocol::Tcp, addr)?;
        self.network.count_connect()?;
        connect(&self.socket, addr)?;
        let network = Arc::clone(&self.network);
        TcpStream::connecting(&network.hub, self.socket, addr, Some(&network), self.lease)
    }

    /// Listens where it is bound to.
    ///
    /// # Errors
    /// ACCESS: the app may not, or the socket is not bound. Others are the system's.
    pub(crate) fn listen(self, backlog: i32) -> Result<TcpListener, Errno> {
        let local = self.local_addr()?;
        self.network.check_listen(Protocol::Tcp, local)?;
        self.socket.listen(backlog.clamp(1, BACKLOG_MAX)).map_err(|e| errno(&e))?;
        let io = mio::net::TcpListener::from_std(self.socket.into());
        let network = Arc::clone(&self.network);
        // Nobody waits until an event says so; but one that came in between would have no event.
        let socket = Socket::new(&network.hub, io, Readiness::of_connected(), Some(&network), self.lease)?;
        Ok(TcpListener { socket, network })
    }
}

fn open(family: Family) -> Result<socket2::Socket, Errno> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let set_up = || {
        let socket = socket2::Socket::new(family.domain(), kind, Some(Transport::TCP))?;
        if family == Family::V6 {
            socket.set_only_v6(true)?;
        }
        // As for clients' sockets: what is written is to leave.
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
        Ok(socket)
    };
    set_up().map_err(|e: io::Error| errno(&e))
}

fn connect(socket: &socket2::Socket, addr: SocketAddr) -> Result<(), Errno> {
    match socket.connect(&addr.into()).map_err(|e| errno(&e)) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn local_addr(socket: SockRef<'_>) -> Result<SocketAddr, Errno> {
    let addr = socket.local_addr().map_err(|e| errno(&e))?;
    addr.as_socket().ok_or(Errno::NOTCONN)
}

/// A connection that was accepted for a guest which has not begun yet.
#[derive(Debug)]
pub(crate) struct AcceptedTcp {
    pub(super) io: mio::net::TcpStream,
    pub(super) peer: SocketAddr,
    /// Where it arrived, if a preamble said so.
    pub(super) local: Option<SocketAddr>,
    lease: Lease,
    /// When a preamble has to be there. None: there is to be none.
    pub(super) preamble_due: Option<Nanos>,
}

impl AcceptedTcp {
    /// With its place among its app's sockets.
    pub(crate) fn new(io: mio::net::TcpStream, peer: SocketAddr, lease: Lease) -> Self {
        Self { io, peer, local: None, lease, preamble_due: None }
    }

    /// It begins with a preamble of the PROXY protocol, which has to be there by then.
    #[must_use]
    pub(crate) fn announced(self, by: Nanos) -> Self {
        Self { preamble_due: Some(by), ..self }
    }

    /// The guest's call has begun.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn open(self, network: &Arc<Network>) -> Result<TcpStream, Errno> {
        let stream = TcpStream::accepted(network, self.io, self.peer, self.lease)?;
        Ok(TcpStream { local: self.local, ..stream })
    }
}

/// A connection, or one in the making.
#[derive(Clone, Debug)]
pub(crate) struct TcpStream {
    socket: Arc<Socket<mio::net::TcpStream>>,
    /// Whom it was connected to, or came from. The system forgets that with a reset.
    peer: SocketAddr,
    /// Where it arrived, if a proxy said so.
    local: Option<SocketAddr>,
}

impl TcpStream {
    /// Begins a connection that outlives calls. The caller has checked the address, and counts its bytes.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn connect_kept(hub: &Arc<Hub>, addr: SocketAddr, lease: Lease) -> Result<Self, Errno> {
        let socket = open(Family::of(addr))?;
        connect(&socket, addr)?;
        Self::connecting(hub, socket, addr, None, lease)
    }

    fn connecting(
        hub: &Arc<Hub>,
        socket: socket2::Socket,
        peer: SocketAddr,
        network: Option<&Arc<Network>>,
        lease: Lease,
    ) -> Result<Self, Errno> {
        let io = mio::net::TcpStream::from_std(socket.into());
        // An edge that came before it is registered is told when it is.
        let socket = Socket::new(hub, io, Arc::default(), network, lease)?;
        Ok(Self { socket, peer, local: None })
    }

    fn accepted(
        network: &Arc<Network>,
        io: mio::net::TcpStream,
        peer: SocketAddr,
        lease: Lease,
    ) -> Result<Self, Errno> {
        let socket = Socket::new(&network.hub, io, Readiness::of_connected(), Some(network), lease)?;
        Ok(Self { socket, peer, local: None })
    }

    /// Ready when it is connected, or can not be.
    ///
    /// # Errors
    /// Why it can not be.
    pub(crate) fn poll_connected(&self, cx: &Context<'_>) -> Poll<Result<(), Errno>> {
        // The system may know by now what no event has told yet.
        let told = self.socket.poll_write(cx).is_ready();
        let failed = self.socket.with(|io| {
            let found = SockRef::from(io).take_error().map_err(|e| errno(&e))?;
            found.map_or(Ok(()), |error| Err(errno(&error)))
        });
        if let Err(errno) = failed {
            return Poll::Ready(Err(errno));
        }
        match self.socket.with(|io| io.peer_addr().map_err(|e| errno(&e))) {
            Ok(_) => {
                self.socket.readiness().unmask_write();
                Poll::Ready(Ok(()))
            }
            Err(Errno::NOTCONN) if !told => Poll::Pending,
            // An event that was about something else.
            Err(Errno::NOTCONN) if !self.socket.readiness().is_dead() => {
                self.socket.readiness().mask_write();
                self.socket.poll_write(cx).map(|()| Ok(()))
            }
            Err(errno) => Poll::Ready(Err(errno)),
        }
    }

    /// Receives into `into`. 0 is the end, if there was room for more.
    ///
    /// # Errors
    /// AGAIN: nothing yet. DQUOT: the call has moved as much as it may. Others are the system's.
    pub(crate) fn try_read(&self, into: &mut [u8]) -> Result<usize, Errno> {
        if into.is_empty() {
            return Ok(0);
        }
        self.socket.read_with(into.len(), |io, most| {
            let into = into.get_mut(..most).unwrap_or_default();
            recv(io.as_fd(), into, RecvFlags::empty()).map(|(n, _)| n)
        })
    }

    /// As [`Self::try_read`], but what it gives stays to be read.
    ///
    /// # Errors
    /// As [`Self::try_read`].
    pub(crate) fn try_peek(&self, into: &mut [u8]) -> Result<usize, Errno> {
        let peeked = self.socket.with(|io| recv(io.as_fd(), into, RecvFlags::PEEK).map(|(n, _)| n));
        if peeked == Err(Errno::AGAIN) {
            self.socket.readiness().mask_read();
        }
        peeked
    }

    /// Takes `count` bytes that were peeked at, without looking at them again. What was sent on from them is not held
    /// against the call's limit, as that would lose bytes; it counts.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn discard(&self, mut count: usize) -> Result<(), Errno> {
        let mut nowhere = [MaybeUninit::<u8>::uninit(); DISCARD_BYTES];
        while count > 0 {
            let part = count.min(DISCARD_BYTES);
            let taken = self.socket.with(|io| {
                let nowhere = nowhere.get_mut(..part).unwrap_or_default();
                recv(io.as_fd(), nowhere, RecvFlags::TRUNC).map(|(_, n)| n)
            })?;
            if taken == 0 {
                return Ok(());
            }
            count = count.saturating_sub(taken);
            self.socket.moved(taken);
        }
        Ok(())
    }

    /// Sends what it can of `bytes`.
    ///
    /// # Errors
    /// AGAIN: no room. DQUOT: the call has moved as much as it may. PIPE: the peer, or this side, has ended. Others are
    /// the system's.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.socket.write_with(bytes.len(), |io, most| {
            send(io.as_fd(), bytes.get(..most).unwrap_or_default(), SendFlags::NOSIGNAL)
        })
    }

    /// Ready when a read may find something.
    pub(crate) fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        self.socket.poll_read(cx)
    }

    /// Ready when a write may find room.
    pub(crate) fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        self.socket.poll_write(cx)
    }

    /// True if a read may find something.
    pub(crate) fn is_readable(&self) -> bool {
        self.socket.readiness().is_readable()
    }

    /// True if a write may find room.
    pub(crate) fn is_writable(&self) -> bool {
        self.socket.readiness().is_writable()
    }

    /// Reset, or hung up in both directions.
    pub(crate) fn is_dead(&self) -> bool {
        self.socket.readiness().is_dead()
    }

    /// What goes on by itself at every event of this socket.
    pub(crate) fn set_driver(&self, driver: std::sync::Weak<dyn Driven>) {
        self.socket.readiness().set_driver(driver);
    }

    /// Ends one side, or both.
    ///
    /// # Errors
    /// NOTCONN: it is not connected, or not any more.
    pub(crate) fn shutdown(&self, how: Shutdown) -> Result<(), Errno> {
        self.socket.with(|io| io.shutdown(how).map_err(|e| errno(&e)))
    }

    /// Its own end.
    pub(crate) fn local_addr(&self) -> Result<SocketAddr, Errno> {
        self.socket.with(|io| self.local.map_or_else(|| local_addr(SockRef::from(io)), Ok))
    }

    /// The peer's end, or what is to be.
    ///
    /// # Errors
    /// It is closed.
    pub(crate) fn peer_addr(&self) -> Result<SocketAddr, Errno> {
        self.socket.with(|_| Ok(self.peer))
    }

    /// It is one of its app's sockets, or none while it waits to be of use again.
    pub(crate) fn count(&self, lease: Option<Lease>) {
        self.socket.count(lease);
    }

    /// Does something with its options.
    ///
    /// # Errors
    /// It is closed.
    pub(crate) fn options<R>(&self, f: impl FnOnce(SockRef<'_>) -> R) -> Result<R, Errno> {
        self.socket.with(|io| Ok(f(SockRef::from(io))))
    }
}

/// A guest's listener.
#[derive(Clone, Debug)]
pub(crate) struct TcpListener {
    socket: Arc<Socket<mio::net::TcpListener>>,
    network: Arc<Network>,
}

impl TcpListener {
    /// Accepts a connection.
    ///
    /// # Errors
    /// AGAIN: nobody waits. MFILE: the app has too many sockets; whoever waits goes on waiting. Others are the system's.
    pub(crate) fn try_accept(&self) -> Result<(TcpStream, SocketAddr), Errno> {
        let lease = self.network.lease()?;
        let accepted = self.socket.with(|io| io.accept().map_err(|e| errno(&e)));
        if accepted.as_ref().is_err_and(|e| *e == Errno::AGAIN) {
            self.socket.readiness().mask_read();
        }
        let (io, peer) = accepted?;
        Ok((TcpStream::accepted(&self.network, io, peer, lease)?, peer))
    }

    /// Ready when somebody may wait.
    pub(crate) fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        self.socket.poll_read(cx)
    }

    /// Where it listens.
    pub(crate) fn local_addr(&self) -> Result<SocketAddr, Errno> {
        self.socket.with(|io| io.local_addr().map_err(|e| errno(&e)))
    }

    /// Does something with its options.
    ///
    /// # Errors
    /// It is closed.
    pub(crate) fn options<R>(&self, f: impl FnOnce(SockRef<'_>) -> R) -> Result<R, Errno> {
        self.socket.with(|io| Ok(f(SockRef::from(io))))
    }
}
