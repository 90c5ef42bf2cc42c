//! Sockets and names, on `wasi:sockets` 0.2: `connect` and `resolve` as a module has them.
//!
//! A name is looked up first, and its addresses are tried in turn; all of that goes on whenever the socket is asked
//! about.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tidegate_abi::errno::{
    EACCES, EADDRNOTAVAIL, EAGAIN, ECONNABORTED, ECONNREFUSED, ECONNRESET, EHOSTUNREACH, EINVAL, EIO, EMFILE,
    EMSGSIZE, ENOENT, ENOSPC, ENOTSUP, ETIMEDOUT, Errno,
};
use tidegate_abi::poll::READABLE;
use tidegate_abi::socket;
use wasip2::io::poll::Pollable;
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::{ResolveAddressStream, resolve_addresses};
use wasip2::sockets::network::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
};
use wasip2::sockets::tcp::{ShutdownType, TcpSocket};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;
use wasip2::sockets::udp::{IncomingDatagramStream, OutgoingDatagram, OutgoingDatagramStream, UdpSocket};
use wasip2::sockets::udp_create_socket::create_udp_socket;

use super::incoming::Incoming;
use super::resource::{Now, Resource};
use super::sink::Sink;

fn errno_of(code: ErrorCode) -> Errno {
    match code {
        ErrorCode::AccessDenied => EACCES,
        ErrorCode::NotSupported => ENOTSUP,
        ErrorCode::InvalidArgument => EINVAL,
        ErrorCode::OutOfMemory => ENOSPC,
        ErrorCode::Timeout => ETIMEDOUT,
        ErrorCode::WouldBlock | ErrorCode::NotInProgress => EAGAIN,
        ErrorCode::NewSocketLimit => EMFILE,
        ErrorCode::AddressNotBindable | ErrorCode::AddressInUse => EADDRNOTAVAIL,
        ErrorCode::RemoteUnreachable => EHOSTUNREACH,
        ErrorCode::ConnectionRefused => ECONNREFUSED,
        ErrorCode::ConnectionReset => ECONNRESET,
        ErrorCode::ConnectionAborted => ECONNABORTED,
        ErrorCode::DatagramTooLarge => EMSGSIZE,
        ErrorCode::NameUnresolvable => ENOENT,
        _ => EIO,
    }
}

fn to_wasi(addr: SocketAddr) -> IpSocketAddress {
    match addr {
        SocketAddr::V4(v4) => {
            let [a, b, c, d] = v4.ip().octets();
            IpSocketAddress::Ipv4(Ipv4SocketAddress { port: v4.port(), address: (a, b, c, d) })
        }
        SocketAddr::V6(v6) => {
            let [a, b, c, d, e, f, g, h] = v6.ip().segments();
            IpSocketAddress::Ipv6(Ipv6SocketAddress {
                port: v6.port(),
                flow_info: v6.flowinfo(),
                address: (a, b, c, d, e, f, g, h),
                scope_id: v6.scope_id(),
            })
        }
    }
}

fn of_wasi_ip(address: IpAddress) -> IpAddr {
    match address {
        IpAddress::Ipv4((a, b, c, d)) => Ipv4Addr::new(a, b, c, d).into(),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => Ipv6Addr::new(a, b, c, d, e, f, g, h).into(),
    }
}

fn of_wasi(addr: IpSocketAddress) -> SocketAddr {
    match addr {
        IpSocketAddress::Ipv4(v4) => SocketAddr::new(of_wasi_ip(IpAddress::Ipv4(v4.address)), v4.port),
        IpSocketAddress::Ipv6(v6) => SocketAddr::new(of_wasi_ip(IpAddress::Ipv6(v6.address)), v6.port),
    }
}

fn family_of(addr: SocketAddr) -> IpAddressFamily {
    if addr.is_ipv4() { IpAddressFamily::Ipv4 } else { IpAddressFamily::Ipv6 }
}

