//! What all apps of a tenant may take up of the server's memory and disk: how many there are, and the bytes of the modules
//! that are kept for them.
//!
//! It must never know who asks: the limits hold for what a tenant deploys, for what is deployed for it, and for a manifest
//! alike. Invariant: who has more than a limit that came later keeps it; what is refused is to take more.

use std::collections::HashMap;

use super::change::Next;
use super::hosted::{Apps, Hosted};
use super::types::{Refusal, RefusalKind};
use crate::config::{Given, TenantSettings};

/// What the apps of one tenant take up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Holdings {
    apps: u64,
    module_bytes: u64,
}

impl Holdings {
    /// A module that several versions are made of is there once.
    fn of<'a>(apps: impl Iterator<Item = &'a Hosted>) -> Self {
        let (mut count, mut modules) = (0, HashMap::new());
        for hosted in apps {
            count += 1;
            let versions = hosted.record.versions.iter();
            modules.extend(versions.map(|version| (version.module.as_str(), version.module_bytes)));
        }
        Self { apps: count, module_bytes: modules.into_values().fold(0, u64::saturating_add) }
    }
}

/// Checks what tenants will have with these changes.
///
/// # Errors
/// One would have more than before, and more than it may.
pub(super) fn check(tenants: &[TenantSettings], apps: &Apps, changes: &[Next]) -> Result<(), Refusal> {
    for tenant in tenants {
        let is_its = |hosted: &&Hosted| hosted.record.tenant.as_ref() == Some(&tenant.name);
        let next = || changes.iter().filter_map(|(_, change)| change.as_ref()).filter(is_its);
        if next().next().is_none() {
            continue;
        }
        let stays = |name: &&String| changes.iter().all(|(changed, _)| changed != *name);
        // In this order: a manifest may change thousands of apps of many tenants.
        let kept = apps.iter().filter(|(_, hosted)| is_its(hosted)).filter(|(name, _)| stays(name));
        let kept = kept.map(|(_, hosted)| hosted);
        let before = Holdings::of(apps.values().filter(is_its));
        let after = Holdings::of(kept.chain(next()));
        if after.apps > before.apps {
            check_apps(tenant, after.apps)?;
        }
        if after.module_bytes > before.module_bytes {
            check_modules(tenant, after.module_bytes)?;
        }
    }
    Ok(())
}

/// Checks that a tenant may have an app more, before that is made.
///
/// # Errors
/// It has as many as it may.
pub(super) fn check_one_more(tenants: &[TenantSettings], apps: &Apps, name: &str) -> Result<(), Refusal> {
    let Some(tenant) = tenants.iter().find(|tenant| tenant.name == name) else { return Ok(()) };
    let its = apps.values().filter(|hosted| hosted.record.tenant.as_deref() == Some(name)).count();
    check_apps(tenant, its as u64 + 1)
}

fn check_apps(tenant: &TenantSettings, apps: u64) -> Result<(), Refusal> {
    let Some(most) = tenant.limits.apps.filter(|most| apps > u64::from(*most)) else { return Ok(()) };
    let message = format!("the tenant `{}` may have {most} apps, and would have {apps}", tenant.name);
    Err(Refusal::new(RefusalKind::Conflict, message).help(
        "remove one first (`tidegate apps remove APP`); the server's operator may raise `apps` in the `limits` of \
         `[[tenant]]`",
    ))
}

fn check_modules(tenant: &TenantSettings, bytes: u64) -> Result<(), Refusal> {
    let Some(most) = tenant.limits.module_bytes.filter(|most| bytes > *most) else { return Ok(()) };
    let message = format!(
        "the modules of the tenant `{}` may have {}, and would have {}, with those of all versions that are kept",
        tenant.name,
        Given::size_told(most),
        Given::size_told(bytes)
    );
    Err(Refusal::new(RefusalKind::Conflict, message).help(
        "remove an app that is not needed; the server's operator may raise `modules` in the `limits` of `[[tenant]]`, \
         or lower `keep` in `[server]`",
    ))
}

#[cfg(test)]
mod tests {
    use tidegate_store::records::VersionRecord;

    use super::*;

    fn app(name: &str, tenant: &str, modules: &[(&str, u64)]) -> (String, Hosted) {
        let mut hosted = Hosted::new(name, Some(tenant.to_owned()));
        for (number, (module, bytes)) in (1..).zip(modules) {
            hosted.record.versions.push(VersionRecord {
                number,
                module: (*module).to_owned(),
                module_bytes: *bytes,
                settings: String::new(),
                facts: serde_json::Value::Null,
                created_ms: 0,
                by: String::new(),
                note: None,
                failed: None,
            });
        }
        (name.to_owned(), hosted)
    }

    fn tenant(name: &str, apps: u32, module_bytes: u64) -> TenantSettings {
        let mut tenant = TenantSettings::new(name.to_owned());
        (tenant.limits.apps, tenant.limits.module_bytes) = (Some(apps), Some(module_bytes));
        tenant
    }

    fn put((name, hosted): (String, Hosted)) -> Next {
        (name, Some(hosted))
    }

    #[test]
    fn a_tenant_has_so_many_apps_and_no_more() {
        let tenants = [tenant("acme", 2, 1000), tenant("other", 100, 1000)];
        let mut apps = Apps::from([app("a", "acme", &[]), app("x", "other", &[])]);
        let next = |name: &str| vec![put(app(name, "acme", &[]))];
        assert!(
            check(&tenants, &apps, &next("b")).is_ok() && check_one_more(&tenants, &apps, "acme").is_ok()
        );
        apps.extend([app("b", "acme", &[])]);
        let refusal = check(&tenants, &apps, &next("c")).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Conflict);
        assert!(refusal.message.contains("`acme` may have 2 apps") && refusal.help.is_some(), "{refusal}");
        assert_eq!(check_one_more(&tenants, &apps, "acme"), Err(refusal));
        // One that is there already is none more, and one for another; nor is it anybody else's business.
        assert!(check(&tenants, &apps, &next("b")).is_ok());
        let swap = vec![("a".to_owned(), None), put(app("c", "acme", &[]))];
        assert!(check(&tenants, &apps, &swap).is_ok());
        assert!(check(&tenants, &apps, &[put(app("y", "other", &[]))]).is_ok());
        // A limit that came later takes nothing away.
        assert!(check(&[tenant("acme", 1, 1000)], &apps, &next("b")).is_ok());
    }

    #[test]
    fn modules_of_all_versions_count_each_once() {
        let tenants = [tenant("acme", 100, 1000)];
        let apps = Apps::from([app("a", "acme", &[("one", 600), ("one", 600)]), app("b", "acme", &[])]);
        let with = |modules: &[(&str, u64)]| check(&tenants, &apps, &[put(app("b", "acme", modules))]);
        assert!(with(&[("one", 600), ("two", 400)]).is_ok());
        let refusal = with(&[("two", 401)]).unwrap_err();
        assert!(refusal.message.contains("`acme` may have 1000 B"), "{refusal}");
        let less = put(app("a", "acme", &[("three", 600)]));
        assert!(check(&[tenant("acme", 100, 1)], &apps, &[less]).is_ok(), "it is not more than before");
    }
}
