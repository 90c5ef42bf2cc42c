//! Responses that are written bit by bit, against the host in memory: order, backpressure, and ways to end.

use std::io::{BufWriter, ErrorKind, Write};
use tidegate_sdk::test::{Answer, Exchange};
use tidegate_sdk::{
    Error, HeaderMap, HeaderValue, Request, Response, ResponseWriter, Result, StatusCode, handler, http,
};

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

fn count(answer: &Answer, call: &str) -> usize {
    answer.calls.iter().filter(|c| **c == call).count()
}

#[handler]
fn lines(_request: Request, response: ResponseWriter) -> Result<()> {
    let mut body = BufWriter::new(response.start(Response::text("begin\n"))?);
    for i in 0..3 {
        writeln!(body, "{i}")?;
    }
    body.into_inner().map_err(std::io::IntoInnerError::into_error)?.finish()?;
    Ok(())
}

#[test]
fn what_is_written_arrives_and_is_ended() {
    let answer = Exchange::get("/").run_streaming(lines);
    assert_eq!(answer.status, Some(StatusCode::OK));
    assert_eq!(answer.text(), "begin\n0\n1\n2\n");
    assert!(answer.finished && !answer.failed);
    assert_eq!(answer.calls, ["request_head", "response_head", "write", "write", "finish"]);
}

#[test]
fn every_kind_of_head_can_start_a_stream() {
    let start = |head: &str| {
        Exchange::get("/").run_streaming(|_, response| -> Result<()> {
            let body = match head {
                "http" => response.start(http::Response::builder().status(202).header("a", "b").body(())?)?,
                "status" => response.start(StatusCode::ACCEPTED)?,
                _ => response.start(Response::empty().with_status(StatusCode::ACCEPTED))?,
            };
            body.finish()?;
            Ok(())
        })
    };
    for head in ["http", "status", "response"] {
        let answer = start(head);
        assert_eq!(answer.status, Some(StatusCode::ACCEPTED), "{head}");
        assert_eq!(answer.headers.contains_key("a"), head == "http");
        assert!(answer.finished && answer.body.is_empty());
    }
}

#[test]
fn a_streaming_handler_may_answer_as_a_whole() {
    let answer =
        Exchange::get("/").run_streaming(|_, response| response.respond((StatusCode::NOT_FOUND, "no\n")));
    assert_eq!((answer.status, answer.text()), (Some(StatusCode::NOT_FOUND), "no\n"));
    assert_eq!(answer.calls, ["request_head", "respond"]);
}

#[test]
fn hints_come_before_the_head() {
    let answer = Exchange::get("/").run_streaming(|_, mut response| {
        let mut hints = HeaderMap::new();
        hints.insert("link", HeaderValue::from_static("</a.css>; rel=preload"));
        response.early_hints(&hints)?;
        response.early_hints(&hints)?;
        response.respond("x")
    });
    assert_eq!(answer.hints.len(), 2);
    assert_eq!(answer.hints[0]["link"], "</a.css>; rel=preload");
    assert_eq!(answer.text(), "x");
}

#[test]
fn a_full_pipe_is_said_and_waited_for() {
    let answer = Exchange::get("/").pipe_bytes(10).run_streaming(|_, response| -> Result<()> {
        let mut body = response.start(StatusCode::OK)?;
        assert_eq!(body.try_write(b"")?, 0);
        assert_eq!(body.try_write(b"12345678")?, 8);
        assert_eq!(body.try_write(b"90abc")?, 2);
        assert_eq!(body.try_write(b"abc").unwrap_err().kind(), ErrorKind::WouldBlock);
        body.writable()?;
        assert_eq!(body.try_write(b"abc")?, 3);
        body.finish()?;
        Ok(())
    });
    assert_eq!(answer.text(), "1234567890abc");
    assert!(answer.finished);
}

#[test]
fn write_all_gets_through_any_pipe() {
    let whole = pattern(5_000);
    for pipe_bytes in [1, 7, 4_999, 5_000, 5_001] {
        let answer = Exchange::get("/").pipe_bytes(pipe_bytes).run_streaming(|_, response| -> Result<()> {
            let mut body = response.start(StatusCode::OK)?;
            body.write_all(&whole)?;
            body.flush()?;
            body.finish()?;
            Ok(())
        });
        assert!(answer.body == whole && answer.finished, "{pipe_bytes}");
        assert_eq!(count(&answer, "poll"), (whole.len() - 1) / pipe_bytes, "{pipe_bytes}");
    }
}

