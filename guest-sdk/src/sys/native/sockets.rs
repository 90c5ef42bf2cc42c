//! Sockets of handlers under test: real ones, with threads that read and write beside the handler, so that it is told
//! what is ready as a host tells it.
//!
//! Handles are the whole process's, since a stream may go to another thread.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tidegate_abi::errno::{self, Errno};
use tidegate_abi::poll::{ERROR, Entry, READABLE, WRITABLE};
use tidegate_abi::socket;

type Outcome<T = usize> = Result<T, Errno>;

const FIRST_HANDLE: u32 = 1 << 20;
const LAST_HANDLE: u32 = 1 << 30;
/// Bytes that wait in one direction.
const PIPE_BYTES: usize = 64 << 10;
const DATAGRAM_BYTES_MAX: usize = 64 << 10;
/// How often a thread that waits for datagrams looks whether anybody still wants them.
const PATIENCE: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Socket {
    is_connected: bool,
    failed: Option<Errno>,
    received: VecDeque<u8>,
    /// Nothing comes after what was received.
    ended: bool,
    to_send: VecDeque<u8>,
    /// Nothing goes after what is to be sent.
    finished: bool,
    tcp: Option<TcpStream>,
    udp: Option<UdpSocket>,
    datagrams: VecDeque<Vec<u8>>,
    local: Option<SocketAddr>,
    peer: Option<SocketAddr>,
}

struct Table {
    next: u32,
    sockets: BTreeMap<u32, Socket>,
    /// What is to be sent yet of those that were closed: their senders take it.
    leaving: BTreeMap<u32, VecDeque<u8>>,
}

static TABLE: Mutex<Table> =
    Mutex::new(Table { next: FIRST_HANDLE, sockets: BTreeMap::new(), leaving: BTreeMap::new() });
static CHANGED: Condvar = Condvar::new();

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pause(table: MutexGuard<'static, Table>) -> MutexGuard<'static, Table> {
    CHANGED.wait(table).unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn is_ours(handle: u32) -> bool {
    (FIRST_HANDLE..LAST_HANDLE).contains(&handle)
}

fn open() -> u32 {
    let mut table = table();
    let handle = table.next;
    table.next += 1;
    table.sockets.insert(handle, Socket::default());
    handle
}

/// What `f` makes of the socket, unless it was closed.
fn with<R>(handle: u32, f: impl FnOnce(&mut Socket) -> Outcome<R>) -> Outcome<R> {
    let result = f(table().sockets.get_mut(&handle).ok_or(errno::EBADF)?);
    CHANGED.notify_all();
    result
}

fn errno_of(error: &io::Error) -> Errno {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => errno::ECONNREFUSED,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => errno::ECONNRESET,
        io::ErrorKind::ConnectionAborted => errno::ECONNABORTED,
        io::ErrorKind::TimedOut => errno::ETIMEDOUT,
        io::ErrorKind::HostUnreachable => errno::EHOSTUNREACH,
        io::ErrorKind::NetworkUnreachable => errno::ENETUNREACH,
        io::ErrorKind::AddrNotAvailable => errno::EADDRNOTAVAIL,
        _ => errno::EIO,
    }
}

fn text(bytes: &[u8]) -> Outcome<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| errno::EINVAL)
}

pub(crate) fn connect(kind: u32, addr: &[u8]) -> Outcome {
    let addr = text(addr)?;
    let port = addr.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_none_or(|port| port == 0) {
        return Err(errno::EINVAL);
    }
    let handle = open();
    thread::spawn(move || match addr.to_socket_addrs() {
        Err(_) => drop(with(handle, |socket| {
            socket.failed = Some(errno::ENOENT);
            Ok(())
        })),
        Ok(addrs) => {
            let addrs: Vec<_> = addrs.collect();
            let done =
                if kind == socket::UDP { serve_udp(handle, &addrs) } else { connect_tcp(handle, &addrs) };
            if let Err(error) = done {
                // One that is closed has nobody to tell.
                let _ = with(handle, |socket| {
                    socket.failed = Some(errno_of(&error));
                    Ok(())
                });
            }
        }
    });
    Ok(handle as usize)
}

