//! A request as the handler sees it.
//!
//! Invariant: nothing crosses the boundary, and nothing is parsed, until something of the head is asked for.

use http::{Extensions, HeaderMap, Method, Uri, Version};
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Instant;
use tidegate_abi::fields::FieldList;
use tidegate_abi::request::RequestView;

use crate::body::RequestBody;
use crate::error::{Error, Result};
use crate::fields::to_map;
use crate::{sys, time};

/// Packed heads are mostly shorter than this; a longer one takes a second call.
const HEAD_BYTES: usize = 2048;

/// One request.
///
/// ```
/// use tidegate_sdk::{Method, Request, Response, StatusCode};
///
/// fn handle(request: Request) -> Response {
///     if request.method() != Method::GET {
///         return Response::status(StatusCode::METHOD_NOT_ALLOWED).with_header("allow", "GET");
///     }
///     let language = request.header("accept-language").unwrap_or("en");
///     Response::text(format!("{} in {language}\n", request.path()))
/// }
/// # use tidegate_sdk::test::Exchange;
/// # let exchange = Exchange::get("/a").header("accept-language", "fr");
/// # assert_eq!(exchange.run(handle).text(), "/a in fr\n");
/// # Exchange::post("/a").run(handle).assert_status(405);
/// ```
pub struct Request {
    head: OnceCell<Head>,
    body: Option<RequestBody>,
    /// Those of the router's route, decoded.
    params: Vec<Param>,
    extensions: Extensions,
}

/// A parameter's name and its value, decoded.
pub(crate) type Param = (Cow<'static, str>, String);

/// The head as the host packed it, and the parts of it that were asked for as types of `http`.
struct Head {
    packed: Vec<u8>,
    method: OnceCell<Method>,
    uri: OnceCell<Uri>,
    headers: OnceCell<HeaderMap>,
    /// The parameters of the host's route, decoded; made only if one of them is not what it decodes to.
    params: OnceCell<Vec<Param>>,
    /// The request's id where the host gives it none.
    id: OnceCell<String>,
}

impl Head {
    fn load() -> Self {
        let packed = sys::collect("request_head", HEAD_BYTES, sys::request_head).unwrap_or_default();
        assert!(RequestView::parse(&packed).is_some(), "the host gave a request head that cannot be read");
        Self {
            packed,
            method: OnceCell::new(),
            uri: OnceCell::new(),
            headers: OnceCell::new(),
            params: OnceCell::new(),
            id: OnceCell::new(),
        }
    }

    fn view(&self) -> RequestView<'_> {
        RequestView::parse(&self.packed).expect("checked when it was loaded")
    }

    fn header(&self, name: &str) -> Option<&str> {
        find(self.view().fields(), |field| name.as_bytes().eq_ignore_ascii_case(field))
    }

    /// A parameter of the host's route.
    fn param(&self, name: &str) -> Option<&str> {
        let raw = find(self.view().params(), |param| param == name.as_bytes())?;
        if !raw.contains('%') {
            return Some(raw);
        }
        let decoded = self.params.get_or_init(|| {
            let params = self.view().params();
            let pairs = params
                .iter()
                .flatten()
                .filter_map(|(name, value)| Some((Cow::Owned(text(name).to_owned()), decode(text(value))?)));
            pairs.collect()
        });
        find_param(decoded, name)
    }

    fn body(&self) -> RequestBody {
        let view = self.view();
        let declared_bytes = self.header("content-length").and_then(|length| length.parse().ok());
        RequestBody::new(view.request_body(), sys::has_body(&view), declared_bytes)
    }
}

/// For those who have no request at hand: the handle of the response's body, and whether the method is HEAD.
pub(crate) fn answering() -> (u32, bool) {
    let head = Head::load();
    (head.view().response_body(), head.view().method() == b"HEAD")
}

/// What `raw` stands for (RFC 3986 section 2.1); `None` if that is not UTF-8.
pub(crate) fn decode(raw: &str) -> Option<String> {
    percent_decode_str(raw).decode_utf8().ok().map(Cow::into_owned)
}

fn find_param<'a>(params: &'a [Param], name: &str) -> Option<&'a str> {
    params.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn find<'a>(list: FieldList<'a>, is_it: impl Fn(&[u8]) -> bool) -> Option<&'a str> {
    let (_, value) = list.iter().flatten().find(|(name, _)| is_it(name))?;
    std::str::from_utf8(value).ok()
}

