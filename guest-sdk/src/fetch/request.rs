//! A request to somebody else, and sending it.

use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tidegate_abi::fetch::{self as packed, Timeouts};
use tidegate_abi::{errno, names};

use super::body::Inner;
use super::redirect;
use super::response::Receiving;
use super::upload::Upload;
use super::{Body, Error, ErrorKind, Response};
use crate::fields::pairs;
use crate::sys::{self, HostError, check};
use crate::task;
use crate::writer::BodyWriter;

/// Fields of one connection (RFC 9110 section 7.6.1), and those that say what the address and the body say already:
/// never a request's own to set, and left out where a request is passed on.
pub(super) const NOT_PASSED_ON: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A request to somebody else.
///
/// ```
/// use tidegate_sdk::http;
///
/// # let _api = tidegate_sdk::test::upstream("http://api.internal", |request| {
/// #     assert_eq!(request.headers()["accept"], "text/plain");
/// #     http::Response::new("sunny")
/// # });
/// let mut weather = http::get("http://api.internal/weather").header("accept", "text/plain").send()?;
/// assert_eq!(weather.text()?, "sunny");
/// # Ok::<(), tidegate_sdk::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    pub(super) method: Method,
    pub(super) url: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    timeouts: Timeouts,
    redirects: u32,
    /// What is wrong with it, for whoever sends it.
    invalid: Option<String>,
}

impl Request {
    /// A request of any method: see [`http::get`](crate::http::get) and its kin.
    pub fn new<U: TryInto<Uri>>(method: Method, url: U) -> Self {
        let url = url.try_into();
        let invalid = url.is_err().then(|| "that is no URL".to_owned());
        Self {
            method,
            url: url.unwrap_or_default(),
            headers: HeaderMap::new(),
            body: Body::default(),
            timeouts: Timeouts::default(),
            redirects: 0,
            invalid,
        }
    }

    /// With this header too. One that is not valid, or not a request's own to set, is an error when it is sent:
    /// `Connection` and its like, `Host`, which the URL says, and `Content-Length`, which the body does.
    pub fn header<N, V>(mut self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        match (name.try_into(), value.try_into()) {
            (Ok(name), _) if NOT_PASSED_ON.contains(&name.as_str()) => {
                self.spoil(format!("`{name}` is not a request's to set"));
            }
            (Ok(name), Ok(value)) => {
                self.headers.append(name, value);
            }
            (Err(_), _) => self.spoil("a header's name is not valid"),
            (Ok(name), Err(_)) => self.spoil(format!("the value of `{name}` is not valid")),
        }
        self
    }

    fn spoil(&mut self, why: impl Into<String>) {
        self.invalid.get_or_insert(why.into());
    }

    /// The same with this content type, unless it has one.
    fn typed(mut self, content_type: &'static str) -> Self {
        self.headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
        self
    }

    /// With this body: bytes, text, or the body of a request or response, which is moved inside the host. See [`Body`].
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    /// With this text as `text/plain` in UTF-8.
    ///
    /// ```
    /// use tidegate_sdk::http;
    ///
    /// # let _api = tidegate_sdk::test::upstream("http://api.internal", |request| {
    /// #     assert_eq!(request.headers()["content-type"], "text/plain; charset=utf-8");
    /// #     http::Response::new(())
    /// # });
    /// http::put("http://api.internal/note").text("buy chairs").send()?.error_for_status()?;
    /// # Ok::<(), tidegate_sdk::Error>(())
    /// ```
    pub fn text(self, text: impl Into<crate::Body>) -> Self {
        self.body(text.into()).typed("text/plain; charset=utf-8")
    }

