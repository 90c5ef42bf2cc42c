//! An app that is hosted, at one time: what the store has of it, what of it serves, and how one becomes the next.
//!
//! All of it is data: a change is made of a clone, and is nothing before it is committed. It knows no store, no lock and no
//! workers. Invariant: what serves, and what served before, is not among the versions that go.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tidegate_store::records::{AppRecord, CanaryRecord, VersionRecord};

use super::spec::Spec;
use super::trial::Canary;
use super::types::{Actor, CanaryRule, Refusal, RefusalKind};
use crate::tenants::registry::{App, Entry, Lacking};

/// An app that is hosted.
#[derive(Clone)]
pub(super) struct Hosted {
    pub(super) record: AppRecord,
    /// The settings of the version that serves.
    pub(super) spec: Spec,
    pub(super) routes: Vec<String>,
    /// The version that serves. None: none does, or it can not be served and the log says why.
    pub(super) app: Option<Arc<App>>,
    pub(super) canary: Option<Canary>,
    /// Why what is to be served could not be when that was tried last.
    pub(super) lacks: Option<String>,
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
        Self { record, spec: Spec::first(), routes: Vec::new(), app: None, canary: None, lacks: None }
    }

    pub(super) fn entry(&self) -> Option<Entry> {
        let app = Arc::clone(self.app.as_ref()?);
        let canary = self.canary.as_ref().map(|canary| (Arc::clone(&canary.app), canary.chosen.clone()));
        Some(Entry { app, canary, routes: self.routes.clone() })
    }

    /// Whether requests are led to it by its routes, or would be if it could be served.
    pub(super) fn has_routes(&self) -> bool {
        match (&self.app, self.record.active.and_then(|active| self.version(active))) {
            (Some(app), _) => app.program.serves_http(),
            (None, Some(version)) => version.facts.get("http").and_then(Value::as_bool).unwrap_or(false),
            (None, None) => false,
        }
    }

    /// True if it is to be served and could not be when the server began.
    pub(super) fn is_lacking(&self) -> bool {
        self.app.is_none() && self.record.active.is_some()
    }

    /// True if that is so of this version.
    pub(super) fn lacks_version(&self, version: u64) -> bool {
        self.is_lacking() && self.record.active == Some(version)
    }

    /// Its routes, if it is to be served and can not be.
    pub(super) fn lacking(&self) -> Option<Lacking> {
        let lacks = self.is_lacking() && self.has_routes();
        lacks.then(|| Lacking { name: self.record.name.as_str().into(), routes: self.routes.clone() })
    }

    /// What keeps it, or its canary, from being served.
    pub(super) fn problem(&self) -> Option<String> {
        let lacks = || self.lacks.clone().unwrap_or_else(|| "the log says why".to_owned());
        match (&self.app, &self.record.canary, &self.canary) {
            (None, ..) if self.is_lacking() => Some(format!("it can not be served: {}", lacks())),
            (Some(_), Some(record), None) => {
                Some(format!("its canary, version {}, can not be served: {}", record.version, lacks()))
            }
            (Some(app), ..) => {
                app.program.slot.failure().map(|reason| format!("its code can not be loaded: {reason}"))
            }
            (None, ..) => None,
        }
    }

    pub(super) fn version(&self, number: u64) -> Option<&VersionRecord> {
        self.record.versions.iter().find(|version| version.number == number)
    }

    /// This version serves from now on, and no canary does. Returns the one that did.
    pub(super) fn serve(&mut self, made: &Made) -> Option<u64> {
        let ended = self.record.canary.as_ref().map(|canary| canary.version);
        activate(&mut self.record, made.app.number);
        self.spec = made.spec.clone();
        self.routes.clone_from(&made.routes);
        self.app = Some(Arc::clone(&made.app));
        self.canary = None;
        self.lacks = None;
        ended.filter(|ended| *ended != made.app.number)
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

/// All apps that are hosted, by name.
pub(super) type Apps = BTreeMap<String, Hosted>;

/// A version that can be served, and is not yet.
pub(super) struct Made {
    pub(super) app: Arc<App>,
    pub(super) record: VersionRecord,
    pub(super) spec: Spec,
    pub(super) routes: Vec<String>,
}

pub(super) fn may(actor: &Actor, record: &AppRecord) -> bool {
    actor.tenant.is_none() || actor.tenant == record.tenant
}

/// An app that an actor may see. Others' do not exist, so that nobody learns their names.
pub(super) fn find<'a>(apps: &'a Apps, actor: &Actor, app: &str) -> Result<&'a Hosted, Refusal> {
    apps.get(app).filter(|hosted| may(actor, &hosted.record)).ok_or_else(|| {
        let message = format!("there is no app `{}`", app.escape_default());
        Refusal::new(RefusalKind::NotFound, message).help("`tidegate apps` lists them")
    })
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

