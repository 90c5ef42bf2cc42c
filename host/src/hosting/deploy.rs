//! Deploys, rollbacks and changes of limits.

use std::sync::Arc;

use serde_json::{Map, Value};
use tidegate_store::records::{AppRecord, VersionRecord};

use super::bounds;
use super::canary::Canary;
use super::change::{activate, add_version};
use super::operator::{Hosted, Operator, check_name, find, now_ms};
use super::spec::Spec;
use super::start::uploaded;
use super::types::{Actor, CanaryRule, Deploy, Deployed, Refusal, RefusalKind, Step};
use crate::guest::program::{self, Facts};
use crate::tenants::registry::App;

/// A version that can be served, and is not yet.
pub(super) struct Made {
    pub(super) app: Arc<App>,
    pub(super) record: VersionRecord,
    pub(super) spec: Spec,
    pub(super) routes: Vec<String>,
}

/// What a version is to be made of.
pub(super) struct Recipe<'a> {
    pub(super) name: &'a str,
    pub(super) number: u64,
    pub(super) spec: Spec,
    pub(super) module: &'a str,
    pub(super) note: Option<String>,
    pub(super) by: &'a str,
    /// How its requests go is of interest.
    pub(super) counted: bool,
    /// Nobody has said anything of routes: a guest that serves no requests goes without.
    pub(super) routes_by_default: bool,
}

impl Operator {
    /// Makes a module that was taken in a version of an app, and serves it, unless it is told not to.
    ///
    /// # Errors
    /// See [`RefusalKind`]. What served before goes on.
    pub(crate) fn deploy(
        &self,
        actor: &Actor,
        app: &str,
        deploy: Deploy,
        progress: &mut dyn FnMut(Step),
    ) -> Result<Deployed, Refusal> {
        let done = self.try_deploy(actor, app, deploy, progress);
        self.note(actor, "deploy", Some(app), done.as_ref().ok().map(|done| done.version), &done);
        done
    }

    fn try_deploy(
        &self,
        actor: &Actor,
        app: &str,
        deploy: Deploy,
        progress: &mut dyn FnMut(Step),
    ) -> Result<Deployed, Refusal> {
        check_name(app)?;
        bounds::check_deploy(actor, &deploy)?;
        let turn = self.0.bounds.turn(actor);
        let (base, spec) = self.prepare(actor, app, &deploy.settings)?;
        if let Some(same) = self.is_served(app, &deploy, &spec) {
            return Ok(same);
        }
        if !self.may_use(actor, &deploy.module) {
            return Err(not_uploaded(&deploy.module));
        }
        let number = self.take_number(app);
        let counted = deploy.canary.is_some();
        let recipe = Recipe {
            name: app,
            number,
            spec,
            module: &deploy.module,
            note: deploy.note,
            by: &actor.name,
            counted,
            routes_by_default: base.is_none() && !deploy.settings.contains_key("routes"),
        };
        let made = self.make(recipe, progress)?;
        drop(turn);
        progress(Step::Store);
        let mut apps = self.apps_lock();
        let old = apps.get(app).cloned();
        let tenant = made.spec.tenant();
        if old.as_ref().is_some_and(|old| old.record.tenant != tenant) {
            return Err(other_tenant(app));
        }
        if old.as_ref().map(|old| &old.spec) != base.as_ref() {
            // What was left out is as it was then, and would undo what somebody else has set.
            let message = format!("the settings of the app `{app}` were changed meanwhile");
            return Err(Refusal::new(RefusalKind::Conflict, message).help("try again"));
        }
        let mut next = old.clone().unwrap_or_else(|| Hosted::new(app, tenant));
        let before = next.record.active;
        let kept = self.deployer().shared().settings.versions_kept;
        match deploy.canary {
            Some(rule) => next.begin_canary(&made, rule)?,
            None if deploy.inactive => {}
            None => next.serve(&made),
        }
        add_version(&mut next.record, made.record, kept);
        let active = next.record.active;
        progress(Step::Switch);
        if old.is_none() {
            self.begin_logs(app);
        }
        let what = match (&next.canary, active == Some(number)) {
            (Some(_), _) => "it is a canary",
            (None, true) => "it serves",
            (None, false) => "it is kept",
        };
        self.commit(&mut apps, vec![(app.to_owned(), Some(next))])?;
        if let Some(tenant) = &actor.tenant {
            self.0.bounds.used(tenant, &deploy.module);
        }
        self.tell(app, number, &format!("version {number} was deployed: {what}"));
        Ok(Deployed { app: app.to_owned(), version: number, active, before, unchanged: false })
    }

