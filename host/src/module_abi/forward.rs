//! `forward`: bytes from what can be read to what can be written, inside the host.
//!
//! Sources and sinks are the bodies of the guest's own request, TCP sockets, and requests to others. What a body holds is
//! in a pipe; of a socket it is with the system. So bytes go from pipe to pipe, are received into a pipe, are sent from a
//! pipe, or, from socket to socket, are looked at, sent, and only then taken.
//!
//! Invariants: a byte is taken from its source when the sink has it, and not before. One call moves
//! [`MOVED_BYTES_MAX`] bytes at most.

use rustix::io::Errno;
use tidegate_abi::errno::{EAGAIN, EBADF, ENOTSUP};
use tidegate_proto::pipe::Pipe;

use super::body::find;
use super::opened::MOVED_BYTES_MAX;
use super::{Done, fault_errno, fetch, refusal_errno, system_errno};
use crate::exchange::{Inner, RequestBody, Response};
use crate::guest::cost::{enter, moved as cost_of, spend};
use crate::guest::module::{Fetch, Handle, Opened};
use crate::guest::state::GuestState;
use crate::net::connect::Connection;
use crate::net::tcp::TcpStream;

/// Bytes that are looked at in one go on their way from socket to socket.
const LOOKED_AT_BYTES: usize = 16 * 1024;

type Tcp = Connection<TcpStream>;

