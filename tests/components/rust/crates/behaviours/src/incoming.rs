//! The incoming request: its head as the guest sees it, its body read, skipped, dropped and finished, its trailers.

use wasip2::http::types::{FutureTrailers, IncomingBody, IncomingRequest, OutgoingBody};
use wasip2::io::streams::{InputStream, StreamError};

use crate::Behaviour;
use crate::call::{Call, Lines, code_name, outcome, write_all};

pub(crate) const ALL: &[Behaviour] = &[
    ("request", request),
    ("consume-twice", consume_twice),
    ("stream-twice", stream_twice),
    ("body-in-dropped", body_in_dropped),
    ("body-in-unread", |call| call.answer(200, "unread\n")),
    ("finish-without-stream", finish_without_stream),
    ("finish-after-a-part", finish_after_a_part),
    ("finish-in-with-stream", finish_in_with_stream),
    ("drop-in-with-stream", drop_in_with_stream),
    ("trailers-in", trailers_in),
    ("trailers-in-twice", trailers_in_twice),
    ("trailers-fixed", trailers_fixed),
    ("echo", echo),
    ("collect", collect),
    ("request-dropped-headers", request_dropped_headers),
    ("request-dropped-body", request_dropped_body),
    ("read-small", read_small),
    ("read-zero", read_zero),
    ("read-after-end", read_after_end),
    ("read-huge", read_huge),
    ("skip", skip),
];

fn open(request: &IncomingRequest) -> (IncomingBody, InputStream) {
    let body = request.consume().expect("the first call");
    let stream = body.stream().expect("the first call");
    (body, stream)
}

