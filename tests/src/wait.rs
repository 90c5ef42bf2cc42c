//! Waiting for a condition that only polling can see (`/proc`, a child's exit), with a deadline.
//!
//! Whoever can wait for an event (a socket, a log line) does that instead.

use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for something that should come at once on an idle machine. Generous: the machines that
/// run tests are shared and slow.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Polls `probe` every few milliseconds until it gives a value; `None` when `within` has passed.
pub fn poll_for<T>(within: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Like [`poll_for`] with [`PATIENCE`], for a condition; panics with `what` when it does not come true.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let came = poll_for(PATIENCE, || holds().then_some(()));
    assert!(came.is_some(), "waited {PATIENCE:?} in vain: {what}");
}
