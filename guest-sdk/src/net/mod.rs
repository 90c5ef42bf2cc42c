//! Sockets to others: databases, caches, whatever speaks a protocol of its own. For HTTP there is
//! [`crate::http::fetch`].
//!
//! ```no_run
//! use std::io::{BufRead, BufReader, Write};
//! use tidegate_sdk::net::TcpStream;
//! use tidegate_sdk::{Request, Result, config};
//!
//! fn ping(_request: Request) -> Result<String> {
//!     let mut cache = TcpStream::connect(config::var("CACHE")?)?;
//!     cache.write_all(b"PING\r\n")?;
//!     let mut answer = String::new();
//!     BufReader::new(&cache).read_line(&mut answer)?;
//!     Ok(answer)
//! }
//! ```
//!
//! An app reaches nobody unless its manifest says so: `sockets = { connect = ["cache.internal:6379"] }`. Anybody else
//! is [`PermissionDenied`](std::io::ErrorKind::PermissionDenied), and the log names the rule that would allow it.
//!
//! Blocking calls wait without holding up anybody but this handler; in async code their async twins let its other
//! futures run. What is open when the handler returns is closed. In a component all of this is `wasi:sockets`, which is
//! also what [`std::net`] is there. Natively, in tests, sockets are real ones.
//!
//! Errors are [`std::io::Error`]. One that a handler returns with `?` is a 502 for its client, or a 504 if it is
//! [`TimedOut`](std::io::ErrorKind::TimedOut); what exactly went wrong is for the log.

mod lookup;
mod tcp;
mod udp;

pub use crate::forward::Source;
pub use lookup::{lookup, lookup_async};
pub use tcp::{ReadHalf, TcpStream, WriteHalf};
pub use udp::UdpSocket;

use http::StatusCode;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tidegate_abi::poll::{Entry, WRITABLE};
use tidegate_abi::{errno, names, socket};

use crate::sys::{self, HostError, check};
use crate::task;
use crate::time::{WaitLimit, wait_timeout_ns};

/// A socket or a lookup that failed. Apart from [`HostError`], so that the client's own misfortunes are never taken for
/// somebody else's.
#[derive(Debug)]
pub(crate) struct Failed {
    error: HostError,
    /// Whom it was to reach.
    goal: Option<String>,
    /// That is not the form of an address.
    malformed: bool,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.goal {
            Some(goal) if self.malformed => write!(f, "`{goal}` is not HOST:PORT, such as db.example:5432"),
            Some(goal) => write!(f, "{goal}: {}", self.error),
            None => self.error.fmt(f),
        }
    }
}

impl std::error::Error for Failed {}

/// The error that `std` has for it.
fn failed(error: HostError) -> io::Error {
    failed_at(error, None)
}

fn failed_at(error: HostError, goal: Option<&str>) -> io::Error {
    let kind = io::Error::from(error).kind();
    if kind == io::ErrorKind::WouldBlock {
        return kind.into();
    }
    io::Error::new(kind, Failed { error, goal: goal.map(str::to_owned), malformed: false })
}

/// What a client is told of an error of that kind, and no more.
pub(crate) fn blame(kind: io::ErrorKind) -> (StatusCode, &'static str) {
    match kind {
        io::ErrorKind::TimedOut => {
            (StatusCode::GATEWAY_TIMEOUT, "a server that this one depends on was too slow")
        }
        _ => (StatusCode::BAD_GATEWAY, "a server that this one depends on did not answer as it should"),
    }
}

/// An open handle, and how long blocking calls wait for it: nanoseconds, 0 for ever.
#[derive(Debug)]
struct Socket {
    handle: u32,
    read_timeout_ns: AtomicU64,
    write_timeout_ns: AtomicU64,
}

impl Socket {
    fn of(handle: u32) -> Self {
        Self { handle, read_timeout_ns: AtomicU64::new(0), write_timeout_ns: AtomicU64::new(0) }
    }

