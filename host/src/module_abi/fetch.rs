//! Requests to others: `tidegate_fetch_v1`, and what the calls for bodies do with them.
//!
//! One handle is a request and its response: what is written is the one's body, what is read the other's. The client behind
//! it knows HTTP; here is what a guest may say, and the numbers for how it went.

use std::task::{Context, Poll, Waker};

use tidegate_abi::errno::{
    EACCES, EAGAIN, EALREADY, EBADF, ECONNREFUSED, ECONNRESET, EFBIG, EHOSTUNREACH, EINVAL, EIO, EMFILE,
    EMSGSIZE, ENOENT, ENOTSUP, EPIPE, EPROTO, ETIMEDOUT, Errno,
};
use tidegate_abi::fetch::{Body, RequestView, Response};
use tidegate_abi::fields::{ENTRIES_MAX, FieldList, ListError, pack, packed_bytes};
use tidegate_abi::poll::{READABLE, WRITABLE};
use tidegate_abi::{FETCH_MODULE, names};
use tidegate_proto::pipe::{Pipe, Watermarks};
use wasmtime::{Caller, Linker, Result};

use super::body::find;
use super::memory::{bytes, bytes_mut, parts};
use super::opened::{bit, failed};
use super::{Done, answer, sockets, system_errno};
use crate::guest::cost::{copied, entries, parsed, spend};
use crate::guest::module::{Fetch, Handle, Opened};
use crate::guest::state::GuestState;
use crate::net::connect::Connection;
use crate::net::http::{self, Failure, Outgoing, Timeouts};
use crate::net::tcp::TcpStream;

type Guest<'a> = Caller<'a, GuestState>;

/// Trailers of one request.
const TRAILER_BYTES_MAX: usize = 16 * 1024;

pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> Result<()> {
    linker
        .func_wrap(
            FETCH_MODULE,
            names::fetch::REQUEST,
            |mut guest: Guest<'_>, head: i32, len: i32, body: i32, body_len: i32| {
                request(&mut guest, head, len, body, body_len)
            },
        )?
        .func_wrap(
            FETCH_MODULE,
            names::fetch::HEAD,
            |mut guest: Guest<'_>, handle: i32, buf: i32, cap: i32| {
                told(&mut guest, handle, buf, cap, response_head)
            },
        )?
        .func_wrap(
            FETCH_MODULE,
            names::fetch::REASON,
            |mut guest: Guest<'_>, handle: i32, buf: i32, cap: i32| {
                told(&mut guest, handle, buf, cap, reason)
            },
        )?;
    Ok(())
}

/// What a failure is as a number; `reason` says more.
fn errno(failure: Failure) -> Errno {
    match failure {
        failure if failure.is_denial() => EACCES,
        Failure::DnsTimeout
        | Failure::ConnectionTimeout
        | Failure::ConnectionReadTimeout
        | Failure::ConnectionWriteTimeout => ETIMEDOUT,
        Failure::DnsError("NXDOMAIN" | "NOERROR") => ENOENT,
        Failure::DnsError(_) => EIO,
        Failure::DestinationIpUnroutable => EHOSTUNREACH,
        Failure::ConnectionRefused => ECONNREFUSED,
        Failure::ConnectionTerminated | Failure::HttpResponseIncomplete => ECONNRESET,
        Failure::ConnectionLimitReached => EMFILE,
        Failure::HttpRequestBodySize(_) => EFBIG,
        Failure::HttpRequestUriTooLong
        | Failure::HttpRequestHeaderSectionSize
        | Failure::HttpRequestTrailerSectionSize => EMSGSIZE,
        Failure::InternalError(errno) => system_errno(errno),
        // What the guest got wrong, and else what the server did.
        failure if failure.is_of_request() => EINVAL,
        Failure::DestinationNotFound => EINVAL,
        _ => EPROTO,
    }
}

fn request(guest: &mut Guest<'_>, head: i32, len: i32, body: i32, body_len: i32) -> Result<i32> {
    let (memory, state) = parts(guest)?;
    let head = bytes(memory, head, len)?;
    let body = bytes(memory, body, body_len)?;
    let view = match RequestView::bounded(head) {
        Ok(view) => view,
        Err(ListError::TooLarge) => return Ok(-EMSGSIZE),
        Err(ListError::Malformed) => {
            spend(state, entries(ENTRIES_MAX))?;
            return Ok(-EINVAL);
        }
    };
    spend(state, parsed(head.len()) + entries(view.fields().len()) + copied(body.len()))?;
    sockets::open(state, |state| send(state, &view, body).map(|fetch| Opened::Fetch(Box::new(fetch))))
}