/// Text as it comes to an import.
fn text(bytes: &[u8]) -> Result<&str, Errno> {
    let text = std::str::from_utf8(bytes).map_err(|_| EINVAL)?;
    if text.len() <= socket::NAME_BYTES_MAX { Ok(text) } else { Err(EINVAL) }
}

/// A name that is being looked up. An address is its own.
pub(super) struct Lookup {
    ready: Option<Pollable>,
    stream: Option<ResolveAddressStream>,
    found: VecDeque<IpAddr>,
    failed: Option<Errno>,
}

impl Lookup {
    pub(super) fn begin(name: &[u8]) -> Result<Self, Errno> {
        let name = text(name)?;
        let mut lookup = Self { ready: None, stream: None, found: VecDeque::new(), failed: None };
        match name.parse() {
            Ok(address) => lookup.found.push_back(address),
            Err(_) => {
                lookup.stream = Some(resolve_addresses(&instance_network(), name).map_err(errno_of)?);
            }
        }
        Ok(lookup)
    }

    /// Takes what is there. True once it is over.
    fn go_on(&mut self) -> bool {
        while let Some(stream) = &self.stream {
            match stream.resolve_next_address() {
                Ok(Some(address)) => self.found.push_back(of_wasi_ip(address)),
                Err(ErrorCode::WouldBlock) => {
                    self.ready.get_or_insert_with(|| stream.subscribe());
                    return false;
                }
                end => {
                    self.failed = end.err().map(errno_of);
                    self.ready = None;
                    self.stream = None;
                }
            }
        }
        if self.found.is_empty() && self.failed.is_none() {
            self.failed = Some(ENOENT);
        }
        true
    }
}

impl Resource for Lookup {
    fn advance(&mut self, _interest: u16) -> Now {
        if self.go_on() { Now::Ready } else { Now::Unfinished }
    }

    fn pollable(&self, _interest: u16) -> Option<&Pollable> {
        self.ready.as_ref()
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        if !self.go_on() {
            return Err(EAGAIN);
        }
        if let Some(errno) = self.failed.filter(|_| self.found.is_empty())
            && errno != 0
        {
            return Err(errno);
        }
        // An end that was read stays one.
        self.failed = Some(0);
        let mut len = 0;
        for room in buf.chunks_exact_mut(socket::ENTRY_BYTES) {
            let Some(address) = self.found.pop_front() else { break };
            room.copy_from_slice(&socket::entry(address));
            len += socket::ENTRY_BYTES;
        }
        if len == 0 && !self.found.is_empty() { Err(EINVAL) } else { Ok(len) }
    }

    fn error(&mut self) -> Errno {
        self.failed.unwrap_or(0)
    }
}

/// Where a socket is to go: `host:port`.
struct Goal {
    lookup: Lookup,
    port: u16,
}

impl Goal {
    fn parse(addr: &[u8]) -> Result<Self, Errno> {
        let (host, port) = text(addr)?.rsplit_once(':').ok_or(EINVAL)?;
        let port = port.parse().map_err(|_| EINVAL)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or(EINVAL)?,
            None => host,
        };
        if port == 0 || host.is_empty() {
            return Err(EINVAL);
        }
        Ok(Self { lookup: Lookup::begin(host.as_bytes())?, port })
    }

    /// The next address, once all are there. `None`: none is left.
    fn next(&mut self) -> Option<SocketAddr> {
        self.lookup.found.pop_front().map(|ip| SocketAddr::new(ip, self.port))
    }
}

/// A connection that is being made. The resources stand in the order in which they have to go.
struct Trying {
    ready: Pollable,
    socket: TcpSocket,
}

/// One that is there.
struct Connected {
    incoming: Incoming,
    sink: Option<Sink>,
    socket: TcpSocket,
}

enum State {
    /// No address is being tried.
    Before,
    Trying(Trying),
    Open(Connected),
    Failed(Errno),
}

pub(super) struct Tcp {
    goal: Goal,
    state: State,
    /// Why the last address did not do.
    why: Errno,
}

