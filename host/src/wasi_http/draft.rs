//! The body of a response, or of a request to elsewhere, as a component writes it: `wasi:http/types.outgoing-body` and its
//! `output-stream`.
//!
//! A component may write before it has answered, and to the body of a message that it never sends. So a body begins as
//! a draft of its own, as large as the pipe may be full; once its response is the answer, the exchange's pipe takes it
//! over, or once its request was sent, the call's; and its watermarks are what the guest feels.

use std::future::poll_fn;
use std::mem::replace;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tidegate_proto::http1::fields::is_forbidden_trailer;
use tidegate_proto::pipe::Watermarks;
use wasmtime::component::Resource;
use wasmtime::{Result, bail, format_err};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynOutputStream, OutputStream, Pollable, StreamError};
use wasmtime_wasi_io::bytes::Bytes;

use super::Http;
use super::errors::failed;
use super::fields::FieldList;
use super::types::{ErrorCode, HostOutgoingBody};
use crate::exchange::{Field, Refusal, Response, Stage};
use crate::guest::cost::{copied, entries, parsed, spend};
use crate::guest::desk::{Desk, Held, Turn, Wish};
use crate::net::http::{Body, Call, Failure};

/// Bytes that one write may bring where nothing else bounds it: to a response whose content is thrown away.
const WRITE_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug)]
enum State {
    /// The response is not the answer yet.
    Early(Early),
    /// It is: the exchange has the body.
    Attached,
    /// The request is on its way: the call has the body.
    Sent(Arc<Call>),
    /// Nobody will ever read it.
    Forgotten,
}

/// What was written before the answer was given.
#[derive(Debug, Default)]
struct Early {
    bytes: Vec<u8>,
    held: Option<Held>,
    end: Option<End>,
}

/// How a body ended before its response was the answer.
#[derive(Debug)]
enum End {
    /// Cleanly, with trailers or without.
    Finished(Option<FieldList>),
    Cut,
}

/// What a body belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Message {
    Response,
    Request,
}

impl Message {
    /// So many bytes are not what was declared.
    fn wrong_size(self, bytes: u64) -> ErrorCode {
        match self {
            Self::Response => ErrorCode::HttpResponseBodySize(Some(bytes)),
            Self::Request => ErrorCode::HttpRequestBodySize(Some(bytes)),
        }
    }
}

/// A message's body, shared by the message, the `outgoing-body` and its stream.
#[derive(Debug)]
pub(super) struct Draft {
    desk: Arc<Desk>,
    turn: Turn,
    message: Message,
    /// The length that the message declares.
    declared: Option<u64>,
    /// Bytes that the guest has tried to write, those refused as too many included.
    tried: AtomicU64,
    state: Mutex<State>,
}

/// Trailers as the response takes them. Those that may not stand there are left out, as other hosts do.
fn trailers(list: Option<&FieldList>) -> impl Iterator<Item = Option<Field<'_>>> {
    let fields = list.into_iter().flat_map(|list| list.fields().iter());
    fields.filter(|(name, _)| !is_forbidden_trailer(name)).map(Some)
}

/// Likewise as a request takes them.
fn request_trailers(list: Option<&FieldList>) -> impl Iterator<Item = Field<'_>> {
    trailers(list).flatten()
}

impl Draft {
    pub(super) fn new(desk: &Arc<Desk>, message: Message, declared: Option<u64>) -> Arc<Self> {
        let state = Mutex::new(State::Early(Early::default()));
        let tried = AtomicU64::new(0);
        Arc::new(Self { desk: Arc::clone(desk), turn: desk.turn(), message, declared, tried, state })
    }

    /// The guest has tried to write another number of bytes than was declared.
    fn wrong_size(&self) -> ErrorCode {
        self.message.wrong_size(self.tried.load(Relaxed))
    }

