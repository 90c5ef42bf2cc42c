//! Whole responses and errors, against the host in memory.

use tidegate_sdk::log::Level;
use tidegate_sdk::testing::{Answer, Exchange};
use tidegate_sdk::{Body, Error, IntoResponse, Request, Response, Result, StatusCode, handler, http};

fn answer<R: IntoResponse>(result: R) -> Answer {
    Exchange::get("/").run(|_| result)
}

fn content_type(answer: &Answer) -> &str {
    answer.headers.get("content-type").map_or("", |value| value.to_str().unwrap())
}

#[test]
fn everything_that_stands_for_a_response_becomes_one() {
    const TEXT: &str = "text/plain; charset=utf-8";
    const BYTES: &str = "application/octet-stream";
    let http = http::Response::builder().status(201).header("content-type", "a/b").body("x").unwrap();
    let cases: [(Answer, u16, &str, &str); 12] = [
        (answer("x"), 200, TEXT, "x"),
        (answer(String::from("x")), 200, TEXT, "x"),
        (answer(std::borrow::Cow::Borrowed("x")), 200, TEXT, "x"),
        (answer(b"x".as_slice()), 200, BYTES, "x"),
        (answer(vec![b'x']), 200, BYTES, "x"),
        (answer(Body::from("x")), 200, BYTES, "x"),
        (answer(StatusCode::NO_CONTENT), 204, "", ""),
        (answer((StatusCode::ACCEPTED, "x")), 202, TEXT, "x"),
        (answer(Ok::<_, Error>("x")), 200, TEXT, "x"),
        (answer(http), 201, "a/b", "x"),
        (answer(Response::html("x")), 200, "text/html; charset=utf-8", "x"),
        (answer(Response::empty()), 200, "", ""),
    ];
    for (i, (answer, status, kind, body)) in cases.iter().enumerate() {
        assert_eq!(answer.status.unwrap(), *status, "{i}");
        assert_eq!((content_type(answer), answer.text()), (*kind, *body), "{i}");
        assert!(answer.finished && !answer.failed, "{i}");
        assert_eq!(answer.calls, ["respond"], "{i}");
    }
}

#[test]
fn a_content_type_is_sent_once_whichever_way_it_is_set() {
    let mut changed = Response::text("x").with_header("content-type", "a/b").with_header("x-y", "1");
    assert_eq!(changed.header("content-type").unwrap(), "a/b");
    assert_eq!(changed.headers_mut().len(), 2);
    let sent = answer(changed.with_header("content-type", "c/d"));
    assert_eq!(sent.headers.get_all("content-type").iter().collect::<Vec<_>>(), ["c/d"]);
    assert_eq!(sent.headers["x-y"], "1");
}

#[test]
fn responses_turn_into_those_of_the_http_crate_and_back() {
    let there =
        http::Response::from(Response::text("x").with_status(StatusCode::ACCEPTED).with_header("a", "b"));
    assert_eq!((there.status(), there.headers().len()), (StatusCode::ACCEPTED, 2));
    let back = Response::from(there);
    assert_eq!((back.status_code(), back.body().as_bytes()), (StatusCode::ACCEPTED, b"x".as_slice()));
    assert_eq!(back.header("a").unwrap(), "b");
}

#[test]
fn an_invalid_header_is_a_500_that_the_log_explains() {
    for response in
        [Response::text("x").with_header("a b", "1"), Response::text("x").with_header("a", "1\r\n")]
    {
        let answer = answer(response);
        assert_eq!(answer.status.unwrap(), 500);
        assert!(answer.logs[0].1.contains("not valid"), "{:?}", answer.logs);
        assert!(!answer.text().contains("header"), "{}", answer.text());
    }
}

#[test]
fn a_head_that_the_host_refuses_is_logged_and_left_to_the_host() {
    let answer = answer(Response::text("x").with_header("transfer-encoding", "chunked"));
    assert_eq!((answer.status, answer.failed, answer.finished), (None, false, false));
    assert_eq!(answer.logs[0].0, Level::Error);
    assert!(answer.logs[0].1.contains("EINVAL"), "{:?}", answer.logs);
}

#[test]
fn a_head_of_any_size_is_packed() {
    for bytes in [1_usize, 100, 200, 300, 20_000] {
        let value = "v".repeat(bytes);
        assert_eq!(
            answer(Response::text("x").with_header("x-v", value.as_str())).headers["x-v"],
            value.as_str()
        );
    }
}

