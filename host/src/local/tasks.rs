//! Tasks of a worker: admission, starting, running one slice, waking, cancelling.

use std::sync::Arc;

use tidegate_proto::timers::TimerId;

use super::waiting::{LineId, Waiter};
use super::{KEEP_MAX, Local, TimerKey};
use crate::clock::{MS, Nanos};
use crate::config::Instances;
use crate::exchange::waits::{self, Waits};
use crate::exchange::{Exchange, Stage};
use crate::guest::crash::Crash;
use crate::guest::loading::{LoadFailure, NoCode};
use crate::guest::mounts::Mounts;
use crate::guest::outcome::{CANCELLED, Outcome, WALL_LIMIT};
use crate::guest::places::Place;
use crate::guest::program::Code;
use crate::guest::scheduler::{AppId, Join};
use crate::guest::state::Outside;
use crate::guest::task::{Call, Job, Ran, Runner};
use crate::guest::wake::Alarm;
use crate::observe::failures::Failed;
use crate::observe::guest_log::Level;
use crate::reactor::token::Slot;
use crate::tenants::admission::{Admission, Full};
use crate::tenants::registry::{App, Registry};

/// How soon a request that found no place looks again.
const PLACES_RETRY: Nanos = MS;

/// What an app with a share of the CPU may have ready before more of what waits is let in: it would hold places and do
/// nothing.
const THROTTLED_READY_MAX: usize = 2;

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

/// Instances of a version that is served, which wait for their next request.
pub(super) struct Warm {
    app: Arc<App>,
    runners: Vec<Runner>,
}

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

/// What a call is made with.
pub(super) struct Crew {
    runner: Runner,
    /// For a new instance. A warm runner has its own.
    code: Option<Arc<Code>>,
    place: Option<Place>,
}

/// Why a call can not be made now.
#[derive(Debug)]
pub(super) enum Held {
    /// There is no place for another instance.
    Place,
    /// The code is being loaded; the worker is woken when it is there.
    Load,
    /// It can not be.
    Failed(LoadFailure),
}

/// What became of a request that waited: its task, or why its app's code is not there.
pub(crate) type Admitted = (Slot, Result<Slot, LoadFailure>);

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
    fn wait_for_cpu(&mut self, app: AppId, until: Nanos) {
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

    /// What a call of a new instance takes.
    pub(super) fn new_crew(&mut self, app: &App) -> Result<Crew, Held> {
        let code =
            self.shared.loading.code(&app.program, self.worker, self.now).map_err(|none| match none {
                NoCode::Loading => Held::Load,
                NoCode::Failed(failure) => Held::Failed(failure),
            })?;
        let place = self.take_place(app).ok_or(Held::Place)?;
        let runner =
            self.cold.pop().unwrap_or_else(|| Runner::new(self.shared.reaper.clone(), self.shared.mode()));
        Ok(Crew { runner, code: Some(code), place: Some(place) })
    }

    fn crew_for(&mut self, app: &App) -> Result<Crew, Held> {
        if matches!(app.program.instances, Instances::Reuse(_))
            && let Some(runner) = self.warm_of(app).and_then(Vec::pop)
        {
            app.program.slot.touch(self.now);
            return Ok(Crew { runner, code: None, place: None });
        }
        self.new_crew(app)
    }

    /// The instances of this version that wait for a request. None: there were none yet.
    fn warm_of(&mut self, app: &App) -> Option<&mut Vec<Runner>> {
        let at = self.warm.binary_search_by_key(&app.version, |warm| warm.app.version).ok()?;
        self.warm.get_mut(at).map(|warm| &mut warm.runners)
    }

    /// Keeps an instance for another request, unless its version is not served any more.
    fn keep_warm(&mut self, app: &Arc<App>, runner: Runner) {
        let version = app.version;
        match self.warm.binary_search_by_key(&version, |warm| warm.app.version) {
            Ok(at) => self.warm[at].runners.push(runner),
            Err(at) if self.registry.serves(version) => {
                self.warm.insert(at, Warm { app: Arc::clone(app), runners: vec![runner] });
            }
            Err(_) => self.reap(runner),
        }
    }

    /// Looks for places again soon, whatever else happens.
    pub(super) fn retry_places(&mut self) {
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
        if app.seat.share.lacks_memory(app.program.facts.needs.memory_bytes) {
            let told = self.shared.places.want_memory();
            if !self.give_up_memory() && told {
                self.shared.wake_others(self.worker);
            }
            return None;
        }
        let place = app.seat.share.take(app.program.cost);
        if place.is_none() {
            let told = self.shared.places.want();
            if !self.give_up_idle() && told {
                self.shared.wake_others(self.worker);
            }
        }
        place
    }

    /// Gives up an idle instance if a worker found no place for a new one, and those of programs whose code is to go.
    pub(crate) fn help_out(&mut self) {
        if self.shared.places.is_wanted() {
            self.give_up_idle();
        }
        if self.shared.places.is_memory_wanted() {
            self.give_up_memory();
        }
        let calls = (self.shared.loading.residency().calls(), self.shared.pressure.calls());
        if calls != self.calls {
            let all = calls.1 != self.calls.1;
            self.calls = calls;
            if all { self.give_up_all_idle() } else { self.give_up_leaving() }
        }
    }

    /// Gives up the idle instances of programs that others need the room of.
    fn give_up_leaving(&mut self) {
        let leaving = self.warm.iter_mut().filter(|warm| warm.app.program.slot.is_leaving());
        let runners: Vec<Runner> = leaving.flat_map(|warm| std::mem::take(&mut warm.runners)).collect();
        runners.into_iter().for_each(|runner| self.reap(runner));
    }

    /// Gives up one idle instance of an app that holds more than its share. False: there is none.
    fn give_up_idle(&mut self) -> bool {
        let over = |warm: &&mut Warm| !warm.runners.is_empty() && warm.app.seat.share.is_exceeded();
        let runner = self.warm.iter_mut().find(over).and_then(|warm| warm.runners.pop());
        runner.map(|runner| self.reap(runner)).is_some()
    }

    /// Gives up one idle instance that holds memory which others of its tenant's want. False: there is none.
    fn give_up_memory(&mut self) -> bool {
        let wanted = |warm: &&mut Warm| !warm.runners.is_empty() && warm.app.seat.share.is_memory_wanted();
        let runner = self.warm.iter_mut().find(wanted).and_then(|warm| warm.runners.pop());
        runner.map(|runner| self.reap(runner)).is_some()
    }

    /// Gives up all idle instances: the server ends.
    pub(crate) fn give_up_all_idle(&mut self) {
        let warm = self.warm.iter_mut().flat_map(|warm| std::mem::take(&mut warm.runners));
        warm.collect::<Vec<_>>().into_iter().for_each(|runner| self.reap(runner));
    }

    /// Other apps are served from now on. The instances of those that are not any more are given up.
    pub(super) fn take_up(&mut self, registry: &Registry) {
        let gone = self.warm.extract_if(.., |warm| !registry.serves(warm.app.version)).collect::<Vec<_>>();
        self.take_up_residents(registry);
        gone.into_iter().flat_map(|warm| warm.runners).for_each(|runner| self.reap(runner));
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
