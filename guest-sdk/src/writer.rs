//! A response that is written bit by bit, and a request to somebody else.
//!
//! The types carry the order that HTTP asks for: hints, one head, body, end. Finishing is not dropping: a handler that
//! gives up half-way must not look as if it were done.

use http::HeaderMap;
use std::future::poll_fn;
use std::io::{self, Write};
use std::task::{Context, Poll};
use tidegate_abi::{errno, poll};

use crate::error::Result;
use crate::fields::packed_map;
use crate::forward::{Forwarding, Source};
use crate::response::{IntoResponse, Response};
use crate::sys::{self, HostError, check};
use crate::task;

/// The response before its head: what the streaming form of a handler is given.
///
/// ```
/// use std::io::Write;
/// use tidegate_sdk::{Request, Response, ResponseWriter, Result};
///
/// fn numbers(_request: Request, response: ResponseWriter) -> Result<()> {
///     let mut body = response.start(Response::text("numbers:\n"))?;
///     writeln!(body, "{}", 1)?;
///     body.finish()?;
///     Ok(())
/// }
/// # assert_eq!(tidegate_sdk::test::Exchange::get("/").run_streaming(numbers).text(), "numbers:\n1\n");
/// ```
#[derive(Debug)]
pub struct ResponseWriter {
    handle: u32,
}

impl ResponseWriter {
    pub(crate) fn new(handle: u32) -> Self {
        Self { handle }
    }

    /// Sends `103 Early Hints` (RFC 8297), any number of times before the head. Clients on HTTP/1.0 get none.
    ///
    /// ```
    /// use tidegate_sdk::{HeaderMap, HeaderValue, Request, Response, ResponseWriter, Result};
    ///
    /// fn page(_request: Request, mut response: ResponseWriter) -> Result<()> {
    ///     let style = HeaderValue::from_static("</style.css>; rel=preload; as=style");
    ///     response.early_hints(&HeaderMap::from_iter([("link".parse()?, style)]))?;
    ///     response.respond(Response::html("<h1>Hello</h1>"))
    /// }
    /// # let answer = tidegate_sdk::test::Exchange::get("/").run_streaming(page);
    /// # assert!(answer.hints[0].contains_key("link") && answer.text() == "<h1>Hello</h1>");
    /// ```
    ///
    /// # Errors
    /// A header that may not be sent.
    pub fn early_hints(&mut self, headers: &HeaderMap) -> Result<()> {
        packed_map(headers, |head| check("response_head", sys::response_head(103, head)))
            .map_err(io::Error::from)?;
        Ok(())
    }

    /// Sends the head. If `head` has a body, that is what the body begins with.
    ///
    /// With a Content-Length the body must be as long as that; without, the host frames it.
    ///
    /// ```
    /// use tidegate_sdk::{Request, ResponseWriter, Result, StatusCode};
    ///
    /// fn accept(mut request: Request, response: ResponseWriter) -> Result<()> {
    ///     let mut body = response.start((StatusCode::ACCEPTED, "you sent: "))?;
    ///     body.forward(request.body())?;
    ///     body.finish()?;
    ///     Ok(())
    /// }
    /// # let answer = tidegate_sdk::test::Exchange::post("/").body("hello").run_streaming(accept);
    /// # assert_eq!(answer.assert_status(202).text(), "you sent: hello");
    /// ```
    ///
    /// # Errors
    /// A header that may not be sent (`Transfer-Encoding`, for one: framing is the host's), or a head above 32 KiB.
    /// Returned by the handler, the error becomes the response.
    pub fn start(self, head: impl IntoResponse) -> Result<BodyWriter> {
        head.into_response().begin(self.handle)
    }

    /// Sends a whole response, for the cases where there is nothing to stream.
    ///
    /// ```
    /// use tidegate_sdk::{Request, ResponseWriter, Result, StatusCode};
    ///
    /// fn find(request: Request, response: ResponseWriter) -> Result<()> {
    ///     if request.path() != "/" {
    ///         return response.respond((StatusCode::NOT_FOUND, "nothing here\n"));
    ///     }
    ///     response.start(StatusCode::OK)?.finish()?;
    ///     Ok(())
    /// }
    /// # tidegate_sdk::test::Exchange::get("/x").run_streaming(find).assert_status(404);
    /// ```
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn respond(self, response: impl IntoResponse) -> Result<()> {
        Response::send(response.into_response())?;
        Ok(())
    }
}

