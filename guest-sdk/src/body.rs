//! The request's body, read as it comes.

use http::HeaderMap;
use std::io::{self, Read};
use tidegate_abi::fields::FieldList;
use tidegate_abi::{errno, poll};

use crate::error::{Error, Result};
use crate::fields::to_map;
use crate::sys::{self, HostError, check};

/// Where readers that collect a whole body stop unless told otherwise, in bytes.
pub const COLLECT_BYTES_MAX: usize = 2 << 20;

/// Bytes that one read asks for while collecting.
const CHUNK_BYTES: usize = 16 << 10;

/// The body of a request.
///
/// `read` waits for bytes; [`Self::try_read`] does not. A client that sends faster than this reads is slowed down by
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
/// ```
#[derive(Debug)]
pub struct RequestBody {
    handle: u32,
    /// From Content-Length, if the client gave one.
    declared_bytes: Option<u64>,
    /// Nothing more will come: the end was read, or there never was a body.
    ended: bool,
    has_body: bool,
}

impl RequestBody {
    pub(crate) fn new(handle: u32, has_body: bool, declared_bytes: Option<u64>) -> Self {
        Self { handle, declared_bytes, ended: !has_body, has_body }
    }

    /// The body's length in bytes if the client declared one: 0 without a body, `None` for a chunked one.
    #[must_use]
    pub fn declared_bytes(&self) -> Option<u64> {
        if self.has_body { self.declared_bytes } else { Some(0) }
    }

    /// True if there is no body (RFC 9112 section 6.3: neither Content-Length nor Transfer-Encoding, or a length of 0).
    #[must_use]
    pub fn is_absent(&self) -> bool {
        !self.has_body
    }

    /// Reads what is there, at least one byte; 0 at the end.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there yet: see [`Self::readable`]. `ConnectionReset` if the client cut it off,
    /// `FileTooLarge` above the app's body limit, `TimedOut` if it came too slowly.
    pub fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.ended || buf.is_empty() {
            return Ok(0);
        }
        let n = check("read", sys::read(self.handle, buf))?;
        self.ended = n == 0;
        Ok(n)
    }

    /// Waits until [`Self::try_read`] has something to say: bytes, the end, or an error.
    ///
    /// # Errors
    /// Only if waiting itself fails.
    pub fn readable(&mut self) -> io::Result<()> {
        if self.ended { Ok(()) } else { sys::wait(self.handle, poll::READABLE) }
    }

    /// The whole body, up to [`COLLECT_BYTES_MAX`].
    ///
    /// # Errors
    /// As [`Self::bytes_limited`].
    pub fn bytes(&mut self) -> Result<Vec<u8>> {
        self.bytes_limited(COLLECT_BYTES_MAX)
    }

    /// The whole body, up to `bytes_max`.
    ///
    /// # Errors
    /// 413 if there is more; 408 or 400 if the client was too slow or went away.
    pub fn bytes_limited(&mut self, bytes_max: usize) -> Result<Vec<u8>> {
        let too_large = || {
            Error::status(http::StatusCode::PAYLOAD_TOO_LARGE, format!("at most {bytes_max} bytes are taken"))
        };
        let declared = usize::try_from(self.declared_bytes().unwrap_or(0)).unwrap_or(usize::MAX);
        if declared > bytes_max {
            return Err(too_large());
        }
        // What a client declares is a promise of the client: memory is taken as bytes come.
        let mut all = Vec::with_capacity(declared.min(CHUNK_BYTES));
        loop {
            let len = all.len();
            // One more than the limit, to see whether there is more.
            all.resize(len + CHUNK_BYTES.min((bytes_max - len).saturating_add(1)), 0);
            let n = self.read(&mut all[len..])?;
            all.truncate(len + n);
            if n == 0 {
                return Ok(all);
            }
            if all.len() > bytes_max {
                return Err(too_large());
            }
        }
    }

    /// The whole body as text, up to [`COLLECT_BYTES_MAX`].
    ///
    /// # Errors
    /// 400 if it is not UTF-8; else as [`Self::bytes_limited`].
    pub fn text(&mut self) -> Result<String> {
        String::from_utf8(self.bytes()?).map_err(|e| {
            Error::status(http::StatusCode::BAD_REQUEST, "the body is not valid UTF-8").with_source(e)
        })
    }

    /// The trailers that followed the body (RFC 9110 section 6.5). They are never merged into the headers.
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

    pub(crate) fn handle(&self) -> u32 {
        self.handle
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// The host read the end on our behalf.
    pub(crate) fn set_ended(&mut self) {
        self.ended = true;
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