    /// The settings of the version that serves, if there is an app, and those of one that is to be.
    fn prepare(
        &self,
        actor: &Actor,
        app: &str,
        changes: &Map<String, Value>,
    ) -> Result<(Option<Spec>, Spec), Refusal> {
        let base = match self.apps_lock().get(app) {
            Some(hosted) if actor.tenant.is_some() && hosted.record.tenant != actor.tenant => {
                return Err(Refusal::new(RefusalKind::Conflict, format!("the name `{app}` is taken"))
                    .help("give the app another one"));
            }
            Some(hosted) => Some(hosted.spec.clone()),
            None => None,
        };
        let mut spec = base.clone().unwrap_or_else(Spec::first).with(changes)?;
        if actor.tenant.is_some() {
            spec.set_tenant(actor.tenant.as_deref());
        }
        self.check_tenant(spec.tenant().as_deref())?;
        Ok((base, spec))
    }

    /// A number for a version that is to be: no other has it, whatever becomes of this one.
    pub(super) fn take_number(&self, app: &str) -> u64 {
        let next = self.apps_lock().get(app).map_or(1, |hosted| hosted.record.next);
        let mut numbers = self.numbers_lock();
        let last = numbers.entry(app.to_owned()).or_default();
        *last = next.max(*last + 1);
        *last
    }

    /// Whether this very thing serves already.
    fn is_served(&self, app: &str, deploy: &Deploy, spec: &Spec) -> Option<Deployed> {
        if deploy.canary.is_some() || deploy.inactive {
            return None;
        }
        let apps = self.apps_lock();
        let hosted = apps.get(app).filter(|hosted| hosted.canary.is_none() && hosted.app.is_some())?;
        let number = hosted.record.active?;
        let same = hosted.version(number)?.module == deploy.module && hosted.spec == *spec;
        same.then(|| Deployed {
            app: app.to_owned(),
            version: number,
            active: Some(number),
            before: Some(number),
            unchanged: true,
        })
    }

    /// Reads, checks, compiles and tries out a version. Nothing of it is durable or served.
    pub(super) fn make(&self, recipe: Recipe<'_>, progress: &mut dyn FnMut(Step)) -> Result<Made, Refusal> {
        let Recipe { name, number, mut spec, module, note, by, counted, routes_by_default } = recipe;
        progress(Step::Validate);
        let path = self.module_path(module)?;
        let mut settings = spec.settings(name, &path)?;
        settings.routes_by_default = routes_by_default;
        let wasm = self.store()?.read_module(module)?.ok_or_else(|| not_uploaded(module))?;
        let hash = blake3::Hash::from_hex(module)
            .map_err(|_| Refusal::new(RefusalKind::Invalid, "`module` is not 64 hexadecimal digits"))?;
        let kind = program::kind(&wasm).map_err(not_taken)?;
        program::check(kind, &wasm, &settings.limits).map_err(not_taken)?;
        progress(Step::Compile);
        let program = self.deployer().load(&settings, &wasm, &hash, uploaded(&path)).map_err(not_taken)?;
        if routes_by_default && !program.serves_http() {
            spec.take_routes_out();
            settings.routes.clear();
        }
        settings.routes_by_default = false;
        let record = VersionRecord {
            number,
            module: module.to_owned(),
            module_bytes: wasm.len() as u64,
            settings: spec.text(),
            facts: facts_record(&program.facts)?,
            created_ms: now_ms(),
            by: by.to_owned(),
            note,
            failed: None,
        };
        let (routes, health) = (settings.routes.clone(), settings.health.clone());
        let app = self.deployer().stock().make(program, settings, hash, number, counted);
        if let Some(path) = health {
            progress(Step::WarmUp);
            self.try_out(&app, &path)?;
        }
        Ok(Made { app, record, spec, routes })
    }

