//! A stream of bytes that goes out: a response's body, that of a request to others, a socket's.

use tidegate_abi::errno::{EAGAIN, ECONNRESET, Errno};
use wasip2::io::poll::Pollable;
use wasip2::io::streams::OutputStream;

use super::incoming::{Consume, Incoming};
use super::why;

/// Bytes that one call moves at most: what a host does at once is to be bounded, whatever it permits.
pub(super) const MOVE_BYTES_MAX: u64 = 1 << 20;

/// The resources stand in the order in which they have to go.
pub(super) struct Sink {
    ready: Option<Pollable>,
    stream: OutputStream,
    /// Something was written since the host was last told to send it.
    unflushed: bool,
}

impl Sink {
    pub(super) fn new(stream: OutputStream) -> Self {
        Self { ready: None, stream, unflushed: false }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let permit = self.permit()?;
        let n = usize::try_from(permit.min(MOVE_BYTES_MAX)).unwrap_or(usize::MAX).min(bytes.len());
        self.stream.write(&bytes[..n]).map_err(|error| why(&error))?;
        self.unflushed = true;
        Ok(n)
    }

    /// How much may be written, at least one byte.
    fn permit(&self) -> Result<u64, Errno> {
        match self.stream.check_write() {
            Ok(0) => Err(EAGAIN),
            Ok(permit) => Ok(permit),
            Err(error) => Err(why(&error)),
        }
    }

    /// Has the host move bytes from there to here.
    pub(super) fn forward(&mut self, from: &mut Incoming, of: &impl Consume, max: u64) -> Result<u64, Errno> {
        // What was looked at is here, and goes first.
        if from.is_known() {
            let permit = self.permit()?.min(max);
            let bytes = from.next(of, usize::try_from(permit).unwrap_or(usize::MAX))?;
            self.stream.write(&bytes).map_err(|error| why(&error))?;
            self.unflushed = true;
            return Ok(bytes.len() as u64);
        }
        let Some(stream) = from.stream(of) else { return Err(ECONNRESET) };
        match self.stream.splice(stream, max) {
            Ok(0) => Err(EAGAIN),
            Ok(n) => {
                self.unflushed = true;
                Ok(n)
            }
            Err(error) => {
                // Either side may be the one: a stream that still takes something is not.
                if self.stream.check_write().is_err() {
                    return Err(ECONNRESET);
                }
                from.fail(&error).map(|_| 0)
            }
        }
    }

    /// Has the host send what was written. It does not wait.
    pub(super) fn flush(&mut self) {
        if std::mem::take(&mut self.unflushed) {
            // Whoever writes next hears what is wrong.
            let _ = self.stream.flush();
        }
    }

    /// Sees to it that there is something to wait for.
    pub(super) fn subscribe(&mut self) {
        if self.ready.is_none() {
            self.ready = Some(self.stream.subscribe());
        }
    }

    /// What becomes ready when there is room.
    pub(super) fn pollable(&self) -> Option<&Pollable> {
        self.ready.as_ref()
    }
}
