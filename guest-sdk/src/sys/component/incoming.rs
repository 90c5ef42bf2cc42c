//! A body that comes in, the request's or that of a response to a request of ours, and the trailers behind it; and
//! whatever else is read as a stream of bytes.

use tidegate_abi::errno::{EAGAIN, ECONNRESET, EIO, Errno};
use wasip2::http::types::{ErrorCode, IncomingBody, IncomingRequest, http_error_code};
use wasip2::io::poll::Pollable;
use wasip2::io::streams::{InputStream, StreamError};

use super::errno_of;

/// Bytes that one read asks for at most: a host may take memory for as many as it is asked for.
const READ_BYTES_MAX: usize = 64 << 10;

pub(super) type Fields = Vec<(String, Vec<u8>)>;

/// Who has the body, until it is asked for.
pub(super) trait Consume {
    fn consume(&self) -> Result<IncomingBody, ()>;
}

impl Consume for IncomingRequest {
    fn consume(&self) -> Result<IncomingBody, ()> {
        Self::consume(self)
    }
}

/// Nobody: it was open from the beginning.
pub(super) struct Opened;

impl Consume for Opened {
    fn consume(&self) -> Result<IncomingBody, ()> {
        Err(())
    }
}

/// What is known of the body. The resources stand in the order in which they have to go.
pub(super) struct Incoming {
    ready: Option<Pollable>,
    stream: Option<InputStream>,
    body: Option<IncomingBody>,
    /// Read to see whether there is a body, and not asked for yet.
    peeked: Vec<u8>,
    /// How it ended. A stream says only once why it failed, and after that it looks as if it had ended well.
    end: Option<Result<(), Errno>>,
    /// What the host called the failure.
    code: Option<ErrorCode>,
    trailers: Option<Result<Fields, Errno>>,
}

impl Incoming {
    pub(super) fn new() -> Self {
        Self {
            ready: None,
            stream: None,
            body: None,
            peeked: Vec::new(),
            end: None,
            code: None,
            trailers: None,
        }
    }

    /// One that is there; with the body that it is the stream of, if of any.
    pub(super) fn open(stream: InputStream, body: Option<IncomingBody>) -> Self {
        Self { stream: Some(stream), body, ..Self::new() }
    }

    /// What the host called the failure, if it did.
    pub(super) fn code(&self) -> Option<&ErrorCode> {
        self.code.as_ref()
    }

    /// How it ended, if it has.
    pub(super) fn end(&self) -> Option<Result<(), Errno>> {
        self.end
    }

    /// The stream, opened when it is first asked for. `None` once it has ended.
    pub(super) fn stream(&mut self, request: &impl Consume) -> Option<&InputStream> {
        if self.stream.is_none() && self.end.is_none() {
            match request.consume() {
                Ok(body) => {
                    self.stream = body.stream().ok();
                    self.body = Some(body);
                }
                // Closed before.
                Err(()) => self.end = Some(Err(EIO)),
            }
        }
        self.stream.as_ref()
    }

    /// What is there, without waiting; nothing at the end.
    ///
    /// # Errors
    /// `EAGAIN` if nothing is there yet; else how the body failed, every time.
    pub(super) fn next(&mut self, request: &impl Consume, bytes_max: usize) -> Result<Vec<u8>, Errno> {
        if !self.peeked.is_empty() {
            let rest = self.peeked.split_off(self.peeked.len().min(bytes_max));
            return Ok(std::mem::replace(&mut self.peeked, rest));
        }
        let Some(stream) = self.stream(request) else { return self.ended() };
        match stream.read(bytes_max.min(READ_BYTES_MAX) as u64) {
            Ok(bytes) if bytes.is_empty() => Err(EAGAIN),
            Ok(bytes) => Ok(bytes),
            Err(error) => self.fail(&error),
        }
    }

    fn ended(&self) -> Result<Vec<u8>, Errno> {
        self.end.unwrap_or(Err(EIO)).map(|()| Vec::new())
    }

    /// The stream has said why it gives no more.
    pub(super) fn fail(&mut self, error: &StreamError) -> Result<Vec<u8>, Errno> {
        self.end = Some(match error {
            StreamError::Closed => Ok(()),
            StreamError::LastOperationFailed(error) => {
                self.code = http_error_code(error);
                // A host that gives no reason has lost the connection: nothing else ends a body early without a name.
                Err(self.code.as_ref().map_or(ECONNRESET, errno_of))
            }
        });
        self.ready = None;
        self.stream = None;
        self.ended()
    }

    /// As the import `read`.
    pub(super) fn read(&mut self, request: &impl Consume, buf: &mut [u8]) -> Result<usize, Errno> {
        let bytes = self.next(request, buf.len())?;
        buf[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    /// Whether anything follows the head: bytes, or the chance of some.
    pub(super) fn is_there(&mut self, request: &impl Consume) -> bool {
        if !self.peeked.is_empty() {
            return true;
        }
        let mut first = self.next(request, READ_BYTES_MAX);
        // A host may look no further than its buffer until somebody waits.
        if first == Err(EAGAIN) && self.is_ready(request) {
            first = self.next(request, READ_BYTES_MAX);
        }
        match first {
            Ok(bytes) => {
                self.peeked = bytes;
                !self.peeked.is_empty()
            }
            // What is wrong with it is for whoever reads it.
            Err(_) => true,
        }
    }

    /// Whether reading would not wait.
    pub(super) fn is_ready(&mut self, request: &impl Consume) -> bool {
        self.subscribe(request);
        self.is_known() || self.pollable().is_none_or(Pollable::ready)
    }

    /// Whether reading would not wait, as far as that is known without asking.
    pub(super) fn is_known(&self) -> bool {
        !self.peeked.is_empty() || self.end.is_some()
    }

    /// Sees to it that there is something to wait for.
    pub(super) fn subscribe(&mut self, request: &impl Consume) {
        if self.ready.is_none() {
            self.ready = self.stream(request).map(InputStream::subscribe);
        }
    }

    /// What becomes ready when there is something to read.
    pub(super) fn pollable(&self) -> Option<&Pollable> {
        self.ready.as_ref()
    }

    /// The trailers of a body that was read to its end.
    ///
    /// # Errors
    /// `EAGAIN` before the end; how the body failed, if it did.
    pub(super) fn trailers(&mut self, request: &impl Consume) -> Result<&[(String, Vec<u8>)], Errno> {
        // All but the end may have been read. Nobody asks a client for its body by asking for what is behind it. And
        // the body is only finished when its stream is gone, which is so at the end.
        let begun = self.body.is_some() || self.end.is_some();
        if !begun || self.is_there(request) {
            return Err(self.end.and_then(Result::err).unwrap_or(EAGAIN));
        }
        if self.trailers.is_none() {
            self.trailers = Some(self.body.take().map_or_else(|| Ok(Vec::new()), wait_for_trailers));
        }
        match &self.trailers {
            Some(Ok(fields)) => Ok(fields),
            Some(Err(errno)) => Err(*errno),
            None => Ok(&[]),
        }
    }
}

/// They come with the end of the body, so there is nothing to wait for but the host's own work.
fn wait_for_trailers(body: IncomingBody) -> Result<Fields, Errno> {
    let future = IncomingBody::finish(body);
    loop {
        match future.get() {
            None => future.subscribe().block(),
            Some(Ok(Ok(None)) | Err(())) => return Ok(Vec::new()),
            Some(Ok(Ok(Some(fields)))) => return Ok(fields.entries()),
            Some(Ok(Err(code))) => return Err(errno_of(&code)),
        }
    }
}
