//! Middleware, and those that come with the crate, against the host in memory.

use std::cell::RefCell;
use std::io::{ErrorKind, Read};
use std::rc::Rc;
use std::time::Duration;
use tidegate_sdk::log::Level;
use tidegate_sdk::middleware::{self, Next};
use tidegate_sdk::test::{Answer, Exchange, app};
use tidegate_sdk::{
    Answering, Error, IntoResponse, Method, Request, Response, Result, Router, StatusCode, now, sleep, task,
};

/// What happened, in order.
#[derive(Clone, Default)]
struct Trace(Rc<RefCell<Vec<String>>>);

impl Trace {
    fn say(&self, text: impl Into<String>) {
        self.0.borrow_mut().push(text.into());
    }

    fn take(&self) -> String {
        self.0.take().join(" ")
    }

    fn layer(&self, name: &'static str) -> impl Fn(Request, Next) -> Response + 'static {
        let trace = self.clone();
        move |request, next| {
            trace.say(format!("{name}("));
            let response = next.run(request);
            trace.say(format!("){name}"));
            response
        }
    }

    fn layer_async(&self, name: &'static str) -> impl AsyncLayer {
        let trace = self.clone();
        move |request: Request, next: Next| {
            let trace = trace.clone();
            Box::pin(async move {
                trace.say(format!("{name}("));
                task::sleep(Duration::from_secs(1)).await;
                let response = next.run_async(request).await;
                trace.say(format!("){name}"));
                response
            }) as std::pin::Pin<Box<dyn Future<Output = Response>>>
        }
    }

    fn handler(&self, name: &'static str) -> impl Fn(Request) -> &'static str + 'static {
        let trace = self.clone();
        move |_| {
            trace.say(name);
            name
        }
    }
}

trait AsyncLayer: Fn(Request, Next) -> std::pin::Pin<Box<dyn Future<Output = Response>>> + 'static {}
impl<F: Fn(Request, Next) -> std::pin::Pin<Box<dyn Future<Output = Response>>> + 'static> AsyncLayer for F {}

#[test]
fn the_first_is_outermost_wherever_it_is_added() {
    let trace = Trace::default();
    let inner = Router::new()
        .with(trace.layer_async("c"))
        .get("/", trace.handler("inner"))
        .nest("/deep", Router::new().get("/", trace.handler("deep")).with(trace.layer("e")))
        .with(trace.layer("d"));
    let app = app(Router::new()
        .with(trace.layer("a"))
        .get("/", trace.handler("outer"))
        .nest("/x", inner)
        .with(trace.layer_async("b")));
    let cases = [
        ("/", 200, "a( b( outer )b )a"),
        ("/x", 200, "a( b( c( d( inner )d )c )b )a"),
        ("/x/deep", 200, "a( b( c( d( e( deep )e )d )c )b )a"),
        ("/nowhere", 404, "a( b( )b )a"),
        ("/x/nowhere", 404, "a( b( c( d( )d )c )b )a"),
        ("/x/deep/nowhere", 404, "a( b( c( d( e( )e )d )c )b )a"),
    ];
    for (path, status, expected) in cases {
        assert_eq!(app.get(path).status.unwrap(), status, "{path}");
        assert_eq!(trace.take(), expected, "{path}");
        // Other methods: the router's own answers are wrapped as well.
        let answer = app.send(Exchange::new("PUT", path));
        assert_eq!(answer.status.unwrap(), if status == 200 { 405 } else { 404 }, "{path}");
        assert_eq!(trace.take().matches('(').count(), expected.matches('(').count(), "{path}");
    }
}

#[test]
fn a_middleware_may_answer_itself() {
    let trace = Trace::default();
    let stop = |_: Request, _: Next| Err::<Response, _>(Error::unauthorized("who?"));
    let app = app(Router::new()
        .get("/", trace.handler("h"))
        .with(trace.layer("a"))
        .with(stop)
        .with(trace.layer("b")));
    assert_eq!(app.get("/").status.unwrap(), 401);
    assert_eq!(trace.take(), "a( )a");
}

#[test]
fn middleware_of_a_type_of_its_own() {
    struct Header(&'static str);
    impl middleware::Middleware<()> for Header {
        fn handle(&self, request: Request, next: Next) -> Answering {
            let value = self.0;
            next.call(request).map(move |response| response.with_header("x-by", value))
        }
    }
    let blocking = Router::new().get("/", |_: Request| "x").with(Header("me"));
    assert_eq!(Exchange::get("/").run(blocking).headers["x-by"], "me");
    let waiting = Router::new().get("/", |_: Request| async { "x" }).with(Header("me"));
    assert_eq!(Exchange::get("/").run(waiting).headers["x-by"], "me");
}

#[test]
fn parameters_are_known_to_middleware() {
    let look = |request: Request, next: Next| {
        let id = request.param("id").unwrap_or("-").to_owned();
        next.run(request).with_header("x-id", id)
    };
    let app = app(Router::new().get("/{id}", |_: Request| "x").with(look));
    assert_eq!(app.get("/7").headers["x-id"], "7");
    assert_eq!(app.get("/7/8").headers["x-id"], "-");
}

fn lines(_: Request) -> Response {
    Response::stream(|body| {
        for _ in 0..4 {
            std::io::Write::write_all(body, b"line\n")?;
        }
        Ok(())
    })
}

async fn failing_late(_: Request) -> Response {
    Response::stream_async(async |body| {
        body.send(b"half").await?;
        Err(Error::internal("disk on fire"))
    })
}

#[test]
fn a_stream_goes_through_middleware_before_its_body_runs() {
    let trace = Trace::default();
    let seen = trace.clone();
    let mark = move |request: Request, next: Next| {
        let response = next.run(request);
        seen.say(format!("{:?}", response.body().is_none()));
        response.with_header("x-a", "1").with_status(StatusCode::ACCEPTED)
    };
    let app =
        app(Router::new().get("/", lines).get("/late", failing_late).with(mark).with(trace.layer_async("b")));
    let answer = app.send(Exchange::get("/").pipe_bytes(7));
    assert_eq!((answer.status.unwrap().as_u16(), answer.text()), (202, "line\nline\nline\nline\n"));
    assert_eq!(answer.headers["x-a"], "1");
    assert!(answer.finished && answer.queued_bytes_max <= 7);
    assert_eq!(trace.take(), "b( )b true");

    let answer = app.get("/late");
    assert_eq!((answer.status.unwrap().as_u16(), answer.text()), (202, "half"));
    assert!(answer.failed && !answer.finished);
    assert!(answer.logs.iter().any(|(level, text)| *level == Level::Error && text.contains("disk on fire")));
}

#[test]
fn the_logger_says_method_path_status_and_time() {
    let slow = |_: Request| async {
        task::sleep(Duration::from_millis(1_500)).await;
        StatusCode::IM_A_TEAPOT
    };
    let app = app(Router::new().get("/", |_: Request| "x").post("/slow", slow).with(middleware::logger()));
    let line = |answer: Answer| {
        assert_eq!(answer.logs.len(), 1, "{:?}", answer.logs);
        assert_eq!(answer.logs[0].0, Level::Info);
        answer.logs[0].1.clone()
    };
    assert!(line(app.get("/?secret=1")).starts_with("GET / 200 in "));
    assert_eq!(line(app.send(Exchange::post("/slow"))), "POST /slow 418 in 1.5s");
    assert!(line(app.get("/nowhere")).starts_with("GET /nowhere 404 in "));
}

#[test]
fn a_body_within_its_limit_passes_and_one_above_does_not() {
    let read = |mut request: Request| request.body().bytes();
    let read_async = |mut request: Request| async move { request.body().collect().await };
    let forward = |mut request: Request| {
        Response::stream(move |out| {
            out.forward(request.body())?;
            Ok(())
        })
    };
    let app = app(Router::new()
        .post("/read", read)
        .post("/async", read_async)
        .post("/forward", forward)
        .post("/ignore", |_: Request| "ignored")
        .with(middleware::body_limit(10))
        .with(middleware::body_limit(20)));
    for size in [0_usize, 1, 9, 10, 11, 12, 40_000] {
        let whole = vec![b'x'; size];
        let declared = |path| Exchange::post(path).body(whole.clone());
        let chunked = |path| whole.chunks(4).fold(Exchange::post(path).chunk(""), Exchange::chunk);
        for path in ["/read", "/async"] {
            for exchange in [declared(path), chunked(path), Exchange::post(path).chunk(whole.clone())] {
                let answer = app.send(exchange);
                let status = if size <= 10 { 200 } else { 413 };
                assert_eq!(answer.status.unwrap(), status, "{path} {size}");
                assert!(size > 10 || answer.body == whole, "{path} {size}");
            }
        }
        assert_eq!(app.send(declared("/ignore")).status.unwrap(), if size <= 10 { 200 } else { 413 });
        assert_eq!(app.send(chunked("/ignore")).text(), "ignored");
        let answer = app.send(chunked("/forward"));
        assert_eq!(answer.body, whole[..size.min(10)], "{size}");
        assert_eq!((answer.finished, answer.failed), (size <= 10, size > 10), "{size}");
    }
    // The handler does not run, and nothing is read.
    assert_eq!(app.send(Exchange::post("/read").body("12345678901")).calls, ["request_head", "respond"]);
}

#[test]
fn a_body_that_was_too_long_never_ends() {
    let twice = |mut request: Request| {
        let body = request.body();
        let mut text = String::new();
        let first = body.read_to_string(&mut text).unwrap_err().kind();
        let second = body.read(&mut [0; 8]).unwrap_err().kind();
        assert_eq!((first, second), (ErrorKind::FileTooLarge, ErrorKind::FileTooLarge));
        "x"
    };
    let app = app(Router::new().post("/", twice).with(middleware::body_limit(4)));
    app.send(Exchange::post("/").chunk("12345")).assert_status(200);
    app.send(Exchange::post("/").chunk("1234").chunk("5")).assert_status(200);
}

fn timed(limit_secs: u64, router: Router) -> Router {
    router.with(middleware::timeout(Duration::from_secs(limit_secs)))
}

#[test]
fn what_takes_too_long_is_a_503() {
    let app = app(timed(
        5,
        Router::new()
            .get("/quick", |_: Request| "quick")
            .get("/async", |_: Request| async {
                task::sleep(Duration::from_secs(4)).await;
                "in time"
            })
            .get("/slow", |_: Request| async {
                task::sleep(Duration::from_secs(20)).await;
                "late"
            })
            .get("/fails", |_: Request| Err::<&str, _>(Error::conflict("taken")))
            .post("/read", |mut request: Request| request.body().bytes())
            .post("/read_async", |mut request: Request| async move { request.body().collect().await })
            .get("/stubborn", |_: Request| {
                sleep(Duration::from_secs(20));
                "all the same"
            }),
    ));
    app.get("/quick").assert_status(200);
    assert_eq!(app.get("/async").text(), "in time");
    app.get("/fails").assert_status(409);
    let late = |answer: Answer| {
        answer.assert_status(503);
        assert!(answer.text().contains("the answer took longer than 5s"), "{}", answer.text());
    };
    late(app.get("/slow"));
    let body = |path, secs| Exchange::post(path).chunk_after(Duration::from_secs(secs), "x");
    assert_eq!(app.send(body("/read", 4)).text(), "x");
    assert_eq!(app.send(body("/read_async", 4)).text(), "x");
    late(app.send(body("/read", 20)));
    late(app.send(body("/read_async", 20)));
    // It cannot be stopped, but its sleep is over at once, and what it has to say is not thrown away.
    assert_eq!(app.get("/stubborn").text(), "all the same");
}

#[test]
fn a_blocking_middleware_inside_an_async_one_is_under_the_limit_too() {
    let trace = Trace::default();
    let router = Router::new()
        .post("/", |mut request: Request| request.body().bytes())
        .with(middleware::timeout(Duration::from_secs(5)))
        .with(trace.layer_async("a"))
        .with(trace.layer("b"));
    let answer = Exchange::post("/").chunk_after(Duration::from_secs(20), "x").run(router);
    answer.assert_status(503);
}

#[test]
fn the_dropped_handler_does_not_go_on() {
    let trace = Trace::default();
    let said = trace.clone();
    let slow = move |_: Request| {
        let said = said.clone();
        async move {
            said.say("begun");
            task::sleep(Duration::from_secs(20)).await;
            said.say("done");
            "late"
        }
    };
    Exchange::get("/").run(timed(5, Router::new().get("/", slow))).assert_status(503);
    assert_eq!(trace.take(), "begun");
}

#[test]
fn of_two_timeouts_the_shorter_counts() {
    let slow = |_: Request| async {
        task::sleep(Duration::from_secs(20)).await;
        "late"
    };
    for (outer, inner) in [(5, 9), (9, 5)] {
        let answer = Exchange::get("/").run(timed(inner, timed(outer, Router::new().get("/", slow))));
        assert!(answer.text().contains("longer than 5s"), "{}", answer.text());
    }
}

#[test]
fn a_limit_beyond_the_clock_is_none_and_one_of_no_time_is_for_waits_only() {
    async fn later(_: Request) -> &'static str {
        task::sleep(Duration::from_secs(2)).await;
        "later"
    }
    let answer = |limit, path| {
        let router = Router::new().get("/", |_: Request| "now").get("/later", later);
        Exchange::get(path).run(router.with(middleware::timeout(limit)))
    };
    for (limit, path, status) in [
        (Duration::MAX, "/", 200),
        (Duration::MAX, "/later", 200),
        (Duration::ZERO, "/", 200),
        (Duration::ZERO, "/later", 503),
    ] {
        assert_eq!(answer(limit, path).status.unwrap(), status, "{limit:?} {path}");
    }
}

#[test]
fn a_limit_is_not_that_of_the_tasks_that_run_meanwhile() {
    fn blocking(_: Request) -> String {
        let start = now();
        task::block_on(task::sleep(Duration::from_secs(5)));
        format!("{:?}", now() - start)
    }
    async fn beside(request: Request, next: Next) -> String {
        let start = now();
        let slept = task::spawn(async move {
            task::sleep(Duration::from_secs(10)).await;
            now() - start
        });
        let paused = async {
            task::sleep(Duration::from_secs(7)).await;
            now() - start
        };
        // The pause begins first, so that it waits already when the limit is over.
        let (paused, answer) = task::join(paused, next.run_async(request)).await;
        let body = String::from_utf8_lossy(answer.body().unwrap().as_bytes()).into_owned();
        format!("{body} {paused:?} {:?}", slept.await)
    }
    let inner = Router::new().get("/", blocking).with(middleware::timeout(Duration::from_secs(1)));
    let answer = Exchange::get("/").run(Router::new().nest("/", inner).with(beside));
    assert_eq!(answer.text(), "1s 7s 10s");
    // Those that wait while nobody is under a limit any more are asked about once each, not over and over.
    assert!(answer.calls.len() < 20, "{:?}", answer.calls);
}

#[test]
fn a_streamed_body_is_not_under_the_timeout() {
    let slow = |_: Request| {
        Response::stream_async(async |body| {
            task::sleep(Duration::from_secs(20)).await;
            Ok(body.send(b"late").await?)
        })
    };
    let blocking = |mut request: Request| {
        Response::stream(move |out| {
            out.forward(request.body())?;
            Ok(())
        })
    };
    let app = app(timed(5, Router::new().get("/", slow).post("/", blocking)));
    assert_eq!(app.get("/").text(), "late");
    assert_eq!(app.send(Exchange::post("/").chunk_after(Duration::from_secs(20), "late")).text(), "late");
}

#[test]
fn errors_look_as_the_app_wants() {
    fn page(error: &Error) -> (StatusCode, String) {
        (error.status_code(), format!("sorry: {}", error.message().unwrap_or("broken")))
    }
    let fail = |_: Request| async { Err::<&str, _>(std::io::Error::other("disk on fire")) };
    let refuse = |_: Request, _: Next| Err::<Response, _>(Error::forbidden("no"));
    let app = app(Router::new()
        .get("/", |_: Request| "fine")
        .get("/fail", fail)
        .get("/status", |_: Request| StatusCode::NOT_FOUND)
        .nest("/closed", Router::new().with(refuse))
        .with(middleware::on_error(page)));
    assert_eq!(app.get("/").text(), "fine");
    let answer = app.get("/fail");
    assert_eq!((answer.status.unwrap().as_u16(), answer.text()), (500, "sorry: broken"));
    assert!(answer.logs[0].1.contains("disk on fire"));
    assert_eq!(app.get("/nowhere").text(), "sorry: nothing is at this path");
    assert_eq!(app.get("/closed/x").text(), "sorry: no");
    let answer = app.send(Exchange::post("/fail"));
    assert_eq!(
        (answer.status.unwrap().as_u16(), answer.headers["allow"].as_bytes()),
        (405, &b"GET, HEAD, OPTIONS"[..])
    );
    let answer = app.get("/status");
    assert_eq!((answer.status.unwrap().as_u16(), answer.text()), (404, ""));
}

#[test]
fn the_error_handler_has_the_last_word_on_headers() {
    let page =
        |error: &Error| Response::status(error.status_code()).with_header("retry-after", "9").into_response();
    let fail = |_: Request| {
        Err::<&str, _>(Error::unavailable("x").with_header("retry-after", 3).with_header("x-a", 1))
    };
    let answer = Exchange::get("/").run(Router::new().get("/", fail).with(middleware::on_error(page)));
    assert_eq!(
        (answer.headers["retry-after"].as_bytes(), answer.headers["x-a"].as_bytes()),
        (&b"9"[..], &b"1"[..])
    );
}

#[test]
fn what_middleware_put_on_an_error_outlives_the_error_handler() {
    fn marked(request: Request, next: Next) -> Response {
        let mut response =
            next.run(request).with_header("x-request", "7").with_header("content-language", "en");
        response.headers_mut().append("set-cookie", "a=1".parse().unwrap());
        response.headers_mut().append("set-cookie", "b=2".parse().unwrap());
        response
    }
    let page = |error: &Error| Response::html("sorry").with_status(error.status_code());
    let app = app(Router::new()
        .with(middleware::on_error(page))
        .with(middleware::cors().origins([SHOP]))
        .with(marked)
        .get("/", |_: Request| Err::<&str, _>(Error::bad_request("no"))));
    let answer = app.send(Exchange::get("/").header("origin", SHOP));
    assert_eq!((answer.status.unwrap().as_u16(), answer.text()), (400, "sorry"));
    assert_eq!(answer.headers["access-control-allow-origin"], SHOP);
    assert_eq!(answer.headers["x-request"], "7");
    assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 2);
    assert_eq!(
        answer.headers.get_all("content-type").iter().collect::<Vec<_>>(),
        ["text/html; charset=utf-8"]
    );
    assert!(!answer.headers.contains_key("content-language"));
}

