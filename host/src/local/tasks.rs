//! Tasks of a worker: launching, running one slice, waking, cancelling.

use std::sync::Arc;

use tidegate_proto::timers::TimerId;

use super::crew::Crew;
use super::{KEEP_MAX, Local, TimerKey};
use crate::clock::{MS, Nanos};
use crate::exchange::waits::{self, Waits};
use crate::exchange::{Exchange, Stage};
use crate::guest::crash::Crash;
use crate::guest::mounts::Mounts;
use crate::guest::outcome::{CANCELLED, Outcome, WALL_LIMIT};
use crate::guest::scheduler::{AppId, Join};
use crate::guest::state::Outside;
use crate::guest::task::{Call, Job, Ran, Runner};
use crate::guest::wake::Alarm;
use crate::observe::failures::Failed;
use crate::observe::guest_log::Level;
use crate::reactor::token::Slot;
use crate::tenants::registry::App;

/// How long a guest that computes keeps its turn among those of its app that do so too.
const LONG_TURN: Nanos = 20 * MS;

/// What a task is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Request,
    /// A raw connection.
    Connection,
    /// It runs by itself.
    Resident,
}

/// A guest at work.
pub(crate) struct Task {
    runner: Runner,
    pub(super) purpose: Purpose,
    /// Where others than its worker's session wake it: files, and sockets.
    alarm: Option<Alarm<Slot>>,
    pub(crate) app: Arc<App>,
    pub(crate) exchange: Arc<Exchange>,
    /// Whose request it is. None once the answer has left and the guest goes on without it.
    pub(crate) session: Option<Slot>,
    timer: Option<(TimerId, Nanos)>,
    entered: Nanos,
    /// It is in the run queue.
    ready: bool,
    /// CPU time used since it last let other long ones of its app go before.
    turn_used: Nanos,
    /// When it has to be over although its answer is complete.
    overtime: Nanos,
    /// What it waits for besides what is in its exchange.
    waits: Waits,
}

impl Task {
    pub(super) fn entered(&self) -> Nanos {
        self.entered
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    pub(super) fn waits(&self) -> Waits {
        self.waits
    }

    /// Runs the guest. Beside what came of it: whether another thread woke it meanwhile.
    fn poll(&mut self) -> (Ran, bool) {
        let Some(alarm) = &self.alarm else { return (self.runner.poll(), false) };
        let _threads = self.app.program.mounts.as_ref().and_then(Mounts::enter);
        alarm.during(|waker| self.runner.poll_with(waker))
    }

    /// Nobody is left to tell of a failure: the log is told.
    fn log_late(&self, word: &str, detail: Option<&str>) {
        if word != "ok" {
            let app = &*self.app.program.name;
            let detail = detail.unwrap_or(match self.purpose {
                Purpose::Connection => "a raw connection ended with an error",
                _ => "after its answer had left",
            });
            let inner = self.exchange.lock();
            let (request, status) = (&inner.facts.id, inner.response.head.status());
            let failed = Failed { app, request, code: word, status, detail };
            self.app.program.log.failures.tell(Level::Warn, &failed);
        }
    }
}

/// What one slice came to.
pub(crate) struct Step {
    pub(crate) session: Option<Slot>,
    /// How the call ended, if it did.
    pub(crate) outcome: Option<Outcome>,
    /// In dev: how it failed.
    pub(crate) crash: Option<Box<Crash>>,
}

impl Local {
    /// Starts a task.
    pub(super) fn launch(
        &mut self,
        crew: Crew,
        app: &Arc<App>,
        exchange: &Arc<Exchange>,
        call: Call,
        session: Option<Slot>,
    ) -> Slot {
        let purpose = match call {
            Call::Request => Purpose::Request,
            Call::Connection(_) => Purpose::Connection,
            Call::Run => Purpose::Resident,
        };
        let cpu = match purpose {
            // One that goes on for ever would use up any budget: its share of the worker is what bounds it.
            Purpose::Resident => u64::MAX,
            _ => u64::try_from(app.program.limits.cpu.as_nanos()).unwrap_or(u64::MAX),
        };
        exchange.slice.set_budget(cpu);
        let outside = Outside { hub: Arc::clone(&self.hub), access: Arc::clone(&app.access) };
        let (program, exchange) = (Arc::clone(&app.program), Arc::clone(exchange));
        let Crew { mut runner, code, place } = crew;
        let metrics = app.seat.metrics.shard(self.worker);
        if place.is_some() {
            metrics.created()
        } else {
            metrics.reused()
        }
        runner.begin(Job { program, exchange: Arc::clone(&exchange), outside, call, code, place });
        let now = self.now;
        let waits = app.program.mounts.is_some()
            || app.program.kv.is_some()
            || app.access.allows_anything()
            || purpose != Purpose::Request;
        let bell = waits.then_some(&self.bell);
        let task = self.tasks.insert_with(|slot| Task {
            runner,
            purpose,
            alarm: bell.map(|bell| Alarm::new(bell, slot)),
            app: Arc::clone(app),
            exchange,
            session,
            timer: None,
            entered: now,
            ready: true,
            turn_used: 0,
            overtime: Nanos::MAX,
            waits: Waits::default(),
        });
        self.scheduler.push(app.id, app.weight, task, Join::Short);
        if app.seat.quota.limits_cpu() {
            // It may be due before it has had a turn.
            self.arm(task);
        }
        task
    }

