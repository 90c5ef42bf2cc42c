//! Canaries: a version for some of the requests, ended by itself when too many of them fail.

use std::sync::Arc;
use std::sync::Weak;
use std::thread;
use std::time::{Duration, Instant};

use tidegate_store::records::CanaryRecord;

use super::bounds;
use super::deploy::{find_same, find_version};
use super::operator::{Inner, Operator, find};
use super::types::{Actor, CanaryChange, CanaryRule, Deployed, Refusal, RefusalKind};
use crate::tenants::canary::Chosen;
use crate::tenants::registry::App;

/// How often canaries are looked at, and whether there are any.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const IDLE_LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often modules go that no version needs.
const COLLECT_EVERY: Duration = Duration::from_secs(600);

/// A version that serves some of the requests.
#[derive(Clone)]
pub(super) struct Canary {
    pub(super) app: Arc<App>,
    pub(super) rule: CanaryRule,
    pub(super) chosen: Chosen,
    /// Requests and failures of this version before it became this canary.
    since: (u64, u64),
}

impl Canary {
    /// # Errors
    /// The rule is not one.
    pub(super) fn new(app: Arc<App>, rule: CanaryRule) -> Result<Self, Refusal> {
        let chosen = Chosen::parse(rule.percent, rule.header.as_deref(), rule.cookie.as_deref());
        let chosen = chosen.map_err(|error| Refusal {
            kind: RefusalKind::Invalid,
            message: error.message,
            help: error.help,
        })?;
        if rule.failure_percent > 100 {
            let message = format!("{} hundredths of the requests are more than all", rule.failure_percent);
            return Err(Refusal::new(RefusalKind::Invalid, message));
        }
        let since = app.tally.as_ref().map(|tally| tally.get()).unwrap_or_default();
        Ok(Self { app, rule, chosen, since })
    }

    pub(super) fn record(&self) -> Result<CanaryRecord, Refusal> {
        let rule = serde_json::to_value(&self.rule)
            .map_err(|error| Refusal::new(RefusalKind::Internal, error.to_string()))?;
        Ok(CanaryRecord { version: self.app.number, rule })
    }

    /// Requests that ended since it began, and how many of them failed.
    pub(super) fn tally(&self) -> (u64, u64) {
        let (requests, failures) = self.app.tally.as_ref().map(|tally| tally.get()).unwrap_or_default();
        (requests.saturating_sub(self.since.0), failures.saturating_sub(self.since.1))
    }

    /// Why it has to end, if it has to.
    fn verdict(&self) -> Option<String> {
        let (requests, failures) = self.tally();
        is_failing(&self.rule, requests, failures).then(|| {
            format!("{failures} of {requests} requests failed, and {} % may", self.rule.failure_percent)
        })
    }
}

/// Whether too many requests have failed. Before it has had its least number of requests it is judged as if the ones
/// that are still to come would go well: one that can not recover is not waited for.
fn is_failing(rule: &CanaryRule, requests: u64, failures: u64) -> bool {
    let of = requests.max(u64::from(rule.requests_min)).max(1);
    failures > 0 && failures.saturating_mul(100) > of.saturating_mul(u64::from(rule.failure_percent))
}

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
        Ok(Deployed { app: app.to_owned(), version, active, before: active, unchanged: false })
    }

    fn promote(&self, actor: &Actor, app: &str) -> Result<Deployed, Refusal> {
        let mut apps = self.apps_lock();
        let mut next = find(&apps, actor, app)?.clone();
        let canary = next.canary.take().ok_or_else(|| no_canary(app))?;
        let (version, before) = (canary.app.number, next.record.active);
        let kept = find_version(&next, version)?;
        bounds::check_grants(actor, &next.spec, kept)?;
        next.spec = super::spec::Spec::read(&kept.settings)?;
        next.routes = next.spec.settings(app, &self.module_path("")?)?.routes;
        next.app = Some(canary.app);
        super::change::activate(&mut next.record, version);
        self.commit(&mut apps, vec![(app.to_owned(), Some(next))])?;
        self.tell(app, version, &format!("version {version} was a canary and serves everybody"));
        Ok(Deployed { app: app.to_owned(), version, active: Some(version), before, unchanged: false })
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
        let (version, before) = (active.unwrap_or_default(), Some(canary.version));
        Ok(Deployed { app: app.to_owned(), version, active, before, unchanged: false })
    }

    /// Ends the canaries that fail. True if there is any canary.
    fn look_at_canaries(&self) -> bool {
        let (any, failing): (bool, Vec<_>) = {
            let apps = self.apps_lock();
            let failing = |(name, hosted): (&String, &super::operator::Hosted)| {
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

/// What happens by itself.
pub(super) static SERVER: std::sync::LazyLock<Actor> =
    std::sync::LazyLock::new(|| Actor { name: "server".to_owned(), tenant: None });

fn no_canary(app: &str) -> Refusal {
    Refusal::new(RefusalKind::Conflict, format!("no canary of the app `{app}` is under way"))
}

impl Operator {
    /// Removes modules that no version needs.
    pub(super) fn collect(&self) {
        match self.store().ok().map(|store| store.collect()) {
            Some(Ok(count)) if count > 0 => {
                tracing::debug!(count, "modules that no version needs are removed")
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "modules that no version needs stay in the state folder");
            }
            _ => {}
        }
    }
}

/// Looks at canaries for as long as there is a server.
pub(super) fn watch(inner: &Arc<Inner>) -> std::io::Result<()> {
    let inner: Weak<Inner> = Arc::downgrade(inner);
    thread::Builder::new().name("hosting".into()).spawn(move || {
        let (mut patience, mut collected) = (IDLE_LOOK_EVERY, Instant::now());
        loop {
            thread::sleep(patience);
            let Some(inner) = inner.upgrade() else { return };
            let operator = Operator(inner);
            patience = if operator.look_at_canaries() { LOOK_EVERY } else { IDLE_LOOK_EVERY };
            if collected.elapsed() >= COLLECT_EVERY {
                operator.collect();
                collected = Instant::now();
            }
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_fails_when_it_can_not_recover() {
        let rule = CanaryRule { failure_percent: 10, requests_min: 20, ..CanaryRule::default() };
        for (requests, failures, failing) in [
            (0, 0, false),
            (1, 1, false),
            (2, 2, false),
            (3, 3, true),
            (20, 2, false),
            (20, 3, true),
            (1000, 100, false),
            (1000, 101, true),
        ] {
            assert_eq!(is_failing(&rule, requests, failures), failing, "{failures} of {requests}");
        }
        let strict = CanaryRule { failure_percent: 0, requests_min: 0, ..CanaryRule::default() };
        assert!(!is_failing(&strict, 100, 0) && is_failing(&strict, 100, 1));
        let never = CanaryRule { failure_percent: 100, requests_min: 0, ..CanaryRule::default() };
        assert!(!is_failing(&never, 5, 5));
    }
}
