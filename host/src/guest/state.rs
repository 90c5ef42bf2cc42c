//! What a guest's Store carries: the request it serves, its limits, its handles.

use std::sync::Arc;

use wasmtime::Memory;

use super::crash::LastWords;
use super::limiter::Limiter;
use super::places::Place;
use super::program::Program;
use crate::exchange::Exchange;
use crate::observe::guest_log::{Level, Lines};

/// The first handle; smaller numbers are kept free of meaning.
const FIRST_HANDLE: u32 = 3;

/// What a handle stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handle {
    RequestBody,
    ResponseBody,
}

/// A request's handles. A number is never given twice within an instance.
#[derive(Debug)]
pub(crate) struct Handles {
    request_body: u32,
    request_open: bool,
    response_open: bool,
}

impl Handles {
    const fn new() -> Self {
        Self { request_body: FIRST_HANDLE, request_open: true, response_open: true }
    }

    /// Numbers for the next request.
    fn renew(&mut self) {
        // A guest that is reused for two thousand million requests traps rather than meeting a number again.
        self.request_body = self.request_body.saturating_add(2);
        self.request_open = true;
        self.response_open = true;
    }

    pub(crate) fn request_body(&self) -> u32 {
        self.request_body
    }

    pub(crate) fn response_body(&self) -> u32 {
        self.request_body.saturating_add(1)
    }

    pub(crate) fn find(&self, number: u32) -> Option<Handle> {
        if number == self.request_body() && self.request_open {
            Some(Handle::RequestBody)
        } else if number == self.response_body() && self.response_open {
            Some(Handle::ResponseBody)
        } else {
            None
        }
    }

    pub(crate) fn close(&mut self, handle: Handle) {
        match handle {
            Handle::RequestBody => self.request_open = false,
            Handle::ResponseBody => self.response_open = false,
        }
    }
}

/// The data of a Store.
#[derive(Debug)]
pub(crate) struct GuestState {
    pub(crate) program: Arc<Program>,
    pub(crate) exchange: Arc<Exchange>,
    /// The guest's memory, once it is instantiated.
    pub(crate) memory: Option<Memory>,
    pub(crate) limiter: Limiter,
    pub(crate) handles: Handles,
    /// Standard output and standard error, cut into lines.
    pub(crate) stdio: [Lines; 2],
    /// What the guest said last, where its author is to be told of its end.
    pub(crate) words: Option<Box<LastWords>>,
    _place: Option<Place>,
}

impl GuestState {
    pub(crate) fn new(program: Arc<Program>, exchange: Arc<Exchange>, place: Option<Place>) -> Self {
        let limits = &program.limits;
        let limiter = Limiter::new(limits.memory_bytes, limits.table_elements);
        Self {
            program,
            exchange,
            memory: None,
            limiter,
            handles: Handles::new(),
            stdio: Default::default(),
            words: None,
            _place: place,
        }
    }

    /// A reused instance takes up another request.
    pub(crate) fn renew(&mut self, exchange: Arc<Exchange>) {
        self.exchange = exchange;
        self.handles.renew();
    }

    /// The call is over: what the guest left open is closed.
    pub(crate) fn end(&mut self) {
        let exchange = std::mem::replace(&mut self.exchange, Arc::clone(&self.program.nobody));
        let mut inner = exchange.lock();
        inner.response.abandon();
        inner.park = None;
        // The author is told of a panic with its backtrace; but this call has not ended with it.
        if let Some(text) = self.words.as_mut().and_then(|words| words.forget()) {
            self.program.log.record(Level::Error, &inner.facts.id, text.as_bytes());
        }
        for lines in &mut self.stdio {
            if !lines.is_empty() {
                lines.end(&self.program.log, &inner.facts.id);
            }
        }
    }
}
