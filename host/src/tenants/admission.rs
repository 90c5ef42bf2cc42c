//! Admission: before anything is instantiated, a request goes, waits or is shed.
//!
//! The counts are of the whole process; the queues themselves are each worker's own. Whoever leaves a gate that others
//! wait at tells the workers so.
//!
//! A gate may stand below another one, which several share: the apps of a tenant. Then whoever goes has room in both, and
//! waits in both. Who may go next at the upper gate is the workers' affair; that nobody overtakes those who wait there is
//! seen to here.

mod estimate;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use self::estimate::{Line, Service, Wait};
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

/// Which gate has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Own,
    /// The one above.
    Above,
}

/// One app's gate, whatever its version, or the one of a tenant above those of its apps.
#[derive(Debug)]
pub(crate) struct Gate {
    above: Option<Arc<Self>>,
    running_max: AtomicU32,
    queued_max: AtomicU32,
    running: AtomicU32,
    queued: AtomicU32,
    /// Gates below at which somebody waits. For an instant it may lag behind.
    lines: AtomicI32,
    /// Lines below whose first one this gate had no room for.
    turned_away: AtomicI32,
    service: Service,
    line: Line,
}

impl Gate {
    pub(crate) fn new(running_max: u32, queued_max: u32) -> Self {
        Self {
            above: None,
            running_max: AtomicU32::new(running_max),
            queued_max: AtomicU32::new(queued_max),
            running: AtomicU32::new(0),
            queued: AtomicU32::new(0),
            lines: AtomicI32::new(0),
            turned_away: AtomicI32::new(0),
            service: Service::default(),
            line: Line::default(),
        }
    }

    /// The same below another one.
    pub(crate) fn below(self, above: Option<Arc<Self>>) -> Self {
        Self { above, ..self }
    }

    /// Other limits from now on. What runs and waits stays: there may be more of it for a while than would be let in.
    pub(crate) fn set_limits(&self, running_max: u32, queued_max: u32) {
        self.running_max.store(running_max, Ordering::Relaxed);
        self.queued_max.store(queued_max, Ordering::Relaxed);
    }

    /// A request arrives that must be answered within `left`.
    pub(crate) fn arrive(&self, now: Nanos, left: Nanos) -> Admission {
        if self.enter() { Admission::Go } else { self.wait(now, left, 0) }
    }

    /// A request that must be answered within `left` and may not go before `at_least` has passed, whatever room there is.
    pub(crate) fn wait(&self, now: Nanos, left: Nanos, at_least: Nanos) -> Admission {
        let wait = self.expected_wait(now).max(Wait { likely: at_least, least: at_least });
        if wait.least > left || !self.join_queue(now) {
            return Admission::Shed { retry_after_s: seconds(wait.likely) };
        }
        Admission::Wait
    }

    /// When a client that can not be served now is to come again.
    pub(crate) fn retry_after_s(&self, now: Nanos) -> u32 {
        seconds(self.expected_wait(now).likely)
    }

    /// How long one more request would wait: until all that waits now has had its turn.
    fn expected_wait(&self, now: Nanos) -> Wait {
        let own = self.own_wait(now, self.queued().saturating_add(1));
        let Some(above) = &self.above else { return own };
        if self.line.is_known() && self.queued() > 0 {
            // How fast this line moves was measured, and that says it all, whatever it waits for.
            return own;
        }
        // The lines below take turns.
        let others = u32::try_from(above.lines.load(Ordering::Relaxed)).unwrap_or(0);
        let lines = others.saturating_add(u32::from(self.queued() == 0)).max(1);
        let ahead = self.queued().saturating_add(1).saturating_mul(lines);
        own.max(above.own_wait(now, ahead.min(above.queued().saturating_add(1))))
    }

    /// How long it takes this gate alone to let so many in.
    fn own_wait(&self, now: Nanos, ahead: u32) -> Wait {
        let (at_once, queued) = (self.running_max.load(Ordering::Relaxed), self.queued());
        if queued > 0 && self.line.is_known() {
            return self.line.wait(now, ahead);
        }
        if queued == 0 && self.running.load(Ordering::Relaxed) < at_once {
            return Wait::default();
        }
        self.service.wait(now, ahead, at_once)
    }

    fn queued(&self) -> u32 {
        self.queued.load(Ordering::Relaxed)
    }

    /// Requests that run, and that wait.
    pub(crate) fn counts(&self) -> (u32, u32) {
        (self.running.load(Ordering::Acquire), self.queued.load(Ordering::Acquire))
    }

