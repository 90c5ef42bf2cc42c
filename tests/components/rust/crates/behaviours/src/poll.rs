//! Pollables and clocks.

use wasip2::clocks::{monotonic_clock, wall_clock};
use wasip2::http::types::{Fields, IncomingBody};
use wasip2::io::poll::poll;

use crate::Behaviour;
use crate::call::{Call, Lines, spare};

pub(crate) const ALL: &[Behaviour] = &[
    ("poll-nothing", |call| {
        let ready = poll(&[]);
        call.answer(200, &format!("{ready:?}\n"));
    }),
    ("poll-several", several),
    ("poll-first-of-many", first_of_many),
    ("poll-twice-the-same", twice_the_same),
    ("poll-body", body),
    ("pollable-outlives-stream", outlives_stream),
    ("pollable-outlives-trailers", outlives_trailers),
    ("pollable-of-output-outlives-it", output_outlives),
    ("timers", timers),
    ("clocks", clocks),
];

const LONG: u64 = 3_600_000_000_000;
const MS: u64 = 1_000_000;

fn several(call: Call) {
    let mut lines = Lines::default();
    let now = monotonic_clock::subscribe_duration(0);
    let long = monotonic_clock::subscribe_duration(LONG);
    let past = monotonic_clock::subscribe_instant(0);
    lines.add("ready", poll(&[&now, &long, &past]));
    lines.add("again", poll(&[&long, &past]));
    lines.add("each", [now.ready(), long.ready(), past.ready()]);
    call.say(&lines);
}

fn first_of_many(call: Call) {
    let mut lines = Lines::default();
    let timers: Vec<_> =
        (0..200).map(|n| monotonic_clock::subscribe_duration(if n == 123 { 5 * MS } else { LONG })).collect();
    lines.add("ready", poll(&timers.iter().collect::<Vec<_>>()));
    call.say(&lines);
}

fn twice_the_same(call: Call) {
    let mut lines = Lines::default();
    let timer = monotonic_clock::subscribe_duration(MS);
    lines.add("ready", poll(&[&timer, &timer]));
    timer.block();
    lines.add("block returns again", timer.ready());
    call.say(&lines);
}

/// A body and a timer: whichever comes first.
fn body(call: Call) {
    let mut lines = Lines::default();
    let body = call.request.consume().expect("the first call");
    let stream = body.stream().expect("the first call");
    let long = monotonic_clock::subscribe_duration(LONG);
    let readable = stream.subscribe();
    lines.add("ready", poll(&[&long, &readable]));
    lines.add("read", stream.read(100).map(|bytes| bytes.escape_ascii().to_string()).ok());
    drop(readable);
    drop(stream);
    call.say(&lines);
}

/// A pollable is a child of what it was made of: to drop that first is a trap.
fn outlives_stream(call: Call) {
    let body = call.request.consume().expect("the first call");
    let stream = body.stream().expect("the first call");
    let pollable = stream.subscribe();
    drop(stream);
    drop(pollable);
    call.answer(200, "dropped\n");
}

fn outlives_trailers(call: Call) {
    let future = IncomingBody::finish(call.request.consume().expect("the first call"));
    let pollable = future.subscribe();
    drop(future);
    drop(pollable);
    call.answer(200, "dropped\n");
}

fn output_outlives(call: Call) {
    let (_response, _body, stream) = spare(Fields::new());
    let pollable = stream.subscribe();
    drop(stream);
    drop(pollable);
    call.answer(200, "dropped\n");
}

fn timers(call: Call) {
    let mut lines = Lines::default();
    let start = monotonic_clock::now();
    let timer = monotonic_clock::subscribe_duration(20 * MS);
    lines.add("ready at once", timer.ready());
    timer.block();
    lines.add("ready after", timer.ready());
    lines.add("early", monotonic_clock::now() - start < 20 * MS);
    let at = monotonic_clock::now() + 10 * MS;
    monotonic_clock::subscribe_instant(at).block();
    lines.add("early", monotonic_clock::now() < at);
    // Dropped while it runs, and one that can never come.
    drop(monotonic_clock::subscribe_duration(MS));
    lines.add("never", monotonic_clock::subscribe_duration(u64::MAX).ready());
    lines.add("never", monotonic_clock::subscribe_instant(u64::MAX).ready());
    call.say(&lines);
}

fn clocks(call: Call) {
    let mut lines = Lines::default();
    let times: Vec<_> = (0..100).map(|_| monotonic_clock::now()).collect();
    lines.add("monotonic", times.is_sorted());
    lines.add("resolution", (1..=1_000_000_000).contains(&monotonic_clock::resolution()));
    let (now, resolution) = (wall_clock::now(), wall_clock::resolution());
    // Between 2025 and 2100.
    lines.add(
        "wall",
        (1_735_689_600..4_102_444_800).contains(&now.seconds) && now.nanoseconds < 1_000_000_000,
    );
    lines.add(
        "wall resolution",
        resolution.seconds <= 1 && (resolution.seconds, resolution.nanoseconds) != (0, 0),
    );
    call.say(&lines);
}
