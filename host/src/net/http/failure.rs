//! Why an outbound request failed, in the words of `wasi:http`: a variant for each of its error codes that a client can
//! meet.

use std::fmt;
use std::sync::Arc;

use rustix::io::Errno;
use tidegate_proto::client::{RequestError, ResponseError};

use crate::net::resolve::LookupError;

/// How a call failed. A detail is for people, and holds nothing that a peer has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No name server answered in time.
    DnsTimeout,
    /// What name servers said: the name of a response code.
    DnsError(&'static str),
    /// A name that nobody could have.
    DestinationNotFound,
    /// The app may not connect to the address. The operator is told which rule would allow it.
    DestinationIpProhibited,
    DestinationIpUnroutable,
    ConnectionRefused,
    /// Reset, or ended before there was an answer; or the call is over.
    ConnectionTerminated,
    /// There was no connection in time, TLS included.
    ConnectionTimeout,
    /// Nothing came for too long: neither the first byte of a response, nor its next one.
    ConnectionReadTimeout,
    /// Nothing was taken off us for too long.
    ConnectionWriteTimeout,
    /// The app has too many sockets, connects too often, or the call has moved as many bytes as it may.
    ConnectionLimitReached,
    TlsProtocolError(Arc<str>),
    TlsCertificateError(Arc<str>),
    TlsAlertReceived {
        id: u8,
        message: &'static str,
    },
    /// The app may not look the name up, or sets a field that is the connection's.
    HttpRequestDenied(&'static str),
    /// The body is not as long as was announced: so many bytes at least were written.
    HttpRequestBodySize(u64),
    HttpRequestMethodInvalid,
    HttpRequestUriInvalid,
    HttpRequestUriTooLong,
    HttpRequestHeaderSectionSize,
    HttpRequestTrailerSectionSize,
    /// The connection ended within the response.
    HttpResponseIncomplete,
    HttpResponseHeaderSectionSize,
    HttpResponseTrailerSectionSize,
    HttpResponseTransferCoding,
    HttpUpgradeFailed,
    /// What came is no response of HTTP/1.1.
    HttpProtocolError(&'static str),
    /// The system's number, where it has no better name.
    InternalError(Errno),
}

/// What is said of a name that no rule is about.
pub(super) const NAME_DENIED: &str = "the app may not connect to a host of that name";

impl Failure {
    /// True if it is the operator's doing: the app may not go there.
    pub(crate) fn is_denial(&self) -> bool {
        matches!(self, Self::DestinationIpProhibited | Self::HttpRequestDenied(NAME_DENIED))
    }

    /// The name of its code in `wasi:http`.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::DnsTimeout => "DNS-timeout",
            Self::DnsError(_) => "DNS-error",
            Self::DestinationNotFound => "destination-not-found",
            Self::DestinationIpProhibited => "destination-IP-prohibited",
            Self::DestinationIpUnroutable => "destination-IP-unroutable",
            Self::ConnectionRefused => "connection-refused",
            Self::ConnectionTerminated => "connection-terminated",
            Self::ConnectionTimeout => "connection-timeout",
            Self::ConnectionReadTimeout => "connection-read-timeout",
            Self::ConnectionWriteTimeout => "connection-write-timeout",
            Self::ConnectionLimitReached => "connection-limit-reached",
            Self::TlsProtocolError(_) => "TLS-protocol-error",
            Self::TlsCertificateError(_) => "TLS-certificate-error",
            Self::TlsAlertReceived { .. } => "TLS-alert-received",
            Self::HttpRequestDenied(_) => "HTTP-request-denied",
            Self::HttpRequestBodySize(_) => "HTTP-request-body-size",
            Self::HttpRequestMethodInvalid => "HTTP-request-method-invalid",
            Self::HttpRequestUriInvalid => "HTTP-request-URI-invalid",
            Self::HttpRequestUriTooLong => "HTTP-request-URI-too-long",
            Self::HttpRequestHeaderSectionSize => "HTTP-request-header-section-size",
            Self::HttpRequestTrailerSectionSize => "HTTP-request-trailer-section-size",
            Self::HttpResponseIncomplete => "HTTP-response-incomplete",
            Self::HttpResponseHeaderSectionSize => "HTTP-response-header-section-size",
            Self::HttpResponseTrailerSectionSize => "HTTP-response-trailer-section-size",
            Self::HttpResponseTransferCoding => "HTTP-response-transfer-coding",
            Self::HttpUpgradeFailed => "HTTP-upgrade-failed",
            Self::HttpProtocolError(_) => "HTTP-protocol-error",
            Self::InternalError(_) => "internal-error",
        }
    }

    /// True if it is the guest's own doing: a request that could not be sent as it is.
    pub(crate) const fn is_of_request(&self) -> bool {
        matches!(
            self,
            Self::HttpRequestDenied(_)
                | Self::HttpRequestBodySize(_)
                | Self::HttpRequestMethodInvalid
                | Self::HttpRequestUriInvalid
                | Self::HttpRequestUriTooLong
                | Self::HttpRequestHeaderSectionSize
                | Self::HttpRequestTrailerSectionSize
        )
    }

    /// Of a connection in the making.
    pub(super) fn of_connect(errno: Errno) -> Self {
        match errno {
            Errno::ACCESS | Errno::PERM => Self::DestinationIpProhibited,
            Errno::CONNREFUSED => Self::ConnectionRefused,
            Errno::TIMEDOUT => Self::ConnectionTimeout,
            Errno::NETUNREACH
            | Errno::HOSTUNREACH
            | Errno::NETDOWN
            | Errno::HOSTDOWN
            | Errno::AFNOSUPPORT
            | Errno::ADDRNOTAVAIL
            | Errno::INVAL => Self::DestinationIpUnroutable,
            errno => Self::of_connection(errno),
        }
    }

    /// Of a connection.
    pub(super) fn of_connection(errno: Errno) -> Self {
        match errno {
            Errno::CONNRESET
            | Errno::CONNABORTED
            | Errno::PIPE
            | Errno::NOTCONN
            | Errno::CANCELED
            | Errno::TIMEDOUT
            | Errno::HOSTUNREACH => Self::ConnectionTerminated,
            Errno::MFILE | Errno::NFILE | Errno::DQUOT | Errno::NOBUFS => Self::ConnectionLimitReached,
            errno => Self::InternalError(errno),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::DnsError(detail) | Self::HttpRequestDenied(detail) | Self::HttpProtocolError(detail) => {
                write!(f, ": {detail}")
            }
            Self::TlsProtocolError(detail) | Self::TlsCertificateError(detail) => write!(f, ": {detail}"),
            Self::TlsAlertReceived { message, .. } => write!(f, ": {message}"),
            Self::HttpRequestBodySize(bytes) => write!(f, ": {bytes} bytes were written"),
            Self::InternalError(errno) => write!(f, ": {errno}"),
            _ => Ok(()),
        }
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Method => Self::HttpRequestMethodInvalid,
            RequestError::Authority | RequestError::Path => Self::HttpRequestUriInvalid,
            RequestError::PathTooLong => Self::HttpRequestUriTooLong,
            RequestError::FieldName => Self::HttpRequestDenied("a field name is not a token"),
            RequestError::FieldValue => Self::HttpRequestDenied("a field value holds a control byte"),
            RequestError::ForbiddenField => {
                Self::HttpRequestDenied("a field of the connection is not the guest's to set")
            }
            RequestError::ContentLength => Self::HttpRequestDenied(
                "Content-Length is invalid, given twice, or not the length of the body",
            ),
            RequestError::TooLarge => Self::HttpRequestHeaderSectionSize,
        }
    }
}

