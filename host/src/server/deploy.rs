//! Deploys: apps are loaded beside those that are served, and take their place all at once.
//!
//! Loading happens on the thread that asks for it, never on a loop. Nothing changes unless all of it went well.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use anyhow::{Context, Result};
use mio::Waker;
use rustix::process::{Resource, getrlimit};
use wasmtime::Engine;

use super::plain;
use crate::clock::Clock;
use crate::config::sockets::TcpListen;
use crate::config::{AppSettings, ServerSettings, TenantSettings};
use crate::guest::cache::Cache;
use crate::guest::compile::Compiler;
use crate::guest::loading::residency::Residency;
use crate::guest::loading::{Loading, loaded_max};
use crate::guest::mounts::FileThreads;
use crate::guest::places::Places;
use crate::guest::program::{self, CodeSource, Facts, FileSource, Linkers, Loader, Program, Spec, Wants};
use crate::guest::task::Reaper;
use crate::kv;
use crate::module_abi;
use crate::net::access::Ceiling;
use crate::net::policy::OwnAddresses;
use crate::observe::app_logs::AppLogs;
use crate::observe::metrics::Metrics;
use crate::shared::Shared;
use crate::tenants::notice::Notice;
use crate::tenants::quota::Tenants;
use crate::tenants::registry::{App, Entry, Origin, Registry, Seat};
use crate::{wasi, wasi_http, wasi_keyvalue};

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
    pub(super) stock: Arc<Stock>,
    pub(super) shared: Arc<Shared>,
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