/// Reads to the end; the error that was none.
fn read_all(stream: &InputStream) -> Result<Vec<u8>, StreamError> {
    let mut all = Vec::new();
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(bytes) => all.extend(bytes),
            Err(StreamError::Closed) => return Ok(all),
            Err(error) => return Err(error),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn request(call: Call) {
    let mut lines = Lines::default();
    lines.add("method", call.request.method());
    lines.add("target", call.request.path_with_query());
    lines.add("scheme", call.request.scheme());
    lines.add("authority", call.request.authority());
    lines.entries_by_name("header", &call.request.headers());
    call.say(&lines);
}

fn consume_twice(call: Call) {
    let mut lines = Lines::default();
    let body = call.request.consume();
    lines.add("first", body.is_ok());
    lines.add("second", call.request.consume().is_ok());
    drop(body);
    lines.add("after a drop", call.request.consume().is_ok());
    call.say(&lines);
}

fn stream_twice(call: Call) {
    let mut lines = Lines::default();
    let body = call.request.consume().expect("the first call");
    let stream = body.stream();
    lines.add("first", stream.is_ok());
    lines.add("second", body.stream().is_ok());
    drop(stream);
    lines.add("after a drop", body.stream().is_ok());
    call.say(&lines);
}

fn body_in_dropped(call: Call) {
    drop(call.request.consume().expect("the first call"));
    call.answer(200, "dropped\n");
}

fn report_trailers(lines: &mut Lines, future: &FutureTrailers) {
    future.subscribe().block();
    match future.get() {
        Some(Ok(Ok(Some(trailers)))) => {
            lines.add("trailers", trailers.entries().len());
            lines.entries("trailer", &trailers);
        }
        Some(Ok(Ok(None))) => lines.add("trailers", "none"),
        Some(Ok(Err(code))) => lines.add("error", code_name(&code)),
        Some(Err(())) => lines.add("trailers", "taken already"),
        None => lines.add("trailers", "not yet"),
    }
}

/// Skips a body of which nothing was read.
fn finish_without_stream(call: Call) {
    let mut lines = Lines::default();
    let body = call.request.consume().expect("the first call");
    report_trailers(&mut lines, &IncomingBody::finish(body));
    call.say(&lines);
}

fn finish_after_a_part(call: Call) {
    let mut lines = Lines::default();
    let (body, stream) = open(&call.request);
    lines.add("read", outcome(stream.blocking_read(1).map(|bytes| text(&bytes))));
    drop(stream);
    report_trailers(&mut lines, &IncomingBody::finish(body));
    call.say(&lines);
}

/// The stream is a child of the body: a trap.
fn finish_in_with_stream(call: Call) {
    let (body, stream) = open(&call.request);
    let future = IncomingBody::finish(body);
    drop(stream);
    drop(future);
    call.answer(200, "finished\n");
}

fn drop_in_with_stream(call: Call) {
    let (body, stream) = open(&call.request);
    drop(body);
    drop(stream);
    call.answer(200, "dropped\n");
}

fn trailers_in(call: Call) {
    let mut lines = Lines::default();
    let (body, stream) = open(&call.request);
    lines.add("body", outcome(read_all(&stream).map(|bytes| text(&bytes))));
    drop(stream);
    report_trailers(&mut lines, &IncomingBody::finish(body));
    call.say(&lines);
}

fn trailers_in_twice(call: Call) {
    let mut lines = Lines::default();
    let future = IncomingBody::finish(call.request.consume().expect("the first call"));
    report_trailers(&mut lines, &future);
    report_trailers(&mut lines, &future);
    call.say(&lines);
}

fn trailers_fixed(call: Call) {
    let mut lines = Lines::default();
    let future = IncomingBody::finish(call.request.consume().expect("the first call"));
    future.subscribe().block();
    let Some(Ok(Ok(Some(trailers)))) = future.get() else { panic!("no trailers") };
    drop(future);
    lines.add("append", trailers.append("x", b"1").err());
    lines.add("clone", trailers.clone().append("x", b"1").err());
    lines.entries("trailer", &trailers);
    call.say(&lines);
}

/// As it comes, and the trailers with it.
fn echo(call: Call) {
    let (body, from) = open(&call.request);
    let (out, to) = call.start(200);
    while let Ok(bytes) = from.blocking_read(64 * 1024) {
        write_all(&to, &bytes);
    }
    drop(from);
    drop(to);
    let future = IncomingBody::finish(body);
    future.subscribe().block();
    let trailers = match future.get() {
        Some(Ok(Ok(trailers))) => trailers.map(|trailers| trailers.clone()),
        _ => None,
    };
    OutgoingBody::finish(out, trailers).expect("no length was said");
}

fn collect(call: Call) {
    let mut lines = Lines::default();
    let (_body, stream) = open(&call.request);
    lines.add("body", outcome(read_all(&stream).map(|bytes| text(&bytes))));
    drop(stream);
    call.say(&lines);
}

/// The fields are a resource of their own, no child of the request.
fn request_dropped_headers(call: Call) {
    let Call { request, out } = call;
    let headers = request.headers();
    drop(request);
    let mut lines = Lines::default();
    lines.entries_by_name("header", &headers);
    lines.answer(out);
}

/// And so is the body.
fn request_dropped_body(call: Call) {
    let Call { request, out } = call;
    let (_body, stream) = open(&request);
    drop(request);
    let mut lines = Lines::default();
    lines.add("body", outcome(read_all(&stream).map(|bytes| text(&bytes))));
    drop(stream);
    lines.answer(out);
}

fn read_small(call: Call) {
    let mut lines = Lines::default();
    let (_body, stream) = open(&call.request);
    for size in [1, 2, 3] {
        lines.add("read", outcome(stream.blocking_read(size).map(|bytes| text(&bytes))));
    }
    drop(stream);
    call.say(&lines);
}

fn read_zero(call: Call) {
    let mut lines = Lines::default();
    let (_body, stream) = open(&call.request);
    stream.subscribe().block();
    lines.add("read", outcome(stream.read(0)));
    lines.add("blocking read", outcome(stream.blocking_read(0)));
    lines.add("skip", outcome(stream.skip(0)));
    lines.add("blocking skip", outcome(stream.blocking_skip(0)));
    lines.add("then", outcome(read_all(&stream).map(|bytes| text(&bytes))));
    drop(stream);
    call.say(&lines);
}

fn read_after_end(call: Call) {
    let mut lines = Lines::default();
    let (_body, stream) = open(&call.request);
    lines.add("body", outcome(read_all(&stream).map(|bytes| text(&bytes))));
    lines.add("read", outcome(stream.read(1)));
    lines.add("read of nothing", outcome(stream.read(0)));
    lines.add("blocking read", outcome(stream.blocking_read(1)));
    lines.add("skip", outcome(stream.skip(1)));
    lines.add("blocking skip", outcome(stream.blocking_skip(1)));
    let pollable = stream.subscribe();
    pollable.block();
    lines.add("ready", pollable.ready());
    drop(pollable);
    drop(stream);
    call.say(&lines);
}

/// More than any body could hold, and than the guest has memory for.
fn read_huge(call: Call) {
    let mut lines = Lines::default();
    let (_body, stream) = open(&call.request);
    lines.add("read", outcome(stream.blocking_read(u64::MAX).map(|bytes| text(&bytes))));
    drop(stream);
    call.say(&lines);
}

fn skip(call: Call) {
    let mut lines = Lines::default();
    let (_body, stream) = open(&call.request);
    stream.subscribe().block();
    lines.add("skip", outcome(stream.skip(2)));
    lines.add("blocking skip", outcome(stream.blocking_skip(1)));
    lines.add("rest", outcome(read_all(&stream).map(|bytes| text(&bytes))));
    drop(stream);
    call.say(&lines);
}
