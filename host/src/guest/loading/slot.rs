//! Where a program's code stands while it is in memory, and what is known of it while it is not.
//!
//! Workers look here once a request: an atomic load, and no lock while the code is there. Whoever takes the code has an
//! `Arc` of its own; what is evicted under a call goes when that call is over.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;

use super::super::program::{Code, Kind, read};
use super::LoadFailure;
use crate::clock::{MS, Nanos};

/// How exactly it is known when code was last used: the word is written no more often than this.
const TOUCH_AFTER: Nanos = 1_000 * MS;
/// How long the first attempt after a failed one waits; each one in a row waits twice as long.
const BACKOFF_MIN: Nanos = 1_000 * MS;
/// No attempt waits longer.
const BACKOFF_MAX: Nanos = 60_000 * MS;
/// Code that nobody has come for is kept for so long after it was loaded.
const FRESH_FOR: Nanos = 5_000 * MS;

/// Has the bytes of a module that was loaded before.
pub(crate) trait CodeSource: Send + Sync {
    /// The module as it was uploaded.
    ///
    /// # Errors
    /// It is not there any more.
    fn wasm(&self) -> anyhow::Result<Vec<u8>>;
}

/// A module in a file. Whether it is still the one that it was is looked at by whoever reads it.
#[derive(Debug)]
pub(crate) struct FileSource(pub(crate) PathBuf);

impl CodeSource for FileSource {
    fn wasm(&self) -> anyhow::Result<Vec<u8>> {
        read(&self.0)
    }
}

/// How code is loaded again.
pub(crate) struct Origin {
    pub(crate) kind: Kind,
    /// Of the module: what it is called in the compiled cache.
    pub(crate) hash: blake3::Hash,
    /// For when the cache does not have it.
    pub(crate) source: Arc<dyn CodeSource>,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").field("kind", &self.kind).field("hash", &self.hash).finish_non_exhaustive()
    }
}

/// How it is with code that is not there.
#[derive(Debug, Default)]
struct Stage {
    /// It is being loaded, for these workers.
    loading: Option<Vec<u16>>,
    /// Attempts in a row that failed, why the last one did, and until when there is no other.
    failures: u32,
    failure: Option<(Arc<str>, Nanos)>,
}

/// What a worker that asks for code is told.
#[derive(Debug)]
pub(crate) enum Asked {
    Here(Arc<Code>),
    /// It is to be put into the line of those that are loaded: nobody has asked before.
    First,
    /// It is being loaded.
    Loading,
    /// It could not be loaded a moment ago.
    Failed(LoadFailure),
}

/// A program's code, or the lack of it.
#[derive(Debug)]
pub(crate) struct CodeSlot {
    pub(crate) app: Arc<str>,
    code: ArcSwapOption<Code>,
    /// When it was last used, within [`TOUCH_AFTER`].
    used: AtomicU64,
    /// It was loaded for somebody who has not come for it yet.
    fresh: AtomicBool,
    /// Idle instances are to be given up, so that it can go.
    leaving: AtomicBool,
    /// None: it stays.
    origin: Option<Origin>,
    stage: Mutex<Stage>,
}

/// How long attempts wait after so many that failed.
fn backoff(failures: u32) -> Nanos {
    BACKOFF_MIN.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(BACKOFF_MAX)
}

impl CodeSlot {
    fn new(app: Arc<str>, code: Option<Arc<Code>>, origin: Option<Origin>, now: Nanos) -> Self {
        Self {
            app,
            code: ArcSwapOption::new(code),
            used: AtomicU64::new(now),
            fresh: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            origin,
            stage: Mutex::default(),
        }
    }

    /// With code. Without an origin that stays for as long as this does.
    pub(crate) fn loaded(app: Arc<str>, code: Arc<Code>, origin: Option<Origin>, now: Nanos) -> Self {
        Self::new(app, Some(code), origin, now)
    }

    /// Without.
    pub(crate) fn cold(app: Arc<str>, origin: Origin) -> Self {
        Self::new(app, None, Some(origin), 0)
    }

    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// The code, if it is there.
    pub(crate) fn code(&self) -> Option<Arc<Code>> {
        self.code.load_full()
    }

