//! What the fuzz targets do with an input: plain functions, which panic where the code under test breaks a promise.
//!
//! libFuzzer calls them from `tests/fuzz`, and `cargo test` replays the corpora through them, so that what was found once
//! is looked for ever after. They must never know who calls, and do nothing but compute: the same input has the same
//! outcome everywhere.
//!
//! An input begins with a few bytes of choices (`input::Choices`): bounds, kinds and a seed for the splits. The rest is
//! what a peer, an operator or a deployer would send.

// The harness of the connection's own tests, by which two targets go.
#[path = "../../../host/proto/tests/conn/answer.rs"]
#[allow(dead_code)]
mod answer;
#[path = "../../../host/proto/tests/conn/client.rs"]
#[allow(dead_code)]
mod client;
#[path = "../../../host/proto/tests/conn/server.rs"]
#[allow(dead_code)]
mod server;

#[cfg(feature = "host")]
mod anatomy;
mod chunks;
mod connection;
mod forwarded;
mod input;
#[cfg(feature = "host")]
mod manifest;
mod preamble;
mod response;
mod router;
mod target;

#[cfg(feature = "host")]
pub use self::anatomy::anatomy;
#[cfg(feature = "host")]
pub use self::manifest::manifest;
pub use self::{
    chunks::chunks, connection::connection, forwarded::forwarded, preamble::preamble, response::response,
    router::router, target::target,
};

/// What a target is: it panics where a promise is broken.
pub type Body = fn(&[u8]);

/// All targets by name; each has a program in `tests/fuzz/targets` and a folder in `tests/fuzz/corpus`.
pub const TARGETS: &[(&str, Body)] = &[
    ("chunks", chunks),
    ("connection", connection),
    ("forwarded", forwarded),
    ("preamble", preamble),
    ("response", response),
    ("router", router),
    ("target", target),
    #[cfg(feature = "host")]
    ("anatomy", anatomy),
    #[cfg(feature = "host")]
    ("manifest", manifest),
];
