//! Why a request to somebody else came to nothing.

use http::StatusCode;
use std::fmt;
use std::io;
use tidegate_abi::errno;

use crate::sys::{self, HostError};

/// What went wrong. Each stands for one or several of the codes that `wasi:http` has; [`Error::reason`] has the code
/// itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No rule of the app leads there (`HTTP-request-denied`, `destination-IP-prohibited`).
    Denied,
    /// There is no such name, or nobody who knows (`DNS-error`).
    Dns,
    /// Nobody listens there (`connection-refused`).
    Refused,
    /// There is no way there (`destination-unavailable` and the like).
    Unreachable,
    /// Somebody was too slow: names, the connection, the response or the rest of it (`connection-timeout`,
    /// `HTTP-response-timeout` and the like).
    Timeout,
    /// The connection could not be made safe (`TLS-protocol-error`, `TLS-certificate-error`, `TLS-alert-received`).
    Tls,
    /// The connection ended before the response did (`connection-terminated`, `HTTP-response-incomplete`).
    Closed,
    /// What came back is no valid response (`HTTP-protocol-error` and the like).
    Protocol,
    /// Too many requests or connections of this app are under way (`connection-limit-reached`).
    Busy,
    /// More came than is taken.
    TooLarge,
    /// What came back is not what it was read as: text, or JSON.
    Content,
    /// There were more redirects than were asked for, or one that leads nowhere.
    Redirect,
    /// The status is none of success: see [`Response::error_for_status`](super::Response::error_for_status).
    Status(StatusCode),
    /// What was asked for cannot be sent: the address, the method or a header.
    Request,
    /// The request's own body could not be read or sent.
    Body,
    /// Anything else.
    Other,
}

/// Why a request to somebody else came to nothing.
///
/// ```
/// use tidegate_sdk::{fetch::ErrorKind, http, test};
///
/// let _down = test::upstream("http://down.internal", |_| Err::<http::Response<()>, _>(ErrorKind::Refused));
/// let error = http::get("http://down.internal/").send().unwrap_err();
/// assert_eq!((error.kind(), error.reason()), (ErrorKind::Refused, "connection-refused"));
/// assert_eq!(error.to_string(), "GET http://down.internal/: connection-refused");
/// ```
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    reason: String,
    /// What was asked for.
    goal: Option<String>,
    source: Option<io::Error>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), goal: None, source: None }
    }

    /// The request's own body failed.
    fn of_body(source: io::Error) -> Self {
        Self { source: Some(source), ..Self::new(ErrorKind::Body, "its body could not be sent") }
    }

    pub(super) fn of_content(why: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Content, why.to_string())
    }

    /// Why the host failed a request.
    pub(super) fn of_host(handle: u32, error: HostError) -> Self {
        match reason_of(handle) {
            Some(reason) => Self::new(kind_of(&reason), reason),
            None => Self::refused(error),
        }
    }

    /// The host did not even begin.
    pub(super) fn refused(error: HostError) -> Self {
        let kind = match error.errno {
            errno::EACCES | errno::EPERM => ErrorKind::Denied,
            errno::EMFILE | errno::EBUSY | errno::EDQUOT | errno::ENOSPC => ErrorKind::Busy,
            errno::EINVAL | errno::EMSGSIZE | errno::EILSEQ => ErrorKind::Request,
            errno::ETIMEDOUT => ErrorKind::Timeout,
            errno::ECONNREFUSED => ErrorKind::Refused,
            errno::ECONNRESET | errno::ECONNABORTED | errno::EPIPE => ErrorKind::Closed,
            errno::ENOENT => ErrorKind::Dns,
            errno::EHOSTUNREACH | errno::ENETUNREACH | errno::EADDRNOTAVAIL => ErrorKind::Unreachable,
            errno::EFBIG => ErrorKind::TooLarge,
            _ => ErrorKind::Other,
        };
        match kind {
            // One name for it, wherever it is found out.
            ErrorKind::Denied => Self::new(kind, "HTTP-request-denied"),
            _ => Self::new(kind, error.to_string()),
        }
    }

    /// An error that came through something that reads or writes.
    pub(super) fn of_io(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => error,
            // Only the limit on waits of this handler fails without a reason of the host.
            Err(error) if error.kind() == io::ErrorKind::TimedOut && is_own_limit(&error) => {
                Self { source: Some(error), ..Self::new(ErrorKind::Timeout, "the handler's time is over") }
            }
            Err(error) => Self::of_body(error),
        }
    }

    pub(super) fn at(mut self, goal: impl FnOnce() -> String) -> Self {
        self.goal.get_or_insert_with(goal);
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The code of `wasi:http` in its own letters, such as `connection-refused` or `DNS-error: NXDOMAIN`; or why, where
    /// there is no code. It is for the log: who may not know how this app is built should not be told.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The error of the request's own body, if that was why.
    pub(crate) fn body_error(&self) -> Option<&io::Error> {
        self.source.as_ref().filter(|_| self.kind == ErrorKind::Body)
    }

    /// What a client is told of it, and no more.
    pub(crate) fn blame(&self) -> (StatusCode, &'static str) {
        match self.kind {
            ErrorKind::Timeout => {
                (StatusCode::GATEWAY_TIMEOUT, "a server that this one depends on was too slow")
            }
            ErrorKind::Request => (StatusCode::INTERNAL_SERVER_ERROR, "something went wrong"),
            _ => (StatusCode::BAD_GATEWAY, "a server that this one depends on did not answer as it should"),
        }
    }
}

