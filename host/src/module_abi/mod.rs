//! The host's side of the module ABI: what `tidegate_v1`, `tidegate_fetch_v1`, `tidegate_kv_v1` and WASI preview 1 offer to
//! a guest.
//!
//! Every pointer, length, handle and state is checked before anything is done. A pointer that leaves memory is a trap;
//! everything else that a guest gets wrong is an error number. Every call does a bounded amount of work, and spends it
//! of the guest's slice. Nothing here knows a system's socket, or waits other than by parking the guest's fiber.

mod body;
mod fetch;
mod forward;
mod head;
mod kv;
mod memory;
mod misc;
mod opened;
mod poll;
mod sockets;
mod wasi;

use rustix::io::Errno as SystemErrno;
use tidegate_abi::errno::{self, Errno};
use wasmtime::{Linker, Result};

use crate::exchange::{Fault, Refusal};
use crate::guest::state::GuestState;

/// Defines everything that a module may import.
///
/// # Errors
/// A name was defined twice: a bug.
pub(crate) fn add_to_linker(linker: &mut Linker<GuestState>) -> Result<()> {
    head::add_to_linker(linker)?;
    body::add_to_linker(linker)?;
    poll::add_to_linker(linker)?;
    misc::add_to_linker(linker)?;
    sockets::add_to_linker(linker)?;
    fetch::add_to_linker(linker)?;
    kv::add_to_linker(linker)?;
    wasi::add_to_linker(linker)
}

/// What a step came to. An error is for the guest, which may go on.
type Done<T> = std::result::Result<T, Errno>;

fn fault_errno(fault: Fault) -> Errno {
    match fault {
        Fault::Gone | Fault::Malformed => errno::ECONNRESET,
        Fault::TooLarge => errno::EFBIG,
        Fault::TooSlow => errno::ETIMEDOUT,
    }
}

fn refusal_errno(refusal: Refusal) -> Errno {
    match refusal {
        Refusal::HeadMissing | Refusal::TooShort => errno::EPROTO,
        Refusal::Already => errno::EALREADY,
        Refusal::Ended => errno::EPIPE,
        Refusal::Invalid(_) => errno::EINVAL,
        Refusal::Full => errno::EAGAIN,
        Refusal::TooLong => errno::EFBIG,
        Refusal::TooLarge => errno::EMSGSIZE,
        Refusal::Gone(fault) => fault_errno(fault),
    }
}

/// The system's numbers are not those of WASI.
fn system_errno(errno: SystemErrno) -> Errno {
    match errno {
        SystemErrno::ACCESS => errno::EACCES,
        SystemErrno::ADDRNOTAVAIL => errno::EADDRNOTAVAIL,
        SystemErrno::AFNOSUPPORT => errno::EAFNOSUPPORT,
        SystemErrno::AGAIN => errno::EAGAIN,
        SystemErrno::ALREADY => errno::EALREADY,
        SystemErrno::BUSY => errno::EBUSY,
        SystemErrno::CANCELED => errno::ECANCELED,
        SystemErrno::CONNABORTED => errno::ECONNABORTED,
        SystemErrno::CONNREFUSED => errno::ECONNREFUSED,
        SystemErrno::CONNRESET | SystemErrno::NOTCONN => errno::ECONNRESET,
        SystemErrno::DQUOT => errno::EDQUOT,
        SystemErrno::HOSTUNREACH | SystemErrno::HOSTDOWN => errno::EHOSTUNREACH,
        SystemErrno::INVAL => errno::EINVAL,
        SystemErrno::MFILE | SystemErrno::NFILE => errno::EMFILE,
        SystemErrno::MSGSIZE => errno::EMSGSIZE,
        SystemErrno::NETUNREACH | SystemErrno::NETDOWN => errno::ENETUNREACH,
        SystemErrno::NOENT => errno::ENOENT,
        SystemErrno::NOBUFS | SystemErrno::NOMEM => errno::ENOSPC,
        SystemErrno::PERM => errno::EPERM,
        SystemErrno::PIPE => errno::EPIPE,
        SystemErrno::PROTO => errno::EPROTO,
        SystemErrno::TIMEDOUT => errno::ETIMEDOUT,
        _ => errno::EIO,
    }
}

/// What a step came to, for the guest: a count, or the negative error number.
fn answer(done: Done<usize>) -> i32 {
    done.map_or_else(|errno| -errno, |n| i32::try_from(n).unwrap_or(i32::MAX))
}

/// 0, or the negative error number.
fn status(result: Result<(), Refusal>) -> i32 {
    result.map_or_else(|refusal| -refusal_errno(refusal), |()| 0)
}

/// A count, or the negative error number.
fn count(result: Result<usize, Refusal>) -> i32 {
    match result {
        Ok(n) => i32::try_from(n).unwrap_or(i32::MAX),
        Err(refusal) => -refusal_errno(refusal),
    }
}

#[cfg(test)]
mod tests;
