//! What signals do, from the first moment of a server to its last.
//!
//! While it starts, a signal ends it at once. The first one after that drains it: SIGTERM, SIGINT, SIGHUP alike. The
//! next ends it at once. Whichever it is, addresses are given up first: nobody comes any more, and another server can
//! start in their place.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;

use crate::observe::log::say;
use crate::reactor::listener::Bound;
use crate::shared::Shared;

/// The exit status of a server that a signal ended before it was done.
const ENDED: i32 = 1;

#[derive(Debug)]
enum Stage {
    Starting,
    Serving(Arc<Shared>),
    Draining,
}

/// What a signal acts on.
#[derive(Debug)]
pub(super) struct State {
    /// The addresses this server holds.
    pub(super) bound: Vec<Bound>,
    stage: Stage,
}

/// Acts on signals. When this is dropped the addresses are given up; signals are still heard.
#[derive(Debug)]
pub(super) struct Control(Arc<Mutex<State>>);

impl Control {
    /// Hears signals from now on.
    ///
    /// # Errors
    /// The system refuses the handlers or the thread.
    pub(super) fn start() -> Result<Self> {
        let mut heard = vec![SIGINT, SIGTERM];
        if !is_ignored(SIGHUP) {
            heard.push(SIGHUP);
        }
        let mut signals = Signals::new(heard).context("cannot listen for signals")?;
        let control = Self(Arc::new(Mutex::new(State { bound: Vec::new(), stage: Stage::Starting })));
        let state = Arc::clone(&control.0);
        thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                on_signal(&mut lock(&state), signal);
            }
        })?;
        Ok(control)
    }

    /// A signal that comes meanwhile is acted on after this is given back.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    /// It serves: the next signal drains.
    pub(super) fn serves(&self, shared: Arc<Shared>) {
        self.lock().stage = Stage::Serving(shared);
    }

    /// Drains it, as the first signal does; another one ends it at once.
    pub(super) fn drain(&self) {
        let mut state = self.lock();
        state.bound.clear();
        if let Stage::Serving(shared) = std::mem::replace(&mut state.stage, Stage::Draining) {
            shared.drain();
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.lock().bound.clear();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn on_signal(state: &mut State, signal: i32) {
    state.bound.clear();
    let name = signal_name(signal).unwrap_or("a signal");
    match std::mem::replace(&mut state.stage, Stage::Draining) {
        Stage::Starting => {
            say(format_args!("error: {name} ended the server while it was starting"));
            std::process::exit(ENDED);
        }
        Stage::Serving(shared) => {
            tracing::info!(signal = name, "draining: a second signal ends at once");
            shared.drain();
        }
        Stage::Draining => std::process::exit(ENDED),
    }
}

/// True if whoever started this process wanted it to ignore a signal, as `nohup` does with SIGHUP.
pub(crate) fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored_in(&status, signal)
}

fn ignored_in(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_found_in_the_mask() {
        let status = "Name:\ttidegate\nSigBlk:\t0000000000000003\nSigIgn:\t0000000000001001\nSigCgt:\t0\n";
        assert!(ignored_in(status, SIGHUP));
        assert!(!ignored_in(status, SIGINT) && !ignored_in(status, SIGTERM));
        assert!(!ignored_in("", SIGHUP));
    }
}
