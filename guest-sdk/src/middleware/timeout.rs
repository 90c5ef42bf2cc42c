//! A limit on the time to an answer, below the host's own.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::{Middleware, Next};
use crate::error::Error;
use crate::handler::{Answering, Own};
use crate::payload::BoxFuture;
use crate::request::Request;
use crate::response::{IntoResponse, Response};
use crate::task;
use crate::time::WaitLimit;

/// Answers 503 if what is inside takes longer than `limit` to return a response.
///
/// Async handlers are dropped when the time is over, wherever they wait. Blocking ones cannot be: their reads and writes fail
/// with [`std::io::ErrorKind::TimedOut`] from then on if they would have to wait, and sleeps end at once. If such a handler
/// returns an error then, that becomes the 503; if it returns an answer all the same, late, that is sent. The body of a
/// streamed response is written after the time has been stopped.
///
/// It is for waiting. CPU time has a limit of the app's own, and the host answers 504 past the app's own time for a
/// response's head: see [`Request::deadline`].
///
/// ```
/// use std::time::Duration;
/// use tidegate_sdk::{Request, Router, middleware, task, test::Exchange};
///
/// async fn slow(_request: Request) -> &'static str {
///     task::sleep(Duration::from_secs(20)).await;
///     "at last\n"
/// }
///
/// let app = Router::new().get("/", slow).with(middleware::timeout(Duration::from_secs(5)));
/// let answer = Exchange::get("/").run(app);
/// assert_eq!(answer.status.unwrap(), 503);
/// assert!(answer.text().contains("took longer than 5s"));
/// ```
#[must_use]
pub fn timeout(limit: Duration) -> Timeout {
    Timeout { limit }
}

/// See [`timeout`].
#[derive(Clone, Debug)]
pub struct Timeout {
    limit: Duration,
}

impl Middleware<Own> for Timeout {
    fn handle(&self, request: Request, next: Next) -> Answering {
        let limit = self.limit;
        // Further off than the clock goes is no limit.
        let Some(until) = crate::now().checked_add(limit) else { return next.call(request) };
        let guard = WaitLimit::set(until);
        let answering = next.call(request);
        drop(guard);
        match answering.ready() {
            Ok(response) => in_time(response, until, limit).into(),
            Err(inner) => Answering::later(async move {
                let left = until.saturating_duration_since(crate::now());
                match task::timeout(left, Limited { inner, until }).await {
                    Ok(response) => in_time(response, until, limit),
                    Err(_) => over(limit),
                }
            }),
        }
    }
}

/// The response that came after all. An error after the time was over is what the limit made of some wait.
fn in_time(response: Response, until: Instant, limit: Duration) -> Response {
    if response.error().is_some() && crate::now() >= until { over(limit) } else { response }
}

fn over(limit: Duration) -> Response {
    Error::unavailable(format!("the answer took longer than {limit:?}")).into_response()
}

/// What is inside, with the same limit on its blocking waits whenever it is polled.
struct Limited {
    inner: BoxFuture<'static, Response>,
    until: Instant,
}

impl Future for Limited {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        let _limit = WaitLimit::set_for_poll(self.until);
        self.inner.as_mut().poll(cx)
    }
}