/// Adds a version to an app's record, and lets the oldest go that nobody needs.
pub(super) fn add_version(record: &mut AppRecord, version: VersionRecord, kept: usize) {
    record.next = record.next.max(version.number + 1);
    record.versions.push(version);
    record.versions.sort_by_key(|version| version.number);
    let needed = |record: &AppRecord, number: u64| {
        let canary = record.canary.as_ref().map(|canary: &CanaryRecord| canary.version);
        [record.active, record.before, canary].contains(&Some(number))
            || record.versions.last().is_some_and(|last| last.number == number)
    };
    while record.versions.len() > kept {
        let Some(at) = record.versions.iter().position(|version| !needed(record, version.number)) else {
            return;
        };
        record.versions.remove(at);
    }
}

/// Makes a version the one that serves.
pub(super) fn activate(record: &mut AppRecord, number: u64) {
    if record.active != Some(number) {
        record.before = record.active;
        record.active = Some(number);
    }
    record.canary = None;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u64) -> VersionRecord {
        VersionRecord {
            number,
            module: String::new(),
            module_bytes: 0,
            settings: String::new(),
            facts: serde_json::Value::Null,
            created_ms: 0,
            by: String::new(),
            note: None,
            failed: None,
        }
    }

    fn numbers(record: &AppRecord) -> Vec<u64> {
        record.versions.iter().map(|version| version.number).collect()
    }

    #[test]
    fn what_is_lacking_is_the_version_that_is_to_serve() {
        let mut hosted = Hosted::new("a", None);
        assert!(!hosted.is_lacking() && !hosted.lacks_version(1));
        activate(&mut hosted.record, 1);
        assert!(hosted.lacks_version(1) && !hosted.lacks_version(2));
        // Whoever chose another one meanwhile is not overruled by who tries the first again.
        activate(&mut hosted.record, 2);
        assert!(!hosted.lacks_version(1) && hosted.lacks_version(2));
    }

    #[test]
    fn what_serves_and_what_served_before_is_kept() {
        let mut record = AppRecord {
            name: "a".into(),
            tenant: None,
            active: None,
            before: None,
            canary: None,
            next: 1,
            versions: Vec::new(),
            manifest: None,
        };
        for number in 1..=3 {
            add_version(&mut record, version(number), 3);
            activate(&mut record, number);
        }
        assert_eq!((record.active, record.before, record.next), (Some(3), Some(2), 4));
        // Back to the oldest: it and the one before are needed, and so is whatever is new.
        activate(&mut record, 1);
        add_version(&mut record, version(4), 3);
        assert_eq!(numbers(&record), [1, 3, 4]);
        record.canary = Some(CanaryRecord { version: 4, rule: serde_json::Value::Null });
        add_version(&mut record, version(5), 3);
        assert_eq!(numbers(&record), [1, 3, 4, 5], "more are needed than are to be kept");
        activate(&mut record, 1);
        assert_eq!((record.active, record.before, &record.canary), (Some(1), Some(3), &None));
    }
}