fn send(state: &mut GuestState, view: &RequestView<'_>, body: &[u8]) -> Done<Fetch> {
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| EINVAL);
    if body.len() > Watermarks::default().high {
        return Err(EMSGSIZE);
    }
    if view.fields().iter().any(|field| field.is_none()) {
        return Err(EINVAL);
    }
    let (length, finished) = match view.body() {
        Body::Given if body.is_empty() => (http::Body::Empty, true),
        Body::Given => (http::Body::Known(body.len() as u64), true),
        Body::Stream(Some(len)) => (http::Body::Known(len), false),
        Body::Stream(None) => (http::Body::Unknown, false),
    };
    let defaults = Timeouts::default();
    let given = view.timeouts();
    let or = |ns, default| if ns == 0 { default } else { ns };
    let outgoing = Outgoing {
        method: text(view.method())?,
        https: view.https(),
        authority: text(view.authority())?,
        path: if view.path().is_empty() { "/" } else { text(view.path())? },
        fields: view.fields().iter().flatten(),
        body: length,
        timeouts: Timeouts {
            connect: or(given.connect_ns, defaults.connect),
            first_byte: or(given.first_byte_ns, defaults.first_byte),
            between_bytes: or(given.between_ns, defaults.between_bytes),
        },
    };
    let call = http::send(state.network(), outgoing).map_err(errno)?;
    // There is room for all of it: nothing was written before. What fails by now is told by the handle.
    if !body.is_empty()
        && let Err(failure @ Failure::HttpRequestBodySize(_)) = call.write(body)
    {
        return Err(errno(failure));
    }
    if finished && length != http::Body::Empty {
        let _ = call.finish([]);
    }
    Ok(Fetch { call, finished, head: false })
}

/// What `head` and `reason` have in common: something that is told of a request, as far as there is room.
fn told(
    guest: &mut Guest<'_>,
    handle: i32,
    buf: i32,
    cap: i32,
    tell: fn(&mut Fetch, &mut [u8]) -> Done<usize>,
) -> Result<i32> {
    let (memory, state) = parts(guest)?;
    let out = bytes_mut(memory, buf, cap)?;
    let size = match find(state, handle) {
        None => Err(EBADF),
        Some(Handle::Opened(place)) => match state.side.handles.opened(place) {
            Some(Opened::Fetch(fetch)) => tell(fetch, out),
            _ => Err(ENOTSUP),
        },
        Some(_) => Err(ENOTSUP),
    };
    spend(state, 2 * copied(size.map_or(0, |size| size.min(out.len()))))?;
    Ok(answer(size))
}

fn response_head(fetch: &mut Fetch, out: &mut [u8]) -> Done<usize> {
    take_head(fetch)?;
    let size = fetch
        .call
        .with_head(|head| Response { status: head.status(), fields: head.fields().iter() }.pack(out));
    size.map(|size| size as usize).ok_or(EMSGSIZE)
}

fn reason(fetch: &mut Fetch, out: &mut [u8]) -> Done<usize> {
    let Some(failure) = fetch.call.failure() else { return Ok(0) };
    let text = failure.to_string();
    if let Some(room) = out.get_mut(..text.len()) {
        room.copy_from_slice(text.as_bytes());
    }
    Ok(text.len())
}

/// The head of the response is there.
fn take_head(fetch: &mut Fetch) -> Done<()> {
    if !fetch.head {
        match fetch.call.poll_head(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => return Err(EAGAIN),
            Poll::Ready(head) => head.map_err(errno)?,
        }
        fetch.head = true;
    }
    Ok(())
}

/// How it failed, if it has. What came before that can still be read.
pub(super) fn fault(fetch: &Fetch) -> Option<Errno> {
    fetch.call.failure().map(errno)
}

pub(super) fn read(fetch: &mut Fetch, into: &mut [u8]) -> Done<usize> {
    take_head(fetch)?;
    fetch.call.read(into).map_err(errno)?.ok_or(EAGAIN)
}

