//! The response to a request to somebody else: its head, and its body read as it comes while the rest of the request is sent.

use http::{HeaderMap, Method, StatusCode, Uri, header};
use std::io::{self, Read};
#[cfg(feature = "futures")]
use std::task::{Context, Poll};
use tidegate_abi::fetch::ResponseView;
use tidegate_abi::fields::FieldList;
use tidegate_abi::poll::{Entry, READABLE};
use tidegate_abi::{errno, names};

use super::upload::Upload;
use super::{Error, ErrorKind};
use crate::body::COLLECT_BYTES_MAX;
use crate::fields::to_map;
use crate::forward::Pull;
use crate::payload::{BoxFuture, Streaming};
use crate::response::IntoResponse;
use crate::sys::{self, HostError, Waits, check, check64};
use crate::task;
use crate::writer::BodyWriter;

/// Packed heads are mostly shorter than this; a longer one takes a second call.
const HEAD_BYTES: usize = 1024;
/// Bytes that one read asks for while collecting.
const CHUNK_BYTES: usize = 16 << 10;

/// Fields of the connection that a response came by (RFC 9110 section 7.6.1).
const NOT_PASSED_ON: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Removes these fields, and those that `Connection` names besides.
pub(super) fn strip(headers: &mut HeaderMap, names: &[&str]) {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    for name in named.iter().map(String::as_str).chain(names.iter().copied()) {
        if headers.contains_key(name) {
            headers.remove(name);
        }
    }
}

/// What came before a response's body.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
}

/// A request that was sent, at least in part.
#[derive(Debug)]
pub(super) struct Receiving {
    body: ResponseBody,
    method: Method,
    url: Uri,
}

impl Receiving {
    pub(super) fn new(handle: u32, upload: Upload, method: Method, url: Uri) -> Self {
        let body = ResponseBody {
            handle,
            upload,
            declared_bytes: None,
            ended: false,
            left_bytes: u64::MAX,
            #[cfg(feature = "futures")]
            waiting: Vec::new(),
        };
        Self { body, method, url }
    }

    /// The head, once it is there.
    pub(super) fn head(&mut self, waits: &mut Waits) -> io::Result<Option<Head>> {
        self.body.upload.step(waits)?;
        let handle = self.body.handle;
        match sys::collect(names::fetch::HEAD, HEAD_BYTES, |buf| sys::fetch_head(handle, buf)) {
            Ok(packed) => {
                let view = ResponseView::parse(&packed);
                let head = view.and_then(|view| {
                    let status = StatusCode::from_u16(view.status()).ok()?;
                    Some(Head { status, headers: to_map(view.fields()) })
                });
                head.map(Some).ok_or_else(|| unreadable().into())
            }
            Err(HostError { errno: errno::EAGAIN, .. }) => {
                waits.push(Entry::new(handle, READABLE));
                Ok(None)
            }
            Err(error) => Err(Error::of_host(handle, error).into()),
        }
    }

    /// What there is, out of a place that is left with nothing.
    pub(super) fn take(&mut self) -> Self {
        const NOWHERE: u32 = u32::MAX;
        let nothing = Self::new(NOWHERE, Upload::done(NOWHERE), Method::GET, Uri::default());
        std::mem::replace(self, nothing)
    }

    pub(super) fn name_it(&self, error: Error) -> Error {
        error.at(|| format!("{} {}", self.method, self.url))
    }

    pub(super) fn into_response(self, head: Head) -> Response {
        let Self { mut body, method, url } = self;
        // RFC 9112 section 6.3: whatever it declares, it has none.
        let is_bodiless = method == Method::HEAD || matches!(head.status.as_u16(), 204 | 304);
        let declared = || head.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        body.declared_bytes = if is_bodiless { Some(0) } else { declared() };
        body.left_bytes = body.declared_bytes.unwrap_or(u64::MAX);
        body.ended = body.left_bytes == 0;
        Response { status: head.status, headers: head.headers, method, url, body }
    }
}

fn unreadable() -> Error {
    Error::new(ErrorKind::Other, "the host gave a response's head that cannot be read")
}

