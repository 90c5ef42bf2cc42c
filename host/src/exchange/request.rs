//! The request body on its way to the guest.

use tidegate_proto::http1::fields::Fields;
use tidegate_proto::pipe::{Pipe, Watermarks};

/// Why a direction ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The client is gone.
    Gone,
    /// The body is larger than the app allows.
    TooLarge,
    /// The client was too slow.
    TooSlow,
    /// The client broke a rule of the protocol inside the body.
    Malformed,
}

/// The body of a request. Bytes that came before a fault can still be read.
#[derive(Debug)]
pub(crate) struct RequestBody {
    pub(crate) pipe: Pipe,
    pub(crate) trailers: Fields,
    fault: Option<Fault>,
    /// The guest has asked for the body: a client that waits for 100 (Continue) may send.
    wanted: bool,
}

impl RequestBody {
    pub(super) fn new() -> Self {
        Self {
            pipe: Pipe::new(Watermarks::default()),
            trailers: Fields::default(),
            fault: None,
            wanted: false,
        }
    }

    pub(super) fn reset(&mut self, marks: Watermarks) {
        self.pipe.reset(marks);
        self.trailers.clear();
        self.fault = None;
        self.wanted = false;
    }

    /// What has not come will not come.
    pub(crate) fn fail(&mut self, fault: Fault) {
        if !self.pipe.is_ended() && self.fault.is_none() {
            self.fault = Some(fault);
        }
    }

    /// The guest asks for the body.
    pub(crate) fn want(&mut self) {
        self.wanted = true;
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// How it failed, once everything before that has been read.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault.filter(|_| self.pipe.is_empty())
    }

    /// True if a read would not have to wait.
    pub(crate) fn is_ready(&self) -> bool {
        self.pipe.is_readable() || self.fault.is_some()
    }
}
