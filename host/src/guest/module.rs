//! What a module keeps in its Store: its memory, and the handles of the request it serves.

use std::sync::Arc;

use wasmtime::Memory;

use super::crash::{Crash, LastWords};
use super::engine::Mode;
use super::program::Program;
use super::state::{Side, end_lines, end_words};
use crate::exchange::{Exchange, RequestId};
use crate::observe::guest_log::Lines;

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

/// What a module keeps in its Store.
#[derive(Debug)]
pub(crate) struct ModuleSide {
    /// The guest's memory, once it is instantiated.
    pub(crate) memory: Option<Memory>,
    pub(crate) handles: Handles,
    /// Standard output and standard error, cut into lines.
    pub(crate) stdio: [Lines; 2],
    /// What the guest said last, where its author is to be told of its end.
    pub(crate) words: Option<Box<LastWords>>,
}

impl ModuleSide {
    pub(crate) fn new(mode: Mode) -> Self {
        Self {
            memory: None,
            handles: Handles::new(),
            stdio: Default::default(),
            words: (mode == Mode::Dev).then(Box::default),
        }
    }
}

impl Side for ModuleSide {
    fn renew(&mut self, _: &Arc<Exchange>) {
        self.handles.renew();
    }

    fn end(&mut self, program: &Program, id: &RequestId) {
        end_words(self.words.as_deref_mut(), program, id);
        end_lines(&mut self.stdio, program, id);
    }

    fn crash(&mut self, error: &wasmtime::Error) -> Option<Box<Crash>> {
        self.words.as_deref_mut().map(|words| Box::new(Crash::new(error, words)))
    }
}
