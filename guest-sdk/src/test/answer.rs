//! What came of a request.

use http::{HeaderMap, StatusCode};
use std::fmt::Write;
use tidegate_abi::fields::FieldList;
use tidegate_abi::level;

use crate::fields::to_map;
use crate::log::Level;
use crate::sys::native::{End, Host};

/// What the client got, and what the host saw.
///
/// ```
/// use tidegate_sdk::{Request, StatusCode, test::Exchange};
///
/// let hello = |_: Request| {
///     tidegate_sdk::info!("somebody is here");
///     "hi\n"
/// };
/// let answer = Exchange::get("/").run(hello);
/// assert_eq!((answer.status, answer.text()), (Some(StatusCode::OK), "hi\n"));
/// assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
/// assert!(answer.finished && !answer.failed);
/// assert_eq!(answer.logs[0].1, "somebody is here");
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Answer {
    /// The status; `None` if no head was sent.
    pub status: Option<StatusCode>,
    /// The headers the handler set: not those that a host adds. Over a socket these cannot be told apart, and the names
    /// that hosts use (`date`, `server`, `connection`, `keep-alive`, `transfer-encoding`, `content-length`,
    /// `x-request-id`, `tidegate-...`) are left out.
    pub headers: HeaderMap,
    /// The headers of each `103 Early Hints`.
    pub hints: Vec<HeaderMap>,
    /// The body.
    pub body: Vec<u8>,
    /// The trailers.
    pub trailers: HeaderMap,
    /// True if the response was ended cleanly: a host cuts it off otherwise.
    pub finished: bool,
    /// True if the handler told the host that it failed. Over a socket: if the host answered for it, or cut it off.
    pub failed: bool,
    /// Log records in order; empty over a socket.
    pub logs: Vec<(Level, String)>,
    /// The imports that were called, in order, without `log`; empty over a socket.
    pub calls: Vec<&'static str>,
    /// The most bytes of the response that ever waited for the client; 0 over a socket.
    pub queued_bytes_max: usize,
}

/// Bytes of a body that a failed assertion shows.
const SHOWN_BYTES: usize = 2048;

impl Answer {
    pub(super) fn of_host(code: i32, host: Host) -> Self {
        let map = |bytes: &[u8]| to_map(FieldList::parse(bytes).expect("the SDK packs what can be read"));
        let level = |level| match level {
            level::ERROR => Level::Error,
            level::WARN => Level::Warn,
            level::INFO => Level::Info,
            level::DEBUG => Level::Debug,
            _ => Level::Trace,
        };
        Self {
            status: host.status.map(|status| StatusCode::from_u16(status).expect("the host checked it")),
            headers: map(&host.response_head),
            hints: host.interim.iter().map(|head| map(head)).collect(),
            body: host.body,
            trailers: map(&host.response_trailers),
            finished: host.response_end == End::Clean,
            failed: code != 0,
            logs: host.logs.into_iter().map(|(number, text)| (level(number), text)).collect(),
            calls: host.calls,
            queued_bytes_max: host.queued_bytes_max,
        }
    }

    /// The body as text. See [`Answer`].
    ///
    /// # Panics
    /// If it is not UTF-8.
    #[must_use]
    #[track_caller]
    pub fn text(&self) -> &str {
        match std::str::from_utf8(&self.body) {
            Ok(text) => text,
            Err(error) => panic!("the body is not text: {error}\n{}", self.summary()),
        }
    }

    /// The body as a value of JSON.
    ///
    /// ```
    /// use tidegate_sdk::{Request, Response, test::Exchange};
    ///
    /// let answer = Exchange::get("/").run(|_: Request| Response::text("[1, 2]"));
    /// assert_eq!(answer.json::<Vec<u32>>(), [1, 2]);
    /// ```
    ///
    /// # Panics
    /// If it is not JSON, or not of that type.
    #[cfg(feature = "json")]
    #[must_use]
    #[track_caller]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("the body is not what was expected: {error}\n{}", self.summary()),
        }
    }

    /// The first header of that name, if it is text. See [`Answer`].
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Checks the status, and gives the answer back for more.
    ///
    /// ```
    /// use tidegate_sdk::{Request, test::Exchange};
    ///
    /// let answer = Exchange::get("/").run(|_: Request| "hi");
    /// assert_eq!(answer.assert_status(200).text(), "hi");
    /// ```
    ///
    /// # Panics
    /// If it is another, or there was no response. The message has the body and the log.
    #[track_caller]
    pub fn assert_status(&self, status: u16) -> &Self {
        assert!(
            self.status.is_some_and(|actual| actual == status),
            "expected status {status}, and there was another:\n{}",
            self.summary()
        );
        self
    }

    /// All of it that helps to find out what went wrong.
    fn summary(&self) -> String {
        let mut out = String::new();
        // Writing to a `String` cannot fail.
        let _ = match self.status {
            Some(status) => writeln!(out, "status: {status}"),
            None => writeln!(out, "status: none, no response was sent"),
        };
        for (name, value) in &self.headers {
            let _ = writeln!(out, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
        }
        let shown = &self.body[..self.body.len().min(SHOWN_BYTES)];
        let _ = writeln!(out, "body ({} bytes): {}", self.body.len(), String::from_utf8_lossy(shown));
        if !self.finished {
            let _ = writeln!(out, "the body was not ended");
        }
        for (level, text) in &self.logs {
            let _ = writeln!(out, "log: {level:?}: {text}");
        }
        out
    }
}
