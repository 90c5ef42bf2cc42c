//! `log` and `usage`.

use tidegate_abi::errno::EINVAL;
use tidegate_abi::usage::{BYTES, Usage};
use tidegate_abi::{MODULE, names};
use wasmtime::{Caller, Linker, Result};

use super::memory::{bytes, bytes_mut, parts};
use crate::exchange::Stage;
use crate::guest::cost::{logged, spend};
use crate::guest::state::GuestState;
use crate::observe::guest_log::{LINE_BYTES_MAX, Level};

type Guest<'a> = Caller<'a, GuestState>;

pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> Result<()> {
    linker
        .func_wrap(MODULE, names::LOG, |mut guest: Guest<'_>, level: i32, ptr: i32, len: i32| {
            log(&mut guest, level, ptr, len)
        })?
        .func_wrap(MODULE, names::USAGE, |mut guest: Guest<'_>, buf: i32, cap: i32| {
            usage(&mut guest, buf, cap)
        })?;
    Ok(())
}

fn log(guest: &mut Guest<'_>, level: i32, ptr: i32, len: i32) -> Result<i32> {
    let (memory, state) = parts(guest)?;
    let text = bytes(memory, ptr, len)?;
    let Some(level) = Level::from_abi(level.cast_unsigned()) else { return Ok(-EINVAL) };
    let kept = level == Level::Error && state.side.words.as_mut().is_some_and(|words| words.hear(text));
    if !kept {
        state.program.log.record(level, &state.exchange.lock().facts.id, text);
    }
    spend(state, logged(text.len().min(LINE_BYTES_MAX)))?;
    Ok(0)
}

fn usage(guest: &mut Guest<'_>, buf: i32, cap: i32) -> Result<i32> {
    let (memory, state) = parts(guest)?;
    let out = bytes_mut(memory, buf, cap)?;
    let (cpu_used_ns, cpu_left_ns) = state.exchange.slice.used_and_left();
    let inner = state.exchange.lock();
    let wall_left_ns = if inner.response.stage() == Stage::Unset {
        inner.facts.deadline.saturating_sub(state.exchange.slice.clock().now())
    } else {
        u64::MAX
    };
    let usage = Usage {
        cpu_used_ns,
        cpu_left_ns,
        wall_left_ns,
        memory_bytes: state.limiter.memory_bytes() as u64,
        memory_bytes_max: state.limiter.memory_bytes_max() as u64,
    };
    if let Some(room) = out.get_mut(..BYTES) {
        room.copy_from_slice(&usage.to_bytes());
    }
    Ok(i32::try_from(BYTES)?)
}
