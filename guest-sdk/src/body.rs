//! The request's body, read as it comes: blocking, without waiting, or async.
//!
//! What this file must never know: how waiting is done. Blocking calls wait in `sys`, async ones in `task`.

use http::HeaderMap;
use std::future::poll_fn;
use std::io::{self, Read};
use std::task::{Context, Poll};
use tidegate_abi::fields::FieldList;
use tidegate_abi::{errno, names, poll};

use crate::error::{Error, Result};
use crate::fields::to_map;
use crate::forward::Pull;
use crate::sys::{self, HostError, check, check64};
use crate::task;

/// Where readers that collect a whole body stop unless told otherwise, in bytes.
pub const COLLECT_BYTES_MAX: usize = 2 << 20;

/// Bytes that one read asks for while collecting.
const CHUNK_BYTES: usize = 16 << 10;

/// What reading past a limit of ours fails with: the same as past the app's.
const TOO_LARGE: HostError = HostError { call: names::READ, errno: errno::EFBIG };

/// The body of a request.
///
/// `read` waits for bytes; [`Self::try_read`] does not; in async code there are [`Self::chunk`] and [`Self::read_async`],
/// which let the handler's other futures run meanwhile. A client that sends faster than this reads is slowed down by
/// TCP, and nothing piles up. Not reading it at all is fine too: the host deals with the rest.
///
/// ```
/// use std::io::{BufRead, BufReader};
/// use tidegate_sdk::{Request, Result};
///
/// fn count_lines(mut request: Request) -> Result<String> {
///     let mut lines = 0;
///     for line in BufReader::new(request.body()).lines() {
///         line?;
///         lines += 1;
///     }
///     Ok(format!("{lines}\n"))
/// }
/// # use tidegate_sdk::test::Exchange;
/// # assert_eq!(Exchange::post("/").chunk("a\nb").chunk("\nc").run(count_lines).text(), "3\n");
/// ```
#[derive(Debug)]
pub struct RequestBody {
    handle: u32,
    /// From Content-Length, if the client gave one.
    declared_bytes: Option<u64>,
    /// Nothing more will come: the end was read, or there never was a body.
    ended: bool,
    has_body: bool,
    /// Bytes that may still be read: see [`Self::set_limit`]. `None` once there were more.
    allowed_bytes: Option<u64>,
}

impl RequestBody {
    pub(crate) fn new(handle: u32, has_body: bool, declared_bytes: Option<u64>) -> Self {
        Self { handle, declared_bytes, ended: !has_body, has_body, allowed_bytes: Some(u64::MAX) }
    }

    /// The body's length in bytes if the client declared one: 0 without a body, `None` for a chunked one.
    ///
    /// ```
    /// use tidegate_sdk::{Error, Request, Result};
    ///
    /// fn upload(mut request: Request) -> Result<String> {
    ///     let body = request.body();
    ///     if body.is_absent() {
    ///         return Err(Error::bad_request("there is nothing to store"));
    ///     }
    ///     Ok(body.declared_bytes().map_or("of unknown length".to_owned(), |n| format!("{n} bytes")))
    /// }
    /// # use tidegate_sdk::test::Exchange;
    /// # Exchange::post("/").run(upload).assert_status(400);
    /// # assert_eq!(Exchange::post("/").body("hello").run(upload).text(), "5 bytes");
    /// # assert_eq!(Exchange::post("/").chunk("hello").run(upload).text(), "of unknown length");
    /// ```
    #[must_use]
    pub fn declared_bytes(&self) -> Option<u64> {
        if self.has_body { self.declared_bytes } else { Some(0) }
    }

    /// True if there is no body (RFC 9112 section 6.3: neither Content-Length nor Transfer-Encoding, or a
    /// length of 0). See [`Self::declared_bytes`].
    #[must_use]
    pub fn is_absent(&self) -> bool {
        !self.has_body
    }

