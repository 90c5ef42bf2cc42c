//! The router as handlers see it, against the host in memory. Which route is found is tested beside `find`.

use std::cell::Cell;
use std::rc::Rc;
use tidegate_sdk::test::{Answer, Exchange, app};
use tidegate_sdk::{
    Error, Method, Request, Response, Result, Router, StatusCode, handler, middleware::Next, task,
};

const PROBLEM: &str = "application/problem+json";

fn path(request: Request) -> String {
    request.path().to_owned()
}

async fn show(request: Request) -> Result<String> {
    task::sleep(std::time::Duration::from_secs(1)).await;
    let id: u32 = request.param_as("id")?;
    Ok(format!("item {id}"))
}

async fn add(mut request: Request) -> Result<Response> {
    let text = request.body().collect_text().await?;
    Ok(Response::text(text).with_status(StatusCode::CREATED))
}

#[handler]
fn shop() -> Router {
    let items =
        Router::new().get("/{id}", show).post("/", add).delete("/{id}", |_: Request| StatusCode::NO_CONTENT);
    Router::new()
        .get("/", |_: Request| "welcome")
        .nest("/items", items)
        .get("/files/*", |request: Request| request.param("*").unwrap_or_default().to_owned())
        .get("/numbers", |_: Request| Response::stream(|body| Ok(body.try_write(b"1").map(drop)?)))
}

fn ask(method: &str, target: &str) -> Answer {
    app(shop()).send(Exchange::new(method, target))
}

#[test]
fn every_shape_of_handler_is_a_route() {
    assert_eq!(ask("GET", "/").text(), "welcome");
    assert_eq!(ask("GET", "/?a=b").text(), "welcome");
    assert_eq!(ask("GET", "/items/7").text(), "item 7");
    assert_eq!(ask("GET", "/numbers").text(), "1");
    assert_eq!(ask("GET", "/files/a/b%20c").text(), "a/b c");
    assert_eq!(ask("DELETE", "/items/7").status.unwrap(), 204);
    let added = app(shop()).post("/items", "new");
    assert_eq!((added.status.unwrap().as_u16(), added.text()), (201, "new"));
}