const SHOP: &str = "https://shop.example";

fn preflight(origin: &str) -> Exchange {
    Exchange::new("OPTIONS", "/")
        .header("origin", origin)
        .header("access-control-request-method", "PUT")
        .header("access-control-request-headers", "x-a, content-type")
}

fn with_cors(cors: middleware::Cors) -> Router {
    Router::new().put("/", |_: Request| "put").get("/", |_: Request| "got").with(cors)
}

fn names(answer: &Answer) -> Vec<&str> {
    let mut names: Vec<&str> = answer.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    names
}

#[test]
fn cors_lets_any_origin_in_by_default() {
    let app = app(with_cors(middleware::cors()));
    let answer = app.send(Exchange::get("/").header("origin", SHOP));
    assert_eq!(answer.text(), "got");
    assert_eq!(names(&answer), ["access-control-allow-origin", "content-type"]);
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(app.get("/").header("access-control-allow-origin"), Some("*"));

    let answer = app.send(preflight(SHOP));
    answer.assert_status(204);
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("access-control-allow-methods"), Some("GET, HEAD, POST, PUT, PATCH, DELETE"));
    assert_eq!(answer.header("access-control-allow-headers"), Some("x-a, content-type"));
    assert_eq!(answer.header("vary"), Some("access-control-request-headers"));
    assert_eq!(answer.header("access-control-max-age"), None);
    assert_eq!(answer.header("allow"), None);
}

