//! The time slice a guest is running in: what the epoch callback and the host's calls decide by.
//!
//! A guest meets an epoch where it loops and where it enters a function. Between two such places it may call the host
//! any number of times, so host calls spend what they cost, and look at the clock now and then themselves.
//!
//! The worker writes it before it polls a guest and the callback, on the same thread, reads it; the atomics are there
//! because an exchange is shared, not because two threads meet.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::clock::{Clock, MS, Nanos, thread_cpu};

/// A guest that has run for so long yields to the loop.
pub(crate) const SLICE: Nanos = MS;

/// A guest that holds its worker for so long with host calls in a row is stopped: no compiler makes such code.
const HELD_MAX: Nanos = 10 * MS;
/// Host calls look at the clock every so many nanoseconds of what they spend, as a power of two: 65 us.
const LOOK_BITS: u32 = 16;

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

/// How a guest that calls the host is for time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Its slice goes on, or nobody has looked.
    InTime,
    /// Its slice is over: it yields where it next meets an epoch.
    Late,
}

/// Why a guest that calls the host is stopped there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overrun {
    /// Its CPU time is used up.
    Budget,
    /// It met no epoch for 10 ms of host calls.
    Held,
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
    /// What host calls have spent of this slice, in nanoseconds as they estimate them.
    spent: AtomicU64,
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
            spent: AtomicU64::new(0),
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
        self.spent.store(0, Relaxed);
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
        let ran = self.ran();
        if self.exhausts_budget(ran) {
            return Epoch::Stop;
        }
        if ran >= SLICE {
            self.yielded.store(true, Relaxed);
            return Epoch::Yield;
        }
        Epoch::Continue
    }

    /// A host call costs `cost` nanoseconds by its own estimate. A slice of few and cheap ones never looks at the clock.
    ///
    /// # Errors
    /// The guest is to be stopped, by a trap.
    pub(crate) fn spend(&self, cost: Nanos) -> Result<Pace, Overrun> {
        let before = self.spent.load(Relaxed);
        let after = before.saturating_add(cost);
        self.spent.store(after, Relaxed);
        if before >> LOOK_BITS == after >> LOOK_BITS {
            return Ok(Pace::InTime);
        }
        let ran = self.ran();
        if self.exhausts_budget(ran) {
            return Err(Overrun::Budget);
        }
        // With little spent it was not host calls that took so long, and the guest meets an epoch before long.
        if ran > HELD_MAX && after >= SLICE && ran.min(self.cpu_ran()) > HELD_MAX {
            return Err(Overrun::Held);
        }
        Ok(if ran >= SLICE { Pace::Late } else { Pace::InTime })
    }

    /// What host calls have spent of this slice.
    #[cfg(test)]
    pub(crate) fn spent(&self) -> Nanos {
        self.spent.load(Relaxed)
    }

    /// Time since the slice began.
    fn ran(&self) -> Nanos {
        self.clock.now().saturating_sub(self.started.load(Relaxed))
    }

    /// CPU time of the thread since the slice began, or somewhat more.
    fn cpu_ran(&self) -> Nanos {
        thread_cpu().saturating_sub(self.cpu_floor.load(Relaxed))
    }

    /// True if a slice that has run for so long uses the budget up, by the thread's own CPU time too. Then the guest is
    /// to be stopped, and that is noted.
    fn exhausts_budget(&self, ran: Nanos) -> bool {
        let left = self.budget.load(Relaxed).saturating_sub(self.used.load(Relaxed));
        let over = ran > left && ran.min(self.cpu_ran()) > left;
        if over {
            self.stopped.store(true, Relaxed);
        }
        over
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

    /// A slice that began so long ago, by the clock and by the thread's CPU time.
    fn after(ran: Nanos, cpu: Nanos) -> Slice {
        let slice = Slice::new(Clock::start());
        while slice.clock.now() < ran || thread_cpu() < cpu {}
        slice.begin(slice.clock.now() - ran, thread_cpu() - cpu);
        slice
    }

    #[test]
    fn few_calls_never_look_at_the_clock_and_many_do() {
        let slice = after(2 * MS, 2 * MS);
        slice.set_budget(MS);
        for _ in 0..650 {
            assert_eq!(slice.spend(100), Ok(Pace::InTime));
        }
        assert!(!slice.was_stopped());
        assert_eq!((0..10).find_map(|_| slice.spend(100).err()), Some(Overrun::Budget));
        assert!(slice.was_stopped());
    }

    #[test]
    fn host_calls_that_hold_the_worker_are_stopped() {
        let slice = after(11 * MS, 11 * MS);
        assert_eq!(slice.spend(1 << LOOK_BITS), Ok(Pace::Late), "little was spent: it was not the host");
        assert_eq!(slice.spend(SLICE), Err(Overrun::Held));
        assert!(!slice.was_stopped(), "its CPU time is not used up");
        let preempted = after(11 * MS, 0);
        assert_eq!(preempted.spend(2 * SLICE), Ok(Pace::Late));
        slice.begin(slice.clock.now(), thread_cpu());
        assert_eq!(slice.spend(1), Ok(Pace::InTime), "the next slice begins anew");
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
