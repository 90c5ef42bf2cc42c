//! The operator's side of a server that hosts apps: what all of it stands on.
//!
//! Changes happen one after the other. Each is checked whole, then durable, then served: whoever kills the process at any
//! moment finds the state before or after it. What takes long, compiling for one, happens before, beside other changes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_store::{Store, StoreError};

use super::bounds::Bounds;
use super::hosted::Apps;
use super::source::ManifestSource;
use super::types::{Actor, Refusal, RefusalKind};
use super::watch::Watch;
use crate::config::TenantSettings;
use crate::server::{Deployer, Health};

/// How often it is looked whether an upload that is under way has ended.
const RELEASE_POLL: Duration = Duration::from_millis(5);

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
    pub(super) watch: Watch,
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
}

pub(super) fn hands_over() -> Refusal {
    let message = "this server hands over to another one: nothing is changed meanwhile";
    Refusal::new(RefusalKind::Unavailable, message).help("try again in a moment")
}

/// Some things are not for tenants.
pub(super) fn operator_only(actor: &Actor) -> Result<(), Refusal> {
    match actor.tenant {
        None => Ok(()),
        Some(_) => Err(Refusal::new(RefusalKind::Forbidden, "this is for the server's operator alone")),
    }
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
