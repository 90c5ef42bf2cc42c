//! Tables of routes and paths, and a comparison with a search that takes every pattern apart.

use http::Method;
use proptest::prelude::*;

use super::*;
use crate::router::Router;
use crate::router::pattern::is_same;
use crate::{Request, Response};

fn nothing(_: Request) -> Response {
    Response::empty()
}

/// A router of routes written as `GET /a`, or as `ANY /a`.
fn router(routes: &[&str]) -> Router {
    routes.iter().fold(Router::new(), |router, route| add(router, route))
}

fn add(router: Router, route: &str) -> Router {
    let (method, pattern) = route.split_once(' ').unwrap();
    match method {
        "ANY" => router.any(pattern.to_owned(), nothing),
        _ => router.method(method.parse().unwrap(), pattern.to_owned(), nothing),
    }
}

/// What becomes of a request, as the route and its parameters or as the status.
fn ask(router: &Router, method: &str, path: &str) -> String {
    let found = router.table.find(&method.parse().unwrap(), path);
    let params: Vec<String> = found.params.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    match found.target {
        Target::Route(route) => router.table.describe(&router.table.routes[route]) + &params.concat(),
        Target::NotFound => "404".to_owned(),
        Target::NotAllowed(allow) => format!("405 {allow}"),
        Target::Options(allow) => format!("204 {allow}"),
        Target::BadParam(name) => format!("400 {name}"),
    }
}

fn check(router: &Router, table: &[(&str, &str)]) {
    for (request, expected) in table {
        let (method, path) = request.split_once(' ').unwrap();
        assert_eq!(ask(router, method, path), *expected, "{request}");
    }
}

#[test]
fn the_most_specific_route_wins() {
    let table = [
        ("GET /", "GET /"),
        ("GET /other", "GET /* *=other"),
        ("GET /shop", "GET /shop"),
        ("GET /shop/", "GET /shop/* *="),
        ("GET /shopping", "GET /* *=shopping"),
        ("GET /shop/7", "GET /shop/{id} id=7"),
        ("GET /shop/new", "GET /shop/new"),
        ("GET /shop/new/", "GET /shop/* *=new/"),
        ("GET /shop/7/x", "GET /shop/* *=7/x"),
        ("GET /shop/7/parts/8", "GET /shop/{id}/parts/{part} id=7 part=8"),
        ("GET /shop/new/parts/8", "GET /shop/new/parts/* *=8"),
        ("GET /shop/new/parts", "GET /shop/new/parts/* *="),
        ("GET /exact", "GET /exact"),
        ("GET /exact/", "GET /* *=exact/"),
        ("GET /Exact", "GET /* *=Exact"),
        ("GET /slash/", "GET /slash/"),
        ("GET /slash", "GET /* *=slash"),
        ("GET //shop", "GET /* *=/shop"),
        ("GET /shop//parts/8", "GET /shop/* *=/parts/8"),
        ("GET *", "404"),
        ("GET example.com:443", "404"),
    ];
    let mut routes = [
        "GET /*",
        "GET /shop/*",
        "GET /shop",
        "GET /shop/{id}",
        "GET /shop/new",
        "GET /shop/{id}/parts/{part}",
        "GET /shop/new/parts/*",
        "GET /exact",
        "GET /",
        "GET /slash/",
    ];
    check(&router(&routes), &table);
    routes.reverse();
    check(&router(&routes), &table);
}

#[test]
fn methods_are_told_apart() {
    let router = router(&[
        "GET /a",
        "POST /a",
        "HEAD /h",
        "GET /h",
        "ANY /any",
        "PUT /any",
        "OPTIONS /own",
        "PURGE /cache",
        "GET /items/new",
        "GET /items/{id}",
        "DELETE /items/{id}",
        "POST /only",
    ]);
    check(
        &router,
        &[
            ("GET /a", "GET /a"),
            ("POST /a", "POST /a"),
            ("HEAD /a", "GET /a"),
            ("HEAD /h", "HEAD /h"),
            ("HEAD /any", "ANY /any"),
            ("PUT /any", "PUT /any"),
            ("OPTIONS /any", "ANY /any"),
            ("PUT /a", "405 GET, HEAD, POST, OPTIONS"),
            ("OPTIONS /a", "204 GET, HEAD, POST, OPTIONS"),
            ("OPTIONS /h", "204 HEAD, GET, OPTIONS"),
            ("OPTIONS /own", "OPTIONS /own"),
            ("GET /own", "405 OPTIONS"),
            ("PURGE /cache", "PURGE /cache"),
            ("purge /cache", "405 PURGE, OPTIONS"),
            // A path that two patterns match takes the methods of both.
            ("DELETE /items/new", "DELETE /items/{id} id=new"),
            ("PUT /items/new", "405 GET, HEAD, DELETE, OPTIONS"),
            ("HEAD /only", "405 POST, OPTIONS"),
            ("OPTIONS /none", "404"),
            ("GET /none", "404"),
        ],
    );
    check(&Router::new(), &[("GET /", "404"), ("OPTIONS /", "404")]);
}

