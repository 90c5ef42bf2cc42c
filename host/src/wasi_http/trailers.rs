//! `wasi:http/types.future-trailers`: what stands behind the body of a request, or of a response from elsewhere.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use tidegate_proto::http1::fields::Fields;
use wasmtime::Result;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::Http;
use super::fields::FieldList;
use super::incoming::From;
use super::types::{ErrorCode, HostFutureTrailers};
use crate::guest::cost::{copied, moved};
use crate::guest::desk::{Desk, Turn, Wish};
use crate::net::http::{Call, Failure};

/// The trailers of a message, once its body has come to its end. What the guest has not read of it is thrown away.
#[derive(Debug)]
pub(crate) struct FutureTrailers {
    desk: Arc<Desk>,
    from: From,
    /// They were taken out.
    taken: bool,
}

/// How often more is taken from a server that sends as fast as its bytes are thrown away, in one go.
const ROUNDS_MAX: u32 = 4;

/// What waiting for them came to.
enum State {
    Waiting,
    There(Option<FieldList>),
    Failed(ErrorCode),
}

impl FutureTrailers {
    pub(super) fn new(desk: &Arc<Desk>, from: From) -> Self {
        Self { desk: Arc::clone(desk), from, taken: false }
    }

    fn state(&self) -> Result<State> {
        match &self.from {
            From::Request(turn) => of_request(&self.desk, *turn),
            From::Response(call) => of_response(&self.desk, call),
        }
    }
}

/// Throws away what has come of the request's body. True: the end has come, one way or the other.
///
/// # Errors
/// The guest is stopped: a trap.
fn advance(desk: &Desk, turn: Turn) -> Result<bool> {
    let Some(exchange) = desk.exchange(turn) else { return Ok(true) };
    let request = &mut exchange.lock().request;
    request.want();
    let there = request.pipe.len();
    desk.spend_of(&exchange, copied(there))?;
    request.pipe.consume(there);
    Ok(request.pipe.drained() || request.fault().is_some())
}

fn of_request(desk: &Arc<Desk>, turn: Turn) -> Result<State> {
    if !advance(desk, turn)? {
        return Ok(State::Waiting);
    }
    let Some(exchange) = desk.exchange(turn) else {
        return Ok(State::Failed(ErrorCode::ConnectionTerminated));
    };
    let inner = exchange.lock();
    if let Some(fault) = inner.request.fault() {
        return Ok(State::Failed(fault.into()));
    }
    there(desk, &inner.request.trailers)
}

/// Throws away what has come of the response's body, and some of what comes meanwhile. None: there is more to come.
///
/// # Errors
/// The guest is stopped: a trap.
fn drain(desk: &Desk, call: &Call) -> Result<Option<Result<(), Failure>>> {
    for _ in 0..ROUNDS_MAX {
        let drained = call.with_incoming_pipe(|pipe| {
            let there = pipe.len();
            pipe.consume(there);
            (there, pipe.drained())
        });
        match drained {
            Ok((_, true)) => return Ok(Some(Ok(()))),
            Ok((0, false)) => return Ok(None),
            Ok((there, false)) => desk.spend(moved(there))?,
            Err(failure) => return Ok(Some(Err(failure))),
        }
    }
    Ok(None)
}

fn of_response(desk: &Arc<Desk>, call: &Call) -> Result<State> {
    match drain(desk, call)? {
        None => Ok(State::Waiting),
        Some(Err(failure)) => Ok(State::Failed(failure.into())),
        Some(Ok(())) => call.with_trailers(|trailers| there(desk, trailers)),
    }
}

fn there(desk: &Arc<Desk>, trailers: &Fields) -> Result<State> {
    let list = (!trailers.is_empty()).then(|| FieldList::received(desk, trailers));
    list.transpose().map(State::There)
}

#[async_trait]
impl Pollable for FutureTrailers {
    async fn ready(&mut self) {
        poll_fn(|cx| {
            if self.taken {
                return Poll::Ready(());
            }
            match &self.from {
                From::Request(turn) => {
                    // Of a guest that is stopped `get` says so.
                    if advance(&self.desk, *turn).unwrap_or(true) {
                        return Poll::Ready(());
                    }
                    self.desk.wish(Wish::Readable);
                    Poll::Pending
                }
                // A server that sends without end ends the wait for each piece, and the slice is over some time.
                From::Response(call) => match drain(&self.desk, call) {
                    Ok(Some(_)) | Err(_) => Poll::Ready(()),
                    Ok(None) if call.poll_readable(cx).is_ready() => {
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }
                    Ok(None) => Poll::Pending,
                },
            }
        })
        .await;
    }
}

/// The inner result of `get`: the trailers, none, or why they did not come.
type Trailers = Result<Option<Resource<FieldList>>, ErrorCode>;

impl HostFutureTrailers for Http<'_> {
    fn subscribe(&mut self, trailers: Resource<FutureTrailers>) -> Result<Resource<DynPollable>> {
        self.enter()?;
        subscribe(&mut self.state.side.table, trailers)
    }

    fn get(&mut self, trailers: Resource<FutureTrailers>) -> Result<Option<Result<Trailers, ()>>> {
        self.enter()?;
        let own = self.state.side.table.get_mut(&trailers)?;
        if own.taken {
            return Ok(Some(Err(())));
        }
        let state = own.state()?;
        own.taken = !matches!(state, State::Waiting);
        Ok(match state {
            State::Waiting => None,
            State::There(None) => Some(Ok(Ok(None))),
            State::There(Some(list)) => Some(Ok(Ok(Some(self.push_list(list)?)))),
            State::Failed(code) => Some(Ok(Err(code))),
        })
    }

    fn drop(&mut self, trailers: Resource<FutureTrailers>) -> Result<()> {
        self.enter()?;
        self.state.side.table.delete(trailers)?;
        Ok(())
    }
}
