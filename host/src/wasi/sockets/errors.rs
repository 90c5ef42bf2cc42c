//! Which of the standard's errors an error of the system is, or a failed lookup.

use rustix::io::Errno;
use wasmtime::component::ResourceTableError;
use wasmtime_wasi::p2::StreamError;

use super::bindings::wasi::sockets::network::ErrorCode;
use crate::net::resolve::LookupError;

/// Why an operation gives nothing. To make one of these costs nothing: most say `would-block`.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The guest is told.
    Code(ErrorCode),
    /// The guest is stopped.
    Trap(wasmtime::Error),
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Code(code(errno))
    }
}

impl From<wasmtime::Error> for Failure {
    fn from(error: wasmtime::Error) -> Self {
        Self::Trap(error)
    }
}

impl From<ResourceTableError> for Failure {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

/// The error of a socket's operation.
pub(super) fn code(errno: Errno) -> ErrorCode {
    match errno {
        Errno::AGAIN | Errno::INTR => ErrorCode::WouldBlock,
        // That the call has moved as many bytes as it may: the operator's word, too.
        Errno::ACCESS | Errno::PERM | Errno::DQUOT => ErrorCode::AccessDenied,
        Errno::INVAL => ErrorCode::InvalidArgument,
        Errno::NOMEM | Errno::NOBUFS => ErrorCode::OutOfMemory,
        Errno::TIMEDOUT => ErrorCode::Timeout,
        Errno::ALREADY => ErrorCode::ConcurrencyConflict,
        Errno::ISCONN | Errno::NOTCONN | Errno::DESTADDRREQ => ErrorCode::InvalidState,
        Errno::MFILE | Errno::NFILE => ErrorCode::NewSocketLimit,
        Errno::ADDRNOTAVAIL => ErrorCode::AddressNotBindable,
        Errno::ADDRINUSE => ErrorCode::AddressInUse,
        Errno::HOSTUNREACH
        | Errno::HOSTDOWN
        | Errno::NETUNREACH
        | Errno::NETDOWN
        | Errno::NETRESET
        | Errno::NONET => ErrorCode::RemoteUnreachable,
        Errno::CONNREFUSED => ErrorCode::ConnectionRefused,
        Errno::CONNRESET | Errno::PIPE => ErrorCode::ConnectionReset,
        // What is said of a socket that was closed with its call.
        Errno::CONNABORTED | Errno::CANCELED => ErrorCode::ConnectionAborted,
        Errno::MSGSIZE => ErrorCode::DatagramTooLarge,
        Errno::OPNOTSUPP
        | Errno::NOPROTOOPT
        | Errno::AFNOSUPPORT
        | Errno::PFNOSUPPORT
        | Errno::PROTONOSUPPORT
        | Errno::PROTOTYPE
        | Errno::SOCKTNOSUPPORT => ErrorCode::NotSupported,
        _ => ErrorCode::Unknown,
    }
}

/// What an app without rules is told, whatever it asks for; that the rules were asked is for the operator's log.
pub(super) fn denied(checked: Result<(), Errno>) -> ErrorCode {
    code(checked.err().unwrap_or(Errno::ACCESS))
}

/// The error of a connection that could not be made. The one of an address that cannot be had means that there are no
/// ports left to connect from.
pub(super) fn connect_code(errno: Errno) -> ErrorCode {
    match errno {
        Errno::ADDRNOTAVAIL => ErrorCode::AddressInUse,
        errno => code(errno),
    }
}

/// The error of a connection that could not be accepted. Linux tells what has become of the connection as if it were
/// what has become of the listener.
pub(super) fn accept_code(errno: Errno) -> ErrorCode {
    match code(errno) {
        ErrorCode::RemoteUnreachable | ErrorCode::ConnectionReset | ErrorCode::NotSupported => {
            ErrorCode::ConnectionAborted
        }
        _ if errno == Errno::PROTO => ErrorCode::ConnectionAborted,
        code => code,
    }
}

/// The error of a name that was looked up.
pub(super) fn lookup_code(error: &LookupError) -> ErrorCode {
    match error {
        LookupError::NotFound | LookupError::NoAddress => ErrorCode::NameUnresolvable,
        LookupError::Timeout | LookupError::Busy => ErrorCode::TemporaryResolverFailure,
        LookupError::Failed(_) => ErrorCode::PermanentResolverFailure,
        LookupError::BadName => ErrorCode::InvalidArgument,
    }
}

/// A stream's operation failed. `network-error-code` finds the number in it.
pub(super) fn failed(errno: Errno) -> StreamError {
    StreamError::LastOperationFailed(errno.into())
}

/// The error behind a stream's error, if that is one of the network.
pub(super) fn code_of(error: &wasmtime::Error) -> Option<ErrorCode> {
    error.downcast_ref::<Errno>().copied().map(code)
}
