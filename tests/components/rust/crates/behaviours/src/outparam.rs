//! The response outparam: never set, dropped, set to a failure, set early and late; and handlers that fail.

use std::hint::black_box;
use std::mem;

use wasip2::cli::exit::exit;
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::http::types::{
    DnsErrorPayload, ErrorCode, FieldSizePayload, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

use crate::Behaviour;
use crate::call::{Call, set, text_headers, write_all};

pub(crate) const ALL: &[Behaviour] = &[
    ("hello", |call| call.answer(200, "hello\n")),
    ("unset", |call| mem::forget(call.out)),
    ("dropped", |call| drop(call.out)),
    ("error", error),
    ("set-late", set_late),
    ("body-before-set", body_before_set),
    ("panic", |_| panic!("on purpose")),
    ("panic-late", panic_late),
    ("recurse", |call| {
        let depth = recurse(call.path().len() as u64);
        call.answer(200, &format!("{depth}\n"));
    }),
    ("exit-ok", |_| exit(Ok(()))),
    ("exit-err", |_| exit(Err(()))),
    ("exit-late", exit_late),
];

fn error(call: Call) {
    let code = match call.query().as_str() {
        "internal" => ErrorCode::InternalError(Some("on purpose".to_owned())),
        "denied" => ErrorCode::HttpRequestDenied,
        "length-required" => ErrorCode::HttpRequestLengthRequired,
        "too-large" => ErrorCode::HttpRequestBodySize(Some(5)),
        "timeout" => ErrorCode::HttpResponseTimeout,
        "upstream" => ErrorCode::ConnectionRefused,
        "dns" => {
            ErrorCode::DnsError(DnsErrorPayload { rcode: Some("NXDOMAIN".to_owned()), info_code: Some(3) })
        }
        "field" => {
            let payload = FieldSizePayload { field_name: Some("x".to_owned()), field_size: Some(9) };
            ErrorCode::HttpResponseHeaderSize(payload)
        }
        "loop" => ErrorCode::LoopDetected,
        _ => ErrorCode::ConfigurationError,
    };
    ResponseOutparam::set(call.out, Err(code));
}

fn set_late(call: Call) {
    subscribe_duration(20_000_000).block();
    call.answer(200, "late\n");
}

fn body_before_set(call: Call) {
    let response = OutgoingResponse::new(text_headers());
    let body = response.body().expect("the first call");
    let stream = body.write().expect("the first call");
    let permit = stream.check_write().expect("an open stream");
    assert!(permit >= 6, "a permit of {permit}");
    stream.write(b"early\n").expect("within the permit");
    drop(stream);
    OutgoingBody::finish(body, None).expect("no length was said");
    ResponseOutparam::set(call.out, Ok(response));
}

fn panic_late(call: Call) {
    let (_body, stream) = call.start(200);
    write_all(&stream, b"part of it\n");
    panic!("on purpose, after the head");
}

fn exit_late(call: Call) {
    let (_body, stream) = set(call.out, OutgoingResponse::new(text_headers()));
    write_all(&stream, b"part of it\n");
    exit(Ok(()));
}

/// Until the stack is full.
#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    black_box([depth; 64]);
    black_box(recurse(black_box(depth + 1))) + 1
}
