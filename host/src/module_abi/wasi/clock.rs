//! Clocks and waiting, on the worker's timer wheel.

use std::time::{SystemTime, UNIX_EPOCH};

use wasmtime::{Linker, Result};

use super::super::memory::{bytes, bytes_mut, parts, put};
use super::super::poll::sleep_until;
use super::{Guest, MODULE, errno};
use crate::clock::Nanos;
use crate::guest::cost::{enter, entries, spend};
use crate::guest::state::GuestState;

/// Bytes of a `subscription` and of an `event` of preview 1.
const SUBSCRIPTION_BYTES: usize = 48;
const EVENT_BYTES: usize = 32;
/// Subscriptions of one call.
const SUBSCRIPTIONS_MAX: usize = 256;
/// The tag of a clock among subscriptions.
const TAG_CLOCK: u8 = 0;
/// The flag that makes a clock's timeout a point in time.
const FLAG_ABSTIME: u16 = 1;
/// What the clocks tell apart, in nanoseconds.
const RESOLUTION_NS: u64 = 1;

pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> Result<()> {
    linker
        .func_wrap(MODULE, "clock_res_get", |mut guest: Guest<'_>, id: i32, out: i32| {
            let (memory, state) = parts(&mut guest)?;
            if read_clock(state, id.cast_unsigned()).is_none() {
                return Ok(errno::INVAL);
            }
            put(memory, out, RESOLUTION_NS.to_le_bytes())?;
            Ok(errno::SUCCESS)
        })?
        .func_wrap(MODULE, "clock_time_get", |mut guest: Guest<'_>, id: i32, _: i64, out: i32| {
            let (memory, state) = parts(&mut guest)?;
            let Some(now) = read_clock(state, id.cast_unsigned()) else { return Ok(errno::INVAL) };
            put(memory, out, now.to_le_bytes())?;
            Ok(errno::SUCCESS)
        })?
        .func_wrap_async(MODULE, "sched_yield", |guest: Guest<'_>, (): ()| {
            Box::new(async move {
                enter(guest.data())?;
                let mut first = true;
                std::future::poll_fn(|_| {
                    if std::mem::take(&mut first) {
                        guest.data().exchange.slice.give_up();
                        return std::task::Poll::Pending;
                    }
                    std::task::Poll::Ready(Ok(errno::SUCCESS))
                })
                .await
            })
        })?
        .func_wrap_async(
            MODULE,
            "poll_oneoff",
            |mut guest: Guest<'_>, (input, output, n, out): (i32, i32, i32, i32)| {
                Box::new(async move { poll_oneoff(&mut guest, input, output, n, out).await })
            },
        )?;
    Ok(())
}

/// The time on one of the clocks of preview 1: realtime, monotonic, the request's CPU time (twice).
fn read_clock(state: &GuestState, id: u32) -> Option<Nanos> {
    let slice = &state.exchange.slice;
    Some(match id {
        0 => {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        }
        1 => slice.clock().now(),
        2 | 3 => slice.used_and_left().0,
        _ => return None,
    })
}

/// One subscription: the guest's own mark, its tag, and when it is due.
#[derive(Clone, Copy)]
struct Subscription {
    userdata: [u8; 8],
    tag: u8,
    due: Nanos,
    error: i32,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|b| b.try_into().ok()).unwrap_or([0; N])
}

fn subscription(state: &GuestState, bytes: &[u8]) -> Subscription {
    let userdata = number(bytes, 0);
    let [tag] = number(bytes, 8);
    let now = state.exchange.slice.clock().now();
    if tag != TAG_CLOCK {
        // Standard streams are always ready, and there is nothing else.
        return Subscription { userdata, tag, due: now, error: errno::SUCCESS };
    }
    let id = u32::from_le_bytes(number(bytes, 16));
    let timeout = u64::from_le_bytes(number(bytes, 24));
    let absolute = u16::from_le_bytes(number(bytes, 40)) & FLAG_ABSTIME != 0;
    let Some(clock_now) = read_clock(state, id) else {
        return Subscription { userdata, tag, due: now, error: errno::INVAL };
    };
    let wait = if absolute { timeout.saturating_sub(clock_now) } else { timeout };
    Subscription { userdata, tag, due: now.saturating_add(wait), error: errno::SUCCESS }
}

async fn poll_oneoff(guest: &mut Guest<'_>, input: i32, output: i32, n: i32, out: i32) -> Result<i32> {
    enter(guest.data())?;
    let Some(count) = usize::try_from(n).ok().filter(|n| (1..=SUBSCRIPTIONS_MAX).contains(n)) else {
        return Ok(errno::INVAL);
    };
    let (memory, state) = parts(guest)?;
    // Each looks at a clock, twice.
    spend(state, 4 * entries(count))?;
    let given = bytes(memory, input, i32::try_from(count * SUBSCRIPTION_BYTES)?)?;
    let subscriptions: Vec<_> =
        given.chunks_exact(SUBSCRIPTION_BYTES).map(|b| subscription(state, b)).collect();
    bytes(memory, output, i32::try_from(count * EVENT_BYTES)?)?;
    bytes(memory, out, 4)?;
    let first = subscriptions.iter().map(|s| s.due).min().unwrap_or(0);
    sleep_until(state, first).await;

    let (memory, state) = parts(guest)?;
    let now = state.exchange.slice.clock().now();
    let mut events: u32 = 0;
    let room = bytes_mut(memory, output, i32::try_from(count * EVENT_BYTES)?)?;
    for (s, event) in subscriptions.iter().filter(|s| s.due <= now).zip(room.chunks_exact_mut(EVENT_BYTES)) {
        let mut bytes = [0; EVENT_BYTES];
        bytes[..8].copy_from_slice(&s.userdata);
        bytes[8..10].copy_from_slice(&u16::try_from(s.error)?.to_le_bytes());
        bytes[10] = s.tag;
        event.copy_from_slice(&bytes);
        events += 1;
    }
    put(memory, out, events.to_le_bytes())?;
    Ok(errno::SUCCESS)
}
