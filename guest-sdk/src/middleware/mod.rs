//! Middleware: functions around a router's handlers, and those that come with it.
//!
//! A middleware takes the request and [`Next`], which is everything inside it. It may answer by itself, change the
//! request on its way in or the response on its way out, or go on beside it. [`Router::with`](crate::Router::with) puts it
//! around a router.
//!
//! ```
//! use tidegate_sdk::middleware::{self, Next};
//! use tidegate_sdk::{Error, Request, Response, Result, Router};
//!
//! /// Lets nobody in without a key.
//! fn key(request: Request, next: Next) -> Result<Response> {
//!     if request.header("x-key") != Some("sesame") {
//!         return Err(Error::forbidden("a key is needed"));
//!     }
//!     Ok(next.run(request))
//! }
//!
//! /// Says on every response what made it.
//! async fn powered(request: Request, next: Next) -> Response {
//!     next.run_async(request).await.with_header("x-powered-by", "tidegate")
//! }
//!
//! let app = || Router::new().get("/", |_: Request| "in\n").with(middleware::logger()).with(powered).with(key);
//! # use tidegate_sdk::test::Exchange;
//! # let answer = Exchange::get("/").run(app());
//! # assert_eq!((answer.status.unwrap().as_u16(), answer.headers["x-powered-by"].as_bytes()), (403, &b"tidegate"[..]));
//! # assert_eq!(Exchange::get("/").header("x-key", "sesame").run(app()).text(), "in\n");
//! ```
//!
//! What it sees of a response is its head and, of a whole one, its body. A streamed body is written after all middleware
//! has returned, so it cannot be held back by accident.
//!
//! What this module must never know: how a route is found. It walks the layers that the router names, and then goes
//! where the router said.

mod body_limit;
mod cors;
mod logger;
mod on_error;
mod timeout;

use http::{StatusCode, header};
use std::fmt;
use std::future::Future;
use std::rc::Rc;

pub use body_limit::{BodyLimit, body_limit};
pub use cors::{Cors, cors};
pub use logger::{Logger, logger};
pub use on_error::{OnError, on_error};
pub use timeout::{Timeout, timeout};

use crate::error::Error;
use crate::handler::{Answering, Async, Plain};
use crate::request::Request;
use crate::response::{IntoResponse, Response};
use crate::router::{Table, Target};

/// What can stand around handlers: a function or an async function of [`Request`] and [`Next`], or a type of its own.
///
/// `M` keeps the shapes apart and is always inferred; a type that implements it by itself writes `()`:
///
/// ```
/// use tidegate_sdk::middleware::{Middleware, Next};
/// use tidegate_sdk::{Answering, Request, Router};
///
/// /// Keeps caches from keeping anything.
/// struct NoStore;
///
/// impl Middleware<()> for NoStore {
///     fn handle(&self, request: Request, next: Next) -> Answering {
///         next.call(request).map(|response| response.with_header("cache-control", "no-store"))
///     }
/// }
///
/// let app = Router::new().get("/", |_: Request| "hi\n").with(NoStore);
/// # assert_eq!(tidegate_sdk::test::Exchange::get("/").run(app).headers["cache-control"], "no-store");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not middleware",
    label = "this cannot stand around a router",
    note = "middleware is `fn(Request, Next) -> R` or `async fn(Request, Next) -> R`, where `R` turns into a response",
    note = "a closure names the types of its arguments: `|request: Request, next: Next|`"
)]
pub trait Middleware<M>: 'static {
    /// Begins to serve `request`, with the help of what is inside or without it. See [`Middleware`].
    fn handle(&self, request: Request, next: Next) -> Answering;
}

impl<F, R> Middleware<Plain> for F
where
    F: Fn(Request, Next) -> R + 'static,
    R: IntoResponse,
{
    fn handle(&self, request: Request, next: Next) -> Answering {
        self(request, next).into_response().into()
    }
}

impl<F, A> Middleware<Async> for F
where
    F: Fn(Request, Next) -> A + 'static,
    A: Future + 'static,
    A::Output: IntoResponse,
{
    fn handle(&self, request: Request, next: Next) -> Answering {
        let answer = self(request, next);
        Answering::later(async move { answer.await.into_response() })
    }
}

/// Everything inside a middleware: the next one, or the handler.
///
/// ```
/// use tidegate_sdk::middleware::Next;
/// use tidegate_sdk::{Request, Response, Router, test::Exchange};
///
/// /// Answers favicons itself, and leaves all else to what is inside.
/// fn no_icon(request: Request, next: Next) -> Response {
///     if request.path() == "/favicon.ico" { Response::empty() } else { next.run(request) }
/// }
///
/// let app = || Router::new().get("/", |_: Request| "hi\n").with(no_icon);
/// Exchange::get("/favicon.ico").run(app()).assert_status(200);
/// assert_eq!(Exchange::get("/").run(app()).text(), "hi\n");
/// ```
#[must_use = "what is inside does not run by itself"]
pub struct Next {
    table: Rc<Table>,
    scope: usize,
    /// How many layers are around it.
    step: usize,
    target: Target,
}

impl Next {
    pub(crate) fn new(table: Rc<Table>, scope: usize, target: Target) -> Self {
        Self { table, scope, step: 0, target }
    }

    /// Runs it and waits for the response. In async middleware use [`Self::run_async`]: this would hold up everything else
    /// the handler does. See [`Next`].
    pub fn run(self, request: Request) -> Response {
        self.call(request).wait()
    }

    /// Runs it; the response comes when the future is awaited.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate_sdk::middleware::Next;
    /// use tidegate_sdk::{Request, Response, Router, task, test::Exchange};
    ///
    /// /// Gives who guesses passwords little to do.
    /// async fn slow(request: Request, next: Next) -> Response {
    ///     task::sleep(Duration::from_secs(1)).await;
    ///     next.run_async(request).await
    /// }
    ///
    /// let app = Router::new().get("/", |_: Request| "hi\n").with(slow);
    /// assert_eq!(Exchange::get("/").run(app).text(), "hi\n");
    /// ```
    pub async fn run_async(self, request: Request) -> Response {
        self.call(request).await
    }

    /// Begins to run it. This is for types that implement [`Middleware`]: it waits only if what is inside does.
    /// See there for an example.
    pub fn call(mut self, request: Request) -> Answering {
        let table = Rc::clone(&self.table);
        if let Some(layer) = table.layer(self.scope, self.step) {
            self.step += 1;
            return layer(request, self);
        }
        match self.target {
            Target::Route(route) => table.endpoint(route)(request),
            Target::NotFound => match table.fallback(self.scope) {
                Some(fallback) => fallback(request),
                None => Error::not_found("nothing is at this path").into_response().into(),
            },
            Target::NotAllowed(allow) => {
                let message = format!("this path takes {allow}");
                let error = Error::status(StatusCode::METHOD_NOT_ALLOWED, message);
                error.with_header(header::ALLOW, allow).into_response().into()
            }
            Target::Options(allow) => {
                Response::status(StatusCode::NO_CONTENT).with_header(header::ALLOW, allow).into()
            }
            Target::BadParam(name) => {
                Error::bad_request(format!("`{name}` in the path is not UTF-8")).into_response().into()
            }
        }
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("target", &self.target).finish_non_exhaustive()
    }
}