    /// With `value` as JSON.
    ///
    /// ```
    /// use tidegate_sdk::http;
    ///
    /// # let _api = tidegate_sdk::test::upstream("http://api.internal", |request| {
    /// #     assert_eq!(request.headers()["content-type"], "application/json");
    /// #     http::Response::new(request.into_body())
    /// # });
    /// let mut echo = http::post("http://api.internal/echo").json(&[1, 2]).send()?;
    /// assert_eq!(echo.json::<Vec<i32>>()?, [1, 2]);
    /// # Ok::<(), tidegate_sdk::Error>(())
    /// ```
    #[cfg(feature = "json")]
    pub fn json<T: serde::Serialize + ?Sized>(mut self, value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(json) => self.body(json).typed("application/json"),
            Err(error) => {
                self.spoil(format!("the value cannot be sent as JSON: {error}"));
                self
            }
        }
    }

    /// With `value` as a form.
    ///
    /// ```
    /// use tidegate_sdk::http;
    ///
    /// # let _api = tidegate_sdk::test::upstream("http://api.internal", |request| {
    /// #     assert_eq!(request.headers()["content-type"], "application/x-www-form-urlencoded");
    /// #     http::Response::new(request.into_body())
    /// # });
    /// let mut echo = http::post("http://api.internal/echo").form(&[("name", "Ada"), ("n", "2")]).send()?;
    /// assert_eq!(echo.text()?, "name=Ada&n=2");
    /// # Ok::<(), tidegate_sdk::Error>(())
    /// ```
    #[cfg(feature = "form")]
    pub fn form<T: serde::Serialize + ?Sized>(mut self, value: &T) -> Self {
        match serde_html_form::to_string(value) {
            Ok(form) => self.body(form).typed("application/x-www-form-urlencoded"),
            Err(error) => {
                self.spoil(format!("the value cannot be sent as a form: {error}"));
                self
            }
        }
    }

    /// How long to wait for a connection. Without, the host decides, here and below. Past it: [`ErrorKind::Timeout`].
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.connect_ns = nanos(timeout);
        self
    }

    /// How long to wait for the response's head, once the request was sent.
    pub fn first_byte_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.first_byte_ns = nanos(timeout);
        self
    }

    /// How long to wait for more of the response's body.
    pub fn between_bytes_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.between_ns = nanos(timeout);
        self
    }

    /// Follows up to so many redirects; none, unless it is asked. Beyond them: [`ErrorKind::Redirect`].
    ///
    /// As the Fetch standard has it: 303, and 301 and 302 after a POST, go on as GET without a body; `Authorization`
    /// and `Cookie` stay behind where it leaves the origin; a body that is not there as a whole cannot be sent again.
    ///
    /// ```
    /// use tidegate_sdk::http;
    ///
    /// # let _api = tidegate_sdk::test::upstream("http://api.internal", |request| match request.uri().path() {
    /// #     "/old" => http::Response::builder().status(302).header("location", "new").body("").unwrap(),
    /// #     _ => http::Response::new("here"),
    /// # });
    /// let mut page = http::get("http://api.internal/old").redirects(3).send()?;
    /// assert_eq!(page.text()?, "here");
    /// assert_eq!(page.url().path(), "/new");
    /// assert_eq!(http::get("http://api.internal/old").send()?.status(), 302);
    /// # Ok::<(), tidegate_sdk::Error>(())
    /// ```
    pub fn redirects(mut self, redirects_max: u32) -> Self {
        self.redirects = redirects_max;
        self
    }

    /// Sends it and waits for the response's head. If its body comes from elsewhere, the rest of that is sent while the
    /// response is read.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub fn send(self) -> Result<Response, Error> {
        let mut next = Next::new(self);
        loop {
            let mut receiving = next.begin()?;
            let response = sys::until(|waits| receiving.head(waits)).map_err(Error::of_io);
            if let Some(response) = next.take(receiving, response)? {
                return Ok(response);
            }
        }
    }

    /// As [`Self::send`], for async code. Dropped while it waits, the request is given up.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn send_async(self) -> Result<Response, Error> {
        let mut next = Next::new(self);
        loop {
            let mut receiving = next.begin()?;
            let response = task::until(|waits| receiving.head(waits)).await.map_err(Error::of_io);
            if let Some(response) = next.take(receiving, response)? {
                return Ok(response);
            }
        }
    }

    /// Sends the head, and gives what its body is written to; what was given by [`Self::body`] stays out. The response
    /// may be there before the body is.
    ///
    /// A server that answers while it reads wants its answer to be read meanwhile: in async code do both at once.
    ///
    /// ```
    /// use std::io::Write;
    /// use tidegate_sdk::http;
    ///
    /// # let _api = tidegate_sdk::test::upstream("http://api.internal", |request| {
    /// #     http::Response::new(request.body().len().to_string())
    /// # });
    /// let (mut body, response) = http::post("http://api.internal/count").start()?;
    /// for i in 0..10 {
    ///     writeln!(body, "{i}")?;
    /// }
    /// body.finish()?;
    /// assert_eq!(response.wait()?.text()?, "20");
    /// # Ok::<(), tidegate_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those that are seen at once; the others come with the response.
    pub fn start(self) -> Result<(BodyWriter, Pending), Error> {
        let handle = self.request(packed::Body::Stream(None), &[]).map_err(|error| self.name_it(error))?;
        let receiving = Receiving::new(handle, Upload::done(handle), self.method.clone(), self.url.clone());
        Ok((BodyWriter::to_upstream(handle), Pending { receiving, waiting: Vec::new() }))
    }

    /// Sends what there is and gets the rest going.
    fn begin(&mut self) -> Result<Receiving, Error> {
        let body = std::mem::take(&mut self.body.0);
        let upload = match body {
            Inner::Whole(body) => {
                let begun = self.begin_whole(&body).map_err(|error| self.name_it(error))?;
                // What can be sent again is kept for that.
                if self.redirects > 0 {
                    self.body.0 = Inner::Whole(body.clone());
                }
                match begun {
                    Begun::Given(handle) => (handle, Upload::done(handle)),
                    Begun::Streamed(handle) => (handle, Upload::of_bytes(body, handle)),
                }
            }
            // Nothing to move: as if there were no body, so that a GET stays one without.
            Inner::Source(_, Some(0)) => {
                let begun = self.begin_whole(&crate::Body::default()).map_err(|error| self.name_it(error))?;
                match begun {
                    Begun::Given(handle) | Begun::Streamed(handle) => (handle, Upload::done(handle)),
                }
            }
            Inner::Source(source, length) => {
                let begun = self.request(packed::Body::Stream(length), &[]);
                let handle = begun.map_err(|error| self.name_it(error))?;
                self.body.0 = Inner::Source(Box::new(Gone), None);
                (handle, Upload::of_source(source, handle))
            }
        };
        let (handle, upload) = upload;
        Ok(Receiving::new(handle, upload, self.method.clone(), self.url.clone()))
    }

    fn begin_whole(&self, body: &crate::Body) -> Result<Begun, Error> {
        let bytes = body.as_bytes();
        if sys::is_given(bytes.len()) {
            match self.try_request(packed::Body::Given, bytes)? {
                Ok(handle) => return Ok(Begun::Given(handle)),
                Err(HostError { errno: errno::EMSGSIZE, .. }) if !bytes.is_empty() => {}
                Err(error) => return Err(Error::refused(error)),
            }
        }
        self.request(packed::Body::Stream(Some(bytes.len() as u64)), &[]).map(Begun::Streamed)
    }

    fn request(&self, body: packed::Body, given: &[u8]) -> Result<u32, Error> {
        self.try_request(body, given)?.map_err(Error::refused)
    }

    /// As the import.
    fn try_request(&self, body: packed::Body, given: &[u8]) -> Result<Result<u32, HostError>, Error> {
        if let Some(why) = &self.invalid {
            return Err(Error::new(ErrorKind::Request, why.clone()));
        }
        let (https, authority) = origin(&self.url)?;
        let fields: Vec<_> = pairs(&self.headers).collect();
        let head = packed::Request {
            https,
            body,
            timeouts: self.timeouts,
            method: self.method.as_str().as_bytes(),
            authority: authority.as_str().as_bytes(),
            path: self.url.path_and_query().map_or("/", |path| path.as_str()).as_bytes(),
            fields: fields.iter().copied(),
        };
        let size = head.pack(&mut []).unwrap_or(0);
        let mut bytes = vec![0; size as usize];
        head.pack(&mut bytes);
        let handle = check(names::fetch::REQUEST, sys::fetch_request(&bytes, given));
        Ok(handle.map(|handle| u32::try_from(handle).unwrap_or(u32::MAX)))
    }

    fn name_it(&self, error: Error) -> Error {
        error.at(|| format!("{} {}", self.method, self.url))
    }
}

