//! Handlers under test: without a server and without wasm, or, by `tidegate test`, as the real module in the real host.
//!
//! [`app`] makes something to send requests to; [`Exchange`] describes a request and how its client behaves; what comes
//! back is an [`Answer`].
//!
//! ```
//! use tidegate_sdk::{Request, Response, handler, test};
//!
//! #[handler]
//! fn hello(request: Request) -> Response {
//!     Response::text(format!("Hello {}\n", request.path()))
//! }
//!
//! // In a function marked `#[test]`:
//! let app = test::app(hello);
//! let answer = app.get("/world");
//! assert_eq!(answer.assert_status(200).text(), "Hello /world\n");
//! ```
//!
//! # Natively
//! The handler is called in the test's own thread, with a host in memory behind it that follows the rules of the real
//! one for order, backpressure and ends. Its time is not real: a wait takes as long as it takes, on its clock
//! ([`crate::now`]), and no time at all on the test's. So a test of a timeout of an hour is done at once, and one with
//! several things going on gives the same result each time. There are no limits on CPU and memory.
//!
//! # Under `tidegate test`
//! That command builds the module, serves it in the real host, and runs the crate's tests with the environment variable
//! `TIDEGATE_TEST_SOCKET` set to where it listens. [`App::send`] then sends the request there, as HTTP/1.1, and ignores
//! the handler it was made from, which must be the one that `#[handler]` exports. What differs:
//! - time is real;
//! - [`Answer::logs`] and [`Answer::calls`] are empty and [`Answer::queued_bytes_max`] is 0, as nobody can see them from
//!   outside; `tidegate test` shows the log on its own output;
//! - [`Exchange::mount`] and [`Exchange::param`] panic: routes belong to the server there;
//! - a handler without a response, or one that ran into a limit, gets the response of the server for that.
//!
//! [`Exchange::run`] and [`Exchange::run_streaming`] always run natively.
//!
//! # Others
//! Requests that a handler sends are answered by functions of the test ([`upstream`]), and nobody else is asked; under
//! `tidegate test` the real module asks the real ones. Its sockets are real in any case, and while it waits for one,
//! time is real too. What serves connections is at the other end of [`connect`].

mod answer;
#[cfg(unix)]
mod client;
mod connection;
mod exchange;
mod upstream;
#[cfg(unix)]
mod wire;

pub use answer::Answer;
pub use connection::connect;
pub use exchange::{Exchange, StreamingResult};
pub use upstream::{Upstream, UpstreamResult, upstream, upstream_after};

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use crate::handler::{self, Handler};
use crate::request::Request;
use crate::writer::ResponseWriter;

/// Names the Unix socket of `tidegate test`.
const SOCKET_VARIABLE: &str = "TIDEGATE_TEST_SOCKET";

/// A handler to send requests to: see the [module](self).
///
/// ```
/// use tidegate_sdk::test::{self, Exchange};
/// use tidegate_sdk::{Request, Router};
///
/// let echo = |mut request: Request| request.body().text();
/// let app = test::app(Router::new().get("/", |_: Request| "hi\n").post("/", echo));
/// assert_eq!(app.get("/").text(), "hi\n");
/// assert_eq!(app.post("/", "hello").text(), "hello");
/// app.send(Exchange::new("DELETE", "/")).assert_status(405);
/// ```
pub struct App {
    serve: Serve,
}

enum Serve {
    Here(Box<dyn Fn(Exchange) -> Answer>),
    There(PathBuf),
}

/// An app of this handler: a function, an async function, or a router.
///
/// ```
/// use tidegate_sdk::{Request, Router, test};
///
/// async fn show(request: Request) -> String {
///     format!("item {}\n", request.param("id").unwrap_or_default())
/// }
///
/// fn routes() -> Router {
///     Router::new().get("/items/{id}", show)
/// }
///
/// let app = test::app(routes());
/// assert_eq!(app.get("/items/7").text(), "item 7\n");
/// app.post("/items/7", "x").assert_status(405);
/// ```
pub fn app<M: 'static>(handler: impl Handler<M>) -> App {
    App::new(move |exchange: Exchange| exchange.run_here(|| handler::serve(&handler)))
}

/// An app of a handler that streams its response, plain or async.
///
/// ```
/// use tidegate_sdk::{Request, ResponseWriter, Result, StatusCode, test};
///
/// async fn count(_request: Request, response: ResponseWriter) -> Result<()> {
///     let mut body = response.start(StatusCode::OK)?;
///     for i in 0..3 {
///         body.send(format!("{i}\n").as_bytes()).await?;
///     }
///     body.finish()?;
///     Ok(())
/// }
///
/// assert_eq!(test::app_streaming(count).get("/").text(), "0\n1\n2\n");
/// ```
pub fn app_streaming<R: StreamingResult<M>, M: 'static>(
    handler: impl Fn(Request, ResponseWriter) -> R + 'static,
) -> App {
    App::new(move |exchange: Exchange| exchange.run_streaming(&handler))
}

/// An app behind a Unix socket, whoever listens there: requests go to it as under `tidegate test`.
///
/// ```no_run
/// tidegate_sdk::test::socket("/run/shop.sock").get("/").assert_status(200);
/// ```
pub fn socket(path: impl Into<PathBuf>) -> App {
    App { serve: Serve::There(path.into()) }
}

impl App {
    fn new(here: impl Fn(Exchange) -> Answer + 'static) -> Self {
        let serve = match std::env::var_os(SOCKET_VARIABLE) {
            Some(path) => Serve::There(path.into()),
            None => Serve::Here(Box::new(here)),
        };
        Self { serve }
    }

    /// Sends a request and waits for the answer. See [`App`].
    ///
    /// # Panics
    /// If the handler does (natively), waits for ever, or if the server cannot be reached or does not speak HTTP.
    pub fn send(&self, exchange: Exchange) -> Answer {
        match &self.serve {
            Serve::Here(serve) => serve(exchange),
            #[cfg(unix)]
            Serve::There(path) => client::send(path, exchange),
            #[cfg(not(unix))]
            Serve::There(_) => panic!("requests to the real module need Unix sockets, which are not here"),
        }
    }

    /// Sends a GET. See [`App`].
    pub fn get(&self, target: &str) -> Answer {
        self.send(Exchange::get(target))
    }

    /// Sends a POST with this body. See [`App`].
    pub fn post(&self, target: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.send(Exchange::post(target).body(body))
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.serve {
            Serve::Here(_) => OsString::from("here"),
            Serve::There(path) => path.clone().into(),
        };
        f.debug_struct("App").field("served", &place).finish()
    }
}
