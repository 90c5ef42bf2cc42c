//! Streams over TCP: blocking, without waiting, or async.
//!
//! Invariant: of the calls that wait as futures each direction has one owner, by `&mut` of the stream or of a half, so
//! that at most one future waits for it.

use std::fmt::Display;
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tidegate_abi::poll::{READABLE, WRITABLE};
use tidegate_abi::{names, socket};

use super::{Socket, failed, set_timeout, timeout_of};
use crate::forward::{Forwarding, Pull, Source};
use crate::sys::{self, check, check64};
use crate::task;

/// A connection to somebody else, or one that was made to this app.
///
/// `Read` and `Write` wait, and so do those of `&TcpStream`; [`Self::try_read`] and [`Self::try_write`] do not; for
/// async code there are [`Self::read_async`] and [`Self::send`]. Dropped, it is closed.
///
/// ```
/// use std::io::{Read, Write};
/// use tidegate_sdk::net::TcpStream;
///
/// # let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
/// # let addr = server.local_addr().unwrap();
/// # let serving = std::thread::spawn(move || std::io::copy(&mut &server.accept().unwrap().0, &mut Vec::new()).unwrap());
/// let mut stream = TcpStream::connect(addr)?;
/// stream.write_all(b"hello")?;
/// stream.shutdown(std::net::Shutdown::Write)?;
/// let mut answer = Vec::new();
/// stream.read_to_end(&mut answer)?;
/// # assert_eq!((serving.join().unwrap(), answer.len()), (5, 0));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct TcpStream {
    socket: Arc<Socket>,
    ended: bool,
}

impl TcpStream {
    fn new(socket: Socket) -> Self {
        Self { socket: Arc::new(socket), ended: false }
    }

    /// A connection that the host has accepted.
    pub(crate) fn accepted(handle: u32) -> Self {
        Self::new(Socket::of(handle))
    }

    /// Connects to `host:port`: a name, or an address, one of IPv6 in brackets. A name's addresses are tried in turn.
    ///
    /// ```no_run
    /// use tidegate_sdk::net::TcpStream;
    ///
    /// let database = TcpStream::connect("db.internal:5432")?;
    /// let cache = TcpStream::connect("[2001:db8::7]:6379")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `PermissionDenied` if no rule of the app allows it, `ConnectionRefused`, `HostUnreachable` and the like,
    /// `NotFound` if there is no such name, `TimedOut`, `InvalidInput` if that is no `host:port`.
    pub fn connect(addr: impl Display) -> io::Result<Self> {
        Socket::connect(socket::TCP, &addr.to_string(), None).map(Self::new)
    }

