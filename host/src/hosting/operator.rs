//! The operator's side of a server that hosts apps: what it is asked to do, and what it shows.
//!
//! Changes happen one after the other. Each is checked whole, then durable, then served: whoever kills the process at any
//! moment finds the state before or after it. What takes long, compiling for one, happens before, beside other changes.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tidegate_store::records::{AppRecord, VersionRecord};
use tidegate_store::{AuditRecord, ReceiveError, Store, StoreError};

use super::bounds::Bounds;
use super::canary::Canary;
use super::manifest::ManifestSource;
use super::spec::Spec;
use super::types::{Actor, AppView, CanaryView, KvView, Refusal, RefusalKind, VersionView};
use crate::config::{TenantSettings, check_app_name};
use crate::server::{Deployer, Health};
use crate::tenants::registry::{App, Entry};

/// How often it is looked whether an upload that is under way has ended.
const RELEASE_POLL: Duration = Duration::from_millis(5);
/// Bytes of a reason in the audit and the log.
const REASON_BYTES_MAX: usize = 2048;

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
}

impl Hosted {
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

    pub(super) fn version(&self, number: u64) -> Option<&VersionRecord> {
        self.record.versions.iter().find(|version| version.number == number)
    }
}

/// All apps that are hosted, by name.
pub(super) type Apps = BTreeMap<String, Hosted>;

/// What the operator's side of one server is.
pub(super) struct Inner {
    pub(super) deployer: Deployer,
    /// None while another process has it.
    pub(super) store: Mutex<Option<Arc<Store>>>,
    /// Another process is to have the store: what holds it up ends.
    pub(super) releasing: AtomicBool,
    /// Whoever changes something holds this from the check to the end.
    pub(super) apps: Mutex<Apps>,
    pub(super) manifest: Option<ManifestSource>,
    pub(super) health: Health,
    /// The last version's number that was given, by app.
    pub(super) numbers: Mutex<HashMap<String, u64>>,
    pub(super) bounds: Bounds,
    pub(super) tenants: Mutex<Vec<TenantSettings>>,
    /// Held by who applies the manifest, one at a time: who read it later has the last word.
    pub(super) applying: Mutex<()>,
}

/// The operator's side. Clones are of the same server.
#[derive(Clone)]
pub(crate) struct Operator(pub(super) Arc<Inner>);

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operator").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Operator {
    pub(super) fn apps_lock(&self) -> MutexGuard<'_, Apps> {
        lock(&self.0.apps)
    }

    pub(super) fn numbers_lock(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        lock(&self.0.numbers)
    }

    pub(super) fn tenants_lock(&self) -> MutexGuard<'_, Vec<TenantSettings>> {
        lock(&self.0.tenants)
    }

    pub(super) fn applying_lock(&self) -> MutexGuard<'_, ()> {
        lock(&self.0.applying)
    }

    pub(super) fn deployer(&self) -> &Deployer {
        &self.0.deployer
    }

    /// # Errors
    /// Another process has the state folder.
    pub(super) fn store(&self) -> Result<Arc<Store>, Refusal> {
        let store = lock(&self.0.store).clone();
        store.ok_or_else(hands_over)
    }

    /// Lets go of the state folder, for another process. Reading goes on, changes are refused.
    pub(crate) fn release(&self) {
        // An upload may take hours.
        self.0.releasing.store(true, Ordering::Release);
        // Whoever changes something finishes first.
        let _apps = self.apps_lock();
        let Some(mut store) = lock(&self.0.store).take() else { return };
        // Uploads and reads that are under way end soon; none begins any more.
        loop {
            store = match Arc::try_unwrap(store) {
                Ok(store) => return store.release(),
                Err(shared) => shared,
            };
            std::thread::sleep(RELEASE_POLL);
        }
    }

    /// Takes the state folder back.
    ///
    /// # Errors
    /// Somebody else has it, or it can not be read.
    pub(crate) fn take_back(&self) -> anyhow::Result<()> {
        let Some(folder) = self.deployer().shared().settings.hosting_folder() else { return Ok(()) };
        let store = Store::open(&folder)?;
        self.0.releasing.store(false, Ordering::Release);
        *lock(&self.0.store) = Some(Arc::new(store));
        Ok(())
    }

    /// Notes who did what. A disk that is full hides nothing: then the log has it alone.
    pub(super) fn note<T>(
        &self,
        actor: &Actor,
        action: &str,
        app: Option<&str>,
        version: Option<u64>,
        done: &Result<T, Refusal>,
    ) {
        self.note_about(actor, action, app, version, None, done);
    }

    /// The same with what it was about, where that is neither an app nor a version.
    pub(super) fn note_about<T>(
        &self,
        actor: &Actor,
        action: &str,
        app: Option<&str>,
        version: Option<u64>,
        about: Option<&str>,
        done: &Result<T, Refusal>,
    ) {
        let refused = done.as_ref().err().map(|refusal| shortened(&refusal.message));
        let detail = refused.or_else(|| about.map(shortened));
        let by = &*actor.name;
        match done {
            Ok(_) => tracing::info!(by, app, version, detail, "{action}"),
            Err(_) => tracing::warn!(by, app, version, reason = detail, "{action}: refused"),
        }
        let record = AuditRecord {
            at_ms: now_ms(),
            by: by.to_owned(),
            action: action.to_owned(),
            app: app.map(str::to_owned),
            version,
            ok: done.is_ok(),
            detail,
        };
        if let Ok(store) = self.store()
            && let Err(error) = store.audit(&record)
        {
            tracing::error!(%error, "the audit record can not be written");
        }
    }

    /// Takes a module in. It is checked when it is deployed.
    ///
    /// # Errors
    /// It is larger than it may be, the disk is full, or reading it failed.
    pub(crate) fn receive_module(
        &self,
        actor: &Actor,
        read: &mut dyn Read,
        declared: Option<u64>,
    ) -> Result<(String, u64), Refusal> {
        let bytes_max = self.deployer().shared().settings.module_bytes_max;
        let too_large = || {
            Refusal::new(RefusalKind::TooLarge, format!("the module is larger than {bytes_max} bytes"))
                .help("`module_bytes` in `[server]` of the server's manifest says how large one may be")
        };
        if declared.is_some_and(|declared| declared > bytes_max) {
            return Err(too_large());
        }
        if let Some(tenant) = &actor.tenant {
            self.0.bounds.check_upload(tenant, declared.unwrap_or(bytes_max), bytes_max, Instant::now())?;
        }
        let read = &mut Interrupted { read, by: &self.0.releasing };
        let file = self.store()?.receive_module(read, bytes_max).map_err(|error| match error {
            ReceiveError::Read(_) if self.0.releasing.load(Ordering::Acquire) => hands_over(),
            ReceiveError::TooLarge { .. } => too_large(),
            ReceiveError::Read(_) => Refusal::new(RefusalKind::Invalid, error.to_string()),
            ReceiveError::DiskFull { .. } => Refusal::new(RefusalKind::DiskFull, error.to_string()),
            ReceiveError::Io { .. } => Refusal::new(RefusalKind::Internal, error.to_string()),
        })?;
        if let Some(tenant) = &actor.tenant {
            self.0.bounds.uploaded(tenant, &file.hash, file.bytes, Instant::now());
        }
        Ok((file.hash, file.bytes))
    }

    /// Whether a module was taken in before, as far as an actor may know, and is what it was: one that is damaged is to
    /// be uploaded again.
    pub(crate) fn has_module(&self, actor: &Actor, hash: &str) -> bool {
        self.may_use(actor, hash) && self.store().is_ok_and(|store| is_whole(&store, hash))
    }

    /// Whether an actor may make a version of a module: a tenant has uploaded it since the server began, or has it.
    /// Otherwise one would learn what another runs, and could run it, too.
    pub(super) fn may_use(&self, actor: &Actor, hash: &str) -> bool {
        let Some(tenant) = &actor.tenant else { return true };
        let own = |hosted: &Hosted| {
            hosted.record.tenant == actor.tenant
                && hosted.record.versions.iter().any(|version| version.module == hash)
        };
        self.0.bounds.has_uploaded(tenant, hash) || self.apps_lock().values().any(own)
    }

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

    /// The last audit records, the newest last.
    ///
    /// # Errors
    /// The actor is a tenant's, or they can not be read.
    pub(crate) fn audit(&self, actor: &Actor, lines: usize) -> Result<Vec<Value>, Refusal> {
        operator_only(actor)?;
        Ok(self.store()?.audit_tail(lines)?)
    }
}

