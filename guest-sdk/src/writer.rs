//! A response that is written bit by bit.
//!
//! The types carry the order that HTTP asks for: hints, one head, body, end. Finishing is not dropping: a handler that
//! gives up half-way must not look as if it were done.

use http::HeaderMap;
use std::io::{self, Write};
use tidegate_abi::poll;

use crate::body::RequestBody;
use crate::error::Result;
use crate::fields::packed_map;
use crate::response::{IntoResponse, Response};
use crate::sys::{self, check, check64};

/// The response before its head: what the streaming form of a handler is given.
#[derive(Debug)]
pub struct ResponseWriter {
    handle: u32,
}

impl ResponseWriter {
    pub(crate) fn new(handle: u32) -> Self {
        Self { handle }
    }

    /// Sends `103 Early Hints` (RFC 8297), any number of times before the head. Clients on HTTP/1.0 get none.
    ///
    /// # Errors
    /// A header that may not be sent.
    pub fn early_hints(&mut self, headers: &HeaderMap) -> Result<()> {
        packed_map(headers, |head| check("response_head", sys::response_head(103, head)))
            .map_err(io::Error::from)?;
        Ok(())
    }

    /// Sends the head. If `head` has a body, that is what the body begins with.
    ///
    /// With a Content-Length the body must be as long as that; without, the host frames it.
    ///
    /// # Errors
    /// A header that may not be sent (`Transfer-Encoding`, for one: framing is the host's), or a head above 32 KiB.
    /// Returned by the handler, the error becomes the response.
    pub fn start(self, head: impl IntoResponse) -> Result<BodyWriter> {
        let (mut writer, begin) = head.into_response().start_stream(self.handle).map_err(io::Error::from)?;
        writer.write_all(begin.as_bytes())?;
        Ok(writer)
    }

    /// Sends a whole response, for the cases where there is nothing to stream.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn respond(self, response: impl IntoResponse) -> Result<()> {
        Response::send(response.into_response()).map_err(io::Error::from)?;
        Ok(())
    }
}

/// The response's body, being written.
///
/// `write` waits while the client is slower than the handler; [`Self::try_write`] does not. The host sends what was
/// written whenever the handler waits or its time slice ends, so there is nothing to flush. For many small writes wrap
/// it in a [`std::io::BufWriter`].
///
/// **Call [`Self::finish`].** Dropped without it, the response is cut off and the client sees that it is not whole.
///
/// ```
/// use tidegate_sdk::{BodyWriter, Result};
///
/// /// Skips what a slow client has no room for.
/// fn send_if_room(body: &mut BodyWriter, frame: &[u8]) -> Result<bool> {
///     match body.try_write(frame) {
///         Ok(n) if n == frame.len() => Ok(true),
///         Ok(n) => {
///             std::io::Write::write_all(body, &frame[n..])?;
///             Ok(true)
///         }
///         Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
///         Err(e) => Err(e.into()),
///     }
/// }
/// ```
#[derive(Debug)]
#[must_use = "a body that is dropped without `finish` is cut off"]
pub struct BodyWriter {
    handle: u32,
    finished: bool,
}

impl BodyWriter {
    pub(crate) fn new(handle: u32) -> Self {
        Self { handle, finished: false }
    }

    /// Writes what there is room for, and says how much that was.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room: [`Self::writable`] tells when. `ConnectionReset` if the client is gone,
    /// `FileTooLarge` past the declared Content-Length.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        Ok(check("write", sys::write(self.handle, bytes))?)
    }

    /// The drain event: waits until there is room again, which after full means a good deal of it.
    ///
    /// # Errors
    /// Only if waiting itself fails.
    pub fn writable(&mut self) -> io::Result<()> {
        sys::wait(self.handle, poll::WRITABLE)
    }

    /// Sends all that is left of a request's body, and returns how many bytes that was. They are moved inside the host
    /// and never pass through this sandbox.
    ///
    /// # Errors
    /// Those of [`RequestBody::try_read`] and [`Self::try_write`], except that it waits.
    pub fn forward(&mut self, from: &mut RequestBody) -> io::Result<u64> {
        let mut moved = 0;
        while !from.is_ended() {
            match check64("forward", sys::forward(from.handle(), self.handle, -1)).map_err(io::Error::from) {
                Ok(0) => from.set_ended(),
                Ok(n) => moved += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // One after the other: asked for both at once, the side that is ready would answer at once and for
                    // ever while the other is not.
                    from.readable()?;
                    self.writable()?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(moved)
    }

    /// Ends the response cleanly. The handler may go on after it.
    ///
    /// # Errors
    /// A body shorter than its Content-Length (the connection is then cut), or a client that is gone.
    pub fn finish(self) -> io::Result<()> {
        self.end(&[])
    }

    /// Ends the response cleanly with trailers (RFC 9110 section 6.5). They only reach clients for which the body is
    /// chunked.
    ///
    /// # Errors
    /// As [`Self::finish`]; and for a field that may not be a trailer.
    pub fn finish_with_trailers(self, trailers: HeaderMap) -> io::Result<()> {
        packed_map(&trailers, |packed| self.end(packed))
    }

    fn end(mut self, trailers: &[u8]) -> io::Result<()> {
        check("finish", sys::finish(self.handle, trailers))?;
        self.finished = true;
        Ok(())
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable()?,
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        if !self.finished {
            sys::close(self.handle);
        }
    }
}
