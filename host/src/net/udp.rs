//! Guests' UDP sockets.
//!
//! Invariant: a guest gets datagrams only from where it may send to, unless its socket is bound where it may listen.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recvfrom};
use socket2::{Domain, SockRef, Type};

use super::network::Network;
use super::policy::Protocol;
use super::readiness::Readiness;
use super::socket::Socket;
use super::tcp::{Family, errno};

/// Datagrams from others that one receive passes over.
const PASSED_OVER_MAX: u32 = 16;

/// A datagram socket.
#[derive(Clone, Debug)]
pub(crate) struct UdpSocket {
    socket: Arc<Socket<mio::net::UdpSocket>>,
    network: Arc<Network>,
    /// It is bound where the app may listen: whoever writes to it is heard.
    listens: Arc<AtomicBool>,
}

impl UdpSocket {
    /// One that is bound to nothing yet.
    ///
    /// # Errors
    /// MFILE: the app has too many sockets. Others are the system's.
    pub(crate) fn new(network: &Arc<Network>, family: Family) -> Result<Self, Errno> {
        let lease = network.lease()?;
        let domain = if family == Family::V4 { Domain::IPV4 } else { Domain::IPV6 };
        let kind = Type::DGRAM.nonblocking().cloexec();
        let socket = socket2::Socket::new(domain, kind, None).map_err(|e| errno(&e))?;
        if family == Family::V6 {
            socket.set_only_v6(true).map_err(|e| errno(&e))?;
        }
        let io = mio::net::UdpSocket::from_std(socket.into());
        let socket = Socket::new(&network.hub, io, Readiness::of_datagrams(), Some(network), lease)?;
        Ok(Self { socket, network: Arc::clone(network), listens: Arc::default() })
    }

    /// Binds it. Port 0 of the unspecified address is for whoever sends first; any other has to be one that may be
    /// listened at.
    ///
    /// # Errors
    /// ACCESS: it may not be. Others are the system's.
    pub(crate) fn bind(&self, addr: SocketAddr) -> Result<(), Errno> {
        let anywhere = addr.ip().is_unspecified() && addr.port() == 0;
        if !anywhere {
            self.network.check_listen(Protocol::Udp, addr)?;
        }
        self.socket.with(|io| SockRef::from(io).bind(&addr.into()).map_err(|e| errno(&e)))?;
        if !anywhere {
            self.listens.store(true, Relaxed);
        }
        Ok(())
    }

    /// From now on it sends to `addr` and hears nobody else.
    ///
    /// # Errors
    /// ACCESS: the app may not send there. MFILE: it connects too often. Others are the system's.
    pub(crate) fn connect(&self, addr: SocketAddr) -> Result<(), Errno> {
        self.network.check_connect(Protocol::Udp, addr)?;
        self.network.count_connect()?;
        self.socket.with(|io| io.connect(addr).map_err(|e| errno(&e)))
    }

    /// It may send to anyone again, and hear them.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn disconnect(&self) -> Result<(), Errno> {
        self.socket.with(|io| rustix::net::connect_unspec(io.as_fd()))
    }

    /// Sends a datagram, to `to` or to where it is connected.
    ///
    /// # Errors
    /// AGAIN: no room. ACCESS: the app may not send there. DQUOT: the call has moved as much as it may. MSGSIZE: too
    /// large. Others are the system's.
    pub(crate) fn try_send(&self, bytes: &[u8], to: Option<SocketAddr>) -> Result<(), Errno> {
        if let Some(to) = to {
            self.network.check_connect(Protocol::Udp, to)?;
        }
        if self.network.allowance(bytes.len())? < bytes.len() {
            return Err(Errno::DQUOT);
        }
        let sent = self.socket.with(|io| {
            match to {
                Some(to) => io.send_to(bytes, to),
                None => io.send(bytes),
            }
            .map_err(|e| errno(&e))
        });
        if sent == Err(Errno::AGAIN) {
            self.socket.readiness().mask_write();
        }
        self.network.moved(sent?);
        Ok(())
    }

    /// Receives a datagram, from `from` alone if that is given: how long it is, and whose. What does not fit is cut off.
    ///
    /// # Errors
    /// AGAIN: nothing yet. DQUOT: the call has moved as much as it may. Others are the system's.
    pub(crate) fn try_recv(
        &self,
        into: &mut [u8],
        from: Option<SocketAddr>,
    ) -> Result<(usize, SocketAddr), Errno> {
        self.network.allowance(1)?;
        for _ in 0..PASSED_OVER_MAX {
            let received = self.socket.with(|io| recvfrom(io.as_fd(), &mut *into, RecvFlags::empty()));
            match received {
                Ok((_, n, sender)) => {
                    self.network.moved(n.min(into.len()));
                    let sender = sender.and_then(|any| SocketAddr::try_from(any).ok());
                    let Some(sender) = sender else { continue };
                    let meant = from.is_none_or(|from| from == sender);
                    if meant && (self.listens.load(Relaxed) || self.network.takes_from(sender)) {
                        return Ok((n.min(into.len()), sender));
                    }
                }
                Err(Errno::INTR) => {}
                Err(errno) => {
                    if errno == Errno::AGAIN {
                        self.socket.readiness().mask_read();
                    }
                    return Err(errno);
                }
            }
        }
        // There may be more: whoever polls is told so at once.
        Err(Errno::AGAIN)
    }

    /// Ready when a receive may find something.
    pub(crate) fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        self.socket.poll_read(cx)
    }

    /// Ready when a send may find room.
    pub(crate) fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        self.socket.poll_write(cx)
    }

    /// Its own end.
    pub(crate) fn local_addr(&self) -> Result<SocketAddr, Errno> {
        self.socket.with(|io| io.local_addr().map_err(|e| errno(&e)))
    }

    /// Where it is connected to.
    pub(crate) fn peer_addr(&self) -> Result<SocketAddr, Errno> {
        self.socket.with(|io| io.peer_addr().map_err(|e| errno(&e)))
    }

    /// Does something with its options.
    ///
    /// # Errors
    /// It is closed.
    pub(crate) fn options<R>(&self, f: impl FnOnce(SockRef<'_>) -> R) -> Result<R, Errno> {
        self.socket.with(|io| Ok(f(SockRef::from(io))))
    }
}