#[test]
fn cors_lets_in_the_origins_it_is_told() {
    let cors = middleware::cors()
        .origins([SHOP, "http://localhost:3000"])
        .methods([Method::PUT])
        .headers(["X-A"])
        .expose(["X-B", "etag"])
        .credentials()
        .max_age(Duration::from_secs(60));
    let app = app(with_cors(cors));
    let answer = app.send(Exchange::get("/").header("origin", SHOP));
    assert_eq!(answer.header("access-control-allow-origin"), Some(SHOP));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(answer.header("access-control-expose-headers"), Some("x-b, etag"));
    assert_eq!(answer.header("vary"), Some("origin"));

    let answer = app.send(preflight("http://localhost:3000"));
    answer.assert_status(204);
    assert_eq!(answer.header("access-control-allow-origin"), Some("http://localhost:3000"));
    assert_eq!(answer.header("access-control-allow-methods"), Some("PUT"));
    assert_eq!(answer.header("access-control-allow-headers"), Some("x-a"));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(answer.header("access-control-max-age"), Some("60"));
    assert_eq!(answer.header("access-control-expose-headers"), None);

    // Others get their answer, and nothing that would let a page see it.
    for origin in ["https://evil.example", "https://shop.example.evil.example", "http://shop.example", "null"]
    {
        let answer = app.send(Exchange::get("/").header("origin", origin));
        assert_eq!((answer.text(), names(&answer)), ("got", vec!["content-type", "vary"]), "{origin}");
        let answer = app.send(preflight(origin));
        answer.assert_status(204);
        assert_eq!(names(&answer), ["vary"], "{origin}");
    }
    // Caches must know, also where no origin was given.
    assert_eq!(app.get("/").header("vary"), Some("origin"));
}

