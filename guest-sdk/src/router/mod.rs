//! Which handler a request belongs to: the router.
//!
//! A fresh instance builds its router for one request, so building is cheap: a route is pushed, nothing is indexed, and a
//! search looks at all of them. Routers nest by their routes being moved into one table; each keeps its scope, which
//! says what prefix stands in front of it and what middleware goes around it.
//!
//! Invariants: scope 0 is the router itself; a scope's parent has a smaller number; no two routes of a table match the
//! same method and the same paths.

mod find;
mod pattern;

use http::Method;
use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;

use crate::handler::{Answering, Handler, Own};
use crate::middleware::{Middleware, Next};
use crate::request::Request;

type Endpoint = Box<dyn Fn(Request) -> Answering>;
type Layer = Box<dyn Fn(Request, Next) -> Answering>;

/// Chooses a handler by method and path.
///
/// ```
/// use tidegate_sdk::{Request, Response, Result, Router, handler, middleware};
///
/// fn show(request: Request) -> Result<String> {
///     let id: u64 = request.param_as("id")?;
///     Ok(format!("item {id}\n"))
/// }
///
/// async fn add(mut request: Request) -> Result<Response> {
///     let text = request.body().text()?;
///     Ok(Response::text(text).with_status(http::StatusCode::CREATED))
/// }
///
/// #[handler]
/// fn shop() -> Router {
///     let items = Router::new().post("/", add).get("/{id}", show);
///     Router::new()
///         .get("/", |_: Request| "Welcome\n")
///         .nest("/items", items)
///         .with(middleware::logger())
/// }
/// # use tidegate_sdk::{http, test::Exchange};
/// # assert_eq!(Exchange::get("/items/7").run(shop()).text(), "item 7\n");
/// # assert_eq!(Exchange::post("/items").body("x").run(shop()).status.unwrap(), 201);
/// # assert_eq!(Exchange::get("/items").run(shop()).headers["allow"], "POST, OPTIONS");
/// ```
///
/// **Patterns** are those of tidegate's routes: a segment is literal, or `{name}` for one segment that is not empty, and
/// the last may be `*`: `/files/*` is `/files`, `/files/` and everything below. Paths are those below the app's
/// [mount](Request::mount), compared raw and byte for byte; `/a` and `/a/` are two paths. Parameters are percent-decoded
/// for [`Request::param`]; one that is not UTF-8 then is a 400.
///
/// **Of all routes that match** path and method, from the first segment on a literal beats a parameter and a parameter
/// beats `*`; with equal patterns a method of its own beats GET's answer to HEAD, and both beat [`Self::any`]. The order
/// of the routes does not matter.
///
/// **Without a route**, an unknown path is a 404, and a known path with another method a 405 that names those it takes
/// (RFC 9110 section 15.5.6); both are problem documents. GET's handler answers HEAD as well, and OPTIONS is answered
/// with a 204 and `Allow`.
///
/// # Panics
/// Building one panics if a pattern is not valid, or if two routes match the same: such a mistake shows with the first
/// request, in the first test.
#[must_use = "a router does nothing until it is returned by a handler, nested or asked"]
pub struct Router {
    table: Rc<Table>,
}

/// All routes of a router and those nested in it.
pub(crate) struct Table {
    routes: Vec<Route>,
    scopes: Vec<Scope>,
}

struct Route {
    /// An index of `Table::scopes`.
    scope: usize,
    /// `None`: any.
    method: Option<Method>,
    /// Behind the prefix of its scope.
    pattern: Cow<'static, str>,
    /// Of prefix and pattern: equal for routes that match the same paths.
    shape: u32,
    endpoint: Endpoint,
}

/// A router, or one that was nested.
struct Scope {
    /// The one around it.
    parent: Option<usize>,
    /// What stands in front of its patterns, all told; empty, or with a slash in front and none at the end.
    prefix: Cow<'static, str>,
    /// The first is outermost.
    layers: Vec<Layer>,
    fallback: Option<Endpoint>,
}

