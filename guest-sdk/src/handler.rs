//! Handlers: what can serve a request, and the way from the host's call to the user's function and back.
//!
//! `#[handler]` only picks one of the functions below by the shape it sees, so that a new shape is a new function here
//! and modules built before keep working. A plain handler goes straight through [`run`]; what is generic over all
//! shapes, a router's route for one, goes through [`Handler`].

use std::cell::OnceCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tidegate_abi::errno;

use crate::error::Error;
use crate::net::TcpStream;
use crate::payload::BoxFuture;
use crate::request::Request;
use crate::response::{IntoResponse, Response, Unsent};
use crate::router::Router;
use crate::sys::HostError;
use crate::task;
use crate::writer::ResponseWriter;

/// What `tidegate_handle` returns: the host answers 0 with what was sent, anything else with `guest-error`.
const DONE: i32 = 0;
const FAILED: i32 = 1;

/// What can serve requests: a function, an async function, or a [`Router`].
///
/// `M` keeps the shapes apart and is always inferred. A closure that looks at its argument names its type:
///
/// ```
/// use tidegate_sdk::{Request, Router, task};
///
/// async fn slow(_request: Request) -> &'static str {
///     task::sleep(std::time::Duration::from_millis(20)).await;
///     "slow\n"
/// }
///
/// let router = Router::new().get("/path", |request: Request| request.path().to_owned()).get("/slow", slow);
/// # assert_eq!(tidegate_sdk::test::Exchange::get("/slow").run(router).text(), "slow\n");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "this cannot serve a request",
    note = "a handler is `fn(Request) -> R` or `async fn(Request) -> R`, where `R` turns into a response, or a `Router`",
    note = "to write the response bit by bit, return `Response::stream` or `Response::stream_async`: only `#[handler]` itself takes `fn(Request, ResponseWriter)`",
    note = "a closure names the type of its argument: `|request: Request|`"
)]
pub trait Handler<M>: 'static {
    /// Begins to serve `request`.
    ///
    /// A type of your own that implements it writes `()` for `M`:
    ///
    /// ```
    /// use tidegate_sdk::{Answering, Handler, IntoResponse, Request, test::Exchange};
    ///
    /// struct Greeter(&'static str);
    ///
    /// impl Handler<()> for Greeter {
    ///     fn call(&self, request: Request) -> Answering {
    ///         format!("{} {}\n", self.0, request.path()).into_response().into()
    ///     }
    /// }
    /// assert_eq!(Exchange::get("/Ada").run(Greeter("Hello")).text(), "Hello /Ada\n");
    /// ```
    fn call(&self, request: Request) -> Answering;
}

/// The marker of plain functions.
#[doc(hidden)]
#[derive(Debug)]
pub enum Plain {}

/// The marker of async functions.
#[doc(hidden)]
#[derive(Debug)]
pub enum Async {}

/// The marker of what implements a trait itself.
#[doc(hidden)]
#[derive(Debug)]
pub enum Own {}

impl<F, R> Handler<Plain> for F
where
    F: Fn(Request) -> R + 'static,
    R: IntoResponse,
{
    fn call(&self, request: Request) -> Answering {
        self(request).into_response().into()
    }
}

impl<F, A> Handler<Async> for F
where
    F: Fn(Request) -> A + 'static,
    A: Future + 'static,
    A::Output: IntoResponse,
{
    fn call(&self, request: Request) -> Answering {
        let answer = self(request);
        Answering::later(async move { answer.await.into_response() })
    }
}

/// A response that is there, or a future of one.
///
/// It is a future itself, for async callers, and [`Self::wait`] is for the others.
///
/// ```
/// use tidegate_sdk::{Answering, Response};
///
/// let answering = Answering::later(async { Response::text("hi\n") });
/// let response = answering.map(|response| response.with_header("x-cache", "miss")).wait();
/// assert_eq!(response.header("x-cache").unwrap(), "miss");
/// ```
#[must_use = "an answer that is not waited for may never come"]
pub struct Answering(State);

