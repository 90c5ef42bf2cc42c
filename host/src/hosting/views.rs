//! What is there: apps, versions and limits, as an actor may see them.

use serde_json::{Map, Value};
use tidegate_store::records::VersionRecord;

use super::hosted::{Hosted, find, may};
use super::operator::Operator;
use super::types::{Actor, AppView, CanaryView, KvView, Refusal, VersionView};

impl Operator {
    /// The apps that an actor may see.
    pub(crate) fn apps(&self, actor: &Actor) -> Result<Vec<AppView>, Refusal> {
        let apps = self.apps_lock();
        Ok(apps.values().filter(|hosted| may(actor, &hosted.record)).map(view).collect())
    }

    /// One of them.
    ///
    /// # Errors
    /// There is no such app, or it is not the actor's.
    pub(crate) fn app(&self, actor: &Actor, app: &str) -> Result<AppView, Refusal> {
        let mut view = find(&self.apps_lock(), actor, app).map(view)?;
        if !view.settings.contains_key("kv") {
            return Ok(view);
        }
        view.kv = self
            .deployer()
            .stock()
            .kv_usage(app)
            .map(|usage| KvView { keys: usage.keys, bytes: usage.bytes });
        Ok(view)
    }

    /// The versions of an app that are kept, the newest first.
    ///
    /// # Errors
    /// As for [`Self::app`].
    pub(crate) fn versions(&self, actor: &Actor, app: &str) -> Result<Vec<VersionView>, Refusal> {
        let apps = self.apps_lock();
        let hosted = find(&apps, actor, app)?;
        let record = &hosted.record;
        let state = |version: &VersionRecord| match version.number {
            number if record.active == Some(number) => "active",
            number if record.canary.as_ref().is_some_and(|canary| canary.version == number) => "canary",
            _ if version.failed.is_some() => "failed",
            _ => "kept",
        };
        let view = |version: &VersionRecord| VersionView {
            version: version.number,
            module: version.module.clone(),
            module_bytes: version.module_bytes,
            kind: version.facts.get("kind").and_then(Value::as_str).unwrap_or_default().to_lowercase(),
            created_ms: version.created_ms,
            by: version.by.clone(),
            note: version.note.clone(),
            state: state(version).to_owned(),
            reason: version.failed.clone(),
        };
        Ok(record.versions.iter().rev().map(view).collect())
    }

    /// The limits that an app's settings name.
    ///
    /// # Errors
    /// As for [`Self::app`].
    pub(crate) fn limits(&self, actor: &Actor, app: &str) -> Result<Map<String, Value>, Refusal> {
        find(&self.apps_lock(), actor, app).map(|hosted| hosted.spec.limits())
    }
}

fn view(hosted: &Hosted) -> AppView {
    let record = &hosted.record;
    let (running, waiting) = hosted.app.as_ref().map_or((0, 0), |app| app.seat.gate.counts());
    AppView {
        name: record.name.clone(),
        tenant: record.tenant.clone(),
        routes: hosted.routes.clone(),
        active: hosted.app.as_ref().map(|app| app.number),
        canary: hosted.canary.as_ref().map(|canary| {
            let (requests, failures) = canary.tally();
            CanaryView { version: canary.app.number, rule: canary.rule.clone(), requests, failures }
        }),
        versions: record.versions.len(),
        loaded: hosted.app.as_ref().is_some_and(|app| app.program.code().is_some()),
        running,
        waiting,
        origin: if record.manifest.is_some() { "manifest" } else { "deploy" }.to_owned(),
        settings: hosted.spec.to_json(),
        kv: None,
        problem: hosted.problem(),
    }
}