/// The response to a request to somebody else.
///
/// Its body is read as it comes; what collects it stops at 2 MiB unless told otherwise. Returned by a handler, it is the
/// handler's own response: without the fields of the connection it came by, with its body moved inside the host. Dropped,
/// what is left of it is given up.
///
/// ```
/// use tidegate_sdk::{Request, Result, fetch, http};
///
/// fn picture(_request: Request) -> Result<fetch::Response> {
///     Ok(http::get("http://pictures.internal/7.png").send()?.error_for_status()?)
/// }
/// # use tidegate_sdk::test::{self, Exchange};
/// # let _pictures = test::upstream("http://pictures.internal", |_| {
/// #     http::Response::builder().header("content-type", "image/png").body("PNG").unwrap()
/// # });
/// # let answer = Exchange::get("/").run(picture);
/// # assert_eq!((answer.text(), answer.header("content-type")), ("PNG", Some("image/png")));
/// ```
#[derive(Debug)]
pub struct Response {
    status: StatusCode,
    headers: HeaderMap,
    method: Method,
    url: Uri,
    body: ResponseBody,
}

impl Response {
    /// Its status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The same if the status is one of success (2xx).
    ///
    /// ```
    /// use tidegate_sdk::{fetch::ErrorKind, http};
    ///
    /// # let _api = tidegate_sdk::test::upstream("http://api.internal", |_| {
    /// #     http::Response::builder().status(404).body(()).unwrap()
    /// # });
    /// let error = http::get("http://api.internal/x").send()?.error_for_status().unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Status(http::StatusCode::NOT_FOUND));
    /// # Ok::<(), tidegate_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Status`] if it is not.
    pub fn error_for_status(self) -> Result<Self, Error> {
        if self.status.is_success() {
            return Ok(self);
        }
        let error = Error::new(ErrorKind::Status(self.status), format!("the answer is {}", self.status));
        Err(error.at(|| format!("{} {}", self.method, self.url)))
    }

    /// Its headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The same, to change them before the response is passed on.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// The first header of that name, in any letter case, if its value is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Where it came from: after redirects, the last place.
    #[must_use]
    pub fn url(&self) -> &Uri {
        &self.url
    }

    /// Its body.
    pub fn body(&mut self) -> &mut ResponseBody {
        &mut self.body
    }

    /// Its body, without the rest.
    #[must_use]
    pub fn into_body(self) -> ResponseBody {
        self.body
    }

    /// In the type of the `http` crate.
    #[must_use]
    pub fn into_http(self) -> http::Response<ResponseBody> {
        let mut response = http::Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }

    /// The whole body, up to [`COLLECT_BYTES_MAX`].
    ///
    /// # Errors
    /// As [`ResponseBody::bytes_limited`].
    pub fn bytes(&mut self) -> Result<Vec<u8>, Error> {
        self.body.bytes_limited(COLLECT_BYTES_MAX)
    }

    /// The whole body as text, up to [`COLLECT_BYTES_MAX`].
    ///
    /// # Errors
    /// [`ErrorKind::Content`] if it is not UTF-8; else as [`ResponseBody::bytes_limited`].
    pub fn text(&mut self) -> Result<String, Error> {
        utf8(self.bytes()?)
    }

    /// The whole body, read as JSON, up to [`COLLECT_BYTES_MAX`].
    ///
    /// # Errors
    /// [`ErrorKind::Content`] if it is no such JSON; else as [`ResponseBody::bytes_limited`].
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, Error> {
        parse(&self.bytes()?)
    }

    /// [`Self::bytes`] for async code.
    ///
    /// # Errors
    /// As there.
    pub async fn collect(&mut self) -> Result<Vec<u8>, Error> {
        self.body.collect_limited(COLLECT_BYTES_MAX).await
    }

    /// [`Self::text`] for async code.
    ///
    /// # Errors
    /// As there.
    pub async fn collect_text(&mut self) -> Result<String, Error> {
        utf8(self.collect().await?)
    }

    /// [`Self::json`] for async code.
    ///
    /// # Errors
    /// As there.
    #[cfg(feature = "json")]
    pub async fn json_async<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, Error> {
        parse(&self.collect().await?)
    }
}

fn utf8(bytes: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(bytes).map_err(|_| Error::of_content("the body is not valid UTF-8"))
}

#[cfg(feature = "json")]
fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::of_content(format_args!("the body is not the JSON expected: {error}")))
}

