//! The time slice a guest is running in: what the epoch callback decides by.
//!
//! The worker writes it before it polls a guest and the callback, on the same thread, reads it; the atomics are there
//! because an exchange is shared, not because two threads meet.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::clock::{Clock, MS, Nanos, thread_cpu};

/// A guest that has run for so long yields to the loop.
pub(crate) const SLICE: Nanos = MS;

/// What a guest that meets an epoch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Epoch {
    /// It goes on.
    Continue,
    /// It lets others run.
    Yield,
    /// Its CPU time is used up.
    Stop,
}

/// The slice of one request's guest.
#[derive(Debug)]
pub(crate) struct Slice {
    clock: Clock,
    started: AtomicU64,
    /// The thread's CPU time can not have been below this when the slice began.
    cpu_floor: AtomicU64,
    /// CPU time charged before this slice.
    used: AtomicU64,
    budget: AtomicU64,
    yielded: AtomicBool,
    stopped: AtomicBool,
}

impl Slice {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            started: AtomicU64::new(0),
            cpu_floor: AtomicU64::new(0),
            used: AtomicU64::new(0),
            budget: AtomicU64::new(Nanos::MAX),
            yielded: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        }
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new(self.clock);
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    pub(crate) fn set_budget(&self, budget: Nanos) {
        self.budget.store(budget, Relaxed);
    }

    /// The guest is about to run.
    pub(crate) fn begin(&self, now: Nanos, cpu_floor: Nanos) {
        self.started.store(now, Relaxed);
        self.cpu_floor.store(cpu_floor, Relaxed);
        self.yielded.store(false, Relaxed);
    }

    /// The guest has run: what it is charged. A long slice is checked against the thread's own CPU time, so that a
    /// worker that was preempted does not bill its guest for it.
    pub(crate) fn end(&self, now: Nanos) -> Nanos {
        let mut ran = now.saturating_sub(self.started.load(Relaxed));
        if ran > 2 * SLICE {
            ran = ran.min(thread_cpu().saturating_sub(self.cpu_floor.load(Relaxed)));
        }
        self.used.fetch_add(ran, Relaxed);
        ran
    }

    /// CPU time charged so far, the running slice left out.
    pub(crate) fn used(&self) -> Nanos {
        self.used.load(Relaxed)
    }

    /// CPU time used so far and what is left of the budget, the running slice included.
    pub(crate) fn used_and_left(&self) -> (Nanos, Nanos) {
        let running = self.clock.now().saturating_sub(self.started.load(Relaxed));
        let used = self.used.load(Relaxed).saturating_add(running);
        (used, self.budget.load(Relaxed).saturating_sub(used))
    }

    /// The guest lets others run.
    pub(crate) fn give_up(&self) {
        self.yielded.store(true, Relaxed);
    }

    /// True if the guest's slice is over rather than that it waits for something.
    pub(crate) fn has_yielded(&self) -> bool {
        self.yielded.load(Relaxed)
    }

    /// True if the guest was stopped because its CPU time was used up.
    pub(crate) fn was_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    /// The epoch has moved on while the guest runs, or did so while it was parked: decided by the slice's own start.
    pub(crate) fn on_epoch(&self) -> Epoch {
        let ran = self.clock.now().saturating_sub(self.started.load(Relaxed));
        let budget = self.budget.load(Relaxed);
        let used = self.used.load(Relaxed);
        if used.saturating_add(ran) > budget {
            let cpu = thread_cpu().saturating_sub(self.cpu_floor.load(Relaxed));
            if used.saturating_add(ran.min(cpu)) > budget {
                self.stopped.store(true, Relaxed);
                return Epoch::Stop;
            }
        }
        if ran >= SLICE {
            self.yielded.store(true, Relaxed);
            return Epoch::Yield;
        }
        Epoch::Continue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_goes_on_then_yields_then_stops() {
        let slice = Slice::new(Clock::start());
        let burn = |until: Nanos| while slice.clock.now() < until {};
        slice.set_budget(3 * MS);
        let start = slice.clock.now();
        slice.begin(start, thread_cpu());
        assert_eq!(slice.on_epoch(), Epoch::Continue);
        burn(start + SLICE);
        assert_eq!(slice.on_epoch(), Epoch::Yield);
        assert!(slice.has_yielded());
        burn(start + 5 * MS);
        // The thread may have been preempted while it burned; then it has not used its budget.
        let expected =
            if thread_cpu() - slice.cpu_floor.load(Relaxed) > 3 * MS { Epoch::Stop } else { Epoch::Yield };
        assert_eq!(slice.on_epoch(), expected);
    }

    #[test]
    fn a_preempted_worker_does_not_stop_its_guest() {
        let slice = Slice::new(Clock::start());
        slice.set_budget(MS);
        // Far back on the wall clock, nothing on the thread's.
        slice.begin(0, Nanos::MAX);
        while slice.clock.now() < 4 * MS {}
        assert_eq!(slice.on_epoch(), Epoch::Yield);
        assert_eq!(slice.end(slice.clock.now()), 0);
    }
}
