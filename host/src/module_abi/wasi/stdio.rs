//! Standard streams: input is empty, output and error are lines of the app's log.

use wasmtime::{Linker, Result};

use super::super::memory::{bytes, bytes_mut, parts, put};
use super::{Guest, MODULE, errno};
use crate::guest::cost::{enter, entries, logged, spend};
use crate::guest::state::GuestState;

/// Vectors of one call.
const VECTORS_MAX: i32 = 1024;
const VECTOR_BYTES: usize = 8;
/// Bytes that one call takes at most; the count says so.
const WRITE_BYTES_MAX: usize = 64 * 1024;
/// `filetype` of a character device.
const CHARACTER_DEVICE: u8 = 2;
const RIGHT_READ: u64 = 1 << 1;
const RIGHT_WRITE: u64 = 1 << 6;

pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> Result<()> {
    linker
        .func_wrap(MODULE, "fd_write", |mut guest: Guest<'_>, fd: i32, iovs: i32, n: i32, out: i32| {
            write(&mut guest, fd, iovs, n, out)
        })?
        .func_wrap(MODULE, "fd_read", |mut guest: Guest<'_>, fd: i32, _: i32, _: i32, out: i32| {
            enter(guest.data())?;
            if fd != 0 {
                return Ok(errno::BADF);
            }
            let (memory, _) = parts(&mut guest)?;
            put(memory, out, 0u32.to_le_bytes())?;
            Ok(errno::SUCCESS)
        })?
        .func_wrap(MODULE, "fd_fdstat_get", |mut guest: Guest<'_>, fd: i32, out: i32| {
            fdstat(&mut guest, fd, out)
        })?
        .func_wrap(MODULE, "fd_filestat_get", |mut guest: Guest<'_>, fd: i32, out: i32| {
            enter(guest.data())?;
            if !is_stdio(fd) {
                return Ok(errno::BADF);
            }
            let (memory, _) = parts(&mut guest)?;
            let stat = bytes_mut(memory, out, 64)?;
            stat.fill(0);
            stat[16] = CHARACTER_DEVICE;
            Ok(errno::SUCCESS)
        })?
        .func_wrap(MODULE, "fd_fdstat_set_flags", |guest: Guest<'_>, fd: i32, _: i32| {
            plain(&guest, fd, errno::SUCCESS)
        })?
        .func_wrap(MODULE, "fd_close", |guest: Guest<'_>, fd: i32| plain(&guest, fd, errno::SUCCESS))?
        .func_wrap(MODULE, "fd_seek", |guest: Guest<'_>, fd: i32, _: i64, _: i32, _: i32| {
            plain(&guest, fd, errno::SPIPE)
        })?
        .func_wrap(MODULE, "fd_tell", |guest: Guest<'_>, fd: i32, _: i32| plain(&guest, fd, errno::SPIPE))?;
    Ok(())
}

/// `errno` for a standard stream, "no such file" for the rest.
fn plain(guest: &Guest<'_>, fd: i32, errno: i32) -> Result<i32> {
    enter(guest.data())?;
    Ok(if is_stdio(fd) { errno } else { errno::BADF })
}

fn is_stdio(fd: i32) -> bool {
    (0..=2).contains(&fd)
}

fn write(guest: &mut Guest<'_>, fd: i32, iovs: i32, n: i32, out: i32) -> Result<i32> {
    let (memory, state) = parts(guest)?;
    let stream = match fd {
        1 => 0,
        2 => 1,
        _ => return Ok(errno::BADF),
    };
    if !(0..=VECTORS_MAX).contains(&n) {
        return Ok(errno::INVAL);
    }
    let mut room = WRITE_BYTES_MAX;
    let inner = state.exchange.lock();
    let vectors = bytes(memory, iovs, n * i32::try_from(VECTOR_BYTES)?)?;
    for vector in vectors.chunks_exact(VECTOR_BYTES) {
        let [ptr, len] = [0, 4].map(|at| {
            let number = vector.get(at..at + 4).and_then(|b| b.try_into().ok()).unwrap_or([0; 4]);
            i32::from_le_bytes(number)
        });
        let text = bytes(memory, ptr, len)?;
        let text = text.get(..room).unwrap_or(text);
        if let Some(words) = state.side.words.as_mut().filter(|_| stream == 1) {
            words.overhear(text);
        }
        if let Some(lines) = state.side.stdio.get_mut(stream) {
            lines.write(text, &state.program.log, &inner.facts.id);
        }
        room -= text.len();
    }
    drop(inner);
    spend(state, logged(WRITE_BYTES_MAX - room) + entries(vectors.len() / VECTOR_BYTES))?;
    put(memory, out, u32::try_from(WRITE_BYTES_MAX - room)?.to_le_bytes())?;
    Ok(errno::SUCCESS)
}

fn fdstat(guest: &mut Guest<'_>, fd: i32, out: i32) -> Result<i32> {
    enter(guest.data())?;
    if !is_stdio(fd) {
        return Ok(errno::BADF);
    }
    let (memory, _) = parts(guest)?;
    let rights = if fd == 0 { RIGHT_READ } else { RIGHT_WRITE };
    let stat = bytes_mut(memory, out, 24)?;
    stat.fill(0);
    stat[0] = CHARACTER_DEVICE;
    stat[8..16].copy_from_slice(&rights.to_le_bytes());
    Ok(errno::SUCCESS)
}
