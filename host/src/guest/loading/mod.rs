//! Loading code when it is needed, off the loop, and letting it go when others need the room.
//!
//! A worker that finds a program cold asks here, goes on with what else it has, and is woken when the code is there or can
//! not be had. Two lanes: what is in the compiled cache takes a millisecond or two and never waits behind what has to be
//! compiled. Threads are started when there is something to load, and end when there was nothing for a while.

mod budget;
pub(crate) mod residency;
pub(crate) mod slot;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use self::budget::loaded_max;
use self::residency::{Residency, Trimmed};
use self::slot::{Asked, CodeSlot, Origin};
use super::program::{Code, LoadError, Loader, Program};
use super::task::Reaper;
use crate::clock::MS;

/// Threads of each lane.
const THREADS_MAX: usize = 2;
/// After so long without work a thread ends.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// Why code can not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LoadFailure {
    /// For the log.
    pub(crate) reason: Arc<str>,
    /// When it is tried again.
    pub(crate) retry_after_s: u32,
}

impl fmt::Display for LoadFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Why there is no code now.
#[derive(Debug)]
pub(crate) enum NoCode {
    /// It is being loaded, and the worker is woken when it is there.
    Loading,
    Failed(LoadFailure),
}

/// The two lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// Out of the cache.
    Cached,
    /// In a child.
    Compiled,
}

#[derive(Debug, Default)]
struct Line {
    slots: VecDeque<Weak<CodeSlot>>,
    threads: usize,
    idle: usize,
}

#[derive(Debug, Default)]
struct Lines {
    cached: Line,
    compiled: Line,
    closed: bool,
}

impl Lines {
    fn of(&mut self, lane: Lane) -> &mut Line {
        match lane {
            Lane::Cached => &mut self.cached,
            Lane::Compiled => &mut self.compiled,
        }
    }
}

struct Inner {
    loader: Arc<Loader>,
    reaper: Reaper,
    wake: Box<dyn Fn(u16) + Send + Sync>,
    wake_all: Box<dyn Fn() + Send + Sync>,
    lines: Mutex<Lines>,
    /// Something was put into a lane.
    work: [Condvar; 2],
    loads: AtomicU64,
    failures: AtomicU64,
}

/// What loads code. Dropped, it loads no more.
pub(crate) struct Loading(Arc<Inner>);

impl fmt::Debug for Loading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loading").finish_non_exhaustive()
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.work.iter().for_each(Condvar::notify_all);
    }
}

