//! The request body as a `wasi:io/streams.input-stream`.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError};
use wasmtime_wasi_io::bytes::Bytes;

use super::errors::failed;
use crate::exchange::RequestBody;
use crate::guest::cost::copied;
use crate::guest::desk::{Desk, Turn, Wish};

/// Bytes that one read gives at most.
const READ_BYTES_MAX: usize = 64 * 1024;

/// Reads the request's pipe.
#[derive(Debug)]
pub(super) struct BodyReader {
    desk: Arc<Desk>,
    turn: Turn,
}

impl BodyReader {
    pub(super) fn new(desk: &Arc<Desk>, turn: Turn) -> Self {
        Self { desk: Arc::clone(desk), turn }
    }

    /// Takes up to `max` bytes that are there. None are: the stream has ended, has failed, or is to be waited for.
    fn take<T>(
        &self,
        max: usize,
        take: impl FnOnce(&mut RequestBody, usize) -> T,
    ) -> Result<Option<T>, StreamError> {
        let Some(exchange) = self.desk.exchange(self.turn) else { return Err(StreamError::Closed) };
        let request = &mut exchange.lock().request;
        request.want();
        let n = request.pipe.len().min(max).min(READ_BYTES_MAX);
        if n > 0 {
            self.desk.spend_of(&exchange, copied(n)).map_err(StreamError::Trap)?;
            return Ok(Some(take(request, n)));
        }
        match request.fault() {
            Some(fault) => Err(failed(fault.into())),
            None if request.pipe.is_ended() && request.pipe.is_empty() => Err(StreamError::Closed),
            None => Ok(None),
        }
    }
}

#[async_trait]
impl InputStream for BodyReader {
    fn read(&mut self, size: usize) -> Result<Bytes, StreamError> {
        let read = self.take(size, |request, n| {
            let mut bytes = Vec::with_capacity(n);
            for part in request.pipe.peek() {
                let room = n - bytes.len();
                bytes.extend_from_slice(part.get(..room).unwrap_or(part));
            }
            request.pipe.consume(n);
            Bytes::from(bytes)
        })?;
        Ok(read.unwrap_or_default())
    }

    fn skip(&mut self, count: usize) -> Result<usize, StreamError> {
        let skipped = self.take(count, |request, n| {
            request.pipe.consume(n);
            n
        })?;
        Ok(skipped.unwrap_or(0))
    }
}

#[async_trait]
impl Pollable for BodyReader {
    async fn ready(&mut self) {
        poll_fn(|_| {
            let Some(exchange) = self.desk.exchange(self.turn) else { return Poll::Ready(()) };
            let mut inner = exchange.lock();
            inner.request.want();
            if inner.request.is_ready() {
                return Poll::Ready(());
            }
            drop(inner);
            self.desk.wish(Wish::Readable);
            Poll::Pending
        })
        .await;
    }
}