    /// True if the code is there.
    pub(crate) fn is_loaded(&self) -> bool {
        self.code.load().is_some()
    }

    /// A request uses it.
    pub(crate) fn touch(&self, now: Nanos) {
        if self.fresh.load(Ordering::Relaxed) {
            self.fresh.store(false, Ordering::Relaxed);
        }
        if now.saturating_sub(self.used.load(Ordering::Relaxed)) >= TOUCH_AFTER {
            self.used.store(now, Ordering::Relaxed);
            self.leaving.store(false, Ordering::Relaxed);
        }
    }

    /// When it was last used.
    pub(super) fn last_used(&self) -> Nanos {
        self.used.load(Ordering::Relaxed)
    }

    /// True if idle instances of it are to be given up.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Idle instances of it are to be given up. True if that was not so before.
    pub(super) fn leave(&self) -> bool {
        !self.leaving.swap(true, Ordering::Relaxed)
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker finds no code.
    pub(super) fn ask(&self, worker: u16, now: Nanos) -> Asked {
        let mut stage = self.stage();
        // Under the lock: who loads it puts it there and takes the list of those who wait at once.
        if let Some(code) = self.code() {
            return Asked::Here(code);
        }
        if let Some((reason, until)) = &stage.failure
            && now < *until
        {
            let left = until.saturating_sub(now).div_ceil(1_000 * MS);
            let retry_after_s = u32::try_from(left).unwrap_or(u32::MAX).max(1);
            return Asked::Failed(LoadFailure { reason: Arc::clone(reason), retry_after_s });
        }
        match &mut stage.loading {
            Some(workers) => {
                if !workers.contains(&worker) {
                    workers.push(worker);
                }
                Asked::Loading
            }
            None => {
                stage.loading = Some(vec![worker]);
                Asked::First
            }
        }
    }

    /// It was loaded. Returns the workers that wait for it.
    pub(super) fn put(&self, code: Arc<Code>, now: Nanos) -> Vec<u16> {
        self.used.store(now, Ordering::Relaxed);
        self.leaving.store(false, Ordering::Relaxed);
        let mut stage = self.stage();
        let workers = std::mem::take(&mut *stage).loading.unwrap_or_default();
        // First: whoever finds the code there has come for it.
        self.fresh.store(!workers.is_empty(), Ordering::Relaxed);
        self.code.store(Some(code));
        workers
    }

    /// It could not be loaded. Returns the workers that wait for it, and how long there is no other attempt.
    pub(super) fn fail(&self, reason: &str, now: Nanos) -> (Vec<u16>, Nanos) {
        let mut stage = self.stage();
        stage.failures = stage.failures.saturating_add(1);
        let wait = backoff(stage.failures);
        stage.failure = Some((reason.into(), now.saturating_add(wait)));
        (stage.loading.take().unwrap_or_default(), wait)
    }

    /// Why the last attempt to load it failed, if none has gone well since.
    pub(crate) fn failure(&self) -> Option<Arc<str>> {
        self.stage().failure.as_ref().map(|(reason, _)| Arc::clone(reason))
    }

    /// True if somebody has an instance of it, or is about to make one.
    pub(super) fn is_in_use(&self) -> bool {
        self.code.load().as_ref().is_some_and(|code| Arc::strong_count(code) > 1)
    }

    /// True if it was loaded for somebody who is about to come for it.
    pub(super) fn is_awaited(&self, now: Nanos) -> bool {
        self.fresh.load(Ordering::Relaxed) && now.saturating_sub(self.last_used()) < FRESH_FOR
    }

    /// Takes the code away, unless somebody has an instance of it.
    pub(super) fn evict(&self) -> Option<Arc<Code>> {
        self.origin.as_ref()?;
        let code = self.code.swap(None)?;
        if Arc::strong_count(&code) == 1 {
            return Some(code);
        }
        // Somebody took it between two looks. Should another copy be there by now, that one stays.
        let none: Option<Arc<Code>> = None;
        self.code.compare_and_swap(&none, Some(code));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_in_a_row_wait_longer() {
        let waits: Vec<u64> = [1, 2, 3, 7, 100].iter().map(|n| backoff(*n) / MS).collect();
        assert_eq!(waits, [1_000, 2_000, 4_000, 60_000, 60_000]);
    }
}
