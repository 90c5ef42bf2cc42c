//! Requests to others: any HTTP server that the app's manifest lets it reach.
//!
//! ```
//! use std::time::Duration;
//! use tidegate_sdk::{Request, Response, Result, http};
//!
//! fn order(_request: Request) -> Result<Response> {
//!     let mut made = http::post("https://shop.example/orders")
//!         .header("authorization", "Bearer sesame")
//!         .body("2 chairs")
//!         .first_byte_timeout(Duration::from_secs(5))
//!         .send()?;
//!     Ok(Response::text(format!("{}: {}\n", made.status(), made.text()?)))
//! }
//! # use tidegate_sdk::test::{self, Exchange};
//! # let _shop = test::upstream("https://shop.example", |request| {
//! #     assert_eq!(request.headers()["authorization"], "Bearer sesame");
//! #     http::Response::builder().status(201).body(request.into_body()).unwrap()
//! # });
//! # assert_eq!(Exchange::get("/").run(order).text(), "201 Created: 2 chairs\n");
//! ```
//!
//! **Who may be reached** stands in the manifest: `sockets = { connect = ["shop.example:443"] }`. Anybody else is
//! [`ErrorKind::Denied`].
//!
//! **Bodies stream** both ways. A request's body, [`RequestBody`](crate::RequestBody), can be given as the body of another
//! request, and a [`Response`] can be a handler's own: then its bytes are moved inside the host, in both directions at
//! once, and each side is as slow as the slower one. That is all that a proxy needs:
//!
//! ```
//! use tidegate_sdk::{Request, Result, fetch, http};
//!
//! fn proxy(request: Request) -> Result<fetch::Response> {
//!     let (mut head, body) = request.into_http().into_parts();
//!     head.uri = format!("http://shop.internal{}", head.uri).parse()?;
//!     Ok(http::fetch(http::Request::from_parts(head, body))?)
//! }
//! # use tidegate_sdk::test::{self, Exchange};
//! # let _shop = test::upstream("http://shop.internal", |request| {
//! #     http::Response::new([request.uri().path().as_bytes(), request.body()].concat())
//! # });
//! # assert_eq!(Exchange::post("/a").chunk("b").chunk("c").run(proxy).text(), "/abc");
//! ```
//!
//! **Failures** are an [`Error`] with an [`ErrorKind`]. Returned with `?` they are a 502 for the client, or a 504 if somebody
//! was too slow; the reason goes to the log.
//!
//! **In tests** upstreams are given by the test: `test::upstream`.
//!
//! Three parts: `request` and `body` are what is sent, `response` what comes back, `upload` what goes on between them.
//! What this module must never know: which host sends.

mod body;
mod error;
mod redirect;
mod request;
mod response;
mod response_body;
mod upload;

pub use body::Body;
pub use error::{Error, ErrorKind};
pub use request::{Pending, Request};
pub use response::Response;
pub use response_body::ResponseBody;

pub(crate) use error::explain;
