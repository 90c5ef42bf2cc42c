//! Those whom a handler under test sends requests to.

use http::{HeaderMap, StatusCode, header};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::fetch::ErrorKind;
use crate::payload::Body;
use crate::sys::native::upstreams::{self, Answer};

/// What an upstream of a test returns: an [`http::Response`], or the kind of failure that the handler is to see.
pub trait UpstreamResult {
    #[doc(hidden)]
    fn into_answer(self) -> Result<http::Response<Vec<u8>>, ErrorKind>;
}

impl<B: Into<Body>> UpstreamResult for http::Response<B> {
    fn into_answer(self) -> Result<http::Response<Vec<u8>>, ErrorKind> {
        Ok(self.map(|body| body.into().into_bytes()))
    }
}

impl<B: Into<Body>> UpstreamResult for Result<http::Response<B>, ErrorKind> {
    fn into_answer(self) -> Result<http::Response<Vec<u8>>, ErrorKind> {
        self.and_then(UpstreamResult::into_answer)
    }
}

/// An upstream that is there until this is dropped: see [`upstream`].
#[must_use = "the upstream is there until this is dropped"]
pub struct Upstream {
    origin: String,
}

/// Answers the requests that handlers of this thread send to `origin`, `http://shop.internal` for one, until what is
/// returned is dropped. Native tests only: a real handler sends to the real one. Requests to anybody else are refused.
///
/// ```
/// use tidegate_sdk::fetch::ErrorKind;
/// use tidegate_sdk::{Request, Result, http, test};
///
/// fn price(_request: Request) -> Result<String> {
///     Ok(http::get("http://shop.internal/price?of=chair").send()?.text()?)
/// }
///
/// let shop = test::upstream("http://shop.internal", |request| {
///     http::Response::new(format!("{}: 20", request.uri().query().unwrap_or_default()))
/// });
/// assert_eq!(test::Exchange::get("/").run(price).text(), "of=chair: 20");
/// drop(shop);
/// let _slow = test::upstream("http://shop.internal", |_| Err::<http::Response<()>, _>(ErrorKind::Timeout));
/// test::Exchange::get("/").run(price).assert_status(504);
/// ```
pub fn upstream<R: UpstreamResult>(
    origin: &str,
    answer: impl Fn(http::Request<Vec<u8>>) -> R + 'static,
) -> Upstream {
    upstream_after(Duration::ZERO, origin, answer)
}

/// As [`upstream`]; each answer takes so long, on the clock of the host in memory.
///
/// ```
/// use std::time::Duration;
/// use tidegate_sdk::{Request, Result, http, now, test};
///
/// fn wait(_request: Request) -> Result<String> {
///     let start = now();
///     http::get("http://slow.internal/").send()?;
///     Ok(format!("{:?}", now() - start))
/// }
///
/// let minute = Duration::from_secs(60);
/// let _slow = test::upstream_after(minute, "http://slow.internal", |_| http::Response::new(()));
/// assert_eq!(test::Exchange::get("/").run(wait).text(), "60s");
/// ```
pub fn upstream_after<R: UpstreamResult>(
    delay: Duration,
    origin: &str,
    answer: impl Fn(http::Request<Vec<u8>>) -> R + 'static,
) -> Upstream {
    let delay_ns = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
    let serve = move |request: http::Request<Vec<u8>>| {
        let is_head = request.method() == http::Method::HEAD;
        let result = answer(request).into_answer().map_err(code_of).map(|response| whole(response, is_head));
        Answer { result, delay_ns }
    };
    upstreams::add(origin, Rc::new(serve));
    Upstream { origin: origin.to_owned() }
}

/// With the length that a server would say.
fn whole(response: http::Response<Vec<u8>>, is_head: bool) -> (StatusCode, HeaderMap, Vec<u8>) {
    let (mut head, body) = response.into_parts();
    if !head.headers.contains_key(header::CONTENT_LENGTH) {
        head.headers.insert(header::CONTENT_LENGTH, body.len().into());
    }
    (head.status, head.headers, if is_head { Vec::new() } else { body })
}

/// The code of `wasi:http` that a host would give.
fn code_of(kind: ErrorKind) -> String {
    let code = match kind {
        ErrorKind::Denied => "HTTP-request-denied",
        ErrorKind::Dns => "DNS-error",
        ErrorKind::Refused => "connection-refused",
        ErrorKind::Unreachable => "destination-unavailable",
        ErrorKind::Timeout => "connection-timeout",
        ErrorKind::Tls => "TLS-certificate-error",
        ErrorKind::Closed => "connection-terminated",
        ErrorKind::Protocol => "HTTP-protocol-error",
        ErrorKind::Busy => "connection-limit-reached",
        ErrorKind::TooLarge => "HTTP-response-body-size",
        ErrorKind::Request => "HTTP-request-URI-invalid",
        ErrorKind::Body => "HTTP-request-body-size",
        _ => "internal-error",
    };
    code.to_owned()
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("origin", &self.origin).finish()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        upstreams::remove(&self.origin);
    }
}