    /// Reads what is there, at least one byte; 0 at the end.
    ///
    /// ```
    /// use std::io::ErrorKind;
    /// use tidegate_sdk::{RequestBody, Result};
    ///
    /// fn first_piece(body: &mut RequestBody) -> Result<Vec<u8>> {
    ///     let mut buf = vec![0; 1024];
    ///     loop {
    ///         match body.try_read(&mut buf) {
    ///             // Something else could be done here first.
    ///             Err(error) if error.kind() == ErrorKind::WouldBlock => body.readable()?,
    ///             done => return Ok(buf[..done?].to_vec()),
    ///         }
    ///     }
    /// }
    /// # use tidegate_sdk::{Request, test::Exchange};
    /// # let exchange = Exchange::post("/").chunk("hel").chunk("lo");
    /// # assert_eq!(exchange.run(|mut request: Request| first_piece(request.body())).text(), "hel");
    /// ```
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there yet: see [`Self::readable`]. `ConnectionReset` if the client cut it off,
    /// `FileTooLarge` above the app's body limit, `TimedOut` if it came too slowly.
    pub fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.ended || buf.is_empty() {
            return Ok(0);
        }
        let allowed_bytes = self.allowed_bytes.ok_or(TOO_LARGE)?;
        // One more than is allowed, to see whether there is more.
        let room = usize::try_from(allowed_bytes.saturating_add(1)).unwrap_or(usize::MAX).min(buf.len());
        let n = check(names::READ, sys::read(self.handle, &mut buf[..room]))?;
        self.ended = n == 0;
        self.allowed_bytes = allowed_bytes.checked_sub(n as u64);
        if self.allowed_bytes.is_none() { Err(TOO_LARGE.into()) } else { Ok(n) }
    }

    /// Lowers the limit: reading or forwarding past `bytes_max` more bytes than were read so far fails with
    /// `FileTooLarge`, which becomes a 413. Of several limits the lowest holds; that of the app holds in any case.
    ///
    /// ```
    /// use tidegate_sdk::{Request, Result, test::Exchange};
    ///
    /// fn note(mut request: Request) -> Result<String> {
    ///     request.body().set_limit(140);
    ///     request.body().text()
    /// }
    /// assert_eq!(Exchange::post("/").body("short").run(note).text(), "short");
    /// Exchange::post("/").body("x".repeat(141)).run(note).assert_status(413);
    /// ```
    pub fn set_limit(&mut self, bytes_max: u64) {
        self.allowed_bytes = self.allowed_bytes.map(|allowed| allowed.min(bytes_max));
    }

    /// Waits until [`Self::try_read`] has something to say: bytes, the end, or an error. See
    /// [`Self::try_read`] for an example.
    ///
    /// # Errors
    /// Only if waiting itself fails.
    pub fn readable(&mut self) -> io::Result<()> {
        if self.ended { Ok(()) } else { sys::wait(self.handle, poll::READABLE) }
    }

    /// The whole body, up to [`COLLECT_BYTES_MAX`].
    ///
    /// ```
    /// use tidegate_sdk::{Request, Result};
    ///
    /// fn echo(mut request: Request) -> Result<Vec<u8>> {
    ///     request.body().bytes()
    /// }
    /// # assert_eq!(tidegate_sdk::test::Exchange::post("/").body([1, 2, 3]).run(echo).body, [1, 2, 3]);
    /// ```
    ///
    /// # Errors
    /// As [`Self::bytes_limited`].
    pub fn bytes(&mut self) -> Result<Vec<u8>> {
        self.bytes_limited(COLLECT_BYTES_MAX)
    }

    /// The whole body, up to `bytes_max`.
    ///
    /// ```
    /// use tidegate_sdk::{Request, test::Exchange};
    ///
    /// let echo = |mut request: Request| request.body().bytes_limited(4);
    /// assert_eq!(Exchange::post("/").body("1234").run(echo).text(), "1234");
    /// Exchange::post("/").body("12345").run(echo).assert_status(413);
    /// ```
    ///
    /// # Errors
    /// 413 if there is more; 408 or 400 if the client was too slow or went away.
    pub fn bytes_limited(&mut self, bytes_max: usize) -> Result<Vec<u8>> {
        let mut collected = Collected::new(self.declared_bytes(), bytes_max)?;
        loop {
            let n = self.read(collected.room())?;
            if collected.took(n)? {
                return Ok(collected.all);
            }
        }
    }

    /// The whole body as text, up to [`COLLECT_BYTES_MAX`].
    ///
    /// ```
    /// use tidegate_sdk::{Request, test::Exchange};
    ///
    /// let echo = |mut request: Request| request.body().text();
    /// assert_eq!(Exchange::post("/").body("hello").run(echo).text(), "hello");
    /// Exchange::post("/").body([0xff]).run(echo).assert_status(400);
    /// ```
    ///
    /// # Errors
    /// 400 if it is not UTF-8; else as [`Self::bytes_limited`].
    pub fn text(&mut self) -> Result<String> {
        utf8(self.bytes()?)
    }

    /// The next piece of the body, as soon as there is one; `None` at the end. Pieces are as they came, at most 16 KiB.
    ///
    /// Dropped while it waits, it loses nothing.
    ///
    /// ```
    /// use tidegate_sdk::{Request, Result};
    ///
    /// async fn count(mut request: Request) -> Result<String> {
    ///     let mut bytes = 0;
    ///     while let Some(chunk) = request.body().chunk().await? {
    ///         bytes += chunk.len();
    ///     }
    ///     Ok(format!("{bytes}\n"))
    /// }
    /// # use tidegate_sdk::test::Exchange;
    /// # assert_eq!(Exchange::post("/").chunk("ab").chunk("c").run(count).text(), "3\n");
    /// ```
    ///
    /// # Errors
    /// Those of [`Self::try_read`], except that it waits.
    pub async fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let _disarm = task::Disarm(self.handle, poll::READABLE);
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// Reads what is there into `buf`, at least one byte; 0 at the end. Dropped while it waits, it loses nothing.
    ///
    /// ```
    /// use tidegate_sdk::{Request, Result};
    ///
    /// async fn count_zeros(mut request: Request) -> Result<String> {
    ///     let (mut buf, mut zeros) = ([0; 1024], 0);
    ///     loop {
    ///         match request.body().read_async(&mut buf).await? {
    ///             0 => return Ok(format!("{zeros}\n")),
    ///             n => zeros += buf[..n].iter().filter(|byte| **byte == 0).count(),
    ///         }
    ///     }
    /// }
    /// # use tidegate_sdk::test::Exchange;
    /// # assert_eq!(Exchange::post("/").chunk([0, 1]).chunk([2, 0, 0]).run(count_zeros).text(), "3\n");
    /// ```
    ///
    /// # Errors
    /// Those of [`Self::try_read`], except that it waits.
    pub async fn read_async(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let _disarm = task::Disarm(self.handle, poll::READABLE);
        poll_fn(|cx| self.poll_read_async(cx, buf)).await
    }

    /// Waits until [`Self::try_read`] has something to say: bytes, the end, or an error.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate_sdk::{RequestBody, Result, task};
    ///
    /// /// True if the client sends something within a second.
    /// async fn is_alive(body: &mut RequestBody) -> Result<bool> {
    ///     match task::timeout(Duration::from_secs(1), body.ready()).await {
    ///         Ok(ready) => ready.map(|()| true).map_err(Into::into),
    ///         Err(_) => Ok(false),
    ///     }
    /// }
    /// # use tidegate_sdk::{Request, test::Exchange};
    /// # async fn alive(mut request: Request) -> Result<String> {
    /// #     Ok(is_alive(request.body()).await?.to_string())
    /// # }
    /// # assert_eq!(Exchange::post("/").chunk("hi").run(alive).text(), "true");
    /// # let late = Exchange::post("/").chunk_after(Duration::from_secs(2), "hi");
    /// # assert_eq!(late.run(alive).text(), "false");
    /// ```
    ///
    /// # Errors
    /// Only if waiting itself fails.
    pub async fn ready(&mut self) -> io::Result<()> {
        if self.ended { Ok(()) } else { task::ready(self.handle, poll::READABLE).await }
    }

    /// The whole body, up to [`COLLECT_BYTES_MAX`]: [`Self::bytes`] for async code.
    ///
    /// ```
    /// use tidegate_sdk::{Request, Result};
    ///
    /// async fn echo(mut request: Request) -> Result<Vec<u8>> {
    ///     request.body().collect().await
    /// }
    /// # assert_eq!(tidegate_sdk::test::Exchange::post("/").body([1, 2, 3]).run(echo).body, [1, 2, 3]);
    /// ```
    ///
    /// # Errors
    /// As [`Self::bytes_limited`].
    pub async fn collect(&mut self) -> Result<Vec<u8>> {
        self.collect_limited(COLLECT_BYTES_MAX).await
    }

    /// The whole body, up to `bytes_max`: [`Self::bytes_limited`] for async code.
    ///
    /// ```
    /// use tidegate_sdk::{Request, Result, test::Exchange};
    ///
    /// async fn echo(mut request: Request) -> Result<Vec<u8>> {
    ///     request.body().collect_limited(4).await
    /// }
    /// assert_eq!(Exchange::post("/").body("1234").run(echo).text(), "1234");
    /// Exchange::post("/").body("12345").run(echo).assert_status(413);
    /// ```
    ///
    /// # Errors
    /// As [`Self::bytes_limited`].
    pub async fn collect_limited(&mut self, bytes_max: usize) -> Result<Vec<u8>> {
        let mut collected = Collected::new(self.declared_bytes(), bytes_max)?;
        loop {
            let n = self.read_async(collected.room()).await?;
            if collected.took(n)? {
                return Ok(collected.all);
            }
        }
    }

    /// The whole body as text, up to [`COLLECT_BYTES_MAX`]: [`Self::text`] for async code.
    ///
    /// ```
    /// use tidegate_sdk::{Request, Result};
    ///
    /// async fn shout(mut request: Request) -> Result<String> {
    ///     Ok(request.body().collect_text().await?.to_uppercase())
    /// }
    /// # assert_eq!(tidegate_sdk::test::Exchange::post("/").body("hello").run(shout).text(), "HELLO");
    /// ```
    ///
    /// # Errors
    /// As [`Self::text`].
    pub async fn collect_text(&mut self) -> Result<String> {
        utf8(self.collect().await?)
    }

    pub(crate) fn poll_read_async(&mut self, cx: &Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        task::poll_io(self.handle, poll::READABLE, cx, || self.try_read(buf))
    }

    pub(crate) fn poll_chunk(&mut self, cx: &Context<'_>) -> Poll<io::Result<Option<Vec<u8>>>> {
        task::poll_io(self.handle, poll::READABLE, cx, || {
            if self.ended {
                return Ok(None);
            }
            let mut chunk = vec![0; CHUNK_BYTES];
            let n = self.try_read(&mut chunk)?;
            chunk.truncate(n);
            // Who keeps small pieces must not keep large buffers.
            if n < CHUNK_BYTES / 2 {
                chunk.shrink_to_fit();
            }
            Ok((n > 0).then_some(chunk))
        })
    }

    /// The trailers that followed the body (RFC 9110 section 6.5). They are never merged into the headers.
    ///
    /// ```
    /// use tidegate_sdk::{Request, Result, test::Exchange};
    ///
    /// fn sum(mut request: Request) -> Result<String> {
    ///     request.body().bytes()?;
    ///     let trailers = request.body().trailers()?;
    ///     Ok(trailers.get("checksum").and_then(|sum| sum.to_str().ok()).unwrap_or("none").to_owned())
    /// }
    /// assert_eq!(Exchange::post("/").chunk("data").trailer("checksum", "a1b2").run(sum).text(), "a1b2");
    /// ```
    ///
    /// # Errors
    /// `WouldBlock` before the body was read to its end.
    pub fn trailers(&mut self) -> io::Result<HeaderMap> {
        if !self.has_body {
            return Ok(HeaderMap::new());
        }
        let packed = sys::collect("trailers", 256, |buf| sys::trailers(self.handle, buf))?;
        let list = FieldList::parse(&packed).ok_or(HostError { call: "trailers", errno: errno::EIO })?;
        Ok(to_map(list))
    }
}

