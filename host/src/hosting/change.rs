//! How a change happens: checked whole, then durable, then served.

use std::sync::MutexGuard;

use tidegate_proto::router::RouteError;
use tidegate_store::Change;

use super::hosted::{Apps, Hosted};
use super::operator::Operator;
use super::routes::{self, Land, Taken};
use super::shares;
use super::types::{Refusal, RefusalKind};
use crate::server;
use crate::tenants::registry::Registry;

/// What becomes of an app. None: it goes.
pub(super) type Next = (String, Option<Hosted>);

impl Operator {
    /// Makes these changes, all of them or none: durable first, then served. `apps` is what there is, and is held until
    /// every worker has taken the change up.
    ///
    /// # Errors
    /// Routes contradict each other, or it can not be made durable. Then what was there before goes on.
    pub(super) fn commit(&self, apps: &mut MutexGuard<'_, Apps>, changes: Vec<Next>) -> Result<(), Refusal> {
        let store = self.store()?;
        self.check_routes(apps, &changes)?;
        shares::check(&self.tenants_lock(), apps, &changes)?;
        let registry = registry_with(apps, &changes)?;
        store.change(|kept: &mut Change<'_>| {
            for (name, change) in &changes {
                match change {
                    Some(hosted) => kept.put(&hosted.record)?,
                    None => drop(kept.remove(name)?),
                }
            }
            Ok::<_, Refusal>(())
        })?;
        self.install(apps, changes, registry);
        Ok(())
    }

    /// Serves what can not be made durable now, because it has to be served: what is on the disk follows with the app's
    /// next change.
    ///
    /// # Errors
    /// Routes contradict each other.
    pub(super) fn serve_only(
        &self,
        apps: &mut MutexGuard<'_, Apps>,
        changes: Vec<Next>,
    ) -> Result<(), Refusal> {
        let registry = registry_with(apps, &changes)?;
        self.install(apps, changes, registry);
        Ok(())
    }

    fn install(&self, apps: &mut MutexGuard<'_, Apps>, changes: Vec<Next>, registry: Registry) {
        self.deployer().install(registry);
        if changes.iter().any(|(_, next)| next.as_ref().is_some_and(|next| next.canary.is_some())) {
            self.0.watch.wake();
        }
        for (name, change) in changes {
            match change {
                Some(hosted) => drop(apps.insert(name, hosted)),
                None => drop(apps.remove(&name)),
            }
        }
    }

    fn check_routes(&self, apps: &Apps, changes: &[Next]) -> Result<(), Refusal> {
        let tenants = self.tenants_lock();
        let lands: Vec<_> = tenants.iter().map(Land::of).collect();
        for (name, hosted) in changes {
            // The end of a canary is not refused for what its app has had all along.
            let is_as_before = |hosted: &Hosted| {
                let before = apps.get(name);
                before.is_some_and(|before| {
                    (before.record.active, &before.routes) == (hosted.record.active, &hosted.routes)
                })
            };
            if let Some(hosted) = hosted.as_ref().filter(|hosted| !is_as_before(hosted)) {
                routes::check(name, hosted.record.tenant.as_deref(), &hosted.routes, &lands)?;
            }
        }
        Ok(())
    }
}

/// What is served with these changes.
fn registry_with(apps: &Apps, changes: &[Next]) -> Result<Registry, Refusal> {
    let changed = |name: &String| changes.iter().any(|(other, _)| other == name);
    let kept = apps.iter().filter(|(name, _)| !changed(name)).map(|(_, hosted)| hosted);
    let next = || kept.clone().chain(changes.iter().filter_map(|(_, change)| change.as_ref()));
    let lacking: Vec<_> = next().filter_map(Hosted::lacking).collect();
    let registry = server::registry(next().filter_map(Hosted::entry).collect(), &lacking);
    let registry = registry.map_err(|error| route_conflict(next(), changes, &error))?;
    check_unserved(next(), changes)?;
    Ok(registry)
}