/// The body of a response to a request to somebody else.
///
/// `read` waits for bytes; [`Self::try_read`] does not; in async code there are [`Self::chunk`] and [`Self::read_async`]. If
/// the body of the request is still being sent, that goes on while this is read.
///
/// ```
/// use std::io::{BufRead, BufReader};
/// use tidegate_sdk::http;
///
/// # let _api = tidegate_sdk::test::upstream("http://api.internal", |_| http::Response::new("a\nb\n"));
/// let lines = BufReader::new(http::get("http://api.internal/lines").send()?.into_body()).lines();
/// assert_eq!(lines.count(), 2);
/// # Ok::<(), tidegate_sdk::Error>(())
/// ```
#[derive(Debug)]
pub struct ResponseBody {
    handle: u32,
    upload: Upload,
    declared_bytes: Option<u64>,
    ended: bool,
    /// Bytes of the declared ones that were not read yet: who has had them all need not ask for the end.
    left_bytes: u64,
    /// What a wait that was begun through a trait of other crates waits for.
    #[cfg(feature = "futures")]
    waiting: Vec<task::Ready>,
}

impl ResponseBody {
    /// Its length in bytes if that is known.
    #[must_use]
    pub fn declared_bytes(&self) -> Option<u64> {
        self.declared_bytes
    }

    /// Reads what is there, at least one byte; 0 at the end.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there yet; else an [`Error`] inside an [`io::Error`].
    pub fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.upload.step(&mut Waits::new())?;
        self.read_now(buf)
    }

    fn read_now(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.ended || buf.is_empty() {
            return Ok(0);
        }
        let n = self.check(check(names::READ, sys::read(self.handle, buf)))?;
        self.took(n as u64);
        Ok(n)
    }

    fn took(&mut self, n: u64) {
        self.left_bytes = self.left_bytes.saturating_sub(n);
        self.ended = n == 0 || self.left_bytes == 0;
    }

    fn check<T>(&self, result: Result<T, HostError>) -> io::Result<T> {
        result.map_err(|error| match error.errno {
            errno::EAGAIN => io::ErrorKind::WouldBlock.into(),
            _ => Error::of_host(self.handle, error).into(),
        })
    }

    fn step(&mut self, waits: &mut Waits, buf: &mut [u8]) -> io::Result<Option<usize>> {
        if !self.ended {
            self.upload.step(waits)?;
        }
        match self.read_now(buf) {
            Ok(n) => Ok(Some(n)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                waits.push(Entry::new(self.handle, READABLE));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads what is there into `buf`, at least one byte; 0 at the end. Dropped while it waits, it loses nothing.
    ///
    /// # Errors
    /// Those of [`Self::try_read`], except that it waits.
    pub async fn read_async(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        task::until(|waits| self.step(waits, buf)).await
    }

    /// The next piece of the body, as soon as there is one; `None` at the end. Pieces are as they came, at most 16 KiB.
    ///
    /// # Errors
    /// As [`Self::read_async`].
    pub async fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let n = self.read_async(&mut chunk).await?;
        chunk.truncate(n);
        Ok((n > 0).then_some(chunk))
    }

    /// The whole body, up to `bytes_max`.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] if there is more; else how the connection failed.
    pub fn bytes_limited(&mut self, bytes_max: usize) -> Result<Vec<u8>, Error> {
        let mut all = Collecting::new(self.declared_bytes, bytes_max)?;
        loop {
            let n = self.read(all.room()).map_err(Error::of_io)?;
            if all.took(n)? {
                return Ok(all.bytes);
            }
        }
    }

    /// [`Self::bytes_limited`] for async code.
    ///
    /// # Errors
    /// As there.
    pub async fn collect_limited(&mut self, bytes_max: usize) -> Result<Vec<u8>, Error> {
        let mut all = Collecting::new(self.declared_bytes, bytes_max)?;
        loop {
            let n = self.read_async(all.room()).await.map_err(Error::of_io)?;
            if all.took(n)? {
                return Ok(all.bytes);
            }
        }
    }

    /// The trailers that followed the body (RFC 9110 section 6.5).
    ///
    /// # Errors
    /// `WouldBlock` before the body was read to its end.
    pub fn trailers(&mut self) -> io::Result<HeaderMap> {
        let packed = sys::collect(names::TRAILERS, 256, |buf| sys::trailers(self.handle, buf));
        let packed = self.check(packed)?;
        Ok(to_map(FieldList::parse(&packed).ok_or_else(unreadable)?))
    }

    #[cfg(feature = "futures")]
    fn poll_read_async(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut waiting = std::mem::take(&mut self.waiting);
        let read = task::poll_until(&mut waiting, cx, |waits| self.step(waits, buf));
        self.waiting = waiting;
        read
    }
}

impl Read for ResponseBody {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        sys::until(|waits| self.step(waits, buf))
    }
}

