//! A response, its way out, and what can become one.
//!
//! Invariant: while `content_type` is set, `headers` has no `content-type`. It stands apart so that the most common
//! responses allocate nothing on their way out.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::borrow::Cow;
use std::io::Write;
use tidegate_abi::errno;

use crate::error::{Error, Result};
use crate::fields::{packed, pairs};
use crate::payload::{Body, Payload, Streaming};
use crate::request;
use crate::sys::{self, HostError, RESPOND_BODY_BYTES_MAX, check};
use crate::writer::BodyWriter;

/// A response: a head, and a body that is there as a whole or a function that writes it.
///
/// A whole one leaves in one call to the host. A streamed one ([`Self::stream`], [`Self::stream_async`]) is a value like
/// any other until then: middleware can look at its head and change it, and its body is written after all of that.
///
/// ```
/// use tidegate_sdk::{Response, StatusCode};
///
/// let response = Response::html("<h1>Not here</h1>")
///     .with_status(StatusCode::NOT_FOUND)
///     .with_header("cache-control", "no-store");
/// assert_eq!(response.status_code(), 404);
/// ```
#[derive(Debug)]
pub struct Response {
    status: StatusCode,
    content_type: Option<HeaderValue>,
    headers: HeaderMap,
    payload: Payload,
    /// The first header that `with_header` could not take.
    invalid: Option<&'static str>,
    /// The error that it was made from. In a box, so that the many that have none stay small.
    error: Option<Box<Error>>,
}

/// Why a response did not leave as it should.
#[derive(Debug)]
pub(crate) enum Unsent {
    /// The host took no head, or the body that was there could not follow.
    Refused(HostError),
    /// The head left, and then the function that writes the body failed: the response is cut off.
    Broken(Error),
}

impl From<Unsent> for Error {
    fn from(unsent: Unsent) -> Self {
        match unsent {
            Unsent::Refused(error) => std::io::Error::from(error).into(),
            Unsent::Broken(error) => error,
        }
    }
}

impl Response {
    fn new(status: StatusCode, content_type: Option<HeaderValue>, payload: Payload) -> Self {
        Self { status, content_type, headers: HeaderMap::new(), payload, invalid: None, error: None }
    }

    pub(crate) fn typed(content_type: HeaderValue, body: impl Into<Body>) -> Self {
        Self::new(StatusCode::OK, Some(content_type), Payload::Whole(body.into()))
    }

    /// 200 with plain text in UTF-8.
    ///
    /// ```
    /// use tidegate_sdk::Response;
    ///
    /// let response = Response::text("hello\n");
    /// assert_eq!(response.header("content-type").unwrap(), "text/plain; charset=utf-8");
    /// ```
    pub fn text(body: impl Into<Body>) -> Self {
        Self::typed(HeaderValue::from_static("text/plain; charset=utf-8"), body)
    }

    /// 200 with HTML in UTF-8.
    ///
    /// ```
    /// use tidegate_sdk::Response;
    ///
    /// let response = Response::html("<h1>Hello</h1>");
    /// assert_eq!(response.header("content-type").unwrap(), "text/html; charset=utf-8");
    /// ```
    pub fn html(body: impl Into<Body>) -> Self {
        Self::typed(HeaderValue::from_static("text/html; charset=utf-8"), body)
    }

    /// 200 with bytes of no particular type.
    ///
    /// ```
    /// use tidegate_sdk::Response;
    ///
    /// let response = Response::bytes(vec![0x89, b'P', b'N', b'G']).with_header("content-type", "image/png");
    /// assert_eq!(response.body().unwrap().as_bytes().len(), 4);
    /// ```
    pub fn bytes(body: impl Into<Body>) -> Self {
        Self::typed(HeaderValue::from_static("application/octet-stream"), body)
    }

    /// 200 with nothing in it.
    ///
    /// ```
    /// use tidegate_sdk::Response;
    ///
    /// let response = Response::empty().with_header("x-answer", 42);
    /// assert!(response.status_code() == 200 && response.body().unwrap().as_bytes().is_empty());
    /// ```
    #[must_use]
    pub fn empty() -> Self {
        Self::status(StatusCode::OK)
    }

