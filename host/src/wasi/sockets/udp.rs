//! `udp-socket` and its two streams of datagrams.
//!
//! Invariant: of all streams of a socket only the two of the last association work.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Waker};

use rustix::io::Errno;
use wasmtime::component::Resource;
use wasmtime::{Result, format_err};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::bindings::wasi::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use super::bindings::wasi::sockets::udp::{
    Host, HostIncomingDatagramStream, HostOutgoingDatagramStream, HostUdpSocket, IncomingDatagram,
    OutgoingDatagram,
};
use super::bindings::wasi::sockets::udp_create_socket;
use super::errors::{Failure, code, connect_code, denied};
use super::network::NetworkHandle;
use super::{Given, address, options};
use crate::config::sockets::Protocol;
use crate::guest::cost::{moved, spend};
use crate::net::network::Network;
use crate::net::tcp::Family;
use crate::net::udp::UdpSocket as Socket;
use crate::wasi::Wasi;

/// Datagrams that one call receives or sends at most.
const DATAGRAMS_MAX: usize = 16;
/// Bytes that one call receives, but for the last datagram.
const RECEIVE_BYTES_MAX: usize = 64 * 1024;
/// No datagram is longer.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// What a state's operation gives.
type Step<T> = std::result::Result<T, ErrorCode>;

/// Where whoever only sends is bound.
fn is_anywhere(local: SocketAddr) -> bool {
    local.ip().is_unspecified() && local.port() == 0
}

/// What the streams of one association know of it.
#[derive(Debug)]
struct Association {
    socket: Socket,
    remote: Option<SocketAddr>,
    number: u32,
    /// The number of the last one.
    last: Arc<AtomicU32>,
}

impl Association {
    /// The socket, if it is still this association's.
    fn socket(&self) -> Step<&Socket> {
        if self.number == self.last.load(Relaxed) { Ok(&self.socket) } else { Err(ErrorCode::InvalidState) }
    }
}

/// What is behind a `udp-socket`.
#[derive(Debug)]
enum Behind {
    /// There is no socket: nothing that it could do is allowed.
    Denied(Arc<Network>),
    Socket(Socket),
}

/// `udp-socket`.
#[derive(Debug)]
pub(crate) struct UdpSocket {
    behind: Behind,
    family: Family,
    bound: bool,
    /// A bind was begun and is to be finished.
    binding: bool,
    remote: Option<SocketAddr>,
    last: Arc<AtomicU32>,
}

/// `incoming-datagram-stream`.
#[derive(Debug)]
pub(crate) struct Incoming(Association);

/// `outgoing-datagram-stream`.
#[derive(Debug)]
pub(crate) struct Outgoing {
    association: Association,
    family: Family,
    /// Datagrams that may be sent.
    permit: usize,
}

impl UdpSocket {
    pub(super) fn new(network: &Arc<Network>, family: Family) -> std::result::Result<Self, Errno> {
        let behind = if network.access.allows_anything() {
            Behind::Socket(Socket::new(network, family)?)
        } else {
            Behind::Denied(Arc::clone(network))
        };
        Ok(Self { behind, family, bound: false, binding: false, remote: None, last: Arc::default() })
    }

    pub(super) fn start_bind(&mut self, local: SocketAddr) -> Step<()> {
        if self.binding {
            return Err(ErrorCode::ConcurrencyConflict);
        }
        if self.bound {
            return Err(ErrorCode::InvalidState);
        }
        address::of_family(local, self.family)?;
        match &self.behind {
            Behind::Socket(socket) => socket.bind(local).map_err(code)?,
            Behind::Denied(_) if is_anywhere(local) => return Err(ErrorCode::AccessDenied),
            Behind::Denied(network) => return Err(denied(network.check_listen(Protocol::Udp, local))),
        }
        self.binding = true;
        Ok(())
    }

