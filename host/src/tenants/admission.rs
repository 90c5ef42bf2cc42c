//! Admission: before anything is instantiated, a request goes, waits or is shed.
//!
//! The counts are of the whole process; the queues themselves are each worker's own. Whoever leaves a gate that others
//! wait at tells the workers so.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::clock::{MS, Nanos};

/// What becomes of a request that has just arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It may run; [`Gate::leave`] follows.
    Go,
    /// It waits; [`Gate::enter_from_queue`] or [`Gate::leave_queue`] follows.
    Wait,
    /// It is refused, and the client may try again after so many seconds.
    Shed { retry_after_s: u32 },
}

/// One app's gate, whatever its version.
#[derive(Debug)]
pub(crate) struct Gate {
    running_max: AtomicU32,
    queued_max: AtomicU32,
    running: AtomicU32,
    queued: AtomicU32,
    /// How long a request takes from entering to leaving, smoothed.
    service_ns: AtomicU64,
}

impl Gate {
    pub(crate) fn new(running_max: u32, queued_max: u32) -> Self {
        Self {
            running_max: AtomicU32::new(running_max),
            queued_max: AtomicU32::new(queued_max),
            running: AtomicU32::new(0),
            queued: AtomicU32::new(0),
            service_ns: AtomicU64::new(0),
        }
    }

    /// Other limits from now on. What runs and waits stays: there may be more of it for a while than would be let in.
    pub(crate) fn set_limits(&self, running_max: u32, queued_max: u32) {
        self.running_max.store(running_max, Ordering::Relaxed);
        self.queued_max.store(queued_max, Ordering::Relaxed);
    }

    /// A request arrives that must be answered within `left`.
    pub(crate) fn arrive(&self, left: Nanos) -> Admission {
        if self.queued.load(Ordering::Relaxed) == 0 && self.try_enter() {
            return Admission::Go;
        }
        let wait = self.expected_wait();
        if wait > left || !add_below(&self.queued, self.queued_max.load(Ordering::Relaxed)) {
            let seconds = wait.div_ceil(1_000 * MS).clamp(1, 120);
            return Admission::Shed { retry_after_s: u32::try_from(seconds).unwrap_or(1) };
        }
        Admission::Wait
    }

    /// How long one more request would wait, by what requests took until now.
    fn expected_wait(&self) -> Nanos {
        let ahead = u64::from(self.queued.load(Ordering::Relaxed)) + 1;
        let at_once = self.running_max.load(Ordering::Relaxed).max(1);
        self.service_ns.load(Ordering::Relaxed).saturating_mul(ahead) / u64::from(at_once)
    }

    /// Requests that run, and that wait.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (u32, u32) {
        (self.running.load(Ordering::Acquire), self.queued.load(Ordering::Acquire))
    }

    /// Somebody enters who waits elsewhere if there is no room; [`Gate::leave`] follows.
    pub(crate) fn enter(&self) -> bool {
        self.queued.load(Ordering::Relaxed) == 0 && self.try_enter()
    }

    fn try_enter(&self) -> bool {
        add_below(&self.running, self.running_max.load(Ordering::Relaxed))
    }

    /// A waiting request goes, if there is room.
    pub(crate) fn enter_from_queue(&self) -> bool {
        let entered = self.try_enter();
        if entered {
            self.leave_queue();
        }
        entered
    }

    /// It goes back to waiting: what it needs besides the gate is not there.
    pub(crate) fn back_to_queue(&self) {
        self.running.fetch_sub(1, Ordering::AcqRel);
        self.queued.fetch_add(1, Ordering::AcqRel);
    }

    /// A waiting request gives up.
    pub(crate) fn leave_queue(&self) {
        self.queued.fetch_sub(1, Ordering::AcqRel);
    }

    /// A request that ran is over. True if others wait. One that did not end by itself says only how long they take at least.
    pub(crate) fn leave(&self, took: Nanos, ended: bool) -> bool {
        let before = self.service_ns.load(Ordering::Relaxed);
        if ended || took > before {
            self.service_ns.store(before - before / 8 + took / 8, Ordering::Relaxed);
        }
        self.running.fetch_sub(1, Ordering::AcqRel);
        self.queued.load(Ordering::Acquire) > 0
    }
}

/// Adds one unless that makes it more than `max`.
fn add_below(count: &AtomicU32, max: u32) -> bool {
    count.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| (n < max).then_some(n + 1)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Nanos = 1_000_000 * MS;

    #[test]
    fn requests_go_then_wait_then_are_shed() {
        let gate = Gate::new(1, 1);
        assert_eq!(gate.arrive(LONG), Admission::Go);
        assert_eq!(gate.arrive(LONG), Admission::Wait);
        assert_eq!(gate.arrive(LONG), Admission::Shed { retry_after_s: 1 });
        assert!(!gate.enter_from_queue());
        assert!(gate.leave(MS, true));
        assert!(gate.enter_from_queue());
        assert!(!gate.leave(MS, true));
        assert_eq!(gate.arrive(LONG), Admission::Go);
    }

    #[test]
    fn limits_change_under_what_runs_and_waits() {
        let gate = Gate::new(2, 1);
        assert_eq!([gate.arrive(LONG), gate.arrive(LONG)], [Admission::Go; 2]);
        assert_eq!(gate.arrive(LONG), Admission::Wait);
        gate.set_limits(1, 2);
        gate.leave(MS, true);
        assert!(!gate.enter_from_queue(), "one runs, and one may");
        assert_eq!(gate.arrive(LONG), Admission::Wait);
        gate.set_limits(3, 2);
        assert!(gate.enter_from_queue() && gate.enter_from_queue());
    }

    #[test]
    fn nobody_overtakes_the_queue() {
        let gate = Gate::new(1, 2);
        assert_eq!(gate.arrive(LONG), Admission::Go);
        assert_eq!(gate.arrive(LONG), Admission::Wait);
        gate.leave(MS, true);
        assert_eq!(gate.arrive(LONG), Admission::Wait);
    }

    #[test]
    fn a_request_that_could_not_be_answered_in_time_is_shed_at_once() {
        let gate = Gate::new(1, 100);
        for _ in 0..50 {
            assert_eq!(gate.arrive(LONG), Admission::Go);
            gate.leave(10_000 * MS, true);
        }
        assert_eq!(gate.arrive(LONG), Admission::Go);
        let Admission::Shed { retry_after_s } = gate.arrive(100 * MS) else { panic!("not shed") };
        assert!((9..=11).contains(&retry_after_s), "{retry_after_s}");
    }
}