pub(super) fn write(fetch: &mut Fetch, from: &[u8]) -> Done<usize> {
    writable(fetch)?;
    if from.is_empty() {
        return Ok(0);
    }
    match fetch.call.write(from).map_err(errno)? {
        0 => Err(EAGAIN),
        n => Ok(n),
    }
}

/// Whether there may be more of the request's body at all.
pub(super) fn writable(fetch: &Fetch) -> Done<()> {
    fetch.call.permit().map_err(errno)?;
    if fetch.finished { Err(EPIPE) } else { Ok(()) }
}

pub(super) fn finish(fetch: &mut Fetch, trailers: FieldList<'_>) -> Done<()> {
    match writable(fetch) {
        Err(EPIPE) => return Err(EALREADY),
        writable => writable?,
    }
    let mut bytes = 0;
    for field in trailers.iter() {
        let (name, value) = field.ok_or(EINVAL)?;
        bytes += name.len() + value.len();
    }
    if bytes > TRAILER_BYTES_MAX {
        return Err(EMSGSIZE);
    }
    fetch.call.finish(trailers.iter().flatten()).map_err(|failure| match failure {
        // It is shorter than was said.
        Failure::HttpRequestBodySize(_) => EPROTO,
        failure => errno(failure),
    })?;
    fetch.finished = true;
    Ok(())
}

pub(super) fn trailers(fetch: &mut Fetch, out: &mut [u8]) -> Done<usize> {
    take_head(fetch)?;
    if !fetch.call.with_incoming_pipe(|pipe| pipe.drained()).map_err(errno)? {
        return Err(EAGAIN);
    }
    Ok(fetch.call.with_trailers(|fields| {
        let size = packed_bytes(fields.len(), fields.byte_len());
        if size <= out.len() {
            pack(fields.iter(), out);
        }
        size
    }))
}

pub(super) fn readiness(fetch: &Fetch, interest: u16, cx: &mut Context<'_>) -> u16 {
    let readable = fetch.call.poll_readable(cx).is_ready();
    if fetch.call.failure().is_some() {
        return failed(interest);
    }
    let writable = interest & WRITABLE != 0 && fetch.call.poll_writable(cx).is_ready();
    bit(readable, READABLE) & interest | bit(writable, WRITABLE)
}

/// Has `take` move bytes out of the response's body, of which there are some.
pub(super) fn with_incoming(fetch: &mut Fetch, take: impl FnOnce(&mut Pipe) -> Done<usize>) -> Done<usize> {
    take_head(fetch)?;
    let taken = fetch.call.with_incoming_pipe(|pipe| match pipe.is_empty() {
        true if pipe.is_ended() => Ok(0),
        true => Err(EAGAIN),
        false => take(pipe),
    });
    taken.map_err(errno)?
}

/// Moves up to `max` bytes from a pipe that is not empty into the request's body.
pub(super) fn take_from(fetch: &mut Fetch, from: &mut Pipe, max: usize) -> Done<usize> {
    let moved = fetch.call.with_outgoing_pipe(|to, permit| from.forward(to, max.min(permit)));
    match moved.map_err(errno)? {
        // Full; or it is as long as was said, and that there is more ends it.
        0 => {
            let [first, _] = from.peek();
            let one = first.first().copied().ok_or(EAGAIN)?;
            let moved = write(fetch, &[one])?;
            from.consume(moved);
            Ok(moved)
        }
        moved => Ok(moved),
    }
}

/// Moves up to `max` bytes from a socket into the request's body. 0 is the end of the socket.
pub(super) fn receive(fetch: &mut Fetch, from: &mut Connection<TcpStream>, max: usize) -> Done<usize> {
    let moved = fetch.call.with_outgoing_pipe(|to, permit| {
        let room = to.spare(max.min(permit));
        if room.is_empty() {
            return None;
        }
        let received = from.read(room);
        to.commit(*received.as_ref().unwrap_or(&0));
        Some(received.map_err(system_errno))
    });
    if let Some(received) = moved.map_err(errno)? {
        return received;
    }
    let mut one = [0];
    if from.peek(&mut one).map_err(system_errno)? == 0 {
        return Ok(0);
    }
    let moved = write(fetch, &one)?;
    from.discard(moved).map_err(system_errno)?;
    Ok(moved)
}