/// The error of writing a request's body.
pub(crate) fn explain(handle: u32, error: HostError) -> io::Error {
    match error.errno {
        errno::EAGAIN => io::ErrorKind::WouldBlock.into(),
        // Nobody wants more of it: the response says why.
        errno::EPIPE => io::ErrorKind::BrokenPipe.into(),
        _ => Error::of_host(handle, error).into(),
    }
}

/// A wait of [`sys::wait`] that came to the limit on waits: any host's error is one of [`HostError`].
fn is_own_limit(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| !inner.is::<HostError>())
}

/// The code with which the host failed a request, if it has.
pub(super) fn reason_of(handle: u32) -> Option<String> {
    let text = sys::collect("reason", 128, |buf| sys::fetch_reason(handle, buf)).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    (!text.is_empty()).then_some(text)
}

/// By the name in front, in any letter case.
pub(crate) fn kind_of(reason: &str) -> ErrorKind {
    let end = reason.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(reason.len());
    match reason[..end].to_ascii_lowercase().as_str() {
        "http-request-denied" | "destination-ip-prohibited" => ErrorKind::Denied,
        "dns-error" => ErrorKind::Dns,
        "connection-refused" => ErrorKind::Refused,
        "destination-not-found" | "destination-unavailable" | "destination-ip-unroutable" => {
            ErrorKind::Unreachable
        }
        "dns-timeout"
        | "connection-timeout"
        | "connection-read-timeout"
        | "connection-write-timeout"
        | "http-response-timeout" => ErrorKind::Timeout,
        "tls-protocol-error" | "tls-certificate-error" | "tls-alert-received" => ErrorKind::Tls,
        "connection-terminated" | "http-response-incomplete" => ErrorKind::Closed,
        "http-protocol-error"
        | "http-response-header-section-size"
        | "http-response-header-size"
        | "http-response-trailer-section-size"
        | "http-response-trailer-size"
        | "http-response-transfer-coding"
        | "http-response-content-coding"
        | "http-upgrade-failed"
        | "loop-detected" => ErrorKind::Protocol,
        "connection-limit-reached" => ErrorKind::Busy,
        "http-response-body-size" => ErrorKind::TooLarge,
        "http-request-body-size" => ErrorKind::Body,
        "http-request-length-required"
        | "http-request-method-invalid"
        | "http-request-uri-invalid"
        | "http-request-uri-too-long"
        | "http-request-header-section-size"
        | "http-request-header-size"
        | "http-request-trailer-section-size"
        | "http-request-trailer-size"
        | "configuration-error" => ErrorKind::Request,
        _ => ErrorKind::Other,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.goal {
            Some(goal) => write!(f, "{goal}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind {
            ErrorKind::Denied => io::ErrorKind::PermissionDenied,
            ErrorKind::Refused => io::ErrorKind::ConnectionRefused,
            ErrorKind::Unreachable => io::ErrorKind::HostUnreachable,
            ErrorKind::Timeout => io::ErrorKind::TimedOut,
            ErrorKind::Closed => io::ErrorKind::ConnectionReset,
            ErrorKind::Tls | ErrorKind::Protocol | ErrorKind::Content => io::ErrorKind::InvalidData,
            ErrorKind::TooLarge => io::ErrorKind::FileTooLarge,
            ErrorKind::Request => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_known_by_their_name_whatever_follows() {
        let cases = [
            ("connection-refused", ErrorKind::Refused),
            ("DNS-error: NXDOMAIN", ErrorKind::Dns),
            ("dns-error(rcode)", ErrorKind::Dns),
            ("DNS-timeout", ErrorKind::Timeout),
            ("TLS-alert-received: 40", ErrorKind::Tls),
            ("HTTP-response-incomplete", ErrorKind::Closed),
            ("destination-IP-prohibited", ErrorKind::Denied),
            ("HTTP-request-URI-invalid", ErrorKind::Request),
            ("internal-error: out of luck", ErrorKind::Other),
            ("", ErrorKind::Other),
        ];
        for (reason, kind) in cases {
            assert_eq!(kind_of(reason), kind, "{reason}");
        }
    }
}
