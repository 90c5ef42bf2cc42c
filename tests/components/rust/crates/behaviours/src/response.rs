//! The outgoing response: its status, its length, its body taken, dropped, finished and left alone.

use std::mem;

use wasip2::http::types::{ErrorCode, Fields, OutgoingBody, OutgoingResponse, ResponseOutparam};

use crate::Behaviour;
use crate::call::{Call, Lines, code_name, fields, outcome, set, spare, text_headers, write_all};

pub(crate) const ALL: &[Behaviour] = &[
    ("body-untaken", body_untaken),
    ("body-dropped", body_dropped),
    ("body-unwritten", body_unwritten),
    ("body-left", body_left),
    ("body-taken-and-left", body_taken_and_left),
    ("body-twice", body_twice),
    ("write-twice", write_twice),
    ("finish-with-stream", finish_with_stream),
    ("drop-with-stream", drop_with_stream),
    ("response-dropped", response_dropped),
    ("response-dropped-body", response_dropped_body),
    ("trailers-out", |call| trailers_out(call, &[("trailer", "x-sum")], &[("x-sum", "42")])),
    ("trailers-unannounced", |call| trailers_out(call, &[], &[("x-sum", "42")])),
    ("trailers-empty", |call| trailers_out(call, &[], &[])),
    ("trailers-let-go", trailers_let_go),
    ("trailers-hoarded", trailers_hoarded),
    ("trailers-forbidden", |call| {
        let announced = [("trailer", "x-sum, content-length")];
        trailers_out(call, &announced, &[("content-length", "5"), ("x-sum", "42")]);
    }),
    ("length-exact", |call| length(call, "5", "12345")),
    ("length-more", |call| length(call, "5", "12345678")),
    ("length-less", |call| length(call, "5", "12")),
    ("length-none", length_none),
    ("length-early", length_early),
    ("length-zero", |call| length(call, "0", "")),
    ("length-seen", length_seen),
    ("status", status),
    ("status-with-body", status_with_body),
    ("status-codes", status_codes),
    ("head-shown", head_shown),
];

fn body_untaken(call: Call) {
    ResponseOutparam::set(call.out, Ok(OutgoingResponse::new(text_headers())));
}

fn body_dropped(call: Call) {
    let (body, stream) = call.start(200);
    write_all(&stream, b"part of it\n");
    drop(stream);
    drop(body);
}

fn body_unwritten(call: Call) {
    let response = OutgoingResponse::new(text_headers());
    let body = response.body().expect("the first call");
    ResponseOutparam::set(call.out, Ok(response));
    OutgoingBody::finish(body, None).expect("no length was said");
}

/// The handler returns, and nothing was finished or dropped.
fn body_left(call: Call) {
    let (body, stream) = call.start(200);
    write_all(&stream, b"part of it\n");
    mem::forget((stream, body));
}

fn body_taken_and_left(call: Call) {
    let response = OutgoingResponse::new(text_headers());
    mem::forget(response.body().expect("the first call"));
    ResponseOutparam::set(call.out, Ok(response));
}

fn body_twice(call: Call) {
    let mut lines = Lines::default();
    let response = OutgoingResponse::new(text_headers());
    let body = response.body();
    lines.add("first", body.is_ok());
    lines.add("second", response.body().is_ok());
    drop(body);
    lines.add("after a drop", response.body().is_ok());
    call.say(&lines);
}

fn write_twice(call: Call) {
    let mut lines = Lines::default();
    let response = OutgoingResponse::new(text_headers());
    let body = response.body().expect("the first call");
    let stream = body.write();
    lines.add("first", stream.is_ok());
    lines.add("second", body.write().is_ok());
    drop(stream);
    lines.add("after a drop", body.write().is_ok());
    call.say(&lines);
}

/// The stream is a child of the body: a trap, here before any head.
fn finish_with_stream(call: Call) {
    let (_response, body, stream) = spare(Fields::new());
    let finished = OutgoingBody::finish(body, None);
    drop(stream);
    call.answer(200, &format!("finished: {}\n", finished.is_ok()));
}

fn drop_with_stream(call: Call) {
    let (_response, body, stream) = spare(Fields::new());
    drop(body);
    drop(stream);
    call.answer(200, "dropped\n");
}

fn response_dropped(call: Call) {
    let (response, body, stream) = spare(Fields::new());
    drop(stream);
    drop(body);
    drop(response);
    call.answer(200, "another\n");
}

/// What is written to a response that nobody can send any more.
fn response_dropped_body(call: Call) {
    let mut lines = Lines::default();
    let (response, body, stream) = spare(Fields::new());
    drop(response);
    lines.add("check", outcome(stream.check_write().map(|permit| permit > 0)));
    stream.subscribe().block();
    lines.add("write and flush", outcome(stream.blocking_write_and_flush(b"lost")));
    drop(stream);
    lines.add("finish", OutgoingBody::finish(body, None).is_ok());
    call.say(&lines);
}

