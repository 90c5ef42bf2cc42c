//! Guests' key-value data, off the loops: what modules' and components' calls have in common.
//!
//! A [`Service`] stands before a backend, which works on threads of its own. An app that may keep data has an [`Access`];
//! what a guest asks for is a [`Pending`], polled with the waker of the guest's task. A guest that is stopped drops it,
//! and the operation may happen all the same.
//!
//! This knows no WebAssembly, no memory of a guest, and no file. Invariants: an operation is counted, for its app, until
//! the backend has answered it, whoever still waits: to ask and give up, over and over, is no way around the bounds. What
//! answers hold is counted until it is taken and dropped. No waker is called while a lock is held.

mod count;
mod flight;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicUsize,
    Ordering::{AcqRel, Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tidegate_store::kv::{Backend, Embedded, Error, Operation, Pool, Quota, Request, Space, Usage};

pub(crate) use self::count::usages;
use self::count::{kind, outcome};
use self::flight::{Flight, Ticket};
pub(crate) use self::flight::{Given, Held, Pending};
use crate::config::KvSettings;
use crate::observe::metrics::{KvCounts, KvOutcome};

/// Operations that are under way.
const OPERATIONS_MAX: u32 = 4_096;
/// Of one app. Fewer if there is less room than that, so that a few busy ones never leave nothing for the next.
const OPERATIONS_OF_ONE_MAX: u32 = 512;
/// Bytes of operations and of answers that were not taken yet.
const BYTES_MAX: usize = 256 << 20;
/// Of one app.
const BYTES_OF_ONE_MAX: usize = 32 << 20;
/// How often at most it is logged that the backend does not work.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What is under way, for an app or for all.
#[derive(Debug, Default)]
struct Load {
    operations: AtomicU32,
    bytes: AtomicUsize,
}

impl Load {
    /// Adds an operation, unless that makes it more than `most`.
    fn begin(&self, most: u32) -> bool {
        let more = |n: u32| n.checked_add(1).filter(|n| *n <= most);
        // In one order with `Tally::gone`: either who removes an app sees this, or this one sees that the app is removed.
        self.operations.fetch_update(SeqCst, Relaxed, more).is_ok()
    }

    fn end(&self) {
        self.operations.fetch_sub(1, AcqRel);
    }

    /// Adds bytes, unless that makes them more than `most`.
    fn hold(&self, bytes: usize, most: usize) -> bool {
        let more = |n: usize| n.checked_add(bytes).filter(|n| *n <= most);
        self.bytes.fetch_update(AcqRel, Relaxed, more).is_ok()
    }

    fn drop_bytes(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, AcqRel);
    }
}

/// What an app does, whatever its version.
#[derive(Debug)]
struct Tally {
    load: Load,
    /// Its app is removed: whoever still runs for it has nothing here any more.
    gone: AtomicBool,
    all: Arc<Load>,
    counts: Arc<KvCounts>,
    /// How often it was asked what the app holds, without an answer as yet.
    looks: Arc<AtomicU32>,
}

impl Tally {
    fn hold(&self, bytes: usize) -> bool {
        if !self.load.hold(bytes, BYTES_OF_ONE_MAX) {
            return false;
        }
        let fits = self.all.hold(bytes, BYTES_MAX);
        if !fits {
            self.load.drop_bytes(bytes);
        }
        fits
    }

    fn drop_bytes(&self, bytes: usize) {
        self.load.drop_bytes(bytes);
        self.all.drop_bytes(bytes);
    }
}

/// What is under way when an app is removed is waited for: so long, and looked at so often.
const REMOVE_PATIENCE: Duration = Duration::from_secs(10);
const REMOVE_POLL: Duration = Duration::from_millis(1);

/// When it was last said that the backend does not work.
#[derive(Debug, Default)]
struct Trouble(Mutex<Option<Instant>>);

impl Trouble {
    fn tell(&self, error: &Error) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < TOLD_EVERY) {
            return;
        }
        *last = Some(Instant::now());
        drop(last);
        tracing::error!(%error, "guests' key-value data can not be read or written");
    }
}

/// Keeps guests' data.
pub(crate) struct Service {
    backend: Arc<dyn Backend>,
    /// It is there after the run, too.
    durable: bool,
    /// That it is not was said.
    told: AtomicBool,
    trouble: Arc<Trouble>,
    all: Arc<Load>,
    tallies: Mutex<HashMap<Arc<str>, Weak<Tally>>>,
    /// By the tenant's name.
    pools: ArcSwap<HashMap<Arc<str>, Arc<Pool>>>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("durable", &self.durable).finish_non_exhaustive()
    }
}

impl Service {
    /// For this run alone. Nothing is started before it is used.
    pub(crate) fn in_memory() -> Arc<Self> {
        Self::over(Arc::new(Embedded::memory()), false)
    }

    /// In a file, which is made when it is first used.
    pub(crate) fn in_file(path: &Path) -> Arc<Self> {
        Self::over(Arc::new(Embedded::file(path)), true)
    }

    fn over(backend: Arc<dyn Backend>, durable: bool) -> Arc<Self> {
        Arc::new(Self {
            backend,
            durable,
            told: AtomicBool::new(false),
            trouble: Arc::default(),
            all: Arc::default(),
            tallies: Mutex::default(),
            pools: ArcSwap::default(),
        })
    }