/// The response's body, being written.
///
/// `write` waits while the client is slower than the handler; [`Self::try_write`] does not; in async code there is
/// [`Self::send`], which lets the handler's other futures run meanwhile. None of them buffers: what the client has not
/// taken waits in the host, within the app's high watermark, and beyond that the handler waits. The host sends what was
/// written whenever the handler waits or its time slice ends, so there is nothing to flush. For many small writes wrap
/// it in a [`std::io::BufWriter`].
///
/// **Call [`Self::finish`].** Dropped without it, the response is cut off and the client sees that it is not whole.
///
/// ```
/// use tidegate_sdk::{BodyWriter, Result};
///
/// /// Skips what a slow client has no room for.
/// fn send_if_room(body: &mut BodyWriter, frame: &[u8]) -> Result<bool> {
///     match body.try_write(frame) {
///         Ok(n) if n == frame.len() => Ok(true),
///         Ok(n) => {
///             std::io::Write::write_all(body, &frame[n..])?;
///             Ok(true)
///         }
///         Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
///         Err(e) => Err(e.into()),
///     }
/// }
/// # use tidegate_sdk::{Request, Response, test::Exchange};
/// # let frames = |_: Request| Response::stream(|body| send_if_room(body, b"frame").map(drop));
/// # assert_eq!(Exchange::get("/").run(frames).text(), "frame");
/// ```
#[derive(Debug)]
#[must_use = "a body that is dropped without `finish` is cut off"]
pub struct BodyWriter {
    handle: u32,
    finished: bool,
    /// What `finish` sends.
    trailers: HeaderMap,
    /// They came from elsewhere: if they may not be sent, they are left out.
    trailers_are_foreign: bool,
    /// What an error means. A function, so that only who sends requests has code for theirs.
    explain: fn(u32, HostError) -> io::Error,
}

impl BodyWriter {
    pub(crate) fn new(handle: u32) -> Self {
        Self {
            handle,
            finished: false,
            trailers: HeaderMap::new(),
            trailers_are_foreign: false,
            explain: |_, error| error.into(),
        }
    }

    /// The body of a request to somebody else.
    pub(crate) fn to_upstream(handle: u32) -> Self {
        let mut writer = Self::new(handle);
        writer.explain = crate::fetch::explain;
        writer
    }

    fn check(&self, call: &'static str, result: i32) -> io::Result<usize> {
        check(call, result).map_err(|error| (self.explain)(self.handle, error))
    }