#[allow(clippy::large_enum_variant, reason = "a box would be an allocation for each plain handler")]
enum State {
    Ready(Option<Response>),
    Waiting(BoxFuture<'static, Response>),
}

impl Answering {
    /// An answer that `future` will give.
    pub fn later(future: impl Future<Output = Response> + 'static) -> Self {
        Self(State::Waiting(Box::pin(future)))
    }

    /// Waits for it. A blocking handler's is there already.
    pub fn wait(self) -> Response {
        match self.0 {
            State::Ready(response) => response.expect(TAKEN),
            State::Waiting(future) => task::block_on(future),
        }
    }

    /// The answer as `f` changes it, now or when it is there.
    pub fn map(self, f: impl FnOnce(Response) -> Response + 'static) -> Self {
        match self.0 {
            State::Ready(response) => f(response.expect(TAKEN)).into(),
            State::Waiting(future) => Self::later(async move { f(future.await) }),
        }
    }

    /// The response if it is there, else the future.
    pub(crate) fn ready(self) -> Result<Response, BoxFuture<'static, Response>> {
        match self.0 {
            State::Ready(response) => Ok(response.expect(TAKEN)),
            State::Waiting(future) => Err(future),
        }
    }
}

const TAKEN: &str = "an answer is taken once";

impl From<Response> for Answering {
    fn from(response: Response) -> Self {
        Self(State::Ready(Some(response)))
    }
}

impl Future for Answering {
    type Output = Response;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        match &mut self.get_mut().0 {
            State::Ready(response) => Poll::Ready(response.take().expect(TAKEN)),
            State::Waiting(future) => future.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for Answering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            State::Ready(response) => f.debug_tuple("Answering").field(response).finish(),
            State::Waiting(_) => f.write_str("Answering(..)"),
        }
    }
}

/// Once per instance, before its first request: constructors, where they have not run, then the panic hook.
///
/// Not an `_initialize` of its own: a second call into the guest costs every fresh instance a third of a microsecond.
fn initialize() {
    #[cfg(target_arch = "wasm32")]
    {
        use std::sync::atomic::{AtomicBool, Ordering};
        static DONE: AtomicBool = AtomicBool::new(false);
        if !DONE.load(Ordering::Relaxed) {
            DONE.store(true, Ordering::Relaxed);
            crate::sys::construct();
            std::panic::set_hook(Box::new(log_panic));
        }
    }
}

#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
/// Logs a panic as one record. Returning from here is the trap.
fn log_panic(info: &std::panic::PanicHookInfo<'_>) {
    let text = info.payload_as_str().unwrap_or("a value that is not text");
    match info.location() {
        Some(at) => crate::error!("panicked at {at}: {text}"),
        None => crate::error!("panicked: {text}"),
    }
}

/// `fn(Request) -> impl IntoResponse`.
pub fn run<R: IntoResponse>(handler: impl FnOnce(Request) -> R) -> i32 {
    initialize();
    code(handler(Request::new()).into_response().send())
}

/// `async fn(Request) -> impl IntoResponse`.
pub fn run_async<A>(handler: impl FnOnce(Request) -> A) -> i32
where
    A: Future,
    A::Output: IntoResponse,
{
    initialize();
    code(task::block_on(async { handler(Request::new()).await.into_response().send_async().await }))
}

/// Every shape of [`Handler`].
pub(crate) fn serve<M>(handler: &impl Handler<M>) -> i32 {
    initialize();
    code(match handler.call(Request::new()).ready() {
        Ok(response) => response.send(),
        // The body is written under the same executor, so that what the handler spawned goes on meanwhile.
        Err(future) => task::block_on(async { future.await.send_async().await }),
    })
}

