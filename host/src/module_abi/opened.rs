//! What a guest does with what it has opened: sockets, lookups, requests to others.
//!
//! The calls are those for bodies (`read`, `write`, `finish`, `poll` and the others); [`body`] and [`poll`] lead here.
//! Each moves a bounded number of bytes.
//!
//! [`body`]: super::body
//! [`poll`]: super::poll

use std::task::{Context, Poll};

use tidegate_abi::errno::{EAGAIN, EBADF, EINVAL, ENOTSUP, Errno};
use tidegate_abi::poll::{ERROR, HANGUP, READABLE, WRITABLE};
use tidegate_abi::socket::{ENTRY_BYTES, entry};
use wasmtime::Result;

use super::head::field_list;
use super::{Done, answer, fetch, kv, system_errno};
use crate::clock::Nanos;
use crate::guest::cost::{moved, spend};
use crate::guest::module::Opened;
use crate::guest::state::GuestState;
use crate::net::connect::{Connection, Names};
use crate::net::tcp::TcpStream;
use crate::net::udp::UdpSocket;

/// Bytes that one call moves at most.
pub(super) const MOVED_BYTES_MAX: usize = 256 * 1024;

pub(super) fn read(state: &mut GuestState, place: usize, into: &mut [u8]) -> Result<i32> {
    let most = into.len().min(MOVED_BYTES_MAX);
    let into = into.get_mut(..most).unwrap_or_default();
    let read = match state.side.handles.opened(place) {
        Some(Opened::Tcp(tcp)) => tcp.read(into).map_err(system_errno),
        Some(Opened::Udp(udp)) => {
            udp.now().and_then(|udp| udp.try_recv(into, None)).map(|(n, _)| n).map_err(system_errno)
        }
        Some(Opened::Names(names)) => read_names(names, into),
        Some(Opened::Fetch(fetch)) => fetch::read(fetch, into),
        Some(Opened::Stored(stored)) => kv::read(stored, into),
        None => Err(EBADF),
    };
    spend(state, moved(*read.as_ref().unwrap_or(&0)))?;
    Ok(answer(read))
}

fn read_names(names: &mut Names, into: &mut [u8]) -> Done<usize> {
    if into.len() < ENTRY_BYTES {
        return Err(EINVAL);
    }
    let found = names.take(into.len() / ENTRY_BYTES).map_err(system_errno)?;
    for (address, room) in found.iter().zip(into.chunks_exact_mut(ENTRY_BYTES)) {
        room.copy_from_slice(&entry(*address));
    }
    Ok(found.len() * ENTRY_BYTES)
}

pub(super) fn write(state: &mut GuestState, place: usize, from: &[u8]) -> Result<i32> {
    let written = match state.side.handles.opened(place) {
        Some(Opened::Tcp(tcp)) => {
            tcp.write(from.get(..MOVED_BYTES_MAX).unwrap_or(from)).map_err(system_errno)
        }
        // Whole or not at all: what is too large is for the system to say.
        Some(Opened::Udp(udp)) => {
            let sent = udp.now().and_then(|udp| udp.try_send(from, None));
            sent.map(|()| from.len()).map_err(system_errno)
        }
        Some(Opened::Fetch(fetch)) => fetch::write(fetch, from.get(..MOVED_BYTES_MAX).unwrap_or(from)),
        Some(Opened::Names(_) | Opened::Stored(_)) | None => Err(EBADF),
    };
    spend(state, moved(*written.as_ref().unwrap_or(&0)))?;
    Ok(answer(written))
}

pub(super) fn finish(state: &mut GuestState, place: usize, trailers: &[u8]) -> Result<i32> {
    spend(state, moved(0))?;
    let fields = field_list(state, trailers)?;
    let finished = match (state.side.handles.opened(place), fields) {
        (Some(Opened::Tcp(_)), _) if !trailers.is_empty() => Err(EINVAL),
        (Some(Opened::Tcp(tcp)), _) => tcp.finish().map_err(system_errno),
        (Some(Opened::Fetch(fetch)), fields) => fields.and_then(|fields| fetch::finish(fetch, fields)),
        (Some(Opened::Udp(_)), _) => Err(ENOTSUP),
        (Some(Opened::Names(_) | Opened::Stored(_)) | None, _) => Err(EBADF),
    };
    Ok(answer(finished.map(|()| 0)))
}

