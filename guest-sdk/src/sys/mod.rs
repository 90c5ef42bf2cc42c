//! The boundary: the imports of `tidegate_v1`, one safe function each, and how their results become Rust's.
//!
//! Three hosts stand behind it: tidegate's for modules; any host of `wasi:http`, where the SDK is built into a component;
//! and one in memory on all that is not wasm. Nothing above this module knows which, and nothing above it sees an errno.

#[cfg(target_arch = "wasm32")]
mod clock;
#[cfg(all(target_arch = "wasm32", target_env = "p2"))]
pub(crate) mod component;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod native;
#[cfg(all(target_arch = "wasm32", not(target_env = "p2")))]
mod wasm;

#[cfg(all(target_arch = "wasm32", target_env = "p2"))]
pub(crate) use component::*;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::calls::*;
#[cfg(all(target_arch = "wasm32", not(target_env = "p2")))]
pub(crate) use wasm::*;

use std::{fmt, io};
use tidegate_abi::errno::{self, Errno};
use tidegate_abi::poll::Entry;

use crate::time::{WaitLimit, wait_timeout_ns};

/// Larger bodies are streamed at once; smaller ones too if the host says that they are above its high watermark.
pub(crate) const RESPOND_BODY_BYTES_MAX: usize = 1 << 20;

/// An import that said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostError {
    /// Which import.
    pub(crate) call: &'static str,
    /// Its errno, positive.
    pub(crate) errno: Errno,
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (symbol, text) = errno::describe(self.errno);
        write!(f, "{}: {text} ({symbol})", self.call)
    }
}

impl std::error::Error for HostError {}

impl From<HostError> for io::Error {
    fn from(error: HostError) -> Self {
        use io::ErrorKind as Kind;
        let kind = match error.errno {
            // The one that is part of normal work: it must not allocate.
            errno::EAGAIN => return Kind::WouldBlock.into(),
            errno::ECONNRESET => Kind::ConnectionReset,
            errno::ECONNREFUSED => Kind::ConnectionRefused,
            errno::EACCES => Kind::PermissionDenied,
            errno::EHOSTUNREACH => Kind::HostUnreachable,
            errno::ENETUNREACH => Kind::NetworkUnreachable,
            errno::EADDRNOTAVAIL => Kind::AddrNotAvailable,
            errno::ENOENT => Kind::NotFound,
            errno::EBUSY => Kind::ResourceBusy,
            errno::EDQUOT => Kind::QuotaExceeded,
            errno::ECONNABORTED | errno::ECANCELED => Kind::ConnectionAborted,
            errno::EPIPE => Kind::BrokenPipe,
            errno::EINVAL | errno::EMSGSIZE => Kind::InvalidInput,
            errno::EFBIG => Kind::FileTooLarge,
            errno::ETIMEDOUT => Kind::TimedOut,
            errno::ENOSYS | errno::ENOTSUP | errno::EAFNOSUPPORT => Kind::Unsupported,
            _ => Kind::Other,
        };
        Self::new(kind, error)
    }
}

/// A count, or the error that a negative result stands for.
pub(crate) fn check(call: &'static str, result: i32) -> Result<usize, HostError> {
    usize::try_from(result).map_err(|_| HostError { call, errno: result.wrapping_neg() })
}

/// As [`check`], for the import that counts in 64 bits.
pub(crate) fn check64(call: &'static str, result: i64) -> Result<u64, HostError> {
    u64::try_from(result)
        .map_err(|_| HostError { call, errno: Errno::try_from(result.wrapping_neg()).unwrap_or(errno::EIO) })
}

/// Parks until `handle` is ready for `interest`, or has failed.
///
/// # Errors
/// `TimedOut` at the limit on waits, if there is one; past it at once, whatever is ready.
pub(crate) fn wait(handle: u32, interest: u16) -> io::Result<()> {
    wait_for_any(&mut [Entry::new(handle, interest)])
}

/// As [`wait`], until one of `entries` is ready.
pub(crate) fn wait_for_any(entries: &mut [Entry]) -> io::Result<()> {
    let timeout_ns = wait_timeout_ns();
    if timeout_ns == 0 || check("poll", poll(entries, timeout_ns))? == 0 {
        return Err(WaitLimit::error());
    }
    Ok(())
}

/// What an operation in several directions waits for, when it can do nothing more.
pub(crate) type Waits = Vec<Entry>;

/// Tries `op`, which does what it can without waiting, until it is done. What it says it waits for is waited for together:
/// neither side of a conversation ever keeps the other from going on.
pub(crate) fn until<T>(mut op: impl FnMut(&mut Waits) -> io::Result<Option<T>>) -> io::Result<T> {
    let mut waits = Waits::new();
    loop {
        if let Some(done) = op(&mut waits)? {
            return Ok(done);
        }
        wait_for_any(&mut waits)?;
        waits.clear();
    }
}

/// Calls `import` with a buffer until what it writes fits, and returns that. Imports of this shape write nothing and
/// return the length when the buffer is too short.
pub(crate) fn collect(
    call: &'static str,
    first_bytes: usize,
    import: impl Fn(&mut [u8]) -> i32,
) -> Result<Vec<u8>, HostError> {
    let mut buf = vec![0; first_bytes];
    loop {
        let len = check(call, import(&mut buf))?;
        if len <= buf.len() {
            buf.truncate(len);
            return Ok(buf);
        }
        buf = vec![0; len];
    }
}
