//! Doing several things at once in one handler: an executor on the host's `poll`, timers, and ways to combine futures.
//!
//! A handler is one thread. Its futures take turns: one that waits (for the request's body, for room in the response,
//! for time to pass) lets the others run, and when all of them wait the handler does, which costs no CPU time. Futures
//! need not be `Send`. Futures of other crates work as long as they are woken from within the handler: channels and
//! locks do; what brings a runtime of its own does not.
//!
//! An `async fn` marked with [`macro@crate::handler`] runs under [`block_on`]; everywhere else, call that by hand.
//!
//! ```
//! use std::time::Duration;
//! use tidegate_sdk::task;
//!
//! let (a, b) = task::block_on(task::join(
//!     async {
//!         task::sleep(Duration::from_millis(20)).await;
//!         1
//!     },
//!     async { 2 },
//! ));
//! assert_eq!((a, b), (1, 2));
//! ```
//!
//! Blocking calls (`std::io::Read::read`, [`crate::sleep`]) work in async code too, but nothing else of the handler runs
//! while they wait: use their async twins there.
//!
//! Three parts: `executor` runs futures, `reactor` knows what they wait for, the rest is made of these two. What this
//! module must never know: what handles stand for.

mod coop;
mod executor;
mod join;
mod many;
mod reactor;
mod select;
mod timers;

pub use executor::{JoinHandle, block_on, spawn};
pub use join::{join, join3, try_join};
pub use many::{join_all, race, try_join_all};
pub use select::{Either, select, yield_now};
pub use timers::{Elapsed, Interval, Sleep, interval, sleep, sleep_until, timeout};

pub(crate) use reactor::{Disarm, Ready, poll_io, poll_until, ready, until};

#[cfg(test)]
mod tests;
