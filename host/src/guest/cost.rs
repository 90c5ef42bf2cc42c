//! What host calls cost a guest's slice.
//!
//! Epochs are looked at where a guest loops and where it enters a function, and nowhere between: a function that is a
//! long row of host calls would hold its worker for as long as they take. So each call spends what it costs, as an
//! estimate in nanoseconds, and with every so much of that the clock is looked at ([`Slice::spend`]). The estimates need
//! not be good: one that is too high costs a look at the clock, one that is too low lets the look come later.
//!
//! Invariant: every function that a guest can import spends at least [`CALL`].
//!
//! [`Slice::spend`]: crate::exchange::Slice::spend

use wasmtime::{Result, bail};

use super::program::Program;
use super::state::GuestState;
use crate::clock::Nanos;
use crate::exchange::{Exchange, Overrun, Pace};

/// Any call at all.
pub(crate) const CALL: Nanos = 100;
/// An entry of a table that the guest gave, each looked at with the clock at hand.
const ENTRY: Nanos = 50;
/// A call to the system.
const SYSTEM: Nanos = 400;
/// Waking another thread, and being woken.
const HANDED_OVER: Nanos = 5_000;
/// What is opened, and closed again: several calls to the system.
const OPENED: Nanos = 10_000;

/// Bytes that are copied from one place to another.
pub(crate) fn copied(bytes: usize) -> Nanos {
    bytes as Nanos / 8
}

/// Bytes that go through the system, to or from a socket.
pub(crate) fn moved(bytes: usize) -> Nanos {
    2 * SYSTEM + copied(bytes)
}

/// A socket, a lookup, or a request to another.
pub(crate) fn opened() -> Nanos {
    OPENED
}

/// Work that another thread does, and hearing that it is done.
pub(crate) fn handed_over() -> Nanos {
    HANDED_OVER
}

/// Bytes of fields that are looked at one by one.
pub(crate) fn parsed(bytes: usize) -> Nanos {
    2 * bytes as Nanos
}

/// Bytes of a log record.
pub(crate) fn logged(bytes: usize) -> Nanos {
    SYSTEM + 4 * bytes as Nanos
}

/// Bytes of the system's random numbers.
pub(crate) fn random(bytes: usize) -> Nanos {
    SYSTEM + 3 * bytes as Nanos
}

/// Entries of a table.
pub(crate) fn entries(count: usize) -> Nanos {
    ENTRY * count as Nanos
}

/// Spends `cost` of the guest's slice.
///
/// # Errors
/// The guest is stopped: a trap.
pub(crate) fn spend<S>(state: &GuestState<S>, cost: Nanos) -> Result<()> {
    spend_of(&state.exchange, &state.program, cost)
}

/// Spends `cost` of the slice of a call.
///
/// # Errors
/// As [`spend`].
pub(crate) fn spend_of(exchange: &Exchange, program: &Program, cost: Nanos) -> Result<()> {
    match exchange.slice.spend(cost) {
        Ok(Pace::InTime) => {}
        // A guest that comes to a loop or to a function is to meet an epoch there, however late the ticker is.
        Ok(Pace::Late) => program.engine().increment_epoch(),
        Err(Overrun::Budget) => bail!("the guest's CPU time is used up"),
        Err(Overrun::Held) => bail!("the guest held its worker for 10 ms with host calls"),
    }
    Ok(())
}

/// Spends what any call costs.
///
/// # Errors
/// As [`spend`].
pub(crate) fn enter<S>(state: &GuestState<S>) -> Result<()> {
    spend(state, CALL)
}
