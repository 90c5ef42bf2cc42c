//! Canaries: a version for some of the requests, ended by itself when too many of them fail.

use std::sync::Arc;
use std::time::Instant;

use super::bounds;
use super::hosted::{Hosted, activate, find, find_same, find_version};
use super::operator::Operator;
use super::spec::Spec;
use super::trial::Canary;
use super::types::{Actor, CanaryChange, CanaryRule, Deployed, Refusal, RefusalKind, SERVER};

impl Operator {
    /// Begins a canary, changes its rule, or ends it one way or the other.
    ///
    /// # Errors
    /// There is no such app or version, no canary, or another one is under way.
    pub(crate) fn canary(&self, actor: &Actor, app: &str, change: CanaryChange) -> Result<Deployed, Refusal> {
        let action = match &change {
            CanaryChange::Set { .. } => "canary",
            CanaryChange::Promote => "canary promote",
            CanaryChange::Abort => "canary abort",
        };
        let done = find(&self.apps_lock(), actor, app).map(drop);
        let done = done.and_then(|()| self.0.bounds.check_change(actor, Instant::now()));
        let done = done.and_then(|()| match change {
            CanaryChange::Set { version, rule } => self.set_canary(actor, app, version, rule),
            CanaryChange::Promote => self.promote(actor, app),
            CanaryChange::Abort => self.end_canary(app, None),
        });
        self.note(actor, action, Some(app), done.as_ref().ok().map(|done| done.version), &done);
        done
    }

    fn set_canary(
        &self,
        actor: &Actor,
        app: &str,
        version: u64,
        rule: CanaryRule,
    ) -> Result<Deployed, Refusal> {
        bounds::check_rule(&rule)?;
        let kept = {
            let mut apps = self.apps_lock();
            let hosted = find(&apps, actor, app)?;
            if hosted.record.active == Some(version) {
                let message = format!("version {version} serves everybody already");
                return Err(Refusal::new(RefusalKind::Conflict, message));
            }
            let same = hosted.canary.as_ref().filter(|canary| canary.app.number == version);
            if let Some(canary) = same {
                let mut next = hosted.clone();
                let canary = Canary::new(Arc::clone(&canary.app), rule)?;
                next.record.canary = Some(canary.record()?);
                next.canary = Some(canary);
                let active = next.record.active;
                self.commit(&mut apps, vec![(app.to_owned(), Some(next))])?;
                return Ok(Deployed {
                    app: app.to_owned(),
                    version,
                    active,
                    before: active,
                    unchanged: false,
                    ended: None,
                });
            }
            let kept = find_version(hosted, version)?;
            bounds::check_grants(actor, &hosted.spec, kept)?;
            kept.clone()
        };
        let turn = self.0.bounds.turn(actor);
        let made = self.remake(app, &kept)?;
        drop(turn);
        let mut apps = self.apps_lock();
        let mut next = find(&apps, actor, app)?.clone();
        find_same(&next, &kept)?;
        next.begin_canary(&made, rule)?;
        let active = next.record.active;
        self.commit(&mut apps, vec![(app.to_owned(), Some(next))])?;
        Ok(Deployed { app: app.to_owned(), version, active, before: active, unchanged: false, ended: None })
    }

    fn promote(&self, actor: &Actor, app: &str) -> Result<Deployed, Refusal> {
        let mut apps = self.apps_lock();
        let mut next = find(&apps, actor, app)?.clone();
        let canary = next.canary.take().ok_or_else(|| no_canary(app))?;
        let (version, before) = (canary.app.number, next.record.active);
        let kept = find_version(&next, version)?;
        bounds::check_grants(actor, &next.spec, kept)?;
        next.spec = Spec::read(&kept.settings)?;
        next.routes = next.spec.settings(app, &self.module_path("")?)?.routes;
        next.app = Some(canary.app);
        activate(&mut next.record, version);
        self.commit(&mut apps, vec![(app.to_owned(), Some(next))])?;
        self.tell(app, version, &format!("version {version} was a canary and serves everybody"));
        let active = Some(version);
        Ok(Deployed { app: app.to_owned(), version, active, before, unchanged: false, ended: None })
    }

    /// Everybody gets what most get now. `failing` is the version that was seen to fail; None: it is somebody's wish.
    pub(super) fn end_canary(&self, app: &str, failing: Option<u64>) -> Result<Deployed, Refusal> {
        let mut apps = self.apps_lock();
        let mut next = find(&apps, &SERVER, app)?.clone();
        // By now it may be another one, or a rule that it keeps to.
        let seen = |number| {
            let canary = next.canary.as_ref().filter(|canary| canary.app.number == number);
            canary.and_then(Canary::verdict).ok_or_else(|| no_canary(app))
        };
        let failed = failing.map(seen).transpose()?;
        let canary = next.record.canary.take().ok_or_else(|| no_canary(app))?;
        next.canary = None;
        let active = next.record.active;
        if let Some(version) =
            next.record.versions.iter_mut().find(|version| version.number == canary.version)
        {
            version.failed.clone_from(&failed);
        }
        let changes = vec![(app.to_owned(), Some(next))];
        match (self.commit(&mut apps, changes.clone()), &failed) {
            (Ok(()), _) => {}
            (Err(refusal), None) => return Err(refusal),
            (Err(refusal), Some(_)) => {
                // Clients are not to suffer for as long as the disk is full.
                let reason = refusal.message;
                tracing::error!(
                    app,
                    reason,
                    "that a canary has failed is not kept: a restart would try it again"
                );
                self.serve_only(&mut apps, changes)?;
            }
        }
        if let Some(reason) = &failed {
            tracing::warn!(app, version = canary.version, reason, "the canary is rolled back");
        }
        let why = failed.map(|reason| format!(": {reason}")).unwrap_or_default();
        self.tell(app, canary.version, &format!("version {} is a canary no more{why}", canary.version));
        let (version, ended) = (active.unwrap_or_default(), Some(canary.version));
        Ok(Deployed { app: app.to_owned(), version, active, before: active, unchanged: false, ended })
    }

    /// Ends the canaries that fail. True if there is any canary.
    pub(super) fn look_at_canaries(&self) -> bool {
        let (any, failing): (bool, Vec<_>) = {
            let apps = self.apps_lock();
            let failing = |(name, hosted): (&String, &Hosted)| {
                let canary = hosted.canary.as_ref()?;
                canary.verdict().map(|_| (name.clone(), canary.app.number))
            };
            let any = apps.values().any(|hosted| hosted.canary.is_some());
            (any, apps.iter().filter_map(failing).collect())
        };
        for (app, version) in failing {
            let done = self.end_canary(&app, Some(version));
            if done.as_ref().is_err_and(|refusal| refusal.kind == RefusalKind::Conflict) {
                continue;
            }
            self.note(&SERVER, "canary rolled back", Some(&app), Some(version), &done);
        }
        any
    }
}

fn no_canary(app: &str) -> Refusal {
    Refusal::new(RefusalKind::Conflict, format!("no canary of the app `{app}` is under way"))
}