    /// What a version of an app may do with its data.
    pub(crate) fn access(
        self: &Arc<Self>,
        app: &Arc<str>,
        tenant: Option<&str>,
        may: KvSettings,
    ) -> Arc<Access> {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        if tallies.len() == tallies.capacity() {
            tallies.retain(|_, tally| tally.strong_count() > 0);
        }
        let tally = tallies.get(app).and_then(Weak::upgrade).unwrap_or_else(|| {
            let all = Arc::clone(&self.all);
            let (load, gone, counts, looks) = Default::default();
            let tally = Arc::new(Tally { load, gone, all, counts, looks });
            tallies.insert(Arc::clone(app), Arc::downgrade(&tally));
            tally
        });
        let quota = Quota { keys: may.keys, bytes: may.bytes };
        let space = Space { name: Arc::clone(app), owner: tenant.unwrap_or_default().into(), quota };
        Arc::new(Access { service: Arc::clone(self), space: Arc::new(space), tally })
    }

    /// What is kept for this run alone is no surprise to the operator.
    fn tell_if_not_durable(&self, app: &str) {
        if self.durable || self.told.load(Relaxed) || self.told.swap(true, Relaxed) {
            return;
        }
        tracing::info!(
            app,
            "key-value data is kept in memory for this run: a server with `admin` keeps it in its state folder"
        );
    }

    /// These apps are served from now on, each with its tenant and what all the apps of that one may hold together.
    pub(crate) fn settle<'a>(
        &self,
        apps: impl Iterator<Item = (&'a Arc<str>, Option<(&'a Arc<str>, Quota)>)>,
    ) {
        let mut pools: HashMap<Arc<str>, Pool> = HashMap::new();
        for (app, tenant) in apps {
            let Some((tenant, quota)) = tenant else { continue };
            if (quota.keys, quota.bytes) == (u64::MAX, u64::MAX) {
                continue;
            }
            let pool = pools.entry(Arc::clone(tenant)).or_insert_with(|| Pool { quota, members: Vec::new() });
            pool.members.push(Arc::clone(app));
        }
        self.pools.store(Arc::new(pools.into_iter().map(|(name, pool)| (name, Arc::new(pool))).collect()));
    }

    /// What an app holds. It waits: not for a loop.
    ///
    /// # Errors
    /// The store does not work.
    pub(crate) fn usage(&self, app: &str) -> Result<Usage, Error> {
        self.backend.usage(app)
    }

    /// Removes what an app holds: it is removed itself, and one of its name begins with nothing. It waits: not for a loop.
    ///
    /// # Errors
    /// The store does not work.
    pub(crate) fn remove(&self, app: &str) -> Result<(), Error> {
        let tally = self.tallies.lock().unwrap_or_else(PoisonError::into_inner).remove(app);
        if let Some(tally) = tally.and_then(|tally| tally.upgrade()) {
            // Requests of the app that is gone may go on; they write nothing that the next app of its name would find.
            tally.gone.store(true, SeqCst);
            let until = Instant::now() + REMOVE_PATIENCE;
            while tally.load.operations.load(SeqCst) > 0 && Instant::now() < until {
                std::thread::sleep(REMOVE_POLL);
            }
        }
        self.backend.remove_space(app)
    }
}

/// What a version of an app may do with its data.
pub(crate) struct Access {
    service: Arc<Service>,
    space: Arc<Space>,
    tally: Arc<Tally>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("app", &self.space.name).finish_non_exhaustive()
    }
}

impl Access {
    /// Asks for something. It never waits; who polls what comes of it is woken when there is an answer.
    ///
    /// # Errors
    /// It is too large, or too much is under way.
    pub(crate) fn submit(&self, operation: Operation) -> Result<Pending, Error> {
        if let Err(error) = operation.check() {
            self.tally.counts.add(kind(&operation), KvOutcome::Invalid);
            return Err(error);
        }
        self.service.tell_if_not_durable(&self.space.name);
        let ticket = self.begin(&operation).ok_or_else(|| {
            self.tally.counts.add(kind(&operation), KvOutcome::Busy);
            Error::Busy
        })?;
        if self.tally.gone.load(SeqCst) {
            ticket.answer(Err(Error::AccessDenied));
            return Err(Error::AccessDenied);
        }
        let pending = Pending::new(Arc::clone(ticket.flight()));
        let pool = self.service.pools.load().get(&self.space.owner).cloned();
        let trouble = Arc::clone(&self.service.trouble);
        let reply = Box::new(move |answer: Result<_, Error>| {
            if let Err(error) = answer.as_ref()
                && error.is_backends()
            {
                trouble.tell(error);
            }
            ticket.answer(answer);
        });
        let space = Arc::clone(&self.space);
        self.service.backend.submit(Request { space, pool, operation, reply });
        Ok(pending)
    }

    /// Counts an operation in. None: there is no room.
    fn begin(&self, operation: &Operation) -> Option<Ticket> {
        let all = &self.tally.all;
        let under_way = self.tally.load.operations.load(Relaxed);
        let room = OPERATIONS_MAX.saturating_sub(all.operations.load(Relaxed)).saturating_add(under_way);
        if !self.tally.load.begin(OPERATIONS_OF_ONE_MAX.min(room.div_ceil(2))) {
            return None;
        }
        if !all.begin(OPERATIONS_MAX) {
            self.tally.load.end();
            return None;
        }
        let ticket = Ticket::new(Arc::clone(&self.tally), kind(operation), Arc::new(Flight::default()));
        // From here on the ticket counts the operation out again.
        ticket.hold(operation.bytes())
    }
}
