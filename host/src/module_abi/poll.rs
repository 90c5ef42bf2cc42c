//! `poll`: the one call that parks the fiber.

use std::task::Poll;

use tidegate_abi::errno::EINVAL;
use tidegate_abi::poll::{ENTRIES_MAX, ENTRY_BYTES, ERROR, Entry, HANGUP, READABLE, WRITABLE};
use tidegate_abi::{MODULE, names};
use wasmtime::{Caller, Linker, Result};

use super::memory::{bytes, bytes_mut, parts};
use super::opened;
use crate::clock::Nanos;
use crate::exchange::{Inner, Park};
use crate::guest::cost::{enter, entries as cost_of, spend};
use crate::guest::module::Handle;
use crate::guest::state::GuestState;

pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> Result<()> {
    linker.func_wrap_async(
        MODULE,
        names::POLL,
        |mut guest: Caller<'_, GuestState>, (ptr, n, timeout): (i32, i32, i64)| {
            Box::new(async move { poll(&mut guest, ptr, n, timeout).await })
        },
    )?;
    Ok(())
}

async fn poll(guest: &mut Caller<'_, GuestState>, ptr: i32, n: i32, timeout: i64) -> Result<i32> {
    enter(guest.data())?;
    let Some(n) = usize::try_from(n).ok().filter(|n| *n <= ENTRIES_MAX) else { return Ok(-EINVAL) };
    let len = i32::try_from(n * ENTRY_BYTES)?;
    let (memory, state) = parts(guest)?;
    spend(state, cost_of(n))?;
    let mut entries: Vec<Entry> = bytes(memory, ptr, len)?
        .chunks_exact(ENTRY_BYTES)
        .filter_map(|b| b.try_into().ok().map(Entry::from_bytes))
        .collect();
    let park = park_for(state, &entries, timeout);
    let ready = wait(state, park, &mut entries).await;
    let (memory, _) = parts(guest)?;
    for (entry, out) in entries.iter().zip(bytes_mut(memory, ptr, len)?.chunks_exact_mut(ENTRY_BYTES)) {
        out.copy_from_slice(&entry.to_bytes());
    }
    Ok(ready)
}

fn find(state: &GuestState, entry: &Entry) -> Option<Handle> {
    state.side.handles.find(entry.handle)
}

/// What would wake a guest that waits for `entries`, in its exchange.
fn park_for(state: &GuestState, entries: &[Entry], timeout_ns: i64) -> Park {
    let asks = |handle, interest| {
        entries.iter().any(|e| e.interest & interest != 0 && find(state, e) == Some(handle))
    };
    let timeout = u64::try_from(timeout_ns).ok();
    Park {
        readable: asks(Handle::RequestBody, READABLE),
        writable: asks(Handle::ResponseBody, WRITABLE),
        faults: !entries.is_empty(),
        until: timeout.map(|ns| state.exchange.slice.clock().now().saturating_add(ns)),
    }
}

/// What is so of a body. Errors and hang-ups are always told; a bad handle is an error.
fn readiness(handle: Option<Handle>, inner: &mut Inner, interest: u16) -> u16 {
    let mut ready = 0;
    match handle {
        None => ready |= ERROR,
        Some(Handle::RequestBody) => {
            if interest & READABLE != 0 {
                inner.request.want();
                if inner.request.is_ready() {
                    ready |= READABLE;
                }
            }
            if inner.request.fault().is_some() {
                ready |= ERROR | HANGUP;
            }
        }
        Some(Handle::ResponseBody) => {
            if interest & WRITABLE != 0 && inner.response.is_ready() {
                ready |= WRITABLE;
            }
            if inner.response.fault().is_some() {
                ready |= ERROR | HANGUP;
            }
        }
        Some(Handle::Opened(_)) => {}
    }
    ready
}

/// Parks the fiber until something is so of an entry, or until the time is up. Returns of how many.
///
/// Of bodies, and of the time, the worker knows what wakes the guest: it is noted in the exchange. What the guest has opened
/// wakes it through its waker.
async fn wait(state: &mut GuestState, park: Park, entries: &mut [Entry]) -> i32 {
    std::future::poll_fn(move |cx| {
        let mut due = park.until;
        // No lock is held here: what is opened has locks of its own.
        for entry in &mut *entries {
            entry.ready = 0;
            if let Some(Handle::Opened(place)) = find(state, entry)
                && let Some(opened) = state.side.handles.opened(place)
            {
                entry.ready = opened::readiness(opened, entry.interest, cx, &mut due);
            }
        }
        let mut inner = state.exchange.lock();
        inner.park = None;
        let mut ready = 0;
        for entry in &mut *entries {
            entry.ready |= readiness(find(state, entry), &mut inner, entry.interest);
            ready += i32::from(entry.ready != 0);
        }
        let over = park.until.is_some_and(|at| at <= state.exchange.slice.clock().now());
        if ready > 0 || over {
            return Poll::Ready(ready);
        }
        inner.park = Some(Park { until: due, ..park });
        Poll::Pending
    })
    .await
}

/// Parks the fiber until a point in time.
pub(super) async fn sleep_until(state: &GuestState, at: Nanos) {
    std::future::poll_fn(move |_| {
        let mut inner = state.exchange.lock();
        inner.park = None;
        if at <= state.exchange.slice.clock().now() {
            return Poll::Ready(());
        }
        inner.park = Some(Park { readable: false, writable: false, faults: false, until: Some(at) });
        Poll::Pending
    })
    .await;
}