    /// Goes back to a version that is kept: the one before, if none is named. While a canary is under way and none is
    /// named, that is what goes back.
    ///
    /// # Errors
    /// There is no such app or version, or it can not be served any more. What serves goes on.
    pub(crate) fn rollback(&self, actor: &Actor, app: &str, to: Option<u64>) -> Result<Deployed, Refusal> {
        let done = self.try_rollback(actor, app, to);
        self.note(actor, "rollback", Some(app), done.as_ref().ok().map(|done| done.version).or(to), &done);
        done
    }

    fn try_rollback(&self, actor: &Actor, app: &str, to: Option<u64>) -> Result<Deployed, Refusal> {
        let (to, kept) = {
            let apps = self.apps_lock();
            let hosted = find(&apps, actor, app)?;
            if to.is_none() && hosted.record.canary.is_some() {
                drop(apps);
                return self.end_canary(app, None);
            }
            let to = to.or(hosted.record.before).ok_or_else(|| {
                Refusal::new(RefusalKind::NotFound, format!("the app `{app}` has no version before this one"))
                    .help(format!("`tidegate versions {app}` lists what is kept"))
            })?;
            let kept = find_version(hosted, to)?;
            bounds::check_grants(actor, &hosted.spec, kept)?;
            (to, kept.clone())
        };
        let turn = self.0.bounds.turn(actor);
        let made = self.remake(app, &kept)?;
        drop(turn);
        let mut apps = self.apps_lock();
        let mut next = find(&apps, actor, app)?.clone();
        find_same(&next, &kept)?;
        let before = next.record.active;
        if before == Some(to) && next.record.canary.is_none() && next.app.is_some() {
            return Ok(Deployed {
                app: app.to_owned(),
                version: to,
                active: before,
                before,
                unchanged: true,
            });
        }
        next.serve(&made);
        self.commit(&mut apps, vec![(app.to_owned(), Some(next))])?;
        self.tell(app, to, &format!("version {to} serves again"));
        Ok(Deployed { app: app.to_owned(), version: to, active: Some(to), before, unchanged: false })
    }

    /// Makes a version that is kept again: its code is in the cache, or is compiled once more.
    pub(super) fn remake(&self, app: &str, kept: &VersionRecord) -> Result<Made, Refusal> {
        let recipe = Recipe {
            name: app,
            number: kept.number,
            spec: Spec::read(&kept.settings)?,
            module: &kept.module,
            note: None,
            by: &kept.by,
            counted: true,
            routes_by_default: false,
        };
        let made = self.make(recipe, &mut |_| {})?;
        Ok(Made { record: kept.clone(), ..made })
    }

    /// Other limits for an app: a version of its own with the same module.
    ///
    /// # Errors
    /// A limit is not one, or its value not valid.
    pub(crate) fn set_limits(
        &self,
        actor: &Actor,
        app: &str,
        changes: Map<String, Value>,
    ) -> Result<Deployed, Refusal> {
        let done = self.try_set_limits(actor, app, &changes);
        self.note(actor, "limits", Some(app), done.as_ref().ok().map(|done| done.version), &done);
        done
    }

    fn try_set_limits(
        &self,
        actor: &Actor,
        app: &str,
        changes: &Map<String, Value>,
    ) -> Result<Deployed, Refusal> {
        let (limits, module) = {
            let apps = self.apps_lock();
            let hosted = find(&apps, actor, app)?;
            let active = hosted.record.active.and_then(|number| hosted.version(number));
            let module = active.map(|version| version.module.clone()).ok_or_else(|| {
                Refusal::new(RefusalKind::Conflict, format!("no version of the app `{app}` serves"))
            })?;
            (hosted.spec.clone().with_limits(changes)?.limits(), module)
        };
        let limits = if limits.is_empty() { Value::Null } else { Value::Object(limits) };
        let settings = Map::from_iter([("limits".to_owned(), limits)]);
        let note = Some("limits".to_owned());
        let deploy = Deploy { module, settings, note, canary: None, inactive: false };
        self.try_deploy(actor, app, deploy, &mut |_| {})
    }

