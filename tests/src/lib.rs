//! What the integration tests and the benchmarks share: building the artifacts, running the real server as a
//! child process, and talking to it over real sockets.
//!
//! This crate must never link the server: it sees what a user sees, the command line, the sockets, the logs and
//! `/proc`. Invariants: every wait has a deadline and is for a condition; every child is ended by its own process
//! id; traffic stays on the loopback.

pub mod artifacts;
pub mod bench;
pub mod body;
pub mod check;
pub mod http;
pub mod logs;
pub mod pattern;
pub mod procfs;
pub mod server;
pub mod stream;
pub mod wait;

pub use artifacts::{guest, wat_guest};
pub use http::{Client, End, Head, Response};
pub use server::{App, Server};
pub use stream::Addr;
