//! What belongs to one worker and is lent to its sessions: timers, buffers, tasks, and the time of this turn.

mod active;
mod admit;
mod crew;
mod date;
mod probe;
mod raw;
mod residents;
mod tasks;
pub(crate) mod views;
mod waiting;

use std::sync::Arc;

use tidegate_proto::timers::{TimerId, Wheel};

pub(crate) use self::active::{Active, Progress};
pub(crate) use self::admit::Begin;
use self::crew::Warm;
use self::date::Date;
use self::probe::Asked;
pub(crate) use self::raw::{Raw, RawDoor};
use self::residents::Residents;
pub(crate) use self::tasks::Task;
use self::waiting::Waiting;
use crate::clock::{Nanos, thread_cpu};
use crate::exchange::{Exchange, RequestId};
use crate::guest::scheduler::{AppId, Scheduler};
use crate::guest::task::Runner;
use crate::guest::wake::Bell;
use crate::net::hub::Hub;
use crate::pressure::Short;
use crate::reactor::buffers::Buffers;
use crate::reactor::token::{Slot, Slots};
use crate::shared::Shared;
use crate::tenants::registry::Registry;

/// Bytes that one read takes at most.
const SCRATCH_BYTES: usize = 32 * 1024;
/// Exchanges and the like that are kept for the next request.
const KEEP_MAX: usize = 256;

/// What a timer is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TimerKey {
    Session(Slot),
    Task(Slot),
    /// Accepting was paused.
    Accept,
    /// A request waits for a place in the pools.
    Places,
    /// What runs by itself has ended, and is to be started again.
    Residents,
    /// An app had as many raw connections as it may.
    Doors,
    /// An app that had used up its share of the CPU may have some again.
    Refill(AppId),
    /// Dropped log records are to be told of.
    Report,
}

/// A worker's own things.
pub(crate) struct Local {
    pub(crate) shared: Arc<Shared>,
    /// The apps that requests are for that begin in this turn, and the number of this registry.
    pub(crate) registry: Arc<Registry>,
    generation: u64,
    pub(crate) worker: u16,
    /// The time of this turn.
    pub(crate) now: Nanos,
    pub(crate) buffers: Buffers,
    /// Where sockets are read to. Whoever takes it puts it back.
    pub(crate) scratch: Box<[u8]>,
    /// Sessions that need another look this turn or the next.
    pub(crate) again: Vec<Slot>,
    pub(crate) tasks: Slots<Task>,
    /// Guests' sockets.
    pub(crate) hub: Arc<Hub>,
    wheel: Wheel<TimerKey>,
    scheduler: Scheduler<Slot>,
    /// Rung by threads that work for guests, and whom they woke.
    bell: Arc<Bell<Slot>>,
    woken: Vec<Slot>,
    waiting: Waiting,
    exchanges: Vec<Arc<Exchange>>,
    #[expect(clippy::vec_box, reason = "the boxes themselves are what is lent")]
    actives: Vec<Box<Active>>,
    cold: Vec<Runner>,
    /// By version; one for each that is served and has had an instance to reuse.
    warm: Vec<Warm>,
    /// How often workers were called on to give up idle instances: of some programs, and all.
    calls: (u64, u64),
    date: Date,
    requests: u64,
    /// Health requests that run.
    asked: Vec<Asked>,
    residents: Residents,
    /// Raw connections that are served now.
    raw: usize,
    /// A timer is set for [`TimerKey::Places`].
    retrying: bool,
    /// Apps for which one is set for [`TimerKey::Refill`].
    throttled: Vec<AppId>,
    /// CPU time of this thread when guests began to run in this turn, and what they were charged since.
    cpu_floor: Nanos,
}

impl Local {
    pub(crate) fn new(shared: Arc<Shared>, hub: Arc<Hub>, worker: u16) -> Self {
        let now = shared.clock.now();
        let (generation, registry) = shared.current.get();
        let waker = shared.wakers.get(usize::from(worker)).cloned();
        let bell = Bell::new(move || {
            // It fails only if the worker is gone, and then there is nobody to wake.
            let _ = waker.as_ref().map(|waker| waker.wake());
        });
        let mut local = Self {
            registry: Arc::clone(&registry),
            generation,
            worker,
            now,
            buffers: Buffers::default(),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            again: Vec::new(),
            tasks: Slots::new(),
            hub,
            wheel: Wheel::new(Shared::ms(now)),
            scheduler: Scheduler::new(),
            bell,
            woken: Vec::new(),
            waiting: Waiting::default(),
            exchanges: Vec::new(),
            actives: Vec::new(),
            cold: Vec::new(),
            warm: Vec::new(),
            calls: (0, 0),
            date: Date::default(),
            requests: 0,
            asked: Vec::new(),
            residents: Residents::default(),
            raw: 0,
            retrying: false,
            throttled: Vec::new(),
            cpu_floor: 0,
            shared,
        };
        local.take_up(&registry);
        local.shared.current.took_up(worker, generation);
        local
    }