impl Pull for RequestBody {
    fn handle(&self) -> u32 {
        self.handle
    }

    fn is_ended(&self) -> bool {
        self.ended
    }

    fn forward_to(&mut self, to: u32) -> io::Result<u64> {
        let max = match self.allowed_bytes.ok_or(TOO_LARGE)? {
            // Nothing more may leave, so the byte that would be too many is asked for here.
            0 => return self.try_read(&mut [0]).map(|_| 0),
            allowed_bytes => i64::try_from(allowed_bytes).unwrap_or(-1),
        };
        let n = check64("forward", sys::forward(self.handle, to, max))?;
        self.ended = n == 0;
        self.allowed_bytes = self.allowed_bytes.map(|allowed| allowed.saturating_sub(n));
        Ok(n)
    }

    fn trailers(&mut self) -> io::Result<HeaderMap> {
        // A body of known length has none (RFC 9112 section 7.1.2), and need not be asked.
        if self.declared_bytes.is_some() { Ok(HeaderMap::new()) } else { Self::trailers(self) }
    }
}

impl Read for RequestBody {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.try_read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable()?,
                done => return done,
            }
        }
    }
}

/// A wait that was begun through the traits of other crates has no other end.
#[cfg(feature = "futures")]
impl Drop for RequestBody {
    fn drop(&mut self) {
        drop(task::Disarm(self.handle, poll::READABLE));
    }
}