fn connect_tcp(handle: u32, addrs: &[SocketAddr]) -> io::Result<()> {
    serve_tcp(handle, TcpStream::connect(addrs)?)
}

/// Has a connection that is there behind a handle; for tests.
pub(crate) fn accept(stream: TcpStream) -> u32 {
    let handle = open();
    register(handle, &stream);
    thread::spawn(move || run_tcp(handle, stream));
    handle
}

fn serve_tcp(handle: u32, stream: TcpStream) -> io::Result<()> {
    register(handle, &stream);
    run_tcp(handle, stream)
}

fn register(handle: u32, stream: &TcpStream) {
    // One that was closed meanwhile is nobody's.
    let _ = with(handle, |socket| {
        socket.local = stream.local_addr().ok();
        socket.peer = stream.peer_addr().ok();
        socket.tcp = stream.try_clone().ok();
        socket.is_connected = true;
        Ok(())
    });
}

/// Reads on one thread and writes on this one, until both are over.
fn run_tcp(handle: u32, stream: TcpStream) -> io::Result<()> {
    let reader = stream.try_clone()?;
    thread::spawn(move || receive(handle, reader));
    send(handle, stream)
}

fn receive(handle: u32, mut stream: TcpStream) {
    let mut buf = vec![0; PIPE_BYTES];
    loop {
        let read = stream.read(&mut buf);
        let mut table = table();
        // One that is full is not read on.
        while table.sockets.get(&handle).is_some_and(|socket| socket.received.len() >= PIPE_BYTES) {
            table = pause(table);
        }
        let Some(socket) = table.sockets.get_mut(&handle) else { return };
        match read {
            Ok(0) => socket.ended = true,
            Ok(n) => socket.received.extend(&buf[..n]),
            Err(error) => socket.failed = Some(errno_of(&error)),
        }
        let is_over = socket.ended || socket.failed.is_some();
        drop(table);
        CHANGED.notify_all();
        if is_over {
            return;
        }
    }
}

fn send(handle: u32, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let mut table = table();
        let bytes: Vec<u8> = loop {
            let Some(socket) = table.sockets.get_mut(&handle) else {
                // It was closed: what is left goes out behind what went before, and then the end.
                let rest: Vec<u8> = table.leaving.remove(&handle).unwrap_or_default().into();
                drop(table);
                stream.write_all(&rest)?;
                return stream.shutdown(Shutdown::Write);
            };
            if !socket.to_send.is_empty() {
                break socket.to_send.drain(..).collect();
            }
            if socket.finished {
                drop(table);
                return stream.shutdown(Shutdown::Write);
            }
            table = pause(table);
        };
        drop(table);
        CHANGED.notify_all();
        stream.write_all(&bytes)?;
    }
}

fn serve_udp(handle: u32, addrs: &[SocketAddr]) -> io::Result<()> {
    let any = if addrs.first().is_some_and(SocketAddr::is_ipv6) { "[::]:0" } else { "0.0.0.0:0" };
    let udp = UdpSocket::bind(any)?;
    udp.connect(addrs)?;
    udp.set_read_timeout(Some(PATIENCE))?;
    let sender = udp.try_clone()?;
    let _ = with(handle, |socket| {
        socket.local = udp.local_addr().ok();
        socket.peer = udp.peer_addr().ok();
        socket.udp = Some(sender);
        socket.is_connected = true;
        Ok(())
    });
    let mut buf = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let received = udp.recv(&mut buf);
        let is_there = with(handle, |socket| {
            match received {
                Ok(n) => socket.datagrams.push_back(buf[..n].to_vec()),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                Err(error) => socket.failed = Some(errno_of(&error)),
            }
            Ok(socket.failed.is_none())
        });
        if is_there != Ok(true) {
            return Ok(());
        }
    }
}

pub(crate) fn resolve(name: &[u8]) -> Outcome {
    let name = text(name)?;
    let handle = open();
    thread::spawn(move || {
        let found = (name.as_str(), 0).to_socket_addrs();
        with(handle, |socket| {
            match found {
                Ok(addrs) => socket.received.extend(addrs.flat_map(|addr| socket::entry(addr.ip()))),
                Err(_) => socket.failed = Some(errno::ENOENT),
            }
            socket.is_connected = true;
            socket.ended = true;
            Ok(())
        })
    });
    Ok(handle as usize)
}

