//! `tcp-socket`: the order of its operations.
//!
//! A socket is fresh, bound or not; then it connects and is connected, or listens. Each of the standard's operations is
//! begun and finished, by itself, and one at a time. What the system can say at once is said at the beginning.
//!
//! Invariant: an operation that does not fit the state changes nothing. One that has failed to connect or to listen
//! leaves a socket that is closed.

use std::future::poll_fn;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use rustix::io::Errno;
use socket2::SockRef;
use wasmtime::Result;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, Pollable, subscribe};

use super::bindings::wasi::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use super::bindings::wasi::sockets::tcp::{Duration, Host, HostTcpSocket, ShutdownType};
use super::bindings::wasi::sockets::tcp_create_socket;
use super::errors::{accept_code, code, connect_code, denied};
use super::network::NetworkHandle;
use super::streams::{Connection, Reader, Writer};
use super::{Given, address, options};
use crate::config::sockets::Protocol;
use crate::guest::desk::Desk;
use crate::net::network::{Close, Network};
use crate::net::tcp::{BACKLOG_MAX, Family, TcpListener, TcpSocket as FreshSocket, TcpStream};
use crate::wasi::Wasi;

/// Connections that wait at a listener, if the guest says nothing else: what `std` says.
const BACKLOG: i32 = 128;

/// What a state's operation gives.
type Step<T> = std::result::Result<T, ErrorCode>;

/// A socket that the loop does not know of yet. The call closes it when it ends.
#[derive(Debug)]
struct Fresh(Mutex<Option<FreshSocket>>);

impl Fresh {
    fn new(network: &Arc<Network>, family: Family) -> std::result::Result<Arc<Self>, Errno> {
        let this = Arc::new(Self(Mutex::new(Some(FreshSocket::new(network, family)?))));
        let weak: Weak<dyn Close> = Arc::downgrade(&this) as Weak<dyn Close>;
        network.opened(weak)?;
        Ok(this)
    }

    fn with<R>(&self, f: impl FnOnce(&FreshSocket) -> Step<R>) -> Step<R> {
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        socket.as_ref().map_or(Err(ErrorCode::InvalidState), f)
    }

    fn take(&self) -> Step<FreshSocket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or(ErrorCode::InvalidState)
    }
}

impl Close for Fresh {
    fn close(&self) {
        let _ = self.take();
    }
}

#[derive(Debug)]
enum State {
    /// There is no socket: nothing that it could do is allowed.
    Denied(Arc<Network>),
    Fresh {
        socket: Arc<Fresh>,
        bound: bool,
    },
    /// And how it ended, if somebody has looked.
    Connecting(TcpStream, Option<std::result::Result<(), Errno>>),
    Connected(Arc<Connection>),
    Listening(TcpListener),
    Closed,
}

/// An operation that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Bind,
    Connect,
    Listen,
}

/// `tcp-socket`.
#[derive(Debug)]
pub(crate) struct TcpSocket {
    family: Family,
    backlog: i32,
    state: State,
    begun: Option<Operation>,
}

impl TcpSocket {
    pub(super) fn new(network: &Arc<Network>, family: Family) -> std::result::Result<Self, Errno> {
        let state = if network.access.allows_anything() {
            State::Fresh { socket: Fresh::new(network, family)?, bound: false }
        } else {
            State::Denied(Arc::clone(network))
        };
        Ok(Self { family, backlog: BACKLOG, state, begun: None })
    }

    /// Nothing is under way.
    fn idle(&self) -> Step<()> {
        if self.begun.is_some() { Err(ErrorCode::ConcurrencyConflict) } else { Ok(()) }
    }

    /// This is under way.
    fn is_begun(&self, operation: Operation) -> Step<()> {
        if self.begun == Some(operation) { Ok(()) } else { Err(ErrorCode::NotInProgress) }
    }

    /// This was under way, and is over.
    fn finish(&mut self, operation: Operation) -> Step<()> {
        self.is_begun(operation)?;
        self.begun = None;
        Ok(())
    }

    pub(super) fn start_bind(&mut self, local: SocketAddr) -> Step<()> {
        self.idle()?;
        let (State::Denied(_) | State::Fresh { bound: false, .. }) = &self.state else {
            return Err(ErrorCode::InvalidState);
        };
        address::of_family(local, self.family)?;
        address::unicast(local)?;
        match &mut self.state {
            State::Fresh { socket, bound } => {
                socket.with(|socket| socket.bind(local).map_err(code))?;
                *bound = true;
            }
            State::Denied(network) => return Err(denied(network.check_listen(Protocol::Tcp, local))),
            _ => return Err(ErrorCode::InvalidState),
        }
        self.begun = Some(Operation::Bind);
        Ok(())
    }