fn trailers_out(call: Call, headers: &[(&str, &str)], trailers: &[(&str, &str)]) {
    let headers = [&[("content-type", "text/plain")], headers].concat();
    let (body, stream) = set(call.out, OutgoingResponse::new(fields(&headers)));
    write_all(&stream, b"before them\n");
    drop(stream);
    OutgoingBody::finish(body, Some(fields(trailers))).expect("no length was said");
}

/// A response that was not set, and whose body has ended with 30 KB of trailers.
fn heavy() -> OutgoingResponse {
    let value = "v".repeat(1000);
    let (response, body, stream) = spare(Fields::new());
    drop(stream);
    let trailers = fields(&[("x-sum", value.as_str()); 30]);
    OutgoingBody::finish(body, Some(trailers)).expect("no length was said");
    response
}

fn trailers_let_go(call: Call) {
    for _ in 0..200 {
        drop(heavy());
    }
    call.answer(200, "let go: 200\n");
}

/// Six megabytes of them at a time.
fn trailers_hoarded(call: Call) {
    let kept: Vec<_> = (0..200).map(|_| heavy()).collect();
    call.answer(200, &format!("kept: {}\n", kept.len()));
}

/// Says a length, writes something; what comes of that the client sees.
fn length(call: Call, said: &str, written: &str) {
    let headers = fields(&[("content-type", "text/plain"), ("content-length", said)]);
    let (body, stream) = set(call.out, OutgoingResponse::new(headers));
    let permit = stream.check_write().expect("an open stream");
    assert!(permit >= written.len() as u64, "a permit of {permit}");
    let wrote = stream.write(written.as_bytes()).is_ok() && stream.blocking_flush().is_ok();
    drop(stream);
    let finished = OutgoingBody::finish(body, None);
    eprintln!("wrote: {wrote}, finished: {finished:?}");
}

fn length_none(call: Call) {
    let headers = fields(&[("content-type", "text/plain"), ("content-length", "5")]);
    ResponseOutparam::set(call.out, Ok(OutgoingResponse::new(headers)));
}

/// Says a length and ends the body with nothing in it, all before the response is set. The query is the status.
fn length_early(call: Call) {
    let code: u16 = call.query().parse().expect("a number in the query");
    let response = OutgoingResponse::new(fields(&[("content-type", "text/plain"), ("content-length", "5")]));
    response.set_status_code(code).expect("a status that exists");
    let body = response.body().expect("the first call");
    let finished = OutgoingBody::finish(body, None);
    eprintln!("finished: {finished:?}");
    ResponseOutparam::set(call.out, Ok(response));
}

/// What a guest that breaks its own length is told.
fn length_seen(call: Call) {
    let mut lines = Lines::default();
    let finish = |body| match OutgoingBody::finish(body, None) {
        Ok(()) => "ok".to_owned(),
        Err(code) => code_name(&code),
    };
    let five = || spare(fields(&[("content-length", "5")]));

    let (_response, body, stream) = five();
    lines.add("less, write", outcome(stream.check_write().and_then(|_| stream.write(b"12"))));
    drop(stream);
    lines.add("less, finish", finish(body));

    let (_response, body, stream) = five();
    lines.add("exact, write", outcome(stream.check_write().and_then(|_| stream.write(b"12345"))));
    drop(stream);
    lines.add("exact, finish", finish(body));

    let (_response, body, stream) = five();
    let permit = stream.check_write();
    lines.add("more, permit beyond it", permit.is_ok_and(|permit| permit > 5));
    lines.add("more, write", outcome(stream.write(b"12345678")));
    drop(stream);
    lines.add("more, finish", finish(body));
    call.say(&lines);
}

/// The status of the query, and no body; a host may refuse it at once.
fn status(call: Call) {
    let code: u16 = call.query().parse().expect("a number in the query");
    let response = OutgoingResponse::new(text_headers());
    match response.set_status_code(code) {
        Ok(()) => ResponseOutparam::set(call.out, Ok(response)),
        Err(()) => call.answer(200, "refused\n"),
    }
}

/// The status of the query, and a body even where none is allowed.
fn status_with_body(call: Call) {
    let code: u16 = call.query().parse().expect("a number in the query");
    let (body, stream) = call.start(code);
    // Where nothing is sent the stream may be closed already.
    if stream.check_write().is_ok_and(|permit| permit >= 5) {
        let _ = stream.write(b"body\n");
    }
    drop(stream);
    let _: Result<(), ErrorCode> = OutgoingBody::finish(body, None);
}

fn status_codes(call: Call) {
    let mut lines = Lines::default();
    let response = OutgoingResponse::new(Fields::new());
    lines.add("at first", response.status_code());
    for code in [0, 1, 99, 100, 101, 199, 200, 204, 304, 404, 599, 600, 999, 1000, u16::MAX] {
        lines.add(&code.to_string(), (response.set_status_code(code).is_ok(), response.status_code()));
    }
    call.say(&lines);
}

fn head_shown(call: Call) {
    let mut lines = Lines::default();
    let response = OutgoingResponse::new(fields(&[("X-One", "1"), ("x-two", "2")]));
    lines.entries("header", &response.headers());
    call.say(&lines);
}