    pub(super) fn finish_bind(&mut self) -> Step<()> {
        if !self.binding {
            return Err(ErrorCode::NotInProgress);
        }
        (self.binding, self.bound) = (false, true);
        Ok(())
    }

    /// Associates it anew.
    pub(super) fn stream(&mut self, remote: Option<SocketAddr>) -> Step<(Incoming, Outgoing)> {
        self.is_bound()?;
        if let Some(remote) = remote {
            address::of_family(remote, self.family)?;
            address::remote(remote)?;
        }
        let socket = self.socket()?.clone();
        // Whatever comes of it, the streams before it are over.
        self.last.fetch_add(1, Relaxed);
        let before = self.remote.take();
        match remote {
            Some(remote) => match socket.connect(remote) {
                // Linux keeps to the way that it took before, where that leads nowhere now.
                Err(Errno::INVAL) if before.is_some() => {
                    socket.disconnect().map_err(code)?;
                    socket.connect(remote).map_err(connect_code)?;
                }
                connected => connected.map_err(connect_code)?,
            },
            None if before.is_some() => socket.disconnect().map_err(code)?,
            None => {}
        }
        self.remote = remote;
        let association = || Association {
            socket: socket.clone(),
            remote,
            number: self.last.load(Relaxed),
            last: Arc::clone(&self.last),
        };
        let outgoing = Outgoing { association: association(), family: self.family, permit: 0 };
        Ok((Incoming(association()), outgoing))
    }

    fn socket(&self) -> Step<&Socket> {
        match &self.behind {
            Behind::Socket(socket) => Ok(socket),
            Behind::Denied(_) => Err(ErrorCode::AccessDenied),
        }
    }

    /// Nothing is allowed, and to be bound here tells nothing of what it is for.
    fn has_no_rules_at(&self, local: SocketAddr) -> bool {
        matches!(self.behind, Behind::Denied(_)) && is_anywhere(local)
    }

    fn is_bound(&self) -> Step<()> {
        if self.bound { Ok(()) } else { Err(ErrorCode::InvalidState) }
    }

    pub(super) fn local_address(&self) -> Step<SocketAddr> {
        self.is_bound()?;
        self.socket()?.local_addr().map_err(code)
    }

    pub(super) fn remote_address(&self) -> Step<SocketAddr> {
        self.remote.ok_or(ErrorCode::InvalidState)
    }

    pub(super) fn options<R>(&self, f: impl FnOnce(BorrowedFd<'_>) -> Step<R>) -> Step<R> {
        self.socket()?.options(|socket| f(socket.as_fd())).map_err(code)?
    }
}

impl Incoming {
    /// Receives what is there. An error is told when nothing came before it.
    pub(super) fn receive(&self, most: u64) -> Step<Vec<IncomingDatagram>> {
        let socket = self.0.socket()?;
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(DATAGRAMS_MAX);
        let mut datagrams = Vec::new();
        if most == 0 {
            return Ok(datagrams);
        }
        let mut bytes = 0;
        let mut room = vec![0; DATAGRAM_BYTES_MAX];
        while datagrams.len() < most && bytes < RECEIVE_BYTES_MAX {
            match socket.try_recv(&mut room, self.0.remote) {
                Ok((count, sender)) => {
                    let data = room.get(..count).unwrap_or_default().to_vec();
                    bytes += count;
                    datagrams.push(IncomingDatagram { data, remote_address: sender.into() });
                }
                Err(Errno::AGAIN) => break,
                Err(_) if !datagrams.is_empty() => break,
                Err(errno) => return Err(code(errno)),
            }
        }
        Ok(datagrams)
    }
}

impl Outgoing {
    pub(super) fn check_send(&mut self) -> Step<usize> {
        let socket = self.association.socket()?;
        let writable = socket.poll_writable(&Context::from_waker(Waker::noop())).is_ready();
        self.permit = if writable { DATAGRAMS_MAX } else { 0 };
        Ok(self.permit)
    }

