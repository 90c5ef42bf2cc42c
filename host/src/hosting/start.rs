//! How a server that hosts apps starts: what was served when it ended is served again before the manifest is looked at.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use tidegate_proto::router::RouteError;
use tidegate_store::Store;
use tidegate_store::records::{AppRecord, VersionRecord};

use super::bounds::Bounds;
use super::hosted::{Apps, Hosted, find_version};
use super::operator::{Inner, Operator};
use super::routes::Taken;
use super::source::ManifestSource;
use super::spec::Spec;
use super::trial::Canary;
use super::types::{CanaryRule, Refusal};
use super::uploads::uploaded;
use super::watch::{self, Watch};
use crate::config::{AppSettings, Settings, TenantSettings};
use crate::server::{First, Notice, Server, Stock, birth, registry};
use crate::tenants::registry::{App, Registry};

/// A server that hosts apps, and its operator's side.
pub(crate) struct Hosting {
    pub(crate) server: Server,
    pub(crate) operator: Operator,
}

impl Hosting {
    /// Opens the state folder, serves what it says, and then applies the manifest.
    ///
    /// # Errors
    /// The folder can not be used, an address not be claimed, or the manifest not be applied.
    pub(crate) fn start(settings: Settings, manifest: Option<ManifestSource>) -> Result<Self> {
        let folder = settings.server.hosting_folder().context(
            "there is no folder for the apps: neither XDG_STATE_HOME nor HOME names one; `--state DIR` does",
        )?;
        let store = Store::open(&folder)?;
        let mut apps = Apps::new();
        let tenants = settings.tenants.clone();
        let server = Server::start_first(
            settings,
            First::Made(&mut |stock| {
                stock.keep_kv_in(&folder.join("kv.redb"));
                let (kept, registry) = kept(stock, &store)?;
                apps = kept;
                Ok(registry)
            }),
        )?;
        let inner = Inner {
            deployer: server.deployer(),
            store: Mutex::new(Some(Arc::new(store))),
            apps: Mutex::new(apps),
            releasing: AtomicBool::new(false),
            manifest,
            health: server.health(),
            numbers: Mutex::default(),
            bounds: Bounds::default(),
            tenants: Mutex::default(),
            applying: Mutex::default(),
            watch: Watch::default(),
        };
        let inner = Arc::new(inner);
        watch::start(&inner).context("cannot start a thread")?;
        let operator = Operator(inner);
        let hosting = Self { server, operator };
        if let Err(refusal) = hosting.prepare(&tenants) {
            hosting.server.stop();
            let _ = hosting.server.join();
            return Err(refusal.into());
        }
        Ok(hosting)
    }

    fn prepare(&self, tenants: &[TenantSettings]) -> Result<(), Refusal> {
        self.operator.set_tenants(tenants)?;
        if let Err(refusal) = self.operator.apply() {
            // What serves now goes on if this server does not start.
            if self.operator.apps_lock().is_empty() || birth::follows_another() {
                return Err(refusal);
            }
            // After a reboot at night, an app whose file is gone is not to keep all others down.
            for problem in refusal.message.lines() {
                tracing::error!(problem, "the manifest is not applied: what was served before goes on");
            }
        }
        if self.operator.apps_lock().is_empty() {
            // Nobody is to wait for what does not come.
            self.operator.deployer().install(Registry::empty());
        }
        self.operator.collect();
        Ok(())
    }
}

/// The apps of the store. One that can not be served is told in the log, and kept.
fn kept(stock: &Stock, store: &Store) -> Result<(Apps, Registry)> {
    let mut apps = Apps::new();
    for record in store.apps()? {
        let name = record.name.clone();
        let (mut hosted, served) = hosted(stock, store, record);
        if let Err(error) = served {
            let reason = format!("{error:#}");
            hosted.lacks = Some(reason.clone());
            match hosted.app {
                Some(_) => tracing::error!(app = name, reason, "the canary can not be served"),
                None => tracing::error!(
                    app = name,
                    reason,
                    "the app can not be served: `tidegate reload` tries again"
                ),
            }
        }
        apps.insert(name, hosted);
    }
    if apps.is_empty() {
        return Ok((apps, Registry::of_notice(starting())));
    }
    for (name, error) in part_ways(&mut apps) {
        tracing::error!(app = name, reason = %error, "the app can not be served: another one has its route");
    }
    let lacking: Vec<_> = apps.values().filter_map(Hosted::lacking).collect();
    let registry = registry(apps.values().filter_map(Hosted::entry).collect(), &lacking)?;
    Ok((apps, registry))
}