    /// 303 to another place, which the client asks with GET (RFC 9110 section 15.4.4): after a form, for one. For the other
    /// kinds of redirect, add `.with_status(StatusCode::PERMANENT_REDIRECT)` and the like. A place that cannot stand in a
    /// header makes it a 500, as in [`Self::with_header`].
    ///
    /// ```
    /// let response = tidegate_sdk::Response::redirect("/orders/7");
    /// assert_eq!(response.status_code(), 303);
    /// assert_eq!(response.header("location").unwrap(), "/orders/7");
    /// ```
    #[must_use]
    pub fn redirect<V: TryInto<HeaderValue>>(to: V) -> Self {
        Self::status(StatusCode::SEE_OTHER).with_header(LOCATION, to)
    }

    /// This status, and nothing in it.
    ///
    /// ```
    /// use tidegate_sdk::{Response, StatusCode};
    ///
    /// let response = Response::status(StatusCode::NO_CONTENT);
    /// assert!(response.status_code() == 204 && response.header("content-type").is_none());
    /// ```
    #[must_use]
    pub fn status(status: StatusCode) -> Self {
        Self::new(status, None, Payload::default())
    }

    /// 200 with a body that `write` writes; a content type is up to [`Self::with_header`].
    ///
    /// The head leaves first, then `write` runs, then the body is ended. If `write` fails, the body is cut off, so that
    /// the client sees that it is not whole, and the log says why. `write` waits while the client is slower than it is,
    /// so nothing piles up. For a request of HEAD, and for the statuses 204, 205 and 304, it does not run at
    /// all.
    ///
    /// ```
    /// use std::io::Write;
    /// use tidegate_sdk::{Request, Response};
    ///
    /// fn numbers(_request: Request) -> Response {
    ///     Response::stream(|body| {
    ///         for i in 0..1_000 {
    ///             writeln!(body, "{i}")?;
    ///         }
    ///         Ok(())
    ///     })
    ///     .with_header("content-type", "text/plain")
    /// }
    /// # let answer = tidegate_sdk::test::Exchange::get("/").run(numbers);
    /// # assert!(answer.finished && answer.text().ends_with("\n999\n"));
    /// ```
    pub fn stream(write: impl FnOnce(&mut BodyWriter) -> Result<()> + 'static) -> Self {
        Self::new(StatusCode::OK, None, Payload::blocking(write))
    }

    /// As [`Self::stream`], for an async function: it may wait for many things at once, and tasks go on beside it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate_sdk::{Request, Response, task};
    ///
    /// fn clock(_request: Request) -> Response {
    ///     Response::stream_async(async |body| {
    ///         for second in 1..=3 {
    ///             task::sleep(Duration::from_secs(1)).await;
    ///             body.send(format!("{second}\n").as_bytes()).await?;
    ///         }
    ///         Ok(())
    ///     })
    /// }
    /// # let answer = tidegate_sdk::test::Exchange::get("/").run(clock);
    /// # assert!(answer.finished && answer.text() == "1\n2\n3\n");
    /// ```
    pub fn stream_async(write: impl AsyncFnOnce(&mut BodyWriter) -> Result<()> + 'static) -> Self {
        Self::new(StatusCode::OK, None, Payload::waiting(write))
    }

    /// A response that comes from elsewhere.
    pub(crate) fn relayed(status: StatusCode, headers: HeaderMap, body: Box<dyn Streaming>) -> Self {
        Self { headers, ..Self::new(status, None, Payload::Stream(body)) }
    }

    /// The same with these headers in place of all.
    pub(crate) fn with_headers(mut self, headers: HeaderMap) -> Self {
        self.content_type = None;
        self.headers = headers;
        self
    }

