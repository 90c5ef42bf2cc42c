//! `wasi:http/types.future-incoming-response` and `incoming-response`: what comes back from elsewhere, and its body as a
//! `wasi:io/streams.input-stream`.

use std::future::poll_fn;
use std::mem::replace;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use wasmtime::Result;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynPollable, InputStream, Pollable, StreamError, subscribe};
use wasmtime_wasi_io::bytes::Bytes;

use super::Http;
use super::errors::failed;
use super::fields::FieldList;
use super::incoming::IncomingBody;
use super::types::{ErrorCode, HostFutureIncomingResponse, HostIncomingResponse};
use crate::guest::cost::{copied, entries, parsed, spend};
use crate::guest::desk::Desk;
use crate::net::http::Call;

/// Bytes that one read gives at most.
const READ_BYTES_MAX: usize = 64 * 1024;

/// `incoming-response`.
#[derive(Debug)]
pub(crate) struct IncomingResponse {
    call: Arc<Call>,
    status: u16,
    headers: FieldList,
    /// The body was taken out.
    consumed: bool,
}

/// `future-incoming-response`.
#[derive(Debug)]
pub(crate) struct FutureIncomingResponse {
    call: Arc<Call>,
    /// The response, or the error, was taken out.
    taken: bool,
}

impl FutureIncomingResponse {
    pub(super) fn new(call: Arc<Call>) -> Self {
        Self { call, taken: false }
    }
}

#[async_trait]
impl Pollable for FutureIncomingResponse {
    async fn ready(&mut self) {
        poll_fn(|cx| if self.taken { Poll::Ready(()) } else { self.call.poll_head(cx).map(drop) }).await;
    }
}

/// The inner result of `get`.
type Response = Result<Resource<IncomingResponse>, ErrorCode>;

impl HostFutureIncomingResponse for Http<'_> {
    fn subscribe(&mut self, response: Resource<FutureIncomingResponse>) -> Result<Resource<DynPollable>> {
        self.enter()?;
        subscribe(&mut self.state.side.table, response)
    }

    fn get(&mut self, response: Resource<FutureIncomingResponse>) -> Result<Option<Result<Response, ()>>> {
        self.enter()?;
        let side = &mut self.state.side;
        let own = side.table.get_mut(&response)?;
        if own.taken {
            return Ok(Some(Err(())));
        }
        let polled = own.call.poll_head(&mut Context::from_waker(Waker::noop()));
        own.taken = polled.is_ready();
        let call = Arc::clone(&own.call);
        match polled {
            Poll::Pending => Ok(None),
            Poll::Ready(Err(failure)) => Ok(Some(Ok(Err(failure.into())))),
            Poll::Ready(Ok(())) => {
                let (status, headers) = call.with_head(|head| {
                    (head.status(), FieldList::received(&self.state.side.desk, head.fields()))
                });
                let headers = headers?;
                let cost = parsed(headers.fields().byte_len()) + entries(headers.fields().len());
                spend(self.state, cost)?;
                let response = IncomingResponse { call, status, headers, consumed: false };
                Ok(Some(Ok(Ok(self.state.side.table.push(response)?))))
            }
        }
    }

    fn drop(&mut self, response: Resource<FutureIncomingResponse>) -> Result<()> {
        self.enter()?;
        self.state.side.table.delete(response)?;
        Ok(())
    }
}

impl HostIncomingResponse for Http<'_> {
    fn status(&mut self, response: Resource<IncomingResponse>) -> Result<u16> {
        self.enter()?;
        Ok(self.state.side.table.get(&response)?.status)
    }

    fn headers(&mut self, response: Resource<IncomingResponse>) -> Result<Resource<FieldList>> {
        self.enter()?;
        let list = &self.state.side.table.get(&response)?.headers;
        spend(self.state, parsed(list.fields().byte_len()) + entries(list.fields().len()))?;
        let list = list.view(&self.state.side.desk)?;
        self.push_list(list)
    }

    fn consume(
        &mut self,
        response: Resource<IncomingResponse>,
    ) -> Result<Result<Resource<IncomingBody>, ()>> {
        self.enter()?;
        let table = &mut self.state.side.table;
        let own = table.get_mut(&response)?;
        if replace(&mut own.consumed, true) {
            return Ok(Err(()));
        }
        let body = IncomingBody::of_response(&own.call);
        Ok(Ok(table.push(body)?))
    }

    fn drop(&mut self, response: Resource<IncomingResponse>) -> Result<()> {
        self.enter()?;
        self.state.side.table.delete(response)?;
        Ok(())
    }
}

/// Reads the response's pipe.
#[derive(Debug)]
pub(super) struct ResponseReader {
    desk: Arc<Desk>,
    call: Arc<Call>,
}

impl ResponseReader {
    pub(super) fn new(desk: &Arc<Desk>, call: &Arc<Call>) -> Self {
        Self { desk: Arc::clone(desk), call: Arc::clone(call) }
    }

    /// Takes up to `max` bytes that are there, copied out if they are `wanted`.
    fn take(&self, max: usize, wanted: bool) -> Result<(Vec<u8>, usize), StreamError> {
        let taken = self.call.with_incoming_pipe(|pipe| {
            let n = pipe.len().min(max).min(READ_BYTES_MAX);
            let mut bytes = Vec::new();
            if wanted {
                bytes.reserve_exact(n);
                for part in pipe.peek() {
                    let room = n - bytes.len();
                    bytes.extend_from_slice(part.get(..room).unwrap_or(part));
                }
            }
            pipe.consume(n);
            (bytes, n, pipe.drained())
        });
        match taken {
            Ok((_, 0, true)) => Err(StreamError::Closed),
            Ok((bytes, n, _)) => {
                self.desk.spend(copied(n)).map_err(StreamError::Trap)?;
                Ok((bytes, n))
            }
            Err(failure) => Err(failed(failure.into())),
        }
    }
}

#[async_trait]
impl InputStream for ResponseReader {
    fn read(&mut self, size: usize) -> Result<Bytes, StreamError> {
        self.take(size, true).map(|(bytes, _)| bytes.into())
    }

    fn skip(&mut self, count: usize) -> Result<usize, StreamError> {
        self.take(count, false).map(|(_, n)| n)
    }
}

#[async_trait]
impl Pollable for ResponseReader {
    async fn ready(&mut self) {
        poll_fn(|cx| self.call.poll_readable(cx)).await;
    }
}
