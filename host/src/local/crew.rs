//! What a call is made with: the code, a place in the pools, and a runner, new or one that waits with its instance.
//!
//! Places are the whole process's. Who finds none has idle instances given up, here and by other workers.

use std::sync::Arc;

use super::{Local, TimerKey};
use crate::clock::{MS, Nanos};
use crate::config::Instances;
use crate::guest::loading::{LoadFailure, NoCode};
use crate::guest::places::Place;
use crate::guest::program::Code;
use crate::guest::task::Runner;
use crate::tenants::registry::{App, Registry};

/// How soon a request that found no place looks again.
const PLACES_RETRY: Nanos = MS;

/// Instances of a version that is served, which wait for their next request.
pub(super) struct Warm {
    app: Arc<App>,
    runners: Vec<Runner>,
}

/// What a call is made with.
pub(super) struct Crew {
    pub(super) runner: Runner,
    /// For a new instance. A warm runner has its own.
    pub(super) code: Option<Arc<Code>>,
    pub(super) place: Option<Place>,
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

impl Local {
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

    pub(super) fn crew_for(&mut self, app: &App) -> Result<Crew, Held> {
        if matches!(app.program.instances, Instances::Reuse(_))
            && let Some(runner) = self.warm_of(app).and_then(Vec::pop)
        {
            app.program.slot.touch(self.now);
            return Ok(Crew { runner, code: None, place: None });
        }
        self.new_crew(app)
    }

    /// The instances of this version that wait for a request. None: there were none yet.
    pub(super) fn warm_of(&mut self, app: &App) -> Option<&mut Vec<Runner>> {
        let at = self.warm.binary_search_by_key(&app.version, |warm| warm.app.version).ok()?;
        self.warm.get_mut(at).map(|warm| &mut warm.runners)
    }

    /// Keeps an instance for another request, unless its version is not served any more.
    pub(super) fn keep_warm(&mut self, app: &Arc<App>, runner: Runner) {
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
    pub(super) fn take_place(&mut self, app: &App) -> Option<Place> {
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
    pub(super) fn give_up_leaving(&mut self) {
        let leaving = self.warm.iter_mut().filter(|warm| warm.app.program.slot.is_leaving());
        let runners: Vec<Runner> = leaving.flat_map(|warm| std::mem::take(&mut warm.runners)).collect();
        runners.into_iter().for_each(|runner| self.reap(runner));
    }

    /// Gives up one idle instance of an app that holds more than its share. False: there is none.
    pub(super) fn give_up_idle(&mut self) -> bool {
        let over = |warm: &&mut Warm| !warm.runners.is_empty() && warm.app.seat.share.is_exceeded();
        let runner = self.warm.iter_mut().find(over).and_then(|warm| warm.runners.pop());
        runner.map(|runner| self.reap(runner)).is_some()
    }

    /// Gives up one idle instance that holds memory which others of its tenant's want. False: there is none.
    pub(super) fn give_up_memory(&mut self) -> bool {
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
    pub(super) fn reap(&self, runner: Runner) {
        // If the reaper is gone the server is ending; then it is dropped here.
        let _ = self.shared.reaper.send(Box::new(runner));
    }
}
