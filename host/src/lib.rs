//! tidegate: an HTTP server for handlers compiled to WebAssembly.
//!
//! The binary is `tidegate`; this library is what is behind it. See `docs/ARCHITECTURE.md` for how the parts fit.

mod admin;
pub mod cli;
mod clock;
pub mod config;
mod exchange;
#[doc(hidden)]
pub mod fuzzing;
pub mod guest;
mod hosting;
mod kv;
mod local;
mod module_abi;
mod net;
pub mod observe;
mod pressure;
mod pulse;
mod reactor;
pub mod server;
mod session;
mod shared;
mod tenants;
mod wasi;
mod wasi_http;
mod wasi_keyvalue;
mod worker;
