//! The client's half of HTTP/1.1: one connection to a server, its requests out and its responses in.
//!
//! Nothing here knows sockets, clocks, names or TLS. A [`Sender`] writes one request after the other, a [`Receiver`] reads
//! the responses; whoever drives both moves the bytes, keeps the times, and lends the pipes of the bodies. What a guest
//! says is checked before a byte of it is written, and what a server says before a byte of it is believed: what is
//! ambiguous is an error and never repaired.
//!
//! Invariants: one state per direction, changed only through [`state`]; a request is framed here and in one way; a response
//! ends where RFC 9112 6.3 says, and bytes behind its end are never read as another one's.

mod error;
mod framing;
mod receive;
mod request;
mod response;
mod send;
pub mod state;

pub use self::error::{RequestError, ResponseError};
pub use self::receive::{Receiver, response_limits};
pub use self::request::{BodyLength, REQUEST_HEAD_BYTES_MAX, Request};
pub use self::response::ResponseHead;
pub use self::send::{RequestBody, Sender};

use self::state::{Recv, Send};

/// Whether the connection may carry another exchange: this one's request has left whole, its response came whole, and
/// nothing else came.
#[must_use]
pub fn is_reusable(sender: &Sender, receiver: &Receiver) -> bool {
    sender.is_done() && sender.keeps() && receiver.state() == Recv::Ended
}

/// Makes the connection ready for another request. False: it cannot carry one, and nothing has changed.
#[must_use]
pub fn next(sender: &mut Sender, receiver: &mut Receiver) -> bool {
    let fresh = sender.state() == Send::Idle && receiver.state() == Recv::Idle;
    if !fresh && !is_reusable(sender, receiver) {
        return false;
    }
    fresh || (sender.recycle().is_ok() && receiver.recycle().is_ok())
}

#[cfg(test)]
mod tests;