/// Where a request goes after the middleware.
#[derive(Debug)]
pub(crate) enum Target {
    /// An index of `Table::routes`.
    Route(usize),
    NotFound,
    /// With the value of `Allow`.
    NotAllowed(String),
    Options(String),
    /// With the name of a parameter that is not UTF-8.
    BadParam(String),
}

macro_rules! methods {
    ($($(#[$meta:meta])* $name:ident => $method:ident),* $(,)?) => {
        $($(#[$meta])*
        #[track_caller]
        pub fn $name<M>(self, pattern: impl Into<Cow<'static, str>>, handler: impl Handler<M>) -> Self {
            self.add(Some(Method::$method), pattern.into(), endpoint(handler))
        })*
    };
}

impl Router {
    /// No routes: everything is a 404.
    ///
    /// ```
    /// use tidegate_sdk::{Router, test::Exchange};
    ///
    /// Exchange::get("/").run(Router::new()).assert_status(404);
    /// ```
    pub fn new() -> Self {
        let own = Scope { parent: None, prefix: Cow::Borrowed(""), layers: Vec::new(), fallback: None };
        Self { table: Rc::new(Table { routes: Vec::new(), scopes: vec![own] }) }
    }

    methods! {
        /// Serves GET on this path, and HEAD where it has no route of its own.
        ///
        /// ```
        /// use tidegate_sdk::{Request, Router, StatusCode, test::Exchange};
        ///
        /// fn done(_request: Request) -> StatusCode {
        ///     StatusCode::NO_CONTENT
        /// }
        ///
        /// fn note() -> Router {
        ///     let note = Router::new().get("/note", |_: Request| "buy milk\n");
        ///     note.put("/note", done).patch("/note", done).delete("/note", done)
        /// }
        /// assert_eq!(Exchange::get("/note").run(note()).text(), "buy milk\n");
        /// Exchange::new("DELETE", "/note").run(note()).assert_status(204);
        /// Exchange::post("/note").run(note()).assert_status(405);
        /// ```
        get => GET,
        /// Serves POST on this path.
        ///
        /// ```
        /// use tidegate_sdk::{Request, Router, test::Exchange};
        ///
        /// let app = Router::new().post("/", |mut request: Request| request.body().text());
        /// assert_eq!(Exchange::post("/").body("hello").run(app).text(), "hello");
        /// ```
        post => POST,
        /// Serves PUT on this path. See [`Self::get`].
        put => PUT,
        /// Serves PATCH on this path. See [`Self::get`].
        patch => PATCH,
        /// Serves DELETE on this path. See [`Self::get`].
        delete => DELETE,
        /// Serves HEAD on this path.
        ///
        /// ```
        /// use tidegate_sdk::{Request, Response, Router, test::Exchange};
        ///
        /// let size = |_: Request| Response::empty().with_header("x-minutes", 94);
        /// let app = Router::new().head("/film", size);
        /// assert_eq!(Exchange::new("HEAD", "/film").run(app).header("x-minutes"), Some("94"));
        /// ```
        head => HEAD,
        /// Serves OPTIONS on this path, in place of the router's own answer.
        ///
        /// ```
        /// use tidegate_sdk::{Request, Router, test::Exchange};
        ///
        /// let app = Router::new().options("/", |_: Request| "GET, or nothing\n");
        /// assert_eq!(Exchange::new("OPTIONS", "/").run(app).text(), "GET, or nothing\n");
        /// ```
        options => OPTIONS,
    }

    /// Serves this method on this path.
    ///
    /// ```
    /// use tidegate_sdk::{Method, Request, Router, test::Exchange};
    ///
    /// let purge = Method::from_bytes(b"PURGE").unwrap();
    /// let app = Router::new().method(purge, "/*", |_: Request| "purged\n");
    /// assert_eq!(Exchange::new("PURGE", "/a/b").run(app).text(), "purged\n");
    /// ```
    #[track_caller]
    pub fn method<M>(
        self,
        method: Method,
        pattern: impl Into<Cow<'static, str>>,
        handler: impl Handler<M>,
    ) -> Self {
        self.add(Some(method), pattern.into(), endpoint(handler))
    }

    /// Serves every method on this path that has no route of its own.
    ///
    /// ```
    /// use tidegate_sdk::{Request, Router, test::Exchange};
    ///
    /// let app = Router::new().any("/hook", |request: Request| format!("{}\n", request.method()));
    /// assert_eq!(Exchange::new("PUT", "/hook").run(app).text(), "PUT\n");
    /// ```
    #[track_caller]
    pub fn any<M>(self, pattern: impl Into<Cow<'static, str>>, handler: impl Handler<M>) -> Self {
        self.add(None, pattern.into(), endpoint(handler))
    }

    /// Puts the routes of `nested` below `prefix`, which may have parameters: `/items/{id}/parts`. Its `/` is the prefix
    /// itself, with or without a slash at its end. Its middleware goes around its own routes and its own 404 and 405, and
    /// this router's around that. Handlers and middleware see the whole path.
    ///
    /// What is below the prefix and no route's is a 404 of `nested`: its fallback, if it has one, else this router's. With
    /// `/` as prefix the routes are put beside those of this router, and only their middleware is apart.
    ///
    /// ```
    /// use tidegate_sdk::{Request, Router, test::Exchange};
    ///
    /// fn show(request: Request) -> String {
    ///     format!("{:?} of {:?}", request.param("part"), request.param("id"))
    /// }
    ///
    /// let parts = Router::new().get("/{part}", show);
    /// let app = Router::new().nest("/items/{id}/parts", parts);
    /// assert_eq!(Exchange::get("/items/7/parts/lid").run(app).text(), "Some(\"lid\") of Some(\"7\")");
    /// ```
    ///
    /// # Panics
    /// If the prefix is not valid, or if a route is there already.
    #[track_caller]
    pub fn nest(mut self, prefix: impl Into<Cow<'static, str>>, nested: Self) -> Self {
        let mut prefix = prefix.into();
        if prefix == "/" {
            prefix = Cow::Borrowed("");
        }
        if let Err(fault) = pattern::check_prefix(&prefix) {
            panic!("the prefix `{prefix}` is not valid: {fault}");
        }
        let Ok(nested) = Rc::try_unwrap(nested.table) else { panic!("{IN_USE}") };
        let table = self.building();
        let first = table.scopes.len();
        for mut scope in nested.scopes {
            scope.parent = Some(scope.parent.map_or(0, |parent| parent + first));
            scope.prefix = match (scope.prefix.is_empty(), prefix.is_empty()) {
                (true, _) => prefix.clone(),
                (_, true) => scope.prefix,
                _ => Cow::Owned(format!("{prefix}{}", scope.prefix)),
            };
            table.scopes.push(scope);
        }
        for mut route in nested.routes {
            route.scope += first;
            table.push(route);
        }
        self
    }

    /// Puts `middleware` around everything of this router: its routes, those nested in it, its 404 and 405, its answers to
    /// OPTIONS. The first one added is outermost: it sees a request first and its response last. Whether it is added before or
    /// after a route makes no difference.
    ///
    /// ```
    /// use tidegate_sdk::{Request, Router, middleware, middleware::Next, test::Exchange};
    ///
    /// let hide = |request: Request, next: Next| next.run(request).with_header("x-robots-tag", "noindex");
    /// let app = Router::new().get("/", |_: Request| "hi\n").with(middleware::logger()).with(hide);
    /// assert_eq!(Exchange::get("/").run(app).header("x-robots-tag"), Some("noindex"));
    /// ```
    pub fn with<M>(mut self, middleware: impl Middleware<M>) -> Self {
        let layer: Layer = Box::new(move |request, next| middleware.handle(request, next));
        self.building().scopes[0].layers.push(layer);
        self
    }

    /// Has `handler` answer what is no route's path, in place of the 404.
    ///
    /// ```
    /// use tidegate_sdk::{Request, Router, StatusCode, test::Exchange};
    ///
    /// let lost = |request: Request| (StatusCode::NOT_FOUND, format!("no {} here\n", request.path()));
    /// let app = Router::new().fallback(lost);
    /// assert_eq!(Exchange::get("/x").run(app).text(), "no /x here\n");
    /// ```
    pub fn fallback<M>(mut self, handler: impl Handler<M>) -> Self {
        self.building().scopes[0].fallback = Some(endpoint(handler));
        self
    }

    #[track_caller]
    fn add(mut self, method: Option<Method>, pattern: Cow<'static, str>, endpoint: Endpoint) -> Self {
        self.building().push(Route { scope: 0, method, pattern, shape: 0, endpoint });
        self
    }

    fn building(&mut self) -> &mut Table {
        Rc::get_mut(&mut self.table).expect(IN_USE)
    }
}

/// Routes that the first one makes room for.
const ROUTES: usize = 16;

const IN_USE: &str = "a router that serves a request is not changed";

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

/// The routes.
impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.table.routes.iter().map(|route| self.table.describe(route))).finish()
    }
}