#[handler]
fn echo(request: Request, response: ResponseWriter) -> Result<()> {
    let mut body = request.into_body();
    let mut out = response.start(StatusCode::OK)?;
    let moved = out.forward(&mut body)?;
    assert_eq!(out.forward(&mut body)?, 0, "the end is the end");
    let mut trailers = body.trailers()?;
    trailers.insert("x-moved", moved.into());
    out.finish_with_trailers(trailers)?;
    Ok(())
}

#[test]
fn forwarding_moves_everything_and_never_spins() {
    let whole = pattern(3_000);
    for chunk in [1, 10, 999, 3_000] {
        for pipe_bytes in [1, 10, 1_000, 3_000, 9_000] {
            let mut exchange = Exchange::post("/").pipe_bytes(pipe_bytes).trailer("x-sum", "1");
            for piece in whole.chunks(chunk) {
                exchange = exchange.chunk(piece);
            }
            let answer = exchange.run_streaming(echo);
            assert!(answer.body == whole && answer.finished, "{chunk} {pipe_bytes}");
            assert_eq!(
                (&answer.trailers["x-sum"], &answer.trailers["x-moved"]),
                (&HeaderValue::from_static("1"), &HeaderValue::from_static("3000"))
            );
            // Each wait is for a chunk, or for a pipe that was full: twice as many calls at most, as both are asked.
            let waits = 3_000_usize.div_ceil(chunk) + 3_000_usize.div_ceil(pipe_bytes);
            assert!(count(&answer, "poll") <= 2 * waits, "{chunk} {pipe_bytes}: {}", count(&answer, "poll"));
        }
    }
}

#[test]
fn an_empty_body_is_forwarded_too() {
    for exchange in [Exchange::post("/").chunk(""), Exchange::post("/")] {
        let answer = exchange.run_streaming(echo);
        assert!(answer.body.is_empty() && answer.finished && !answer.failed);
    }
}

#[test]
fn a_body_cut_off_while_it_is_forwarded_cuts_off_the_response() {
    let answer = Exchange::post("/").chunk("half").body_cut_off().run_streaming(echo);
    assert_eq!(answer.text(), "half");
    assert!(answer.failed && !answer.finished);
}

#[test]
fn a_body_that_is_dropped_is_cut_off() {
    let answer = Exchange::get("/").run_streaming(|_, response| -> Result<()> {
        let mut body = response.start(StatusCode::OK)?;
        body.write_all(b"half")?;
        Ok(())
    });
    assert!(!answer.finished && !answer.failed);
    assert_eq!(answer.calls.last(), Some(&"close"));
}

#[test]
fn an_error_before_the_head_is_the_response() {
    let answer = Exchange::get("/").run_streaming(|_, _| Err(Error::status(StatusCode::BAD_REQUEST, "no")));
    assert_eq!(answer.status, Some(StatusCode::BAD_REQUEST));
    assert!(answer.text().contains(r#""detail":"no""#) && answer.finished && !answer.failed);
}

#[test]
fn a_head_that_is_refused_is_a_500() {
    let answer = Exchange::get("/").run_streaming(|_, response| -> Result<()> {
        let body = response.start(Response::text("").with_header("transfer-encoding", "chunked"))?;
        body.finish()?;
        Ok(())
    });
    assert_eq!(answer.status, Some(StatusCode::INTERNAL_SERVER_ERROR));
    assert!(answer.logs[0].1.contains("EINVAL"), "{:?}", answer.logs);
}

#[test]
fn an_error_after_the_head_cuts_the_response_off() {
    let answer = Exchange::get("/").run_streaming(|_, response| -> Result<()> {
        let mut body = response.start(StatusCode::OK)?;
        body.write_all(b"half")?;
        Err(std::io::Error::other("disk on fire").into())
    });
    assert_eq!((answer.status, answer.text()), (Some(StatusCode::OK), "half"));
    assert!(answer.failed && !answer.finished);
    assert!(answer.logs[0].1.contains("disk on fire"), "{:?}", answer.logs);
}

#[test]
fn a_handler_that_does_nothing_sends_nothing() {
    let answer = Exchange::get("/").run_streaming(|_, _| Ok::<_, Error>(()));
    assert_eq!((answer.status, answer.finished, answer.failed), (None, false, false));
}

#[test]
fn a_client_that_is_gone_is_an_error_nobody_is_blamed_for() {
    let answer = Exchange::get("/").hang_up_after(64).run_streaming(|_, response| -> Result<()> {
        let mut body = response.start(StatusCode::OK)?;
        loop {
            body.write_all(&[0; 16])?;
        }
    });
    assert!(!answer.finished);
    assert!(
        answer.logs.iter().all(|(level, _)| *level > tidegate_sdk::log::Level::Info),
        "{:?}",
        answer.logs
    );
}