    fn is_of_response(&self) -> bool {
        matches!(self.message, Message::Response)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The response is the answer, its head is set: what was written so far goes into the pipe. What went wrong with
    /// that cuts the response off, which is all that can be said of it here.
    pub(super) fn attach(&self) {
        let mut state = self.lock();
        let State::Early(early) = replace(&mut *state, State::Attached) else { return };
        self.response(|response| {
            if !early.bytes.is_empty() {
                let _ = response.write(&early.bytes);
            }
            match early.end {
                None => {}
                Some(End::Finished(list)) if response.finish(trailers(list.as_ref())).is_ok() => {}
                Some(End::Finished(_) | End::Cut) => response.abandon(),
            }
        });
    }

    /// How long the body is, as far as that can be told before its request is sent.
    pub(super) fn length(&self) -> Body {
        match (&*self.lock(), self.declared) {
            (_, Some(length)) => Body::Known(length),
            (State::Early(Early { end: Some(End::Finished(None)), bytes, .. }), None) => {
                match bytes.len() as u64 {
                    0 => Body::Empty,
                    length => Body::Known(length),
                }
            }
            _ => Body::Unknown,
        }
    }

    /// The request is on its way: what was written so far goes with it. What goes wrong with that shows in the response.
    pub(super) fn send(&self, call: &Arc<Call>) {
        let mut state = self.lock();
        let State::Early(early) = replace(&mut *state, State::Sent(Arc::clone(call))) else { return };
        if !early.bytes.is_empty() {
            // As much as there may be fits into the call's pipe.
            let _ = call.write(&early.bytes);
        }
        match early.end {
            None => {}
            Some(End::Finished(list)) => {
                let _ = call.finish(request_trailers(list.as_ref()));
            }
            Some(End::Cut) => call.close(),
        }
    }

    /// The response is gone and was never sent.
    pub(super) fn forget(&self) {
        let mut state = self.lock();
        if matches!(*state, State::Early(_)) {
            *state = State::Forgotten;
        }
    }

    /// Does something with the response that the body belongs to. None: it is over.
    fn response<T>(&self, work: impl FnOnce(&mut Response) -> T) -> Option<T> {
        let exchange = self.desk.exchange(self.turn)?;
        let response = &mut exchange.lock().response;
        Some(work(response))
    }

    /// Bytes that may be written before the answer is given: what the pipe would take, and the host may still keep.
    fn room(&self, early: &Early, response: &Response) -> usize {
        let most = match self.message {
            Message::Response => response.pipe.marks().high,
            Message::Request => Watermarks::default().high,
        };
        most.saturating_sub(early.bytes.len()).min(self.desk.room())
    }

    /// Bytes that may be written now.
    fn permit(&self) -> Result<usize, StreamError> {
        let state = self.lock();
        let permit = match &*state {
            State::Early(Early { end: Some(_), .. }) | State::Forgotten => None,
            State::Early(early) => self.response(|response| self.room(early, response)),
            State::Attached => self.response(writable).flatten(),
            State::Sent(call) => return call.permit().map_err(|failure| failed(failure.into())),
        };
        permit.ok_or(StreamError::Closed)
    }

    fn write(&self, bytes: &[u8]) -> Result<(), StreamError> {
        if bytes.len() > self.permit()? {
            return Err(StreamError::Trap(format_err!("more was written than `check-write` permits")));
        }
        self.desk.spend(copied(bytes.len())).map_err(StreamError::Trap)?;
        if bytes.is_empty() {
            return Ok(());
        }
        self.tried.fetch_add(bytes.len() as u64, Relaxed);
        let mut state = self.lock();
        match &mut *state {
            State::Early(early) => self.write_early(early, bytes),
            State::Forgotten => Err(StreamError::Closed),
            State::Attached => match self.response(|response| response.write(bytes)) {
                Some(Ok(_)) => Ok(()),
                Some(Err(Refusal::TooLong)) => Err(failed(self.wrong_size())),
                Some(Err(_)) | None => Err(StreamError::Closed),
            },
            State::Sent(call) => match call.write(bytes) {
                Ok(_) => Ok(()),
                Err(Failure::HttpRequestBodySize(_)) => Err(failed(self.wrong_size())),
                Err(failure) => Err(failed(failure.into())),
            },
        }
    }

    fn write_early(&self, early: &mut Early, bytes: &[u8]) -> Result<(), StreamError> {
        if self.declared.is_some_and(|length| self.tried.load(Relaxed) > length) {
            early.end = Some(End::Cut);
            return Err(failed(self.wrong_size()));
        }
        let total = early.bytes.len() + bytes.len();
        let held = match &mut early.held {
            Some(held) => held.resize(total),
            none => self.desk.hold(total).map(|held| *none = Some(held)),
        };
        held.map_err(StreamError::Trap)?;
        early.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// True if waiting for room is over, one way or the other.
    fn is_ready(&self, cx: &mut Context<'_>) -> bool {
        match &*self.lock() {
            State::Sent(call) => call.poll_writable(cx).is_ready(),
            State::Early(Early { end: Some(_), .. }) | State::Forgotten => true,
            State::Early(early) => {
                let room = self.response(|response| self.room(early, response));
                room != Some(0)
            }
            State::Attached => self.response(|response| response.is_ready()).unwrap_or(true),
        }
    }

    /// A clean end.
    fn finish(&self, list: Option<FieldList>) -> Result<(), ErrorCode> {
        let mut state = self.lock();
        match &mut *state {
            State::Forgotten => Ok(()),
            State::Early(early) => {
                let written = early.bytes.len() as u64;
                if early.end.is_some() {
                    return Err(self.wrong_size());
                }
                // Nothing at all may be right: an answer to HEAD declares the length of a body that it does not bring.
                let short = self.declared.is_some_and(|length| length != written);
                early.end = Some(if short && written > 0 { End::Cut } else { End::Finished(list) });
                if short { Err(self.wrong_size()) } else { Ok(()) }
            }
            State::Attached => {
                let finished = self.response(|response| {
                    let finished = response.finish(trailers(list.as_ref()));
                    if finished.is_err() {
                        response.abandon();
                    }
                    finished
                });
                match finished {
                    // That the client is gone is no mistake of the guest's.
                    None | Some(Ok(()) | Err(Refusal::Gone(_))) => Ok(()),
                    Some(Err(Refusal::TooLarge)) => Err(ErrorCode::HttpResponseTrailerSectionSize(None)),
                    Some(Err(_)) => Err(self.wrong_size()),
                }
            }
            State::Sent(call) => match call.finish(request_trailers(list.as_ref())) {
                // That the server is gone shows in its response.
                Ok(()) | Err(Failure::ConnectionTerminated) => Ok(()),
                Err(Failure::HttpRequestBodySize(_)) => {
                    call.close();
                    Err(self.wrong_size())
                }
                Err(failure) => Err(failure.into()),
            },
        }
    }

    /// The end without a clean one.
    fn cut(&self) {
        match &mut *self.lock() {
            State::Early(early) => early.end = Some(End::Cut),
            State::Attached => {
                self.response(Response::abandon);
            }
            State::Sent(call) => call.close(),
            State::Forgotten => {}
        }
    }
}

/// Bytes that the pipe takes now; none: nobody takes any more.
fn writable(response: &mut Response) -> Option<usize> {
    if response.fault().is_some() || response.stage() != Stage::Head {
        None
    } else if response.discards() {
        Some(WRITE_BYTES_MAX)
    } else {
        Some(response.pipe.permit())
    }
}

/// Writes to a draft.
#[derive(Debug)]
struct BodyWriter(Arc<Draft>);

#[async_trait]
impl OutputStream for BodyWriter {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.0.write(&bytes)
    }

    /// What is in the pipe is on its way as soon as the guest waits or its slice is over.
    fn flush(&mut self) -> Result<(), StreamError> {
        self.0.permit().map(drop)
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        self.0.permit()
    }
}

#[async_trait]
impl Pollable for BodyWriter {
    async fn ready(&mut self) {
        poll_fn(|cx| {
            if self.0.is_ready(cx) {
                return Poll::Ready(());
            }
            if self.0.is_of_response() {
                self.0.desk.wish(Wish::Writable);
            }
            Poll::Pending
        })
        .await;
    }
}

/// `outgoing-body`.
#[derive(Debug)]
pub(crate) struct OutgoingBody {
    draft: Arc<Draft>,
    /// The stream was taken out.
    streamed: bool,
}

impl OutgoingBody {
    pub(super) fn new(draft: Arc<Draft>) -> Self {
        Self { draft, streamed: false }
    }
}

impl HostOutgoingBody for Http<'_> {
    fn write(&mut self, body: Resource<OutgoingBody>) -> Result<Result<Resource<DynOutputStream>, ()>> {
        self.enter()?;
        let table = &mut self.state.side.table;
        let own = table.get_mut(&body)?;
        if replace(&mut own.streamed, true) {
            return Ok(Err(()));
        }
        let writer: DynOutputStream = Box::new(BodyWriter(Arc::clone(&own.draft)));
        Ok(Ok(table.push_child(writer, &body)?))
    }

    fn finish(
        &mut self,
        body: Resource<OutgoingBody>,
        trailers: Option<Resource<FieldList>>,
    ) -> Result<Result<(), ErrorCode>> {
        self.enter()?;
        let table = &mut self.state.side.table;
        let body = table.delete(body)?;
        let Some(trailers) = trailers else { return Ok(body.draft.finish(None)) };
        let list = table.delete(trailers)?;
        spend(self.state, parsed(list.fields().byte_len()) + entries(list.fields().len()))?;
        Ok(body.draft.finish(Some(list)))
    }

    fn drop(&mut self, body: Resource<OutgoingBody>) -> Result<()> {
        self.enter()?;
        let table = &mut self.state.side.table;
        match table.delete(body) {
            Ok(body) => body.draft.cut(),
            Err(error) => bail!("the body was dropped before its stream: {error}"),
        }
        Ok(())
    }
}
