//! The body of a response to a request to somebody else, read as it comes while the rest of the request is sent.

use http::HeaderMap;
use std::io::{self, Read};
#[cfg(feature = "futures")]
use std::task::{Context, Poll};
use tidegate_abi::fields::FieldList;
use tidegate_abi::poll::{Entry, READABLE};
use tidegate_abi::{errno, names};

use super::upload::Upload;
use super::{Error, ErrorKind};
use crate::fields::to_map;
use crate::forward::Pull;
use crate::sys::{self, HostError, Waits, check, check64};
use crate::task;

/// Bytes that one read asks for while collecting.
const CHUNK_BYTES: usize = 16 << 10;

/// What the host gives is checked, and never trusted to be right.
pub(super) fn unreadable() -> Error {
    Error::new(ErrorKind::Other, "the host gave a list of fields that cannot be read")
}

/// The body of a response to a request to somebody else.
///
/// `read` waits for bytes; [`Self::try_read`] does not; in async code there are [`Self::chunk`] and
/// [`Self::read_async`]. If the body of the request is still being sent, that goes on while this is read.
///
/// ```
/// use std::io::{BufRead, BufReader};
/// use tidegate_sdk::http;
///
/// # let _api = tidegate_sdk::test::upstream("http://api.internal", |_| http::Response::new("a\nb\n"));
/// let lines = BufReader::new(http::get("http://api.internal/lines").send()?.into_body()).lines();
/// assert_eq!(lines.count(), 2);
/// # Ok::<(), tidegate_sdk::Error>(())
/// ```
#[derive(Debug)]
pub struct ResponseBody {
    handle: u32,
    pub(super) upload: Upload,
    declared_bytes: Option<u64>,
    ended: bool,
    /// Bytes of the declared ones that were not read yet: who has had them all need not ask for the end.
    left_bytes: u64,
    /// What a wait that was begun through a trait of other crates waits for.
    #[cfg(feature = "futures")]
    waiting: Vec<task::Ready>,
}

impl ResponseBody {
    pub(super) fn new(handle: u32, upload: Upload) -> Self {
        Self {
            handle,
            upload,
            declared_bytes: None,
            ended: false,
            left_bytes: u64::MAX,
            #[cfg(feature = "futures")]
            waiting: Vec::new(),
        }
    }

    /// The head has said how long it is, or has not.
    pub(super) fn declare(&mut self, declared_bytes: Option<u64>) {
        self.declared_bytes = declared_bytes;
        self.left_bytes = declared_bytes.unwrap_or(u64::MAX);
        self.ended = self.left_bytes == 0;
    }

    /// Its length in bytes if that is known.
    #[must_use]
    pub fn declared_bytes(&self) -> Option<u64> {
        self.declared_bytes
    }

    /// Reads what is there, at least one byte; 0 at the end.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there yet; else an [`Error`] inside an [`io::Error`].
    pub fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.upload.step(&mut Waits::new())?;
        self.read_now(buf)
    }

    fn read_now(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.ended || buf.is_empty() {
            return Ok(0);
        }
        let n = self.check(check(names::READ, sys::read(self.handle, buf)))?;
        self.took(n as u64);
        Ok(n)
    }

    fn took(&mut self, n: u64) {
        self.left_bytes = self.left_bytes.saturating_sub(n);
        self.ended = n == 0 || self.left_bytes == 0;
    }

    fn check<T>(&self, result: Result<T, HostError>) -> io::Result<T> {
        result.map_err(|error| match error.errno {
            errno::EAGAIN => io::ErrorKind::WouldBlock.into(),
            _ => Error::of_host(self.handle, error).into(),
        })
    }

    fn step(&mut self, waits: &mut Waits, buf: &mut [u8]) -> io::Result<Option<usize>> {
        if !self.ended {
            self.upload.step(waits)?;
        }
        match self.read_now(buf) {
            Ok(n) => Ok(Some(n)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                waits.push(Entry::new(self.handle, READABLE));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads what is there into `buf`, at least one byte; 0 at the end. Dropped while it waits, it loses nothing.
    ///
    /// # Errors
    /// Those of [`Self::try_read`], except that it waits.
    pub async fn read_async(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        task::until(|waits| self.step(waits, buf)).await
    }

    /// The next piece of the body, as soon as there is one; `None` at the end. Pieces are as they came, at most 16 KiB.
    ///
    /// # Errors
    /// As [`Self::read_async`].
    pub async fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let n = self.read_async(&mut chunk).await?;
        chunk.truncate(n);
        Ok((n > 0).then_some(chunk))
    }

    /// The whole body, up to `bytes_max`.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] if there is more; else how the connection failed.
    pub fn bytes_limited(&mut self, bytes_max: usize) -> Result<Vec<u8>, Error> {
        let mut all = Collecting::new(self.declared_bytes, bytes_max)?;
        loop {
            let n = self.read(all.room()).map_err(Error::of_io)?;
            if all.took(n)? {
                return Ok(all.bytes);
            }
        }
    }

    /// [`Self::bytes_limited`] for async code.
    ///
    /// # Errors
    /// As there.
    pub async fn collect_limited(&mut self, bytes_max: usize) -> Result<Vec<u8>, Error> {
        let mut all = Collecting::new(self.declared_bytes, bytes_max)?;
        loop {
            let n = self.read_async(all.room()).await.map_err(Error::of_io)?;
            if all.took(n)? {
                return Ok(all.bytes);
            }
        }
    }

    /// The trailers that followed the body (RFC 9110 section 6.5).
    ///
    /// # Errors
    /// `WouldBlock` before the body was read to its end.
    pub fn trailers(&mut self) -> io::Result<HeaderMap> {
        let packed = sys::collect(names::TRAILERS, 256, |buf| sys::trailers(self.handle, buf));
        let packed = self.check(packed)?;
        Ok(to_map(FieldList::parse(&packed).ok_or_else(unreadable)?))
    }

    #[cfg(feature = "futures")]
    fn poll_read_async(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut waiting = std::mem::take(&mut self.waiting);
        let read = task::poll_until(&mut waiting, cx, |waits| self.step(waits, buf));
        self.waiting = waiting;
        read
    }
}

impl Read for ResponseBody {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        sys::until(|waits| self.step(waits, buf))
    }
}

