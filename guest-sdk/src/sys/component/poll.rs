//! Waiting, on `wasi:io/poll`.

use tidegate_abi::poll::{ERROR, Entry, READABLE, WRITABLE};
use wasip2::clocks::monotonic_clock;
use wasip2::io::poll::Pollable;

use super::{Call, Handles};

/// Waits that long; for ever, if it is negative.
pub(super) fn sleep(timeout_ns: i64) {
    let timeout_ns = u64::try_from(timeout_ns).unwrap_or(u64::MAX);
    if timeout_ns > 0 {
        monotonic_clock::subscribe_duration(timeout_ns).block();
    }
}

/// As the import `poll`, for at least one entry.
pub(super) fn poll(call: &mut Call, entries: &mut [Entry], timeout_ns: i64) -> i32 {
    let handles = call.handles;
    let mut ready = 0;
    let (mut reads, mut writes) = (false, false);
    for entry in &mut *entries {
        entry.ready = 0;
        let known = if entry.handle == handles.request_body {
            call.incoming.stream(&call.request).is_none() || call.incoming.is_known()
        } else if entry.handle == handles.response_body {
            call.outgoing.is_known()
        } else {
            // Of an earlier call: whoever uses it hears so at once.
            entry.ready = ERROR;
            ready += 1;
            continue;
        };
        if known {
            entry.ready = entry.interest;
            ready += 1;
        }
        reads |= asks(handles, entry, READABLE);
        writes |= asks(handles, entry, WRITABLE);
    }
    if timeout_ns != 0 {
        // What was written must not wait for its writer.
        call.outgoing.flush();
    }
    let read = if reads { call.incoming.pollable(&call.request) } else { None };
    let write = if writes { call.outgoing.pollable() } else { None };
    let fired =
        if ready > 0 || timeout_ns == 0 { look([read, write]) } else { wait([read, write], timeout_ns) };
    for entry in entries.iter_mut().filter(|entry| entry.ready == 0) {
        if fired[0] && asks(handles, entry, READABLE) {
            entry.ready |= READABLE;
        }
        if fired[1] && asks(handles, entry, WRITABLE) {
            entry.ready |= WRITABLE;
        }
        ready += i32::from(entry.ready != 0);
    }
    ready
}

/// Whether the host has to be asked about this direction: a request's body is read, and a response's is written.
fn asks(handles: Handles, entry: &Entry, interest: u16) -> bool {
    let handle = if interest == READABLE { handles.request_body } else { handles.response_body };
    entry.ready == 0 && entry.handle == handle && entry.interest & interest != 0
}

/// Which of them are ready now.
fn look(of: [Option<&Pollable>; 2]) -> [bool; 2] {
    of.map(|pollable| pollable.is_some_and(Pollable::ready))
}

/// Waits until one of them is ready, or the time is over. Says which are.
fn wait(of: [Option<&Pollable>; 2], timeout_ns: i64) -> [bool; 2] {
    let timer = u64::try_from(timeout_ns).ok().map(monotonic_clock::subscribe_duration);
    let all: Vec<&Pollable> = of.into_iter().flatten().chain(&timer).collect();
    match all[..] {
        [] => return [false; 2],
        [only] => {
            only.block();
            return of.map(|pollable| pollable.is_some());
        }
        _ => {}
    }
    let fired = wasip2::io::poll::poll(&all);
    let mut at = 0;
    of.map(|pollable| {
        let here = at;
        at += u32::from(pollable.is_some());
        pollable.is_some() && fired.contains(&here)
    })
}
