//! Upgrade without a pause: the running server starts its binary again and hands over.
//!
//! The old process starts the new one with its own arguments and environment, and gives it every listening socket it
//! has. A socket of the kernel is the same in both, with the connections that wait at it, so that none is lost whoever
//! accepts it. Nothing changes for clients until the new one has loaded its apps and serves; then the old one stops
//! accepting, finishes what it has, and ends. If the new one does not get there the old one goes on as if nothing had
//! been.
//!
//! # How they talk
//!
//! Over a pair of sockets (`SOCK_SEQPACKET`), whose other end is the new process's standard input; [`VARIABLE`] in its
//! environment says so, and which version of this protocol is spoken. A message is an object in JSON. What one side does
//! not know in it, it passes over; a kind that it does not know is an error.
//!
//! | from | message | meaning |
//! |---|---|---|
//! | old | `sockets` | with descriptors (`SCM_RIGHTS`): those of one address; a second one adds to it |
//! | old | `begin` | all sockets have been sent |
//! | new | `need-state` | it wants the state folder, if it has one; once |
//! | old | `go` | the folder is free |
//! | new | `ready` | it serves; from here on the old one is not needed |
//!
//! The end of the connection says that the other is gone. Where the new one never said `ready`, the old one sees to it
//! that it has ended before it takes its state back: one process at a time holds the folder.

mod predecessor;
mod successor;
mod wire;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

pub(super) use self::predecessor::{Handed, Predecessor};
pub(super) use self::successor::{Binary, Interrupter, Successor, Wish};
use crate::config::ListenAddr;

/// Tells a process that it is to follow another, and the version of the protocol.
pub(super) const VARIABLE: &str = "TIDEGATE_HANDOVER";
/// The version that this binary speaks.
pub(super) const VERSION: &str = "1";

/// What only one process can have at a time, such as a database in the state folder.
pub(crate) trait StateHolder: Send + Sync {
    /// Closes what is open, so that another process can open it. What needs it fails from here on.
    fn release(&self);

    /// The other process has ended without having served: opens it again.
    ///
    /// # Errors
    /// It can not be opened; this server goes on without.
    fn take_back(&self) -> anyhow::Result<()>;

    /// Listening sockets of its own, for the other process.
    ///
    /// # Errors
    /// There is no room for another descriptor.
    fn sockets(&self) -> io::Result<Vec<Offer>>;

    /// The other process serves, this one only finishes what it has: listeners of its own are closed, and their paths left
    /// alone where the other has them.
    fn handed_over(&self);
}

/// A listening socket for the process that takes over.
#[derive(Debug)]
pub(crate) struct Offer {
    /// The address as the settings have it: [`super::birth::take_socket`] finds it by that.
    pub(crate) wanted: ListenAddr,
    pub(crate) socket: OwnedFd,
    /// Its file is removed by whoever has it last.
    pub(crate) is_ours: bool,
}

impl fmt::Debug for dyn StateHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateHolder")
    }
}

#[cfg(test)]
mod tests;