#[test]
fn parameters_are_decoded_and_paths_are_not() {
    let router = router(
        &["GET /a/{x}", "GET /a/b c/d", "GET /f/*", "GET /%41/{y}", "POST /{p}/{q}"]
            .map(|route| if route.contains(' ') { route.replace("b c", "b%20c") } else { route.to_owned() })
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>(),
    );
    check(
        &router,
        &[
            ("GET /a/b%20c", "GET /a/{x} x=b c"),
            ("GET /a/b%2Fc", "GET /a/{x} x=b/c"),
            ("GET /a/caf%C3%A9", "GET /a/{x} x=caf\u{e9}"),
            ("GET /a/100%", "GET /a/{x} x=100%"),
            ("GET /a/+", "GET /a/{x} x=+"),
            ("GET /a/%", "GET /a/{x} x=%"),
            ("GET /a/%FF", "400 x"),
            ("GET /f/%FF/x", "400 *"),
            ("POST /%FF/%FE", "400 p"),
            ("GET /f/a%2Fb/c", "GET /f/* *=a/b/c"),
            ("GET /%41/z", "GET /%41/{y} y=z"),
            ("GET /A/z", "405 POST, OPTIONS"),
            ("GET /a/", "404"),
        ],
    );
}

fn nested() -> Router {
    let parts = router(&["GET /{part}", "GET /"]);
    let api = router(&["GET /", "GET /items", "POST /items", "GET /*"]).nest("/{id}/parts", parts);
    router(&["GET /", "GET /api/health", "PUT /api/items", "GET /{page}"]).nest("/api", api)
}

#[test]
fn nested_routes_are_below_their_prefix() {
    check(
        &nested(),
        &[
            ("GET /", "GET /"),
            ("GET /api", "GET /api/"),
            ("GET /api/", "GET /api/"),
            ("GET /api/health", "GET /api/health"),
            ("GET /api/items", "GET /api/items"),
            ("PUT /api/items", "PUT /api/items"),
            ("DELETE /api/items", "405 PUT, GET, HEAD, POST, OPTIONS"),
            ("GET /api/x/y", "GET /api/* *=x/y"),
            ("GET /api/7/parts/8", "GET /api/{id}/parts/{part} id=7 part=8"),
            ("GET /api/7/parts", "GET /api/{id}/parts/ id=7"),
            ("GET /api/7/parts/", "GET /api/{id}/parts/ id=7"),
            ("GET /apis", "GET /{page} page=apis"),
            ("GET /apis/x", "404"),
        ],
    );
    // What the outer router says itself counts.
    check(
        &router(&["GET /a"]).nest("/a", router(&["GET /"])),
        &[("GET /a", "GET /a"), ("GET /a/", "GET /a/")],
    );
    check(&Router::new().nest("/a", router(&["GET /"])).get("/a", nothing), &[("GET /a", "GET /a")]);
    check(
        &router(&["GET /a"]).nest("/", router(&["GET /b", "GET /"])),
        &[("GET /b", "GET /b"), ("GET /", "GET /")],
    );
}

#[test]
fn an_unknown_path_belongs_to_the_longest_prefix() {
    let router = Router::new()
        .nest("/a", Router::new().nest("/b", router(&["GET /x"])).nest("/{p}", Router::new()))
        .nest("/", Router::new());
    let scope = |path| {
        let found = router.table.find(&Method::GET, path);
        assert!(matches!(found.target, Target::NotFound), "{path}");
        (found.scope, router.table.scopes[found.scope].prefix.to_string())
    };
    for (path, prefix) in [
        ("/", ""),
        ("/z", ""),
        ("/a", "/a"),
        ("/a/", "/a"),
        ("/a/b", "/a/b"),
        ("/a/b/y", "/a/b"),
        ("/a/c", "/a/{p}"),
        ("/ab", ""),
    ] {
        assert_eq!(scope(path).1, prefix, "{path}");
    }
    assert_eq!(scope("/z").0, 0, "the router's own 404s stay its own");
}