fn is_whole(store: &Store, hash: &str) -> bool {
    let Ok(Some(file)) = store.open_module(hash) else { return false };
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).is_ok_and(|hasher| hasher.finalize().to_hex().as_str() == hash)
}

fn hands_over() -> Refusal {
    let message = "this server hands over to another one: nothing is changed meanwhile";
    Refusal::new(RefusalKind::Unavailable, message).help("try again in a moment")
}

/// Reads until something else is more important.
struct Interrupted<'a> {
    read: &'a mut dyn Read,
    by: &'a AtomicBool,
}

impl Read for Interrupted<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.by.load(Ordering::Acquire) {
            return Err(std::io::Error::other("it was given up"));
        }
        self.read.read(into)
    }
}

/// Some things are not for tenants.
pub(super) fn operator_only(actor: &Actor) -> Result<(), Refusal> {
    match actor.tenant {
        None => Ok(()),
        Some(_) => Err(Refusal::new(RefusalKind::Forbidden, "this is for the server's operator alone")),
    }
}

fn may(actor: &Actor, record: &AppRecord) -> bool {
    actor.tenant.is_none() || actor.tenant == record.tenant
}

/// An app that an actor may see. Others' do not exist, so that nobody learns their names.
pub(super) fn find<'a>(apps: &'a Apps, actor: &Actor, app: &str) -> Result<&'a Hosted, Refusal> {
    apps.get(app).filter(|hosted| may(actor, &hosted.record)).ok_or_else(|| {
        let message = format!("there is no app `{}`", app.escape_default());
        Refusal::new(RefusalKind::NotFound, message).help("`tidegate apps` lists them")
    })
}

/// Checks the name of an app that is to be.
pub(super) fn check_name(app: &str) -> Result<(), Refusal> {
    check_app_name(app).map_err(|error| Refusal {
        kind: RefusalKind::Invalid,
        message: error.message,
        help: error.help,
    })
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
    }
}

/// What is kept of a reason: it may repeat what a client sent.
fn shortened(text: &str) -> String {
    match text.get(..text.floor_char_boundary(REASON_BYTES_MAX)) {
        Some(front) if front.len() < text.len() => format!("{front} ..."),
        _ => text.to_owned(),
    }
}

pub(super) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        if error.is_disk_full() {
            return Self::new(RefusalKind::DiskFull, error.to_string())
                .help("make room where the state folder is, and try again: nothing has changed");
        }
        let kind = match error {
            StoreError::NoModule { .. } => RefusalKind::NotFound,
            _ => RefusalKind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}