#[cfg(feature = "futures")]
impl futures_io::AsyncRead for ResponseBody {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_read_async(cx, buf)
    }
}

impl Pull for ResponseBody {
    fn handle(&self) -> u32 {
        self.handle
    }

    fn is_ended(&self) -> bool {
        self.ended
    }

    fn forward_to(&mut self, to: u32) -> io::Result<u64> {
        const EVERYTHING: i64 = -1;
        match check64(names::FORWARD, sys::forward(self.handle, to, EVERYTHING)) {
            Ok(n) => {
                self.took(n);
                Ok(n)
            }
            Err(error) if error.errno == errno::EAGAIN => Err(io::ErrorKind::WouldBlock.into()),
            // Of the other side, unless this one says that it has failed.
            Err(error) if sys::error(self.handle) == 0 => Err(error.into()),
            Err(error) => Err(Error::of_host(self.handle, error).into()),
        }
    }

    fn trailers(&mut self) -> io::Result<HeaderMap> {
        // A body of known length has none (RFC 9112 section 7.1.2), and need not be asked.
        if self.declared_bytes.is_some() { Ok(HeaderMap::new()) } else { Self::trailers(self) }
    }

    fn beside(&mut self, waits: &mut Waits) -> io::Result<()> {
        self.upload.step(waits)
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        #[cfg(feature = "futures")]
        self.waiting.clear();
        sys::close(self.handle);
    }
}

/// A body that is being collected.
struct Collecting {
    bytes: Vec<u8>,
    len: usize,
    bytes_max: usize,
}

impl Collecting {
    fn new(declared_bytes: Option<u64>, bytes_max: usize) -> Result<Self, Error> {
        let declared = usize::try_from(declared_bytes.unwrap_or(0)).unwrap_or(usize::MAX);
        if declared > bytes_max {
            return Err(Self::too_large(bytes_max));
        }
        // What is declared is a promise of somebody else: memory is taken as bytes come.
        Ok(Self { bytes: Vec::with_capacity(declared.min(CHUNK_BYTES)), len: 0, bytes_max })
    }

    fn too_large(bytes_max: usize) -> Error {
        Error::new(ErrorKind::TooLarge, format!("the body is larger than {bytes_max} bytes"))
    }

    /// Where to read to: one byte beyond the limit, to see whether there is more.
    fn room(&mut self) -> &mut [u8] {
        self.bytes.resize(self.len + CHUNK_BYTES.min((self.bytes_max - self.len).saturating_add(1)), 0);
        &mut self.bytes[self.len..]
    }

    /// `n` bytes were read. True at the end.
    fn took(&mut self, n: usize) -> Result<bool, Error> {
        self.len += n;
        self.bytes.truncate(self.len);
        if self.len > self.bytes_max { Err(Self::too_large(self.bytes_max)) } else { Ok(n == 0) }
    }
}
