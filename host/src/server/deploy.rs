//! Deploys: apps are loaded beside those that are served, and take their place all at once.
//!
//! Loading happens on the thread that asks for it, never on a loop. Nothing changes unless all of it went well.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use anyhow::{Context, Result};
use wasmtime::Engine;

use super::plain;
use crate::clock::Clock;
use crate::config::sockets::TcpListen;
use crate::config::{AppSettings, ServerSettings};
use crate::guest::cache::Cache;
use crate::guest::compile::Compiler;
use crate::guest::mounts::FileThreads;
use crate::guest::places::Places;
use crate::guest::program::{self, Linkers, Loader, Program, Spec, Wants};
use crate::guest::task::Reaper;
use crate::module_abi;
use crate::net::access::{Ceiling, Tally};
use crate::net::policy::OwnAddresses;
use crate::shared::Shared;
use crate::tenants::admission::Gate;
use crate::tenants::notice::Notice;
use crate::tenants::registry::{App, Origin, Registry, Seat};
use crate::{wasi, wasi_http};

/// Apps that can not be loaded: all of them, so that they can be put right in one go.
#[derive(Debug)]
pub(crate) struct LoadFailures(pub(crate) Vec<anyhow::Error>);

impl fmt::Display for LoadFailures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.0.iter().enumerate() {
            let between = if number == 0 { "" } else { "\n" };
            write!(f, "{between}{error:#}")?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadFailures {}

/// Puts other apps in the place of those that are served. Clones do so for the same server, one at a time.
#[derive(Clone)]
pub(crate) struct Deployer {
    stock: Arc<Stock>,
    shared: Arc<Shared>,
}

impl fmt::Debug for Deployer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deployer").finish_non_exhaustive()
    }
}

impl Deployer {
    pub(super) fn new(stock: Stock, shared: Arc<Shared>) -> Self {
        Self { stock: Arc::new(stock), shared }
    }

    /// Serves `apps` and no others. Modules are compiled meanwhile, on this thread, which must not be a worker's. Every
    /// request that begins after this has returned is for them; what began before ends on the version it began with.
    /// An app that is just what it was, routes aside, goes on as it is, its idle instances included. False if all of it
    /// is what is served already: then there is nothing to do.
    ///
    /// # Errors
    /// An app can not be loaded ([`LoadFailures`]), two routes are the same, or the limits exceed the memory budget.
    /// Then what was served before goes on.
    pub(crate) fn deploy(&self, apps: &[AppSettings]) -> Result<bool> {
        super::check_budget(&self.shared.settings, apps)?;
        let parts = self.stock.load(apps, &self.shared.current.registry())?;
        let mut seats = self.stock.seats();
        if is_served(&parts, &seats, &self.shared.current.registry()) {
            return Ok(false);
        }
        let registry = self.stock.assemble(&mut seats, parts)?;
        self.stock.settle(&registry);
        self.shared.current.replace(registry, || self.shared.wake_all());
        Ok(true)
    }

    /// Answers every request that begins after this has returned with `notice`, until the next deploy.
    pub(crate) fn show(&self, notice: Notice) {
        let _one_at_a_time = self.stock.seats();
        let registry = Registry::of_notice(notice);
        self.stock.settle(&registry);
        self.shared.current.replace(registry, || self.shared.wake_all());
    }
}

#[cfg(test)]
impl Deployer {
    /// What is served now.
    pub(super) fn registry(&self) -> Arc<Registry> {
        self.shared.current.registry()
    }
}

/// The seats of apps that live, served or not, how many versions there were, and where those that are served are reached.
#[derive(Debug, Default)]
struct Seats {
    by_name: HashMap<String, Weak<Seat>>,
    versions: u64,
    routes: Vec<Vec<String>>,
}

/// An app on its way into a registry.
enum Part {
    /// It goes on as it is.
    Kept(Arc<App>),
    New(Box<(Program, Origin)>),
}

/// Whether these are the apps that are served, in the same order and reached in the same way.
fn is_served(parts: &[(Part, Vec<String>)], seats: &Seats, served: &Registry) -> bool {
    let is_the_same = |(part, app): (&(Part, Vec<String>), &Arc<App>)| match part {
        (Part::Kept(kept), _) => Arc::ptr_eq(kept, app),
        (Part::New(_), _) => false,
    };
    served.notice().is_none()
        && parts.len() == served.apps().len()
        && parts.iter().map(|(_, routes)| routes).eq(&seats.routes)
        && parts.iter().zip(served.apps()).all(is_the_same)
}

/// What apps are made of.
pub(super) struct Stock {
    loader: Loader,
    places: Arc<Places>,
    reaper: Reaper,
    own: OwnAddresses,
    /// Of all apps' sockets.
    ceiling: Arc<Ceiling>,
    /// Apps that raw connections lead to.
    raw: Vec<String>,
    seats: Mutex<Seats>,
}

