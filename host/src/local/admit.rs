//! Letting requests in: each goes, waits in its app's line, or is turned away.

use std::sync::Arc;

use super::crew::Held;
use super::waiting::{LineId, Waiter};
use super::{Local, TimerKey};
use crate::clock::Nanos;
use crate::exchange::Exchange;
use crate::guest::loading::LoadFailure;
use crate::guest::scheduler::AppId;
use crate::guest::task::Call;
use crate::reactor::token::Slot;
use crate::tenants::admission::{Admission, Full};
use crate::tenants::registry::App;

/// What an app with a share of the CPU may have ready before more of what waits is let in: it would hold places and do
/// nothing.
const THROTTLED_READY_MAX: usize = 2;

/// How a request begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    Running(Slot),
    Waiting(u64),
    Shed {
        retry_after_s: u32,
    },
    /// Its app's code can not be loaded.
    Failed(LoadFailure),
}

/// What became of a request that waited: its task, or why its app's code is not there.
pub(crate) type Admitted = (Slot, Result<Slot, LoadFailure>);

impl Local {
    /// A request of `app` has arrived.
    pub(crate) fn arrive(
        &mut self,
        session: Slot,
        app: &Arc<App>,
        exchange: &Arc<Exchange>,
        due: Nanos,
    ) -> Begin {
        let (gate, left) = (&app.seat.gate, due.saturating_sub(self.now));
        let throttled = app.seat.quota.throttled_until(self.now);
        let admission = match throttled {
            None => gate.arrive(self.now, left),
            Some(until) => gate.wait(self.now, left, until.saturating_sub(self.now)),
        };
        match admission {
            Admission::Shed { retry_after_s } => Begin::Shed { retry_after_s },
            Admission::Wait => {
                if let Some(until) = throttled {
                    self.wait_for_cpu(app.id, until);
                } else if app.seat.gate.has_room() {
                    // It waits only because others do: for code, or for places. They may be another worker's.
                    self.retry_places();
                }
                Begin::Waiting(self.waiting.join(app, session))
            }
            Admission::Go => match self.start(session, app, exchange) {
                Ok(task) => Begin::Running(task),
                Err(Held::Failed(failure)) => {
                    self.leave_unserved(app);
                    Begin::Failed(failure)
                }
                Err(held) => {
                    if matches!(held, Held::Load) {
                        app.seat.metrics.shard(self.worker).cold();
                    }
                    app.seat.gate.back_to_queue(self.now);
                    self.wait_for(&held);
                    Begin::Waiting(self.waiting.join(app, session))
                }
            },
        }
    }

    /// True if requests wait for admission.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Starts what may start of the requests that wait. `take` says whether a session still waits with that ticket
    /// and lends its exchange. Returns the sessions whose requests wait no more.
    pub(crate) fn admit_waiting(
        &mut self,
        mut take: impl FnMut(Slot, u64) -> Option<Arc<Exchange>>,
    ) -> Vec<Admitted> {
        let mut admitted = Vec::new();
        // They take turns: what one waits for, others may wait for as well.
        let mut lines = self.waiting.lines();
        while !lines.is_empty() {
            lines.retain(|line| self.admit_first(*line, &mut take, &mut admitted));
        }
        admitted
    }

    /// Starts the first of a line who still waits. False: nobody of that line may go now.
    fn admit_first(
        &mut self,
        line: LineId,
        take: &mut impl FnMut(Slot, u64) -> Option<Arc<Exchange>>,
        admitted: &mut Vec<Admitted>,
    ) -> bool {
        while let Some(Waiter { app, session, ticket }) = self.waiting.first(line).cloned() {
            let waits = take(session, ticket);
            // Of one that is overdue, its session's timer is about to tell the client so.
            let Some(exchange) = waits.filter(|exchange| exchange.lock().facts.deadline > self.now) else {
                self.waiting.leave(line, false);
                continue;
            };
            if self.is_short_of_cpu(&app) {
                return false;
            }
            let gate = &app.seat.gate;
            let entered = gate.enter_from_queue();
            self.waiting.set_turned_away(line, entered == Err(Full::Above));
            if entered.is_err() {
                return false;
            }
            match self.start(session, &app, &exchange) {
                Ok(task) => {
                    gate.moved(self.now);
                    admitted.push((session, Ok(task)));
                }
                Err(Held::Failed(failure)) => {
                    self.leave_unserved(&app);
                    admitted.push((session, Err(failure)));
                }
                Err(held) => {
                    gate.back_to_queue(self.now);
                    self.wait_for(&held);
                    return false;
                }
            }
            self.waiting.leave(line, true);
            return true;
        }
        false
    }

    /// True if the app has used up its share of the CPU, or what it has ready to run is enough to use it up. It is looked
    /// at again when there is some.
    fn is_short_of_cpu(&mut self, app: &App) -> bool {
        if let Some(until) = app.seat.quota.throttled_until(self.now) {
            self.wait_for_cpu(app.id, until);
            return true;
        }
        app.seat.quota.limits_cpu() && self.scheduler.ready_of(app.id) >= THROTTLED_READY_MAX
    }

    /// An app has used up its share of the CPU: there is another look once it has some again.
    pub(super) fn wait_for_cpu(&mut self, app: AppId, until: Nanos) {
        if !self.throttled.contains(&app) {
            self.throttled.push(app);
            self.set_timer(until, TimerKey::Refill(app));
        }
    }

    /// An app may have some of its share of the CPU again. Who waits in its line has been looked at in this turn.
    pub(crate) fn refill_timer(&mut self, app: AppId) {
        self.throttled.retain(|throttled| *throttled != app);
        self.scheduler.release(app);
    }

    /// A request that had been let in is over before it began.
    fn leave_unserved(&self, app: &App) {
        if app.seat.gate.leave() {
            self.shared.wake_all();
        }
    }

    /// Sees to it that there is another look.
    fn wait_for(&mut self, held: &Held) {
        // Who loads wakes this worker.
        if matches!(held, Held::Place) {
            self.retry_places();
        }
    }

    /// Starts a task.
    fn start(&mut self, session: Slot, app: &Arc<App>, exchange: &Arc<Exchange>) -> Result<Slot, Held> {
        let crew = self.crew_for(app)?;
        Ok(self.launch(crew, app, exchange, Call::Request, Some(session)))
    }

    /// Starts a health request. None: there is no room for it now.
    pub(super) fn start_probe(
        &mut self,
        app: &Arc<App>,
        exchange: &Arc<Exchange>,
    ) -> Result<Slot, Option<String>> {
        match self.crew_for(app) {
            Ok(crew) => Ok(self.launch(crew, app, exchange, Call::Request, None)),
            Err(Held::Failed(failure)) => Err(Some(failure.reason.to_string())),
            Err(Held::Place | Held::Load) => Err(None),
        }
    }
}
