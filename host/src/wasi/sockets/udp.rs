//! `udp-socket`: the order of its operations.
//!
//! Invariant: of all streams of a socket only the two of the last association work.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rustix::io::Errno;
use wasmtime::Result;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::bindings::wasi::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use super::bindings::wasi::sockets::udp::{Host, HostUdpSocket};
use super::bindings::wasi::sockets::udp_create_socket;
use super::datagrams::{Incoming, Outgoing};
use super::errors::{code, connect_code, denied};
use super::network::NetworkHandle;
use super::{Given, address, datagrams, options};
use crate::config::sockets::Protocol;
use crate::net::network::Network;
use crate::net::tcp::Family;
use crate::net::udp::UdpSocket as Socket;
use crate::wasi::Wasi;

/// What a state's operation gives.
type Step<T> = std::result::Result<T, ErrorCode>;

/// Where whoever only sends is bound.
fn is_anywhere(local: SocketAddr) -> bool {
    local.ip().is_unspecified() && local.port() == 0
}

/// Ends an association. Linux takes the port away with it that it has chosen itself; but the socket stays bound.
fn disconnect(socket: &Socket) -> Step<()> {
    let local = socket.local_addr().map_err(code)?;
    socket.disconnect().map_err(code)?;
    let left = socket.local_addr().map_err(code)?;
    if left.port() == local.port() {
        return Ok(());
    }
    let local = SocketAddr::new(left.ip(), local.port());
    let bound = socket.options(|socket| socket.bind(&local.into())).map_err(code)?;
    bound.map_err(|error| Errno::from_io_error(&error).map_or(ErrorCode::Unknown, code))
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
                    disconnect(&socket)?;
                    socket.connect(remote).map_err(connect_code)?;
                }
                connected => connected.map_err(connect_code)?,
            },
            None if before.is_some() => disconnect(&socket)?,
            None => {}
        }
        self.remote = remote;
        Ok(datagrams::pair(&socket, self.family, remote, &self.last))
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

/// No operation of the socket itself waits.
#[async_trait]
impl Pollable for UdpSocket {
    async fn ready(&mut self) {}
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