    /// Begins to connect.
    fn begin(kind: u32, addr: &str) -> io::Result<Self> {
        match check(names::CONNECT, sys::connect(kind, addr.as_bytes())) {
            Ok(handle) => Ok(Self::of(u32::try_from(handle).unwrap_or(u32::MAX))),
            // The host looks at the form before anything else; later it is the system that says so of an address.
            Err(error) if error.errno == errno::EINVAL => {
                let failed = Failed { error, goal: Some(addr.to_owned()), malformed: true };
                Err(io::Error::new(io::ErrorKind::InvalidInput, failed))
            }
            Err(error) => Err(failed_at(error, Some(addr))),
        }
    }

    /// How connecting ended.
    fn ended(&self, addr: &str) -> io::Result<()> {
        match sys::error(self.handle) {
            0 => Ok(()),
            errno => Err(failed_at(HostError { call: names::CONNECT, errno }, Some(addr))),
        }
    }

    fn connect(kind: u32, addr: &str, timeout: Option<Duration>) -> io::Result<Self> {
        let socket = Self::begin(kind, addr)?;
        wait(socket.handle, WRITABLE, timeout.map_or(0, |timeout| nanos(timeout).max(1)))?;
        socket.ended(addr)?;
        Ok(socket)
    }

    async fn connect_async(kind: u32, addr: &str) -> io::Result<Self> {
        let socket = Self::begin(kind, addr)?;
        task::ready(socket.handle, WRITABLE).await?;
        socket.ended(addr)?;
        Ok(socket)
    }

    fn address(&self, which: u32) -> io::Result<SocketAddr> {
        let mut buf = [0; socket::ADDRESS_BYTES_MAX];
        let len = check(names::SOCKET_ADDRESS, sys::socket_address(self.handle, which, &mut buf))
            .map_err(failed)?;
        let text = buf.get(..len).and_then(|text| std::str::from_utf8(text).ok());
        text.and_then(|text| text.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        check(names::READ, sys::read(self.handle, buf)).map_err(failed)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        check(names::WRITE, sys::write(self.handle, bytes)).map_err(failed)
    }

    /// Tries `op` until it gives something other than `WouldBlock`.
    fn block<T>(
        &self,
        interest: u16,
        timeout_ns: &AtomicU64,
        mut op: impl FnMut(&Self) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            match op(self) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait(self.handle, interest, timeout_ns.load(Ordering::Relaxed))?;
                }
                done => return done,
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        #[cfg(feature = "futures")]
        for interest in [tidegate_abi::poll::READABLE, WRITABLE] {
            drop(task::Disarm(self.handle, interest));
        }
        sys::close(self.handle);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// As `std` has it: `None` is for ever, and nothing is no time.
fn set_timeout(timeout_ns: &AtomicU64, timeout: Option<Duration>) -> io::Result<()> {
    if timeout == Some(Duration::ZERO) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a timeout of no time: `None` is for ever"));
    }
    timeout_ns.store(timeout.map_or(0, nanos), Ordering::Relaxed);
    Ok(())
}

fn timeout_of(timeout_ns: &AtomicU64) -> Option<Duration> {
    match timeout_ns.load(Ordering::Relaxed) {
        0 => None,
        ns => Some(Duration::from_nanos(ns)),
    }
}

/// As [`sys::wait`], for so long at most; 0 is for ever.
fn wait(handle: u32, interest: u16, timeout_ns: u64) -> io::Result<()> {
    let limit_ns = wait_timeout_ns();
    let own_ns = if timeout_ns == 0 { i64::MAX } else { i64::try_from(timeout_ns).unwrap_or(i64::MAX) };
    if limit_ns >= 0 && limit_ns <= own_ns || timeout_ns == 0 {
        return sys::wait(handle, interest);
    }
    match check("poll", sys::poll(&mut [Entry::new(handle, interest)], own_ns)) {
        Ok(0) if WaitLimit::is_over() => Err(WaitLimit::error()),
        Ok(0) => Err(failed(HostError { call: "poll", errno: errno::ETIMEDOUT })),
        Ok(_) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}
