//! What outlives a call where its instance does: state, and handles of a request that is over.

use std::cell::{Cell, RefCell};

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse};
use wasip2::io::streams::{InputStream, OutputStream};

use crate::Behaviour;
use crate::call::{Call, Lines, outcome, set, text_headers, write_all};

pub(crate) const ALL: &[Behaviour] = &[
    ("calls", |call| call.answer(200, &format!("{}\n", CALLS.get()))),
    ("count", count),
    ("kept-streams", kept_streams),
    ("kept-request", kept_request),
    ("keep", keep),
    ("hoard", hoard),
];

/// Of one call, for the next. In this order they may be dropped.
struct Kept {
    input: InputStream,
    output: OutputStream,
    _body: OutgoingBody,
    headers: Fields,
    request: IncomingRequest,
}

thread_local! {
    /// All of this instance, whatever they asked for.
    static CALLS: Cell<u32> = const { Cell::new(0) };
    /// Those of `count`.
    static COUNT: Cell<u32> = const { Cell::new(0) };
    static KEPT: RefCell<Option<Kept>> = const { RefCell::new(None) };
}

pub(crate) fn note_call() {
    CALLS.set(CALLS.get() + 1);
}

fn count(call: Call) {
    COUNT.set(COUNT.get() + 1);
    call.answer(200, &format!("{}\n", COUNT.get()));
}

/// Three hundred timers that are never dropped.
fn hoard(call: Call) {
    for _ in 0..300 {
        std::mem::forget(subscribe_duration(0));
    }
    call.answer(200, "hoarded\n");
}

/// Answers in part, and keeps all that it has.
fn keep(call: Call) {
    let Call { request, out } = call;
    let headers = request.headers();
    let incoming = request.consume().expect("the first call");
    let input = incoming.stream().expect("the first call");
    // Its stream is a child of it: it stays for as long as the instance.
    std::mem::forget(incoming);
    let (body, output) = set(out, OutgoingResponse::new(text_headers()));
    write_all(&output, b"part of it\n");
    KEPT.set(Some(Kept { input, output, _body: body, headers, request }));
}

fn kept_streams(call: Call) {
    let mut lines = Lines::default();
    KEPT.with_borrow(|kept| match kept {
        Some(Kept { input, output, headers, .. }) => {
            lines.entries_by_name("header", headers);
            lines.add("read", outcome(input.read(100)));
            lines.add("check", outcome(output.check_write().map(|permit| permit > 0)));
            output.subscribe().block();
            input.subscribe().block();
            lines.add("write and flush", outcome(output.blocking_write_and_flush(b"of another call")));
        }
        None => lines.add("kept", "nothing"),
    });
    call.say(&lines);
}

fn kept_request(call: Call) {
    let mut lines = Lines::default();
    KEPT.with_borrow(|kept| match kept {
        Some(Kept { request, .. }) => lines.add("target", request.path_with_query()),
        None => lines.add("kept", "nothing"),
    });
    call.say(&lines);
}