fn endpoint<M>(handler: impl Handler<M>) -> Endpoint {
    Box::new(move |request| handler.call(request))
}

impl Table {
    /// Adds a route to its scope, which is there already.
    #[track_caller]
    fn push(&mut self, mut route: Route) {
        let prefix = &*self.scopes[route.scope].prefix;
        route.shape = match pattern::check(prefix, &route.pattern) {
            Ok(shape) => shape,
            Err(fault) => panic!("the route `{}` is not valid: {fault}", self.describe(&route)),
        };
        let taken = self.routes.iter().find(|other| {
            other.shape == route.shape
                && other.method == route.method
                && pattern::is_same(
                    (prefix, &route.pattern),
                    (&self.scopes[other.scope].prefix, &other.pattern),
                )
        });
        if let Some(other) = taken {
            panic!(
                "the route `{}` matches the same requests as the route `{}`",
                self.describe(&route),
                self.describe(other)
            );
        }
        if self.routes.capacity() == 0 {
            self.routes.reserve(ROUTES);
        }
        self.routes.push(route);
    }

    /// As in `GET /items/{id}`.
    fn describe(&self, route: &Route) -> String {
        let method = route.method.as_ref().map_or("ANY", Method::as_str);
        format!("{method} {}{}", self.scopes[route.scope].prefix, route.pattern)
    }

