//! Handlers under test without a server and without wasm: an exchange is described, run, and looked at.
//!
//! ```
//! use tidegate_sdk::{Request, Response, testing::Exchange};
//!
//! fn hello(request: Request) -> Response {
//!     Response::text(format!("Hello {}\n", request.path()))
//! }
//!
//! let answer = Exchange::get("/world").run(hello);
//! assert_eq!(answer.status.unwrap(), 200);
//! assert_eq!(answer.text(), "Hello /world\n");
//! ```
//!
//! Time is not real here: a `sleep` returns at once.

use http::{HeaderMap, StatusCode};
use tidegate_abi::fields::FieldList;
use tidegate_abi::level;
use tidegate_abi::request::RequestHead;

use crate::error::Error;
use crate::fields::{Pair, packed, to_map};
use crate::handler;
use crate::log::Level;
use crate::request::Request;
use crate::response::IntoResponse;
use crate::sys::native::{End, Host, REQUEST_BODY, RESPONSE_BODY, WALL_LIMIT_NS, with_host};
use crate::writer::ResponseWriter;

type Field = (Vec<u8>, Vec<u8>);

/// A request, and how its client behaves.
#[derive(Debug)]
pub struct Exchange {
    method: String,
    target: String,
    headers: Vec<Field>,
    params: Vec<Field>,
    trailers: Vec<Field>,
    mount_len: usize,
    has_body: bool,
    host: Host,
}

fn borrowed(fields: &[Field]) -> Vec<Pair<'_>> {
    fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect()
}

fn field(name: &str, value: impl AsRef<[u8]>) -> Field {
    (name.to_ascii_lowercase().into_bytes(), value.as_ref().to_vec())
}

impl Exchange {
    /// A request without a body.
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: vec![field("host", "test.example")],
            params: Vec::new(),
            trailers: Vec::new(),
            mount_len: 0,
            has_body: false,
            host: Host::default(),
        }
    }

    /// A GET.
    #[must_use]
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A POST; give it a body with [`Self::body`] or [`Self::chunk`].
    #[must_use]
    pub fn post(target: &str) -> Self {
        Self::new("POST", target)
    }

    /// With this header too.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push(field(name, value));
        self
    }

    /// With a body of known length.
    #[must_use]
    pub fn body(self, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        self.header("content-length", bytes.len().to_string()).chunk(bytes)
    }

    /// With a piece of body that arrives on its own: the handler has to wait for it.
    #[must_use]
    pub fn chunk(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        self.has_body = true;
        // An empty read means the end.
        self.host.chunks.extend((!bytes.is_empty()).then_some(bytes));
        self
    }

    /// With this field after the body.
    #[must_use]
    pub fn trailer(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.trailers.push(field(name, value));
        self
    }

    /// With this route parameter.
    #[must_use]
    pub fn param(mut self, name: &str, value: &str) -> Self {
        self.params.push((name.into(), value.into()));
        self
    }

    /// As if the app's route were `mount/*`.
    #[must_use]
    pub fn mount(mut self, mount: &str) -> Self {
        self.mount_len = mount.len();
        self
    }

    /// The client does not end its body; it goes away.
    #[must_use]
    pub fn body_cut_off(self) -> Self {
        self.body_fails(tidegate_abi::errno::ECONNRESET)
    }

    pub(crate) fn body_fails(mut self, errno: tidegate_abi::errno::Errno) -> Self {
        self.has_body = true;
        self.host.body_error = Some(errno);
        self
    }

    /// A slow client: after this many bytes of response the handler has to wait for it. By default 64 KiB.
    #[must_use]
    pub fn pipe_bytes(mut self, bytes: usize) -> Self {
        self.host.pipe_bytes = bytes;
        self
    }

    /// The largest body that the host takes whole; larger ones are streamed. By default 64 KiB.
    #[must_use]
    pub fn respond_bytes_max(mut self, bytes: usize) -> Self {
        self.host.respond_bytes_max = bytes;
        self
    }

    /// The client goes away when it has had this many bytes of response.
    #[must_use]
    pub fn hang_up_after(mut self, bytes: usize) -> Self {
        self.host.client_bytes_max = bytes;
        self
    }

    fn pack_head(&self) -> Vec<u8> {
        let (params, headers) = (borrowed(&self.params), borrowed(&self.headers));
        let head = RequestHead {
            http_minor: 1,
            secure: false,
            has_body: self.has_body,
            request_body: REQUEST_BODY,
            response_body: RESPONSE_BODY,
            mount_len: u32::try_from(self.mount_len).expect("a short path"),
            deadline_ns: WALL_LIMIT_NS,
            method: self.method.as_bytes(),
            target: self.target.as_bytes(),
            authority: b"test.example",
            peer: b"192.0.2.1:4711",
            local: b"127.0.0.1:8080",
            request_id: b"test-1",
            params: params.iter().copied(),
            fields: headers.iter().copied(),
        };
        let mut bytes = vec![0; head.pack(&mut []).expect("a head of this size") as usize];
        head.pack(&mut bytes);
        bytes
    }

    fn exchange(mut self, run: impl FnOnce() -> i32) -> Answer {
        self.host.head = self.pack_head();
        self.host.request_trailers = packed(&borrowed(&self.trailers), <[u8]>::to_vec);
        let (code, host) = with_host(self.host, run);
        Answer::of(code, host)
    }

    /// Runs a handler that returns its response.
    pub fn run<R: IntoResponse>(self, handler: impl FnOnce(Request) -> R) -> Answer {
        self.exchange(|| handler::run(handler))
    }

    /// Runs a handler that streams its response.
    pub fn run_streaming<E: Into<Error>>(
        self,
        handler: impl FnOnce(Request, ResponseWriter) -> Result<(), E>,
    ) -> Answer {
        self.exchange(|| handler::stream(handler))
    }
}

/// What the client got, and what the host saw.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answer {
    /// The status; `None` if no head was sent.
    pub status: Option<StatusCode>,
    /// The headers the handler set: not those that a host adds.
    pub headers: HeaderMap,
    /// The headers of each `103 Early Hints`.
    pub hints: Vec<HeaderMap>,
    /// The body.
    pub body: Vec<u8>,
    /// The trailers.
    pub trailers: HeaderMap,
    /// True if the response was ended cleanly: a host cuts it off otherwise.
    pub finished: bool,
    /// True if the handler told the host that it failed.
    pub failed: bool,
    /// Log records in order.
    pub logs: Vec<(Level, String)>,
    /// The imports that were called, in order, without `log`.
    pub calls: Vec<&'static str>,
}

impl Answer {
    fn of(code: i32, host: Host) -> Self {
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
        }
    }

    /// The body as text.
    ///
    /// # Panics
    /// If it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }
}
