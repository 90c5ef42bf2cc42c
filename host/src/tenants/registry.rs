//! The apps and the routes that lead to them, as they are served at one time. A registry does not change once it is
//! built: a deploy builds another, and [`super::current::Current`] puts it in the place of the one before.
//!
//! An [`App`] is one version of an app. What an app has whatever its version stands in its [`Seat`]. A route leads to a
//! [`Target`]: the version that serves, and perhaps another one that serves some of the requests; or to nothing, where the
//! app can not be served for now: no other app's less specific route is to answer for it.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use tidegate_proto::http1::fields::Fields;
use tidegate_proto::router::{Match, Params, RouteError, Router, RouterBuilder};

use super::admission::Gate;
use super::canary::{self, Chosen};
use super::notice::Notice;
use super::quota::{Quota, Tenant};
use crate::config::{AppLimits, AppSettings};
use crate::guest::places::{Places, Share};
use crate::guest::program::Program;
use crate::guest::scheduler::AppId;
use crate::guest::task::Reaper;
use crate::net::access::{Access, Ceiling, Tally};
use crate::net::http::Trust;
use crate::net::policy::{OwnAddresses, Policy};
use crate::observe::app_logs::AppLog;
use crate::observe::metrics::{AppMetrics, Metrics};

/// What an app has in common with the versions before it: a number, a part in the pools, a gate. So a deploy is no way
/// to more of them: what still runs of an old version counts.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) share: Arc<Share>,
    pub(crate) gate: Gate,
    /// That of raw connections: clients that say nothing are not to keep requests out.
    pub(crate) raw: Gate,
    pub(crate) sockets: Arc<Tally>,
    pub(crate) quota: Quota,
    /// What is counted for the app, and its own log.
    pub(crate) metrics: Arc<AppMetrics>,
    pub(crate) log: Option<AppLog>,
}

impl Seat {
    /// Of another app, perhaps one of `tenant`. It may take nothing until [`Self::set_limits`] says what.
    pub(crate) fn new(
        places: &Arc<Places>,
        ceiling: Arc<Ceiling>,
        tenant: Option<Arc<Tenant>>,
        metrics: &Arc<Metrics>,
        log: Option<AppLog>,
    ) -> Self {
        let of_tenant = tenant.as_ref();
        let share = places.join_with(of_tenant.map(|tenant| Arc::clone(&tenant.memory)));
        Self {
            metrics: metrics.app(share.app()),
            log,
            share,
            gate: Gate::new(0, 0).below(of_tenant.map(|tenant| Arc::clone(&tenant.gate))),
            raw: Gate::new(0, 0).below(of_tenant.map(|tenant| Arc::clone(&tenant.raw))),
            sockets: Arc::new(Tally::new(ceiling, of_tenant.map(|tenant| Arc::clone(&tenant.sockets)))),
            quota: Quota::new(tenant),
        }
    }

    /// Other limits from now on.
    pub(crate) fn set_limits(&self, limits: &AppLimits) {
        self.gate.set_limits(limits.concurrency, limits.queue);
        // They wait in the kernel.
        self.raw.set_limits(limits.concurrency, 0);
        self.quota.set_limits(limits);
    }

    /// The name of the tenant whose app it is.
    pub(crate) fn tenant(&self) -> Option<&str> {
        self.quota.tenant.as_ref().map(|tenant| &*tenant.name)
    }
}

/// What a version was made from. The same again is the same version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) settings: AppSettings,
    /// Of the module's bytes.
    pub(crate) hash: blake3::Hash,
}

impl Origin {
    /// True if an app made from `other` would do just what this one does, wherever their routes lead.
    fn makes_the_same(&self, other: &Self) -> bool {
        // The hash first: there may be thousands to compare with.
        self.hash == other.hash && self.settings.name == other.settings.name && {
            let routed = AppSettings { routes: self.settings.routes.clone(), ..other.settings.clone() };
            self.settings == routed
        }
    }
}

/// A version of an app that is served, or was while there are requests that began with it.
#[derive(Debug)]
pub(crate) struct App {
    /// The app's number, the same for all its versions.
    pub(crate) id: AppId,
    /// No two versions of any apps have the same.
    pub(crate) version: u64,
    /// Its number among the versions of its app that are kept; 0 where none are.
    pub(crate) number: u64,
    pub(crate) weight: u32,
    /// How its requests go, while it is a canary.
    pub(crate) tally: Option<canary::Tally>,
    pub(crate) program: Reaped<Program>,
    pub(crate) seat: Arc<Seat>,
    pub(crate) access: Arc<Access>,
    origin: Origin,
}

