//! What a guest goes on to do when its answer has ended.

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::io::streams::StreamError;

use crate::Behaviour;
use crate::call::{Call, outcome};

pub(crate) const ALL: &[Behaviour] = &[
    ("work-after-finish", work_after_finish),
    ("trap-after-finish", trap_after_finish),
    ("read-after-finish", read_after_finish),
];

/// The query names the call in the log.
fn work_after_finish(call: Call) {
    let name = call.query();
    call.answer(200, "done\n");
    subscribe_duration(300_000_000).block();
    eprintln!("{name}: after the end");
}

fn trap_after_finish(call: Call) {
    call.answer(200, "done\n");
    panic!("on purpose, after the end");
}

/// Reads the request's body to its end, and tells the log what it saw, with the query as its name.
fn read_after_finish(call: Call) {
    let name = call.query();
    let body = call.request.consume().expect("the first call");
    let stream = body.stream().expect("the first call");
    call.answer(200, "done\n");
    let mut bytes = 0;
    let end: Result<(), StreamError> = loop {
        match stream.blocking_read(100) {
            Ok(some) => bytes += some.len(),
            Err(error) => break Err(error),
        }
    };
    eprintln!("{name}: {bytes} bytes, then {}", outcome(end));
}