    /// Sends datagrams until one cannot be. An error is told when nothing left before it.
    pub(super) fn send(&mut self, datagrams: &[OutgoingDatagram]) -> Given<u64> {
        if datagrams.is_empty() {
            return Ok(0);
        }
        if datagrams.len() > self.permit {
            return Err(Failure::Trap(format_err!("more datagrams were sent than `check-send` permits")));
        }
        self.permit = 0;
        let mut sent = 0;
        for datagram in datagrams {
            match self.send_one(datagram) {
                Ok(()) => sent += 1,
                Err(ErrorCode::WouldBlock) => break,
                Err(_) if sent > 0 => break,
                Err(code) => return Err(code.into()),
            }
        }
        Ok(sent)
    }

    fn send_one(&self, datagram: &OutgoingDatagram) -> Step<()> {
        let socket = self.association.socket()?;
        if datagram.data.len() > DATAGRAM_BYTES_MAX {
            return Err(ErrorCode::DatagramTooLarge);
        }
        let to = datagram.remote_address.map(SocketAddr::from);
        let to = match (self.association.remote, to) {
            (Some(remote), to) if to.is_none_or(|to| to == remote) => None,
            (None, Some(to)) => {
                address::of_family(to, self.family)?;
                address::remote(to)?;
                Some(to)
            }
            _ => return Err(ErrorCode::InvalidArgument),
        };
        socket.try_send(&datagram.data, to).map_err(code)
    }
}

/// No operation of the socket itself waits.
#[async_trait]
impl Pollable for UdpSocket {
    async fn ready(&mut self) {}
}

#[async_trait]
impl Pollable for Incoming {
    async fn ready(&mut self) {
        if let Ok(socket) = self.0.socket() {
            poll_fn(|cx| socket.poll_readable(cx)).await;
        }
    }
}

#[async_trait]
impl Pollable for Outgoing {
    async fn ready(&mut self) {
        if let Ok(socket) = self.association.socket() {
            poll_fn(|cx| socket.poll_writable(cx)).await;
        }
    }
}

/// The two streams of a socket for datagrams.
type Streams = (Resource<Incoming>, Resource<Outgoing>);

impl Wasi<'_> {
    fn udp(&mut self, this: &Resource<UdpSocket>) -> Result<&mut UdpSocket> {
        self.asks_system()?;
        Ok(self.state.side.table.get_mut(this)?)
    }
}

impl udp_create_socket::Host for Wasi<'_> {
    fn create_udp_socket(&mut self, family: IpAddressFamily) -> Given<Resource<UdpSocket>> {
        self.opens()?;
        let socket = UdpSocket::new(self.state.network(), family.into())?;
        Ok(self.state.side.table.push(socket)?)
    }
}

impl Host for Wasi<'_> {}