impl Deployer {
    /// These are the tenants, and their limits hold from now on.
    pub(crate) fn set_tenants(&self, tenants: &[TenantSettings]) {
        self.stock.set_tenants(tenants);
        // Who waits may go now.
        self.shared.wake_all();
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
pub(super) struct Seats {
    by_name: HashMap<String, Weak<Seat>>,
    tenants: Tenants,
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
pub(crate) struct Stock {
    pub(super) loader: Arc<Loader>,
    places: Arc<Places>,
    reaper: Reaper,
    own: OwnAddresses,
    /// Of all apps' sockets.
    ceiling: Arc<Ceiling>,
    metrics: Arc<Metrics>,
    app_logs: OnceLock<AppLogs>,
    /// In memory, unless a place for it was named before the first app was made.
    kv: OnceLock<Arc<kv::Service>>,
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
        wasi_keyvalue::add_to_linker(&mut linkers.component).map_err(plain)?;
        let cache = Cache::of(settings);
        let file_threads = FileThreads::default();
        let residency = Arc::<Residency>::default();
        let descriptors = getrlimit(Resource::Nofile).current;
        let most = settings.loaded_max.unwrap_or_else(|| loaded_max(descriptors, settings.connections_max));
        residency.set_max(most);
        let loader =
            Loader { engine: engine.clone(), linkers, compiler, cache, clock, file_threads, residency };
        let loader = Arc::new(loader);
        let raw = tcp.iter().map(|listen| listen.app.clone()).collect();
        let own = OwnAddresses::default();
        let ceiling = Arc::new(Ceiling::of_this_process());
        let (metrics, app_logs, kv) = (Metrics::new(settings.workers), OnceLock::new(), OnceLock::new());
        Ok(Self { loader, places, reaper, own, ceiling, metrics, app_logs, kv, raw, seats: Mutex::default() })
    }

    /// These are the tenants, and their limits hold from now on. For one who is not among them there are none.
    pub(super) fn set_tenants(&self, tenants: &[TenantSettings]) {
        self.seats().tenants.set(tenants);
    }

    /// What loads the code of programs when it is needed, and evicts it when there is too much.
    pub(super) fn loading(&self, wakers: &[Arc<Waker>]) -> Loading {
        let (one, all) = (wakers.to_vec(), wakers.to_vec());
        // A wake fails only if the worker is gone, and then there is nobody to wake.
        let wake = move |worker: u16| drop(one.get(usize::from(worker)).map(|waker| waker.wake()));
        let wake_all = move || all.iter().for_each(|waker| drop(waker.wake()));
        Loading::new(Arc::clone(&self.loader), self.reaper.clone(), wake, wake_all)
    }

    /// The numbers of the server that this makes apps for.
    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Apps have logs of their own, there. To be said before there are any.
    pub(super) fn set_app_logs(&self, logs: AppLogs) {
        let _ = self.app_logs.set(logs);
    }

    /// Where the server itself listens: no guest is to connect there unless it is told to.
    pub(super) fn own_addresses(&self) -> &OwnAddresses {
        &self.own
    }

    pub(super) fn seats(&self) -> MutexGuard<'_, Seats> {
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
        let name = &settings.name;
        let wasm = program::read(&settings.source).with_context(|| format!("app `{name}`"))?;
        let hash = blake3::hash(&wasm);
        let origin = Origin { settings: settings.clone(), hash };
        if let Some(same) = served.apps().iter().find(|app| app.is_made_from(&origin)) {
            return Ok(Part::Kept(Arc::clone(same)));
        }
        let program = self.program(settings, &wasm, &hash)?;
        Ok(Part::New(Box::new((program, origin))))
    }

    /// Loads an app's guest: from the cache, or compiled in a child.
    ///
    /// # Errors
    /// It can not be loaded, or a secret not be read.
    pub(super) fn program(
        &self,
        settings: &AppSettings,
        wasm: &[u8],
        hash: &blake3::Hash,
    ) -> Result<Program> {
        let (name, shown) = (&settings.name, settings.source.display());
        let spec = self.spec(settings).with_context(|| format!("app `{name}`"))?;
        let source = Arc::new(FileSource(settings.source.clone()));
        self.loader.load_from(wasm, hash, spec, source).with_context(|| format!("app `{name}`: `{shown}`"))
    }

    /// An app's guest whose code is loaded when a request needs it.
    ///
    /// # Errors
    /// What the guest is does not fit what its app wants of it, or a secret or a folder can not be opened.
    pub(crate) fn cold(
        &self,
        settings: &AppSettings,
        hash: blake3::Hash,
        facts: Facts,
        source: Arc<dyn CodeSource>,
    ) -> Result<Program> {
        let spec = self.spec(settings).with_context(|| format!("app `{}`", settings.name))?;
        self.loader.cold(&hash, facts, source, spec).with_context(|| format!("app `{}`", settings.name))
    }

    pub(super) fn spec(&self, settings: &AppSettings) -> Result<Spec> {
        let mut env = settings.env.clone();
        for (name, source) in &settings.secrets {
            let secret =
                source.read().map_err(|error| anyhow::anyhow!("`secrets`: {name}: {}", error.message))?;
            env.push((name.clone(), secret));
        }
        let name = Arc::from(settings.name.as_str());
        Ok(Spec {
            name: Arc::clone(&name),
            limits: settings.limits,
            instances: settings.instances,
            env,
            mounts: settings.mounts.clone(),
            kv: settings.kv.map(|may| self.kv().access(&name, settings.tenant.as_deref(), may)),
            wants: self.wants(settings),
        })
    }

    /// Guests' key-value data is kept in this file. To be called before any app is made.
    pub(crate) fn keep_kv_in(&self, path: &Path) {
        let _ = self.kv.set(kv::Service::in_file(path));
    }

    /// What keeps guests' key-value data.
    pub(super) fn kv(&self) -> &Arc<kv::Service> {
        self.kv.get_or_init(kv::Service::in_memory)
    }

    /// The data of a tenant's apps counts together.
    fn settle_kv(&self, registry: &Registry) {
        if let Some(kv) = self.kv.get() {
            kv.settle(
                registry.apps().iter().map(|app| (&app.program.name, app.seat.quota.tenant.as_deref())),
            );
        }
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
        let mut entries = Vec::new();
        let reached = parts.iter().map(|(_, routes)| routes.clone()).collect();
        for (part, routes) in parts {
            let app = match part {
                Part::Kept(app) => app,
                Part::New(new) => {
                    let (program, origin) = *new;
                    Arc::new(self.app(seats, program, origin))
                }
            };
            entries.push(Entry { app, canary: None, routes });
        }
        let registry = Registry::new(entries)?;
        seats.routes = reached;
        Ok(registry)
    }

    /// A version of an app, in its app's seat.
    pub(super) fn app(&self, seats: &mut Seats, program: Program, origin: Origin) -> App {
        seats.versions += 1;
        let seat = self.seat(seats, &origin.settings);
        App::new(seats.versions, program, seat, origin, &self.own, self.reaper.clone())
    }

    /// The seat of an app that has one as long as any version of it lives.
    fn seat(&self, seats: &mut Seats, app: &AppSettings) -> Arc<Seat> {
        if seats.by_name.len() == seats.by_name.capacity() {
            seats.by_name.retain(|_, seat| seat.strong_count() > 0);
        }
        let known = seats.by_name.get(&app.name).and_then(Weak::upgrade);
        if let Some(seat) = known.filter(|seat| seat.tenant() == app.tenant.as_deref()) {
            return seat;
        }
        let tenant = app.tenant.as_ref().map(|name| seats.tenants.get(name));
        let log = self.app_logs.get().map(|logs| logs.of(&app.name));
        let seat = Arc::new(Seat::new(&self.places, Arc::clone(&self.ceiling), tenant, &self.metrics, log));
        seat.set_limits(&app.limits);
        seats.by_name.insert(app.name.clone(), Arc::downgrade(&seat));
        seat
    }

    /// These apps are about to be served: their limits hold from now on.
    pub(super) fn settle(&self, registry: &Registry) {
        for app in registry.apps() {
            // Those of a canary do not: it is one app with the version that serves.
            if registry.named(&app.program.name).is_some_and(|serves| Arc::ptr_eq(serves, app)) {
                app.seat.set_limits(&app.program.limits);
            }
        }
        // A canary is of an app that is there already.
        let mut ids: Vec<_> = registry.apps().iter().map(|app| app.id).collect();
        ids.sort_unstable();
        ids.dedup();
        self.places.guarantee(&ids);
        self.settle_kv(registry);
    }
}
