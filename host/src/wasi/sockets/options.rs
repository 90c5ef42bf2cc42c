//! Options that sockets of both kinds have, in the standard's units and within bounds.
//!
//! A value that is too large is taken for the largest: the standard lets it be "silently clamped".

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt;

use super::bindings::wasi::sockets::network::ErrorCode;
use super::errors::code;
use crate::net::tcp::Family;

/// What the system keeps for one direction of a socket at most, if the guest says how much. It has a bound of its own,
/// which may be anything.
const BUFFER_BYTES_MAX: usize = 1 << 20;
/// Seconds and probes that Linux takes at most.
const KEEP_ALIVE_S_MAX: u64 = 32_767;
const KEEP_ALIVE_COUNT_MAX: u32 = 127;

const NS_PER_S: u64 = 1_000_000_000;

type Set = Result<(), ErrorCode>;

fn done<T>(result: Result<T, Errno>) -> Result<T, ErrorCode> {
    result.map_err(code)
}

/// 0 is refused by the standard.
fn not_zero<T: PartialEq + Default>(value: T) -> Set {
    if value == T::default() { Err(ErrorCode::InvalidArgument) } else { Ok(()) }
}

pub(super) fn keep_alive(socket: BorrowedFd<'_>) -> Result<bool, ErrorCode> {
    done(sockopt::socket_keepalive(socket))
}

pub(super) fn set_keep_alive(socket: BorrowedFd<'_>, value: bool) -> Set {
    done(sockopt::set_socket_keepalive(socket, value))
}

/// Linux knows whole seconds, and at least one.
fn seconds(ns: u64) -> Duration {
    Duration::from_secs(ns.div_ceil(NS_PER_S).clamp(1, KEEP_ALIVE_S_MAX))
}

fn nanoseconds(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}

pub(super) fn idle_time(socket: BorrowedFd<'_>) -> Result<u64, ErrorCode> {
    done(sockopt::tcp_keepidle(socket)).map(nanoseconds)
}

pub(super) fn set_idle_time(socket: BorrowedFd<'_>, ns: u64) -> Set {
    not_zero(ns)?;
    done(sockopt::set_tcp_keepidle(socket, seconds(ns)))
}

pub(super) fn interval(socket: BorrowedFd<'_>) -> Result<u64, ErrorCode> {
    done(sockopt::tcp_keepintvl(socket)).map(nanoseconds)
}

pub(super) fn set_interval(socket: BorrowedFd<'_>, ns: u64) -> Set {
    not_zero(ns)?;
    done(sockopt::set_tcp_keepintvl(socket, seconds(ns)))
}

pub(super) fn count(socket: BorrowedFd<'_>) -> Result<u32, ErrorCode> {
    done(sockopt::tcp_keepcnt(socket))
}

pub(super) fn set_count(socket: BorrowedFd<'_>, count: u32) -> Set {
    not_zero(count)?;
    done(sockopt::set_tcp_keepcnt(socket, count.min(KEEP_ALIVE_COUNT_MAX)))
}

pub(super) fn hop_limit(socket: BorrowedFd<'_>, family: Family) -> Result<u8, ErrorCode> {
    match family {
        Family::V4 => done(sockopt::ip_ttl(socket)).map(|ttl| u8::try_from(ttl).unwrap_or(u8::MAX)),
        Family::V6 => done(sockopt::ipv6_unicast_hops(socket)),
    }
}

pub(super) fn set_hop_limit(socket: BorrowedFd<'_>, family: Family, value: u8) -> Set {
    not_zero(value)?;
    match family {
        Family::V4 => done(sockopt::set_ip_ttl(socket, value.into())),
        Family::V6 => done(sockopt::set_ipv6_unicast_hops(socket, Some(value))),
    }
}

/// Linux keeps, and tells, twice of what is asked for: half of it is its own.
fn without_overhead(bytes: usize) -> u64 {
    bytes as u64 / 2
}

fn buffer_bytes(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX).min(BUFFER_BYTES_MAX)
}

pub(super) fn receive_buffer(socket: BorrowedFd<'_>) -> Result<u64, ErrorCode> {
    done(sockopt::socket_recv_buffer_size(socket)).map(without_overhead)
}

pub(super) fn set_receive_buffer(socket: BorrowedFd<'_>, value: u64) -> Set {
    not_zero(value)?;
    done(sockopt::set_socket_recv_buffer_size(socket, buffer_bytes(value)))
}

pub(super) fn send_buffer(socket: BorrowedFd<'_>) -> Result<u64, ErrorCode> {
    done(sockopt::socket_send_buffer_size(socket)).map(without_overhead)
}

pub(super) fn set_send_buffer(socket: BorrowedFd<'_>, value: u64) -> Set {
    not_zero(value)?;
    done(sockopt::set_socket_send_buffer_size(socket, buffer_bytes(value)))
}