#[test]
fn patterns_are_checked() {
    let message = |route: &str| {
        let route = route.to_owned();
        let panic = std::panic::catch_unwind(|| drop(router(&[&format!("GET {route}")]))).unwrap_err();
        panic.downcast_ref::<String>().cloned().unwrap()
    };
    for bad in [
        "",
        "example.com",
        "*",
        "a/b",
        "/a/*/b",
        "/a*",
        "/*a",
        "/{",
        "/{}",
        "/{1a}",
        "/{a-b}",
        "/{a}b",
        "/x{a}",
        "/a?b",
        "/a#b",
        "/a b",
        "/\u{e4}",
        "/\n",
        "/%",
        "/%4",
        "/%zz",
        "/./a",
        "/a/..",
        "/%2e%2E",
        "/.%2e/x",
        "/{a}/{b}/{a}",
    ] {
        let text = message(bad);
        assert!(text.contains(&format!("`GET {bad}` is not valid: ")), "{bad}: {text}");
    }
    assert!(message(&"/a".repeat(65)).contains("64 segments"));
    assert!(message("/{a}/{a}").contains("`a` twice"));
    assert!(message("/items/:id").contains("written `{name}`"));
    drop(router(&["GET /%3Aid"]));
    drop(router(&[&format!("GET {}", "/a".repeat(64))]));
    for good in ["/", "//", "/a//b", "/%41", "/a:b@c;d=e", "/...", "/.well-known/x", "/%2e%2e%2e"] {
        drop(router(&[&format!("GET {good}")]));
    }
}

fn panics(build: impl FnOnce() -> Router + std::panic::UnwindSafe) -> String {
    let panic = std::panic::catch_unwind(|| drop(build())).unwrap_err();
    panic.downcast_ref::<String>().cloned().unwrap()
}

#[test]
fn prefixes_are_checked() {
    for bad in ["a", "/a/", "/a/*", "/*", "/{a}/{a}", "//"] {
        let text = panics(|| Router::new().nest(bad, Router::new()));
        assert!(text.contains(&format!("`{bad}` is not valid")), "{text}");
    }
    let text = panics(|| Router::new().nest("/{id}", router(&["GET /{id}"])));
    assert!(text.contains("`GET /{id}/{id}` is not valid: it has the parameter `id` twice"), "{text}");
    let text = panics(|| Router::new().nest("/a/b", router(&[&format!("GET {}", "/a".repeat(63))])));
    assert!(text.contains("64 segments"), "{text}");
    let deep =
        |levels: usize| (0..levels).fold(router(&["GET /a/a"]), |inner, _| Router::new().nest("/b", inner));
    assert_eq!(deep(62).table.routes.len(), 1);
    assert!(panics(|| deep(63)).contains("64 segments"));
}

#[test]
fn two_routes_that_match_the_same_are_refused() {
    let conflicts = [
        (["GET /a/{x}", "GET /a/{y}"], "`GET /a/{y}` matches the same requests as the route `GET /a/{x}`"),
        (["ANY /shop/*", "ANY /shop/*"], "`ANY /shop/*`"),
        (["PURGE /", "PURGE /"], "`PURGE /`"),
    ];
    for (routes, part) in conflicts {
        let text = panics(|| router(&routes));
        assert!(text.contains(part), "{text}");
    }
    let text = panics(|| router(&["GET /a/{x}/b"]).nest("/a", router(&["GET /{y}/b"])));
    assert!(text.contains("`GET /a/{y}/b`") && text.contains("`GET /a/{x}/b`"), "{text}");
    let all = ["GET /shop", "GET /shop/", "GET /shop/*", "GET /{x}", "GET /{x}/", "ANY /shop", "HEAD /shop"];
    assert_eq!(router(&all).table.routes.len(), all.len());
}

#[test]
fn routes_are_listed() {
    assert_eq!(
        format!("{:?}", router(&["GET /a"]).nest("/b", router(&["ANY /{c}"]))),
        r#"["GET /a", "ANY /b/{c}"]"#
    );
}