impl Loading {
    /// `wake` makes one worker take another turn, `wake_all` all of them.
    pub(crate) fn new(
        loader: Arc<Loader>,
        reaper: Reaper,
        wake: impl Fn(u16) + Send + Sync + 'static,
        wake_all: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner {
            loader,
            reaper,
            wake: Box::new(wake),
            wake_all: Box::new(wake_all),
            lines: Mutex::default(),
            work: Default::default(),
            loads: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }))
    }

    /// A program's code, for a request that begins now. If it is not there it is loaded, and the worker woken then.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn code(&self, program: &Program, worker: u16, now: u64) -> Result<Arc<Code>, NoCode> {
        let slot = &program.slot;
        slot.touch(now);
        match slot.code() {
            Some(code) => Ok(code),
            None => self.ask(slot, worker, now),
        }
    }

    #[cold]
    fn ask(&self, slot: &Arc<CodeSlot>, worker: u16, now: u64) -> Result<Arc<Code>, NoCode> {
        match slot.ask(worker, now) {
            Asked::Here(code) => Ok(code),
            Asked::Loading => Err(NoCode::Loading),
            Asked::Failed(failure) => Err(NoCode::Failed(failure)),
            Asked::First => {
                Inner::join(&self.0, Lane::Cached, Arc::downgrade(slot));
                Err(NoCode::Loading)
            }
        }
    }

    /// What is in memory.
    pub(crate) fn residency(&self) -> &Residency {
        &self.0.loader.residency
    }

    /// Evicts what is over the budget and can go by now.
    pub(crate) fn tidy(&self) {
        self.0.finish(self.residency().trim(self.0.loader.clock.now()));
    }

    /// Evicts until no more than `max` programs are in memory, as far as they can go. True if any went.
    pub(crate) fn shed(&self, max: usize) -> bool {
        self.0.finish(self.residency().trim_to(max, self.0.loader.clock.now()))
    }

    /// How often code was loaded, and how often that failed.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.0.loads.load(Ordering::Relaxed), self.0.failures.load(Ordering::Relaxed))
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody waits for a program's code.
    fn join(this: &Arc<Self>, lane: Lane, slot: Weak<CodeSlot>) {
        let mut lines = this.lock();
        if lines.closed {
            return;
        }
        let line = lines.of(lane);
        line.slots.push_back(slot);
        if line.idle >= line.slots.len() || line.threads == THREADS_MAX {
            drop(lines);
            this.work[lane as usize].notify_one();
            return;
        }
        let (inner, name) = (Arc::clone(this), if lane == Lane::Cached { "loader" } else { "compiler" });
        match thread::Builder::new().name(name.into()).spawn(move || Self::work_at(&inner, lane)) {
            Ok(_) => line.threads += 1,
            Err(_) if line.threads > 0 => {}
            Err(error) => {
                let slots = std::mem::take(&mut line.slots);
                drop(lines);
                let reason = format!("no thread could be started: {error}");
                slots.iter().filter_map(Weak::upgrade).for_each(|slot| this.fail(&slot, &reason));
            }
        }
    }

    /// What one thread does for as long as there is something to do.
    fn work_at(this: &Arc<Self>, lane: Lane) {
        while let Some(slot) = this.next(lane) {
            // Its program may have gone meanwhile, and those who waited for it with it.
            let Some(slot) = slot.upgrade() else { continue };
            if catch_unwind(AssertUnwindSafe(|| Self::load(this, lane, &slot))).is_err() {
                this.fail(&slot, "the loader panicked: a bug");
            }
        }
    }

    /// The next in the line. None: the thread ends.
    fn next(&self, lane: Lane) -> Option<Weak<CodeSlot>> {
        let mut lines = self.lock();
        lines.of(lane).idle += 1;
        let idle = |lines: &mut Lines| !lines.closed && lines.of(lane).slots.is_empty();
        let waited = self.work[lane as usize].wait_timeout_while(lines, IDLE_MAX, idle);
        lines = waited.unwrap_or_else(PoisonError::into_inner).0;
        let closed = lines.closed;
        let line = lines.of(lane);
        line.idle -= 1;
        let next = line.slots.pop_front().filter(|_| !closed);
        if next.is_none() {
            line.threads -= 1;
        }
        next
    }

    fn load(this: &Arc<Self>, lane: Lane, slot: &Arc<CodeSlot>) {
        if let Some(code) = slot.code() {
            // It came in another way.
            return this.tell(&slot.put(code, this.loader.clock.now()));
        }
        let Some(origin) = slot.origin() else { return this.fail(slot, "it was never loaded: a bug") };
        let began = Instant::now();
        let code = match lane {
            Lane::Cached => match this.loader.fetch_cached(&slot.app, origin) {
                Ok(None) => return Self::join(this, Lane::Compiled, Arc::downgrade(slot)),
                Ok(Some(code)) => Ok(code),
                Err(error) => Err(error),
            },
            Lane::Compiled => this.compiled(slot, origin),
        };
        match code {
            Ok(code) => {
                tracing::debug!(app = &*slot.app, us = began.elapsed().as_micros(), "loaded");
                this.put(slot, Arc::new(code));
            }
            Err(error) => {
                let error = anyhow::Error::new(error);
                this.fail(slot, &format!("{error:#}"));
            }
        }
    }

    fn compiled(&self, slot: &CodeSlot, origin: &Origin) -> Result<Code, LoadError> {
        tracing::debug!(app = &*slot.app, "the cache does not have it: it is compiled again");
        self.loader.fetch_compiled(&slot.app, origin)
    }

    /// The code is there: whoever waits is woken, and others may have to go.
    fn put(&self, slot: &Arc<CodeSlot>, code: Arc<Code>) {
        let now = self.loader.clock.now();
        self.loads.fetch_add(1, Ordering::Relaxed);
        let workers = slot.put(code, now);
        self.loader.residency.add(slot);
        self.tell(&workers);
        self.finish(self.loader.residency.trim(now));
    }

    fn fail(&self, slot: &CodeSlot, reason: &str) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let (workers, wait) = slot.fail(reason, self.loader.clock.now());
        let retry_ms = wait / MS;
        tracing::error!(app = &*slot.app, reason, retry_ms, "the app's code can not be loaded");
        self.tell(&workers);
    }

    fn tell(&self, workers: &[u16]) {
        workers.iter().for_each(|worker| (self.wake)(*worker));
    }

    /// Sees to what an eviction leaves to be done. True if any went.
    fn finish(&self, trimmed: Trimmed) -> bool {
        if trimmed.call {
            (self.wake_all)();
        }
        let any = !trimmed.code.is_empty();
        if any {
            tracing::debug!(programs = trimmed.code.len(), "code goes that was not used for longest");
            // If the reaper is gone the server is ending; then it is dropped here.
            let _ = self.reaper.send(Box::new(trimmed.code));
        }
        any
    }
}