impl Tcp {
    pub(super) fn begin(addr: &[u8]) -> Result<Self, Errno> {
        let mut tcp = Self { goal: Goal::parse(addr)?, state: State::Before, why: ENOENT };
        tcp.go_on();
        // What can be told at once is: the app may not.
        match tcp.state {
            State::Failed(EACCES) => Err(EACCES),
            _ => Ok(tcp),
        }
    }

    /// Takes the next address; the name's addresses are there.
    fn try_next(&mut self) -> State {
        while let Some(addr) = self.goal.next() {
            let begun = create_tcp_socket(family_of(addr)).and_then(|socket| {
                socket.start_connect(&instance_network(), to_wasi(addr))?;
                Ok(State::Trying(Trying { ready: socket.subscribe(), socket }))
            });
            match begun {
                Ok(trying) => return trying,
                Err(code) => self.why = errno_of(code),
            }
        }
        State::Failed(self.goal.lookup.failed.filter(|_| self.why == ENOENT).unwrap_or(self.why))
    }

    fn go_on(&mut self) {
        loop {
            self.state = match std::mem::replace(&mut self.state, State::Before) {
                State::Before if !self.goal.lookup.go_on() => return,
                State::Before => self.try_next(),
                State::Trying(Trying { ready, socket }) => match socket.finish_connect() {
                    Ok((input, output)) => {
                        drop(ready);
                        let sink = Some(Sink::new(output));
                        State::Open(Connected { incoming: Incoming::open(input, None), sink, socket })
                    }
                    Err(ErrorCode::WouldBlock) => {
                        self.state = State::Trying(Trying { ready, socket });
                        return;
                    }
                    Err(code) => {
                        self.why = errno_of(code);
                        drop(ready);
                        drop(socket);
                        self.try_next()
                    }
                },
                done => {
                    self.state = done;
                    return;
                }
            };
        }
    }

    fn connected(&mut self) -> Result<&mut Connected, Errno> {
        self.go_on();
        match &mut self.state {
            State::Open(connected) => Ok(connected),
            State::Failed(errno) => Err(*errno),
            State::Before | State::Trying(_) => Err(EAGAIN),
        }
    }
}

impl Resource for Tcp {
    fn incoming(&mut self) -> Result<&mut Incoming, Errno> {
        self.connected().map(|connected| &mut connected.incoming)
    }

    fn sink(&mut self) -> Result<&mut Sink, Errno> {
        self.connected()?.sink.as_mut().ok_or(tidegate_abi::errno::EPIPE)
    }

    fn advance(&mut self, interest: u16) -> Now {
        self.go_on();
        let State::Open(connected) = &mut self.state else {
            return if matches!(self.state, State::Failed(_)) { Now::Ready } else { Now::Unfinished };
        };
        if interest == READABLE {
            connected.incoming.subscribe(&super::incoming::Opened);
            return if connected.incoming.is_known() { Now::Ready } else { Now::Waits };
        }
        let Some(sink) = &mut connected.sink else { return Now::Ready };
        sink.subscribe();
        Now::Waits
    }

    fn pollable(&self, interest: u16) -> Option<&Pollable> {
        match &self.state {
            State::Before => self.goal.lookup.ready.as_ref(),
            State::Trying(trying) => Some(&trying.ready),
            State::Open(connected) if interest == READABLE => connected.incoming.pollable(),
            State::Open(connected) => connected.sink.as_ref()?.pollable(),
            State::Failed(_) => None,
        }
    }

    /// A half-close.
    fn finish(&mut self, _trailers: &[u8]) -> Result<(), Errno> {
        let connected = self.connected()?;
        if let Some(mut sink) = connected.sink.take() {
            sink.flush();
        }
        connected.socket.shutdown(ShutdownType::Send).map_err(errno_of)
    }

    fn error(&mut self) -> Errno {
        match &self.state {
            State::Failed(errno) => *errno,
            State::Open(connected) => connected.incoming.end().and_then(Result::err).unwrap_or(0),
            State::Before | State::Trying(_) => 0,
        }
    }

    fn address(&mut self, which: u32) -> Result<SocketAddr, Errno> {
        let socket = &self.connected()?.socket;
        let addr = if which == socket::LOCAL { socket.local_address() } else { socket.remote_address() };
        addr.map(of_wasi).map_err(errno_of)
    }
}

