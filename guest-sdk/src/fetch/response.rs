//! The response to a request to somebody else: its head, and its way to the handler's own client.

use http::{HeaderMap, Method, StatusCode, Uri, header};
use std::io;
use tidegate_abi::fetch::ResponseView;
use tidegate_abi::poll::{Entry, READABLE};
use tidegate_abi::{errno, names};

use super::response_body::unreadable;
use super::upload::Upload;
use super::{Error, ErrorKind, ResponseBody};
use crate::body::COLLECT_BYTES_MAX;
use crate::fields::to_map;
use crate::forward::Pull;
use crate::payload::{BoxFuture, Streaming};
use crate::response::IntoResponse;
use crate::sys::{self, HostError, Waits};
use crate::writer::BodyWriter;

/// Packed heads are mostly shorter than this; a longer one takes a second call.
const HEAD_BYTES: usize = 1024;

/// Fields of the connection that a response came by (RFC 9110 section 7.6.1).
const NOT_PASSED_ON: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Removes these fields, and those that `Connection` names besides.
pub(super) fn strip(headers: &mut HeaderMap, names: &[&str]) {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    for name in named.iter().map(String::as_str).chain(names.iter().copied()) {
        if headers.contains_key(name) {
            headers.remove(name);
        }
    }
}

/// What came before a response's body.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
}

/// A request that was sent, at least in part.
#[derive(Debug)]
pub(super) struct Receiving {
    body: ResponseBody,
    method: Method,
    url: Uri,
}

impl Receiving {
    pub(super) fn new(handle: u32, upload: Upload, method: Method, url: Uri) -> Self {
        let body = ResponseBody::new(handle, upload);
        Self { body, method, url }
    }

    /// The head, once it is there.
    pub(super) fn head(&mut self, waits: &mut Waits) -> io::Result<Option<Head>> {
        self.body.upload.step(waits)?;
        let handle = self.body.handle();
        match sys::collect(names::fetch::HEAD, HEAD_BYTES, |buf| sys::fetch_head(handle, buf)) {
            Ok(packed) => {
                let view = ResponseView::parse(&packed);
                let head = view.and_then(|view| {
                    let status = StatusCode::from_u16(view.status()).ok()?;
                    Some(Head { status, headers: to_map(view.fields()) })
                });
                head.map(Some).ok_or_else(|| unreadable().into())
            }
            Err(HostError { errno: errno::EAGAIN, .. }) => {
                waits.push(Entry::new(handle, READABLE));
                Ok(None)
            }
            Err(error) => Err(Error::of_host(handle, error).into()),
        }
    }

    /// What there is, out of a place that is left with nothing.
    pub(super) fn take(&mut self) -> Self {
        const NOWHERE: u32 = u32::MAX;
        let nothing = Self::new(NOWHERE, Upload::done(NOWHERE), Method::GET, Uri::default());
        std::mem::replace(self, nothing)
    }

    pub(super) fn name_it(&self, error: Error) -> Error {
        error.at(|| format!("{} {}", self.method, self.url))
    }

    pub(super) fn into_response(self, head: Head) -> Response {
        let Self { mut body, method, url } = self;
        // RFC 9112 section 6.3: whatever it declares, it has none.
        let is_bodiless = method == Method::HEAD || matches!(head.status.as_u16(), 204 | 304);
        let declared = || head.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        body.declare(if is_bodiless { Some(0) } else { declared() });
        Response { status: head.status, headers: head.headers, method, url, body }
    }
}

/// The response to a request to somebody else.
///
/// Its body is read as it comes; what collects it stops at 2 MiB unless told otherwise. Returned by a handler, it is
/// the handler's own response: without the fields of the connection it came by, with its body moved inside the host.
/// Dropped, what is left of it is given up.
///
/// ```
/// use tidegate_sdk::{Request, Result, fetch, http};
///
/// fn picture(_request: Request) -> Result<fetch::Response> {
///     Ok(http::get("http://pictures.internal/7.png").send()?.error_for_status()?)
/// }
/// # use tidegate_sdk::test::{self, Exchange};
/// # let _pictures = test::upstream("http://pictures.internal", |_| {
/// #     http::Response::builder().header("content-type", "image/png").body("PNG").unwrap()
/// # });
/// # let answer = Exchange::get("/").run(picture);
/// # assert_eq!((answer.text(), answer.header("content-type")), ("PNG", Some("image/png")));
/// ```
#[derive(Debug)]
pub struct Response {
    status: StatusCode,
    headers: HeaderMap,
    method: Method,
    url: Uri,
    body: ResponseBody,
}

