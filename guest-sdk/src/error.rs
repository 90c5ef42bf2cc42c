//! The error that a handler returns: a status, a message that is safe to show, and a cause that is not.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::any::Any;
use std::borrow::Cow;
use std::fmt::{self, Write};
use std::io;
use tidegate_abi::{errno, names};

use crate::response::{IntoResponse, Response};
use crate::sys::HostError;
use crate::{fetch, kv, net};

/// What handlers return; the error defaults to [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// A failure that becomes a response.
///
/// Any standard error converts with `?`: the client gets 500 and nothing more, the log gets the detail. As a body it is
/// `application/problem+json` (RFC 9457).
///
/// ```
/// use tidegate_sdk::{Error, Request, Result, StatusCode};
///
/// fn double(request: Request) -> Result<String> {
///     let text = request.query().ok_or_else(|| Error::status(StatusCode::BAD_REQUEST, "no number given"))?;
///     let number: u32 = text
///         .parse()
///         .map_err(|e| Error::status(StatusCode::BAD_REQUEST, "that is not a number").with_source(e))?;
///     Ok(format!("{}\n", number * 2))
/// }
/// # use tidegate_sdk::test::Exchange;
/// # assert_eq!(Exchange::get("/?21").run(double).text(), "42\n");
/// # Exchange::get("/?x").run(double).assert_status(400);
/// ```
// It is not a `std::error::Error` itself, or the conversion from every other one could not exist.
pub struct Error {
    status: StatusCode,
    message: Option<Cow<'static, str>>,
    source: Option<Source>,
    /// What few errors have: apart, so that a `Result` stays small.
    extra: Option<Box<Extra>>,
}

#[derive(Default)]
struct Extra {
    type_uri: Option<Cow<'static, str>>,
    title: Option<Cow<'static, str>>,
    headers: HeaderMap,
    /// The first header that `with_header` could not take.
    invalid: Option<&'static str>,
}

