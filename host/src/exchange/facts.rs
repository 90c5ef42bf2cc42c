//! What is known of a request besides its head and body.

use std::fmt;
use std::net::SocketAddr;

use tidegate_proto::router::Params;

use crate::clock::Nanos;

/// Bytes of an id that is taken from the peer.
const TRUSTED_BYTES_MAX: usize = 128;

/// A request's name in logs, in the head that the guest reads, and on error responses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum RequestId {
    /// None yet.
    #[default]
    Nothing,
    /// Ours: the server's run, the worker, a count.
    Made { run: u32, worker: u16, count: u64 },
    /// The peer's, where the manifest trusts it.
    Given(Box<str>),
}

impl RequestId {
    /// The peer's id if it is one: visible ASCII without quotes, at most 128 bytes.
    pub(crate) fn given(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let fits = !text.is_empty() && text.len() <= TRUSTED_BYTES_MAX;
        let plain = text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
        (fits && plain).then(|| Self::Given(text.into()))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("-"),
            Self::Made { run, worker, count } => write!(f, "{run:08x}-{worker:x}-{count:x}"),
            Self::Given(text) => f.write_str(text),
        }
    }
}

/// Where a connection comes from and arrived at. `None` on Unix sockets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) local: Option<SocketAddr>,
}

/// Facts of one request.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) id: RequestId,
    /// The client's, where a proxy that is believed speaks for one: then with port 0 if it names none.
    pub(crate) ends: Ends,
    /// The client came over https, to a proxy.
    pub(crate) secure: bool,
    /// When the response head is due.
    pub(crate) deadline: Nanos,
    /// Bytes of the path that the app's route covers.
    pub(crate) mount_len: usize,
    pub(crate) params: Params,
    /// True if a body follows the head.
    pub(crate) has_body: bool,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            id: RequestId::Nothing,
            ends: Ends { peer: None, local: None },
            secure: false,
            deadline: Nanos::MAX,
            mount_len: 0,
            params: Params::default(),
            has_body: false,
        }
    }
}

impl Facts {
    pub(super) fn clear(&mut self) {
        self.id = RequestId::Nothing;
        self.secure = false;
        self.deadline = Nanos::MAX;
        self.mount_len = 0;
        self.params.clear();
        self.has_body = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_taken_only_if_they_cannot_forge_a_log_line() {
        assert!(RequestId::given(b"abc-123").is_some());
        let long = [b'a'; TRUSTED_BYTES_MAX + 1];
        for bad in [&b""[..], b"a b", b"a\nb", b"a\"b", "\u{e9}".as_bytes(), &long] {
            assert_eq!(RequestId::given(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn made_ids_are_readable() {
        let id = RequestId::Made { run: 0xabc, worker: 1, count: 255 };
        assert_eq!(id.to_string(), "00000abc-1-ff");
    }
}