    pub(super) fn finish_bind(&mut self) -> Step<()> {
        self.finish(Operation::Bind)
    }

    pub(super) fn start_connect(&mut self, remote: SocketAddr) -> Step<()> {
        self.idle()?;
        let (State::Denied(_) | State::Fresh { .. }) = &self.state else {
            return Err(ErrorCode::InvalidState);
        };
        address::of_family(remote, self.family)?;
        address::unicast(remote)?;
        address::remote(remote)?;
        let connecting = match std::mem::replace(&mut self.state, State::Closed) {
            State::Fresh { socket, .. } => socket.take()?.connect(remote).map_err(connect_code)?,
            State::Denied(network) => return Err(denied(network.check_connect(Protocol::Tcp, remote))),
            _ => return Err(ErrorCode::InvalidState),
        };
        self.state = State::Connecting(connecting, None);
        self.begun = Some(Operation::Connect);
        Ok(())
    }

    pub(super) fn finish_connect(&mut self, desk: &Arc<Desk>) -> Step<(Reader, Writer)> {
        self.is_begun(Operation::Connect)?;
        let Poll::Ready(connected) = self.poll_connected(&Context::from_waker(Waker::noop())) else {
            return Err(ErrorCode::WouldBlock);
        };
        self.begun = None;
        let State::Connecting(stream, _) = std::mem::replace(&mut self.state, State::Closed) else {
            return Err(ErrorCode::NotInProgress);
        };
        connected.map_err(connect_code)?;
        let (connection, reader, writer) = Connection::new(stream, desk);
        self.state = State::Connected(connection);
        Ok((reader, writer))
    }

