//! Why a direction failed, as `wasi:http/types.error-code` and `wasi:io/streams.stream-error`.

use wasmtime::format_err;
use wasmtime_wasi::p2::StreamError;

use super::types::ErrorCode;
use crate::exchange::Fault;

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

/// The stream's operation failed, as `http-error-code` tells.
pub(super) fn failed(code: ErrorCode) -> StreamError {
    StreamError::LastOperationFailed(format_err!(code))
}
