//! Requests to others, natively: upstreams are functions of the test.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind as IoKind, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use tidegate_sdk::fetch::{self, ErrorKind};
use tidegate_sdk::test::{self, Exchange};
use tidegate_sdk::{Request, Response, Result, StatusCode, http, now, task};

const ORIGIN: &str = "http://up.internal";

/// Answers with method, path and body.
fn mirror(request: http::Request<Vec<u8>>) -> http::Response<Vec<u8>> {
    let head = format!("{} {} ", request.method(), request.uri().path_and_query().unwrap());
    http::Response::new([head.as_bytes(), request.body()].concat())
}

fn failing(kind: ErrorKind) -> test::Upstream {
    test::upstream(ORIGIN, move |_| Err::<http::Response<()>, _>(kind))
}

#[test]
fn bodies_of_any_size_arrive() {
    let _up = test::upstream(ORIGIN, mirror);
    for len in [0, 1, 64 << 10, (64 << 10) + 1, 1 << 20, (1 << 20) + 1] {
        let body = vec![b'x'; len];
        let mut response = http::post(format!("{ORIGIN}/a")).body(body.clone()).send().unwrap();
        assert_eq!(response.bytes().unwrap().len(), len + 8, "{len}");
        let answered = task::block_on(async {
            let mut response = http::post(format!("{ORIGIN}/a")).body(body).send_async().await?;
            response.collect().await
        });
        assert_eq!(answered.unwrap().len(), len + 8, "{len}");
    }
}

#[test]
fn what_cannot_be_sent_is_an_error_before_anything_is() {
    let asked = Rc::new(Cell::new(0));
    let count = Rc::clone(&asked);
    let _up = test::upstream(ORIGIN, move |_| {
        count.set(count.get() + 1);
        http::Response::new(())
    });
    let get = || http::get(format!("{ORIGIN}/"));
    let cases = [
        http::get("no url"),
        http::get("/path"),
        http::get("ftp://up.internal/"),
        http::get("http://ada:secret@up.internal/"),
        get().header("a b", "1"),
        get().header("a", "1\n2"),
        get().header("Connection", "close"),
        get().header("host", "other"),
        get().header("content-length", "7"),
        get().header("transfer-encoding", "chunked"),
    ];
    for request in cases {
        let shown = format!("{request:?}");
        assert_eq!(request.send().unwrap_err().kind(), ErrorKind::Request, "{shown}");
    }
    assert_eq!(asked.get(), 0);
    // The handler's own mistake is no fault of somebody else's.
    Exchange::get("/").run(|_: Request| http::get("no url").send()).assert_status(500);
}

#[test]
fn failures_have_kinds_and_the_client_is_told_502_or_504() {
    let cases = [
        (ErrorKind::Denied, 502),
        (ErrorKind::Dns, 502),
        (ErrorKind::Refused, 502),
        (ErrorKind::Unreachable, 502),
        (ErrorKind::Timeout, 504),
        (ErrorKind::Tls, 502),
        (ErrorKind::Closed, 502),
        (ErrorKind::Protocol, 502),
        (ErrorKind::Busy, 502),
    ];
    for (kind, status) in cases {
        let _up = failing(kind);
        assert_eq!(http::fetch(ORIGIN).unwrap_err().kind(), kind);
        let answer =
            Exchange::get("/").run(|_: Request| -> Result<String> { Ok(http::fetch(ORIGIN)?.text()?) });
        let text = answer.assert_status(status).text();
        assert!(!text.contains("up.internal") && !text.contains("refused"), "{text}");
        assert!(answer.logs[0].1.contains("GET http://up.internal/: "), "{:?}", answer.logs);
    }
    // One that nobody gave.
    assert_eq!(http::fetch("http://elsewhere.internal").unwrap_err().kind(), ErrorKind::Refused);
}

#[test]
fn answers_that_are_not_what_was_expected_have_kinds_too() {
    let _up = test::upstream(ORIGIN, |request| match request.uri().path() {
        "/large" => http::Response::new(vec![b'x'; (2 << 20) + 1]),
        "/bytes" => http::Response::new(vec![0xff]),
        _ => http::Response::builder().status(500).body(vec![b'{']).unwrap(),
    });
    let get = |path: &str| http::fetch(format!("{ORIGIN}{path}")).unwrap();
    assert_eq!(get("/large").text().unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(get("/large").body().bytes_limited(4 << 20).unwrap().len(), (2 << 20) + 1);
    assert_eq!(get("/bytes").text().unwrap_err().kind(), ErrorKind::Content);
    assert_eq!(get("/").json::<u32>().unwrap_err().kind(), ErrorKind::Content);
    let kind = get("/").error_for_status().unwrap_err().kind();
    assert_eq!(kind, ErrorKind::Status(StatusCode::INTERNAL_SERVER_ERROR));
}

#[test]
fn requests_that_are_passed_on_lose_what_belongs_to_their_connection() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let see = Rc::clone(&seen);
    let _up = test::upstream(ORIGIN, move |request| {
        let names = request.headers().keys().map(|name| name.as_str().to_owned());
        see.borrow_mut().extend(names);
        http::Response::new(request.into_body())
    });
    let proxy = |request: Request| -> Result<fetch::Response> {
        let (mut head, body) = request.into_http().into_parts();
        head.uri = ORIGIN.parse()?;
        Ok(http::fetch(http::Request::from_parts(head, body))?)
    };
    let exchange = Exchange::post("/")
        .header("connection", "close, X-Mine")
        .header("x-mine", "1")
        .header("proxy-authorization", "Basic x")
        .header("expect", "100-continue")
        .header("upgrade", "h2c")
        .header("x-kept", "1");
    let answer = exchange.body("hello").run(proxy);
    assert_eq!(answer.text(), "hello");
    assert_eq!(*seen.borrow(), ["x-kept"]);
    // Head, both bodies and the end: nothing of a body came into the sandbox.
    assert!(!answer.calls.iter().any(|call| matches!(*call, "read" | "write")), "{:?}", answer.calls);
}

