//! The two streams of datagrams of a `udp-socket`.
//!
//! Invariant: of all streams of a socket only the two of the last association work.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Waker};

use rustix::io::Errno;
use wasmtime::component::Resource;
use wasmtime::{Result, format_err};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::bindings::wasi::sockets::network::ErrorCode;
use super::bindings::wasi::sockets::udp::{
    HostIncomingDatagramStream, HostOutgoingDatagramStream, IncomingDatagram, OutgoingDatagram,
};
use super::errors::{Failure, code};
use super::{Given, address};
use crate::guest::cost::{moved, spend};
use crate::net::tcp::Family;
use crate::net::udp::UdpSocket as Socket;
use crate::wasi::Wasi;

/// Datagrams that one call receives or sends at most.
const DATAGRAMS_MAX: usize = 16;
/// Bytes that one call receives, but for the last datagram.
const RECEIVE_BYTES_MAX: usize = 64 * 1024;
/// No datagram is longer.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// What a state's operation gives.
type Step<T> = std::result::Result<T, ErrorCode>;

/// What the streams of one association know of it.
#[derive(Debug)]
struct Association {
    socket: Socket,
    remote: Option<SocketAddr>,
    number: u32,
    /// The number of the last one.
    last: Arc<AtomicU32>,
}

impl Association {
    /// The socket, if it is still this association's.
    fn socket(&self) -> Step<&Socket> {
        if self.number == self.last.load(Relaxed) { Ok(&self.socket) } else { Err(ErrorCode::InvalidState) }
    }
}

/// `incoming-datagram-stream`.
#[derive(Debug)]
pub(crate) struct Incoming(Association);

/// `outgoing-datagram-stream`.
#[derive(Debug)]
pub(crate) struct Outgoing {
    association: Association,
    family: Family,
    /// Datagrams that may be sent.
    permit: usize,
}

/// The streams of the association that is the last one now.
pub(super) fn pair(
    socket: &Socket,
    family: Family,
    remote: Option<SocketAddr>,
    last: &Arc<AtomicU32>,
) -> (Incoming, Outgoing) {
    let number = last.load(Relaxed);
    let association = || Association { socket: socket.clone(), remote, number, last: Arc::clone(last) };
    (Incoming(association()), Outgoing { association: association(), family, permit: 0 })
}

impl Incoming {
    /// Receives what is there. An error is told when nothing came before it.
    pub(super) fn receive(&self, most: u64) -> Step<Vec<IncomingDatagram>> {
        let socket = self.0.socket()?;
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(DATAGRAMS_MAX);
        let mut datagrams = Vec::new();
        // Room for the longest there may be is not made for nothing.
        if most == 0 || socket.poll_readable(&Context::from_waker(Waker::noop())).is_pending() {
            return Ok(datagrams);
        }
        let mut bytes = 0;
        let mut room = vec![0; DATAGRAM_BYTES_MAX];
        while datagrams.len() < most && bytes < RECEIVE_BYTES_MAX {
            match socket.try_recv(&mut room, self.0.remote) {
                Ok((count, sender)) => {
                    let data = room.get(..count).unwrap_or_default().to_vec();
                    bytes += count;
                    datagrams.push(IncomingDatagram { data, remote_address: sender.into() });
                }
                Err(Errno::AGAIN) => break,
                Err(_) if !datagrams.is_empty() => break,
                Err(errno) => return Err(code(errno)),
            }
        }
        Ok(datagrams)
    }
}

impl Outgoing {
    pub(super) fn check_send(&mut self) -> Step<usize> {
        let socket = self.association.socket()?;
        let writable = socket.poll_writable(&Context::from_waker(Waker::noop())).is_ready();
        self.permit = if writable { DATAGRAMS_MAX } else { 0 };
        Ok(self.permit)
    }

    /// Sends datagrams until one cannot be. An error is told when nothing left before it.
    pub(super) fn send(&mut self, datagrams: &[OutgoingDatagram]) -> Given<u64> {
        if datagrams.is_empty() {
            return Ok(0);
        }
        if datagrams.len() > self.permit {
            return Err(Failure::Trap(format_err!("more datagrams were sent than `check-send` permits")));
        }
        self.permit = 0;
        let mut sent = 0;
        for datagram in datagrams {
            match self.send_one(datagram) {
                Ok(()) => sent += 1,
                Err(ErrorCode::WouldBlock) => break,
                Err(_) if sent > 0 => break,
                Err(code) => return Err(code.into()),
            }
        }
        Ok(sent)
    }

    fn send_one(&self, datagram: &OutgoingDatagram) -> Step<()> {
        let socket = self.association.socket()?;
        if datagram.data.len() > DATAGRAM_BYTES_MAX {
            return Err(ErrorCode::DatagramTooLarge);
        }
        let to = datagram.remote_address.map(SocketAddr::from);
        let to = match (self.association.remote, to) {
            (Some(remote), to) if to.is_none_or(|to| to == remote) => None,
            (None, Some(to)) => {
                address::of_family(to, self.family)?;
                address::remote(to)?;
                Some(to)
            }
            _ => return Err(ErrorCode::InvalidArgument),
        };
        socket.try_send(&datagram.data, to).map_err(code)
    }
}

#[async_trait]
impl Pollable for Incoming {
    async fn ready(&mut self) {
        if let Ok(socket) = self.0.socket() {
            poll_fn(|cx| socket.poll_readable(cx)).await;
        }
    }
}

#[async_trait]
impl Pollable for Outgoing {
    async fn ready(&mut self) {
        if let Ok(socket) = self.association.socket() {
            poll_fn(|cx| socket.poll_writable(cx)).await;
        }
    }
}

impl HostIncomingDatagramStream for Wasi<'_> {
    fn receive(&mut self, this: Resource<Incoming>, most: u64) -> Given<Vec<IncomingDatagram>> {
        self.asks_system()?;
        let datagrams = self.state.side.table.get(&this)?.receive(most)?;
        let cost: u64 = datagrams.iter().map(|datagram| moved(datagram.data.len())).sum();
        spend(self.state, cost)?;
        Ok(datagrams)
    }

    fn subscribe(&mut self, this: Resource<Incoming>) -> Result<Resource<DynPollable>> {
        self.enter()?;
        subscribe(&mut self.state.side.table, this)
    }

    fn drop(&mut self, this: Resource<Incoming>) -> Result<()> {
        self.enter()?;
        self.state.side.table.delete(this)?;
        Ok(())
    }
}

impl HostOutgoingDatagramStream for Wasi<'_> {
    fn check_send(&mut self, this: Resource<Outgoing>) -> Given<u64> {
        self.enter()?;
        Ok(self.state.side.table.get_mut(&this)?.check_send()? as u64)
    }

    fn send(&mut self, this: Resource<Outgoing>, datagrams: Vec<OutgoingDatagram>) -> Given<u64> {
        let cost: u64 = datagrams.iter().map(|datagram| moved(datagram.data.len())).sum();
        spend(self.state, moved(0) + cost)?;
        self.state.side.table.get_mut(&this)?.send(&datagrams)
    }

    fn subscribe(&mut self, this: Resource<Outgoing>) -> Result<Resource<DynPollable>> {
        self.enter()?;
        subscribe(&mut self.state.side.table, this)
    }

    fn drop(&mut self, this: Resource<Outgoing>) -> Result<()> {
        self.enter()?;
        self.state.side.table.delete(this)?;
        Ok(())
    }
}