    /// The system tells only once how it went: it is noted.
    fn poll_connected(&mut self, cx: &Context<'_>) -> Poll<std::result::Result<(), Errno>> {
        let State::Connecting(stream, ended) = &mut self.state else { return Poll::Ready(Ok(())) };
        if ended.is_none() {
            match stream.poll_connected(cx) {
                Poll::Ready(result) => *ended = Some(result),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(ended.unwrap_or(Ok(())))
    }

    pub(super) fn start_listen(&mut self) -> Step<()> {
        self.idle()?;
        let State::Fresh { socket, bound: true } = &self.state else { return Err(ErrorCode::InvalidState) };
        let listening = socket.take()?.listen(self.backlog);
        self.state = State::Closed;
        self.state = State::Listening(listening.map_err(code)?);
        self.begun = Some(Operation::Listen);
        Ok(())
    }

    pub(super) fn finish_listen(&mut self) -> Step<()> {
        self.finish(Operation::Listen)
    }

    pub(super) fn accept(&self, desk: &Arc<Desk>) -> Step<(Self, Reader, Writer)> {
        let State::Listening(listener) = &self.state else { return Err(ErrorCode::InvalidState) };
        if self.begun.is_some() {
            return Err(ErrorCode::InvalidState);
        }
        let (stream, _) = listener.try_accept().map_err(accept_code)?;
        let (connection, reader, writer) = Connection::new(stream, desk);
        let state = State::Connected(connection);
        Ok((Self { family: self.family, backlog: BACKLOG, state, begun: None }, reader, writer))
    }

    pub(super) fn local_address(&self) -> Step<SocketAddr> {
        match &self.state {
            State::Fresh { socket, bound: true } if self.begun.is_none() => {
                socket.with(|socket| socket.local_addr().map_err(code))
            }
            State::Denied(_) | State::Fresh { .. } | State::Closed => Err(ErrorCode::InvalidState),
            State::Connecting(stream, _) => stream.local_addr().map_err(code),
            State::Connected(connection) => connection.stream.local_addr().map_err(code),
            State::Listening(listener) => listener.local_addr().map_err(code),
        }
    }

    pub(super) fn remote_address(&self) -> Step<SocketAddr> {
        let State::Connected(connection) = &self.state else { return Err(ErrorCode::InvalidState) };
        connection.stream.peer_addr().map_err(code)
    }

    pub(super) fn is_listening(&self) -> bool {
        matches!(self.state, State::Listening(_)) && self.begun.is_none()
    }

    pub(super) fn set_backlog(&mut self, value: u64) -> Step<()> {
        if value == 0 {
            return Err(ErrorCode::InvalidArgument);
        }
        let value = i32::try_from(value).unwrap_or(BACKLOG_MAX).min(BACKLOG_MAX);
        match &self.state {
            State::Denied(_) | State::Fresh { .. } => self.backlog = value,
            State::Listening(listener) => listener
                .options(|socket| socket.listen(value))
                .map_err(code)?
                .map_err(|_| ErrorCode::NotSupported)?,
            State::Connecting(..) | State::Connected(_) | State::Closed => {
                return Err(ErrorCode::InvalidState);
            }
        }
        Ok(())
    }

    /// Does something with its options.
    pub(super) fn options<R>(&self, f: impl FnOnce(BorrowedFd<'_>) -> Step<R>) -> Step<R> {
        let f = |socket: SockRef<'_>| f(socket.as_fd());
        match &self.state {
            State::Denied(_) => Err(ErrorCode::AccessDenied),
            State::Fresh { socket, .. } => socket.with(|socket| socket.options(f)),
            State::Connecting(stream, _) => stream.options(f).map_err(code)?,
            State::Connected(connection) => connection.stream.options(f).map_err(code)?,
            State::Listening(listener) => listener.options(f).map_err(code)?,
            State::Closed => Err(ErrorCode::InvalidState),
        }
    }

    pub(super) fn shutdown(&self, how: Shutdown) -> Step<()> {
        let State::Connected(connection) = &self.state else { return Err(ErrorCode::InvalidState) };
        connection.shutdown(how);
        Ok(())
    }

    /// Ready when what was begun can be finished, or a connection accepted.
    pub(super) fn poll_ready(&mut self, cx: &Context<'_>) -> Poll<()> {
        match &self.state {
            State::Connecting(..) => self.poll_connected(cx).map(drop),
            State::Listening(listener) => listener.poll_readable(cx),
            _ => Poll::Ready(()),
        }
    }
}

#[async_trait]
impl Pollable for TcpSocket {
    async fn ready(&mut self) {
        poll_fn(|cx| self.poll_ready(cx)).await;
    }
}

/// The two streams of a connection.
type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);
/// A connection that was accepted.
type Accepted = (Resource<TcpSocket>, Resource<DynInputStream>, Resource<DynOutputStream>);

impl Wasi<'_> {
    fn tcp(&mut self, this: &Resource<TcpSocket>) -> Result<&mut TcpSocket> {
        self.asks_system()?;
        Ok(self.state.side.table.get_mut(this)?)
    }

    fn streams(&mut self, of: &Resource<TcpSocket>, reader: Reader, writer: Writer) -> Given<Streams> {
        let table = &mut self.state.side.table;
        let reader: DynInputStream = Box::new(reader);
        let writer: DynOutputStream = Box::new(writer);
        let reader = table.push_child(reader, of)?;
        Ok((reader, table.push_child(writer, of)?))
    }

    fn option<R>(
        &mut self,
        this: &Resource<TcpSocket>,
        f: impl FnOnce(BorrowedFd<'_>) -> Step<R>,
    ) -> Given<R> {
        Ok(self.tcp(this)?.options(f)?)
    }
}

impl tcp_create_socket::Host for Wasi<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> Given<Resource<TcpSocket>> {
        self.opens()?;
        let socket = TcpSocket::new(self.state.network(), family.into())?;
        Ok(self.state.side.table.push(socket)?)
    }
}

impl Host for Wasi<'_> {}

impl HostTcpSocket for Wasi<'_> {
    fn start_bind(
        &mut self,
        this: Resource<TcpSocket>,
        network: Resource<NetworkHandle>,
        local: IpSocketAddress,
    ) -> Given<()> {
        self.state.side.table.get(&network)?;
        Ok(self.tcp(&this)?.start_bind(local.into())?)
    }

    fn finish_bind(&mut self, this: Resource<TcpSocket>) -> Given<()> {
        Ok(self.tcp(&this)?.finish_bind()?)
    }

    fn start_connect(
        &mut self,
        this: Resource<TcpSocket>,
        network: Resource<NetworkHandle>,
        remote: IpSocketAddress,
    ) -> Given<()> {
        self.opens()?;
        self.state.side.table.get(&network)?;
        Ok(self.tcp(&this)?.start_connect(remote.into())?)
    }

    fn finish_connect(&mut self, this: Resource<TcpSocket>) -> Given<Streams> {
        let desk = Arc::clone(&self.state.side.desk);
        let (reader, writer) = self.tcp(&this)?.finish_connect(&desk)?;
        self.streams(&this, reader, writer)
    }

    fn start_listen(&mut self, this: Resource<TcpSocket>) -> Given<()> {
        Ok(self.tcp(&this)?.start_listen()?)
    }

    fn finish_listen(&mut self, this: Resource<TcpSocket>) -> Given<()> {
        Ok(self.tcp(&this)?.finish_listen()?)
    }