    /// Writes what there is room for, and says how much that was. See [`BodyWriter`] for an example.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room: [`Self::writable`] tells when. `ConnectionReset` if the client is gone,
    /// `FileTooLarge` past the declared Content-Length.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.check("write", sys::write(self.handle, bytes))
    }

    /// The drain event: waits until there is room again, which after full means a good deal of it.
    ///
    /// ```
    /// use std::io::ErrorKind;
    /// use tidegate_sdk::{BodyWriter, Result};
    ///
    /// /// Sends the level as it is when there is room for it.
    /// fn send_level(body: &mut BodyWriter, level: impl Fn() -> u8) -> Result<()> {
    ///     while let Err(error) = body.try_write(&[level()]) {
    ///         if error.kind() != ErrorKind::WouldBlock {
    ///             return Err(error.into());
    ///         }
    ///         body.writable()?;
    ///     }
    ///     Ok(())
    /// }
    /// # use tidegate_sdk::{Request, Response, test::Exchange};
    /// # let send_twice = |body: &mut BodyWriter| (0..2).try_for_each(|_| send_level(body, || b'5'));
    /// # let twice = move |_: Request| Response::stream(send_twice);
    /// # assert_eq!(Exchange::get("/").pipe_bytes(1).run(twice).text(), "55");
    /// ```
    ///
    /// # Errors
    /// Only if waiting itself fails.
    pub fn writable(&mut self) -> io::Result<()> {
        sys::wait(self.handle, poll::WRITABLE)
    }

    /// Sends all that is left of a request's body, or of what comes from elsewhere, and returns how many bytes that
    /// was. They are moved inside the host and never pass through this sandbox.
    ///
    /// ```
    /// use tidegate_sdk::{Request, ResponseWriter, Result, StatusCode};
    ///
    /// fn echo(mut request: Request, response: ResponseWriter) -> Result<()> {
    ///     let mut body = response.start(StatusCode::OK)?;
    ///     let moved = body.forward(request.body())?;
    ///     tidegate_sdk::info!("{moved} bytes went back");
    ///     body.finish()?;
    ///     Ok(())
    /// }
    /// # let answer = tidegate_sdk::test::Exchange::post("/").body("hello").run_streaming(echo);
    /// # assert_eq!((answer.text(), answer.logs[0].1.as_str()), ("hello", "5 bytes went back"));
    /// ```
    ///
    /// # Errors
    /// Those of reading `from` and of [`Self::try_write`], except that it waits.
    pub fn forward(&mut self, from: &mut impl Source) -> io::Result<u64> {
        let mut forwarding = Forwarding::default();
        sys::until(|waits| forwarding.step(from, self.handle, waits))
    }

    /// Sends all of `bytes`, waiting for the client as often as need be. Dropped while it waits, it has sent a part of
    /// them, and nobody knows how much.
    ///
    /// ```
    /// use tidegate_sdk::{Request, ResponseWriter, Result, StatusCode, task};
    ///
    /// fn count(_request: Request, response: ResponseWriter) -> Result<()> {
    ///     task::block_on(async {
    ///         let mut body = response.start(StatusCode::OK)?;
    ///         for i in 0..1_000 {
    ///             body.send(format!("{i}\n").as_bytes()).await?;
    ///         }
    ///         body.finish()?;
    ///         Ok(())
    ///     })
    /// }
    /// # let answer = tidegate_sdk::test::Exchange::get("/").run_streaming(count);
    /// # assert!(answer.finished && answer.text().ends_with("\n999\n"));
    /// ```
    ///
    /// # Errors
    /// Those of [`Self::try_write`], except that it waits.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let _disarm = task::Disarm(self.handle, poll::WRITABLE);
        let mut sent = 0;
        while sent < bytes.len() {
            sent += poll_fn(|cx| self.poll_write_async(cx, &bytes[sent..])).await?;
        }
        Ok(())
    }

    /// The drain event for async code: waits until there is room again, which after full means a good deal of it.
    ///
    /// ```
    /// use tidegate_sdk::{BodyWriter, Result};
    ///
    /// /// Sends what is newest when there is room for it.
    /// async fn send_newest(body: &mut BodyWriter, newest: impl Fn() -> String) -> Result<()> {
    ///     body.ready().await?;
    ///     Ok(body.send(newest().as_bytes()).await?)
    /// }
    /// # use tidegate_sdk::{Request, Response, test::Exchange};
    /// # let hi = || "hi".to_owned();
    /// # let app = move |_: Request| Response::stream_async(async move |body| send_newest(body, hi).await);
    /// # assert_eq!(Exchange::get("/").run(app).text(), "hi");
    /// ```
    ///
    /// # Errors
    /// Only if waiting itself fails.
    pub async fn ready(&mut self) -> io::Result<()> {
        task::ready(self.handle, poll::WRITABLE).await
    }

    /// [`Self::forward`] for async code.
    ///
    /// ```
    /// use tidegate_sdk::{Request, ResponseWriter, Result, StatusCode};
    ///
    /// async fn echo(mut request: Request, response: ResponseWriter) -> Result<()> {
    ///     let mut body = response.start(StatusCode::OK)?;
    ///     body.forward_async(request.body()).await?;
    ///     body.finish()?;
    ///     Ok(())
    /// }
    /// # let answer = tidegate_sdk::test::Exchange::post("/").body("hello").run_streaming(echo);
    /// # assert!(answer.finished && answer.text() == "hello");
    /// ```
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub async fn forward_async(&mut self, from: &mut impl Source) -> io::Result<u64> {
        let mut forwarding = Forwarding::default();
        task::until(|waits| forwarding.step(from, self.handle, waits)).await
    }

    pub(crate) fn poll_write_async(&mut self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        task::poll_io(self.handle, poll::WRITABLE, cx, || self.try_write(bytes))
    }

    /// Trailers (RFC 9110 section 6.5), which [`Self::finish`] sends after the body. They only reach clients for which
    /// the body is chunked.
    ///
    /// ```
    /// use std::io::Write;
    /// use tidegate_sdk::{HeaderMap, HeaderValue, Request, Response, test::Exchange};
    ///
    /// let counted = |_: Request| {
    ///     Response::stream(|body| {
    ///         body.write_all(b"data")?;
    ///         body.set_trailers(HeaderMap::from_iter([("bytes".parse()?, HeaderValue::from(4))]));
    ///         Ok(())
    ///     })
    /// };
    /// assert_eq!(Exchange::get("/").run(counted).trailers["bytes"], "4");
    /// ```
    pub fn set_trailers(&mut self, trailers: HeaderMap) {
        self.trailers = trailers;
    }

    /// As [`Self::set_trailers`], for trailers that somebody else has set.
    pub(crate) fn set_trailers_of(&mut self, trailers: HeaderMap) {
        self.trailers = trailers;
        self.trailers_are_foreign = true;
    }

    /// Ends the response cleanly. The handler may go on after it.
    ///
    /// ```
    /// use tidegate_sdk::{Request, ResponseWriter, Result, StatusCode, test::Exchange};
    ///
    /// fn done(_request: Request, response: ResponseWriter) -> Result<()> {
    ///     response.start(StatusCode::OK)?.finish()?;
    ///     tidegate_sdk::info!("the client has it all");
    ///     Ok(())
    /// }
    /// assert!(Exchange::get("/").run_streaming(done).finished);
    /// ```
    ///
    /// # Errors
    /// A body shorter than its Content-Length (the connection is then cut), or a client that is gone; and for a field
    /// of [`Self::set_trailers`] that may not be a trailer.
    pub fn finish(mut self) -> io::Result<()> {
        self.end()
    }

    /// Ends the response cleanly with these trailers.
    ///
    /// ```
    /// use tidegate_sdk::{HeaderMap, HeaderValue, Request, ResponseWriter, Result, test::Exchange};
    ///
    /// fn counted(_request: Request, response: ResponseWriter) -> Result<()> {
    ///     let body = response.start("data")?;
    ///     body.finish_with_trailers(HeaderMap::from_iter([("bytes".parse()?, HeaderValue::from(4))]))?;
    ///     Ok(())
    /// }
    /// assert_eq!(Exchange::get("/").run_streaming(counted).trailers["bytes"], "4");
    /// ```
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub fn finish_with_trailers(mut self, trailers: HeaderMap) -> io::Result<()> {
        self.set_trailers(trailers);
        self.end()
    }

    /// [`Self::finish`] for those who never have trailers: it leaves out what packs them.
    pub(crate) fn finish_plain(mut self) -> io::Result<()> {
        check("finish", sys::finish(self.handle, &[]))?;
        self.finished = true;
        Ok(())
    }

    pub(crate) fn end(&mut self) -> io::Result<()> {
        if self.finished {
            return Ok(());
        }
        let ended = packed_map(&self.trailers, |packed| check("finish", sys::finish(self.handle, packed)));
        match ended {
            Err(HostError { errno: errno::EINVAL | errno::EMSGSIZE, .. }) if self.trailers_are_foreign => {
                self.check("finish", sys::finish(self.handle, &[]))?;
            }
            ended => {
                ended.map_err(|error| (self.explain)(self.handle, error))?;
            }
        }
        self.finished = true;
        Ok(())
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable()?,
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        #[cfg(feature = "futures")]
        drop(task::Disarm(self.handle, poll::WRITABLE));
        if !self.finished {
            sys::close(self.handle);
        }
    }
}
