//! HTTP/1.1 without sockets, clocks or threads.
//!
//! Bytes and time go in, events, bytes to send and the next deadline come out. This crate must never learn of
//! sockets, WebAssembly, clocks or logging: whoever drives it brings those.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        clippy::arithmetic_side_effects
    )
)]

pub mod client;
pub mod conn;
pub mod edge;
pub mod error;
pub mod http1;
pub mod limits;
pub mod pipe;
pub mod router;
pub mod timers;