#[test]
fn a_body_too_large_for_one_call_is_streamed() {
    let whole = vec![7_u8; (1 << 20) + 1];
    let sent = answer(Response::bytes(whole.clone()));
    assert!(sent.finished && !sent.failed);
    assert!(sent.body == whole);
    assert_eq!(content_type(&sent), "application/octet-stream");
    assert_eq!(sent.headers["content-length"], whole.len().to_string());
    assert!(!sent.calls.contains(&"respond"));
    assert!(answer(Response::bytes(vec![7_u8; 64 << 10])).calls == ["respond"]);
}

#[test]
fn a_host_that_takes_less_at_once_is_sent_a_stream() {
    let sent = Exchange::get("/").respond_bytes_max(10).run(|_| "eleven byte");
    assert_eq!((sent.status, sent.text()), (Some(StatusCode::OK), "eleven byte"));
    assert!(sent.finished && !sent.failed);
    assert_eq!(sent.calls, ["respond", "request_head", "response_head", "write", "finish"]);
    // A head that is too large is too large in any way.
    let refused = answer(Response::text("x").with_header("x-v", "v".repeat(40_000)));
    assert_eq!((refused.status, refused.failed), (None, false));
    assert!(refused.logs[0].1.contains("EMSGSIZE"), "{:?}", refused.logs);
}

#[handler]
fn parse(request: Request) -> Result<String> {
    let number: u32 = request.path().trim_start_matches('/').parse()?;
    Ok(number.to_string())
}

#[test]
fn a_question_mark_is_a_500_whose_detail_only_the_log_has() {
    assert_eq!(Exchange::get("/7").run(parse).text(), "7");
    let answer = Exchange::get("/x").run(parse);
    assert_eq!((answer.status.unwrap(), content_type(&answer)), (StatusCode::INTERNAL_SERVER_ERROR, PROBLEM));
    assert_eq!(answer.text(), r#"{"type":"about:blank","title":"Internal Server Error","status":500}"#);
    assert_eq!(answer.logs, [(Level::Error, "500: invalid digit found in string".to_owned())]);
}

const PROBLEM: &str = "application/problem+json";

#[test]
fn a_message_is_shown_and_its_cause_is_not() {
    let error = Error::status(StatusCode::CONFLICT, "taken: \"a\\b\"\n\u{1}é").with_source("row 7");
    assert_eq!(
        (error.status_code(), error.source().unwrap().to_string().as_str()),
        (StatusCode::CONFLICT, "row 7")
    );
    let answer = answer(Err::<&str, _>(error));
    assert_eq!((answer.status.unwrap(), content_type(&answer)), (StatusCode::CONFLICT, PROBLEM));
    assert_eq!(
        answer.text(),
        r#"{"type":"about:blank","title":"Conflict","status":409,"detail":"taken: \"a\\b\"\n\u0001é"}"#
    );
    assert_eq!(answer.logs.len(), 1);
    assert_eq!(answer.logs[0].0, Level::Debug);
    assert!(answer.logs[0].1.ends_with(": row 7"), "{:?}", answer.logs);
}

#[test]
fn the_log_has_every_cause() {
    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);
    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("no price")
        }
    }
    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    let error = Error::from(Outer("x".parse::<u8>().unwrap_err()));
    assert_eq!(error.to_string(), "500: no price: invalid digit found in string");
}

#[test]
fn records_keep_their_level_and_their_order() {
    let answer = Exchange::get("/").run(|_| {
        tidegate_sdk::error!("a");
        tidegate_sdk::warn!("b{}", 1);
        tidegate_sdk::info!("c");
        tidegate_sdk::debug!("d");
        tidegate_sdk::trace!("e");
        StatusCode::OK
    });
    let levels: Vec<_> = answer.logs.iter().map(|(level, text)| (*level, text.as_str())).collect();
    assert_eq!(
        levels,
        [
            (Level::Error, "a"),
            (Level::Warn, "b1"),
            (Level::Info, "c"),
            (Level::Debug, "d"),
            (Level::Trace, "e")
        ]
    );
}

#[test]
fn sleeping_is_one_wait_and_uses_up_wall_time() {
    let before_after = std::cell::Cell::new((0, 0));
    let answer = Exchange::get("/").run(|_| {
        let before = tidegate_sdk::usage().wall_left_ns;
        tidegate_sdk::sleep(std::time::Duration::from_millis(250));
        tidegate_sdk::sleep(std::time::Duration::ZERO);
        before_after.set((before, tidegate_sdk::usage().wall_left_ns));
        StatusCode::OK
    });
    let (before, after) = before_after.get();
    assert_eq!(before - after, 250_000_000);
    assert_eq!(answer.calls, ["usage", "poll", "usage", "respond"]);
}
