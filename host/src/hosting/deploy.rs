//! Deploys, rollbacks, changes of limits, and the end of an app.

use std::time::Instant;

use serde_json::{Map, Value};

use super::bounds;
use super::hosted::{Hosted, add_version, find, find_same, find_version, other_tenant};
use super::make::Recipe;
use super::operator::Operator;
use super::shares;
use super::spec::Spec;
use super::types::{Actor, Deploy, Deployed, Progress, Refusal, RefusalKind, SERVER, Step};
use super::uploads::not_uploaded;
use crate::config::check_app_name;

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
        progress: &mut dyn FnMut(Progress),
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
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Deployed, Refusal> {
        check_name(app)?;
        self.0.bounds.check_change(actor, Instant::now())?;
        bounds::check_deploy(actor, &deploy)?;
        let turn = self.0.bounds.turn(actor);
        let (base, spec) = self.prepare(actor, app, &deploy.settings)?;
        bounds::check_spec(actor, &deploy, &spec)?;
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
        progress(Step::Store.into());
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
        let mut ended = None;
        match deploy.canary {
            Some(rule) => next.begin_canary(&made, rule)?,
            None if deploy.inactive => {}
            None => ended = next.serve(&made),
        }
        add_version(&mut next.record, made.record, kept);
        let active = next.record.active;
        progress(Step::Switch.into());
        if old.is_none() {
            self.begin_logs(app);
        }
        let is_canary = next.canary.as_ref().is_some_and(|canary| canary.app.number == number);
        let what = match (is_canary, active == Some(number)) {
            (true, _) => "it is a canary",
            (false, true) => "it serves",
            (false, false) => "it is kept",
        };
        self.commit(&mut apps, vec![(app.to_owned(), Some(next))])?;
        self.tell(app, number, &format!("version {number} was deployed: {what}"));
        self.tell_ended(app, ended);
        Ok(Deployed { app: app.to_owned(), version: number, active, before, unchanged: false, ended })
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
        let tenant = spec.tenant();
        self.check_tenant(tenant.as_deref())?;
        if let (None, Some(tenant)) = (&base, &tenant) {
            // In this order, as who changes something has the apps.
            let apps = self.apps_lock();
            shares::check_one_more(&self.tenants_lock(), &apps, tenant)?;
        }
        Ok((base, spec))
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
            ended: None,
        })
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
        self.0.bounds.check_change(actor, Instant::now())?;
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
                ended: None,
            });
        }
        let ended = next.serve(&made);
        self.commit(&mut apps, vec![(app.to_owned(), Some(next))])?;
        self.tell(app, to, &format!("version {to} serves again"));
        self.tell_ended(app, ended);
        Ok(Deployed { app: app.to_owned(), version: to, active: Some(to), before, unchanged: false, ended })
    }

    /// Serves a version that was to be served and could not be. None: meanwhile somebody has put that right, or has chosen
    /// another version, which is not to be undone.
    ///
    /// # Errors
    /// As for [`Self::rollback`].
    pub(super) fn serve_lacking(&self, app: &str, version: u64) -> Result<Option<Deployed>, Refusal> {
        let done = self.try_serve_lacking(app, version);
        if !matches!(done, Ok(None)) {
            self.note(&SERVER, "rollback", Some(app), Some(version), &done);
        }
        done
    }

    fn try_serve_lacking(&self, app: &str, version: u64) -> Result<Option<Deployed>, Refusal> {
        let kept = match self.apps_lock().get(app).filter(|hosted| hosted.lacks_version(version)) {
            Some(hosted) => find_version(hosted, version)?.clone(),
            None => return Ok(None),
        };
        let made = self.remake(app, &kept)?;
        let mut apps = self.apps_lock();
        let Some(mut next) = apps.get(app).filter(|hosted| hosted.lacks_version(version)).cloned() else {
            return Ok(None);
        };
        find_same(&next, &kept)?;
        let before = next.record.active;
        let ended = next.serve(&made);
        self.commit(&mut apps, vec![(app.to_owned(), Some(next))])?;
        self.tell(app, version, &format!("version {version} serves again"));
        self.tell_ended(app, ended);
        let (app, active) = (app.to_owned(), Some(version));
        Ok(Some(Deployed { app, version, active, before, unchanged: false, ended }))
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
                .and_then(|()| self.0.bounds.check_change(actor, Instant::now()))
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

/// Checks the name of an app that is to be.
fn check_name(app: &str) -> Result<(), Refusal> {
    check_app_name(app).map_err(|error| Refusal {
        kind: RefusalKind::Invalid,
        message: error.message,
        help: error.help,
    })
}