/// Bytes that the host has checked to be ASCII.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Path and query of a target in origin-form, absolute-form or asterisk-form (RFC 9112 section 3.2).
fn split_target(target: &str) -> (&str, Option<&str>) {
    let (before, query) = match target.split_once('?') {
        Some((before, query)) => (before, Some(query)),
        None => (target, None),
    };
    let path = match before.split_once("://") {
        Some((_, rest)) if !before.starts_with('/') => match rest.find('/') {
            Some(at) => &rest[at..],
            None => "/",
        },
        _ => before,
    };
    (path, query)
}

impl Request {
    pub(crate) fn new() -> Self {
        Self { head: OnceCell::new(), body: None, params: Vec::new(), extensions: Extensions::new() }
    }

    fn head(&self) -> &Head {
        self.head.get_or_init(Head::load)
    }

    fn view(&self) -> RequestView<'_> {
        self.head().view()
    }

    pub(crate) fn response_handle(&self) -> u32 {
        self.view().response_body()
    }

    /// The method. See [`Request`] for an example.
    pub fn method(&self) -> &Method {
        let head = self.head();
        head.method.get_or_init(|| {
            // Taking an unknown method for another could do harm; the host lets none through that is not a token.
            Method::from_bytes(head.view().method()).expect("the host checked the method")
        })
    }

    /// The target as the client sent it, mostly path and query. [`Self::path`] and [`Self::query`] are cheaper.
    ///
    /// ```
    /// use tidegate_sdk::{Request, test::Exchange};
    ///
    /// let show = |request: Request| format!("{:?}", request.uri().query());
    /// assert_eq!(Exchange::get("/items?page=2").run(show).text(), "Some(\"page=2\")");
    /// ```
    pub fn uri(&self) -> &Uri {
        let head = self.head();
        head.uri.get_or_init(|| {
            let target = text(head.view().target());
            Uri::try_from(target).or_else(|_| Uri::try_from(split_target(target).0)).unwrap_or_default()
        })
    }

    /// The path as the client sent it, percent-encoded; `*` for `OPTIONS *`. It has no dot-segments: the host refuses
    /// them.
    ///
    /// ```
    /// use tidegate_sdk::{Request, test::Exchange};
    ///
    /// let show = |request: Request| format!("{} and {:?}", request.path(), request.query());
    /// assert_eq!(Exchange::get("/a%20b?x=1").run(show).text(), "/a%20b and Some(\"x=1\")");
    /// assert_eq!(Exchange::get("/").run(show).text(), "/ and None");
    /// ```
    #[must_use]
    pub fn path(&self) -> &str {
        split_target(text(self.view().target())).0
    }

    /// What follows the first `?`, as the client sent it. See [`Self::path`].
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        split_target(text(self.view().target())).1
    }

    /// The part of the path that the app's route covers: `/shop` if the route is `/shop/*`. Empty for an exact route.
    ///
    /// ```
    /// use tidegate_sdk::{Request, test::Exchange};
    ///
    /// let show = |request: Request| format!("{} + {}", request.mount(), request.path_below_mount());
    /// assert_eq!(Exchange::get("/shop/items").mount("/shop").run(show).text(), "/shop + /items");
    /// assert_eq!(Exchange::get("/shop").mount("/shop").run(show).text(), "/shop + /");
    /// ```
    #[must_use]
    pub fn mount(&self) -> &str {
        self.path().get(..self.view().mount_len()).unwrap_or_default()
    }

    /// The rest of the path, never empty: `/` if nothing follows the mount. See [`Self::mount`].
    #[must_use]
    pub fn path_below_mount(&self) -> &str {
        let path = self.path();
        match path.get(self.view().mount_len()..) {
            Some("") => "/",
            Some(below) => below,
            None => path,
        }
    }

    /// Host and port, from the target or from `Host`; empty if an HTTP/1.0 client gave none.
    ///
    /// ```
    /// use tidegate_sdk::Request;
    ///
    /// /// A link that leads back to this server.
    /// fn link_to_done(request: Request) -> String {
    ///     let scheme = if request.is_secure() { "https" } else { "http" };
    ///     format!("{scheme}://{}/done", request.authority())
    /// }
    /// # use tidegate_sdk::test::Exchange;
    /// # assert_eq!(Exchange::get("/").run(link_to_done).text(), "http://test.example/done");
    /// ```
    #[must_use]
    pub fn authority(&self) -> &str {
        text(self.view().authority())
    }

    /// True if the client came over https. See [`Self::authority`].
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.view().secure()
    }

    /// HTTP/1.0 or HTTP/1.1.
    ///
    /// ```
    /// use tidegate_sdk::{Request, Version, test::Exchange};
    ///
    /// let takes_chunks = |request: Request| (request.version() == Version::HTTP_11).to_string();
    /// assert_eq!(Exchange::get("/").run(takes_chunks).text(), "true");
    /// ```
    #[must_use]
    pub fn version(&self) -> Version {
        if self.view().http_minor() == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
    }

    /// All headers. Values may have bytes above 0x7f.
    ///
    /// ```
    /// use tidegate_sdk::{Request, test::Exchange};
    ///
    /// let count = |request: Request| request.headers().get_all("accept").iter().count().to_string();
    /// let exchange = Exchange::get("/").header("accept", "text/html").header("accept", "text/plain");
    /// assert_eq!(exchange.run(count).text(), "2");
    /// ```
    pub fn headers(&self) -> &HeaderMap {
        let head = self.head();
        head.headers.get_or_init(|| to_map(head.view().fields()))
    }

    /// The first header of that name, in any letter case, if its value is UTF-8. It is found without building the map.
    ///
    /// ```
    /// use tidegate_sdk::{Request, test::Exchange};
    ///
    /// let language = |request: Request| request.header("accept-language").unwrap_or("en").to_owned();
    /// assert_eq!(Exchange::get("/").header("Accept-Language", "fr").run(language).text(), "fr");
    /// assert_eq!(Exchange::get("/").run(language).text(), "en");
    /// ```
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head().header(name)
    }

    /// The values of every header of that name, which is in lower case. The map is not built, which is much code.
    #[cfg(any(feature = "cookies", feature = "form", feature = "json"))]
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let fields = self.view().fields();
        fields.iter().flatten().filter(move |(field, _)| *field == name.as_bytes()).map(|(_, value)| value)
    }

    /// A parameter of the route, the router's or the app's: `42` for `id`, where the route is `/items/{id}` and the path
    /// `/items/42`. `*` is what a router's `*` stands for, without a slash in front: `a/b` for `/files/a/b` on `/files/*`.
    ///
    /// Percent-decoded, so that a `/` in it may have been `%2F`: check it before it becomes part of a file's name. `None`
    /// if the route has no such parameter; or, for one of the app's route, if it is not UTF-8.
    ///
    /// ```
    /// use tidegate_sdk::{Request, Router};
    ///
    /// fn show(request: Request) -> String {
    ///     format!("item {}\n", request.param("id").unwrap_or_default())
    /// }
    ///
    /// let app = Router::new().get("/items/{id}", show);
    /// # use tidegate_sdk::test::Exchange;
    /// # assert_eq!(Exchange::get("/items/a%2Fb").run(app).text(), "item a/b\n");
    /// ```
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        find_param(&self.params, name).or_else(|| self.head().param(name))
    }

    /// A parameter of the route, parsed.
    ///
    /// # Errors
    /// 404 if there is none of that name or it does not parse: what it would name is not there.
    ///
    /// ```
    /// use tidegate_sdk::{Request, Result, Router};
    ///
    /// fn square(request: Request) -> Result<String> {
    ///     let n: u32 = request.param_as("n")?;
    ///     Ok(format!("{}\n", u64::from(n) * u64::from(n)))
    /// }
    ///
    /// # use tidegate_sdk::test::Exchange;
    /// # let app = || Router::new().get("/square/{n}", square);
    /// # assert_eq!(Exchange::get("/square/12").run(app()).text(), "144\n");
    /// # assert_eq!(Exchange::get("/square/x").run(app()).status.unwrap(), 404);
    /// ```
    pub fn param_as<T: FromStr>(&self, name: &str) -> Result<T> {
        let Some(text) = self.param(name) else {
            return Err(Error::not_found(format!("the path has no `{name}`")));
        };
        text.parse().map_err(|_| Error::not_found(format!("`{name}` in the path is not valid")))
    }

    /// Puts these before the parameters there are.
    pub(crate) fn add_params(&mut self, mut params: Vec<Param>) {
        params.append(&mut self.params);
        self.params = params;
    }

    /// What middleware and handlers leave for each other, by type: who is asking, for example.
    ///
    /// ```
    /// use tidegate_sdk::{Error, Request, Response, Result, Router, middleware::Next};
    ///
    /// #[derive(Clone)]
    /// struct User(String);
    ///
    /// fn login(mut request: Request, next: Next) -> Result<Response> {
    ///     let Some(name) = request.header("x-user") else { return Err(Error::unauthorized("who are you?")) };
    ///     let user = User(name.to_owned());
    ///     request.extensions_mut().insert(user);
    ///     Ok(next.run(request))
    /// }
    ///
    /// fn hello(request: Request) -> Result<String> {
    ///     let User(name) = request.extensions().get().ok_or_else(|| Error::internal("no login in front"))?;
    ///     Ok(format!("Hello {name}\n"))
    /// }
    ///
    /// let app = Router::new().get("/", hello).with(login);
    /// # let answer = tidegate_sdk::test::Exchange::get("/").header("x-user", "Ada").run(app);
    /// # assert_eq!(answer.text(), "Hello Ada\n");
    /// ```
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// The same, to change them. See [`Self::extensions`].
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }

    /// The client's address; `None` for one on a Unix socket.
    ///
    /// ```
    /// use tidegate_sdk::{Request, test::Exchange};
    ///
    /// let ends = |request: Request| {
    ///     let (from, to) = (request.peer_addr().unwrap(), request.local_addr().unwrap());
    ///     format!("from {} to port {}", from.ip(), to.port())
    /// };
    /// assert_eq!(Exchange::get("/").run(ends).text(), "from 192.0.2.1 to port 8080");
    /// ```
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        text(self.view().peer()).parse().ok()
    }

    /// The address the client came to; `None` for a Unix socket. See [`Self::peer_addr`].
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        text(self.view().local()).parse().ok()
    }

    /// The request's id, the same in the log. In a component it is made when it is first asked for, and stands in the
    /// records that are written through [`crate::log`].
    ///
    /// ```
    /// use tidegate_sdk::{Error, Request};
    ///
    /// fn closed(request: Request) -> Error {
    ///     Error::unavailable(format!("closed for today; if you ask us why, name {}", request.id()))
    /// }
    /// # let answer = tidegate_sdk::test::Exchange::get("/").run(closed);
    /// # assert!(answer.text().contains("name test-1"));
    /// ```
    #[must_use]
    pub fn id(&self) -> &str {
        match text(self.view().request_id()) {
            "" => self.head().id.get_or_init(sys::make_id),
            id => id,
        }
    }

    /// When the response's head is due; past it the host answers 504. `None`: never.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate_sdk::{Request, now};
    ///
    /// /// True if there is time for a second try.
    /// fn may_retry(request: &Request) -> bool {
    ///     request.deadline().is_none_or(|at| at - now() > Duration::from_secs(5))
    /// }
    /// # let answer = |request: Request| may_retry(&request).to_string();
    /// # assert_eq!(tidegate_sdk::test::Exchange::get("/").run(answer).text(), "true");
    /// ```
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.view().deadline_ns() {
            u64::MAX => None,
            at_ns => time::instant_at(at_ns),
        }
    }

    /// The body.
    ///
    /// ```
    /// use tidegate_sdk::{Request, Result};
    ///
    /// fn shout(mut request: Request) -> Result<String> {
    ///     Ok(request.body().text()?.to_uppercase())
    /// }
    /// # assert_eq!(tidegate_sdk::test::Exchange::post("/").body("hello").run(shout).text(), "HELLO");
    /// ```
    pub fn body(&mut self) -> &mut RequestBody {
        let head = self.head.get_or_init(Head::load);
        self.body.get_or_insert_with(|| head.body())
    }

    /// The body, without the rest.
    ///
    /// ```
    /// use std::io::{BufRead, BufReader};
    /// use tidegate_sdk::{Request, Result};
    ///
    /// fn first_line(request: Request) -> Result<String> {
    ///     let mut line = String::new();
    ///     BufReader::new(request.into_body()).read_line(&mut line)?;
    ///     Ok(line)
    /// }
    /// # use tidegate_sdk::test::Exchange;
    /// # assert_eq!(Exchange::post("/").body("one\ntwo\n").run(first_line).text(), "one\n");
    /// ```
    #[must_use]
    pub fn into_body(self) -> RequestBody {
        match self.body {
            Some(body) => body,
            None => self.head.get_or_init(Head::load).body(),
        }
    }

    /// The request in the type of the `http` crate. What that has no place for (parameters, addresses, id) is lost: read it
    /// before.
    ///
    /// ```
    /// use tidegate_sdk::{Request, test::Exchange};
    ///
    /// let show = |request: Request| {
    ///     let (head, mut body) = request.into_http().into_parts();
    ///     body.text().map(|text| format!("{} {}: {text}", head.method, head.uri.path()))
    /// };
    /// assert_eq!(Exchange::post("/a").body("hello").run(show).text(), "POST /a: hello");
    /// ```
    #[must_use]
    pub fn into_http(mut self) -> http::Request<RequestBody> {
        let (method, uri, version) = (self.method().clone(), self.uri().clone(), self.version());
        self.headers();
        let headers = self.head.get_mut().and_then(|head| head.headers.take()).unwrap_or_default();
        let extensions = std::mem::take(&mut self.extensions);
        let mut request = http::Request::new(self.into_body());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.version_mut() = version;
        *request.headers_mut() = headers;
        *request.extensions_mut() = extensions;
        request
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", self.method())
            .field("target", &text(self.view().target()))
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}