impl HostUdpSocket for Wasi<'_> {
    fn start_bind(
        &mut self,
        this: Resource<UdpSocket>,
        network: Resource<NetworkHandle>,
        local: IpSocketAddress,
    ) -> Given<()> {
        self.state.side.table.get(&network)?;
        let local = local.into();
        let socket = self.udp(&this)?;
        let bound = socket.start_bind(local);
        if bound.is_err() && socket.has_no_rules_at(local) {
            self.tell_no_rules();
        }
        Ok(bound?)
    }

    fn finish_bind(&mut self, this: Resource<UdpSocket>) -> Given<()> {
        Ok(self.udp(&this)?.finish_bind()?)
    }

    fn stream(&mut self, this: Resource<UdpSocket>, remote: Option<IpSocketAddress>) -> Given<Streams> {
        let (incoming, outgoing) = self.udp(&this)?.stream(remote.map(SocketAddr::from))?;
        let table = &mut self.state.side.table;
        let incoming = table.push_child(incoming, &this)?;
        Ok((incoming, table.push_child(outgoing, &this)?))
    }

    fn local_address(&mut self, this: Resource<UdpSocket>) -> Given<IpSocketAddress> {
        Ok(self.udp(&this)?.local_address()?.into())
    }

    fn remote_address(&mut self, this: Resource<UdpSocket>) -> Given<IpSocketAddress> {
        Ok(self.udp(&this)?.remote_address()?.into())
    }

    fn address_family(&mut self, this: Resource<UdpSocket>) -> Result<IpAddressFamily> {
        Ok(self.udp(&this)?.family.into())
    }

    fn unicast_hop_limit(&mut self, this: Resource<UdpSocket>) -> Given<u8> {
        let socket = self.udp(&this)?;
        Ok(socket.options(|fd| options::hop_limit(fd, socket.family))?)
    }

    fn set_unicast_hop_limit(&mut self, this: Resource<UdpSocket>, value: u8) -> Given<()> {
        let socket = self.udp(&this)?;
        Ok(socket.options(|fd| options::set_hop_limit(fd, socket.family, value))?)
    }

    fn receive_buffer_size(&mut self, this: Resource<UdpSocket>) -> Given<u64> {
        Ok(self.udp(&this)?.options(options::receive_buffer)?)
    }

    fn set_receive_buffer_size(&mut self, this: Resource<UdpSocket>, value: u64) -> Given<()> {
        Ok(self.udp(&this)?.options(|fd| options::set_receive_buffer(fd, value))?)
    }

    fn send_buffer_size(&mut self, this: Resource<UdpSocket>) -> Given<u64> {
        Ok(self.udp(&this)?.options(options::send_buffer)?)
    }

    fn set_send_buffer_size(&mut self, this: Resource<UdpSocket>, value: u64) -> Given<()> {
        Ok(self.udp(&this)?.options(|fd| options::set_send_buffer(fd, value))?)
    }

    fn subscribe(&mut self, this: Resource<UdpSocket>) -> Result<Resource<DynPollable>> {
        self.enter()?;
        subscribe(&mut self.state.side.table, this)
    }

    fn drop(&mut self, this: Resource<UdpSocket>) -> Result<()> {
        self.asks_system()?;
        self.state.side.table.delete(this)?;
        Ok(())
    }
}

impl HostIncomingDatagramStream for Wasi<'_> {
    fn receive(&mut self, this: Resource<Incoming>, most: u64) -> Given<Vec<IncomingDatagram>> {
        self.asks_system()?;
        let datagrams = self.state.side.table.get(&this)?.receive(most)?;
        let cost: u64 = datagrams.iter().map(|datagram| moved(datagram.data.len())).sum();
        spend(self.state, cost)?;
        Ok(datagrams)
    }

    fn subscribe(&mut self, this: Resource<Incoming>) -> Result<Resource<DynPollable>> {
        self.enter()?;
        subscribe(&mut self.state.side.table, this)
    }

    fn drop(&mut self, this: Resource<Incoming>) -> Result<()> {
        self.enter()?;
        self.state.side.table.delete(this)?;
        Ok(())
    }
}

impl HostOutgoingDatagramStream for Wasi<'_> {
    fn check_send(&mut self, this: Resource<Outgoing>) -> Given<u64> {
        self.enter()?;
        Ok(self.state.side.table.get_mut(&this)?.check_send()? as u64)
    }

    fn send(&mut self, this: Resource<Outgoing>, datagrams: Vec<OutgoingDatagram>) -> Given<u64> {
        let cost: u64 = datagrams.iter().map(|datagram| moved(datagram.data.len())).sum();
        spend(self.state, moved(0) + cost)?;
        self.state.side.table.get_mut(&this)?.send(&datagrams)
    }

    fn subscribe(&mut self, this: Resource<Outgoing>) -> Result<Resource<DynPollable>> {
        self.enter()?;
        subscribe(&mut self.state.side.table, this)
    }

    fn drop(&mut self, this: Resource<Outgoing>) -> Result<()> {
        self.enter()?;
        self.state.side.table.delete(this)?;
        Ok(())
    }
}