impl Response {
    /// Its status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The same if the status is one of success (2xx).
    ///
    /// ```
    /// use tidegate_sdk::{fetch::ErrorKind, http};
    ///
    /// # let _api = tidegate_sdk::test::upstream("http://api.internal", |_| {
    /// #     http::Response::builder().status(404).body(()).unwrap()
    /// # });
    /// let error = http::get("http://api.internal/x").send()?.error_for_status().unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Status(http::StatusCode::NOT_FOUND));
    /// # Ok::<(), tidegate_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Status`] if it is not.
    pub fn error_for_status(self) -> Result<Self, Error> {
        if self.status.is_success() {
            return Ok(self);
        }
        let error = Error::new(ErrorKind::Status(self.status), format!("the answer is {}", self.status));
        Err(error.at(|| format!("{} {}", self.method, self.url)))
    }

    /// Its headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The same, to change them before the response is passed on.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// The first header of that name, in any letter case, if its value is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Where it came from: after redirects, the last place.
    #[must_use]
    pub fn url(&self) -> &Uri {
        &self.url
    }

    /// Its body.
    pub fn body(&mut self) -> &mut ResponseBody {
        &mut self.body
    }

    /// Its body, without the rest.
    #[must_use]
    pub fn into_body(self) -> ResponseBody {
        self.body
    }

    /// In the type of the `http` crate.
    #[must_use]
    pub fn into_http(self) -> http::Response<ResponseBody> {
        let mut response = http::Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }

    /// The whole body, up to [`COLLECT_BYTES_MAX`].
    ///
    /// # Errors
    /// As [`ResponseBody::bytes_limited`].
    pub fn bytes(&mut self) -> Result<Vec<u8>, Error> {
        self.body.bytes_limited(COLLECT_BYTES_MAX)
    }

    /// The whole body as text, up to [`COLLECT_BYTES_MAX`].
    ///
    /// # Errors
    /// [`ErrorKind::Content`] if it is not UTF-8; else as [`ResponseBody::bytes_limited`].
    pub fn text(&mut self) -> Result<String, Error> {
        utf8(self.bytes()?)
    }

    /// The whole body, read as JSON, up to [`COLLECT_BYTES_MAX`].
    ///
    /// # Errors
    /// [`ErrorKind::Content`] if it is no such JSON; else as [`ResponseBody::bytes_limited`].
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, Error> {
        parse(&self.bytes()?)
    }

    /// [`Self::bytes`] for async code.
    ///
    /// # Errors
    /// As there.
    pub async fn collect(&mut self) -> Result<Vec<u8>, Error> {
        self.body.collect_limited(COLLECT_BYTES_MAX).await
    }

    /// [`Self::text`] for async code.
    ///
    /// # Errors
    /// As there.
    pub async fn collect_text(&mut self) -> Result<String, Error> {
        utf8(self.collect().await?)
    }

    /// [`Self::json`] for async code.
    ///
    /// # Errors
    /// As there.
    #[cfg(feature = "json")]
    pub async fn json_async<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, Error> {
        parse(&self.collect().await?)
    }
}

fn utf8(bytes: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(bytes).map_err(|_| Error::of_content("the body is not valid UTF-8"))
}

#[cfg(feature = "json")]
fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::of_content(format_args!("the body is not the JSON expected: {error}")))
}

/// A response on its way to the handler's own client.
struct Relay(ResponseBody);

impl Relay {
    /// The end, with the trailers that came and may be sent.
    fn end(&mut self, out: &mut BodyWriter) -> crate::Result<()> {
        out.set_trailers_of(Pull::trailers(&mut self.0)?);
        Ok(())
    }
}

impl Streaming for Relay {
    fn write(mut self: Box<Self>, out: &mut BodyWriter) -> crate::Result<()> {
        out.forward(&mut self.0)?;
        self.end(out)
    }

    fn write_async<'a>(mut self: Box<Self>, out: &'a mut BodyWriter) -> BoxFuture<'a, crate::Result<()>> {
        Box::pin(async move {
            out.forward_async(&mut self.0).await?;
            self.end(out)
        })
    }
}

impl IntoResponse for Response {
    /// The handler's own response: see [`Response`].
    fn into_response(mut self) -> crate::Response {
        strip(&mut self.headers, &NOT_PASSED_ON);
        if self.body.is_ended() {
            return crate::Response::status(self.status).with_headers(self.headers);
        }
        crate::Response::relayed(self.status, self.headers, Box::new(Relay(self.body)))
    }
}
