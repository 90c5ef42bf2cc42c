//! A request, and how its client behaves.

use std::future::Future;
use std::time::Duration;
use tidegate_abi::errno::{self, Errno};
use tidegate_abi::request::RequestHead;

use super::Answer;
use crate::error::{Error, Result};
use crate::fields::{Pair, packed};
use crate::handler::{self, Handler};
use crate::request::Request;
use crate::response::IntoResponse;
use crate::sys::native::{Chunk, Host, REQUEST_BODY, RESPONSE_BODY, WALL_LIMIT_NS, with_host};
use crate::writer::ResponseWriter;

pub(super) type Field = (Vec<u8>, Vec<u8>);

/// A request, and how its client behaves.
///
/// ```
/// use std::time::Duration;
/// use tidegate_sdk::{Request, Result, test::Exchange};
///
/// async fn shout(mut request: Request) -> Result<String> {
///     Ok(request.body().collect_text().await?.to_uppercase())
/// }
///
/// let exchange = Exchange::post("/").chunk("hel").chunk_after(Duration::from_secs(10), "lo");
/// assert_eq!(exchange.run(shout).text(), "HELLO");
/// ```
#[derive(Debug)]
pub struct Exchange {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: Vec<Field>,
    params: Vec<Field>,
    pub(super) trailers: Vec<Field>,
    mount: String,
    pub(super) has_body: bool,
    pub(super) host: Host,
}

fn borrowed(fields: &[Field]) -> Vec<Pair<'_>> {
    fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect()
}

fn field(name: &str, value: impl AsRef<[u8]>) -> Field {
    (name.to_ascii_lowercase().into_bytes(), value.as_ref().to_vec())
}