/// What can be read; 0 at the end.
pub(crate) fn peek(handle: u32) -> Outcome {
    with(handle, |socket| socket.readable())
}

pub(crate) fn room(handle: u32) -> Outcome {
    with(handle, |socket| socket.room())
}

impl Socket {
    fn readable(&self) -> Outcome {
        match (self.received.len().max(self.datagrams.len()), self.failed) {
            (0, Some(errno)) => Err(errno),
            (0, None) if self.ended => Ok(0),
            (0, None) => Err(errno::EAGAIN),
            (n, _) => Ok(n),
        }
    }

    fn room(&self) -> Outcome {
        match (self.failed, PIPE_BYTES.saturating_sub(self.to_send.len())) {
            (Some(errno), _) => Err(errno),
            _ if self.finished => Err(errno::EPIPE),
            _ if !self.is_connected => Err(errno::EAGAIN),
            (None, 0) => Err(errno::EAGAIN),
            (None, room) => Ok(room),
        }
    }
}

pub(crate) fn read(handle: u32, buf: &mut [u8]) -> Outcome {
    with(handle, |socket| {
        let n = socket.readable()?;
        if let Some(datagram) = socket.datagrams.pop_front() {
            let n = datagram.len().min(buf.len());
            buf[..n].copy_from_slice(&datagram[..n]);
            return Ok(n);
        }
        let n = n.min(buf.len());
        buf.iter_mut().zip(socket.received.drain(..n)).for_each(|(to, from)| *to = from);
        Ok(n)
    })
}

pub(crate) fn write(handle: u32, bytes: &[u8]) -> Outcome {
    with(handle, |socket| {
        let room = socket.room()?;
        if let Some(udp) = &socket.udp {
            return udp.send(bytes).map_err(|_| errno::EMSGSIZE);
        }
        let n = room.min(bytes.len());
        socket.to_send.extend(&bytes[..n]);
        Ok(n)
    })
}

pub(crate) fn finish(handle: u32) -> Outcome {
    with(handle, |socket| {
        socket.finished = true;
        Ok(0)
    })
}

pub(crate) fn close(handle: u32) -> Outcome {
    let mut table = table();
    let socket = table.sockets.remove(&handle).ok_or(errno::EBADF)?;
    if let Some(stream) = socket.tcp {
        // Who reads is told that nobody does any more; what was written goes out.
        let _ = stream.shutdown(Shutdown::Read);
        if !socket.to_send.is_empty() {
            table.leaving.insert(handle, socket.to_send);
        }
    }
    drop(table);
    CHANGED.notify_all();
    Ok(0)
}

pub(crate) fn error(handle: u32) -> Errno {
    with(handle, |socket| Ok(socket.failed.unwrap_or(0))).unwrap_or(errno::EBADF)
}

pub(crate) fn address(handle: u32, which: u32) -> Outcome<String> {
    with(handle, |socket| {
        let addr = if which == socket::LOCAL { socket.local } else { socket.peer };
        addr.map(|addr| addr.to_string()).ok_or(errno::EAGAIN)
    })
}

pub(crate) fn ready(entry: Entry) -> u16 {
    table().ready(entry)
}

impl Table {
    fn ready(&self, entry: Entry) -> u16 {
        let Some(socket) = self.sockets.get(&entry.handle) else { return ERROR };
        let mut ready = 0;
        if socket.readable() != Err(errno::EAGAIN) {
            ready |= entry.interest & READABLE;
        }
        if socket.room() != Err(errno::EAGAIN) {
            ready |= entry.interest & WRITABLE;
        }
        ready
    }
}

/// Waits until one of those entries that are sockets is ready, or so long.
pub(crate) fn wait(entries: &[Entry], timeout: Duration) {
    let is_none_ready =
        |table: &mut Table| entries.iter().all(|entry| !is_ours(entry.handle) || table.ready(*entry) == 0);
    drop(CHANGED.wait_timeout_while(table(), timeout, is_none_ready));
}