/// `fn() -> Router`: called once per instance.
pub fn route<R: BuildsRouter>(build: impl FnOnce() -> R) -> i32 {
    thread_local! {
        static ROUTER: OnceCell<Router> = const { OnceCell::new() };
    }
    initialize();
    ROUTER.with(|router| serve(router.get_or_init(|| build().router())))
}

/// What a handler without arguments returns.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a handler without arguments returns a `Router`, not `{Self}`",
    label = "this is not a `Router`",
    note = "to answer requests itself, the function takes one: `fn(Request) -> Response`"
)]
pub trait BuildsRouter {
    fn router(self) -> Router;
}

impl BuildsRouter for Router {
    fn router(self) -> Router {
        self
    }
}

/// `fn(Request, ResponseWriter) -> Result<()>`.
pub fn stream<E: Into<Error>>(handler: impl FnOnce(Request, ResponseWriter) -> Result<(), E>) -> i32 {
    initialize();
    let request = Request::new();
    let response = ResponseWriter::new(request.response_handle());
    streamed(handler(request, response))
}

/// `async fn(Request, ResponseWriter) -> Result<()>`.
pub fn stream_async<A, E>(handler: impl FnOnce(Request, ResponseWriter) -> A) -> i32
where
    A: Future<Output = Result<(), E>>,
    E: Into<Error>,
{
    initialize();
    let request = Request::new();
    let response = ResponseWriter::new(request.response_handle());
    streamed(task::block_on(handler(request, response)))
}

/// `fn(TcpStream)`, which may return a `Result`: serves a connection.
pub fn connection<R: Served>(handle: i32, handler: impl FnOnce(TcpStream) -> R) -> i32 {
    initialize();
    handler(accepted(handle)).code()
}

/// The same of an `async fn`.
pub fn connection_async<A>(handle: i32, handler: impl FnOnce(TcpStream) -> A) -> i32
where
    A: Future,
    A::Output: Served,
{
    initialize();
    task::block_on(handler(accepted(handle))).code()
}

fn accepted(handle: i32) -> TcpStream {
    TcpStream::accepted(handle.cast_unsigned())
}

/// What a function that serves a connection returns.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a function that serves a connection cannot return `{Self}`",
    label = "this is neither nothing nor a `Result<()>`",
    note = "it returns nothing, or a `tidegate_sdk::Result<()>`"
)]
pub trait Served {
    fn code(self) -> i32;
}

impl Served for () {
    fn code(self) -> i32 {
        DONE
    }
}

impl<E: Into<Error>> Served for Result<(), E> {
    fn code(self) -> i32 {
        let Err(error) = self else { return DONE };
        crate::error!("{}", error.into());
        FAILED
    }
}

/// The end of a handler that sent its response itself: its error becomes the response, if there was none.
fn streamed<E: Into<Error>>(result: Result<(), E>) -> i32 {
    let Err(error) = result else { return DONE };
    let error: Error = error.into();
    let unlogged = error.is_unlogged().then(|| error.to_string());
    match error.into_response().send() {
        Ok(()) => DONE,
        // There is a response, whole or not: this is not part of it, and the host is told.
        Err(Unsent::Refused(HostError { errno: errno::EALREADY, .. }) | Unsent::Broken(_)) => {
            if let Some(text) = unlogged {
                crate::error!("after the response had begun: {text}");
            }
            FAILED
        }
        Err(Unsent::Refused(error)) => {
            explain(&error);
            FAILED
        }
    }
}

/// What the host is told of a response.
fn code(sent: Result<(), Unsent>) -> i32 {
    match sent {
        Ok(()) => DONE,
        Err(Unsent::Refused(error)) => {
            explain(&error);
            // Nothing was sent, and the host has a better name for that than a failed handler.
            DONE
        }
        Err(Unsent::Broken(error)) => {
            error.log_late();
            FAILED
        }
    }
}

fn explain(error: &HostError) {
    if error.errno != errno::ECONNRESET {
        crate::error!("the response was refused: {error}");
    }
}
