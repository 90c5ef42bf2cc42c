//! How a server that hosts apps starts: what was served when it ended is served again before the manifest is looked at.

use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use tidegate_store::Store;
use tidegate_store::records::AppRecord;

use super::canary::{self, Canary};
use super::deploy::find_version;
use super::manifest::ManifestSource;
use super::operator::{Apps, Hosted, Inner, Operator};
use super::spec::Spec;
use super::types::CanaryRule;
use crate::config::Settings;
use crate::guest::program::CodeSource;
use crate::server::{First, Notice, Server, Stock, registry};
use crate::tenants::registry::{App, Registry};

/// A module as it was uploaded.
#[derive(Debug)]
struct Uploaded(std::path::PathBuf);

impl CodeSource for Uploaded {
    fn wasm(&self) -> anyhow::Result<Vec<u8>> {
        std::fs::read(&self.0).with_context(|| format!("`{}`", self.0.display()))
    }
}

/// What reads the module of a version again.
pub(super) fn uploaded(path: &Path) -> Arc<dyn CodeSource> {
    Arc::new(Uploaded(path.to_owned()))
}

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
            manifest,
            health: server.health(),
            numbers: Mutex::default(),
            uploads: Mutex::default(),
            lands: Mutex::default(),
        };
        let inner = Arc::new(inner);
        canary::watch(&inner).context("cannot start a thread")?;
        let operator = Operator(inner);
        let hosting = Self { server, operator };
        if let Err(refusal) = hosting.prepare(&tenants) {
            hosting.server.stop();
            let _ = hosting.server.join();
            return Err(refusal.into());
        }
        Ok(hosting)
    }

    fn prepare(&self, tenants: &[crate::config::TenantSettings]) -> Result<(), super::types::Refusal> {
        self.operator.set_tenants(tenants)?;
        self.operator.apply()?;
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
        let hosted = hosted(stock, store, record);
        if let Some(Err(error)) = hosted.1 {
            tracing::error!(app = name, reason = format!("{error:#}"), "the app can not be served");
        }
        apps.insert(name, hosted.0);
    }
    let entries: Vec<_> = apps.values().filter_map(Hosted::entry).collect();
    if apps.is_empty() {
        return Ok((apps, Registry::of_notice(starting())));
    }
    let registry = registry(entries)?;
    Ok((apps, registry))
}

fn starting() -> Notice {
    let text = "The server starts.\n".to_owned();
    Notice { status: 503, html: format!("<!doctype html><title>Starting</title><p>{text}"), text }
}

fn hosted(stock: &Stock, store: &Store, record: AppRecord) -> (Hosted, Option<Result<()>>) {
    let mut hosted = Hosted::new(&record.name, record.tenant.clone());
    hosted.record = record;
    let Some(active) = hosted.record.active else { return (hosted, None) };
    let served = serve_kept(stock, store, &mut hosted, active);
    (hosted, Some(served))
}

fn serve_kept(stock: &Stock, store: &Store, hosted: &mut Hosted, active: u64) -> Result<()> {
    let (app, spec, routes) = cold(stock, store, hosted, active)?;
    hosted.spec = spec;
    hosted.routes = routes;
    hosted.app = Some(app);
    if let Some(record) = hosted.record.canary.clone() {
        let (app, ..) = cold(stock, store, hosted, record.version)?;
        let rule: CanaryRule = serde_json::from_value(record.rule)?;
        hosted.canary = Some(Canary::new(app, rule)?);
    }
    Ok(())
}

fn cold(stock: &Stock, store: &Store, hosted: &Hosted, number: u64) -> Result<(Arc<App>, Spec, Vec<String>)> {
    let name = &hosted.record.name;
    let version = find_version(hosted, number)?;
    let path = store.folder().join("wasm").join(&version.module);
    let spec = Spec::read(&version.settings)?;
    let settings = spec.settings(name, &path)?;
    let routes = settings.routes.clone();
    let hash = blake3::Hash::from_hex(&version.module)?;
    let facts = serde_json::from_value(version.facts.clone())?;
    let program = stock.cold(&settings, hash, facts, uploaded(&path));
    let program = program.with_context(|| format!("version {number}"))?;
    Ok((stock.make(program, settings, hash, number, true), spec, routes))
}