/// What a datagram socket is made of, in the order in which it has to go.
struct Bound {
    receivable: Pollable,
    sendable: Pollable,
    incoming: IncomingDatagramStream,
    outgoing: OutgoingDatagramStream,
    socket: UdpSocket,
}

pub(super) struct Udp {
    goal: Goal,
    state: Option<Result<Bound, Errno>>,
}

impl Udp {
    pub(super) fn begin(addr: &[u8]) -> Result<Self, Errno> {
        let mut udp = Self { goal: Goal::parse(addr)?, state: None };
        udp.go_on();
        match udp.state {
            Some(Err(EACCES)) => Err(EACCES),
            _ => Ok(udp),
        }
    }

    fn go_on(&mut self) {
        if self.state.is_some() || !self.goal.lookup.go_on() {
            return;
        }
        let mut why = self.goal.lookup.failed.unwrap_or(ENOENT);
        while let Some(addr) = self.goal.next() {
            match Self::bind(addr) {
                Ok(bound) => {
                    self.state = Some(Ok(bound));
                    return;
                }
                Err(code) => why = errno_of(code),
            }
        }
        self.state = Some(Err(why));
    }

    fn bind(addr: SocketAddr) -> Result<Bound, ErrorCode> {
        let socket = create_udp_socket(family_of(addr))?;
        let any =
            if addr.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        socket.start_bind(&instance_network(), to_wasi(SocketAddr::new(any, 0)))?;
        loop {
            match socket.finish_bind() {
                // A port of its own is the host's to find; there is nobody to wait for.
                Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
                done => break done?,
            }
        }
        let (incoming, outgoing) = socket.stream(Some(to_wasi(addr)))?;
        Ok(Bound {
            receivable: incoming.subscribe(),
            sendable: outgoing.subscribe(),
            incoming,
            outgoing,
            socket,
        })
    }

    fn bound(&mut self) -> Result<&mut Bound, Errno> {
        self.go_on();
        match &mut self.state {
            None => Err(EAGAIN),
            Some(Ok(bound)) => Ok(bound),
            Some(Err(errno)) => Err(*errno),
        }
    }
}

impl Resource for Udp {
    fn advance(&mut self, _interest: u16) -> Now {
        match self.bound() {
            Ok(_) => Now::Waits,
            Err(EAGAIN) => Now::Unfinished,
            Err(_) => Now::Ready,
        }
    }

    fn pollable(&self, interest: u16) -> Option<&Pollable> {
        match self.state.as_ref() {
            None => self.goal.lookup.ready.as_ref(),
            Some(Ok(bound)) if interest == READABLE => Some(&bound.receivable),
            Some(Ok(bound)) => Some(&bound.sendable),
            Some(Err(_)) => None,
        }
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        let received = self.bound()?.incoming.receive(1).map_err(errno_of)?;
        let datagram = received.into_iter().next().ok_or(EAGAIN)?;
        // What does not fit is lost, as everywhere.
        let len = datagram.data.len().min(buf.len());
        buf[..len].copy_from_slice(&datagram.data[..len]);
        Ok(len)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let bound = self.bound()?;
        if bound.outgoing.check_send().map_err(errno_of)? == 0 {
            return Err(EAGAIN);
        }
        let datagram = OutgoingDatagram { data: bytes.to_vec(), remote_address: None };
        match bound.outgoing.send(&[datagram]).map_err(errno_of)? {
            0 => Err(EAGAIN),
            _ => Ok(bytes.len()),
        }
    }

    fn error(&mut self) -> Errno {
        match &self.state {
            Some(Err(errno)) => *errno,
            _ => 0,
        }
    }

    fn address(&mut self, which: u32) -> Result<SocketAddr, Errno> {
        let socket = &self.bound()?.socket;
        let addr = if which == socket::LOCAL { socket.local_address() } else { socket.remote_address() };
        addr.map(of_wasi).map_err(errno_of)
    }
}
