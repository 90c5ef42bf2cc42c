//! How a guest's call ended, and what a client is told of a failure.

/// How a guest's call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It returned; 0 says that all went well.
    Returned(i32),
    /// It answered with an error of its own: which, for the log.
    Reported(String),
    /// It trapped: what the trap was, for the log.
    Trapped(String),
    /// It met its memory limit.
    OutOfMemory(String),
    /// Its CPU time is used up.
    CpuExceeded,
}

/// A failure as a client sees it (the last table of the protocol rules).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: &'static str,
    pub(crate) status: u16,
    pub(crate) title: &'static str,
}

pub(crate) const NO_SUCH_APP: Failure =
    Failure { code: "no-such-app", status: 404, title: "No app serves this address" };
pub(crate) const OVERLOADED: Failure =
    Failure { code: "overloaded", status: 503, title: "The app has more requests than it can answer" };
pub(crate) const LOAD_FAILED: Failure =
    Failure { code: "load-failed", status: 503, title: "The app can not be loaded" };
pub(crate) const APP_UNAVAILABLE: Failure =
    Failure { code: "app-unavailable", status: 503, title: "The app can not be served for now" };
/// RFC 6585 section 4.
pub(crate) const RATE_LIMITED: Failure =
    Failure { code: "rate-limited", status: 429, title: "The app gets more requests a second than it may" };
pub(crate) const RESPONSE_TOO_LARGE: Failure = Failure {
    code: "response-too-large",
    status: 502,
    title: "The handler's answer is larger than it may be",
};
pub(crate) const GUEST_TRAP: Failure =
    Failure { code: "guest-trap", status: 500, title: "The handler crashed" };
pub(crate) const GUEST_MEMORY: Failure =
    Failure { code: "guest-memory", status: 500, title: "The handler ran out of memory" };
pub(crate) const GUEST_ERROR: Failure =
    Failure { code: "guest-error", status: 500, title: "The handler reported a failure" };
pub(crate) const CPU_LIMIT: Failure =
    Failure { code: "cpu-limit", status: 504, title: "The handler used up its CPU time" };
pub(crate) const WALL_LIMIT: Failure =
    Failure { code: "wall-limit", status: 504, title: "The handler did not answer in time" };
pub(crate) const NO_RESPONSE: Failure =
    Failure { code: "no-response", status: 502, title: "The handler ended without an answer" };
pub(crate) const BAD_RESPONSE: Failure =
    Failure { code: "bad-response", status: 502, title: "The handler's answer was not valid" };

/// By an operator, before an answer had begun. 503 as the server does this, and neither the request nor its handler is to
/// blame; there is no Retry-After, as nobody knows what the operator is about to do.
pub(crate) const CANCELLED: Failure =
    Failure { code: "cancelled", status: 503, title: "The request was cancelled" };

impl Outcome {
    /// What the client is told if no head has left: `refused_head` says that the guest tried an invalid one.
    pub(crate) fn failure(&self, refused_head: bool) -> Failure {
        match self {
            Self::Returned(0) if refused_head => BAD_RESPONSE,
            Self::Returned(0) => NO_RESPONSE,
            Self::Returned(_) | Self::Reported(_) => GUEST_ERROR,
            Self::Trapped(_) => GUEST_TRAP,
            Self::OutOfMemory(_) => GUEST_MEMORY,
            Self::CpuExceeded => CPU_LIMIT,
        }
    }

    /// A word for the log.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Returned(0) => "ok",
            Self::Returned(_) | Self::Reported(_) => GUEST_ERROR.code,
            Self::Trapped(_) => GUEST_TRAP.code,
            Self::OutOfMemory(_) => GUEST_MEMORY.code,
            Self::CpuExceeded => CPU_LIMIT.code,
        }
    }

    /// What the log says besides the word.
    pub(crate) fn detail(&self) -> Option<&str> {
        match self {
            Self::Reported(text) | Self::Trapped(text) | Self::OutOfMemory(text) => Some(text),
            _ => None,
        }
    }
}
