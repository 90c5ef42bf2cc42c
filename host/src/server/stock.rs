//! What apps are made of: the loader and what guests may use, and the seats that outlive versions.
//!
//! It makes one app at a time, and knows neither which apps are served nor how they came to be there.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use anyhow::{Context, Result};
use mio::Waker;
use rustix::process::{Resource, getrlimit};
use wasmtime::Engine;

use crate::clock::Clock;
use crate::config::TcpListen;
use crate::config::{AppSettings, ServerSettings, TenantSettings};
use crate::guest::cache::Cache;
use crate::guest::compile::Compiler;
use crate::guest::loading::residency::Residency;
use crate::guest::loading::{Loading, loaded_max};
use crate::guest::mounts::FileThreads;
use crate::guest::places::Places;
use crate::guest::program::{CodeSource, Facts, FileSource, Linkers, Loader, Program, Spec, Wants};
use crate::guest::task::Reaper;
use crate::kv;
use crate::module_abi;
use crate::net::access::Ceiling;
use crate::net::policy::OwnAddresses;
use crate::observe::app_logs::AppLogs;
use crate::observe::metrics::Metrics;
use crate::tenants::quota::Tenants;
use crate::tenants::registry::{App, Origin, Registry, Seat};
use crate::{wasi, wasi_http, wasi_keyvalue};

/// The seats of apps that live, served or not, how many versions there were, and where those that are served are reached.
#[derive(Debug, Default)]
pub(super) struct Seats {
    by_name: HashMap<String, Weak<Seat>>,
    tenants: Tenants,
    versions: u64,
    pub(super) routes: Vec<Vec<String>>,
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
        self.loader
            .load_from(wasm, hash, spec, source, &mut |_| {})
            .with_context(|| format!("app `{name}`: `{shown}`"))
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
            kv.settle(registry.apps().iter().map(|app| {
                let tenant = app.seat.quota.tenant.as_deref();
                let together = tenant.map(|tenant| (&tenant.name, tenant.kv_limits()));
                (&app.program.name, together)
            }));
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

/// wasmtime's errors with all that they say, as ours.
pub(super) fn plain(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}