macro_rules! named {
    ($($(#[$meta:meta])* $name:ident => $status:ident),* $(,)?) => {
        $($(#[$meta])*
        pub fn $name(message: impl Into<Cow<'static, str>>) -> Self {
            Self::status(StatusCode::$status, message)
        })*
    };
}

impl Error {
    /// An error with this status; the client is shown `message`.
    ///
    /// ```
    /// use tidegate_sdk::{Error, StatusCode};
    ///
    /// let error = Error::status(StatusCode::GONE, "it was sold");
    /// assert_eq!((error.status_code(), error.message()), (StatusCode::GONE, Some("it was sold")));
    /// ```
    pub fn status(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: Some(message.into()), source: None, extra: None }
    }

    named! {
        /// 400: the request makes no sense (RFC 9110 section 15.5.1).
        ///
        /// ```
        /// use tidegate_sdk::{Error, Request, Result, test::Exchange};
        ///
        /// fn page(request: Request) -> Result<String> {
        ///     let page = request.query_param("page");
        ///     let page = page.ok_or_else(|| Error::bad_request("`page` is missing"))?;
        ///     Ok(format!("page {page}\n"))
        /// }
        /// assert!(Exchange::get("/").run(page).assert_status(400).text().contains("`page` is missing"));
        /// ```
        bad_request => BAD_REQUEST,
        /// 401: who is asking? Add a `WWW-Authenticate` header, which this status must have (section 15.5.2).
        /// See [`Self::with_header`].
        unauthorized => UNAUTHORIZED,
        /// 403: known, and not allowed (section 15.5.4).
        ///
        /// ```
        /// use tidegate_sdk::{Error, Request, Result};
        ///
        /// fn admin(request: Request) -> Result<&'static str> {
        ///     if request.header("x-key") != Some("sesame") {
        ///         return Err(Error::forbidden("that key does not fit"));
        ///     }
        ///     Ok("come in\n")
        /// }
        /// # tidegate_sdk::test::Exchange::get("/").run(admin).assert_status(403);
        /// ```
        forbidden => FORBIDDEN,
        /// 404: nothing is there (section 15.5.5).
        ///
        /// ```
        /// use tidegate_sdk::{Error, Request, Result};
        ///
        /// fn capital(request: Request) -> Result<&'static str> {
        ///     match request.query_param("of").as_deref() {
        ///         Some("France") => Ok("Paris\n"),
        ///         _ => Err(Error::not_found("no such country")),
        ///     }
        /// }
        /// # tidegate_sdk::test::Exchange::get("/?of=Mars").run(capital).assert_status(404);
        /// ```
        not_found => NOT_FOUND,
        /// 409: not in the state that things are in (section 15.5.10).
        ///
        /// ```
        /// let error = tidegate_sdk::Error::conflict("the name is taken");
        /// assert_eq!(error.status_code(), 409);
        /// ```
        conflict => CONFLICT,
        /// 413: more than is taken (section 15.5.14).
        ///
        /// ```
        /// let error = tidegate_sdk::Error::payload_too_large("at most 5 pictures are taken");
        /// assert_eq!(error.status_code(), 413);
        /// ```
        payload_too_large => PAYLOAD_TOO_LARGE,
        /// 415: not in a form that is understood (section 15.5.16).
        ///
        /// ```
        /// use tidegate_sdk::Error;
        ///
        /// let error = Error::unsupported_media_type("send a PNG").with_header("accept", "image/png");
        /// assert_eq!(error.status_code(), 415);
        /// ```
        unsupported_media_type => UNSUPPORTED_MEDIA_TYPE,
        /// 422: well-formed, and still wrong (section 15.5.21).
        ///
        /// ```
        /// let error = tidegate_sdk::Error::unprocessable("the end comes before the beginning");
        /// assert_eq!(error.status_code(), 422);
        /// ```
        unprocessable => UNPROCESSABLE_ENTITY,
        /// 429: too often (RFC 6585 section 4). A `Retry-After` header tells when it may be tried again.
        ///
        /// ```
        /// use tidegate_sdk::Error;
        ///
        /// let error = Error::too_many_requests("one a second").with_header("retry-after", "1");
        /// assert_eq!(error.status_code(), 429);
        /// ```
        too_many_requests => TOO_MANY_REQUESTS,
        /// 503: not now (RFC 9110 section 15.6.4). A `Retry-After` header tells when it may be tried again.
        ///
        /// ```
        /// use tidegate_sdk::Error;
        ///
        /// let error = Error::unavailable("we are moving").with_header("retry-after", "120");
        /// assert_eq!(error.status_code(), 503);
        /// ```
        unavailable => SERVICE_UNAVAILABLE,
    }

    /// A 500 that shows nothing and logs `source`: what `?` makes of errors.
    ///
    /// ```
    /// use tidegate_sdk::{Error, Request, test::Exchange};
    ///
    /// let answer = Exchange::get("/").run(|_: Request| Error::internal("the index is damaged"));
    /// assert!(!answer.assert_status(500).text().contains("damaged"));
    /// assert_eq!(answer.logs[0].1, "500: the index is damaged");
    /// ```
    pub fn internal(source: impl Into<Source>) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            message: None,
            source: Some(source.into()),
            extra: None,
        }
    }

    fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// The same with this header in the response, in place of any of that name. A name or value that cannot be sent makes
    /// the response a 500, as [`Response::with_header`] does.
    ///
    /// ```
    /// use tidegate_sdk::{Error, IntoResponse};
    ///
    /// let error = Error::unauthorized("log in first").with_header("www-authenticate", "Bearer");
    /// assert_eq!(error.into_response().header("www-authenticate").unwrap(), "Bearer");
    /// ```
    #[must_use]
    pub fn with_header<N, V>(mut self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        match (name.try_into(), value.try_into()) {
            (Ok(name), Ok(value)) => {
                self.extra().headers.insert(name, value);
            }
            (Err(_), _) => self.extra().invalid = Some("the name of an error's header is not valid"),
            (_, Err(_)) => self.extra().invalid = Some("the value of an error's header is not valid"),
        }
        self
    }

    /// The same with a `type` of its own (RFC 9457 section 3.1.1): a URI that names this kind of problem, best one where
    /// it is explained. Without, it is `about:blank`.
    ///
    /// ```
    /// use tidegate_sdk::{Error, Request, test::Exchange};
    ///
    /// let sold_out = |_: Request| {
    ///     Error::conflict("2 are left")
    ///         .with_type("https://shop.example/problems/out-of-stock")
    ///         .with_title("Out of stock")
    /// };
    /// let answer = Exchange::get("/").run(sold_out);
    /// assert!(answer.text().contains(r#""type":"https://shop.example/problems/out-of-stock""#));
    /// assert!(answer.text().contains(r#""title":"Out of stock""#));
    /// ```
    #[must_use]
    pub fn with_type(mut self, uri: impl Into<Cow<'static, str>>) -> Self {
        self.extra().type_uri = Some(uri.into());
        self
    }

    /// The same with this `title` (RFC 9457 section 3.1.3): the same words for every problem of its type. Without, it is
    /// the status's own phrase. See [`Self::with_type`].
    #[must_use]
    pub fn with_title(mut self, title: impl Into<Cow<'static, str>>) -> Self {
        self.extra().title = Some(title.into());
        self
    }

    /// The same with a cause, for the log.
    ///
    /// ```
    /// use tidegate_sdk::Error;
    ///
    /// let error = Error::bad_request("that is not a number").with_source("x".parse::<u32>().unwrap_err());
    /// assert_eq!(error.message(), Some("that is not a number"));
    /// assert_eq!(error.source().unwrap().to_string(), "invalid digit found in string");
    /// assert_eq!(error.to_string(), "400: that is not a number: invalid digit found in string");
    /// ```
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The status the client gets. See [`Self::status`].
    #[must_use]
    pub fn status_code(&self) -> StatusCode {
        self.status
    }

    /// What the client is shown, if anything. See [`Self::status`].
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The cause, which only the log gets. See [`Self::with_source`].
    #[must_use]
    pub fn source(&self) -> Option<&(dyn std::error::Error + Send + Sync + 'static)> {
        self.source.as_deref()
    }

    /// The headers that it puts into its response, `Allow` of a 405 for one.
    ///
    /// ```
    /// use tidegate_sdk::Error;
    ///
    /// let error = Error::unavailable("we are moving").with_header("retry-after", "120");
    /// assert!(error.headers().any(|(name, value)| name == "retry-after" && value == "120"));
    /// ```
    pub fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.extra.iter().flat_map(|extra| &extra.headers)
    }

    /// Logs it when it is too late for a response: the body is cut off.
    pub(crate) fn log_late(&self) {
        if self.status.is_server_error() || self.is_unlogged() {
            crate::error!("after the response had begun: {self}");
        } else {
            crate::debug!("after the response had begun: {self}");
        }
    }

    /// True for what is only said to the client: made by the handler, and the client's fault.
    pub(crate) fn is_unlogged(&self) -> bool {
        !self.status.is_server_error() && self.source.is_none()
    }

    /// Logs it: as an error if the fault is on this side, else for developers.
    pub(crate) fn log(&self) {
        if self.status.is_server_error() {
            crate::error!("{self}");
        } else if self.source.is_some() {
            crate::debug!("{self}");
        }
    }
}

