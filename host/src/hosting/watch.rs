//! What happens by itself: canaries that fail are ended, modules that no version needs go.
//!
//! It must never keep a server alive: it ends with whoever has the operator's side.

use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::operator::{Inner, Operator};

/// How often canaries are looked at, and whether there are any.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const IDLE_LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often modules go that no version needs.
const COLLECT_EVERY: Duration = Duration::from_secs(600);

/// The thread that looks, once there is one.
#[derive(Debug, Default)]
pub(super) struct Watch(OnceLock<Thread>);

impl Watch {
    /// There may be a canary now: it is looked at as often as canaries are, from now on.
    pub(super) fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

/// Looks at canaries and modules for as long as there is a server.
pub(super) fn start(inner: &Arc<Inner>) -> std::io::Result<()> {
    let operated: Weak<Inner> = Arc::downgrade(inner);
    let thread = thread::Builder::new().name("hosting".into()).spawn(move || {
        // There may be canaries that were kept.
        let (mut patience, mut collected) = (LOOK_EVERY, Instant::now());
        loop {
            thread::park_timeout(patience);
            let Some(inner) = operated.upgrade() else { return };
            let operator = Operator(inner);
            patience = if operator.look_at_canaries() { LOOK_EVERY } else { IDLE_LOOK_EVERY };
            if collected.elapsed() >= COLLECT_EVERY {
                operator.collect();
                collected = Instant::now();
            }
        }
    })?;
    // Nobody has set it before.
    let _ = inner.watch.0.set(thread.thread().clone());
    Ok(())
}