#[test]
fn a_body_that_breaks_off_is_the_clients_fault_and_one_too_large_too() {
    let _up = test::upstream(ORIGIN, mirror);
    let store = |mut request: Request| -> Result<fetch::Response> {
        request.body().set_limit(10);
        Ok(http::put(ORIGIN).body(request.into_body()).send()?)
    };
    Exchange::post("/").chunk("hel").body_cut_off().run(store).assert_status(400);
    Exchange::post("/").chunk("0123456789").run(store).assert_status(200);
    Exchange::post("/").chunk("0123456").chunk("789a").run(store).assert_status(413);
    let error = Exchange::post("/").chunk("hel").body_cut_off().run(|request: Request| {
        let error = http::put(ORIGIN).body(request.into_body()).send().unwrap_err();
        format!("{:?}", error.kind())
    });
    assert_eq!(error.text(), "Body");
}

#[test]
fn an_answer_can_be_the_body_of_another_request() {
    let _up = test::upstream(ORIGIN, |_| http::Response::new(vec![b'x'; 200_000]));
    let _to =
        test::upstream("http://to.internal", |request| http::Response::new(request.body().len().to_string()));
    let copy = |_: Request| -> Result<String> {
        let from = http::fetch(ORIGIN)?;
        Ok(http::put("http://to.internal/").body(from.into_body()).send()?.text()?)
    };
    let answer = Exchange::get("/").run(copy);
    assert_eq!(answer.text(), "200000");
    assert!(answer.calls.contains(&"forward"), "{:?}", answer.calls);
}

#[test]
fn a_relayed_answer_is_as_slow_as_its_client() {
    let _up = test::upstream(ORIGIN, |_| http::Response::new(vec![b'x'; 100_000]));
    let blocking = |_: Request| http::fetch(ORIGIN);
    let waiting = |_: Request| http::fetch_async(ORIGIN);
    for answer in [
        Exchange::get("/").pipe_bytes(1_000).run(blocking),
        Exchange::get("/").pipe_bytes(1_000).run(waiting),
    ] {
        assert_eq!((answer.body.len(), answer.queued_bytes_max), (100_000, 1_000));
        assert!(answer.finished && answer.header("content-length") == Some("100000"));
    }
}

#[test]
fn middleware_may_change_a_relayed_answer() {
    let _up = test::upstream(ORIGIN, |_| http::Response::new("hello"));
    let app = |_: Request| -> Result<Response> {
        let mut response = http::fetch(ORIGIN)?;
        response.headers_mut().insert("x-cache", http::HeaderValue::from_static("miss"));
        Ok(tidegate_sdk::IntoResponse::into_response(response).with_status(StatusCode::ACCEPTED))
    };
    let answer = Exchange::get("/").run(app);
    assert_eq!((answer.assert_status(202).text(), answer.header("x-cache")), ("hello", Some("miss")));
}

#[test]
fn a_body_can_be_written_bit_by_bit_while_the_answer_is_waited_for() {
    let _up = test::upstream(ORIGIN, mirror);
    let answered = task::block_on(async {
        let (mut body, response) = http::post(ORIGIN).start()?;
        let write = async move {
            for i in 0..3 {
                task::sleep(Duration::from_secs(1)).await;
                body.send(format!("{i}").as_bytes()).await?;
            }
            body.finish()?;
            Ok::<(), tidegate_sdk::Error>(())
        };
        let (written, response) = task::join(write, response).await;
        written?;
        Ok::<_, tidegate_sdk::Error>(response?.collect_text().await?)
    });
    assert_eq!(answered.unwrap(), "POST / 012");
}

#[test]
fn a_body_that_is_dropped_unfinished_is_no_request() {
    let asked = Rc::new(Cell::new(false));
    let flag = Rc::clone(&asked);
    let _up = test::upstream(ORIGIN, move |_| {
        flag.set(true);
        http::Response::new(())
    });
    let (mut body, response) = http::post(ORIGIN).start().unwrap();
    body.write_all(b"half").unwrap();
    drop(body);
    response.wait().unwrap_err();
    assert!(!asked.get());
}