/// How specific a pattern is for a path, the smaller the more; `None` if it does not match.
fn naive_rank(pattern: &str, path: &str) -> Option<Vec<u8>> {
    let parts: Vec<&str> = path[1..].split('/').collect();
    let pattern: Vec<&str> = pattern[1..].split('/').collect();
    let mut kinds = Vec::new();
    for (number, segment) in pattern.iter().enumerate() {
        match (*segment, parts.get(number)) {
            ("*", _) => {
                kinds.push(2);
                return Some(kinds);
            }
            (segment, Some(part)) if segment.starts_with('{') && !part.is_empty() => kinds.push(1),
            (segment, Some(part)) if segment == *part => kinds.push(0),
            _ => return None,
        }
    }
    (parts.len() == pattern.len()).then_some(kinds)
}

/// A route of the model: nested ones take the prefix for the prefix and a slash.
struct Naive {
    method: &'static str,
    pattern: String,
    nested: bool,
}

fn naive(routes: &[Naive], prefix: &str, method: &str, path: &str) -> String {
    let suits = |own: &str| match own {
        "ANY" => Some(2),
        own if own == method => Some(0),
        "GET" if method == "HEAD" => Some(1),
        _ => None,
    };
    let with_slash = format!("{path}/");
    let rank = |route: &Naive| {
        let path = if route.nested && path == prefix { &with_slash } else { path };
        let mut rank = naive_rank(&route.pattern, path)?;
        // Past the end of a pattern nothing is less specific.
        rank.resize(16, 0);
        Some(rank)
    };
    let matching: Vec<_> = routes.iter().filter_map(|route| Some((rank(route)?, route))).collect();
    let best = matching.iter().filter_map(|(rank, route)| {
        Some((rank, suits(route.method)?, route.nested, format!("{} {}", route.method, route.pattern)))
    });
    match best.min() {
        Some((.., route)) => route,
        None if matching.is_empty() => "404".to_owned(),
        None if method == "OPTIONS" => "204".to_owned(),
        None => "405".to_owned(),
    }
}

fn a_pattern() -> impl Strategy<Value = String> {
    let segments = prop::collection::vec(prop::sample::select(vec!["a", "b", "", "{}", "a"]), 0..4);
    (segments, any::<bool>()).prop_map(|(segments, rest)| {
        let mut pattern = String::new();
        for (number, segment) in segments.iter().enumerate() {
            pattern.push('/');
            match *segment {
                "{}" => pattern.push_str(&format!("{{p{number}}}")),
                literal => pattern.push_str(literal),
            }
        }
        match rest {
            true => pattern + "/*",
            false if segments.is_empty() => "/".to_owned(),
            false => pattern,
        }
    })
}

fn a_path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "", "c"]), 1..5)
        .prop_map(|segments| format!("/{}", segments.join("/")))
}

fn a_method() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["GET", "HEAD", "POST", "OPTIONS", "ANY"])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn it_agrees_with_trying_every_pattern(
        routes in prop::collection::vec((a_method(), a_pattern()), 1..14),
        prefix in prop::sample::select(vec!["", "/a", "/a/b"]),
        requests in prop::collection::vec((a_method(), a_path()), 1..12),
    ) {
        let mut known: Vec<Naive> = Vec::new();
        let (mut outer, mut inner) = (Router::new(), Router::new());
        for (number, (method, pattern)) in routes.iter().enumerate() {
            let nested = number % 2 == 1;
            let whole = if nested { format!("{prefix}{pattern}") } else { pattern.clone() };
            let same = |other: &Naive| other.method == *method && is_same(("", &other.pattern), ("", &whole));
            if known.iter().any(same) {
                continue;
            }
            let route = format!("{method} {pattern}");
            (outer, inner) =
                if nested { (outer, add(inner, &route)) } else { (add(outer, &route), inner) };
            known.push(Naive { method, pattern: whole, nested });
        }
        let router = outer.nest(if prefix.is_empty() { "/" } else { prefix }, inner);
        for (method, path) in &requests {
            let (answer, expected) = (ask(&router, method, path), naive(&known, prefix, method, path));
            // Parameters and `Allow` follow; they are compared in the tables above.
            let rest = answer.strip_prefix(&expected);
            prop_assert!(
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')),
                "{method} {path}: {answer}, not {expected}"
            );
        }
    }
}
