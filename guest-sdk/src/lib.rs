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
//! The third is a [`Router`], whose handlers are functions of the first form, each plain or `async`; to write a
//! response bit by bit they return [`Response::stream`] or [`Response::stream_async`]. [`middleware`] stands around
//! them.
//!
//! ```
//! use tidegate_sdk::{Request, Result, Router, handler, middleware};
//!
//! async fn greet(request: Request) -> Result<String> {
//!     let name: String = request.param_as("name")?;
//!     Ok(format!("Hello {name}\n"))
//! }
//!
//! #[handler]
//! fn app() -> Router {
//!     Router::new().get("/hello/{name}", greet).with(middleware::logger())
//! }
//! # assert_eq!(tidegate_sdk::test::Exchange::get("/hello/Ada").run(app()).text(), "Hello Ada\n");
//! ```
//!
//! `?` turns any error into a 500 whose detail goes to the log and not to the client; [`Error::status`] chooses what
//! the client sees. Natively (not on wasm) the same code runs against a fake host: see `test`.
//!
//! A handler keeps data in [`kv`]. It reaches others by [`http::fetch`] and, where the protocol is another, by [`net`]; one that serves
//! connections itself is marked with [`macro@connection`].
//!
//! Built for `wasm32-wasip1` a handler is a module for tidegate; built for `wasm32-wasip2`, the same source is a
//! component that any host of `wasi:http` 0.2 runs. What the latter does without is said in the guide.
//!
//! What this crate must never know: how the host is built. All it has is the module ABI, laid out in `tidegate-abi`, or
//! `wasi:http`; only `sys` touches either.

mod body;
pub mod config;
#[cfg(any(feature = "form", feature = "json"))]
mod content;
#[cfg(feature = "cookies")]
pub mod cookies;
mod error;
pub mod fetch;
mod fields;
#[cfg(feature = "form")]
mod form;
mod forward;
#[cfg(feature = "futures")]
mod futures;
mod handler;
pub mod http;
#[cfg(feature = "json")]
mod json;
pub mod kv;
pub mod log;
pub mod middleware;
pub mod net;
mod payload;
mod query;
#[cfg(feature = "range")]
pub mod range;
mod request;
mod response;
mod router;
pub mod sse;
mod sys;
pub mod task;
mod time;
mod writer;

#[cfg(not(target_arch = "wasm32"))]
pub mod test;

pub use body::{COLLECT_BYTES_MAX, RequestBody};
pub use error::{Error, Result};
#[cfg(feature = "futures")]
pub use futures::BodyStream;
pub use handler::{Answering, Handler};
#[cfg(feature = "json")]
pub use json::Json;
pub use payload::Body;
pub use request::Request;
pub use response::{IntoResponse, Response};
pub use router::Router;
pub use time::{Usage, now, sleep, usage};
pub use writer::{BodyWriter, ResponseWriter};

pub use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};
pub use tidegate_macros::{connection, handler};

/// What `#[handler]` expands to; not for use by hand, and not covered by any promise.
#[doc(hidden)]
pub mod __private {
    pub use crate::handler::{connection, connection_async, route, run, run_async, stream, stream_async};

    /// What a component exports in place of `tidegate_handle`, around the same call.
    #[cfg(all(target_arch = "wasm32", target_env = "p2"))]
    #[doc(hidden)]
    #[macro_export]
    macro_rules! __export_component {
        ($call:expr) => {
            struct Component;

            impl $crate::__private::wasip2::exports::http::incoming_handler::Guest for Component {
                fn handle(
                    request: $crate::__private::wasip2::http::types::IncomingRequest,
                    outparam: $crate::__private::wasip2::http::types::ResponseOutparam,
                ) {
                    $crate::__private::serve(request, outparam, || $call);
                }
            }

            $crate::__private::wasip2::http::proxy::export!(Component with_types_in $crate::__private::wasip2);
        };
    }

    #[cfg(all(target_arch = "wasm32", target_env = "p2"))]
    pub use {crate::sys::component::serve, wasip2};
}
