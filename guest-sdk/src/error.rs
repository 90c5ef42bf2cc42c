//! The error that a handler returns: a status, a message that is safe to show, and a cause that is not.

use http::{HeaderValue, StatusCode};
use std::any::Any;
use std::borrow::Cow;
use std::fmt::{self, Write};
use std::io;
use tidegate_abi::{errno, names};

use crate::response::{IntoResponse, Response};
use crate::sys::HostError;

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
/// ```
// It is not a `std::error::Error` itself, or the conversion from every other one could not exist.
pub struct Error {
    status: StatusCode,
    message: Option<Cow<'static, str>>,
    source: Option<Source>,
}

impl Error {
    /// An error with this status; the client is shown `message`.
    pub fn status(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: Some(message.into()), source: None }
    }

    /// A 500 that shows nothing and logs `source`: what `?` makes of errors.
    pub fn internal(source: impl Into<Source>) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, message: None, source: Some(source.into()) }
    }

    /// The same with a cause, for the log.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The status the client gets.
    #[must_use]
    pub fn status_code(&self) -> StatusCode {
        self.status
    }

    /// What the client is shown, if anything.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The cause, which only the log gets.
    #[must_use]
    pub fn source(&self) -> Option<&(dyn std::error::Error + Send + Sync + 'static)> {
        self.source.as_deref()
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
        f.write_str(self.status.as_str())?;
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
        let blame = (&source as &dyn Any).downcast_ref().and_then(blame_of_peer);
        match blame {
            Some((status, message)) => Self::status(status, message).with_source(source),
            None => Self::internal(source),
        }
    }
}

/// A client that is gone, or a request body that could not be read, is no failure of the handler.
fn blame_of_peer(error: &io::Error) -> Option<(StatusCode, &'static str)> {
    let error: &HostError = error.get_ref()?.downcast_ref()?;
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

impl IntoResponse for Error {
    /// The problem document; the detail is logged on the way.
    fn into_response(self) -> Response {
        self.log();
        let mut body = String::from(r#"{"type":"about:blank","title":"#);
        push_json(&mut body, self.status.canonical_reason().unwrap_or("Error"));
        // Writing to a `String` cannot fail.
        let _ = write!(body, r#","status":{}"#, self.status.as_str());
        if let Some(message) = &self.message {
            body.push_str(r#","detail":"#);
            push_json(&mut body, message);
        }
        body.push('}');
        Response::typed(HeaderValue::from_static("application/problem+json"), body).with_status(self.status)
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
    use crate::testing::Exchange;
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