    fn accept(&mut self, this: Resource<TcpSocket>) -> Given<Accepted> {
        let desk = Arc::clone(&self.state.side.desk);
        let (socket, reader, writer) = self.tcp(&this)?.accept(&desk)?;
        self.opens()?;
        let socket = self.state.side.table.push(socket)?;
        let (reader, writer) = self.streams(&socket, reader, writer)?;
        Ok((socket, reader, writer))
    }

    fn local_address(&mut self, this: Resource<TcpSocket>) -> Given<IpSocketAddress> {
        Ok(self.tcp(&this)?.local_address()?.into())
    }

    fn remote_address(&mut self, this: Resource<TcpSocket>) -> Given<IpSocketAddress> {
        Ok(self.tcp(&this)?.remote_address()?.into())
    }

    fn is_listening(&mut self, this: Resource<TcpSocket>) -> Result<bool> {
        Ok(self.tcp(&this)?.is_listening())
    }

    fn address_family(&mut self, this: Resource<TcpSocket>) -> Result<IpAddressFamily> {
        Ok(self.tcp(&this)?.family.into())
    }

    fn set_listen_backlog_size(&mut self, this: Resource<TcpSocket>, value: u64) -> Given<()> {
        Ok(self.tcp(&this)?.set_backlog(value)?)
    }

    fn keep_alive_enabled(&mut self, this: Resource<TcpSocket>) -> Given<bool> {
        self.option(&this, options::keep_alive)
    }

    fn set_keep_alive_enabled(&mut self, this: Resource<TcpSocket>, value: bool) -> Given<()> {
        self.option(&this, |socket| options::set_keep_alive(socket, value))
    }

    fn keep_alive_idle_time(&mut self, this: Resource<TcpSocket>) -> Given<Duration> {
        self.option(&this, options::idle_time)
    }

    fn set_keep_alive_idle_time(&mut self, this: Resource<TcpSocket>, value: Duration) -> Given<()> {
        self.option(&this, |socket| options::set_idle_time(socket, value))
    }

    fn keep_alive_interval(&mut self, this: Resource<TcpSocket>) -> Given<Duration> {
        self.option(&this, options::interval)
    }

    fn set_keep_alive_interval(&mut self, this: Resource<TcpSocket>, value: Duration) -> Given<()> {
        self.option(&this, |socket| options::set_interval(socket, value))
    }

    fn keep_alive_count(&mut self, this: Resource<TcpSocket>) -> Given<u32> {
        self.option(&this, options::count)
    }

    fn set_keep_alive_count(&mut self, this: Resource<TcpSocket>, value: u32) -> Given<()> {
        self.option(&this, |socket| options::set_count(socket, value))
    }

    fn hop_limit(&mut self, this: Resource<TcpSocket>) -> Given<u8> {
        let family = self.tcp(&this)?.family;
        self.option(&this, |socket| options::hop_limit(socket, family))
    }

    fn set_hop_limit(&mut self, this: Resource<TcpSocket>, value: u8) -> Given<()> {
        let family = self.tcp(&this)?.family;
        self.option(&this, |socket| options::set_hop_limit(socket, family, value))
    }

    fn receive_buffer_size(&mut self, this: Resource<TcpSocket>) -> Given<u64> {
        self.option(&this, options::receive_buffer)
    }

    fn set_receive_buffer_size(&mut self, this: Resource<TcpSocket>, value: u64) -> Given<()> {
        self.option(&this, |socket| options::set_receive_buffer(socket, value))
    }

    fn send_buffer_size(&mut self, this: Resource<TcpSocket>) -> Given<u64> {
        self.option(&this, options::send_buffer)
    }

    fn set_send_buffer_size(&mut self, this: Resource<TcpSocket>, value: u64) -> Given<()> {
        self.option(&this, |socket| options::set_send_buffer(socket, value))
    }

    fn subscribe(&mut self, this: Resource<TcpSocket>) -> Result<Resource<DynPollable>> {
        self.enter()?;
        subscribe(&mut self.state.side.table, this)
    }

    fn shutdown(&mut self, this: Resource<TcpSocket>, how: ShutdownType) -> Given<()> {
        let how = match how {
            ShutdownType::Receive => Shutdown::Read,
            ShutdownType::Send => Shutdown::Write,
            ShutdownType::Both => Shutdown::Both,
        };
        Ok(self.tcp(&this)?.shutdown(how)?)
    }

    fn drop(&mut self, this: Resource<TcpSocket>) -> Result<()> {
        self.asks_system()?;
        self.state.side.table.delete(this)?;
        Ok(())
    }
}
