//! How a future that is always ready lets others run: after so many operations of the SDK in a row it waits once.

use std::cell::Cell;
use std::task::{Context, Poll};

/// Operations that one future may do in one turn.
const TURN: u32 = 64;

thread_local! {
    static LEFT: Cell<u32> = const { Cell::new(TURN) };
}

/// A new turn begins: called before each poll of a future that has siblings.
pub(crate) fn refill() {
    LEFT.set(TURN);
}

/// Counts one operation. Pending, and woken at once, if the turn is over.
pub(crate) fn proceed(cx: &Context<'_>) -> Poll<()> {
    match LEFT.get().checked_sub(1) {
        Some(left) => {
            LEFT.set(left);
            Poll::Ready(())
        }
        None => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
}
