//! Cross-origin requests: the headers of the Fetch standard's CORS protocol.

use http::{HeaderValue, Method, StatusCode, header};
use std::rc::Rc;
use std::time::Duration;

use super::{Middleware, Next};
use crate::handler::{Answering, Own};
use crate::request::Request;
use crate::response::Response;

/// Lets pages of other origins use this app: by default of any origin, without credentials, with the usual methods and
/// with whatever headers they ask for. Narrow it down with the methods of [`Cors`].
///
/// A preflight is answered with a 204 and does not reach what is inside. A page that is not let in gets its answer without
/// the headers, and its browser keeps it from the page: CORS keeps pages apart, it does not keep requests out.
///
/// ```
/// use std::time::Duration;
/// use tidegate_sdk::{Method, Request, Router, middleware, test::Exchange};
///
/// let cors = middleware::cors()
///     .origins(["https://shop.example"])
///     .methods([Method::GET, Method::POST])
///     .headers(["content-type"])
///     .credentials()
///     .max_age(Duration::from_secs(3600));
/// let app = Router::new().get("/", |_: Request| "hi\n").with(cors);
/// let answer = Exchange::get("/").header("origin", "https://shop.example").run(app);
/// assert_eq!(answer.headers["access-control-allow-origin"], "https://shop.example");
/// assert_eq!(answer.headers["access-control-allow-credentials"], "true");
/// ```
pub fn cors() -> Cors {
    let methods = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    Cors { rules: Rc::new(Rules::default()) }.methods(methods)
}

/// What other origins may do: see [`cors`].
#[derive(Clone, Debug)]
#[must_use = "it does nothing until a router has it: `Router::with`"]
pub struct Cors {
    rules: Rc<Rules>,
}

#[derive(Clone, Debug, Default)]
struct Rules {
    /// `None`: any.
    origins: Option<Vec<String>>,
    methods: String,
    /// `None`: those that are asked for.
    headers: Option<String>,
    expose: Option<HeaderValue>,
    credentials: bool,
    max_age_secs: Option<u64>,
}

impl Cors {
    fn change(mut self, change: impl FnOnce(&mut Rules)) -> Self {
        change(Rc::make_mut(&mut self.rules));
        self
    }

    /// Lets in these origins alone, each as a browser writes it: `https://shop.example`, with a port if it is not the
    /// scheme's own, without a path. See [`cors`].
    ///
    /// # Panics
    /// If one is not written so: it would never match.
    #[track_caller]
    pub fn origins<S: Into<String>>(self, origins: impl IntoIterator<Item = S>) -> Self {
        let origins: Vec<String> = origins.into_iter().map(Into::into).collect();
        for origin in &origins {
            assert!(
                is_origin(origin),
                "cors: `{origin}` is not an origin as browsers send it: scheme, host and port, in lower case"
            );
        }
        self.change(|rules| rules.origins = Some(origins))
    }

    /// The methods that a preflight allows. GET, HEAD and POST need none. See [`cors`].
    pub fn methods(self, methods: impl IntoIterator<Item = Method>) -> Self {
        let methods: Vec<Method> = methods.into_iter().collect();
        let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
        self.change(|rules| rules.methods = names.join(", "))
    }

    /// The request headers that a preflight allows; without this, those that are asked for. See [`cors`].
    ///
    /// # Panics
    /// If one is not a header's name.
    #[track_caller]
    pub fn headers<'a>(self, headers: impl IntoIterator<Item = &'a str>) -> Self {
        let headers = names(headers);
        self.change(|rules| rules.headers = Some(headers))
    }

    /// The response headers that pages may read besides the harmless ones.
    ///
    /// ```
    /// use tidegate_sdk::{Request, Router, middleware, test::Exchange};
    ///
    /// let app = Router::new().get("/", |_: Request| "hi\n").with(middleware::cors().expose(["x-total"]));
    /// let answer = Exchange::get("/").header("origin", "https://shop.example").run(app);
    /// assert_eq!(answer.headers["access-control-expose-headers"], "x-total");
    /// ```
    ///
    /// # Panics
    /// If one is not a header's name.
    #[track_caller]
    pub fn expose<'a>(self, headers: impl IntoIterator<Item = &'a str>) -> Self {
        let headers = HeaderValue::try_from(names(headers)).expect("names are values");
        self.change(|rules| rules.expose = Some(headers))
    }

    /// Lets requests bring cookies and other credentials. See [`cors`].
    ///
    /// # Panics
    /// Before [`Self::origins`]: any page of the web could then act as whoever visits it.
    #[track_caller]
    pub fn credentials(self) -> Self {
        assert!(
            self.rules.origins.is_some(),
            "cors: credentials are for origins that are named: call `origins` before `credentials`"
        );
        self.change(|rules| rules.credentials = true)
    }

    /// How long a browser may remember a preflight; it has a limit of its own, two hours or less. See
    /// [`cors`].
    pub fn max_age(self, age: Duration) -> Self {
        self.change(|rules| rules.max_age_secs = Some(age.as_secs()))
    }
}