/// The trailers of what was read to its end, packed as far as there is room. Returns their size.
pub(super) fn trailers(state: &mut GuestState, place: usize, out: &mut [u8]) -> Result<i32> {
    let size = match state.side.handles.opened(place) {
        Some(Opened::Fetch(fetch)) => fetch::trailers(fetch, out),
        Some(_) => Err(ENOTSUP),
        None => Err(EBADF),
    };
    spend(state, moved(size.map_or(0, |size| size.min(out.len()))))?;
    Ok(answer(size))
}

/// How it failed, if it has.
pub(super) fn fault(opened: &mut Opened) -> Option<Errno> {
    match opened {
        Opened::Tcp(tcp) => tcp.fault().map(system_errno),
        Opened::Udp(udp) => udp.now().err().map(system_errno),
        Opened::Names(names) => names.take(0).err().map(system_errno),
        Opened::Fetch(fetch) => fetch::fault(fetch),
        Opened::Stored(stored) => kv::fault(stored),
    }
    .filter(|errno| *errno != EAGAIN)
}

/// What is so of it, and who polls is woken when more is. `due` becomes the time when it is to be polled anyway, if that
/// is earlier.
pub(super) fn readiness(
    opened: &mut Opened,
    interest: u16,
    cx: &mut Context<'_>,
    due: &mut Option<Nanos>,
) -> u16 {
    match opened {
        Opened::Tcp(tcp) => tcp_readiness(tcp, interest, cx, due),
        Opened::Udp(udp) => udp_readiness(udp, interest, cx, due),
        Opened::Names(names) => match names.poll(cx) {
            Poll::Pending => 0,
            Poll::Ready(Ok(())) => interest & READABLE,
            Poll::Ready(Err(_)) => failed(interest),
        },
        Opened::Fetch(fetch) => fetch::readiness(fetch, interest, cx),
        Opened::Stored(stored) => kv::readiness(stored, interest, cx),
    }
}

fn tcp_readiness(
    tcp: &mut Connection<TcpStream>,
    interest: u16,
    cx: &mut Context<'_>,
    due: &mut Option<Nanos>,
) -> u16 {
    let ready = match tcp.poll(cx) {
        Poll::Pending => {
            earlier(due, tcp.due());
            return 0;
        }
        Poll::Ready(Err(_)) => return failed(interest),
        Poll::Ready(Ok(stream)) => {
            let (read, write) = (interest & READABLE != 0, interest & WRITABLE != 0);
            let readable = read && stream.poll_readable(cx).is_ready();
            // Who waits for nothing else hears by this of the end.
            let writable = (write || !read) && stream.poll_writable(cx).is_ready();
            bit(readable, READABLE) | bit(write && writable, WRITABLE) | bit(stream.is_dead(), HANGUP)
        }
    };
    if tcp.fault().is_some() { ready | failed(interest) } else { ready }
}

fn udp_readiness(
    udp: &mut Connection<UdpSocket>,
    interest: u16,
    cx: &mut Context<'_>,
    due: &mut Option<Nanos>,
) -> u16 {
    match udp.poll(cx) {
        Poll::Pending => {
            earlier(due, udp.due());
            0
        }
        Poll::Ready(Err(_)) => failed(interest),
        Poll::Ready(Ok(socket)) => {
            let readable = interest & READABLE != 0 && socket.poll_readable(cx).is_ready();
            let writable = interest & WRITABLE != 0 && socket.poll_writable(cx).is_ready();
            bit(readable, READABLE) | bit(writable, WRITABLE)
        }
    }
}

/// What is told of something that has failed: nothing that is waited for will come.
pub(super) fn failed(interest: u16) -> u16 {
    interest & (READABLE | WRITABLE) | ERROR | HANGUP
}

pub(super) fn bit(is: bool, bit: u16) -> u16 {
    if is { bit } else { 0 }
}

fn earlier(due: &mut Option<Nanos>, other: Option<Nanos>) {
    *due = match (*due, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
}