    /// Somebody enters who waits elsewhere if there is no room; [`Gate::leave`] follows.
    pub(crate) fn enter(&self) -> bool {
        let overtakes = |above: &Arc<Self>| above.turned_away.load(Ordering::Relaxed) > 0;
        self.queued() == 0 && !self.above.as_ref().is_some_and(overtakes) && self.try_enter().is_ok()
    }

    fn try_enter(&self) -> Result<(), Full> {
        add_below(&self.running, &self.running_max).map_err(|()| Full::Own)?;
        if let Some(above) = &self.above
            && add_below(&above.running, &above.running_max).is_err()
        {
            self.running.fetch_sub(1, Ordering::AcqRel);
            return Err(Full::Above);
        }
        Ok(())
    }

    /// Joins the queue. False: there is no room in it.
    fn join_queue(&self, now: Nanos) -> bool {
        let Ok(before) = add_below(&self.queued, &self.queued_max) else { return false };
        if let Some(above) = &self.above {
            let Ok(before_above) = add_below(&above.queued, &above.queued_max) else {
                self.queued.fetch_sub(1, Ordering::AcqRel);
                return false;
            };
            above.queues(before_above, now);
        }
        self.queues(before, now);
        true
    }

    /// One more waits here, where so many did before.
    fn queues(&self, before: u32, now: Nanos) {
        if before == 0 {
            self.line.begin(now);
            if let Some(above) = &self.above {
                above.lines.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// A waiting request goes, if there is room. Once it runs, [`Gate::moved`] follows.
    pub(crate) fn enter_from_queue(&self) -> Result<(), Full> {
        self.try_enter()?;
        self.leave_queue();
        Ok(())
    }

    /// It goes back to waiting: what it needs besides the gate is not there.
    pub(crate) fn back_to_queue(&self, now: Nanos) {
        self.stop_running();
        if let Some(above) = &self.above {
            above.queues(above.queued.fetch_add(1, Ordering::AcqRel), now);
        }
        self.queues(self.queued.fetch_add(1, Ordering::AcqRel), now);
    }

    /// A request that had waited runs now.
    pub(crate) fn moved(&self, now: Nanos) {
        self.line.step(now, self.running_max.load(Ordering::Relaxed));
        if let Some(above) = &self.above {
            above.line.step(now, above.running_max.load(Ordering::Relaxed));
        }
    }

    /// A waiting request gives up.
    pub(crate) fn leave_queue(&self) {
        let before = self.queued.fetch_sub(1, Ordering::AcqRel);
        if let Some(above) = &self.above {
            above.queued.fetch_sub(1, Ordering::AcqRel);
            if before == 1 {
                above.lines.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// The gate above had no room for the first one of a line here: who comes to it later waits behind.
    /// [`Gate::let_in_again`] follows.
    pub(crate) fn turn_away(&self) {
        if let Some(above) = &self.above {
            above.turned_away.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// That line does not wait for the gate above any more.
    pub(crate) fn let_in_again(&self) {
        if let Some(above) = &self.above {
            above.turned_away.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn stop_running(&self) {
        self.running.fetch_sub(1, Ordering::AcqRel);
        if let Some(above) = &self.above {
            above.running.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// A request that ran is over, and took so long from entering to leaving. True if others wait. One that did not end by
    /// itself says only how long they take at least.
    pub(crate) fn end(&self, now: Nanos, took: Nanos, ended: bool) -> bool {
        self.count(now, took, ended);
        self.leave()
    }

    fn count(&self, now: Nanos, took: Nanos, ended: bool) {
        self.service.count(now, took, ended);
        if let Some(above) = &self.above {
            above.service.count(now, took, ended);
        }
    }

    /// A request that had been let in is over, or did not even begin. True if others wait.
    pub(crate) fn leave(&self) -> bool {
        self.stop_running();
        let waits = |gate: &Self| gate.queued.load(Ordering::Acquire) > 0;
        waits(self) || self.above.as_ref().is_some_and(|above| waits(above))
    }

    /// True if one more might run, but for those who wait.
    pub(crate) fn has_room(&self) -> bool {
        let room =
            |gate: &Self| gate.running.load(Ordering::Relaxed) < gate.running_max.load(Ordering::Relaxed);
        room(self) && self.above.as_ref().is_none_or(|above| room(above))
    }
}

/// In whole seconds, rounded up, and within what a client may be asked for.
fn seconds(wait: Nanos) -> u32 {
    u32::try_from(wait.div_ceil(1_000 * MS).clamp(1, 120)).unwrap_or(1)
}

/// Adds one unless that makes it more than `max`. How many there were.
fn add_below(count: &AtomicU32, max: &AtomicU32) -> Result<u32, ()> {
    let max = max.load(Ordering::Relaxed);
    count.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| (n < max).then_some(n + 1)).map_err(drop)
}
