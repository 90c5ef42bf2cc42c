//! One worker: a loop, and the order of its turn.
//!
//! A turn, every phase of it bounded:
//!
//! 1. wait for events, for as long as nothing else is to be done;
//! 2. take in what the events say, then read, parse and dispatch, session by session;
//! 3. sessions that had not finished in the turn before;
//! 4. requests that waited for admission, and guests that other threads woke;
//! 5. guests, for one slice in all; sessions take up what they did and send it in batches;
//! 6. timers;
//! 7. accept;
//! 8. once a second, what guests' logs have dropped.
//!
//! At most one slice of guests runs before the loop looks at its sockets again.

mod doors;
mod errands;
mod life;
mod pause;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Poll};

use self::doors::Door;
use self::errands::Errands;
use self::life::Life;
use self::pause::Pause;
use crate::clock::{MS, Nanos};
use crate::local::{Local, RawDoor, TimerKey};
use crate::net::hub::Hub;
use crate::observe::edge;
use crate::observe::failures::WITHOUT_APP;
use crate::observe::rate;
use crate::reactor::listener::Listener;
use crate::reactor::token::{Slot, Slots, Source};
use crate::session::{Fate, Session};
use crate::shared::Shared;

/// Events of one turn.
const EVENTS_MAX: usize = 1024;
/// Guests run for so long before the loop looks at its sockets again.
const GUESTS_SLICE: Nanos = MS;
/// What a guest did waits no longer than this for others to be sent with it.
const FLUSH_DELAY_MAX: Nanos = MS / 10;
/// How often dropped log records are told of.
const REPORT_INTERVAL: Nanos = 1_000 * MS;

/// A worker's loop.
pub(crate) struct Worker {
    poll: Poll,
    doors: Vec<Door>,
    sessions: Slots<Session>,
    local: Local,
    pause: Pause,
    /// A number of the records that logs had dropped when that was looked at last.
    drops: u64,
    life: Life,
    fired: Vec<TimerKey>,
    /// Sessions whose guests did something that has not been sent.
    touched: Vec<Slot>,
    /// What operators have asked for.
    errands: Errands,
}

impl Worker {
    /// A worker over `poll`, whose waker is registered already.
    ///
    /// # Errors
    /// A listener can not be registered.
    pub(crate) fn new(
        poll: Poll,
        listeners: Vec<(Listener, Option<RawDoor>)>,
        shared: Arc<Shared>,
        number: u16,
    ) -> io::Result<Self> {
        let mut doors = Vec::new();
        for (i, (mut listener, raw)) in listeners.into_iter().enumerate() {
            listener.register(poll.registry(), Source::Listener(i).token())?;
            doors.push(Door { listener, open: true, raw });
        }
        let hub = Hub::new(poll.registry().try_clone()?, shared.clock, Arc::clone(&shared.resolver));
        Ok(Self {
            poll,
            doors,
            sessions: Slots::new(),
            local: Local::new(shared, hub, number),
            pause: Pause::default(),
            drops: 0,
            life: Life::default(),
            fired: Vec::new(),
            touched: Vec::new(),
            errands: Errands::default(),
        })
    }