/// What browsers send (RFC 6454 section 6.2). `null` is not one: every sandboxed page has it.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._:[]+".contains(&byte);
    !scheme.is_empty() && !host.is_empty() && scheme.bytes().chain(host.bytes()).all(good)
}

#[track_caller]
fn names<'a>(headers: impl IntoIterator<Item = &'a str>) -> String {
    let mut list = Vec::new();
    for name in headers {
        match http::HeaderName::try_from(name) {
            Ok(name) => list.push(name.as_str().to_owned()),
            Err(_) => panic!("cors: `{name}` is not a header's name"),
        }
    }
    list.join(", ")
}

impl Rules {
    /// The value of `Access-Control-Allow-Origin`, if `origin` is let in.
    fn allow(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        match &self.origins {
            None => Some(HeaderValue::from_static("*")),
            Some(list) => origin
                .filter(|origin| list.iter().any(|known| known.as_bytes() == origin.as_bytes()))
                .cloned(),
        }
    }

    /// What every response has.
    fn mark(&self, mut response: Response, allow: Option<HeaderValue>) -> Response {
        if self.origins.is_some() {
            // The same URL has another answer for another origin: caches must know (RFC 9110 section 12.5.5).
            response.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
        }
        let Some(allow) = allow else { return response };
        response = response.with_header(header::ACCESS_CONTROL_ALLOW_ORIGIN, allow);
        if self.credentials {
            response = response.with_header(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
        }
        response
    }

    fn preflight(&self, request: &Request, allow: Option<HeaderValue>) -> Response {
        let mut response = self.mark(Response::status(StatusCode::NO_CONTENT), allow.clone());
        if self.headers.is_none() {
            let asked = header::ACCESS_CONTROL_REQUEST_HEADERS;
            response.headers_mut().append(header::VARY, asked.into());
        }
        if allow.is_none() {
            return response;
        }
        response = response.with_header(header::ACCESS_CONTROL_ALLOW_METHODS, self.methods.as_str());
        let asked = request.header(header::ACCESS_CONTROL_REQUEST_HEADERS.as_str());
        if let Some(headers) = self.headers.as_deref().or(asked) {
            response = response.with_header(header::ACCESS_CONTROL_ALLOW_HEADERS, headers);
        }
        match self.max_age_secs {
            Some(secs) => response.with_header(header::ACCESS_CONTROL_MAX_AGE, secs),
            None => response,
        }
    }
}

impl Middleware<Own> for Cors {
    fn handle(&self, request: Request, next: Next) -> Answering {
        let rules = Rc::clone(&self.rules);
        // Not through the map of headers, which most handlers never need.
        let origin =
            request.header(header::ORIGIN.as_str()).and_then(|origin| HeaderValue::from_str(origin).ok());
        let allow = rules.allow(origin.as_ref());
        let asks = request.header(header::ACCESS_CONTROL_REQUEST_METHOD.as_str()).is_some();
        if origin.is_some() && asks && request.method() == Method::OPTIONS {
            return rules.preflight(&request, allow).into();
        }
        next.call(request).map(move |response| {
            let let_in = allow.is_some();
            let response = rules.mark(response, allow);
            match &rules.expose {
                Some(names) if let_in => {
                    response.with_header(header::ACCESS_CONTROL_EXPOSE_HEADERS, names.clone())
                }
                _ => response,
            }
        })
    }
}