#[test]
fn cors_leaves_other_options_alone_and_marks_errors() {
    let app = app(with_cors(middleware::cors().origins([SHOP])));
    let answer = app.send(Exchange::new("OPTIONS", "/").header("origin", SHOP));
    assert_eq!(answer.header("allow"), Some("PUT, GET, HEAD, OPTIONS"));
    let answer = app.send(Exchange::get("/nowhere").header("origin", SHOP));
    answer.assert_status(404);
    assert_eq!(answer.header("access-control-allow-origin"), Some(SHOP), "a page may read the error");
}

#[test]
fn cors_keeps_the_vary_of_others() {
    let get = |_: Request| Response::text("x").with_header("vary", "accept");
    let answer = Exchange::get("/")
        .header("origin", SHOP)
        .run(Router::new().get("/", get).with(middleware::cors().origins([SHOP])));
    assert_eq!(answer.headers.get_all("vary").iter().collect::<Vec<_>>(), ["accept", "origin"]);
}

#[test]
fn cors_refuses_what_would_be_unsafe_or_useless() {
    let message = |build: fn() -> middleware::Cors| {
        let panic = std::panic::catch_unwind(|| drop(build())).unwrap_err();
        panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()))
            .unwrap()
    };
    assert!(message(|| middleware::cors().credentials()).contains("`origins` before `credentials`"));
    assert!(message(|| middleware::cors().origins(["https://a.example/"])).contains("`https://a.example/`"));
    assert!(message(|| middleware::cors().origins(["a.example"])).contains("not an origin"));
    assert!(message(|| middleware::cors().origins(["https://A.example"])).contains("lower case"));
    assert!(message(|| middleware::cors().origins(["*"])).contains("not an origin"));
    assert!(message(|| middleware::cors().origins(["null"])).contains("not an origin"));
    assert!(message(|| middleware::cors().headers(["a b"])).contains("`a b`"));
    assert!(message(|| middleware::cors().expose(["a b"])).contains("`a b`"));
}

#[test]
fn middleware_that_returns_a_result_is_middleware() -> Result<()> {
    async fn check(request: Request, next: Next) -> Result<Response> {
        if request.query().is_some() {
            return Err(Error::bad_request("no query here"));
        }
        Ok(next.run_async(request).await)
    }
    let app = app(Router::new().get("/", |_: Request| "x").with(check));
    app.get("/?a").assert_status(400);
    app.get("/").assert_status(200);
    Ok(())
}