    /// The `step`th middleware around a scope, from the outside.
    pub(crate) fn layer(&self, scope: usize, step: usize) -> Option<&Layer> {
        let mut skipped = step;
        for scope in self.outside_in(scope) {
            match scope.layers.get(skipped) {
                Some(layer) => return Some(layer),
                None => skipped -= scope.layers.len(),
            }
        }
        None
    }

    fn outside_in(&self, scope: usize) -> impl Iterator<Item = &Scope> {
        // Parents have smaller numbers, so in their order they go from the outside in.
        (0..=scope).filter(move |&index| self.is_around(index, scope)).map(|index| &self.scopes[index])
    }

    /// True if `outer` is `scope` or one around it.
    fn is_around(&self, outer: usize, scope: usize) -> bool {
        let mut at = Some(scope);
        while let Some(index) = at {
            if index == outer {
                return true;
            }
            at = self.scopes[index].parent;
        }
        false
    }

    /// What answers unknown paths of a scope: its own fallback, or that of the nearest around it.
    pub(crate) fn fallback(&self, scope: usize) -> Option<&Endpoint> {
        let mut at = Some(scope);
        while let Some(index) = at {
            let scope = &self.scopes[index];
            if scope.fallback.is_some() {
                return scope.fallback.as_ref();
            }
            at = scope.parent;
        }
        None
    }

    pub(crate) fn endpoint(&self, route: usize) -> &Endpoint {
        &self.routes[route].endpoint
    }
}

impl Handler<Own> for Router {
    fn call(&self, mut request: Request) -> Answering {
        let found = self.table.find(request.method(), request.path_below_mount());
        if !found.params.is_empty() {
            request.add_params(found.params);
        }
        Next::new(Rc::clone(&self.table), found.scope, found.target).call(request)
    }
}