impl App {
    /// `own` are the server's own addresses.
    pub(crate) fn new(
        version: u64,
        mut program: Program,
        seat: Arc<Seat>,
        origin: Origin,
        own: &OwnAddresses,
        reaper: Reaper,
    ) -> Self {
        let id = seat.share.app();
        let policy = Policy::new(&origin.settings.sockets, own.clone());
        let name = Arc::clone(&program.name);
        let trust = Trust::read(&origin.settings.sockets.ca);
        let tally = Arc::clone(&seat.sockets);
        program.log.share(Arc::clone(&seat.quota.log));
        let access = Access::trusting(name, id.into(), policy, program.limits, tally, trust);
        Self {
            id,
            version,
            number: 0,
            tally: None,
            weight: origin.settings.weight,
            program: Reaped { inner: Some(Arc::new(program)), reaper },
            seat,
            access,
            origin,
        }
    }

    /// Whose it is. None: the operator's.
    pub(crate) fn tenant(&self) -> Option<&str> {
        self.origin.settings.tenant.as_deref()
    }

    /// True if it runs by itself.
    pub(crate) fn is_resident(&self) -> bool {
        self.program.is_command()
    }

    /// True if `origin` would make this very version.
    pub(crate) fn is_made_from(&self, origin: &Origin) -> bool {
        self.origin.makes_the_same(origin)
    }
}

/// What takes long to drop, such as the code of a program: the last owner of it may be a loop, and so the reaper is.
#[derive(Debug)]
pub(crate) struct Reaped<T: Send + Sync + 'static> {
    /// None only while this is dropped.
    inner: Option<Arc<T>>,
    reaper: Reaper,
}

impl<T: Send + Sync> Deref for Reaped<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        match &self.inner {
            Some(inner) => inner,
            None => unreachable!("it is taken when this is dropped, and nobody has it then"),
        }
    }
}

impl<T: Send + Sync> Drop for Reaped<T> {
    fn drop(&mut self) {
        // If the reaper is gone the server is ending; then it is dropped here.
        let _ = self.inner.take().map(|inner| self.reaper.send(Box::new(inner)));
    }
}

/// Where a route leads.
#[derive(Debug)]
pub(crate) enum Target {
    Served {
        app: Arc<App>,
        canary: Option<(Arc<App>, Chosen)>,
    },
    /// To an app that can not be served for now: its name.
    Lacking(Arc<str>),
}

impl Target {
    /// The version that a request with these headers is for. `draw` is different from request to request.
    ///
    /// # Errors
    /// The app of this name can not be served.
    pub(crate) fn choose(&self, fields: &Fields, draw: u64) -> Result<&Arc<App>, &Arc<str>> {
        match self {
            Self::Served { canary: Some((canary, chosen)), .. } if chosen.includes(fields, draw) => {
                Ok(canary)
            }
            Self::Served { app, .. } => Ok(app),
            Self::Lacking(name) => Err(name),
        }
    }
}

/// An app on its way into a registry: the version that serves, and where it is reached.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) app: Arc<App>,
    pub(crate) canary: Option<(Arc<App>, Chosen)>,
    pub(crate) routes: Vec<String>,
}

/// An app that is to be served and can not be, and where it would be reached.
#[derive(Clone, Debug)]
pub(crate) struct Lacking {
    pub(crate) name: Arc<str>,
    pub(crate) routes: Vec<String>,
}

/// All apps of one time, or a notice instead.
#[derive(Debug)]
pub(crate) struct Registry {
    router: Router<Arc<Target>>,
    /// All versions that are served, and their numbers in order.
    apps: Vec<Arc<App>>,
    versions: Vec<u64>,
    /// Those of them that run by themselves.
    residents: Vec<Arc<App>>,
    /// By its name, the version of an app that serves what no canary takes.
    named: HashMap<Arc<str>, Arc<App>>,
    notice: Option<Notice>,
}

