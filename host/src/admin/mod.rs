//! The admin side: the server's own HTTP interface, for those who run it and whose apps are in it.
//!
//! JSON over HTTP/1.1, on a Unix socket of the owner's or, with tokens, on TCP. It has threads of its own and shares none
//! with those who serve: [`door`] lets in, [`wire`] drives one connection, [`auth`] says who asks, [`routes`] has what can
//! be asked for as a table, and [`control::Control`] is the server behind it. It must never know how that does what it
//! is asked.

mod auth;
mod call;
mod control;
mod door;
mod guests;
mod handlers;
mod operator;
mod problem;
mod routes;
#[cfg(test)]
mod tests;
mod wire;

pub(crate) use auth::Keys;
#[cfg(test)]
pub(crate) use control::{Control, LogNext, LogSource};
pub(crate) use door::{Admin, Door, Late, check};
