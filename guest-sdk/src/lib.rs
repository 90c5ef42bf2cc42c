//! Write HTTP handlers that run sandboxed in tidegate.
//!
//! A handler is a function. [`macro@handler`] exports it; tidegate calls it once for each request, by default in a
//! fresh sandbox every time.
//!
//! ```
//! use tidegate_sdk::{Request, Response, handler};
//!
//! #[handler]
//! fn hello(request: Request) -> Response {
//!     Response::text(format!("Hello from {}\n", request.path()))
//! }
//! ```
//!
//! The second form writes its response bit by bit. Bodies are [`std::io::Read`] and [`std::io::Write`]; when the client
//! is slow, `write` waits and holds nothing up but this handler.
//!
//! ```
//! use std::io::Write;
//! use tidegate_sdk::{Request, Response, ResponseWriter, Result, handler};
//!
//! #[handler]
//! fn count(_request: Request, response: ResponseWriter) -> Result<()> {
//!     let mut body = response.start(Response::text(""))?;
//!     for i in 0..1_000 {
//!         writeln!(body, "{i}")?;
//!     }
//!     body.finish()?;
//!     Ok(())
//! }
//! ```
//!
//! `?` turns any error into a 500 whose detail goes to the log and not to the client; [`Error::status`] chooses what
//! the client sees. Natively (not on wasm) the same code runs against a fake host: see `testing`.
//!
//! What this crate must never know: how the host is built. All it has is the module ABI, laid out in `tidegate-abi`;
//! only `sys` touches it.

mod body;
mod error;
mod fields;
mod handler;
pub mod log;
mod request;
mod response;
mod sys;
mod time;
mod writer;

#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use body::{COLLECT_BYTES_MAX, RequestBody};
pub use error::{Error, Result};
pub use request::Request;
pub use response::{Body, IntoResponse, Response};
pub use time::{Usage, sleep, usage};
pub use writer::{BodyWriter, ResponseWriter};

pub use http;
pub use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};
pub use tidegate_macros::handler;

/// What `#[handler]` expands to; not for use by hand, and not covered by any promise.
#[doc(hidden)]
pub mod __private {
    pub use crate::handler::{run, stream};
}