enum Begun {
    /// The body went with the call.
    Given(u32),
    Streamed(u32),
}

/// In place of a body that was sent and is not there any more.
pub(super) struct Gone;

impl crate::forward::Pull for Gone {
    fn handle(&self) -> u32 {
        u32::MAX
    }

    fn is_ended(&self) -> bool {
        true
    }

    fn forward_to(&mut self, _to: u32) -> std::io::Result<u64> {
        Ok(0)
    }
}

/// A request, and those that redirects make of it.
struct Next {
    request: Request,
    left: u32,
}

impl Next {
    fn new(request: Request) -> Self {
        Self { left: request.redirects, request }
    }

    fn begin(&mut self) -> Result<Receiving, Error> {
        self.request.begin()
    }

    /// The response, unless it leads on.
    fn take(
        &mut self,
        receiving: Receiving,
        head: Result<super::response::Head, Error>,
    ) -> Result<Option<Response>, Error> {
        let head = head.map_err(|error| self.request.name_it(error))?;
        if self.request.redirects > 0
            && let Some(to) = redirect::target(&head, &self.request.url)
        {
            let followed = to.and_then(|url| {
                self.left = self
                    .left
                    .checked_sub(1)
                    .ok_or_else(|| Error::new(ErrorKind::Redirect, "there were too many redirects"))?;
                redirect::follow(&mut self.request, head.status, url)
            });
            return followed.map(|()| None).map_err(|error| self.request.name_it(error));
        }
        Ok(Some(receiving.into_response(head)))
    }
}

