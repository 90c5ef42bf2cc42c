//! One accepted socket, edge-triggered.
//!
//! A socket is registered once for both directions. What the last event said is remembered here, and a direction is
//! masked when the kernel has said "would block": interest and readiness change together.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};

use mio::event::{Event, Source};
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry};
use rustix::io::Errno;
use rustix::ioctl;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};

/// Asks for the bytes in a socket's send queue (tcp(7)).
const SIOCOUTQ: ioctl::Opcode = 0x5411;

/// What became of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// So many bytes; the socket may hold more.
    Some(usize),
    /// So many bytes, and the socket is empty.
    Last(usize),
    /// Nothing for now.
    WouldBlock,
    /// The peer has ended its side.
    Eof,
}

/// The socket behind a connection.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What is known of the socket's readiness.
#[derive(Clone, Copy, Debug, Default)]
struct Ready {
    read: bool,
    write: bool,
    /// The peer has ended its side, or more: a short read does not mean that the socket is empty.
    ended: bool,
    /// The socket is dead in both directions.
    dead: bool,
}

/// An accepted socket and its readiness.
#[derive(Debug)]
pub(crate) struct Transport {
    socket: Socket,
    ready: Ready,
}

impl Transport {
    /// A fresh socket is taken to be writable, and readable until a read says otherwise.
    pub(crate) fn new(socket: Socket) -> Self {
        Self { socket, ready: Ready { read: true, write: true, ..Ready::default() } }
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: mio::Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match &mut self.socket {
            Socket::Tcp(s) => s.register(registry, token, both),
            Socket::Unix(s) => s.register(registry, token, both),
        }
    }

    /// Takes in what an event says.
    pub(crate) fn arm(&mut self, event: &Event) {
        self.ready.read |= event.is_readable() || event.is_read_closed();
        self.ready.write |= event.is_writable();
        self.ready.ended |= event.is_read_closed();
        self.ready.dead |= event.is_error() || event.is_write_closed();
    }

    pub(crate) fn is_readable(&self) -> bool {
        self.ready.read
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.ready.write
    }

    /// The peer has said that it will send nothing more; bytes may still be there to read.
    pub(crate) fn peer_ended(&self) -> bool {
        self.ready.ended
    }

    /// Reset or hung up.
    pub(crate) fn is_dead(&self) -> bool {
        self.ready.dead
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(s) => s.as_fd(),
            Socket::Unix(s) => s.as_fd(),
        }
    }

    /// Receives into `buf`, which is not empty.
    ///
    /// The system is called directly: the C library's wrappers make every call a cancellation point.
    pub(crate) fn receive(&mut self, buf: &mut [u8]) -> io::Result<Received> {
        let room = buf.len();
        loop {
            match recv(self.fd(), &mut *buf, RecvFlags::empty()).map(|(n, _)| n) {
                Ok(0) => {
                    self.ready.read = false;
                    return Ok(Received::Eof);
                }
                Ok(n) if n < room && !self.ready.ended => {
                    self.ready.read = false;
                    return Ok(Received::Last(n));
                }
                Ok(n) => return Ok(Received::Some(n)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.ready.read = false;
                    return Ok(Received::WouldBlock);
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Sends what it can of `slices` in one call. 0: the socket takes no more for now.
    pub(crate) fn send(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let wanted: usize = slices.iter().map(|s| s.len()).sum();
        loop {
            let result = match slices {
                [one] => send(self.fd(), one, SendFlags::NOSIGNAL),
                many => sendmsg(self.fd(), many, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL),
            };
            match result {
                Ok(n) => {
                    if n < wanted {
                        self.ready.write = false;
                    }
                    return Ok(n);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.ready.write = false;
                    return Ok(0);
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Bytes that were sent and that the peer has not acknowledged yet, as the system counts them.
    #[allow(unsafe_code)]
    pub(crate) fn unacknowledged(&self) -> Option<u64> {
        // SAFETY: SIOCOUTQ writes one int, which is what the getter makes room for.
        let count = unsafe {
            let get = ioctl::Getter::<SIOCOUTQ, std::ffi::c_int>::new();
            ioctl::ioctl(self.fd(), get)
        };
        count.ok().and_then(|n| u64::try_from(n).ok())
    }

    /// Ends the sending side. An error means that the peer is gone, which is as good.
    pub(crate) fn end(&mut self) {
        let _ = match &self.socket {
            Socket::Tcp(s) => s.shutdown(Shutdown::Write),
            Socket::Unix(s) => s.shutdown(Shutdown::Write),
        };
    }

    /// Makes the close that follows a reset rather than a clean end, so that a body that ends with the connection
    /// is seen to be cut off.
    pub(crate) fn abort(&mut self) {
        if let Socket::Tcp(s) = &self.socket {
            let _ = socket2::SockRef::from(s).set_linger(Some(std::time::Duration::ZERO));
        }
    }
}
