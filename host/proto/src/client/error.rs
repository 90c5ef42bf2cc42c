//! What is wrong with a request that a guest makes, and with a response that a server gives.
//!
//! Fixed sentences, as in [`error`](crate::error): nothing that a server sends is reflected.

use thiserror::Error;

/// A request that is not sent. Nothing of it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// No token, or CONNECT, which is for tunnels (RFC 9110 9.1, 9.3.6).
    #[error("the method is no token, or CONNECT")]
    Method,
    /// The authority is empty, or not `host` or `host:port` (RFC 9110 4.2).
    #[error("the authority is not a host with or without a port")]
    Authority,
    /// The path does not begin with a slash, or holds what no URI may hold (RFC 9112 3.2.1).
    #[error("the path is not one of a URI")]
    Path,
    /// A longer path than any server has to take (RFC 9112 3).
    #[error("the path is longer than 8 KiB")]
    PathTooLong,
    /// The name is not a token (RFC 9110 5.1).
    #[error("a field name is not a token")]
    FieldName,
    /// The value holds CR, LF, NUL or another control byte (RFC 9110 5.5).
    #[error("a field value holds a control byte")]
    FieldValue,
    /// A field that belongs to the connection (RFC 9110 7.6.1), or Host, which is the authority's.
    #[error("a field of the connection is not the guest's to set")]
    ForbiddenField,
    /// Content-Length is no number, given twice, or not the length of the body (RFC 9110 8.6).
    #[error("Content-Length is invalid, given twice, or not the length of the body")]
    ContentLength,
    /// The head as a whole.
    #[error("the head is larger than 32 KiB")]
    TooLarge,
}

/// A response that cannot be read. The connection is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ResponseError {
    /// The sentence names what is wrong and the section of the RFC it offends.
    #[error("{0}")]
    Malformed(&'static str),
    /// Head, or all interim heads together.
    #[error("the head of the response is too large, or has too many fields")]
    HeadTooLarge,
    /// Trailers.
    #[error("the trailers of the response are too large or too many")]
    TrailersTooLarge,
    /// A transfer coding other than chunked, which nobody asked for (RFC 9112 6.1).
    #[error("the response has a transfer coding that is not known here")]
    TransferCoding,
    /// 101, which nobody asked for (RFC 9110 15.2.2).
    #[error("the server switches to a protocol that nobody asked for")]
    Upgraded,
    /// The connection ended within the response (RFC 9112 8).
    #[error("the connection ended before the response did")]
    Incomplete,
    /// The connection ended before the first byte of the response.
    #[error("the connection ended before a response came")]
    Unanswered,
}
