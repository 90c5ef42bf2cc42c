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

use crate::clock::Nanos;
use crate::exchange::{Overrun, Pace};
use crate::guest::state::GuestState;

/// Any call at all.
pub(super) const CALL: Nanos = 100;
/// An entry of a table that the guest gave, each looked at with the clock at hand.
const ENTRY: Nanos = 50;
/// A call to the system.
const SYSTEM: Nanos = 400;

/// Bytes that are copied from one place to another.
pub(super) fn copied(bytes: usize) -> Nanos {
    bytes as Nanos / 8
}

/// Bytes of fields that are looked at one by one.
pub(super) fn parsed(bytes: usize) -> Nanos {
    2 * bytes as Nanos
}

/// Bytes of a log record.
pub(super) fn logged(bytes: usize) -> Nanos {
    SYSTEM + 4 * bytes as Nanos
}

/// Bytes of the system's random numbers.
pub(super) fn random(bytes: usize) -> Nanos {
    SYSTEM + 3 * bytes as Nanos
}

/// Entries of a table.
pub(super) fn entries(count: usize) -> Nanos {
    ENTRY * count as Nanos
}

/// Spends `cost` of the guest's slice.
///
/// # Errors
/// The guest is stopped: a trap.
pub(super) fn spend(state: &GuestState, cost: Nanos) -> Result<()> {
    match state.exchange.slice.spend(cost) {
        Ok(Pace::InTime) => {}
        // A guest that comes to a loop or to a function is to meet an epoch there, however late the ticker is.
        Ok(Pace::Late) => state.program.pre.module().engine().increment_epoch(),
        Err(Overrun::Budget) => bail!("the guest's CPU time is used up"),
        Err(Overrun::Held) => bail!("the guest held its worker for 10 ms with host calls"),
    }
    Ok(())
}

/// Spends what any call costs.
///
/// # Errors
/// As [`spend`].
pub(super) fn enter(state: &GuestState) -> Result<()> {
    spend(state, CALL)
}
