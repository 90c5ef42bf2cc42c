//! `wasi:http/types.future-trailers`: what stands behind the body of the request.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use wasmtime::Result;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::Http;
use super::fields::FieldList;
use super::types::{ErrorCode, HostFutureTrailers};
use crate::guest::desk::{Desk, Turn, Wish};

/// The trailers of a request, once its body has come to its end. What the guest has not read of it is thrown away.
#[derive(Debug)]
pub(crate) struct FutureTrailers {
    desk: Arc<Desk>,
    turn: Turn,
    /// They were taken out.
    taken: bool,
}

/// What waiting for them came to.
enum State {
    Waiting,
    There(Option<FieldList>),
    Failed(ErrorCode),
}

impl FutureTrailers {
    pub(super) fn new(desk: &Arc<Desk>, turn: Turn) -> Self {
        Self { desk: Arc::clone(desk), turn, taken: false }
    }

    /// Throws away what has come of the body. True: the end has come, one way or the other.
    fn advance(&self) -> bool {
        let Some(exchange) = self.desk.exchange(self.turn) else { return true };
        let request = &mut exchange.lock().request;
        request.want();
        let there = request.pipe.len();
        request.pipe.consume(there);
        request.pipe.drained() || request.fault().is_some()
    }

    fn state(&self) -> Result<State> {
        if !self.advance() {
            return Ok(State::Waiting);
        }
        let Some(exchange) = self.desk.exchange(self.turn) else {
            return Ok(State::Failed(ErrorCode::ConnectionTerminated));
        };
        let inner = exchange.lock();
        if let Some(fault) = inner.request.fault() {
            return Ok(State::Failed(fault.into()));
        }
        let trailers = &inner.request.trailers;
        let list = (!trailers.is_empty()).then(|| FieldList::received(&self.desk, trailers));
        list.transpose().map(State::There)
    }
}

#[async_trait]
impl Pollable for FutureTrailers {
    async fn ready(&mut self) {
        poll_fn(|_| {
            if self.taken || self.advance() {
                return Poll::Ready(());
            }
            self.desk.wish(Wish::Readable);
            Poll::Pending
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
