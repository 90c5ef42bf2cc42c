//! Guests that run by themselves: one instance each, on one worker, for as long as their app is served.
//!
//! One that ends in failure is started again, later each time, unless it ran for a while; one that ends well has done what it
//! was there for. They have no CPU budget and no deadline: their part of the worker is what their app's weight gives them.

use std::sync::Arc;

use tidegate_proto::timers::TimerId;

use super::{Local, TimerKey};
use crate::clock::{MS, Nanos};
use crate::guest::outcome::Outcome;
use crate::guest::task::Call;
use crate::observe::guest_log::Level;
use crate::reactor::token::Slot;
use crate::tenants::registry::{App, Registry};

/// How long the first restart waits; each one in a row waits twice as long.
const BACKOFF_MIN: Nanos = 100 * MS;
/// No restart waits longer.
const BACKOFF_MAX: Nanos = 30_000 * MS;
/// One that ran for so long starts anew with the shortest wait.
const STEADY: Nanos = 60_000 * MS;

/// How it is with a resident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Running(Slot),
    /// It is to start at that time.
    Due(Nanos),
    /// It has ended well.
    Done,
}

#[derive(Debug)]
struct Resident {
    app: Arc<App>,
    stage: Stage,
    began: Nanos,
    /// Failures in a row.
    failures: u32,
}

/// A worker's residents.
#[derive(Debug, Default)]
pub(super) struct Residents {
    all: Vec<Resident>,
    /// The timer for those that are due next, and when it fires.
    timer: Option<(TimerId, Nanos)>,
}

/// How long a restart waits after so many failures in a row.
fn backoff(failures: u32) -> Nanos {
    BACKOFF_MIN.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(BACKOFF_MAX)
}

impl Local {
    /// Other apps are served from now on: residents of versions that went are ended, new ones are started.
    pub(super) fn take_up_residents(&mut self, registry: &Registry) {
        let workers = self.shared.wakers.len().max(1) as u64;
        let mine = |app: &&Arc<App>| u64::from(app.id) % workers == u64::from(self.worker);
        let wanted: Vec<Arc<App>> = registry.residents().iter().filter(mine).cloned().collect();
        let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.residents.all)
            .into_iter()
            .partition(|resident| wanted.iter().any(|app| app.version == resident.app.version));
        self.residents.all = kept;
        for resident in gone {
            if let Stage::Running(slot) = resident.stage {
                self.cancel(slot);
            }
        }
        let now = self.now;
        for app in wanted {
            if !self.residents.all.iter().any(|resident| resident.app.version == app.version) {
                self.residents.all.push(Resident { app, stage: Stage::Due(now), began: now, failures: 0 });
            }
        }
        self.start_residents();
    }

    /// They run elsewhere from now on.
    pub(crate) fn end_residents(&mut self) {
        for resident in std::mem::take(&mut self.residents.all) {
            if let Stage::Running(slot) = resident.stage {
                self.cancel(slot);
            }
        }
    }

    /// The time has come to look for residents that are to start.
    pub(crate) fn residents_timer(&mut self) {
        self.residents.timer = None;
        self.start_residents();
    }

    /// Starts what is due, and sets a timer for what will be.
    fn start_residents(&mut self) {
        let now = self.now;
        for at in 0..self.residents.all.len() {
            let Some(Resident { app, stage: Stage::Due(due), .. }) = self.residents.all.get(at) else {
                continue;
            };
            let (app, due) = (Arc::clone(app), *due);
            if due > now {
                continue;
            }
            let stage = match self.new_crew(&app) {
                Ok(crew) => {
                    let exchange = self.lend_exchange();
                    exchange.lock().facts.id = self.make_id();
                    Stage::Running(self.launch(crew, &app, &exchange, Call::Run, None))
                }
                // What loads has a backoff of its own.
                Err(_) => Stage::Due(now + BACKOFF_MIN),
            };
            if let Some(resident) = self.residents.all.get_mut(at) {
                resident.stage = stage;
                resident.began = now;
            }
        }
        self.watch_residents();
    }

    /// Sees to it that what is due next is looked for then.
    fn watch_residents(&mut self) {
        let due = self.residents.all.iter().filter_map(|resident| match resident.stage {
            Stage::Due(at) => Some(at),
            _ => None,
        });
        let Some(at) = due.min().map(|at| at.max(self.now + MS)) else { return };
        match self.residents.timer {
            Some((_, set)) if set <= at => return,
            Some((timer, _)) => self.cancel_timer(timer),
            None => {}
        }
        self.residents.timer = Some((self.set_timer(at, TimerKey::Residents), at));
    }

    /// A resident's call is over.
    pub(super) fn resident_ended(&mut self, app: &App, outcome: &Outcome) {
        if *outcome != Outcome::Returned(0) {
            let detail = outcome.detail().unwrap_or("it returned an error");
            return self.resident_failed(app, outcome.word(), detail);
        }
        let found = self.residents.all.iter_mut().find(|resident| resident.app.version == app.version);
        let Some(resident) = found else { return };
        resident.stage = Stage::Done;
        let text = "the resident has ended well: it is not started again";
        tracing::info!(app = &*app.program.name, "{text}");
        if let Some(log) = &app.seat.log {
            log.tell(Level::Info, app.number, text);
        }
    }

    /// It is started again, after a while.
    pub(super) fn resident_failed(&mut self, app: &App, word: &str, detail: &str) {
        let now = self.now;
        let draining = self.is_draining();
        let found = self.residents.all.iter_mut().find(|resident| resident.app.version == app.version);
        let Some(resident) = found else { return };
        let name = &*app.program.name;
        if now.saturating_sub(resident.began) >= STEADY {
            resident.failures = 0;
        }
        resident.failures = resident.failures.saturating_add(1);
        let wait = backoff(resident.failures);
        resident.stage = Stage::Due(now.saturating_add(wait));
        let (failures, wait_ms) = (resident.failures, wait / MS);
        tracing::warn!(
            app = name,
            error = word,
            detail,
            failures,
            wait_ms,
            "the resident has failed: it is started again"
        );
        if let Some(log) = &app.seat.log {
            let text =
                format!("the resident has failed ({word}: {detail}): it is started again in {wait_ms} ms");
            log.tell(Level::Warn, app.number, &text);
        }
        if !draining {
            self.watch_residents();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_restart_in_a_row_waits_longer() {
        let waits: Vec<u64> = [1, 2, 3, 9, 10, 1000].iter().map(|n| backoff(*n) / MS).collect();
        assert_eq!(waits, [100, 200, 400, 25_600, 30_000, 30_000]);
    }
}
