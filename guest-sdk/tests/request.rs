//! Requests and their bodies, against the host in memory.

use std::io::{ErrorKind, Read};
use tidegate_sdk::test::Exchange;
use tidegate_sdk::{Method, Request, Response, Result, StatusCode, Version, handler};

/// Runs `look` on a request as `exchange` describes it.
fn on(exchange: Exchange, look: impl FnOnce(Request)) -> Vec<&'static str> {
    let answer = exchange.run_once(|request| {
        look(request);
        Response::empty()
    });
    assert_eq!(answer.status, Some(StatusCode::OK));
    answer.calls
}

#[handler]
fn exported(request: Request) -> Result<String> {
    Ok(request.path().to_owned())
}

#[test]
fn an_exported_handler_is_still_a_function() {
    assert_eq!(Exchange::get("/a").run(exported).text(), "/a");
}

#[test]
fn a_request_that_is_ignored_costs_one_crossing() {
    assert_eq!(on(Exchange::get("/"), drop), ["respond"]);
}

#[test]
fn the_head_is_fetched_once_and_says_everything() {
    let exchange = Exchange::new("PATCH", "/shop/items/42?size=1&b=%20")
        .mount("/shop")
        .param("id", "42")
        .header("Accept", "text/html");
    let calls = on(exchange, |mut request| {
        assert_eq!(request.method(), Method::PATCH);
        assert_eq!(request.uri(), "/shop/items/42?size=1&b=%20");
        assert_eq!(request.path(), "/shop/items/42");
        assert_eq!(request.query(), Some("size=1&b=%20"));
        assert_eq!((request.mount(), request.path_below_mount()), ("/shop", "/items/42"));
        assert_eq!(request.authority(), "test.example");
        assert_eq!(request.version(), Version::HTTP_11);
        assert!(!request.is_secure());
        assert_eq!(request.headers()["accept"], "text/html");
        assert_eq!(request.header("ACCEPT"), Some("text/html"));
        assert_eq!(request.header("accept-language"), None);
        assert_eq!((request.param("id"), request.param("x")), (Some("42"), None));
        assert_eq!(request.peer_addr(), Some("192.0.2.1:4711".parse().unwrap()));
        assert_eq!(request.local_addr(), Some("127.0.0.1:8080".parse().unwrap()));
        assert_eq!(request.id(), "test-1");
        assert!(request.deadline().unwrap() > std::time::Instant::now());
        assert!(request.body().is_absent());
    });
    assert_eq!(calls, ["request_head", "respond"]);
}

#[test]
fn a_long_head_takes_a_second_call() {
    let long = "x".repeat(10_000);
    let calls = on(Exchange::get("/").header("x-long", &long), |request| {
        assert_eq!(request.header("x-long"), Some(long.as_str()));
    });
    assert_eq!(calls, ["request_head", "request_head", "respond"]);
}

#[test]
fn targets_are_split_in_every_form() {
    let cases = [
        ("/", "/", None),
        ("/?", "/", Some("")),
        ("/a?b?c", "/a", Some("b?c")),
        ("*", "*", None),
        ("http://a.example", "/", None),
        ("http://a.example?x", "/", Some("x")),
        ("http://a.example/b/c?x", "/b/c", Some("x")),
        ("/go?to=http://b.example/", "/go", Some("to=http://b.example/")),
        ("/go/http://b.example/", "/go/http://b.example/", None),
    ];
    for (target, path, query) in cases {
        on(Exchange::get(target), |request| {
            assert_eq!((request.path(), request.query()), (path, query), "{target}");
        });
    }
}

#[test]
fn a_mount_may_be_all_or_nothing_of_the_path() {
    for (mount, path, below) in
        [("", "/a", "/a"), ("/a", "/a", "/"), ("/a", "/a/", "/"), ("/a", "/a/b", "/b")]
    {
        on(Exchange::get(path).mount(mount), |request| {
            assert_eq!((request.mount(), request.path_below_mount()), (mount, below), "{path}");
        });
    }
}

#[test]
fn obs_text_in_a_header_breaks_nothing() {
    on(Exchange::get("/").header("x-name", b"caf\xe9").header("x-utf8", "café"), |request| {
        assert_eq!(request.header("x-name"), None);
        assert_eq!(request.header("x-utf8"), Some("café"));
        assert_eq!(request.headers()["x-name"].as_bytes(), b"caf\xe9");
    });
}

#[test]
fn the_request_of_the_http_crate_has_the_body_too() {
    let calls = on(Exchange::post("/a?b").header("x-a", "1").body("hello"), |mut request| {
        let mut start = [0; 2];
        request.body().read_exact(&mut start).unwrap();
        let (parts, mut body) = request.into_http().into_parts();
        assert_eq!((parts.method, parts.version), (Method::POST, Version::HTTP_11));
        assert_eq!(parts.uri, "/a?b");
        assert_eq!(parts.headers["x-a"], "1");
        assert_eq!(body.text().unwrap(), "llo");
    });
    assert_eq!(calls.iter().filter(|call| **call == "request_head").count(), 1);
}

