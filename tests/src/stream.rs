//! A blocking socket of either family, with a deadline on every operation.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addr {
    /// IPv4 or IPv6.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A connected socket. Reads and writes that need longer than the deadline fail with `TimedOut`.
pub struct Stream {
    socket: Socket,
    deadline: Instant,
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Connects within `within`, which is also the first deadline.
    pub fn connect(addr: &Addr, within: Duration) -> io::Result<Self> {
        let socket = match addr {
            Addr::Tcp(addr) => {
                let stream = TcpStream::connect_timeout(addr, within)?;
                stream.set_nodelay(true)?;
                Socket::Tcp(stream)
            }
            Addr::Unix(path) => Socket::Unix(UnixStream::connect(path)?),
        };
        Ok(Self { socket, deadline: Instant::now() + within })
    }

    /// Connects with a receive buffer of about `bytes`, so that a slow reader is felt soon by the server.
    pub fn connect_with_receive_buffer(addr: SocketAddr, bytes: usize, within: Duration) -> io::Result<Self> {
        let domain = socket2::Domain::for_address(addr);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.set_recv_buffer_size(bytes)?;
        socket.connect_timeout(&addr.into(), within)?;
        socket.set_tcp_nodelay(true)?;
        Ok(Self { socket: Socket::Tcp(socket.into()), deadline: Instant::now() + within })
    }

    /// What starts now has `within` to end.
    pub fn set_deadline(&mut self, within: Duration) {
        self.deadline = Instant::now() + within;
    }

    /// A second handle on the same socket, with a deadline of its own: one to write from another thread.
    pub fn try_clone(&self) -> io::Result<Self> {
        let socket = match &self.socket {
            Socket::Tcp(stream) => Socket::Tcp(stream.try_clone()?),
            Socket::Unix(stream) => Socket::Unix(stream.try_clone()?),
        };
        Ok(Self { socket, deadline: self.deadline })
    }

    /// Says that nothing more will be sent (a half-close).
    pub fn shutdown_write(&self) -> io::Result<()> {
        match &self.socket {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    /// Closes with a reset instead of an orderly end (TCP only).
    pub fn reset(self) -> io::Result<()> {
        if let Socket::Tcp(stream) = &self.socket {
            socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
        }
        Ok(())
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::Error::new(ErrorKind::TimedOut, "deadline passed")) } else { Ok(left) }
    }
}

/// A socket's own timeout is reported as `WouldBlock`; nobody here uses non-blocking sockets.
fn named(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => io::Error::new(ErrorKind::TimedOut, "deadline passed"),
        _ => error,
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = Some(self.left()?);
        match &mut self.socket {
            Socket::Tcp(stream) => stream.set_read_timeout(left).and_then(|()| stream.read(buf)),
            Socket::Unix(stream) => stream.set_read_timeout(left).and_then(|()| stream.read(buf)),
        }
        .map_err(named)
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let left = Some(self.left()?);
        match &mut self.socket {
            Socket::Tcp(stream) => stream.set_write_timeout(left).and_then(|()| stream.write(buf)),
            Socket::Unix(stream) => stream.set_write_timeout(left).and_then(|()| stream.write(buf)),
        }
        .map_err(named)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
        }
    }
}
