//! The outbound HTTP client: requests of guests, on the worker's own loop.
//!
//! A [`Call`] is one request and its response. Its connection is taken from the worker's [`Pool`], or made: the name is looked
//! up, every address checked against the app's policy right before it is connected to. It is driven by the loop's events and
//! by the guest's own calls, and never waits. Bodies are two bounded pipes: a full one stops reading, and TCP slows the
//! server down.
//!
//! Nothing here knows WebAssembly. What the bytes mean is `tidegate_proto::client`'s business.
//!
//! Invariants: a connection goes back to the pool only if both messages came to their ends and nothing followed; a request
//! is sent a second time only where a kept connection turned out to be gone before a byte of the answer, the request may be
//! repeated, and none of its body had been sent; every wait has a deadline.

mod call;
mod dial;
mod exchange;
mod failure;
mod link;
mod pool;
#[cfg(test)]
mod tests;
mod tls;

use tidegate_proto::client::BodyLength;

pub(crate) use self::call::{Call, send};
pub(crate) use self::failure::Failure;
pub(crate) use self::pool::Pool;
pub(crate) use self::tls::Trust;
use crate::clock::{MS, Nanos};

/// A field, as the guest gave it.
pub(crate) type Field<'a> = (&'a [u8], &'a [u8]);

/// A request to send. What of it is not valid is refused before anything is opened.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing<'a, F> {
    pub(crate) method: &'a str,
    pub(crate) https: bool,
    /// `host` or `host:port`.
    pub(crate) authority: &'a str,
    /// With the query.
    pub(crate) path: &'a str,
    /// Without those of the connection, and without Host. A Content-Length has to be right.
    pub(crate) fields: F,
    pub(crate) body: Body,
    pub(crate) timeouts: Timeouts,
}

/// How long a request's body is.
pub(crate) type Body = BodyLength;

/// How long each part of an exchange may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// Until there is a connection, with lookup and TLS.
    pub(crate) connect: Nanos,
    /// Until the first byte of the response, from the last one of the request.
    pub(crate) first_byte: Nanos,
    /// Between two bytes while more are wanted, and for how long the server may take none.
    pub(crate) between_bytes: Nanos,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: 10_000 * MS, first_byte: 60_000 * MS, between_bytes: 60_000 * MS }
    }
}
