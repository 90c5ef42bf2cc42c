//! Datagrams to and from one peer.

use std::fmt::Display;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tidegate_abi::poll::{READABLE, WRITABLE};
use tidegate_abi::socket;

use super::{Socket, set_timeout, timeout_of};
use crate::task;

/// Datagrams to and from one peer, each sent and received whole.
///
/// ```
/// use tidegate_sdk::net::UdpSocket;
///
/// # let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
/// # let addr = server.local_addr().unwrap();
/// # let serving = std::thread::spawn(move || {
/// #     let mut buf = [0; 10];
/// #     let (n, from) = server.recv_from(&mut buf).unwrap();
/// #     server.send_to(&buf[..n], from).unwrap();
/// # });
/// let socket = UdpSocket::connect(addr)?;
/// socket.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
/// socket.send(b"ping")?;
/// let mut answer = [0; 512];
/// let n = socket.recv(&mut answer)?;
/// # assert_eq!(&answer[..n], b"ping");
/// # serving.join().unwrap();
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
}

impl UdpSocket {
    /// A socket for datagrams to and from `host:port`, as [`TcpStream::connect`](super::TcpStream::connect) takes it.
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// `PermissionDenied` if no rule of the app allows it (`udp:host:port`), `NotFound` if there is no such name.
    pub fn connect(addr: impl Display) -> io::Result<Self> {
        Socket::connect(socket::UDP, &addr.to_string(), None).map(|socket| Self { socket })
    }

    /// As [`Self::connect`], for async code.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_async(addr: impl Display) -> io::Result<Self> {
        Socket::connect_async(socket::UDP, &addr.to_string()).await.map(|socket| Self { socket })
    }

    /// The peer.
    ///
    /// # Errors
    /// If the socket has failed.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.address(socket::PEER)
    }

    /// This end.
    ///
    /// # Errors
    /// If the socket has failed.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.address(socket::LOCAL)
    }

    /// How long [`Self::recv`] waits; `None`, as in the beginning, for ever. A datagram may be lost: set one.
    ///
    /// # Errors
    /// `InvalidInput` for no time at all.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        set_timeout(&self.socket.read_timeout_ns, timeout)
    }

    /// See [`Self::set_read_timeout`].
    #[must_use]
    pub fn read_timeout(&self) -> Option<Duration> {
        timeout_of(&self.socket.read_timeout_ns)
    }

    /// Sends a datagram if there is room for it.
    ///
    /// # Errors
    /// `WouldBlock` if there is not; `InvalidInput` if it is too large for one.
    pub fn try_send(&self, datagram: &[u8]) -> io::Result<usize> {
        self.socket.try_write(datagram)
    }

    /// Receives a datagram if one is there. What `buf` has no room for is lost.
    ///
    /// # Errors
    /// `WouldBlock` if none is there.
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.try_read(buf)
    }

    /// Sends a datagram. See [`UdpSocket`] for an example.
    ///
    /// # Errors
    /// As [`Self::try_send`], except that it waits.
    pub fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        self.socket.block(WRITABLE, &self.socket.write_timeout_ns, |socket| socket.try_write(datagram))
    }

    /// Receives a datagram.
    ///
    /// # Errors
    /// As [`Self::try_recv`], except that it waits.
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.block(READABLE, &self.socket.read_timeout_ns, |socket| socket.try_read(buf))
    }

    /// [`Self::send`] for async code.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn send_async(&mut self, datagram: &[u8]) -> io::Result<usize> {
        let socket = &self.socket;
        let _disarm = task::Disarm(socket.handle, WRITABLE);
        poll_fn(|cx| task::poll_io(socket.handle, WRITABLE, cx, || socket.try_write(datagram))).await
    }

    /// [`Self::recv`] for async code. Dropped while it waits, it loses nothing.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use tidegate_sdk::net::UdpSocket;
    /// use tidegate_sdk::{Request, Result, task};
    ///
    /// async fn ask(_request: Request) -> Result<Vec<u8>> {
    ///     let mut socket = UdpSocket::connect_async("time.internal:123").await?;
    ///     socket.send_async(b"what time is it?").await?;
    ///     let mut answer = vec![0; 512];
    ///     let n = task::timeout(Duration::from_secs(1), socket.recv_async(&mut answer)).await??;
    ///     answer.truncate(n);
    ///     Ok(answer)
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`Self::recv`].
    pub async fn recv_async(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let socket = &self.socket;
        let _disarm = task::Disarm(socket.handle, READABLE);
        poll_fn(|cx| task::poll_io(socket.handle, READABLE, cx, || socket.try_read(buf))).await
    }
}
