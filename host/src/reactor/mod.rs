//! The event loop's tools: tokens, sockets, listeners and lent buffers.
//!
//! Nothing here knows HTTP or WebAssembly.

pub(crate) mod bound;
pub(crate) mod buffers;
pub(crate) mod inherited;
pub(crate) mod listener;
pub(crate) mod token;
pub(crate) mod transport;
pub(crate) mod unix;