/// A response that is waited for while the request's body is written: see [`Request::start`].
#[derive(Debug)]
#[must_use = "dropped, the request is given up"]
pub struct Pending {
    receiving: Receiving,
    waiting: Vec<task::Ready>,
}

impl Pending {
    /// Waits for the response's head.
    ///
    /// # Errors
    /// As [`Request::send`].
    pub fn wait(mut self) -> Result<Response, Error> {
        let head = sys::until(|waits| self.receiving.head(waits));
        let head = head.map_err(|error| self.receiving.name_it(Error::of_io(error)))?;
        Ok(self.receiving.into_response(head))
    }
}

/// Awaited, it gives the response. It is for one use.
impl Future for Pending {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { receiving, waiting } = self.get_mut();
        task::poll_until(waiting, cx, |waits| receiving.head(waits)).map(|head| match head {
            Ok(head) => Ok(receiving.take().into_response(head)),
            Err(error) => Err(receiving.name_it(Error::of_io(error))),
        })
    }
}

fn nanos(duration: Duration) -> u64 {
    // 0 is for the host to decide.
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// Whether it is https, and who is asked.
pub(super) fn origin(url: &Uri) -> Result<(bool, &Authority), Error> {
    let https = match url.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(scheme) if *scheme == Scheme::HTTP => false,
        _ => return Err(Error::new(ErrorKind::Request, "a URL begins with http:// or https://")),
    };
    match url.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            let why = "a URL with a name or password in it is not taken: send an `Authorization` header";
            Err(Error::new(ErrorKind::Request, why))
        }
        Some(authority) => Ok((https, authority)),
        None => Err(Error::new(ErrorKind::Request, "the URL names no host")),
    }
}

impl From<&str> for Request {
    fn from(url: &str) -> Self {
        Self::new(Method::GET, url)
    }
}

impl From<String> for Request {
    fn from(url: String) -> Self {
        Self::new(Method::GET, url)
    }
}

impl From<Uri> for Request {
    fn from(url: Uri) -> Self {
        Self::new(Method::GET, url)
    }
}

/// For those that pass a request on: fields of the connection that it came by are left out, those that `Connection`
/// names too, and so are `Host` and `Content-Length`.
impl<B: Into<Body>> From<http::Request<B>> for Request {
    fn from(request: http::Request<B>) -> Self {
        let (mut head, body) = request.into_parts();
        super::response::strip(&mut head.headers, &NOT_PASSED_ON);
        Self { headers: head.headers, body: body.into(), ..Self::new(head.method, head.uri) }
    }
}