fn problem(answer: &Answer, status: u16) {
    assert_eq!(answer.status.unwrap(), status);
    assert_eq!(answer.headers["content-type"], PROBLEM);
    assert!(answer.text().contains(&format!(r#""status":{status}"#)), "{}", answer.text());
    assert!(answer.finished && !answer.failed);
}

#[test]
fn what_has_no_route_is_answered_by_the_router() {
    problem(&ask("GET", "/nowhere"), 404);
    let answer = ask("PUT", "/items/7");
    problem(&answer, 405);
    assert_eq!(answer.headers["allow"], "GET, HEAD, DELETE, OPTIONS");
    assert!(answer.text().contains("this path takes GET, HEAD, DELETE, OPTIONS"));
    let answer = ask("OPTIONS", "/items/7");
    assert_eq!((answer.status.unwrap().as_u16(), answer.body.len()), (204, 0));
    assert_eq!(answer.headers["allow"], "GET, HEAD, DELETE, OPTIONS");
    problem(&ask("OPTIONS", "/nowhere"), 404);
    problem(&ask("OPTIONS", "*"), 404);
    problem(&ask("GET", "/items/x"), 404);
    assert!(ask("GET", "/items/x").text().contains("`id` in the path is not valid"));
    let answer = ask("GET", "/items/%FF");
    problem(&answer, 400);
    assert!(answer.text().contains("`id`"), "{}", answer.text());
}

#[test]
fn head_is_answered_by_get() {
    let router = || Router::new().get("/", |request: Request| request.method().to_string());
    let answer = Exchange::new("HEAD", "/").run(router());
    assert_eq!((answer.status.unwrap().as_u16(), answer.text()), (200, "HEAD"));
    // A stream's function does not run for it.
    let answer = ask("HEAD", "/numbers");
    assert_eq!((answer.status.unwrap().as_u16(), answer.text()), (200, ""));
    assert!(answer.finished);
}

#[test]
fn routes_are_below_the_mount() {
    let cases = [
        ("", "/a", 200),
        ("", "/shop/a", 404),
        ("/shop", "/shop", 200),
        ("/shop", "/shop/", 200),
        ("/shop", "/shop/a", 200),
        ("/shop", "/shop/shop", 404),
    ];
    for (mount, target, status) in cases {
        let answer = Exchange::get(target).mount(mount).run(Router::new().get("/", path).get("/a", path));
        answer.assert_status(status);
        assert!(status == 404 || answer.text() == target, "handlers see the whole path");
    }
}

#[test]
fn parameters_of_the_router_come_before_those_of_the_app() {
    let look = |request: Request| {
        let param = |name| request.param(name).unwrap_or("-").to_owned();
        [param("id"), param("tenant"), param("raw"), param("none")].join(" ")
    };
    let answer = Exchange::get("/items/a%2Fb")
        .param("id", "outer")
        .param("tenant", "caf%C3%A9")
        .param("raw", "%FF")
        .run(Router::new().get("/items/{id}", look));
    assert_eq!(answer.text(), "a/b caf\u{e9} - -");
}

#[test]
fn a_parameter_that_is_missing_or_wrong_is_a_404_that_names_it() {
    let parse = |request: Request| -> Result<String> { Ok(request.param_as::<u8>("n")?.to_string()) };
    let at = |route: &'static str, target: &str| Exchange::get(target).run(Router::new().get(route, parse));
    assert_eq!(at("/{n}", "/255").text(), "255");
    assert_eq!(at("/{n}", "/%32").text(), "2");
    for (route, target, part) in
        [("/{n}", "/256", "`n` in the path is not valid"), ("/{m}", "/1", "the path has no `n`")]
    {
        let answer = at(route, target);
        problem(&answer, 404);
        assert!(answer.text().contains(part), "{}", answer.text());
    }
}

#[test]
fn a_fallback_answers_unknown_paths_alone() {
    let inner = Router::new().get("/a", path);
    let own = Router::new().get("/a", path).fallback(|_: Request| async { "inner" });
    let router = || {
        Router::new()
            .get("/known", path)
            .fallback(|request: Request| (StatusCode::NOT_FOUND, format!("no {}", request.path())))
    };
    let outer = app(router().nest("/x", inner).nest("/y", own));
    assert_eq!(outer.get("/nowhere").text(), "no /nowhere");
    assert_eq!(outer.get("/x/nowhere").text(), "no /x/nowhere");
    assert_eq!(outer.get("/y/nowhere").text(), "inner");
    assert_eq!(outer.get("/y/a").text(), "/y/a");
    problem(&outer.send(Exchange::post("/known")), 405);
}

#[test]
fn a_router_is_a_handler_like_any_other() {
    let inner = || {
        Router::new().get("/a/{id}", |request: Request| {
            format!("{} {}", request.param("id").unwrap(), request.param("*").unwrap_or("-"))
        })
    };
    let outer = app(Router::new().any("/a/*", inner()).fallback(inner()));
    assert_eq!(outer.get("/a/1").text(), "1 1");
    problem(&outer.get("/b"), 404);
}

#[test]
fn handlers_may_keep_what_they_share() {
    let hits = Rc::new(Cell::new(0));
    let counter = Rc::clone(&hits);
    let count = move |_: Request| {
        counter.set(counter.get() + 1);
        counter.get().to_string()
    };
    let app = app(Router::new().get("/", count));
    assert_eq!((app.get("/").text(), app.get("/").text()), ("1", "2"));
    assert_eq!(hits.get(), 2);
}

#[test]
fn extensions_go_from_middleware_to_handler_and_into_http() {
    fn tag(mut request: Request, next: Next) -> Response {
        assert!(request.extensions().get::<u32>().is_none());
        request.extensions_mut().insert(7_u32);
        next.run(request)
    }
    let look = |request: Request| {
        let own = request.extensions().get::<u32>().copied();
        let theirs = request.into_http().extensions().get::<u32>().copied();
        format!("{own:?} {theirs:?}")
    };
    assert_eq!(Exchange::get("/").run(Router::new().get("/", look).with(tag)).text(), "Some(7) Some(7)");
}

#[test]
fn a_route_costs_no_crossing_more_than_its_request() {
    let answer = Exchange::get("/items").run(Router::new().get("/items", |_: Request| "x"));
    assert_eq!(answer.calls, ["request_head", "respond"]);
}

#[test]
fn errors_of_handlers_are_responses() {
    let fail = |_: Request| Err::<Response, _>(Error::forbidden("no"));
    let fail_async = |_: Request| async { Err::<&str, _>(std::io::Error::other("disk on fire")) };
    let app = app(Router::new().get("/a", fail).method(Method::TRACE, "/b", fail_async));
    problem(&app.get("/a"), 403);
    let answer = app.send(Exchange::new("TRACE", "/b"));
    problem(&answer, 500);
    assert!(answer.logs[0].1.contains("disk on fire"));
    assert!(!answer.text().contains("disk"));
}