/// An app that can not be served for now keeps its routes: the router gives way to whoever is served.
fn check_unserved<'a>(next: impl Iterator<Item = &'a Hosted>, changes: &[Next]) -> Result<(), Refusal> {
    let is_changed = |name: &String| changes.iter().any(|(changed, _)| changed == name);
    let unserved = next.filter(|hosted| hosted.app.is_none() && hosted.has_routes());
    for other in unserved.filter(|other| !is_changed(&other.record.name)) {
        for hosted in changes.iter().filter_map(|(_, change)| change.as_ref()).filter(|app| app.has_routes())
        {
            let mut taken = Taken::default();
            // Where its own contradict each other it is not this change that makes them.
            let _ = taken.insert(&other.routes);
            if let Err(error) = taken.insert(&hosted.routes) {
                let (name, owner) = (&hosted.record.name, told(other, changes));
                let message = format!(
                    "{error}: they are of the apps `{name}` and {owner}, which can not be served now"
                );
                return Err(Refusal::new(RefusalKind::Conflict, message)
                    .help("give one of them another route (`--route`)"));
            }
        }
    }
    Ok(())
}

/// What an app is called to whoever makes these changes: where they are of a tenant alone, it may be that one who asks, and
/// learns no name of anybody else's.
fn told(hosted: &Hosted, changes: &[Next]) -> String {
    let mut changed = changes.iter().filter_map(|(_, next)| Some(&next.as_ref()?.record.tenant));
    match changed.all(|tenant| tenant.is_some() && *tenant != hosted.record.tenant) {
        true => "somebody else's".to_owned(),
        false => format!("`{}`", hosted.record.name),
    }
}

/// The router says which two routes contradict each other; whose they are, is said here.
fn route_conflict<'a>(
    apps: impl Iterator<Item = &'a Hosted>,
    changes: &[Next],
    error: &anyhow::Error,
) -> Refusal {
    let Some(RouteError::Conflict { pattern, other }) = error.downcast_ref() else {
        return Refusal::new(RefusalKind::Invalid, format!("{error:#}"));
    };
    let of_either = |hosted: &&Hosted| hosted.routes.iter().any(|route| route == pattern || route == other);
    let mut names: Vec<_> = apps.filter(of_either).map(|hosted| told(hosted, changes)).collect();
    names.sort_unstable();
    let message = match pattern == other {
        true => format!("the apps {} both have the route `{pattern}`", names.join(" and ")),
        false => format!("{error:#}: they are of the apps {}", names.join(" and ")),
    };
    Refusal::new(RefusalKind::Conflict, message).help("give one of them another route (`--route`)")
}

#[cfg(test)]
mod tests {
    use tidegate_store::records::VersionRecord;

    use super::*;

    fn app(name: &str, tenant: Option<&str>) -> Hosted {
        let mut hosted = Hosted::new(name, tenant.map(str::to_owned));
        hosted.record.active = Some(1);
        hosted.record.versions.push(VersionRecord {
            number: 1,
            module: String::new(),
            module_bytes: 0,
            settings: String::new(),
            facts: serde_json::json!({ "http": true }),
            created_ms: 0,
            by: String::new(),
            note: None,
            failed: None,
        });
        hosted.routes = vec!["a.test/*".to_owned()];
        hosted
    }

    #[test]
    fn a_tenant_whose_route_is_taken_learns_no_name() {
        let there = [app("theirs", Some("other")), app("ours", None), app("own", Some("acme"))];
        let error: anyhow::Error =
            RouteError::Conflict { pattern: "a.test/*".to_owned(), other: "a.test/*".to_owned() }.into();
        for (tenant, known) in [(Some("acme"), &["own"][..]), (None, &["theirs", "ours", "own"])] {
            let changes = [("new".to_owned(), Some(app("new", tenant)))];
            for other in &there {
                let one = || std::iter::once(other);
                let refusals =
                    [check_unserved(one(), &changes).unwrap_err(), route_conflict(one(), &changes, &error)];
                let name = &other.record.name;
                for refusal in refusals {
                    let says = refusal.message.contains(&format!("`{name}`"));
                    assert_eq!(says, known.contains(&name.as_str()), "{tenant:?}: {refusal}");
                    assert!(says || refusal.message.contains("somebody else's"), "{refusal}");
                }
            }
        }
    }
}
