//! Bodies: reading, writing, ending. What a guest has opened is read and written by the same calls: see [`opened`].

use tidegate_abi::errno::{EAGAIN, EBADF, EINVAL};
use tidegate_abi::fields::{pack, packed_bytes};
use tidegate_abi::{MODULE, names};
use wasmtime::{Caller, Linker, Result};

use super::head::field_list;
use super::memory::{bytes, bytes_mut, parts};
use super::{count, fault_errno, forward, opened, status};
use crate::guest::cost::{copied, enter, entries, spend};
use crate::guest::module::Handle;
use crate::guest::state::GuestState;

type Guest<'a> = Caller<'a, GuestState>;

pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> Result<()> {
    linker
        .func_wrap(MODULE, names::READ, |mut guest: Guest<'_>, handle: i32, ptr: i32, len: i32| {
            read(&mut guest, handle, ptr, len)
        })?
        .func_wrap(MODULE, names::WRITE, |mut guest: Guest<'_>, handle: i32, ptr: i32, len: i32| {
            write(&mut guest, handle, ptr, len)
        })?
        .func_wrap(MODULE, names::FORWARD, |mut guest: Guest<'_>, from: i32, to: i32, n: i64| {
            forward::forward(guest.data_mut(), from, to, n)
        })?
        .func_wrap(MODULE, names::FINISH, |mut guest: Guest<'_>, handle: i32, ptr: i32, len: i32| {
            finish(&mut guest, handle, ptr, len)
        })?
        .func_wrap(MODULE, names::TRAILERS, |mut guest: Guest<'_>, handle: i32, ptr: i32, cap: i32| {
            trailers(&mut guest, handle, ptr, cap)
        })?
        .func_wrap(MODULE, names::CLOSE, |mut guest: Guest<'_>, handle: i32| close(guest.data_mut(), handle))?
        .func_wrap(MODULE, names::ERROR, |mut guest: Guest<'_>, handle: i32| {
            error(guest.data_mut(), handle)
        })?;
    Ok(())
}

pub(super) fn find(state: &GuestState, handle: i32) -> Option<Handle> {
    state.side.handles.find(handle.cast_unsigned())
}

fn read(guest: &mut Guest<'_>, handle: i32, ptr: i32, len: i32) -> Result<i32> {
    let (memory, state) = parts(guest)?;
    let into = bytes_mut(memory, ptr, len)?;
    match find(state, handle) {
        None | Some(Handle::ResponseBody) => Ok(-EBADF),
        Some(_) if into.is_empty() => Ok(-EINVAL),
        Some(Handle::RequestBody) => read_request(state, into),
        Some(Handle::Opened(place)) => opened::read(state, place, into),
    }
}

fn read_request(state: &GuestState, into: &mut [u8]) -> Result<i32> {
    let mut inner = state.exchange.lock();
    let request = &mut inner.request;
    request.want();
    let n = request.pipe.read(into);
    if n > 0 {
        spend(state, copied(n))?;
        return Ok(i32::try_from(n).unwrap_or(i32::MAX));
    }
    Ok(match request.fault() {
        Some(fault) => -fault_errno(fault),
        None if request.pipe.is_ended() => 0,
        None => -EAGAIN,
    })
}

fn write(guest: &mut Guest<'_>, handle: i32, ptr: i32, len: i32) -> Result<i32> {
    let (memory, state) = parts(guest)?;
    let from = bytes(memory, ptr, len)?;
    match find(state, handle) {
        None | Some(Handle::RequestBody) => Ok(-EBADF),
        Some(Handle::ResponseBody) => {
            let written = state.exchange.lock().response.write(from);
            spend(state, copied(written.unwrap_or(0)))?;
            Ok(count(written))
        }
        Some(Handle::Opened(place)) => opened::write(state, place, from),
    }
}

fn finish(guest: &mut Guest<'_>, handle: i32, ptr: i32, len: i32) -> Result<i32> {
    let (memory, state) = parts(guest)?;
    let trailers = bytes(memory, ptr, len)?;
    match find(state, handle) {
        None | Some(Handle::RequestBody) => Ok(-EBADF),
        Some(Handle::ResponseBody) => Ok(match field_list(state, trailers)? {
            Ok(trailers) => status(state.exchange.lock().response.finish(trailers.iter())),
            Err(errno) => -errno,
        }),
        Some(Handle::Opened(place)) => opened::finish(state, place, trailers),
    }
}

fn trailers(guest: &mut Guest<'_>, handle: i32, ptr: i32, cap: i32) -> Result<i32> {
    let (memory, state) = parts(guest)?;
    let out = bytes_mut(memory, ptr, cap)?;
    match find(state, handle) {
        None | Some(Handle::ResponseBody) => Ok(-EBADF),
        Some(Handle::RequestBody) => request_trailers(state, out),
        Some(Handle::Opened(place)) => opened::trailers(state, place, out),
    }
}

fn request_trailers(state: &GuestState, out: &mut [u8]) -> Result<i32> {
    let inner = state.exchange.lock();
    let request = &inner.request;
    if !request.pipe.drained() {
        return Ok(request.fault().map_or(-EAGAIN, |fault| -fault_errno(fault)));
    }
    let fields = &request.trailers;
    let size = packed_bytes(fields.len(), fields.byte_len());
    if size <= out.len() {
        spend(state, copied(size) + entries(fields.len()))?;
        pack(fields.iter(), out);
    }
    Ok(i32::try_from(size).unwrap_or(i32::MAX))
}

fn close(state: &mut GuestState, handle: i32) -> Result<i32> {
    enter(state)?;
    let Some(found) = find(state, handle) else { return Ok(-EBADF) };
    if found == Handle::ResponseBody {
        state.exchange.lock().response.abandon();
    }
    state.side.handles.close(found);
    Ok(0)
}

fn error(state: &mut GuestState, handle: i32) -> Result<i32> {
    enter(state)?;
    Ok(match find(state, handle) {
        None => -EBADF,
        Some(Handle::RequestBody) => state.exchange.lock().request.fault().map_or(0, fault_errno),
        Some(Handle::ResponseBody) => state.exchange.lock().response.fault().map_or(0, fault_errno),
        Some(Handle::Opened(place)) => state.side.handles.opened(place).and_then(opened::fault).unwrap_or(0),
    })
}
