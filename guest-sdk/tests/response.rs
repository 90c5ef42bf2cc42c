//! Whole responses and errors, against the host in memory.

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;
use tidegate_sdk::log::Level;
use tidegate_sdk::test::{Answer, Exchange};
use tidegate_sdk::{
    Body, Error, IntoResponse, Request, Response, ResponseWriter, Result, StatusCode, handler, http,
};

fn answer<R: IntoResponse>(result: R) -> Answer {
    Exchange::get("/").run_once(|_| result)
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
    let response = Response::text("x").with_status(StatusCode::ACCEPTED).with_header("a", "b");
    let there = http::Response::try_from(response).unwrap();
    assert_eq!((there.status(), there.headers().len()), (StatusCode::ACCEPTED, 2));
    let back = Response::from(there);
    assert_eq!(back.status_code(), StatusCode::ACCEPTED);
    assert_eq!(back.body().map(Body::as_bytes), Some(b"x".as_slice()));
    assert_eq!(back.header("a").unwrap(), "b");
    let error = http::Response::try_from(Response::stream(|_| Ok(()))).unwrap_err();
    assert!(error.to_string().contains("streamed"), "{error}");
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
    let sent = Exchange::get("/").respond_bytes_max(10).run_once(|_| "eleven byte");
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
    let answer = Exchange::get("/").run_once(|_| {
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
    let answer = Exchange::get("/").run_once(|_| {
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

/// A stream of `n` lines; what it counts tells whether it ran.
fn lines(n: usize) -> Response {
    Response::stream(move |body| {
        for i in 0..n {
            writeln!(body, "{i}")?;
        }
        Ok(())
    })
    .with_header("content-type", "text/plain")
}

fn lines_async(n: usize) -> Response {
    Response::stream_async(async move |body| {
        for i in 0..n {
            tidegate_sdk::task::sleep(Duration::from_secs(1)).await;
            body.send(format!("{i}\n").as_bytes()).await?;
        }
        Ok(())
    })
    .with_header("content-type", "text/plain")
}

#[test]
fn a_stream_is_written_behind_its_head_and_ended() {
    for response in [lines, lines_async] {
        let sent = Exchange::get("/")
            .pipe_bytes(3)
            .run(move |_: Request| response(3).with_status(StatusCode::ACCEPTED));
        assert_eq!((sent.status, content_type(&sent)), (Some(StatusCode::ACCEPTED), "text/plain"));
        assert_eq!(sent.text(), "0\n1\n2\n");
        assert!(sent.finished && !sent.failed);
        assert_eq!(sent.calls[..2], ["request_head", "response_head"]);
        assert!(sent.queued_bytes_max <= 3, "{}", sent.queued_bytes_max);
    }
    assert!(lines(1).body().is_none());
    assert_eq!(lines(1).with_body("x").body().map(Body::as_bytes), Some(b"x".as_slice()));
}

#[test]
fn where_no_body_may_be_a_stream_does_not_run() {
    let never = || Response::stream(|_| panic!("it must not run")).with_header("content-length", "7");
    let never_async =
        || Response::stream_async(async |_| panic!("it must not run")).with_header("etag", "\"1\"");
    for response in [&never as &dyn Fn() -> Response, &never_async] {
        for (method, status) in [("HEAD", 200), ("HEAD", 404), ("GET", 204), ("GET", 205), ("GET", 304)] {
            let sent = Exchange::new(method, "/")
                .run_once(|_| response().with_status(StatusCode::from_u16(status).unwrap()));
            assert_eq!(sent.status.unwrap(), status);
            assert!(sent.finished && !sent.failed && sent.body.is_empty(), "{method} {status}");
            assert_eq!(sent.headers.len(), 1);
        }
    }
}

#[test]
fn where_no_body_may_be_a_large_one_is_not_written() {
    for status in [204, 205, 304] {
        let status = StatusCode::from_u16(status).unwrap();
        let sent = answer(Response::bytes(vec![0; 3 << 20]).with_status(status));
        assert!(sent.finished && !sent.failed && sent.body.is_empty(), "{status}");
        assert!(!sent.calls.contains(&"write"), "{status}: {:?}", sent.calls);
    }
}

#[test]
fn a_stream_that_fails_is_cut_off_and_the_log_says_why() {
    let failing = || {
        Response::stream(|body| {
            body.write_all(b"half")?;
            Err(std::io::Error::other("disk on fire").into())
        })
    };
    let failing_async = || {
        Response::stream_async(async |body| {
            body.send(b"half").await?;
            Err(Error::status(StatusCode::BAD_GATEWAY, "disk on fire"))
        })
    };
    for response in [&failing as &dyn Fn() -> Response, &failing_async] {
        let sent = Exchange::get("/").run_once(|_| response());
        assert_eq!((sent.status, sent.text()), (Some(StatusCode::OK), "half"));
        assert!(sent.failed && !sent.finished);
        assert_eq!(sent.logs.len(), 1);
        assert_eq!(sent.logs[0].0, Level::Error);
        assert!(
            sent.logs[0].1.contains("after the response had begun")
                && sent.logs[0].1.contains("disk on fire"),
            "{:?}",
            sent.logs
        );
    }
}

#[test]
fn a_stream_whose_client_goes_away_is_nobodys_fault() {
    for response in [lines, lines_async] {
        let sent = Exchange::get("/").hang_up_after(4).run(move |_: Request| response(100));
        assert!(!sent.finished);
        assert!(sent.logs.iter().all(|(level, _)| *level == Level::Debug), "{:?}", sent.logs);
    }
}

#[test]
fn a_stream_with_an_invalid_header_is_a_500_and_does_not_run() {
    let sent = answer(Response::stream(|_| panic!("it must not run")).with_header("a b", "1"));
    assert_eq!((sent.status.unwrap(), content_type(&sent)), (StatusCode::INTERNAL_SERVER_ERROR, PROBLEM));
    assert!(sent.finished);
}

#[test]
fn a_stream_may_begin_what_a_writer_goes_on_with() {
    let sent = Exchange::get("/").run_streaming(|_, response: ResponseWriter| -> Result<()> {
        let mut body = response.start(lines(2))?;
        body.write_all(b"end\n")?;
        body.finish()?;
        Ok(())
    });
    assert_eq!(sent.text(), "0\n1\nend\n");
    assert!(sent.finished);
    let sent = Exchange::get("/").run_streaming(|_, response: ResponseWriter| response.respond(lines(2)));
    assert_eq!(sent.text(), "0\n1\n");
    assert!(sent.finished);
    let sent = Exchange::get("/").run_streaming(|_, response: ResponseWriter| {
        response.respond(Response::stream(|_| Err(std::io::Error::other("no").into())))
    });
    assert!(sent.failed && !sent.finished);
    assert_eq!(sent.logs.len(), 1, "{:?}", sent.logs);
}

#[test]
fn a_problem_has_a_type_a_title_and_headers_if_it_is_given_them() {
    let error = Error::too_many_requests("slow down")
        .with_type("https://shop.example/problems/rate")
        .with_title("Too fast")
        .with_header("retry-after", 3)
        .with_header("retry-after", 5);
    assert_eq!(error.headers().count(), 1);
    let sent = answer(Err::<&str, _>(error));
    assert_eq!((sent.status.unwrap().as_u16(), content_type(&sent)), (429, PROBLEM));
    assert_eq!(sent.headers["retry-after"], "5");
    assert_eq!(
        sent.text(),
        r#"{"type":"https://shop.example/problems/rate","title":"Too fast","status":429,"detail":"slow down"}"#
    );
}

#[test]
fn an_invalid_header_of_an_error_is_a_500() {
    for error in [Error::not_found("x").with_header("a b", "1"), Error::not_found("x").with_header("a", "\n")]
    {
        let sent = answer(Err::<&str, _>(error));
        assert_eq!(sent.status.unwrap(), 500);
        assert!(
            sent.logs[0].1.contains("error's header") || sent.logs[0].1.contains("not valid"),
            "{:?}",
            sent.logs
        );
    }
}

#[test]
fn the_named_errors_have_the_status_of_their_name() {
    let cases = [
        (Error::bad_request("x"), 400),
        (Error::unauthorized("x"), 401),
        (Error::forbidden("x"), 403),
        (Error::not_found("x"), 404),
        (Error::conflict("x"), 409),
        (Error::payload_too_large("x"), 413),
        (Error::unsupported_media_type("x"), 415),
        (Error::unprocessable("x"), 422),
        (Error::too_many_requests("x"), 429),
        (Error::unavailable("x"), 503),
    ];
    for (error, status) in cases {
        assert_eq!((error.status_code().as_u16(), error.message()), (status, Some("x")));
    }
}

#[test]
fn a_response_knows_the_error_it_was_made_from() {
    let response = Err::<&str, _>(Error::conflict("taken")).into_response().with_header("x-a", "1");
    assert_eq!(response.error().and_then(Error::message), Some("taken"));
    assert!(Response::status(StatusCode::CONFLICT).error().is_none());
}

#[handler]
async fn slowly(request: Request) -> Result<String> {
    tidegate_sdk::task::sleep(Duration::from_secs(1)).await;
    Ok(format!("{}\n", request.path()))
}

#[test]
fn async_handlers_wait_without_holding_up() {
    let sent = Exchange::get("/a").run(slowly);
    assert_eq!((sent.status, sent.text()), (Some(StatusCode::OK), "/a\n"));
    let sent = Exchange::get("/").run(|_: Request| async { Err::<&str, _>(Error::conflict("taken")) });
    assert_eq!(sent.status.unwrap(), 409);
}

#[test]
fn what_an_async_handler_spawned_goes_on_while_its_body_is_written() {
    let sent = Exchange::get("/").run(|_: Request| async {
        let count = Rc::new(Cell::new(0));
        let counter = Rc::clone(&count);
        drop(tidegate_sdk::task::spawn(async move {
            loop {
                tidegate_sdk::task::sleep(Duration::from_secs(1)).await;
                counter.set(counter.get() + 1);
            }
        }));
        Response::stream_async(async move |body| {
            tidegate_sdk::task::sleep(Duration::from_millis(3_500)).await;
            body.send(count.get().to_string().as_bytes()).await?;
            Ok(())
        })
    });
    assert_eq!(sent.text(), "3");
}

#[test]
fn whatever_cuts_a_response_off_is_in_the_log() {
    let late = |_: Request, response: ResponseWriter| {
        let _body = response.start(StatusCode::OK)?;
        Err::<(), _>(Error::conflict("taken"))
    };
    let stream = |_: Request| Response::stream(|_| Err(Error::conflict("taken")));
    for sent in [Exchange::get("/").run_streaming(late), Exchange::get("/").run(stream)] {
        assert!(sent.failed && !sent.finished);
        assert_eq!(sent.logs, [(Level::Error, "after the response had begun: 409: taken".to_owned())]);
    }
}
