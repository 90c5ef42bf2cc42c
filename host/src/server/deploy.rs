//! Deploys: apps are loaded beside those that are served, and take their place all at once.
//!
//! Loading happens on the thread that asks for it, never on a loop. Nothing changes unless all of it went well.

use std::fmt;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::budget::check_budget;
use super::stock::{Seats, Stock};
use crate::config::{AppSettings, TenantSettings};
use crate::guest::program::{self, Program};
use crate::shared::Shared;
use crate::tenants::notice::Notice;
use crate::tenants::registry::{App, Entry, Origin, Registry};

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
        check_budget(&self.shared.settings, apps)?;
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

impl Stock {
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
}