impl Registry {
    /// Builds the routes of `entries`.
    ///
    /// # Errors
    /// Two routes are the same, or one is not valid.
    pub(crate) fn new(entries: Vec<Entry>) -> Result<Self, RouteError> {
        Self::with_lacking(entries, &[])
    }

    /// The same with apps that can not be served. Of their routes those are left out that are somebody's who is served.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub(crate) fn with_lacking(entries: Vec<Entry>, lacking: &[Lacking]) -> Result<Self, RouteError> {
        let mut builder = RouterBuilder::new();
        let mut apps = Vec::with_capacity(entries.len());
        let mut named = HashMap::with_capacity(entries.len());
        for Entry { app, canary, routes } in entries {
            apps.push(Arc::clone(&app));
            apps.extend(canary.iter().map(|(canary, _)| Arc::clone(canary)));
            for app in canary.iter().map(|(canary, _)| canary).chain([&app]) {
                app.program.log.tee(app.seat.log.as_ref(), &app.seat.metrics, app.number);
                if let Some(kv) = &app.program.kv {
                    app.seat.metrics.follow_kv(kv.counted());
                }
            }
            named.insert(Arc::clone(&app.program.name), Arc::clone(&app));
            // One that serves raw connections alone is reached by no route, whatever the default is.
            let serves_http = app.program.serves_http();
            let target = Arc::new(Target::Served { app, canary });
            for route in routes.iter().filter(|_| serves_http) {
                builder.insert(route, Arc::clone(&target))?;
            }
        }
        for Lacking { name, routes } in lacking {
            let target = Arc::new(Target::Lacking(Arc::clone(name)));
            for route in routes {
                let _ = builder.insert(route, Arc::clone(&target));
            }
        }
        let mut versions: Vec<u64> = apps.iter().map(|app: &Arc<App>| app.version).collect();
        versions.sort_unstable();
        let residents = apps.iter().filter(|app| app.is_resident()).cloned().collect();
        Ok(Self { router: builder.build(), apps, versions, residents, named, notice: None })
    }

    /// No apps.
    pub(crate) fn empty() -> Self {
        let router = RouterBuilder::new().build();
        let (apps, versions, residents) = Default::default();
        Self { router, apps, versions, residents, named: HashMap::new(), notice: None }
    }

    /// No apps: every request is answered with `notice`.
    pub(crate) fn of_notice(notice: Notice) -> Self {
        let router = RouterBuilder::new().build();
        let (apps, versions, residents) = Default::default();
        Self { router, apps, versions, residents, named: HashMap::new(), notice: Some(notice) }
    }

    pub(crate) fn find<'r>(
        &'r self,
        host: &str,
        path: &str,
        params: &mut Params,
    ) -> Option<Match<'r, Arc<Target>>> {
        self.router.find(host, path, params)
    }

    /// All versions that are served.
    pub(crate) fn apps(&self) -> &[Arc<App>] {
        &self.apps
    }

    /// True if this version is one of them.
    pub(crate) fn serves(&self, version: u64) -> bool {
        self.versions.binary_search(&version).is_ok()
    }

    /// All versions that run by themselves.
    pub(crate) fn residents(&self) -> &[Arc<App>] {
        &self.residents
    }

    /// The app of that name.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<App>> {
        self.named.get(name)
    }

    pub(crate) fn notice(&self) -> Option<&Notice> {
        self.notice.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_of_an_app_that_can_not_be_served_lead_to_nobody_else() {
        let lacking = |name: &str, routes: &[&str]| Lacking {
            name: name.into(),
            routes: routes.iter().map(|&route| route.to_owned()).collect(),
        };
        let registry = Registry::with_lacking(
            Vec::new(),
            &[lacking("a", &["a.test/*"]), lacking("b", &["/*", "a.test/*", "b.test/x"])],
        )
        .unwrap();
        let mut params = Params::default();
        let mut of = |host: &str, path: &str| {
            let found = registry.find(host, path, &mut params).unwrap();
            found.value.choose(&Fields::default(), 0).err().map(ToString::to_string)
        };
        assert_eq!(of("a.test", "/x").as_deref(), Some("a"), "whoever is first has what two want");
        assert_eq!(of("b.test", "/x").as_deref(), Some("b"));
        assert_eq!(of("c.test", "/").as_deref(), Some("b"));
        assert!(registry.apps().is_empty() && registry.named("a").is_none());
    }
}
