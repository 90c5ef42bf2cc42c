//! Guests' sockets, outbound and inbound, on the worker's own loop.
//!
//! A guest's call has a [`Network`]: under the app's policy it opens sockets that never wait. An operation that would
//! is an error (`AGAIN`), and whoever polls for readiness leaves a waker, which the loop wakes when the system says that the
//! socket is ready. So a fiber parks, and the loop goes on. What the system buffers is all that is buffered.
//!
//! Nothing here knows WebAssembly or what the guest's interface looks like. Errors are the system's numbers.
//!
//! [`Network`]: network::Network

pub(crate) mod access;
pub(crate) mod connect;
pub(crate) mod http;
pub(crate) mod hub;
pub(crate) mod network;
pub(crate) mod policy;
mod preamble;
pub(crate) mod readiness;
pub(crate) mod resolve;
mod socket;
pub(crate) mod tcp;
#[cfg(test)]
mod tests;
pub(crate) mod udp;
