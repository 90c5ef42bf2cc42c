//! What the integration tests and the benchmarks share: building the artifacts, running the real server as a
//! child process, and talking to it over real sockets.
//!
//! This crate must never link the server: it sees what a user sees, the command line, the sockets, the logs and
//! `/proc`. Invariants: every wait has a deadline and is for a condition; every child is ended by its own process
//! id; traffic stays on the loopback.

pub mod admin;
pub mod artifacts;
pub mod bench;
pub mod body;
pub mod ca;
pub mod check;
pub mod components;
pub mod daemon;
pub mod dns;
pub mod http;
pub mod logs;
pub mod markdown;
pub mod nginx;
pub mod oracle;
pub mod pattern;
pub mod probe;
pub mod procfs;
pub mod project;
pub mod redis;
pub mod rust_component;
pub mod server;
pub mod stream;
pub mod successor;
pub mod upstream;
pub mod wait;
pub mod wat_component;

pub use artifacts::{c_guest, guest, wat_guest};
pub use http::{Client, End, Head, Response};
pub use nginx::Nginx;
pub use project::Project;
pub use redis::Redis;
pub use server::{App, Server};
pub use stream::Addr;
pub use successor::Successor;
pub use upstream::Upstream;

/// The code in the guide for handlers compiles, as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/handlers.md")]
pub struct HandlersGuide;
