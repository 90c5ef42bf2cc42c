//! The apps and the routes that lead to them. A registry does not change once it is built.

use std::sync::Arc;

use tidegate_proto::router::{Match, Params, RouteError, Router, RouterBuilder};

use super::admission::Gate;
use crate::guest::program::Program;
use crate::guest::scheduler::AppId;

/// An app that is served.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) id: AppId,
    pub(crate) weight: u32,
    pub(crate) program: Arc<Program>,
    pub(crate) gate: Gate,
}

/// All apps.
#[derive(Debug)]
pub(crate) struct Registry {
    router: Router<Arc<App>>,
    apps: Vec<Arc<App>>,
}

impl Registry {
    /// Builds the routes of `apps`.
    ///
    /// # Errors
    /// Two routes are the same, or one is not valid.
    pub(crate) fn new(apps: Vec<(Arc<App>, Vec<String>)>) -> Result<Self, RouteError> {
        let mut builder = RouterBuilder::new();
        for (app, routes) in &apps {
            for route in routes {
                builder.insert(route, Arc::clone(app))?;
            }
        }
        Ok(Self { router: builder.build(), apps: apps.into_iter().map(|(app, _)| app).collect() })
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
}