    /// The same with this status.
    ///
    /// ```
    /// use tidegate_sdk::{Response, StatusCode};
    ///
    /// let response = Response::text("made\n").with_status(StatusCode::CREATED);
    /// assert_eq!(response.status_code(), StatusCode::CREATED);
    /// ```
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same with this header, in place of any of that name. If name or value cannot be sent (RFC 9110 sections 5.1,
    /// 5.5), the whole response becomes a 500 and the log says why; to find out first, use [`Self::headers_mut`].
    ///
    /// ```
    /// use tidegate_sdk::{Response, header};
    ///
    /// let response = Response::text("{}").with_header(header::CONTENT_TYPE, "application/json");
    /// assert_eq!(response.header("content-type").unwrap(), "application/json");
    /// ```
    #[must_use]
    pub fn with_header<N, V>(mut self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        match (name.try_into(), value.try_into()) {
            (Ok(name), Ok(value)) if name == CONTENT_TYPE => {
                self.headers.remove(name);
                self.content_type = Some(value);
            }
            (Ok(name), Ok(value)) => {
                self.headers.insert(name, value);
            }
            (Err(_), _) => self.invalid = Some("a header's name is not valid"),
            (_, Err(_)) => self.invalid = Some("a header's value is not valid"),
        }
        self
    }

    /// Its status. See [`Self::with_status`].
    #[must_use]
    pub fn status_code(&self) -> StatusCode {
        self.status
    }

    /// The first header of that name (in lower case). See [`Self::with_header`].
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&HeaderValue> {
        match &self.content_type {
            Some(value) if name == CONTENT_TYPE => Some(value),
            _ => self.headers.get(name),
        }
    }

    /// Its headers, to change them.
    ///
    /// ```
    /// use tidegate_sdk::{HeaderValue, Response};
    ///
    /// let mut response = Response::text("hello\n");
    /// for language in ["en", "fr"] {
    ///     response.headers_mut().append("content-language", HeaderValue::from_static(language));
    /// }
    /// assert_eq!(response.headers_mut().get_all("content-language").iter().count(), 2);
    /// ```
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        if let Some(value) = self.content_type.take() {
            self.headers.insert(CONTENT_TYPE, value);
        }
        &mut self.headers
    }

    /// Its body; `None` if it is streamed.
    ///
    /// ```
    /// use tidegate_sdk::Response;
    ///
    /// assert_eq!(Response::text("hello").body().unwrap().as_bytes(), b"hello");
    /// assert!(Response::stream(|_| Ok(())).body().is_none());
    /// ```
    #[must_use]
    pub fn body(&self) -> Option<&Body> {
        match &self.payload {
            Payload::Whole(body) => Some(body),
            Payload::Stream(_) => None,
        }
    }