#[cfg(feature = "futures")]
impl futures_io::AsyncRead for ResponseBody {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_read_async(cx, buf)
    }
}

impl Pull for ResponseBody {
    fn handle(&self) -> u32 {
        self.handle
    }

    fn is_ended(&self) -> bool {
        self.ended
    }

    fn forward_to(&mut self, to: u32) -> io::Result<u64> {
        const EVERYTHING: i64 = -1;
        match check64(names::FORWARD, sys::forward(self.handle, to, EVERYTHING)) {
            Ok(n) => {
                self.took(n);
                Ok(n)
            }
            Err(error) if error.errno == errno::EAGAIN => Err(io::ErrorKind::WouldBlock.into()),
            // Of the other side, unless this one says that it has failed.
            Err(error) if sys::error(self.handle) == 0 => Err(error.into()),
            Err(error) => Err(Error::of_host(self.handle, error).into()),
        }
    }

    fn beside(&mut self, waits: &mut Waits) -> io::Result<()> {
        self.upload.step(waits)
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        #[cfg(feature = "futures")]
        self.waiting.clear();
        sys::close(self.handle);
    }
}

/// A body that is being collected.
struct Collecting {
    bytes: Vec<u8>,
    len: usize,
    bytes_max: usize,
}

impl Collecting {
    fn new(declared_bytes: Option<u64>, bytes_max: usize) -> Result<Self, Error> {
        let declared = usize::try_from(declared_bytes.unwrap_or(0)).unwrap_or(usize::MAX);
        if declared > bytes_max {
            return Err(Self::too_large(bytes_max));
        }
        // What is declared is a promise of somebody else: memory is taken as bytes come.
        Ok(Self { bytes: Vec::with_capacity(declared.min(CHUNK_BYTES)), len: 0, bytes_max })
    }

    fn too_large(bytes_max: usize) -> Error {
        Error::new(ErrorKind::TooLarge, format!("the body is larger than {bytes_max} bytes"))
    }

    /// Where to read to: one byte beyond the limit, to see whether there is more.
    fn room(&mut self) -> &mut [u8] {
        self.bytes.resize(self.len + CHUNK_BYTES.min((self.bytes_max - self.len).saturating_add(1)), 0);
        &mut self.bytes[self.len..]
    }

    /// `n` bytes were read. True at the end.
    fn took(&mut self, n: usize) -> Result<bool, Error> {
        self.len += n;
        self.bytes.truncate(self.len);
        if self.len > self.bytes_max { Err(Self::too_large(self.bytes_max)) } else { Ok(n == 0) }
    }
}

/// A response on its way to the handler's own client.
struct Relay(ResponseBody);

impl Relay {
    /// The end, with the trailers that came and may be sent.
    fn end(&mut self, out: &mut BodyWriter) -> crate::Result<()> {
        // A body of known length has none (RFC 9112 section 7.1.2).
        if self.0.declared_bytes.is_none() {
            out.set_trailers_of(self.0.trailers()?);
        }
        Ok(())
    }
}

impl Streaming for Relay {
    fn write(mut self: Box<Self>, out: &mut BodyWriter) -> crate::Result<()> {
        out.forward(&mut self.0)?;
        self.end(out)
    }

    fn write_async<'a>(mut self: Box<Self>, out: &'a mut BodyWriter) -> BoxFuture<'a, crate::Result<()>> {
        Box::pin(async move {
            out.forward_async(&mut self.0).await?;
            self.end(out)
        })
    }
}

impl IntoResponse for Response {
    /// The handler's own response: see [`Response`].
    fn into_response(mut self) -> crate::Response {
        strip(&mut self.headers, &NOT_PASSED_ON);
        if self.body.ended {
            return crate::Response::status(self.status).with_headers(self.headers);
        }
        crate::Response::relayed(self.status, self.headers, Box::new(Relay(self.body)))
    }
}