    /// Turns until the server has drained.
    ///
    /// # Errors
    /// Waiting for events failed.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        self.report();
        while !self.is_done() {
            match self.poll.poll(&mut events, self.patience()) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            }
            self.local.begin_turn();
            let began = self.local.now;
            self.run_errands();
            self.take_events(&events);
            self.look_again();
            self.admit_waiting();
            self.local.take_probes();
            self.local.answer_bell();
            self.run_guests();
            self.fire_timers();
            self.accept();
            self.check_life();
            let worker = self.local.shared.metrics.worker(self.local.worker);
            worker.turn(self.local.shared.clock.now().saturating_sub(began));
        }
        self.local.hub.http.clear();
        self.report();
        Ok(())
    }

    /// How long the loop may wait: not at all if there is work left.
    fn patience(&self) -> Option<Duration> {
        let accepting = !self.pause.is_on() && self.doors.iter().any(|door| door.open);
        let local = &self.local;
        if accepting
            || !self.errands.is_empty()
            || local.has_ready()
            || local.has_woken()
            || !local.again.is_empty()
        {
            return Some(Duration::ZERO);
        }
        let mut patience = self.local.until_next_timer();
        if let Some(until) = self.life.next_step() {
            let left = until.saturating_sub(self.local.now) / MS + 1;
            patience = Some(patience.map_or(left, |p| p.min(left)));
        }
        patience.map(Duration::from_millis)
    }

    fn take_events(&mut self, events: &Events) {
        for event in events {
            match Source::of(event.token()) {
                Source::Waker => {}
                Source::Listener(i) => {
                    if let Some(door) = self.doors.get_mut(i) {
                        door.open = true;
                    }
                }
                Source::Session(slot) => self.look(slot, |session, local| {
                    session.transport().arm(event);
                    session.drive(local)
                }),
                Source::Net(slot) => self.take_net_event(slot, event),
            }
        }
    }

    /// A guest's socket is ready: whoever waits for it is woken.
    fn take_net_event(&mut self, slot: Slot, event: &Event) {
        let hub = &self.local.hub;
        if catch_unwind(AssertUnwindSafe(|| hub.take_event(slot, event))).is_err() {
            tracing::error!(worker = self.local.worker, "a guest's socket panicked: a bug");
        }
    }

    /// Gives a session a look at something. A stale slot is passed over. A panic is a bug of ours: it costs that
    /// connection and no other.
    fn look(&mut self, slot: Slot, f: impl FnOnce(&mut Session, &mut Local) -> Fate) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let local = &mut self.local;
        let fate = catch_unwind(AssertUnwindSafe(|| f(session, local)));
        if fate.is_err() {
            tracing::error!(worker = self.local.worker, "a session panicked: a bug");
            self.local.restore();
        }
        if !matches!(fate, Ok(Fate::Keep)) {
            self.close(slot);
        }
    }

    fn close(&mut self, slot: Slot) {
        let Some(mut session) = self.sessions.remove(slot) else { return };
        let local = &mut self.local;
        if catch_unwind(AssertUnwindSafe(|| session.close(local))).is_err() {
            tracing::error!(worker = self.local.worker, "a session panicked while it was closed: a bug");
        }
        drop(session);
        self.local.shared.disconnect();
        self.pause.lift();
    }

    fn look_again(&mut self) {
        for slot in std::mem::take(&mut self.local.again) {
            self.look(slot, |session, local| {
                session.listed = false;
                session.drive(local)
            });
        }
    }

    fn admit_waiting(&mut self) {
        self.local.help_out();
        if !self.local.has_waiting() {
            return;
        }
        let sessions = &mut self.sessions;
        let admitted = self.local.admit_waiting(|slot, ticket| sessions.get_mut(slot)?.waits_with(ticket));
        for (slot, began) in admitted {
            match began {
                Ok(task) => {
                    if let Some(session) = self.sessions.get_mut(slot) {
                        session.started(&self.local, task);
                    }
                }
                Err(failure) => self.look(slot, |session, local| session.not_loaded(local, &failure)),
            }
        }
    }

    /// Runs guests, for one slice in all. What they did is sent in batches: a client that is woken once for several
    /// answers costs less than one that is woken for each.
    fn run_guests(&mut self) {
        if !self.local.has_ready() {
            return;
        }
        self.local.begin_guests();
        let end = self.local.now + GUESTS_SLICE;
        let mut flush_at = self.local.now + FLUSH_DELAY_MAX;
        loop {
            let over = self.local.now >= end;
            let long = self.local.next_has_yielded();
            if over || long || !self.local.has_ready() || self.local.now >= flush_at {
                self.flush_touched();
                flush_at = self.local.now + FLUSH_DELAY_MAX;
            }
            if over {
                return;
            }
            let Some(step) = self.local.run_next() else { return };
            let Some(slot) = step.session else { continue };
            self.look(slot, |session, local| {
                session.take_up(local, step.outcome.as_ref(), step.crash.as_deref());
                Fate::Keep
            });
            self.touched.push(slot);
        }
    }

    fn flush_touched(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        for slot in touched.drain(..) {
            self.look(slot, Session::drive);
        }
        self.touched = touched;
    }

    fn fire_timers(&mut self) {
        let mut fired = std::mem::take(&mut self.fired);
        self.local.fire_timers(&mut fired);
        for key in fired.drain(..) {
            match key {
                TimerKey::Session(slot) => self.look(slot, Session::on_timer),
                TimerKey::Task(slot) => self.on_task_timer(slot),
                TimerKey::Accept => self.pause.time_out(),
                TimerKey::Report => self.report(),
                TimerKey::Places => self.local.places_timer(),
                TimerKey::Residents => self.local.residents_timer(),
                TimerKey::Refill(app) => self.local.refill_timer(app),
                TimerKey::Doors => self.doors_timer(),
            }
        }
        self.fired = fired;
    }

    /// The first worker tells of dropped records: an app that was cut short may never log again.
    fn report(&mut self) {
        // There may be thousands of apps, and mostly none of them has anything to tell.
        let drops = rate::drops();
        if std::mem::replace(&mut self.drops, drops) != drops {
            for app in self.local.registry.apps() {
                app.program.log.report();
                app.access.denials.report(&app.program.name);
            }
        }
        WITHOUT_APP.report("-");
        edge::report();
        if let Some(log) = &self.local.shared.access_log {
            log.report();
        }
        if self.local.worker == 0 {
            self.local.set_timer(self.local.now + REPORT_INTERVAL, TimerKey::Report);
        }
    }

    fn on_task_timer(&mut self, task: Slot) {
        if !self.local.task_timer(task) {
            return;
        }
        let session = self.local.tasks.get_mut(task).and_then(|t| t.session);
        match session.filter(|slot| self.sessions.get_mut(*slot).is_some()) {
            Some(slot) => self.look(slot, Session::on_wall_limit),
            None => self.local.cancel_overtime(task),
        }
    }
}
