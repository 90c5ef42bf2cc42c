//! Modules: taken in as they were uploaded, read again when their code is needed, removed when no version needs them.
//!
//! It must never know what is in one. Invariant: a tenant learns nothing of modules that it has neither uploaded nor has.

use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context;
use tidegate_store::{ReceiveError, Store};

use super::hosted::Hosted;
use super::operator::{Operator, hands_over};
use super::types::{Actor, Refusal, RefusalKind};
use crate::guest::program::CodeSource;

/// A module as it was uploaded.
#[derive(Debug)]
struct Uploaded(PathBuf);

impl CodeSource for Uploaded {
    fn wasm(&self) -> anyhow::Result<Vec<u8>> {
        std::fs::read(&self.0).with_context(|| format!("`{}`", self.0.display()))
    }
}

/// What reads the module of a version again.
pub(super) fn uploaded(path: &Path) -> Arc<dyn CodeSource> {
    Arc::new(Uploaded(path.to_owned()))
}

impl Operator {
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
            let bytes = declared.unwrap_or(bytes_max);
            let needed = self.modules_of(tenant);
            let needs = |hash: &str| needed.contains(hash);
            self.0.bounds.check_upload(tenant, bytes, bytes_max, needs, Instant::now())?;
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

    /// The modules of all versions that a tenant has.
    fn modules_of(&self, tenant: &str) -> HashSet<String> {
        let apps = self.apps_lock();
        let own = apps.values().filter(|hosted| hosted.record.tenant.as_deref() == Some(tenant));
        own.flat_map(|hosted| &hosted.record.versions).map(|version| version.module.clone()).collect()
    }

    /// Where the module of a version is kept.
    ///
    /// # Errors
    /// Another process has the state folder.
    pub(super) fn module_path(&self, hash: &str) -> Result<PathBuf, Refusal> {
        Ok(self.store()?.folder().join("wasm").join(hash))
    }

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

fn is_whole(store: &Store, hash: &str) -> bool {
    let Ok(Some(file)) = store.open_module(hash) else { return false };
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).is_ok_and(|hasher| hasher.finalize().to_hex().as_str() == hash)
}

pub(super) fn not_uploaded(module: &str) -> Refusal {
    let message = format!("the module `{}` was not uploaded", module.escape_default());
    Refusal::new(RefusalKind::NotFound, message).help("`PUT /v1/modules` first")
}