/// Where bytes come from.
enum From<'a> {
    Request(&'a mut RequestBody),
    Tcp(&'a mut Tcp),
    Fetch(&'a mut Fetch),
}

/// Where bytes go.
enum To<'a> {
    Response(&'a mut Response),
    Tcp(&'a mut Tcp),
    Fetch(&'a mut Fetch),
}

pub(super) fn forward(state: &mut GuestState, from: i32, to: i32, n: i64) -> wasmtime::Result<i64> {
    enter(state)?;
    let (Some(from), Some(to)) = (find(state, from), find(state, to)) else { return Ok(-i64::from(EBADF)) };
    let max = usize::try_from(n).unwrap_or(MOVED_BYTES_MAX).min(MOVED_BYTES_MAX);
    let moved = between(state, from, to, max);
    spend(state, cost_of(*moved.as_ref().unwrap_or(&0)))?;
    Ok(moved.map_or_else(|errno| -i64::from(errno), |n| n as i64))
}

fn between(state: &mut GuestState, from: Handle, to: Handle, max: usize) -> Done<usize> {
    let inner = &mut *state.exchange.lock();
    let Inner { request, response, .. } = inner;
    let handles = &mut state.side.handles;
    match (from, to) {
        (Handle::ResponseBody, _) | (_, Handle::RequestBody) => Err(EBADF),
        (Handle::RequestBody, Handle::ResponseBody) => {
            run(From::Request(request), To::Response(response), max)
        }
        (Handle::RequestBody, Handle::Opened(to)) => {
            run(From::Request(request), sink(handles.opened(to).ok_or(EBADF)?)?, max)
        }
        (Handle::Opened(from), Handle::ResponseBody) => {
            run(source(handles.opened(from).ok_or(EBADF)?)?, To::Response(response), max)
        }
        (Handle::Opened(from), Handle::Opened(to)) if from == to => match handles.opened(from) {
            Some(Opened::Tcp(tcp)) if max > 0 => echo(tcp, max),
            Some(Opened::Tcp(_)) => Ok(0),
            _ => Err(ENOTSUP),
        },
        (Handle::Opened(from), Handle::Opened(to)) => {
            let (from, to) = handles.two_opened(from, to).ok_or(EBADF)?;
            run(source(from)?, sink(to)?, max)
        }
    }
}

fn source(opened: &mut Opened) -> Done<From<'_>> {
    match opened {
        Opened::Tcp(tcp) => Ok(From::Tcp(tcp)),
        Opened::Fetch(fetch) => Ok(From::Fetch(fetch)),
        Opened::Udp(_) | Opened::Names(_) | Opened::Stored(_) => Err(ENOTSUP),
    }
}

fn sink(opened: &mut Opened) -> Done<To<'_>> {
    match opened {
        Opened::Tcp(tcp) => Ok(To::Tcp(tcp)),
        Opened::Fetch(fetch) => Ok(To::Fetch(fetch)),
        Opened::Udp(_) | Opened::Names(_) | Opened::Stored(_) => Err(ENOTSUP),
    }
}

/// Moves up to `max` bytes. 0 is the end of the source, or nothing to do.
fn run(from: From<'_>, mut to: To<'_>, max: usize) -> Done<usize> {
    match from {
        From::Request(request) => {
            request.want();
            if max == 0 {
                return Ok(0);
            }
            // What the sink says goes first: it may never take anything.
            to.check()?;
            if request.pipe.is_empty() {
                return match request.fault() {
                    Some(fault) => Err(fault_errno(fault)),
                    None if request.pipe.is_ended() => Ok(0),
                    None => Err(EAGAIN),
                };
            }
            to.take(&mut request.pipe, max)
        }
        _ if max == 0 => Ok(0),
        From::Fetch(fetch) => {
            to.check()?;
            fetch::with_incoming(fetch, |pipe| to.take(pipe, max))
        }
        From::Tcp(tcp) => to.receive(tcp, max),
    }
}

impl To<'_> {
    /// Whether it may take anything at all.
    fn check(&mut self) -> Done<()> {
        match self {
            To::Response(response) => response.writable().map_err(refusal_errno),
            To::Tcp(tcp) => tcp.writable().map_err(system_errno),
            To::Fetch(fetch) => fetch::writable(fetch),
        }
    }

    /// Takes up to `max` bytes from a pipe that is not empty.
    fn take(&mut self, from: &mut Pipe, max: usize) -> Done<usize> {
        match self {
            To::Response(response) => {
                let moved = response.take_from(from, max as u64).map_err(refusal_errno)?;
                Ok(usize::try_from(moved).unwrap_or(usize::MAX))
            }
            To::Tcp(tcp) => send(from, tcp, max),
            To::Fetch(fetch) => fetch::take_from(fetch, from, max),
        }
    }

    /// Takes up to `max` bytes from a socket.
    fn receive(&mut self, from: &mut Tcp, max: usize) -> Done<usize> {
        self.check()?;
        match self {
            To::Response(response) => {
                // More than it declared cuts a response off; that the source is at its end does not.
                if response.allowed() == 0 && from.peek(&mut [0]).map_err(system_errno)? == 0 {
                    return Ok(0);
                }
                let received = response.receive(max, |room| from.read(room)).map_err(refusal_errno)?;
                received.map_err(system_errno)
            }
            To::Tcp(tcp) => Ends { from, to: Some(tcp) }.relay(max),
            To::Fetch(fetch) => fetch::receive(fetch, from, max),
        }
    }
}

/// What a peer sends goes back to it.
fn echo(tcp: &mut Tcp, max: usize) -> Done<usize> {
    tcp.writable().map_err(system_errno)?;
    Ends { from: tcp, to: None }.relay(max)
}

/// Sends what is in a pipe.
fn send(from: &mut Pipe, tcp: &mut Tcp, max: usize) -> Done<usize> {
    let mut moved = 0;
    while moved < max {
        let [first, _] = from.peek();
        let part = first.get(..max - moved).unwrap_or(first);
        let wanted = part.len();
        if wanted == 0 {
            break;
        }
        match tcp.write(part) {
            Ok(n) => {
                from.consume(n);
                moved += n;
                if n < wanted {
                    break;
                }
            }
            Err(_) if moved > 0 => break,
            Err(errno) => return Err(system_errno(errno)),
        }
    }
    Ok(moved)
}

/// Two sockets, or one that is both.
struct Ends<'a> {
    from: &'a mut Tcp,
    to: Option<&'a mut Tcp>,
}

impl Ends<'_> {
    /// Moves up to `max` bytes; 0 is the end.
    fn relay(&mut self, max: usize) -> Done<usize> {
        let mut bytes = [0; LOOKED_AT_BYTES];
        let mut moved = 0;
        while moved < max {
            let seen = bytes.get_mut(..max - moved).map_or(LOOKED_AT_BYTES, |bytes| bytes.len());
            match self.step(bytes.get_mut(..seen).unwrap_or_default()) {
                Ok((0, _)) => break,
                Ok((sent, seen)) => {
                    moved += sent;
                    if sent < seen {
                        break;
                    }
                }
                // It is told with the next call.
                Err(_) if moved > 0 => break,
                Err(errno) => return Err(system_errno(errno)),
            }
        }
        Ok(moved)
    }

    /// How many bytes were sent, of how many that were there.
    fn step(&mut self, bytes: &mut [u8]) -> Result<(usize, usize), Errno> {
        let seen = self.from.peek(bytes)?;
        let there = bytes.get(..seen).unwrap_or_default();
        let sent = match &mut self.to {
            Some(to) if seen > 0 => to.write(there)?,
            None if seen > 0 => self.from.write(there)?,
            _ => 0,
        };
        self.from.discard(sent)?;
        Ok((sent, seen))
    }
}