impl Exchange {
    /// A request without a body.
    ///
    /// ```
    /// use tidegate_sdk::{Request, test::Exchange};
    ///
    /// let show = |request: Request| format!("{} {}", request.method(), request.path());
    /// assert_eq!(Exchange::new("PUT", "/a").run(show).text(), "PUT /a");
    /// ```
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: vec![field("host", "test.example")],
            params: Vec::new(),
            trailers: Vec::new(),
            mount: String::new(),
            has_body: false,
            host: Host::default(),
        }
    }

    /// A GET. See [`Self::header`].
    #[must_use]
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A POST; give it a body with [`Self::body`] or [`Self::chunk`]. See [`Self::body`].
    #[must_use]
    pub fn post(target: &str) -> Self {
        Self::new("POST", target)
    }

    /// With this header too.
    ///
    /// ```
    /// use tidegate_sdk::{Request, test::Exchange};
    ///
    /// let who = |request: Request| request.header("x-user").unwrap_or("nobody").to_owned();
    /// assert_eq!(Exchange::get("/").header("x-user", "Ada").run(who).text(), "Ada");
    /// ```
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push(field(name, value));
        self
    }

    /// With a body of known length.
    ///
    /// ```
    /// use tidegate_sdk::{Request, test::Exchange};
    ///
    /// let length = |mut request: Request| format!("{:?}", request.body().declared_bytes());
    /// assert_eq!(Exchange::post("/").body("hello").run(length).text(), "Some(5)");
    /// assert_eq!(Exchange::post("/").chunk("hel").chunk("lo").run(length).text(), "None");
    /// ```
    #[must_use]
    pub fn body(self, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        self.header("content-length", bytes.len().to_string()).chunk(bytes)
    }

    /// With a piece of body that arrives on its own: the handler has to wait for it. See [`Self::body`].
    #[must_use]
    pub fn chunk(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.chunk_after(Duration::ZERO, bytes)
    }

    /// With a piece of body that arrives so much later than the one before, or than the request.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate_sdk::{Request, Result, now, test::Exchange};
    ///
    /// fn waited(mut request: Request) -> Result<String> {
    ///     let start = now();
    ///     request.body().bytes()?;
    ///     Ok(format!("{:?}", now() - start))
    /// }
    /// let exchange = Exchange::post("/").chunk("a").chunk_after(Duration::from_secs(3600), "b");
    /// assert_eq!(exchange.run(waited).text(), "3600s");
    /// ```
    #[must_use]
    pub fn chunk_after(mut self, delay: Duration, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        self.has_body = true;
        // An empty read means the end.
        if !bytes.is_empty() {
            let delay_ns = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
            self.host.chunks.push_back(Chunk { delay_ns, bytes });
        }
        self
    }

    /// With this field after the body. See [`RequestBody::trailers`](crate::RequestBody::trailers).
    #[must_use]
    pub fn trailer(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.trailers.push(field(name, value));
        self
    }

    /// With this parameter, as if it came from the app's route.
    ///
    /// ```
    /// use tidegate_sdk::{Request, test::Exchange};
    ///
    /// let show = |request: Request| request.param("shop").unwrap_or("none").to_owned();
    /// assert_eq!(Exchange::get("/paris/items").param("shop", "paris").run(show).text(), "paris");
    /// ```
    #[must_use]
    pub fn param(mut self, name: &str, value: &str) -> Self {
        self.params.push((name.into(), value.into()));
        self
    }

    /// As if the app's route were `mount/*`.
    ///
    /// ```
    /// use tidegate_sdk::{Request, Router, test::Exchange};
    ///
    /// let app = Router::new().get("/items", |_: Request| "chairs\n");
    /// assert_eq!(Exchange::get("/shop/items").mount("/shop").run(app).text(), "chairs\n");
    /// ```
    #[must_use]
    pub fn mount(mut self, mount: &str) -> Self {
        mount.clone_into(&mut self.mount);
        self
    }

    /// The client does not end its body; it goes away.
    ///
    /// ```
    /// use tidegate_sdk::{Request, test::Exchange};
    ///
    /// let echo = |mut request: Request| request.body().bytes();
    /// Exchange::post("/").chunk("hel").body_cut_off().run(echo).assert_status(400);
    /// ```
    #[must_use]
    pub fn body_cut_off(self) -> Self {
        self.body_fails(errno::ECONNRESET)
    }

    pub(crate) fn body_fails(mut self, errno: Errno) -> Self {
        self.has_body = true;
        self.host.body_error = Some(errno);
        self
    }

    /// A slow client: after this many bytes of response the handler has to wait for it. By default 64 KiB.
    ///
    /// ```
    /// use tidegate_sdk::{Request, Response, test::Exchange};
    ///
    /// let large = |_: Request| Response::stream_async(async |body| Ok(body.send(&[0; 100_000]).await?));
    /// let answer = Exchange::get("/").pipe_bytes(1000).run(large);
    /// assert_eq!((answer.body.len(), answer.queued_bytes_max), (100_000, 1000));
    /// ```
    #[must_use]
    pub fn pipe_bytes(mut self, bytes: usize) -> Self {
        self.host.pipe_bytes = bytes;
        self
    }

    /// The largest body that the host takes whole; larger ones are streamed. By default 64 KiB.
    ///
    /// ```
    /// use tidegate_sdk::{Request, test::Exchange};
    ///
    /// let answer = Exchange::get("/").respond_bytes_max(4).run(|_: Request| "hello");
    /// assert_eq!((answer.text(), answer.header("content-length")), ("hello", Some("5")));
    /// assert!(answer.calls.contains(&"write"));
    /// ```
    #[must_use]
    pub fn respond_bytes_max(mut self, bytes: usize) -> Self {
        self.host.respond_bytes_max = bytes;
        self
    }

    /// The client goes away when it has had this many bytes of response.
    ///
    /// ```
    /// use tidegate_sdk::{Request, Response, test::Exchange};
    ///
    /// let endless = |_: Request| {
    ///     Response::stream(|body| {
    ///         loop {
    ///             std::io::Write::write_all(body, b"and so on\n")?;
    ///         }
    ///     })
    /// };
    /// assert!(Exchange::get("/").hang_up_after(1000).run(endless).failed);
    /// ```
    #[must_use]
    pub fn hang_up_after(mut self, bytes: usize) -> Self {
        self.host.client_bytes_max = bytes;
        self
    }

    /// A client that never reads. When its handler has waited for it for a minute, it is gone, and writing fails.
    ///
    /// [`Answer::queued_bytes_max`] tells how much was waiting for it: never more than the pipe holds
    /// ([`Self::pipe_bytes`]), however much the handler has to say.
    ///
    /// ```
    /// use tidegate_sdk::{Request, Response, test::Exchange};
    ///
    /// let endless = |_: Request| {
    ///     Response::stream(|body| {
    ///         loop {
    ///             std::io::Write::write_all(body, b"and so on\n")?;
    ///         }
    ///     })
    /// };
    /// let answer = Exchange::get("/").pipe_bytes(1000).stalled_client().run(endless);
    /// assert_eq!(answer.queued_bytes_max, 1000);
    /// ```
    #[must_use]
    pub fn stalled_client(mut self) -> Self {
        self.host.stalled = true;
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
            mount_len: u32::try_from(self.mount.len()).expect("a short path"),
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

    /// Runs what `#[handler]` would, against a host in memory.
    pub(super) fn run_here(mut self, run: impl FnOnce() -> i32) -> Answer {
        self.host.head = self.pack_head();
        self.host.request_trailers = packed(&borrowed(&self.trailers), <[u8]>::to_vec);
        let (code, host) = with_host(self.host, run);
        Answer::of_host(code, host)
    }

    /// Runs a handler, natively: a function, an async function, or a router. See [`Exchange`].
    pub fn run<M>(self, handler: impl Handler<M>) -> Answer {
        self.run_here(|| handler::serve(&handler))
    }

    /// Runs a plain function that is used once and may borrow from the test, natively.
    ///
    /// ```
    /// use tidegate_sdk::test::Exchange;
    ///
    /// let mut path = String::new();
    /// Exchange::get("/a").run_once(|request| {
    ///     path.push_str(request.path());
    ///     "seen"
    /// });
    /// assert_eq!(path, "/a");
    /// ```
    pub fn run_once<R: IntoResponse>(self, handler: impl FnOnce(Request) -> R) -> Answer {
        self.run_here(|| handler::run(handler))
    }

    /// Runs a handler that streams its response, natively; plain or async.
    ///
    /// ```
    /// use tidegate_sdk::{Request, ResponseWriter, Result, StatusCode, test::Exchange};
    ///
    /// async fn hello(_request: Request, response: ResponseWriter) -> Result<()> {
    ///     let mut body = response.start(StatusCode::OK)?;
    ///     body.send(b"hello\n").await?;
    ///     body.finish()?;
    ///     Ok(())
    /// }
    /// assert_eq!(Exchange::get("/").run_streaming(hello).text(), "hello\n");
    /// ```
    pub fn run_streaming<R: StreamingResult<M>, M>(
        self,
        handler: impl FnOnce(Request, ResponseWriter) -> R,
    ) -> Answer {
        self.run_here(|| R::run(handler))
    }

    /// What only a host in memory can do, by name.
    #[cfg(unix)]
    pub(super) fn native_only(&self) -> Option<&'static str> {
        match self {
            Self { mount, .. } if !mount.is_empty() => Some("mount"),
            Self { params, .. } if !params.is_empty() => Some("param"),
            _ => None,
        }
    }
}

/// What a handler that streams its response returns: `Result<()>`, or a future of one. `M` is always
/// inferred. See [`Exchange::run_streaming`].
pub trait StreamingResult<M>: Sized {
    /// Runs a handler of that kind.
    #[doc(hidden)]
    fn run(handler: impl FnOnce(Request, ResponseWriter) -> Self) -> i32;
}

impl<E: Into<Error>> StreamingResult<handler::Plain> for Result<(), E> {
    fn run(handler: impl FnOnce(Request, ResponseWriter) -> Self) -> i32 {
        handler::stream(handler)
    }
}

impl<A, E> StreamingResult<handler::Async> for A
where
    A: Future<Output = Result<(), E>>,
    E: Into<Error>,
{
    fn run(handler: impl FnOnce(Request, ResponseWriter) -> Self) -> i32 {
        handler::stream_async(handler)
    }
}