/// Where the routes of two apps contradict each other, the later one is not served: all others are. What nobody else has
/// of its routes stays its own.
fn part_ways(apps: &mut Apps) -> Vec<(String, RouteError)> {
    let mut taken = Taken::default();
    let mut out = Vec::new();
    for (name, hosted) in apps.iter_mut().filter(|(_, hosted)| hosted.has_routes()) {
        if let Err(error) = taken.insert(&hosted.routes) {
            hosted.app = None;
            hosted.canary = None;
            hosted.lacks = Some(format!("another app has its route: {error}"));
            out.push((name.clone(), error));
        }
    }
    out
}

fn starting() -> Notice {
    let text = "The server starts.\n".to_owned();
    let html = format!("<!doctype html><title>Starting</title><p>{text}");
    Notice { status: 503, code: "starting", html, text }
}

/// What is known of an app, and whether all of it can be served.
fn hosted(stock: &Stock, store: &Store, record: AppRecord) -> (Hosted, Result<()>) {
    let mut hosted = Hosted::new(&record.name, record.tenant.clone());
    hosted.record = record;
    let Some(active) = hosted.record.active else { return (hosted, Ok(())) };
    let served = serve_kept(stock, store, &mut hosted, active);
    (hosted, served)
}

fn serve_kept(stock: &Stock, store: &Store, hosted: &mut Hosted, active: u64) -> Result<()> {
    // Its settings first: they are its own, and its routes nobody else's, whatever keeps it from being served.
    let version = find_version(hosted, active)?.clone();
    hosted.spec = Spec::read(&version.settings)?;
    hosted.routes = hosted.spec.routes();
    let settings = settings_of(store, &hosted.spec, hosted, &version)?;
    hosted.routes.clone_from(&settings.routes);
    hosted.app = Some(cold(stock, hosted, active, settings)?);
    if let Some(record) = hosted.record.canary.clone() {
        let version = find_version(hosted, record.version)?;
        let settings = settings_of(store, &Spec::read(&version.settings)?, hosted, version)?;
        let app = cold(stock, hosted, record.version, settings)?;
        let rule: CanaryRule = serde_json::from_value(record.rule)?;
        hosted.canary = Some(Canary::new(app, rule)?);
    }
    Ok(())
}

fn settings_of(store: &Store, spec: &Spec, hosted: &Hosted, version: &VersionRecord) -> Result<AppSettings> {
    Ok(spec.settings(&hosted.record.name, &store.folder().join("wasm").join(&version.module))?)
}

fn cold(stock: &Stock, hosted: &Hosted, number: u64, settings: AppSettings) -> Result<Arc<App>> {
    let version = find_version(hosted, number)?;
    let hash = blake3::Hash::from_hex(&version.module)?;
    let facts = serde_json::from_value(version.facts.clone())?;
    let program = stock.cold(&settings, hash, facts, uploaded(&settings.source));
    let program = program.with_context(|| format!("version {number}"))?;
    Ok(stock.make(program, settings, hash, number, true))
}

#[cfg(test)]
mod tests {
    use tidegate_store::records::VersionRecord;

    use super::*;

    fn app(name: &str, http: bool, routes: &[&str]) -> (String, Hosted) {
        let mut hosted = Hosted::new(name, None);
        hosted.record.active = Some(1);
        hosted.record.versions.push(VersionRecord {
            number: 1,
            module: String::new(),
            module_bytes: 0,
            settings: String::new(),
            facts: serde_json::json!({ "http": http }),
            created_ms: 0,
            by: String::new(),
            note: None,
            failed: None,
        });
        hosted.routes = routes.iter().map(|&route| route.to_owned()).collect();
        (name.to_owned(), hosted)
    }

    #[test]
    fn of_two_with_the_same_route_one_is_served() {
        let apps = [
            app("a", true, &["a.test/*"]),
            app("b", true, &["b.test/*", "a.test/*"]),
            app("c", true, &["c.test/*"]),
            app("raw", false, &["c.test/*"]),
        ];
        let mut apps = Apps::from(apps);
        let out = part_ways(&mut apps);
        assert_eq!(out.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["b"]);
    }
}