    /// As [`Self::connect`], within `timeout`.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn connect_timeout(addr: impl Display, timeout: Duration) -> io::Result<Self> {
        Socket::connect(socket::TCP, &addr.to_string(), Some(timeout)).map(Self::new)
    }

    /// As [`Self::connect`], for async code. For a limit there is [`task::timeout`].
    ///
    /// ```no_run
    /// use tidegate_sdk::net::TcpStream;
    /// use tidegate_sdk::{Request, Result, task};
    ///
    /// async fn both(_request: Request) -> Result<&'static str> {
    ///     let (users, orders) = (TcpStream::connect_async("users:1"), TcpStream::connect_async("orders:1"));
    ///     let (users, orders) = task::try_join(users, orders).await?;
    ///     # drop((users, orders));
    ///     Ok("both are there\n")
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_async(addr: impl Display) -> io::Result<Self> {
        Socket::connect_async(socket::TCP, &addr.to_string()).await.map(Self::new)
    }

    /// The other end.
    ///
    /// # Errors
    /// If the connection has failed.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.address(socket::PEER)
    }

    /// This end.
    ///
    /// # Errors
    /// If the connection has failed.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.address(socket::LOCAL)
    }

    /// How long a blocking read waits; `None`, as in the beginning, for ever. Past it, it fails with `TimedOut`.
    ///
    /// # Errors
    /// `InvalidInput` for no time at all.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        set_timeout(&self.socket.read_timeout_ns, timeout)
    }

    /// How long a blocking write waits. See [`Self::set_read_timeout`].
    ///
    /// # Errors
    /// As [`Self::set_read_timeout`].
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        set_timeout(&self.socket.write_timeout_ns, timeout)
    }

    /// See [`Self::set_read_timeout`].
    #[must_use]
    pub fn read_timeout(&self) -> Option<Duration> {
        timeout_of(&self.socket.read_timeout_ns)
    }

    /// See [`Self::set_write_timeout`].
    #[must_use]
    pub fn write_timeout(&self) -> Option<Duration> {
        timeout_of(&self.socket.write_timeout_ns)
    }

    /// Reads what is there, at least one byte; 0 at the end.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there yet: [`Self::readable`] tells when.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() { Ok(0) } else { self.socket.try_read(buf) }
    }

    /// Writes what there is room for, and says how much that was.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room: [`Self::writable`] tells when.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() { Ok(0) } else { self.socket.try_write(bytes) }
    }

    /// Waits until [`Self::try_read`] has something to say: bytes, the end, or an error.
    ///
    /// # Errors
    /// Only if waiting itself fails.
    pub fn readable(&self) -> io::Result<()> {
        sys::wait(self.socket.handle, READABLE)
    }

    /// Waits until there is room again, which after full means a good deal of it.
    ///
    /// # Errors
    /// Only if waiting itself fails.
    pub fn writable(&self) -> io::Result<()> {
        sys::wait(self.socket.handle, WRITABLE)
    }

    /// [`Self::readable`] for async code.
    ///
    /// # Errors
    /// As [`Self::readable`].
    pub async fn read_ready(&mut self) -> io::Result<()> {
        task::ready(self.socket.handle, READABLE).await
    }

    /// [`Self::writable`] for async code.
    ///
    /// # Errors
    /// As [`Self::writable`].
    pub async fn write_ready(&mut self) -> io::Result<()> {
        task::ready(self.socket.handle, WRITABLE).await
    }

    /// Reads what is there into `buf`, at least one byte; 0 at the end. Dropped while it waits, it loses nothing.
    ///
    /// ```no_run
    /// use tidegate_sdk::net::TcpStream;
    ///
    /// async fn first_byte(stream: &mut TcpStream) -> std::io::Result<Option<u8>> {
    ///     let mut buf = [0];
    ///     Ok((stream.read_async(&mut buf).await? > 0).then_some(buf[0]))
    /// }
    /// ```
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn read_async(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        read_async(&self.socket, buf).await
    }

    /// Sends all of `bytes`, waiting for room as often as need be. Dropped while it waits, it has sent a part of them,
    /// and nobody knows how much.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        send(&self.socket, bytes).await
    }

    /// Ends one direction or both. `Write` is a clean end that the other side reads as one; `Both` closes at once.
    ///
    /// # Errors
    /// `Unsupported` for `Read` alone: nothing would come of it.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match how {
            Shutdown::Read => Err(io::ErrorKind::Unsupported.into()),
            Shutdown::Write => finish(&self.socket),
            Shutdown::Both => {
                finish(&self.socket)?;
                check(names::CLOSE, sys::close(self.socket.handle)).map(drop).map_err(failed)
            }
        }
    }

    /// Sends all that `from` still has. The bytes are moved inside the host and never pass through this sandbox.
    ///
    /// # Errors
    /// Those of either side.
    pub fn forward(&mut self, from: &mut impl Source) -> io::Result<u64> {
        forward(&self.socket, from)
    }

    /// [`Self::forward`] for async code.
    ///
    /// # Errors
    /// Those of either side.
    pub async fn forward_async(&mut self, from: &mut impl Source) -> io::Result<u64> {
        forward_async(&self.socket, from).await
    }

    /// Both directions apart, to be used at once. The connection is closed when both are dropped.
    ///
    /// ```no_run
    /// use tidegate_sdk::net::TcpStream;
    ///
    /// /// What comes goes back, inside the host.
    /// fn echo(stream: TcpStream) -> std::io::Result<()> {
    ///     let (mut reader, mut writer) = stream.split();
    ///     writer.forward(&mut reader)?;
    ///     writer.finish()
    /// }
    /// ```
    #[must_use]
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        let Self { socket, ended } = self;
        (ReadHalf { socket: Arc::clone(&socket), ended }, WriteHalf { socket })
    }
}

/// The half of a [`TcpStream`] that is read: see [`TcpStream::split`].
#[derive(Debug)]
pub struct ReadHalf {
    socket: Arc<Socket>,
    ended: bool,
}

/// The half of a [`TcpStream`] that is written: see [`TcpStream::split`]. Dropped, it ends nothing: [`Self::finish`]
/// does.
#[derive(Debug)]
pub struct WriteHalf {
    socket: Arc<Socket>,
}

impl ReadHalf {
    /// As [`TcpStream::try_read`].
    ///
    /// # Errors
    /// As there.
    pub fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() { Ok(0) } else { self.socket.try_read(buf) }
    }

    /// As [`TcpStream::read_async`].
    ///
    /// # Errors
    /// As there.
    pub async fn read_async(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        read_async(&self.socket, buf).await
    }

    /// As [`TcpStream::read_ready`].
    ///
    /// # Errors
    /// As there.
    pub async fn ready(&mut self) -> io::Result<()> {
        task::ready(self.socket.handle, READABLE).await
    }
}

