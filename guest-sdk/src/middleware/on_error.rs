//! Errors as the app wants them to look.

use super::{Middleware, Next};
use crate::error::Error;
use crate::handler::{Answering, Own};
use crate::request::Request;
use crate::response::{IntoResponse, Response};
use std::rc::Rc;

/// The error handler: has `f` make the response to every error of what is inside: those that handlers return, the router's
/// own 404 and 405, and those of middleware further in.
///
/// The error has been logged by then. Headers that it carries, such as `Allow` of a 405, and those that middleware further
/// in has put on it are kept, unless `f` sets them itself or they describe the body that it replaces (`Content-*`). Responses that only have a status of an error, [`Response::status`] for one, are left as they are.
///
/// ```
/// use tidegate_sdk::{Error, Request, Response, Router, middleware, test::Exchange};
///
/// fn page(error: &Error) -> Response {
///     let message = error.message().unwrap_or("something is broken");
///     Response::html(format!("<h1>{message}</h1>")).with_status(error.status_code())
/// }
///
/// let app = Router::new().get("/", |_: Request| "hi\n").with(middleware::on_error(page));
/// let answer = Exchange::get("/nowhere").run(app);
/// assert_eq!((answer.status.unwrap().as_u16(), answer.text()), (404, "<h1>nothing is at this path</h1>"));
/// ```
pub fn on_error<R: IntoResponse>(f: impl Fn(&Error) -> R + 'static) -> OnError {
    OnError(Rc::new(move |error| f(error).into_response()))
}

/// See [`on_error`].
#[derive(Clone)]
pub struct OnError(Rc<dyn Fn(&Error) -> Response>);

impl Middleware<Own> for OnError {
    fn handle(&self, request: Request, next: Next) -> Answering {
        let f = Rc::clone(&self.0);
        next.call(request).map(move |response| {
            let Some(error) = response.error() else { return response };
            f(error).with_headers_of(&response)
        })
    }
}

impl std::fmt::Debug for OnError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnError")
    }
}