#[test]
fn waiting_takes_as_long_as_it_takes_and_no_longer_than_allowed() {
    let minute = Duration::from_secs(60);
    let _slow = test::upstream_after(minute, ORIGIN, mirror);
    let start = now();
    let late = task::block_on(task::timeout(Duration::from_secs(1), http::fetch_async(ORIGIN)));
    assert!(late.is_err());
    assert_eq!(now() - start, Duration::from_secs(1));
    let three = || [0; 3].map(|_| http::fetch_async(ORIGIN));
    assert_eq!(task::block_on(task::try_join_all(three())).unwrap().len(), 3);
    assert_eq!(now() - start, Duration::from_secs(61));
}

#[test]
fn redirects_are_followed_as_far_as_was_asked() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = |name: &'static str| {
        let seen = Rc::clone(&seen);
        move |request: http::Request<Vec<u8>>| {
            let has = |header: &str| request.headers().contains_key(header);
            let line = format!(
                "{name} {} {} {}{}{}",
                request.method(),
                request.uri().path(),
                String::from_utf8_lossy(request.body()),
                if has("authorization") { " auth" } else { "" },
                if has("content-type") { " typed" } else { "" },
            );
            seen.borrow_mut().push(line);
            let (status, to) = match request.uri().path() {
                "/303" => (303, "/end"),
                "/302" => (302, "/end"),
                "/307" => (307, "/end"),
                "/away" => (308, "http://other.internal/end"),
                "/loop" => (301, "/loop"),
                "/nowhere" => (302, "ftp://up.internal/"),
                _ => (200, ""),
            };
            http::Response::builder().status(status).header("location", to).body(()).unwrap()
        }
    };
    let _up = test::upstream(ORIGIN, log("up"));
    let _other = test::upstream("http://other.internal", log("other"));
    let post = |path: &str| {
        http::post(format!("{ORIGIN}{path}")).text("hi").header("authorization", "x").redirects(3).send()
    };
    for path in ["/303", "/302", "/307", "/away"] {
        assert_eq!(post(path).unwrap().status(), 200);
    }
    let expected = [
        "up POST /303 hi auth typed",
        "up GET /end  auth",
        "up POST /302 hi auth typed",
        "up GET /end  auth",
        "up POST /307 hi auth typed",
        "up POST /end hi auth typed",
        "up POST /away hi auth typed",
        "other POST /end hi typed",
    ];
    assert_eq!(seen.take(), expected);
    assert_eq!(post("/loop").unwrap_err().kind(), ErrorKind::Redirect);
    assert_eq!(seen.take().len(), 4, "one, and as many as were asked for");
    assert_eq!(post("/nowhere").unwrap_err().kind(), ErrorKind::Redirect);
    // Nobody has asked.
    assert_eq!(http::get(format!("{ORIGIN}/302")).send().unwrap().status(), 302);
    // What is gone cannot be sent again, unless it need not be.
    let moved = |path: &'static str| {
        move |request: Request| {
            let sent = http::post(format!("{ORIGIN}{path}")).body(request.into_body()).redirects(1).send();
            sent.map_or_else(|error| format!("{:?}", error.kind()), |response| response.status().to_string())
        }
    };
    assert_eq!(Exchange::post("/").chunk("hi").run(moved("/307")).text(), "Redirect");
    assert_eq!(Exchange::post("/").chunk("hi").run(moved("/303")).text(), "200 OK");
}

#[test]
fn bodies_are_read_in_every_style() {
    let _up = test::upstream(ORIGIN, |_| http::Response::new("hello"));
    let mut body = http::fetch(ORIGIN).unwrap().into_body();
    assert_eq!(body.declared_bytes(), Some(5));
    let mut buf = [0; 3];
    assert_eq!(body.try_read(&mut buf).unwrap(), 3);
    assert_eq!(body.trailers().unwrap().len(), 0);
    let mut rest = String::new();
    body.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "lo");
    assert_eq!(body.try_read(&mut buf).unwrap(), 0);

    let pieces = task::block_on(async {
        let mut body = http::fetch_async(ORIGIN).await.unwrap().into_body();
        (body.chunk().await.unwrap(), body.chunk().await.unwrap())
    });
    assert_eq!(pieces, (Some(b"hello".to_vec()), None));

    let _down = failing(ErrorKind::Closed);
    let error = std::io::Error::from(http::fetch(ORIGIN).unwrap_err());
    assert_eq!(error.kind(), IoKind::ConnectionReset);
}

#[test]
fn answers_without_a_body_have_none() {
    let _up = test::upstream(ORIGIN, |request| match request.uri().path() {
        "/204" => http::Response::builder().status(204).body("").unwrap(),
        _ => http::Response::new("hello"),
    });
    let mut head = http::head(ORIGIN).send().unwrap();
    assert_eq!(head.bytes().unwrap(), b"");
    assert_eq!(head.header("content-length"), Some("5"));
    let relay = |path: &'static str| move |_: Request| http::fetch(format!("{ORIGIN}{path}"));
    let answer = Exchange::get("/").run(relay("/204"));
    assert_eq!((answer.assert_status(204).body.len(), answer.finished), (0, true));
}