impl Stock {
    /// # Errors
    /// Our own functions can not be linked: a bug.
    pub(super) fn new(
        engine: &Engine,
        compiler: Compiler,
        settings: &ServerSettings,
        clock: Clock,
        places: Arc<Places>,
        reaper: Reaper,
        tcp: &[TcpListen],
    ) -> Result<Self> {
        let mut linkers = Linkers::new(engine);
        module_abi::add_to_linker(&mut linkers.module).map_err(plain)?;
        wasi::add_to_linker(&mut linkers.component).map_err(plain)?;
        wasi_http::add_to_linker(&mut linkers.component).map_err(plain)?;
        let cache = Cache::of(settings);
        let file_threads = FileThreads::default();
        let loader = Loader { engine: engine.clone(), linkers, compiler, cache, clock, file_threads };
        let raw = tcp.iter().map(|listen| listen.app.clone()).collect();
        let own = OwnAddresses::default();
        let ceiling = Arc::new(Ceiling::of_this_process());
        Ok(Self { loader, places, reaper, own, ceiling, raw, seats: Mutex::default() })
    }

    /// Where the server itself listens: no guest is to connect there unless it is told to.
    pub(super) fn own_addresses(&self) -> &OwnAddresses {
        &self.own
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first registry of a server.
    ///
    /// # Errors
    /// As for [`Deployer::deploy`].
    pub(super) fn first(&self, apps: &[AppSettings]) -> Result<Registry> {
        let parts = self.load(apps, &Registry::new(Vec::new())?)?;
        let registry = self.assemble(&mut self.seats(), parts)?;
        self.settle(&registry);
        Ok(registry)
    }

    /// Loads what is not served as it is.
    fn load(&self, apps: &[AppSettings], served: &Registry) -> Result<Vec<(Part, Vec<String>)>> {
        let mut parts = Vec::new();
        let mut failures = Vec::new();
        for app in apps {
            match self.load_app(app, served) {
                Ok(part) => parts.push((part, app.routes.clone())),
                Err(error) => failures.push(error),
            }
        }
        if failures.is_empty() { Ok(parts) } else { Err(LoadFailures(failures).into()) }
    }

    fn load_app(&self, settings: &AppSettings, served: &Registry) -> Result<Part> {
        let (name, shown) = (&settings.name, settings.source.display());
        let wasm = program::read(&settings.source).with_context(|| format!("app `{name}`"))?;
        let hash = blake3::hash(&wasm);
        let origin = Origin { settings: settings.clone(), hash };
        if let Some(same) = served.apps().iter().find(|app| app.is_made_from(&origin)) {
            return Ok(Part::Kept(Arc::clone(same)));
        }
        let spec = Spec {
            name: name.as_str().into(),
            limits: settings.limits,
            instances: settings.instances,
            env: settings.env.clone(),
            mounts: settings.mounts.clone(),
            wants: self.wants(settings),
        };
        let program =
            self.loader.load(&wasm, &hash, spec).with_context(|| format!("app `{name}`: `{shown}`"))?;
        Ok(Part::New(Box::new((program, origin))))
    }

    fn wants(&self, app: &AppSettings) -> Wants {
        Wants {
            http: !app.routes.is_empty(),
            http_by_default: app.routes_by_default,
            connections: self.raw.contains(&app.name),
            sockets: !app.sockets.connect.is_empty() || !app.sockets.listen.is_empty(),
        }
    }

    fn assemble(&self, seats: &mut Seats, parts: Vec<(Part, Vec<String>)>) -> Result<Registry> {
        let mut apps = Vec::new();
        let reached = parts.iter().map(|(_, routes)| routes.clone()).collect();
        for (part, routes) in parts {
            let app = match part {
                Part::Kept(app) => app,
                Part::New(new) => {
                    let (program, origin) = *new;
                    seats.versions += 1;
                    let seat = self.seat(seats, &origin.settings);
                    Arc::new(App::new(seats.versions, program, seat, origin, &self.own, self.reaper.clone()))
                }
            };
            apps.push((app, routes));
        }
        let registry = Registry::new(apps)?;
        seats.routes = reached;
        Ok(registry)
    }

    /// The seat of an app that has one as long as any version of it lives.
    fn seat(&self, seats: &mut Seats, app: &AppSettings) -> Arc<Seat> {
        seats.by_name.retain(|_, seat| seat.strong_count() > 0);
        if let Some(seat) = seats.by_name.get(&app.name).and_then(Weak::upgrade) {
            return seat;
        }
        let gate = Gate::new(app.limits.concurrency, app.limits.queue);
        // They wait in the kernel.
        let raw = Gate::new(app.limits.concurrency, 0);
        let sockets = Arc::new(Tally::new(Arc::clone(&self.ceiling)));
        let seat = Arc::new(Seat { share: self.places.join(), gate, raw, sockets });
        seats.by_name.insert(app.name.clone(), Arc::downgrade(&seat));
        seat
    }

    /// These apps are about to be served: their limits hold from now on.
    fn settle(&self, registry: &Registry) {
        for app in registry.apps() {
            let limits = &app.program.limits;
            app.seat.gate.set_limits(limits.concurrency, limits.queue);
            app.seat.raw.set_limits(limits.concurrency, 0);
        }
        let ids: Vec<_> = registry.apps().iter().map(|app| app.id).collect();
        self.places.guarantee(&ids);
    }
}