#[test]
fn a_body_is_waited_for_and_read_to_its_end_once() {
    let calls = on(Exchange::post("/").chunk("ab").chunk("cde"), |mut request| {
        let body = request.body();
        assert_eq!(body.declared_bytes(), None);
        let mut text = String::new();
        body.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abcde");
        assert_eq!(body.read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(body.read(&mut []).unwrap(), 0);
    });
    assert_eq!(calls.iter().filter(|call| **call == "poll").count(), 2);
    assert_eq!(calls[calls.len() - 2..], ["read", "respond"]);
}

#[test]
fn try_read_says_when_there_is_nothing_yet() {
    on(Exchange::post("/").chunk("ab"), |mut request| {
        let body = request.body();
        let mut buf = [0; 1];
        assert_eq!(body.try_read(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
        body.readable().unwrap();
        assert_eq!(body.try_read(&mut buf).unwrap(), 1);
        assert_eq!(body.try_read(&mut buf).unwrap(), 1);
        assert_eq!(&buf, b"b");
        assert_eq!(body.try_read(&mut buf).unwrap(), 0);
    });
}

#[test]
fn an_absent_body_costs_no_crossing() {
    let calls = on(Exchange::get("/"), |mut request| {
        assert_eq!(request.body().declared_bytes(), Some(0));
        assert_eq!(request.body().bytes().unwrap(), b"");
        request.body().readable().unwrap();
        assert!(request.body().trailers().unwrap().is_empty());
    });
    assert_eq!(calls, ["request_head", "respond"]);
}

#[test]
fn collecting_stops_at_its_limit() {
    for size in [0_usize, 1, 9, 10, 11, 12, 40_000] {
        let whole = vec![b'x'; size];
        for exchange in [Exchange::post("/").body(whole.clone()), Exchange::post("/").chunk(whole.clone())] {
            let answer = exchange.run(|mut request: Request| request.body().bytes_limited(10));
            if size <= 10 {
                assert_eq!((answer.status, &answer.body), (Some(StatusCode::OK), &whole), "{size}");
            } else {
                assert_eq!(answer.status, Some(StatusCode::PAYLOAD_TOO_LARGE), "{size}");
                assert!(answer.text().contains("at most 10 bytes"), "{}", answer.text());
            }
        }
    }
}

#[test]
fn collecting_without_a_limit_takes_all() {
    let whole = vec![b'x'; 40_000];
    let answer = Exchange::post("/")
        .chunk(whole.clone())
        .run(|mut request: Request| request.body().bytes_limited(usize::MAX));
    assert!(answer.body == whole);
}

#[test]
fn collecting_stops_at_two_mebibytes_by_default() {
    let read = |mut request: Request| request.body().bytes();
    let answer = Exchange::post("/").chunk(vec![0; 2 << 20]).run(read);
    assert_eq!((answer.status, answer.body.len()), (Some(StatusCode::OK), 2 << 20));
    let answer = Exchange::post("/").chunk(vec![0; (2 << 20) + 1]).run(read);
    assert_eq!(answer.status, Some(StatusCode::PAYLOAD_TOO_LARGE));
}

#[test]
fn a_body_declared_too_long_is_not_even_read() {
    let answer =
        Exchange::post("/").body(vec![0; 11]).run(|mut request: Request| request.body().bytes_limited(10));
    assert_eq!(answer.calls, ["request_head", "respond"]);
}

#[test]
fn a_body_that_is_not_text_is_the_clients_fault() {
    let answer =
        Exchange::post("/").body(b"\xff".as_slice()).run(|mut request: Request| request.body().text());
    assert_eq!(answer.status, Some(StatusCode::BAD_REQUEST));
}

#[test]
fn a_body_that_is_cut_off_is_an_error_and_never_an_end() {
    let answer = Exchange::post("/").chunk("half").body_cut_off().run(|mut request: Request| {
        let error = std::io::read_to_string(request.body()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        Err::<String, _>(error)
    });
    assert_eq!(answer.status, Some(StatusCode::BAD_REQUEST));
    assert!(
        answer.logs.iter().all(|(level, _)| *level == tidegate_sdk::log::Level::Debug),
        "{:?}",
        answer.logs
    );
}

#[test]
fn trailers_come_after_the_end() {
    on(Exchange::post("/").chunk("a").trailer("x-sum", "1"), |mut request| {
        let body = request.body();
        assert_eq!(body.trailers().unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(body.text().unwrap(), "a");
        assert_eq!(body.trailers().unwrap()["x-sum"], "1");
        assert!(!request.headers().contains_key("x-sum"));
    });
}
