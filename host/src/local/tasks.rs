//! Tasks of a worker: admission, starting, running one slice, waking, cancelling.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_proto::timers::TimerId;

use super::{KEEP_MAX, Local, TimerKey};
use crate::clock::{MS, Nanos};
use crate::config::Instances;
use crate::exchange::{Exchange, Stage};
use crate::guest::crash::Crash;
use crate::guest::mounts::Mounts;
use crate::guest::outcome::{Outcome, WALL_LIMIT};
use crate::guest::places::Place;
use crate::guest::scheduler::{AppId, Join};
use crate::guest::state::Outside;
use crate::guest::task::{Call, Job, Ran, Runner};
use crate::guest::wake::Alarm;
use crate::observe::failures::Failed;
use crate::observe::guest_log::Level;
use crate::reactor::token::Slot;
use crate::tenants::admission::Admission;
use crate::tenants::registry::{App, Registry};

/// How soon a request that found no place looks again.
const PLACES_RETRY: Nanos = MS;

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
}

impl Task {
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

/// Instances of a version that is served, which wait for their next request.
pub(super) struct Warm {
    app: Arc<App>,
    runners: Vec<Runner>,
}

/// How a request begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    Running(Slot),
    Waiting(u64),
    Shed { retry_after_s: u32 },
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
    /// A request of `app` has arrived.
    pub(crate) fn arrive(
        &mut self,
        session: Slot,
        app: &Arc<App>,
        exchange: &Arc<Exchange>,
        due: Nanos,
    ) -> Begin {
        match app.seat.gate.arrive(due.saturating_sub(self.now)) {
            Admission::Shed { retry_after_s } => Begin::Shed { retry_after_s },
            Admission::Wait => Begin::Waiting(self.waiting.join(app, session)),
            Admission::Go => match self.start(session, app, exchange) {
                Some(task) => Begin::Running(task),
                None => {
                    app.seat.gate.back_to_queue();
                    self.retry_places();
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
    /// and lends its exchange. Returns the sessions whose requests have begun, with their tasks.
    pub(crate) fn admit_waiting(
        &mut self,
        mut take: impl FnMut(Slot, u64) -> Option<Arc<Exchange>>,
    ) -> Vec<(Slot, Slot)> {
        let mut started = Vec::new();
        for app in self.waiting.apps() {
            while let Some(waiter) = self.waiting.first(app) {
                let (session, gate) = (waiter.session, &waiter.app.seat.gate);
                let Some(exchange) = take(session, waiter.ticket) else { continue };
                if exchange.lock().facts.deadline <= self.now {
                    // Its session's timer is about to tell the client so.
                    continue;
                }
                if !gate.enter_from_queue() {
                    self.waiting.rejoin(waiter);
                    break;
                }
                match self.start(session, &waiter.app, &exchange) {
                    Some(task) => started.push((session, task)),
                    None => {
                        gate.back_to_queue();
                        self.waiting.rejoin(waiter);
                        self.retry_places();
                        break;
                    }
                }
            }
        }
        started
    }

    /// Starts a task. `None`: there is no place for another instance.
    fn start(&mut self, session: Slot, app: &Arc<App>, exchange: &Arc<Exchange>) -> Option<Slot> {
        let (runner, place) = self.runner_for(app)?;
        Some(self.launch(runner, place, app, exchange, Call::Request, Some(session)))
    }

    /// Starts a task.
    pub(super) fn launch(
        &mut self,
        mut runner: Runner,
        place: Option<Place>,
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
        runner.begin(Job { program, exchange: Arc::clone(&exchange), outside, call, place });
        let now = self.now;
        let waits =
            app.program.mounts.is_some() || app.access.allows_anything() || purpose != Purpose::Request;
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
        });
        self.scheduler.push(app.id, app.weight, task, Join::Short);
        task
    }

    /// A runner for a new instance, and the instance's place. None: there is none.
    pub(super) fn new_runner(&mut self, app: &App) -> Option<(Runner, Place)> {
        let place = self.take_place(app)?;
        let runner =
            self.cold.pop().unwrap_or_else(|| Runner::new(self.shared.reaper.clone(), self.shared.mode()));
        Some((runner, place))
    }

    fn runner_for(&mut self, app: &App) -> Option<(Runner, Option<Place>)> {
        if matches!(app.program.instances, Instances::Reuse(_))
            && let Some(runner) = self.warm_of(app).and_then(Vec::pop)
        {
            return Some((runner, None));
        }
        let (runner, place) = self.new_runner(app)?;
        Some((runner, Some(place)))
    }

    /// The instances of this version that wait for a request. None: it is not served any more.
    fn warm_of(&mut self, app: &App) -> Option<&mut Vec<Runner>> {
        let at = self.warm.binary_search_by_key(&app.version, |warm| warm.app.version).ok()?;
        self.warm.get_mut(at).map(|warm| &mut warm.runners)
    }

    /// Looks for places again soon, whatever else happens.
    fn retry_places(&mut self) {
        if !self.retrying {
            self.retrying = true;
            self.set_timer(self.now + PLACES_RETRY, TimerKey::Places);
        }
    }

    /// The time has come to look for places again; that this is another turn is all that is needed.
    pub(crate) fn places_timer(&mut self) {
        self.retrying = false;
    }

    /// Places in the pools. If there are none, idle instances are given up, here and by other workers; the places come
    /// free once those are dropped.
    fn take_place(&mut self, app: &App) -> Option<Place> {
        let place = app.seat.share.take(app.program.cost);
        if place.is_none() {
            let told = self.shared.places.want();
            if !self.give_up_idle() && told {
                self.shared.wake_others(self.worker);
            }
        }
        place
    }

    /// Gives up an idle instance if a worker found no place for a new one.
    pub(crate) fn help_out(&mut self) {
        if self.shared.places.is_wanted() {
            self.give_up_idle();
        }
    }

    /// Gives up one idle instance of an app that holds more than its share. False: there is none.
    fn give_up_idle(&mut self) -> bool {
        let over = |warm: &&mut Warm| !warm.runners.is_empty() && warm.app.seat.share.is_exceeded();
        let runner = self.warm.iter_mut().find(over).and_then(|warm| warm.runners.pop());
        runner.map(|runner| self.reap(runner)).is_some()
    }

    /// Gives up all idle instances: the server ends.
    pub(crate) fn give_up_all_idle(&mut self) {
        let warm = self.warm.iter_mut().flat_map(|warm| std::mem::take(&mut warm.runners));
        warm.collect::<Vec<_>>().into_iter().for_each(|runner| self.reap(runner));
    }

    /// Other apps are served from now on. The instances of those that are not any more are given up.
    pub(super) fn take_up(&mut self, registry: &Registry) {
        let kept = std::mem::take(&mut self.warm).into_iter();
        let mut kept: HashMap<u64, Vec<Runner>> = kept.map(|warm| (warm.app.version, warm.runners)).collect();
        let reusing =
            registry.apps().iter().filter(|app| matches!(app.program.instances, Instances::Reuse(_)));
        self.warm = reusing
            .map(|app| Warm { app: Arc::clone(app), runners: kept.remove(&app.version).unwrap_or_default() })
            .collect();
        self.warm.sort_unstable_by_key(|warm| warm.app.version);
        self.take_up_residents(registry);
        kept.into_values().flatten().for_each(|runner| self.reap(runner));
    }

    /// Drops a runner away from the loop.
    fn reap(&self, runner: Runner) {
        // If the reaper is gone the server is ending; then it is dropped here.
        let _ = self.shared.reaper.send(Box::new(runner));
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

    /// Whose turn it is. What was cancelled while it was ready is passed over.
    fn next_ready(&mut self) -> Option<(AppId, Slot)> {
        loop {
            let (app, slot) = self.scheduler.pop()?;
            if self.tasks.get_mut(slot).is_some() {
                return Some((app, slot));
            }
            self.scheduler.charge(app, 0);
        }
    }

    /// Runs the guest whose turn it is until it waits or its slice is over.
    pub(crate) fn run_next(&mut self) -> Option<Step> {
        let (app, slot) = self.next_ready()?;
        let task = self.tasks.get_mut(slot)?;
        task.ready = false;
        self.shared.ticker.guest_runs();
        task.exchange.slice.begin(self.now, self.cpu_floor);
        let (ran, woken) = task.poll();
        self.now = self.shared.clock.now();
        let used = task.exchange.slice.end(self.now);
        self.cpu_floor += used;
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
            match self.warm_of(&task.app) {
                Some(warm) => warm.push(task.runner),
                None => self.reap(task.runner),
            }
        } else if self.cold.len() < KEEP_MAX {
            self.cold.push(task.runner);
        }
        let stayed = self.now.saturating_sub(task.entered);
        match task.purpose {
            Purpose::Request => {
                if task.app.seat.gate.leave(stayed, sound) {
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
