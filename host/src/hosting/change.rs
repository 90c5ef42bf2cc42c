//! How a change happens: checked whole, then durable, then served.

use std::path::PathBuf;
use std::sync::MutexGuard;

use tidegate_proto::router::RouteError;
use tidegate_store::Change;
use tidegate_store::records::{AppRecord, CanaryRecord, VersionRecord};

use super::operator::{Apps, Hosted, Operator};
use super::routes::{self, Land};
use super::types::{Refusal, RefusalKind};
use crate::server;

/// What becomes of an app. None: it goes.
pub(super) type Next = (String, Option<Hosted>);

impl Operator {
    /// Makes these changes, all of them or none. `apps` is what there is; `check` may still say no inside of the
    /// transaction, before anything is durable.
    ///
    /// # Errors
    /// Routes contradict each other, or it can not be made durable. Then what was there before goes on.
    pub(super) fn commit(&self, apps: &mut MutexGuard<'_, Apps>, changes: Vec<Next>) -> Result<(), Refusal> {
        let store = self.store()?;
        self.check_routes(&changes)?;
        let changed = |name: &String| changes.iter().any(|(other, _)| other == name);
        let kept = apps.iter().filter(|(name, _)| !changed(name)).map(|(_, hosted)| hosted);
        let next = || kept.clone().chain(changes.iter().filter_map(|(_, change)| change.as_ref()));
        let registry = server::registry(next().filter_map(Hosted::entry).collect());
        let registry = registry.map_err(|error| route_conflict(next(), &error))?;
        store.change(|kept: &mut Change<'_>| {
            for (name, change) in &changes {
                match change {
                    Some(hosted) => kept.put(&hosted.record)?,
                    None => drop(kept.remove(name)?),
                }
            }
            Ok::<_, Refusal>(())
        })?;
        self.deployer().install(registry);
        for (name, change) in changes {
            match change {
                Some(hosted) => drop(apps.insert(name, hosted)),
                None => drop(apps.remove(&name)),
            }
        }
        Ok(())
    }

    fn check_routes(&self, changes: &[Next]) -> Result<(), Refusal> {
        let lands = self.lands_lock();
        let lands: Vec<_> = lands.iter().map(|(tenant, routes)| Land { tenant, routes }).collect();
        for (name, hosted) in changes {
            if let Some(hosted) = hosted {
                routes::check(name, hosted.record.tenant.as_deref(), &hosted.routes, &lands)?;
            }
        }
        Ok(())
    }

    /// Where the module of a version is kept.
    ///
    /// # Errors
    /// Another process has the state folder.
    pub(super) fn module_path(&self, hash: &str) -> Result<PathBuf, Refusal> {
        Ok(self.store()?.folder().join("wasm").join(hash))
    }
}

/// The router says which two routes contradict each other; whose they are, is said here.
fn route_conflict<'a>(apps: impl Iterator<Item = &'a Hosted>, error: &anyhow::Error) -> Refusal {
    let Some(RouteError::Conflict { pattern, other }) = error.downcast_ref() else {
        return Refusal::new(RefusalKind::Invalid, format!("{error:#}"));
    };
    let of_either = |hosted: &&Hosted| hosted.routes.iter().any(|route| route == pattern || route == other);
    let mut names: Vec<_> =
        apps.filter(of_either).map(|hosted| format!("`{}`", hosted.record.name)).collect();
    names.sort_unstable();
    let message = match pattern == other {
        true => format!("the apps {} both have the route `{pattern}`", names.join(" and ")),
        false => format!("{error:#}: they are of the apps {}", names.join(" and ")),
    };
    Refusal::new(RefusalKind::Conflict, message).help("give one of them another route (`--route`)")
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
