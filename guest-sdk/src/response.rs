//! A whole response, and what can become one.
//!
//! Invariant: while `content_type` is set, `headers` has no `content-type`. It stands apart so that the most common
//! responses allocate nothing on their way out.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::borrow::Cow;
use std::io::Write;
use tidegate_abi::errno;

use crate::error::Error;
use crate::fields::{packed, pairs};
use crate::request;
use crate::sys::{self, HostError, RESPOND_BODY_BYTES_MAX, check};
use crate::writer::BodyWriter;

/// A body that is there as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body(Cow<'static, [u8]>);

impl Body {
    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its bytes, copied if they are static.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.into_owned()
    }
}

impl From<()> for Body {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self(Cow::Borrowed(text.as_bytes()))
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Self(Cow::Borrowed(bytes))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text.into_bytes()))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Cow::Owned(bytes))
    }
}

impl From<Cow<'static, str>> for Body {
    fn from(text: Cow<'static, str>) -> Self {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

/// A response whose body is there as a whole. It leaves in one call to the host.
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
    body: Body,
    /// The first header that `with_header` could not take.
    invalid: Option<&'static str>,
}

impl Response {
    fn new(status: StatusCode, content_type: Option<HeaderValue>, body: Body) -> Self {
        Self { status, content_type, headers: HeaderMap::new(), body, invalid: None }
    }

    pub(crate) fn typed(content_type: HeaderValue, body: impl Into<Body>) -> Self {
        Self::new(StatusCode::OK, Some(content_type), body.into())
    }

    /// 200 with plain text in UTF-8.
    pub fn text(body: impl Into<Body>) -> Self {
        Self::typed(HeaderValue::from_static("text/plain; charset=utf-8"), body)
    }

    /// 200 with HTML in UTF-8.
    pub fn html(body: impl Into<Body>) -> Self {
        Self::typed(HeaderValue::from_static("text/html; charset=utf-8"), body)
    }

    /// 200 with bytes of no particular type.
    pub fn bytes(body: impl Into<Body>) -> Self {
        Self::typed(HeaderValue::from_static("application/octet-stream"), body)
    }

    /// 200 with nothing in it.
    #[must_use]
    pub fn empty() -> Self {
        Self::status(StatusCode::OK)
    }

    /// This status, and nothing in it.
    #[must_use]
    pub fn status(status: StatusCode) -> Self {
        Self::new(status, None, Body::default())
    }

    /// The same with this status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same with this header, in place of any of that name. If name or value cannot be sent (RFC 9110 sections 5.1,
    /// 5.5), the whole response becomes a 500 and the log says why; to find out first, use [`Self::headers_mut`].
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

    /// Its status.
    #[must_use]
    pub fn status_code(&self) -> StatusCode {
        self.status
    }

    /// The first header of that name (in lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&HeaderValue> {
        match &self.content_type {
            Some(value) if name == CONTENT_TYPE => Some(value),
            _ => self.headers.get(name),
        }
    }

    /// Its headers, to change them.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        if let Some(value) = self.content_type.take() {
            self.headers.insert(CONTENT_TYPE, value);
        }
        &mut self.headers
    }

    /// Its body.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The same with this body; the headers stay as they are.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    /// Calls `send` with status, packed head (with `length` in it, if given) and body.
    fn pack<R>(&self, length: Option<&str>, send: impl FnOnce(u16, &[u8], &[u8]) -> R) -> R {
        let send = |head: &[u8]| send(self.status.as_u16(), head, self.body.as_bytes());
        let typed =
            self.content_type.as_ref().map(|value| (CONTENT_TYPE.as_str().as_bytes(), value.as_bytes()));
        if self.headers.is_empty() && length.is_none() {
            return packed(typed.as_slice(), send);
        }
        let length = length.map(|value| (CONTENT_LENGTH.as_str().as_bytes(), value.as_bytes()));
        packed(&typed.into_iter().chain(length).chain(pairs(&self.headers)).collect::<Vec<_>>(), send)
    }

    /// The response, or the 500 that stands for one that cannot be sent.
    fn checked(self) -> Self {
        match self.invalid {
            Some(why) => Error::internal(why).into_response(),
            None => self,
        }
    }

    /// Sends it as a whole: one crossing, or a stream if the host takes no body of that size at once.
    pub(crate) fn send(self) -> Result<(), HostError> {
        let response = self.checked();
        if response.body.as_bytes().len() <= RESPOND_BODY_BYTES_MAX {
            match response.pack(None, |status, head, body| check("respond", sys::respond(status, head, body)))
            {
                Ok(_) => return Ok(()),
                Err(HostError { errno: errno::EMSGSIZE, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        response.send_as_stream()
    }

    /// Sends head and body apart. The length is known all the same, and the client is told.
    fn send_as_stream(self) -> Result<(), HostError> {
        // Looked for in the list: the map's own search would make every module larger for this rare case.
        let given = pairs(&self.headers).any(|(name, _)| name == CONTENT_LENGTH.as_str().as_bytes());
        let bodiless = matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let length = (!given && !bodiless).then(|| self.body.as_bytes().len().to_string());
        let mut writer = self.start(length.as_deref(), request::response_handle())?;
        let sent = writer.write_all(self.body.as_bytes());
        sent.and_then(|()| writer.finish()).map_err(|error| {
            let inner = error.get_ref().and_then(|e| e.downcast_ref()).copied();
            inner.unwrap_or(HostError { call: "write", errno: errno::EIO })
        })
    }

    /// Sends the head only.
    fn start(&self, length: Option<&str>, handle: u32) -> Result<BodyWriter, HostError> {
        self.pack(length, |status, head, _| check("response_head", sys::response_head(status, head)))?;
        Ok(BodyWriter::new(handle))
    }

    /// Sends the head; gives the writer, and the body that is there already.
    pub(crate) fn start_stream(self, handle: u32) -> Result<(BodyWriter, Body), HostError> {
        let response = self.checked();
        let writer = response.start(None, handle)?;
        Ok((writer, response.body))
    }
}

impl<B: Into<Body>> From<http::Response<B>> for Response {
    fn from(response: http::Response<B>) -> Self {
        let (parts, body) = response.into_parts();
        Self { headers: parts.headers, ..Self::new(parts.status, None, body.into()) }
    }
}

impl From<Response> for http::Response<Body> {
    fn from(mut response: Response) -> Self {
        let headers = std::mem::take(response.headers_mut());
        let mut out = Self::new(response.body);
        *out.status_mut() = response.status;
        *out.headers_mut() = headers;
        out
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
