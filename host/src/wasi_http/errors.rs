//! Why a direction failed, as `wasi:http/types.error-code` and `wasi:io/streams.stream-error`.

use wasmtime::format_err;
use wasmtime_wasi::p2::StreamError;

use super::types::{DnsErrorPayload, ErrorCode, TlsAlertReceivedPayload};
use crate::exchange::Fault;
use crate::net::http::Failure;

impl From<Fault> for ErrorCode {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Gone => Self::ConnectionTerminated,
            Fault::TooLarge => Self::HttpRequestBodySize(None),
            Fault::TooSlow => Self::ConnectionReadTimeout,
            Fault::Malformed => Self::HttpProtocolError,
        }
    }
}

impl From<Failure> for ErrorCode {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::DnsTimeout => Self::DnsTimeout,
            Failure::DnsError(rcode) => {
                Self::DnsError(DnsErrorPayload { rcode: Some(rcode.to_owned()), info_code: None })
            }
            Failure::DestinationNotFound => Self::DestinationNotFound,
            Failure::DestinationIpProhibited => Self::DestinationIpProhibited,
            Failure::DestinationIpUnroutable => Self::DestinationIpUnroutable,
            Failure::ConnectionRefused => Self::ConnectionRefused,
            Failure::ConnectionTerminated => Self::ConnectionTerminated,
            Failure::ConnectionTimeout => Self::ConnectionTimeout,
            Failure::ConnectionReadTimeout => Self::ConnectionReadTimeout,
            Failure::ConnectionWriteTimeout => Self::ConnectionWriteTimeout,
            Failure::ConnectionLimitReached => Self::ConnectionLimitReached,
            Failure::TlsProtocolError(_) => Self::TlsProtocolError,
            Failure::TlsCertificateError(_) => Self::TlsCertificateError,
            Failure::TlsAlertReceived { id, message } => Self::TlsAlertReceived(TlsAlertReceivedPayload {
                alert_id: Some(id),
                alert_message: Some(message.to_owned()),
            }),
            Failure::HttpRequestDenied(_) => Self::HttpRequestDenied,
            Failure::HttpRequestBodySize(bytes) => Self::HttpRequestBodySize(Some(bytes)),
            Failure::HttpRequestMethodInvalid => Self::HttpRequestMethodInvalid,
            Failure::HttpRequestUriInvalid => Self::HttpRequestUriInvalid,
            Failure::HttpRequestUriTooLong => Self::HttpRequestUriTooLong,
            Failure::HttpRequestHeaderSectionSize => Self::HttpRequestHeaderSectionSize(None),
            Failure::HttpRequestTrailerSectionSize => Self::HttpRequestTrailerSectionSize(None),
            Failure::HttpResponseIncomplete => Self::HttpResponseIncomplete,
            Failure::HttpResponseHeaderSectionSize => Self::HttpResponseHeaderSectionSize(None),
            Failure::HttpResponseTrailerSectionSize => Self::HttpResponseTrailerSectionSize(None),
            Failure::HttpResponseTransferCoding => Self::HttpResponseTransferCoding(None),
            Failure::HttpUpgradeFailed => Self::HttpUpgradeFailed,
            Failure::HttpProtocolError(_) => Self::HttpProtocolError,
            Failure::InternalError(errno) => Self::InternalError(Some(errno.to_string())),
        }
    }
}

/// The stream's operation failed, as `http-error-code` tells.
pub(super) fn failed(code: ErrorCode) -> StreamError {
    StreamError::LastOperationFailed(format_err!(code))
}
