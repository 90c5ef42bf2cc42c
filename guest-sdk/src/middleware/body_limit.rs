//! A limit on request bodies, below the app's own.

use super::{Middleware, Next};
use crate::error::Error;
use crate::handler::{Answering, Own};
use crate::request::Request;
use crate::response::IntoResponse;

/// Takes bodies of at most `bytes_max` bytes. One that is declared longer is a 413 at once, and the handler does not run;
/// reading or forwarding past the limit fails with [`std::io::ErrorKind::FileTooLarge`], which `?` turns into a 413 too.
///
/// It can only lower the limit: that of the app holds in any case, and of two the smaller.
///
/// ```
/// use tidegate_sdk::{Request, Result, Router, middleware, test::Exchange};
///
/// fn upload(mut request: Request) -> Result<String> {
///     Ok(format!("{} bytes\n", request.body().bytes()?.len()))
/// }
///
/// let app = || Router::new().post("/", upload).with(middleware::body_limit(4));
/// assert_eq!(Exchange::post("/").body("1234").run(app()).text(), "4 bytes\n");
/// assert_eq!(Exchange::post("/").body("12345").run(app()).status.unwrap(), 413);
/// assert_eq!(Exchange::post("/").chunk("12345").run(app()).status.unwrap(), 413);
/// ```
#[must_use]
pub fn body_limit(bytes_max: u64) -> BodyLimit {
    BodyLimit { bytes_max }
}

/// See [`body_limit`].
#[derive(Clone, Debug)]
pub struct BodyLimit {
    bytes_max: u64,
}

impl Middleware<Own> for BodyLimit {
    fn handle(&self, mut request: Request, next: Next) -> Answering {
        let body = request.body();
        if body.declared_bytes().is_some_and(|bytes| bytes > self.bytes_max) {
            let message = format!("at most {} bytes are taken", self.bytes_max);
            return Error::payload_too_large(message).into_response().into();
        }
        body.set_limit(self.bytes_max);
        next.call(request)
    }
}
