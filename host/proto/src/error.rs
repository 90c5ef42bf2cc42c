//! What can go wrong with a message, sorted by who is to blame.
//!
//! A [`PeerError`] is answered with its status and the connection closes; a [`GuestError`] is told to the guest,
//! which may try again, and never reaches the wire. Neither carries bytes of the message: a detail is a fixed
//! sentence, so that nothing a peer sends is reflected.

use thiserror::Error;

/// A request that is refused. The connection closes after the answer; bytes behind the error are never served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PeerError {
    /// 400: the sentence names what is wrong and the section of the RFC it offends.
    #[error("{0}")]
    Malformed(&'static str),
    /// 414: RFC 9110 15.5.15.
    #[error("{}", TARGET_TOO_LONG)]
    TargetTooLong,
    /// 431: RFC 6585 5, for the head as a whole or for a trailer section.
    #[error("{}", HEAD_TOO_LARGE)]
    HeadTooLarge,
    /// 431: RFC 6585 5, for the number of fields.
    #[error("{}", TOO_MANY_HEADERS)]
    TooManyHeaders,
    /// 417: RFC 9110 10.1.1.
    #[error("{}", EXPECTATION_FAILED)]
    ExpectationFailed,
    /// 501: well formed, but nothing that this server does. The sentence names it.
    #[error("{0}")]
    NotImplemented(&'static str),
    /// 505: RFC 9110 15.6.6.
    #[error("{}", VERSION_NOT_SUPPORTED)]
    VersionNotSupported,
    /// 413: RFC 9110 15.5.14, by a limit of the app.
    #[error("{}", BODY_TOO_LARGE)]
    BodyTooLarge,
    /// 408: RFC 9110 15.5.9.
    #[error("{}", TIMEOUT)]
    Timeout,
}

const TARGET_TOO_LONG: &str = "the request target is longer than this server allows (RFC 9110 15.5.15)";
const HEAD_TOO_LARGE: &str = "the header or trailer section is larger than this server allows (RFC 6585 5)";
const TOO_MANY_HEADERS: &str = "the message has more fields than this server allows (RFC 6585 5)";
const EXPECTATION_FAILED: &str = "the only expectation known here is 100-continue (RFC 9110 10.1.1)";
const VERSION_NOT_SUPPORTED: &str = "only major version 1 of HTTP is served here (RFC 9110 15.6.6)";
const BODY_TOO_LARGE: &str = "the request body is larger than its application allows (RFC 9110 15.5.14)";
const TIMEOUT: &str = "the request did not arrive in time (RFC 9110 15.5.9)";

impl PeerError {
    /// The status code of the answer.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::Timeout => 408,
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::ExpectationFailed => 417,
            Self::HeadTooLarge | Self::TooManyHeaders => 431,
            Self::NotImplemented(_) => 501,
            Self::VersionNotSupported => 505,
        }
    }

    /// A sentence for the person who sent the request: what is wrong, and which section says so.
    #[must_use]
    pub const fn detail(&self) -> &'static str {
        match self {
            Self::Malformed(detail) | Self::NotImplemented(detail) => detail,
            Self::Timeout => TIMEOUT,
            Self::BodyTooLarge => BODY_TOO_LARGE,
            Self::TargetTooLong => TARGET_TOO_LONG,
            Self::ExpectationFailed => EXPECTATION_FAILED,
            Self::HeadTooLarge => HEAD_TOO_LARGE,
            Self::TooManyHeaders => TOO_MANY_HEADERS,
            Self::VersionNotSupported => VERSION_NOT_SUPPORTED,
        }
    }
}

/// A response head, or a trailer, that a guest may not send. Nothing was taken over; another try is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum GuestError {
    /// The name is not a token (RFC 9110 5.1).
    #[error("a field name is not a token")]
    InvalidName,
    /// The value holds CR, LF, NUL or another control byte (RFC 9110 5.5).
    #[error("a field value holds a control byte")]
    InvalidValue,
    /// A final status lies outside 200 to 599 (RFC 9110 15).
    #[error("the status is not a final one")]
    InvalidStatus,
    /// A field that belongs to the connection, which the server owns (RFC 9110 7.6.1, RFC 9112 6.1).
    #[error("a field of the connection is not the guest's to set")]
    ForbiddenField,
    /// Content-Length is no number, or given twice (RFC 9110 8.6).
    #[error("Content-Length is invalid or given twice")]
    ContentLength,
    /// A field that must not stand in a trailer section (RFC 9110 6.5.1).
    #[error("a field may not stand in a trailer section")]
    ForbiddenTrailer,
    /// The fields together are larger than one head may be.
    #[error("the fields are too large")]
    TooLarge,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_blame_has_its_status_and_a_sentence_with_a_section() {
        let table = [
            (PeerError::Malformed("a line (RFC 9112 3)"), 400),
            (PeerError::Timeout, 408),
            (PeerError::BodyTooLarge, 413),
            (PeerError::TargetTooLong, 414),
            (PeerError::ExpectationFailed, 417),
            (PeerError::HeadTooLarge, 431),
            (PeerError::TooManyHeaders, 431),
            (PeerError::NotImplemented("CONNECT (RFC 9110 9.3.6)"), 501),
            (PeerError::VersionNotSupported, 505),
        ];
        for (error, status) in table {
            assert_eq!(error.status(), status, "{error:?}");
            assert!(error.detail().contains("RFC "), "{error:?}");
            assert_eq!(error.to_string(), error.detail());
        }
    }
}