    /// Sets the timer of a task that has not run yet.
    fn arm(&mut self, slot: Slot) {
        let Some(due) = self.tasks.get_mut(slot).map(|task| task.exchange.lock().facts.deadline) else {
            return;
        };
        let timer = (due != Nanos::MAX).then(|| (self.set_timer(due, TimerKey::Task(slot)), due));
        if let Some(task) = self.tasks.get_mut(slot) {
            task.timer = timer;
        }
    }

    /// True if a guest is ready to run.
    pub(crate) fn has_ready(&self) -> bool {
        !self.scheduler.is_empty()
    }

    /// True if guests were woken that are not in the run queue yet.
    pub(crate) fn has_woken(&self) -> bool {
        self.bell.is_rung()
    }

    /// True if the guest whose turn it is has used up slices before.
    pub(crate) fn next_has_yielded(&mut self) -> bool {
        let next = self.scheduler.peek();
        next.and_then(|slot| self.tasks.get_mut(slot)).is_some_and(|task| task.exchange.slice.has_yielded())
    }

    /// Whose turn it is. What was cancelled while it was ready is passed over; an app without CPU time is held until it has
    /// some.
    fn next_ready(&mut self) -> Option<(AppId, Slot)> {
        loop {
            let (app, slot) = self.scheduler.pop()?;
            let Some(task) = self.tasks.get_mut(slot) else {
                self.scheduler.charge(app, 0);
                continue;
            };
            let Some(until) = task.app.seat.quota.throttled_until(self.now) else {
                return Some((app, slot));
            };
            self.scheduler.hold(app, slot);
            self.wait_for_cpu(app, until);
        }
    }

    /// Runs the guest whose turn it is until it waits or its slice is over.
    pub(crate) fn run_next(&mut self) -> Option<Step> {
        let (app, slot) = self.next_ready()?;
        let task = self.tasks.get_mut(slot)?;
        task.ready = false;
        self.shared.ticker.guest_runs();
        task.exchange.slice.begin(self.now, self.cpu_floor);
        waits::take();
        let (ran, woken) = task.poll();
        task.waits = waits::take();
        self.now = self.shared.clock.now();
        let used = task.exchange.slice.end(self.now);
        self.cpu_floor += used;
        task.app.seat.quota.charge(self.now, used);
        task.app.seat.metrics.shard(self.worker).cpu(used);
        let session = task.session;
        let (outcome, crash, sound) = match ran {
            Ran::Pending => (None, None, true),
            Ran::Done(outcome, crash) => (Some(outcome), crash, true),
            Ran::Panicked(text) => {
                tracing::error!(app = &*task.app.program.name, panic = text, "the host panicked: a bug");
                (Some(Outcome::Trapped(format!("the host panicked: {text}"))), None, false)
            }
        };
        match &outcome {
            Some(outcome) => {
                if let Some(crash) = &crash {
                    let id = &task.exchange.lock().facts.id;
                    task.app.program.log.record(Level::Error, id, crash.text().as_bytes());
                }
                if session.is_none() && task.purpose != Purpose::Resident {
                    task.log_late(outcome.word(), outcome.detail());
                }
                let resident = (task.purpose == Purpose::Resident).then(|| Arc::clone(&task.app));
                self.end_task(slot, sound);
                if let Some(app) = resident {
                    self.resident_ended(&app, outcome);
                }
            }
            None => {
                self.suspend(slot, used);
                if woken {
                    self.make_ready(slot);
                }
            }
        }
        if !self.asked.is_empty() {
            self.look_at_probes(slot, outcome.as_ref());
        }
        let step = Step { session, outcome, crash };
        self.scheduler.charge(app, used);
        Some(step)
    }

    /// The guest waits, or its slice is over.
    fn suspend(&mut self, slot: Slot, used: Nanos) {
        let Some(task) = self.tasks.get_mut(slot) else { return };
        let yielded = task.exchange.slice.has_yielded();
        let inner = task.exchange.lock();
        let head_due =
            if inner.response.stage() == Stage::Unset { inner.facts.deadline } else { task.overtime };
        let until = inner.park.filter(|_| !yielded).and_then(|park| park.until).unwrap_or(Nanos::MAX);
        drop(inner);
        let due = head_due.min(until);
        let old = task.timer.take();
        if yielded {
            task.ready = true;
            task.turn_used += used;
            let join = if task.turn_used < LONG_TURN { Join::LongFirst } else { Join::LongLast };
            if join == Join::LongLast {
                task.turn_used = 0;
            }
            let (id, weight) = (task.app.id, task.app.weight);
            self.scheduler.push(id, weight, slot, join);
        }
        let timer = match old {
            Some((id, at)) if at == due => Some((id, at)),
            old => {
                if let Some((id, _)) = old {
                    self.cancel_timer(id);
                }
                (due != Nanos::MAX).then(|| (self.set_timer(due, TimerKey::Task(slot)), due))
            }
        };
        if let Some(task) = self.tasks.get_mut(slot) {
            task.timer = timer;
        }
    }