/// Status, message and the chain of causes: for logs.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As a number: the table of texts would be in every module.
        write!(f, "{}", self.status.as_u16())?;
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        let mut next = self.source.as_deref().map(|e| e as &dyn std::error::Error);
        while let Some(error) = next {
            write!(f, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Error {
    fn from(source: E) -> Self {
        let any = &source as &dyn Any;
        let blame = match any.downcast_ref::<fetch::Error>() {
            Some(error) => Some(blame_of_upstream(error)),
            None => match any.downcast_ref::<kv::Error>() {
                Some(error) => error.blame(),
                None => any.downcast_ref().and_then(blame_of_peer),
            },
        };
        match blame {
            Some((status, message)) => Self::status(status, message).with_source(source),
            None => Self::internal(source),
        }
    }
}

/// A client that is gone, or a request body that could not be read, is no failure of the handler.
fn blame_of_peer(error: &io::Error) -> Option<(StatusCode, &'static str)> {
    let inner = error.get_ref()?;
    if let Some(error) = inner.downcast_ref::<fetch::Error>() {
        return Some(blame_of_upstream(error));
    }
    if inner.is::<net::Failed>() {
        return Some(net::blame(error.kind()));
    }
    let error: &HostError = inner.downcast_ref()?;
    match error.errno {
        errno::ECONNRESET => Some((StatusCode::BAD_REQUEST, "the client is gone")),
        errno::EFBIG if error.call == names::READ => {
            Some((StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"))
        }
        errno::ETIMEDOUT if error.call == names::READ => {
            Some((StatusCode::REQUEST_TIMEOUT, "the body came too slowly"))
        }
        _ => None,
    }
}

/// Somebody else did not answer; unless it was the client, whose body the request to them had.
fn blame_of_upstream(error: &fetch::Error) -> (StatusCode, &'static str) {
    error.body_error().and_then(blame_of_peer).unwrap_or_else(|| error.blame())
}

impl IntoResponse for Error {
    /// The problem document; the detail is logged on the way. The error stays beside it: see [`Response::error`].
    fn into_response(self) -> Response {
        self.log();
        let extra = self.extra.as_deref();
        let title = extra.and_then(|extra| extra.title.as_deref()).or(self.status.canonical_reason());
        let mut body = String::from(r#"{"type":"#);
        push_json(&mut body, extra.and_then(|extra| extra.type_uri.as_deref()).unwrap_or("about:blank"));
        body.push_str(r#","title":"#);
        push_json(&mut body, title.unwrap_or("Error"));
        // Writing to a `String` cannot fail.
        let _ = write!(body, r#","status":{}"#, self.status.as_u16());
        if let Some(message) = &self.message {
            body.push_str(r#","detail":"#);
            push_json(&mut body, message);
        }
        body.push('}');
        let mut response = Response::typed(HeaderValue::from_static("application/problem+json"), body)
            .with_status(self.status);
        if let Some(extra) = extra {
            for (name, value) in &extra.headers {
                response = response.with_header(name, value.clone());
            }
            if let Some(why) = extra.invalid {
                response.set_invalid(why);
            }
        }
        response.with_error(self)
    }
}

/// Appends `text` as a JSON string.
fn push_json(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::Exchange;
    use crate::{Request, log};

    #[test]
    fn what_the_client_did_to_its_body_has_its_own_status() {
        let cases = [
            (errno::EFBIG, StatusCode::PAYLOAD_TOO_LARGE),
            (errno::ETIMEDOUT, StatusCode::REQUEST_TIMEOUT),
            (errno::ECONNRESET, StatusCode::BAD_REQUEST),
            (errno::EIO, StatusCode::INTERNAL_SERVER_ERROR),
        ];
        for (errno, status) in cases {
            let answer = Exchange::post("/")
                .chunk("a")
                .body_fails(errno)
                .run(|mut request: Request| request.body().bytes());
            assert_eq!(answer.status, Some(status));
            assert_eq!(answer.logs[0].0 == log::Level::Error, status == StatusCode::INTERNAL_SERVER_ERROR);
        }
    }

    #[test]
    fn the_errno_of_an_output_is_not_taken_for_one_of_the_body() {
        let error = Error::from(io::Error::from(HostError { call: "write", errno: errno::EFBIG }));
        assert_eq!(error.status_code(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