impl WriteHalf {
    /// As [`TcpStream::try_write`].
    ///
    /// # Errors
    /// As there.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() { Ok(0) } else { self.socket.try_write(bytes) }
    }

    /// As [`TcpStream::send`].
    ///
    /// # Errors
    /// As there.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        send(&self.socket, bytes).await
    }

    /// As [`TcpStream::write_ready`].
    ///
    /// # Errors
    /// As there.
    pub async fn ready(&mut self) -> io::Result<()> {
        task::ready(self.socket.handle, WRITABLE).await
    }

    /// As [`TcpStream::forward`].
    ///
    /// # Errors
    /// As there.
    pub fn forward(&mut self, from: &mut impl Source) -> io::Result<u64> {
        forward(&self.socket, from)
    }

    /// As [`TcpStream::forward_async`].
    ///
    /// # Errors
    /// As there.
    pub async fn forward_async(&mut self, from: &mut impl Source) -> io::Result<u64> {
        forward_async(&self.socket, from).await
    }

    /// A clean end, which the other side reads as one: a half-close.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn finish(self) -> io::Result<()> {
        finish(&self.socket)
    }
}

fn finish(socket: &Socket) -> io::Result<()> {
    check(names::FINISH, sys::finish(socket.handle, &[])).map(drop).map_err(failed)
}

fn read(socket: &Socket, buf: &mut [u8]) -> io::Result<usize> {
    if buf.is_empty() {
        return Ok(0);
    }
    socket.block(READABLE, &socket.read_timeout_ns, |socket| socket.try_read(buf))
}

fn write(socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() {
        return Ok(0);
    }
    socket.block(WRITABLE, &socket.write_timeout_ns, |socket| socket.try_write(bytes))
}

fn poll_read(socket: &Socket, cx: &Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
    if buf.is_empty() {
        return Poll::Ready(Ok(0));
    }
    task::poll_io(socket.handle, READABLE, cx, || socket.try_read(buf))
}

fn poll_write(socket: &Socket, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    if bytes.is_empty() {
        return Poll::Ready(Ok(0));
    }
    task::poll_io(socket.handle, WRITABLE, cx, || socket.try_write(bytes))
}

async fn read_async(socket: &Socket, buf: &mut [u8]) -> io::Result<usize> {
    let _disarm = task::Disarm(socket.handle, READABLE);
    poll_fn(|cx| poll_read(socket, cx, buf)).await
}

async fn send(socket: &Socket, bytes: &[u8]) -> io::Result<()> {
    let _disarm = task::Disarm(socket.handle, WRITABLE);
    let mut sent = 0;
    while sent < bytes.len() {
        sent += poll_fn(|cx| poll_write(socket, cx, &bytes[sent..])).await?;
    }
    Ok(())
}

fn forward(socket: &Socket, from: &mut impl Source) -> io::Result<u64> {
    let mut forwarding = Forwarding::default();
    sys::until(|waits| forwarding.step(from, socket.handle, waits))
}

async fn forward_async(socket: &Socket, from: &mut impl Source) -> io::Result<u64> {
    let mut forwarding = Forwarding::default();
    task::until(|waits| forwarding.step(from, socket.handle, waits)).await
}

/// What of a socket is moved inside the host.
macro_rules! pull {
    ($($of:ty),*) => {
        $(impl Pull for $of {
            fn handle(&self) -> u32 {
                self.socket.handle
            }

            fn is_ended(&self) -> bool {
                self.ended
            }

            fn forward_to(&mut self, to: u32) -> io::Result<u64> {
                const EVERYTHING: i64 = -1;
                let forwarded = sys::forward(self.socket.handle, to, EVERYTHING);
                let n = check64(names::FORWARD, forwarded).map_err(failed)?;
                self.ended = n == 0;
                Ok(n)
            }
        })*
    };
}

pull!(TcpStream, ReadHalf);

macro_rules! read_write {
    ($(impl Read for $reader:ty;)* $(impl Write for $writer:ty;)*) => {
        $(impl Read for $reader {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                read(&self.socket, buf)
            }
        })*

        $(impl Write for $writer {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                write(&self.socket, bytes)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        })*
    };
}

read_write! {
    impl Read for TcpStream;
    impl Read for &TcpStream;
    impl Read for ReadHalf;
    impl Write for TcpStream;
    impl Write for &TcpStream;
    impl Write for WriteHalf;
}

#[cfg(feature = "futures")]
mod futures {
    use super::{ReadHalf, TcpStream, WriteHalf, finish, poll_read, poll_write};
    use futures_io::{AsyncRead, AsyncWrite};
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    macro_rules! read_write {
        ($(impl AsyncRead for $reader:ty;)* $(impl AsyncWrite for $writer:ty;)*) => {
            $(impl AsyncRead for $reader {
                fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
                    poll_read(&self.socket, cx, buf)
                }
            })*

            /// Closing it is a half-close.
            $(impl AsyncWrite for $writer {
                fn poll_write(
                    self: Pin<&mut Self>,
                    cx: &mut Context<'_>,
                    bytes: &[u8],
                ) -> Poll<io::Result<usize>> {
                    poll_write(&self.socket, cx, bytes)
                }

                fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                    Poll::Ready(Ok(()))
                }

                fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                    Poll::Ready(finish(&self.socket))
                }
            })*
        };
    }

    read_write! {
        impl AsyncRead for TcpStream;
        impl AsyncRead for ReadHalf;
        impl AsyncWrite for TcpStream;
        impl AsyncWrite for WriteHalf;
    }
}
