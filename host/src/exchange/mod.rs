//! What one request shares between its session and its guest: the head, two pipes, and what the guest waits for.
//!
//! The session fills the request and empties the response; the guest, through its hostcalls, does the reverse. Both
//! lock it for one step and never across a wait. Nothing here knows sockets or WebAssembly.

mod facts;
mod request;
mod response;
mod slice;
pub(crate) mod waits;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_proto::http1::head::RequestHead;
use tidegate_proto::pipe::Watermarks;

pub(crate) use self::facts::{Ends, Facts, RequestId};
pub(crate) use self::request::{Fault, RequestBody};
pub(crate) use self::response::{Field, Refusal, Response, Stage};
pub(crate) use self::slice::{Epoch, Overrun, Pace, Slice};
use crate::clock::{Clock, Nanos};

/// Storage of heads that an exchange keeps from one request to the next.
const KEEP_BYTES_MAX: usize = 4096;

/// What a parked guest waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Park {
    /// Bytes of the request body, or its end.
    pub(crate) readable: bool,
    /// Room for the response body.
    pub(crate) writable: bool,
    /// A fault in either direction.
    pub(crate) faults: bool,
    /// A point in time.
    pub(crate) until: Option<Nanos>,
}

/// The part under the lock.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) head: RequestHead,
    pub(crate) facts: Facts,
    pub(crate) request: RequestBody,
    pub(crate) response: Response,
    pub(crate) park: Option<Park>,
}

impl Inner {
    /// True if the guest is parked and what it waits for has come. Time is the worker's affair.
    pub(crate) fn wakes_guest(&self) -> bool {
        self.park.is_some_and(|park| {
            (park.readable && self.request.is_ready())
                || (park.writable && self.response.is_ready())
                || (park.faults && (self.request.fault().is_some() || self.response.fault().is_some()))
        })
    }

    /// A request begins: its pipes take the app's watermarks.
    pub(crate) fn begin(&mut self, head_request: bool, marks: Watermarks) {
        self.request.reset(marks);
        self.response.reset(marks);
        self.response.begin(head_request);
    }

    /// The client is gone, or the request is over for another reason: both directions fail from here on.
    pub(crate) fn fail(&mut self, fault: Fault) {
        self.request.fail(fault);
        self.response.fail(fault);
    }
}

/// One request's shared state.
#[derive(Debug)]
pub(crate) struct Exchange {
    inner: Mutex<Inner>,
    pub(crate) slice: Slice,
}

impl Exchange {
    pub(crate) fn new(clock: Clock) -> Arc<Self> {
        let inner = Inner {
            head: RequestHead::default(),
            facts: Facts::default(),
            request: RequestBody::new(),
            response: Response::new(),
            park: None,
        };
        Arc::new(Self { inner: Mutex::new(inner), slice: Slice::new(clock) })
    }

    /// Locks it for one step. A panic while it was locked is counted where it is caught; the state is still sound,
    /// since every step leaves it so.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready for another request; large storage is given back.
    pub(crate) fn reset(&mut self) {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        inner.head.clear();
        inner.head.shrink(KEEP_BYTES_MAX);
        inner.facts.clear();
        inner.request.reset(Watermarks::default());
        inner.response.reset(Watermarks::default());
        inner.park = None;
        self.slice.reset();
    }
}