    /// Makes good what a panic may have taken and not put back.
    pub(crate) fn restore(&mut self) {
        if self.scratch.is_empty() {
            self.scratch = vec![0; SCRATCH_BYTES].into_boxed_slice();
        }
    }

    /// A turn begins.
    pub(crate) fn begin_turn(&mut self) {
        self.now = self.shared.clock.now();
        self.shared.pulse.note(self.worker);
        if self.shared.current.generation() != self.generation {
            self.follow();
        }
    }

    /// Another registry has been put in the place of the one before: requests that begin from now on are for its apps.
    fn follow(&mut self) {
        let (generation, registry) = self.shared.current.get();
        self.take_up(&registry);
        self.registry = registry;
        self.generation = generation;
        self.shared.current.took_up(self.worker, generation);
    }

    /// Guests are about to run.
    pub(crate) fn begin_guests(&mut self) {
        self.cpu_floor = thread_cpu();
    }

    pub(crate) fn now_ms(&self) -> u64 {
        Shared::ms(self.now)
    }

    /// What is short, so that nobody else is to be let in.
    pub(crate) fn is_short(&self) -> Option<Short> {
        let short = self.shared.pressure.short()?;
        (self.shared.connections() > 0 && !self.is_draining()).then_some(short)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.shared.is_draining()
    }

    /// True if a connection ends with the request that it is about. Where another process serves by now there is time: the
    /// next answer tells the client.
    pub(crate) fn closes_idle(&self) -> bool {
        self.shared.is_draining() && !self.shared.is_handed_over()
    }

    /// The `Date` of this second.
    pub(crate) fn date(&mut self) -> [u8; 29] {
        self.date.at(self.now)
    }

    pub(crate) fn make_id(&mut self) -> RequestId {
        self.requests += 1;
        RequestId::Made { run: self.shared.run, worker: self.worker, count: self.requests }
    }

    /// How many requests there were on this worker.
    pub(crate) fn request_count(&self) -> u64 {
        self.requests
    }

    /// True if an operator has asked this worker for something.
    pub(crate) fn has_mail(&self) -> bool {
        self.shared.commands.has_mail(self.worker)
    }

    // Timers.

    /// Sets a timer. It fires no earlier than `at`, rounded up to a millisecond.
    pub(crate) fn set_timer(&mut self, at: Nanos, key: TimerKey) -> TimerId {
        self.wheel.insert(Shared::ms(at.saturating_add(crate::clock::MS - 1)), key)
    }

    /// Sets a timer in milliseconds.
    pub(crate) fn set_timer_ms(&mut self, at_ms: u64, key: TimerKey) -> TimerId {
        self.wheel.insert(at_ms, key)
    }

    pub(crate) fn cancel_timer(&mut self, id: TimerId) {
        self.wheel.cancel(id);
    }

    pub(crate) fn fire_timers(&mut self, fired: &mut Vec<TimerKey>) {
        let now_ms = self.now_ms();
        self.wheel.advance(now_ms, fired);
        self.hub.fire_timers(self.now);
    }

    /// How many milliseconds until the next timer.
    pub(crate) fn until_next_timer(&self) -> Option<u64> {
        let own = self.wheel.next_at().map(|at| at.saturating_sub(self.now_ms()));
        own.into_iter().chain(self.hub.until_next_timer(self.now)).min()
    }

    // What requests borrow.

    pub(crate) fn lend_active(&mut self) -> Box<Active> {
        let exchange = self.lend_exchange();
        match self.actives.pop() {
            Some(mut active) => {
                active.begin(exchange);
                active
            }
            None => Box::new(Active::new(exchange)),
        }
    }

    pub(crate) fn lend_exchange(&mut self) -> Arc<Exchange> {
        self.exchanges.pop().unwrap_or_else(|| Exchange::new(self.shared.clock))
    }

    pub(crate) fn give_back_active(&mut self, mut active: Box<Active>) {
        self.buffers.give_back(std::mem::take(&mut active.input));
        let exchange = active.end();
        self.recycle(exchange);
        if self.actives.len() < KEEP_MAX {
            self.actives.push(active);
        }
    }

    /// Takes an exchange back, unless its guest still has it.
    pub(crate) fn recycle(&mut self, exchange: Option<Arc<Exchange>>) {
        let Some(mut exchange) = exchange else { return };
        if let Some(own) = Arc::get_mut(&mut exchange) {
            own.reset();
            if self.exchanges.len() < KEEP_MAX {
                self.exchanges.push(exchange);
            }
        }
    }
}