    /// Takes an app away, and what is kept of it.
    ///
    /// # Errors
    /// There is no such app, or it can not be made durable.
    pub(crate) fn remove(&self, actor: &Actor, app: &str) -> Result<(), Refusal> {
        let done = {
            let mut apps = self.apps_lock();
            let done = find(&apps, actor, app)
                .map(drop)
                .and_then(|()| self.commit(&mut apps, vec![(app.to_owned(), None)]));
            if done.is_ok() {
                // Before another one of its name may come, which this is not to be taken from.
                self.numbers_lock().remove(app);
                self.forget(app);
            }
            done
        };
        self.note(actor, "remove", Some(app), None, &done);
        done
    }
}

impl Hosted {
    pub(super) fn new(name: &str, tenant: Option<String>) -> Self {
        let record = AppRecord {
            name: name.to_owned(),
            tenant,
            active: None,
            before: None,
            canary: None,
            next: 1,
            versions: Vec::new(),
            manifest: None,
        };
        Self { record, spec: Spec::first(), routes: Vec::new(), app: None, canary: None }
    }

    /// This version serves from now on, and no canary does.
    pub(super) fn serve(&mut self, made: &Made) {
        activate(&mut self.record, made.app.number);
        self.spec = made.spec.clone();
        self.routes.clone_from(&made.routes);
        self.app = Some(Arc::clone(&made.app));
        self.canary = None;
    }

    /// This version serves some of the requests from now on.
    pub(super) fn begin_canary(&mut self, made: &Made, rule: CanaryRule) -> Result<(), Refusal> {
        if self.app.is_none() {
            let message = format!("no version of the app `{}` serves yet", self.record.name);
            return Err(
                Refusal::new(RefusalKind::Conflict, message).help("deploy the first one without a canary")
            );
        }
        if let Some(canary) = &self.canary {
            let message = format!("version {} is a canary already", canary.app.number);
            return Err(Refusal::new(RefusalKind::Conflict, message)
                .help("promote it or end it first: `tidegate canary APP promote|abort`"));
        }
        if !made.app.program.serves_http() {
            let message = "a canary is for apps that serve requests";
            return Err(Refusal::new(RefusalKind::Invalid, message));
        }
        let canary = Canary::new(Arc::clone(&made.app), rule)?;
        self.record.canary = Some(canary.record()?);
        self.canary = Some(canary);
        Ok(())
    }
}

pub(super) fn find_version(hosted: &Hosted, number: u64) -> Result<&VersionRecord, Refusal> {
    hosted.version(number).ok_or_else(|| {
        let name = &hosted.record.name;
        Refusal::new(RefusalKind::NotFound, format!("the app `{name}` has no version {number}"))
            .help(format!("`tidegate versions {name}` lists what is kept"))
    })
}

/// What was found a while ago: the app may have been removed since, and made again.
pub(super) fn find_same(hosted: &Hosted, kept: &VersionRecord) -> Result<(), Refusal> {
    let now = find_version(hosted, kept.number)?;
    if (&now.module, &now.settings, now.created_ms) == (&kept.module, &kept.settings, kept.created_ms) {
        return Ok(());
    }
    let message =
        format!("version {} of the app `{}` is another one by now", kept.number, hosted.record.name);
    Err(Refusal::new(RefusalKind::Conflict, message).help("look at what there is, and try again"))
}

pub(super) fn other_tenant(app: &str) -> Refusal {
    Refusal::new(RefusalKind::Conflict, format!("the app `{app}` is another tenant's"))
        .help("remove it first, or give this one another name")
}

fn not_uploaded(module: &str) -> Refusal {
    let message = format!("the module `{}` was not uploaded", module.escape_default());
    Refusal::new(RefusalKind::NotFound, message).help("`PUT /v1/modules` first")
}

fn facts_record(facts: &Facts) -> Result<Value, Refusal> {
    serde_json::to_value(facts).map_err(|error| Refusal::new(RefusalKind::Internal, error.to_string()))
}

/// Why a module is not taken, with all that is known.
fn not_taken(error: impl Into<anyhow::Error>) -> Refusal {
    Refusal::new(RefusalKind::Module, format!("{:#}", error.into()))
}
