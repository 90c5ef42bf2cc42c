//! The thread that moves the epoch on, every millisecond for as long as any guest runs.
//!
//! Workers raise a flag when they run guests. A ticker that has not seen it for a while sleeps until the next one, so
//! that an idle server does not wake up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::Engine;

const TICK: Duration = Duration::from_millis(1);
/// Ticks without a running guest after which the ticker sleeps.
const QUIET_TICKS_MAX: u32 = 20;

#[derive(Debug, Default)]
struct Flags {
    busy: AtomicBool,
    asleep: AtomicBool,
    stop: AtomicBool,
}

/// A handle of the ticker.
#[derive(Clone, Debug)]
pub(crate) struct Ticker {
    flags: Arc<Flags>,
    thread: Thread,
}

impl Ticker {
    /// Starts the ticker of `engine`.
    ///
    /// # Errors
    /// No thread could be started.
    pub(crate) fn start(engine: Engine) -> std::io::Result<Self> {
        let flags = Arc::new(Flags::default());
        let shared = Arc::clone(&flags);
        let handle = thread::Builder::new().name("ticker".into()).spawn(move || run(&engine, &shared))?;
        Ok(Self { flags, thread: handle.thread().clone() })
    }

    /// A guest is about to run.
    pub(crate) fn guest_runs(&self) {
        if !self.flags.busy.load(Ordering::Relaxed) {
            self.flags.busy.store(true, Ordering::SeqCst);
            if self.flags.asleep.load(Ordering::SeqCst) {
                self.thread.unpark();
            }
        }
    }

    /// True if guests ran a moment ago.
    pub(crate) fn is_awake(&self) -> bool {
        !self.flags.asleep.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.flags.stop.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

fn run(engine: &Engine, flags: &Flags) {
    let mut quiet = 0;
    while !flags.stop.load(Ordering::SeqCst) {
        if flags.busy.swap(false, Ordering::SeqCst) {
            quiet = 0;
        } else {
            quiet += 1;
        }
        if quiet > QUIET_TICKS_MAX {
            flags.asleep.store(true, Ordering::SeqCst);
            if !flags.busy.load(Ordering::SeqCst) && !flags.stop.load(Ordering::SeqCst) {
                thread::park();
            }
            flags.asleep.store(false, Ordering::SeqCst);
            quiet = 0;
        }
        thread::sleep(TICK);
        engine.increment_epoch();
    }
}
