//! One record for each request.

use std::time::Duration;

use super::{Middleware, Next};
use crate::handler::{Answering, Own};
use crate::request::Request;
use crate::sys;

/// Logs each request when its response's head is there, as `GET /items/7 200 in 1.8ms`, at the level info.
///
/// Put it outermost, so that it sees what the client gets. The time is that of handler and middleware; that of a streamed
/// body is not in it. The query is left out: it is where secrets end up.
///
/// ```
/// use tidegate_sdk::{Request, Router, log::Level, middleware, test::Exchange};
///
/// let app = Router::new().get("/", |_: Request| "hi\n").with(middleware::logger());
/// let answer = Exchange::get("/?token=1").run(app);
/// assert_eq!(answer.logs[0].0, Level::Info);
/// assert!(answer.logs[0].1.starts_with("GET / 200 in "));
/// ```
#[must_use]
pub fn logger() -> Logger {
    Logger(())
}

/// See [`logger`].
#[derive(Clone, Debug)]
pub struct Logger(());

impl Middleware<Own> for Logger {
    fn handle(&self, request: Request, next: Next) -> Answering {
        let line = format!("{} {}", request.method(), request.path());
        let start_ns = sys::monotonic_ns();
        next.call(request).map(move |response| {
            let took = Duration::from_nanos(sys::monotonic_ns().saturating_sub(start_ns));
            crate::info!("{line} {} in {took:.1?}", response.status_code().as_u16());
            response
        })
    }
}
