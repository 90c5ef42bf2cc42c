//! The apps and the routes that lead to them, as they are served at one time. A registry does not change once it is
//! built: a deploy builds another, and [`super::current::Current`] puts it in the place of the one before.
//!
//! An [`App`] is one version of an app. What an app has whatever its version stands in its [`Seat`].

use std::ops::Deref;
use std::sync::Arc;

use tidegate_proto::router::{Match, Params, RouteError, Router, RouterBuilder};

use super::admission::Gate;
use super::notice::Notice;
use crate::config::AppSettings;
use crate::guest::places::Share;
use crate::guest::program::Program;
use crate::guest::scheduler::AppId;
use crate::guest::task::Reaper;
use crate::net::access::{Access, Tally};
use crate::net::http::Trust;
use crate::net::policy::{OwnAddresses, Policy};

/// What an app has in common with the versions before it: a number, a part in the pools, a gate. So a deploy is no way
/// to more of them: what still runs of an old version counts.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) share: Arc<Share>,
    pub(crate) gate: Gate,
    /// That of raw connections: clients that say nothing are not to keep requests out.
    pub(crate) raw: Gate,
    pub(crate) sockets: Arc<Tally>,
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
        let routed = AppSettings { routes: self.settings.routes.clone(), ..other.settings.clone() };
        self.hash == other.hash && self.settings == routed
    }
}

/// A version of an app that is served, or was while there are requests that began with it.
#[derive(Debug)]
pub(crate) struct App {
    /// The app's number, the same for all its versions.
    pub(crate) id: AppId,
    /// No two versions of any apps have the same.
    pub(crate) version: u64,
    pub(crate) weight: u32,
    pub(crate) program: Reaped<Program>,
    pub(crate) seat: Arc<Seat>,
    pub(crate) access: Arc<Access>,
    origin: Origin,
}

impl App {
    /// `own` are the server's own addresses.
    pub(crate) fn new(
        version: u64,
        program: Program,
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
        let access = Access::trusting(name, id.into(), policy, program.limits, tally, trust);
        Self {
            id,
            version,
            weight: origin.settings.weight,
            program: Reaped { inner: Some(Arc::new(program)), reaper },
            seat,
            access,
            origin,
        }
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

/// All apps of one time, or a notice instead.
#[derive(Debug)]
pub(crate) struct Registry {
    router: Router<Arc<App>>,
    apps: Vec<Arc<App>>,
    notice: Option<Notice>,
}

impl Registry {
    /// Builds the routes of `apps`.
    ///
    /// # Errors
    /// Two routes are the same, or one is not valid.
    pub(crate) fn new(apps: Vec<(Arc<App>, Vec<String>)>) -> Result<Self, RouteError> {
        let mut builder = RouterBuilder::new();
        for (app, routes) in &apps {
            // One that serves raw connections alone is reached by no route, whatever the default is.
            for route in routes.iter().filter(|_| app.program.serves_http()) {
                builder.insert(route, Arc::clone(app))?;
            }
        }
        let apps = apps.into_iter().map(|(app, _)| app).collect();
        Ok(Self { router: builder.build(), apps, notice: None })
    }

    /// No apps: every request is answered with `notice`.
    pub(crate) fn of_notice(notice: Notice) -> Self {
        Self { router: RouterBuilder::new().build(), apps: Vec::new(), notice: Some(notice) }
    }

    pub(crate) fn find<'r>(
        &'r self,
        host: &str,
        path: &str,
        params: &mut Params,
    ) -> Option<Match<'r, Arc<App>>> {
        self.router.find(host, path, params)
    }

    pub(crate) fn apps(&self) -> &[Arc<App>] {
        &self.apps
    }

    /// The app of that name.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<App>> {
        self.apps.iter().find(|app| &*app.program.name == name)
    }

    pub(crate) fn notice(&self) -> Option<&Notice> {
        self.notice.as_ref()
    }
}