    /// A task's timer has fired. True: its time is up, and it is to be cancelled.
    pub(crate) fn task_timer(&mut self, slot: Slot) -> bool {
        let now = self.now;
        let Some(task) = self.tasks.get_mut(slot) else { return false };
        task.timer = None;
        let inner = task.exchange.lock();
        let head_due =
            if inner.response.stage() == Stage::Unset { inner.facts.deadline } else { task.overtime };
        drop(inner);
        if now >= head_due {
            return true;
        }
        self.make_ready(slot);
        false
    }

    /// Puts a parked guest into the run queue if what it waits for has come.
    pub(crate) fn wake(&mut self, slot: Slot) {
        if let Some(task) = self.tasks.get_mut(slot)
            && !task.ready
            && task.exchange.lock().wakes_guest()
        {
            self.make_ready(slot);
        }
    }

    /// Puts the guests into the run queue that other threads woke. Who is gone by now is passed over.
    pub(crate) fn answer_bell(&mut self) {
        let mut woken = std::mem::take(&mut self.woken);
        self.bell.take(&mut woken);
        for slot in woken.drain(..) {
            self.make_ready(slot);
        }
        self.woken = woken;
    }

    fn make_ready(&mut self, slot: Slot) {
        if let Some(task) = self.tasks.get_mut(slot)
            && !task.ready
        {
            task.ready = true;
            let (id, weight) = (task.app.id, task.app.weight);
            self.scheduler.push(id, weight, slot, Join::Short);
        }
    }

    /// The answer is complete and the guest goes on without its session, within its limits.
    pub(crate) fn detach(&mut self, slot: Slot) {
        let now = self.now;
        if let Some(task) = self.tasks.get_mut(slot) {
            let wall = u64::try_from(task.app.program.limits.wall.as_nanos()).unwrap_or(u64::MAX);
            task.session = None;
            task.overtime = now.saturating_add(wall);
        }
        if self.tasks.get_mut(slot).is_some_and(|task| !task.ready) {
            self.suspend(slot, 0);
        }
    }

    /// Ends a task that went on after its answer for longer than it may.
    pub(crate) fn cancel_overtime(&mut self, slot: Slot) {
        if let Some(task) = self.tasks.get_mut(slot) {
            task.log_late(WALL_LIMIT.code, Some("went on after its answer for longer than `wall`"));
        }
        self.cancel(slot);
    }

    /// An operator ends a task that no connection waits for: a request after its answer, a raw connection, a resident, which
    /// is started again.
    pub(crate) fn cancel_on_demand(&mut self, slot: Slot) {
        const DETAIL: &str = "an operator cancelled it";
        let Some(task) = self.tasks.get_mut(slot) else { return };
        if task.purpose == Purpose::Resident {
            let app = Arc::clone(&task.app);
            self.cancel(slot);
            self.resident_failed(&app, CANCELLED.code, DETAIL);
        } else {
            task.log_late(CANCELLED.code, Some(DETAIL));
            // Nobody waits for it, unless it is a health request.
            self.look_at_probes(slot, Some(&Outcome::Reported(DETAIL.to_owned())));
            self.cancel(slot);
        }
    }

    /// Ends a task whose call goes on: its fiber is unwound, away from the loop.
    pub(crate) fn cancel(&mut self, slot: Slot) {
        if let Some(task) = self.tasks.get_mut(slot) {
            task.exchange.lock().park = None;
            self.end_task(slot, false);
        }
    }

    fn end_task(&mut self, slot: Slot, sound: bool) {
        let Some(task) = self.tasks.remove(slot) else { return };
        if let Some((id, _)) = task.timer {
            self.cancel_timer(id);
        }
        if !sound {
            self.reap(task.runner);
        } else if task.runner.is_warm() {
            self.keep_warm(&task.app, task.runner);
        } else if self.cold.len() < KEEP_MAX {
            self.cold.push(task.runner);
        }
        let stayed = self.now.saturating_sub(task.entered);
        match task.purpose {
            Purpose::Request => {
                if task.app.seat.gate.end(self.now, stayed, sound) {
                    self.shared.wake_all();
                }
            }
            Purpose::Connection => self.connection_ended(&task.app),
            Purpose::Resident => {}
        }
        if task.session.is_none() {
            self.recycle(Some(task.exchange));
        }
    }
}