fn utf8(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|e| {
        Error::status(http::StatusCode::BAD_REQUEST, "the body is not valid UTF-8").with_source(e)
    })
}

/// A body that is being collected.
struct Collected {
    all: Vec<u8>,
    /// Bytes of `all` that were read.
    len: usize,
    bytes_max: usize,
}

impl Collected {
    fn new(declared_bytes: Option<u64>, bytes_max: usize) -> Result<Self> {
        let declared = usize::try_from(declared_bytes.unwrap_or(0)).unwrap_or(usize::MAX);
        if declared > bytes_max {
            return Err(Self::too_large(bytes_max));
        }
        // What a client declares is a promise of the client: memory is taken as bytes come.
        Ok(Self { all: Vec::with_capacity(declared.min(CHUNK_BYTES)), len: 0, bytes_max })
    }

    fn too_large(bytes_max: usize) -> Error {
        Error::status(http::StatusCode::PAYLOAD_TOO_LARGE, format!("at most {bytes_max} bytes are taken"))
    }

    /// Where to read to.
    fn room(&mut self) -> &mut [u8] {
        // One more than the limit, to see whether there is more.
        self.all.resize(self.len + CHUNK_BYTES.min((self.bytes_max - self.len).saturating_add(1)), 0);
        &mut self.all[self.len..]
    }

    /// `n` bytes were read. True at the end.
    fn took(&mut self, n: usize) -> Result<bool> {
        self.len += n;
        self.all.truncate(self.len);
        if self.len > self.bytes_max { Err(Self::too_large(self.bytes_max)) } else { Ok(n == 0) }
    }
}