    /// The same with this body; the headers stay as they are.
    ///
    /// ```
    /// use tidegate_sdk::{Response, StatusCode};
    ///
    /// let response = Response::status(StatusCode::NOT_FOUND).with_body("no such thing\n");
    /// assert_eq!(response.body().unwrap().as_bytes(), b"no such thing\n");
    /// ```
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Body>) -> Self {
        self.payload = Payload::Whole(body.into());
        self
    }

    /// The error that it was made from, if it was: what a handler returned as `Err`, or the router's own 404 or 405. Middleware
    /// may answer otherwise; [`crate::middleware::on_error`] does.
    ///
    /// ```
    /// use tidegate_sdk::{Error, IntoResponse, Response};
    ///
    /// let response = Error::not_found("no such item").into_response();
    /// assert_eq!(response.error().unwrap().message(), Some("no such item"));
    /// assert!(Response::text("hello").error().is_none());
    /// ```
    #[must_use]
    pub fn error(&self) -> Option<&Error> {
        self.error.as_deref()
    }

    pub(crate) fn with_error(mut self, error: Error) -> Self {
        self.error = Some(Box::new(error));
        self
    }

    /// The same with the headers of `other` whose names it does not have, but for those that describe a body.
    pub(crate) fn with_headers_of(mut self, other: &Self) -> Self {
        let own: Vec<HeaderName> = self.headers.keys().cloned().collect();
        for (name, value) in &other.headers {
            if !name.as_str().starts_with("content-") && !own.contains(name) {
                self.headers.append(name, value.clone());
            }
        }
        self
    }

    pub(crate) fn set_invalid(&mut self, why: &'static str) {
        self.invalid = Some(why);
    }

    /// Calls `send` with status, packed head (with `length` in it, if given) and body.
    fn pack<R>(&self, length: Option<&str>, send: impl FnOnce(u16, &[u8], &[u8]) -> R) -> R {
        let send = |head: &[u8]| send(self.status.as_u16(), head, self.payload.bytes());
        let typed =
            self.content_type.as_ref().map(|value| (CONTENT_TYPE.as_str().as_bytes(), value.as_bytes()));
        if self.headers.is_empty() && length.is_none() {
            return packed(typed.as_slice(), send);
        }
        let length = length.map(|value| (CONTENT_LENGTH.as_str().as_bytes(), value.as_bytes()));
        packed(&typed.into_iter().chain(length).chain(pairs(&self.headers)).collect::<Vec<_>>(), send)
    }

    /// The response, or the 500 that stands for one that cannot be sent.
    #[inline(always)]
    fn checked(self) -> Self {
        match self.invalid {
            Some(why) => Error::internal(why).into_response(),
            None => self,
        }
    }

    /// Sends it: a whole one in one crossing, or as a stream if the host takes no body of that size at once.
    // Small and inlined: a module whose responses are never invalid or streamed then has nothing of either.
    #[inline(always)]
    pub(crate) fn send(self) -> Result<(), Unsent> {
        let mut response = self.checked();
        match response.take_stream() {
            None => response.send_whole().map_err(Unsent::Refused),
            Some(stream) => stream.send(&response),
        }
    }

    /// The same for those who run under `task::block_on` already: what they spawned goes on while a stream is written.
    pub(crate) async fn send_async(self) -> Result<(), Unsent> {
        let mut response = self.checked();
        match response.take_stream() {
            None => response.send_whole().map_err(Unsent::Refused),
            Some(stream) => stream.send_async(&response).await,
        }
    }

    #[inline(always)]
    fn take_stream(&mut self) -> Option<Box<dyn Streaming>> {
        match std::mem::take(&mut self.payload) {
            Payload::Stream(stream) => Some(stream),
            whole @ Payload::Whole(_) => {
                self.payload = whole;
                None
            }
        }
    }

    /// RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5.
    fn is_bodiless(&self) -> bool {
        use StatusCode as S;
        matches!(self.status, S::NO_CONTENT | S::RESET_CONTENT | S::NOT_MODIFIED)
    }

    /// Sends the head of a stream; `None` if no body may follow it, and then that was all.
    pub(crate) fn open(&self) -> Result<Option<BodyWriter>, HostError> {
        let (handle, is_head) = request::answering();
        if is_head || self.is_bodiless() {
            self.pack(None, |status, head, _| check("respond", sys::respond(status, head, &[])))?;
            return Ok(None);
        }
        self.start(None, handle).map(Some)
    }

    /// Sends a head and the bytes that are there.
    #[inline(never)]
    fn send_whole(&self) -> Result<(), HostError> {
        if self.payload.bytes().len() <= RESPOND_BODY_BYTES_MAX {
            match self.pack(None, |status, head, body| check("respond", sys::respond(status, head, body))) {
                Ok(_) => return Ok(()),
                Err(HostError { errno: errno::EMSGSIZE, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.send_in_pieces()
    }

    /// Sends head and body apart. The length is known all the same, and the client is told.
    fn send_in_pieces(&self) -> Result<(), HostError> {
        // Looked for in the list: the map's own search would make every module larger for this rare case.
        let given = pairs(&self.headers).any(|(name, _)| name == CONTENT_LENGTH.as_str().as_bytes());
        let body = if self.is_bodiless() { &[] } else { self.payload.bytes() };
        let length = (!given && !self.is_bodiless()).then(|| body.len().to_string());
        let mut writer = self.start(length.as_deref(), request::answering().0)?;
        let sent = writer.write_all(body);
        sent.and_then(|()| writer.finish_plain()).map_err(|error| {
            let inner = error.get_ref().and_then(|e| e.downcast_ref()).copied();
            inner.unwrap_or(HostError { call: "write", errno: errno::EIO })
        })
    }

    /// Sends the head only.
    fn start(&self, length: Option<&str>, handle: u32) -> Result<BodyWriter, HostError> {
        self.pack(length, |status, head, _| check("response_head", sys::response_head(status, head)))?;
        Ok(BodyWriter::new(handle))
    }

    /// Sends the head and what there is of a body, and gives the writer for the rest.
    pub(crate) fn begin(self, handle: u32) -> Result<BodyWriter> {
        let mut response = self.checked();
        let mut writer = response.start(None, handle).map_err(std::io::Error::from)?;
        match response.take_stream() {
            Some(stream) => stream.write(&mut writer)?,
            None => writer.write_all(response.payload.bytes())?,
        }
        Ok(writer)
    }
}

impl<B: Into<Body>> From<http::Response<B>> for Response {
    fn from(response: http::Response<B>) -> Self {
        let (parts, body) = response.into_parts();
        Self { headers: parts.headers, ..Self::new(parts.status, None, Payload::Whole(body.into())) }
    }
}

/// Fails for a streamed response, whose body is not there.
impl TryFrom<Response> for http::Response<Body> {
    type Error = Error;

    fn try_from(mut response: Response) -> Result<Self> {
        let headers = std::mem::take(response.headers_mut());
        let Payload::Whole(body) = response.payload else {
            return Err(Error::internal("a streamed response has no body that could be taken out of it"));
        };
        let mut out = Self::new(body);
        *out.status_mut() = response.status;
        *out.headers_mut() = headers;
        Ok(out)
    }
}

/// What a handler may return.
///
/// Text is `text/plain` in UTF-8, bytes are `application/octet-stream`; a pair puts a status in front.
///
/// ```
/// use tidegate_sdk::{IntoResponse, Request, StatusCode};
///
/// fn teapot(_request: Request) -> impl IntoResponse {
///     (StatusCode::IM_A_TEAPOT, "short and stout\n")
/// }
/// # assert_eq!((StatusCode::IM_A_TEAPOT, "x").into_response().status_code(), 418);
/// ```
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    label = "this does not turn into a response",
    note = "return a `Response`, text, bytes, a `StatusCode`, `(StatusCode, T)`, an `http::Response`, or a `Result` of these"
)]
pub trait IntoResponse {
    /// The response it stands for.
    ///
    /// ```
    /// use tidegate_sdk::{IntoResponse, Request, Response, test::Exchange};
    ///
    /// struct Page(&'static str);
    ///
    /// impl IntoResponse for Page {
    ///     fn into_response(self) -> Response {
    ///         Response::html(format!("<h1>{}</h1>", self.0))
    ///     }
    /// }
    /// assert_eq!(Exchange::get("/").run(|_: Request| Page("Hello")).text(), "<h1>Hello</h1>");
    /// ```
    fn into_response(self) -> Response;
}

impl IntoResponse for Response {
    fn into_response(self) -> Response {
        self
    }
}

impl<B: Into<Body>> IntoResponse for http::Response<B> {
    fn into_response(self) -> Response {
        self.into()
    }
}

impl IntoResponse for StatusCode {
    fn into_response(self) -> Response {
        Response::status(self)
    }
}

impl IntoResponse for Body {
    fn into_response(self) -> Response {
        Response::bytes(self)
    }
}

macro_rules! into_response {
    ($($from:ty => $constructor:ident),* $(,)?) => {
        $(impl IntoResponse for $from {
            fn into_response(self) -> Response {
                Response::$constructor(self)
            }
        })*
    };
}

into_response! {
    &'static str => text,
    String => text,
    Cow<'static, str> => text,
    &'static [u8] => bytes,
    Vec<u8> => bytes,
}

impl<T: IntoResponse> IntoResponse for (StatusCode, T) {
    fn into_response(self) -> Response {
        self.1.into_response().with_status(self.0)
    }
}

impl<T: IntoResponse, E: Into<Error>> IntoResponse for Result<T, E> {
    fn into_response(self) -> Response {
        match self {
            Ok(response) => response.into_response(),
            Err(error) => error.into().into_response(),
        }
    }
}
