//! WASI preview 1 for modules: what `std` needs without files.
//!
//! Clocks, random numbers, the environment, standard output and error into the app's log, waiting. There are no files
//! and no sockets here: those functions exist, so that programs which link them load, and say so when they are called.

mod clock;
mod stdio;
mod unsupported;

use wasmtime::{Caller, Linker, Result, bail};

use super::memory::{bytes_mut, parts, put};
use crate::guest::cost::{CALL, copied, enter, entries, random as cost_of, spend};
use crate::guest::state::GuestState;

pub(super) type Guest<'a> = Caller<'a, GuestState>;

/// The import module.
pub(super) const MODULE: &str = "wasi_snapshot_preview1";

/// Error numbers of preview 1 that are used here. They are returned as they are, not negative.
pub(super) mod errno {
    pub(in crate::module_abi) const SUCCESS: i32 = 0;
    pub(in crate::module_abi) const BADF: i32 = 8;
    pub(in crate::module_abi) const INVAL: i32 = 28;
    pub(in crate::module_abi) const IO: i32 = 29;
    pub(in crate::module_abi) const SPIPE: i32 = 70;
    pub(in crate::module_abi) const NOTCAPABLE: i32 = 76;
}

/// Random bytes that one call gives at most.
const RANDOM_BYTES_MAX: usize = 64 * 1024;

pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> Result<()> {
    clock::add_to_linker(linker)?;
    stdio::add_to_linker(linker)?;
    unsupported::add_to_linker(linker)?;
    linker
        .func_wrap(MODULE, "args_sizes_get", |mut guest: Guest<'_>, count: i32, bytes: i32| {
            let (memory, _) = parts(&mut guest)?;
            put(memory, count, 0u32.to_le_bytes())?;
            put(memory, bytes, 0u32.to_le_bytes())?;
            Ok(errno::SUCCESS)
        })?
        .func_wrap(MODULE, "args_get", |guest: Guest<'_>, _: i32, _: i32| {
            enter(guest.data())?;
            Ok(errno::SUCCESS)
        })?
        .func_wrap(MODULE, "environ_sizes_get", |mut guest: Guest<'_>, count: i32, bytes: i32| {
            environ_sizes(&mut guest, count, bytes)
        })?
        .func_wrap(MODULE, "environ_get", |mut guest: Guest<'_>, table: i32, texts: i32| {
            environ(&mut guest, table, texts)
        })?
        .func_wrap(MODULE, "random_get", |mut guest: Guest<'_>, ptr: i32, len: i32| {
            random(&mut guest, ptr, len)
        })?
        .func_wrap(MODULE, "proc_exit", |_: Guest<'_>, code: i32| -> Result<()> {
            bail!("the guest called exit({code})")
        })?;
    Ok(())
}

fn environ_sizes(guest: &mut Guest<'_>, count: i32, bytes: i32) -> Result<i32> {
    let (memory, state) = parts(guest)?;
    let env = &state.program.environ;
    put(memory, count, u32::try_from(env.len())?.to_le_bytes())?;
    let size: usize = env.iter().map(Vec::len).sum();
    spend(state, entries(env.len()))?;
    put(memory, bytes, u32::try_from(size)?.to_le_bytes())?;
    Ok(errno::SUCCESS)
}

fn environ(guest: &mut Guest<'_>, mut table: i32, mut texts: i32) -> Result<i32> {
    let (memory, state) = parts(guest)?;
    for text in &state.program.environ {
        spend(state, CALL + copied(text.len()))?;
        let len = i32::try_from(text.len())?;
        put(memory, table, texts.to_le_bytes())?;
        bytes_mut(memory, texts, len)?.copy_from_slice(text);
        table = table.wrapping_add(4);
        texts = texts.wrapping_add(len);
    }
    Ok(errno::SUCCESS)
}

fn random(guest: &mut Guest<'_>, ptr: i32, len: i32) -> Result<i32> {
    let (memory, state) = parts(guest)?;
    let mut room = bytes_mut(memory, ptr, len)?;
    if room.len() > RANDOM_BYTES_MAX {
        return Ok(errno::INVAL);
    }
    spend(state, cost_of(room.len()))?;
    while !room.is_empty() {
        let Ok(n) = rustix::rand::getrandom(&mut *room, rustix::rand::GetRandomFlags::empty()) else {
            return Ok(errno::IO);
        };
        room = room.get_mut(n..).unwrap_or_default();
    }
    Ok(errno::SUCCESS)
}
