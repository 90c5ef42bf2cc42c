//! Why something was not done with the key-value store.

use http::StatusCode;
use std::fmt;
use std::io;
use tidegate_abi::errno::{self, Errno};

use crate::sys::HostError;

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The app may keep nothing: its manifest has no `kv`.
    Denied,
    /// The app keeps as many keys or bytes as it may.
    Quota,
    /// The key is empty or longer than 1,024 bytes, or the value larger than 1 MiB.
    Invalid,
    /// The value is not what it was taken for: text, JSON, a number; or a sum is no number of 64 bits.
    Content,
    /// Too much of the app's is under way: later.
    Busy,
    /// The limit on this handler's waits has passed: what was asked for may happen yet.
    Timeout,
    /// Not something that this host does.
    Unsupported,
    /// The store is out of order, or its disk is full.
    Unavailable,
}

/// Why something was not done with the key-value store.
///
/// ```
/// use tidegate_sdk::kv;
///
/// kv::set("name", "Ada").unwrap();
/// let error = kv::increment("name", 1).unwrap_err();
/// assert_eq!(error.kind(), kv::ErrorKind::Content);
/// assert!(error.to_string().starts_with("increment `name`: "));
/// ```
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    call: &'static str,
    /// For the log; a prefix, of a listing.
    key: String,
    why: String,
    errno: Option<Errno>,
}

/// Bytes of a key that are shown.
const SHOWN_BYTES: usize = 100;

impl Error {
    pub(super) fn new(kind: ErrorKind, call: &'static str, key: &str, why: &str) -> Self {
        let key = key[..key.floor_char_boundary(SHOWN_BYTES)].to_owned();
        Self { kind, call, key, why: why.to_owned(), errno: None }
    }

    /// The host gave something else than it should.
    pub(super) fn odd(call: &'static str, key: &str) -> Self {
        Self::new(ErrorKind::Unavailable, call, key, "the host gave another answer")
    }

    pub(super) fn of_host(error: HostError, key: &str) -> Self {
        let kind = match error.errno {
            errno::EACCES | errno::EPERM => ErrorKind::Denied,
            errno::EDQUOT => ErrorKind::Quota,
            errno::EINVAL | errno::EMSGSIZE => ErrorKind::Invalid,
            errno::EILSEQ | errno::EOVERFLOW => ErrorKind::Content,
            errno::EBUSY | errno::EMFILE => ErrorKind::Busy,
            errno::ENOTSUP => ErrorKind::Unsupported,
            _ => ErrorKind::Unavailable,
        };
        let (symbol, text) = errno::describe(error.errno);
        let errno = Some(error.errno);
        Self { errno, ..Self::new(kind, error.call, key, &format!("{text} ({symbol})")) }
    }

    /// The limit on waits has passed.
    pub(super) fn of_wait(error: &io::Error, call: &'static str, key: &str) -> Self {
        Self::new(ErrorKind::Timeout, call, key, &error.to_string())
    }

    pub(super) fn errno(&self) -> Option<Errno> {
        self.errno
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What a client is told of it, where that is more than of any error.
    pub(crate) fn blame(&self) -> Option<(StatusCode, &'static str)> {
        match self.kind {
            ErrorKind::Busy | ErrorKind::Timeout | ErrorKind::Unavailable => {
                Some((StatusCode::SERVICE_UNAVAILABLE, "the data for this is out of reach at the moment"))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`: {}", self.call, self.key.escape_debug(), self.why)
    }
}

impl std::error::Error for Error {}