impl From<ResponseError> for Failure {
    fn from(error: ResponseError) -> Self {
        match error {
            ResponseError::Malformed(detail) => Self::HttpProtocolError(detail),
            ResponseError::HeadTooLarge => Self::HttpResponseHeaderSectionSize,
            ResponseError::TrailersTooLarge => Self::HttpResponseTrailerSectionSize,
            ResponseError::TransferCoding => Self::HttpResponseTransferCoding,
            ResponseError::Upgraded => Self::HttpUpgradeFailed,
            ResponseError::Incomplete => Self::HttpResponseIncomplete,
            ResponseError::Unanswered => Self::ConnectionTerminated,
        }
    }
}

impl From<LookupError> for Failure {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::NotFound => Self::DnsError("NXDOMAIN"),
            LookupError::NoAddress => Self::DnsError("NOERROR"),
            LookupError::Timeout => Self::DnsTimeout,
            LookupError::Failed(_) => Self::DnsError("SERVFAIL"),
            LookupError::BadName => Self::DestinationNotFound,
            LookupError::Busy => Self::ConnectionLimitReached,
        }
    }
}

impl From<rustls::Error> for Failure {
    fn from(error: rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(why) => Self::TlsCertificateError(why.to_string().into()),
            rustls::Error::NoCertificatesPresented => Self::TlsCertificateError("the server has none".into()),
            rustls::Error::AlertReceived(alert) => {
                Self::TlsAlertReceived { id: alert.into(), message: alert.as_str().unwrap_or("unknown") }
            }
            error => Self::TlsProtocolError(error.to_string().into()),
        }
    }
}
