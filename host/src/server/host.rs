//! What hosting asks of a server: versions of apps are made one by one, and put in place together.

use std::sync::Arc;

use anyhow::Result;
use tidegate_store::kv::Usage;

use super::deploy::Deployer;
use super::stock::Stock;
use crate::config::AppSettings;
use crate::guest::program::{CodeSource, Program};
use crate::shared::Shared;
use crate::tenants::canary;
use crate::tenants::registry::{App, Entry, Lacking, Origin, Registry};

impl Stock {
    /// A version that can be served. `counted`: how its requests go is of interest.
    pub(crate) fn make(
        &self,
        program: Program,
        settings: AppSettings,
        hash: blake3::Hash,
        number: u64,
        counted: bool,
    ) -> Arc<App> {
        let mut app = self.app(&mut self.seats(), program, Origin { settings, hash });
        app.number = number;
        app.tally = counted.then(canary::Tally::default);
        Arc::new(app)
    }
}

impl Stock {
    /// What an app keeps in the key-value store. None: nothing, or it can not be found out.
    pub(crate) fn kv_usage(&self, app: &str) -> Option<Usage> {
        self.kv().usage(app).ok().filter(|usage| usage.keys > 0)
    }

    /// Gives up what an app kept that is gone for good.
    pub(crate) fn forget(&self, app: &str) {
        if let Err(error) = self.kv().remove(app) {
            tracing::warn!(app, %error, "the key-value data of an app that was removed is still there");
        }
    }
}

impl Deployer {
    /// What all of the server shares.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What versions are made of.
    pub(crate) fn stock(&self) -> &Stock {
        &self.stock
    }

    /// Loads a version's guest: compiled in a child, unless it is in the cache. Not for a worker's thread. `source` has the
    /// module again, should its code have to go for a while. `compiling` is called once a second with the seconds that
    /// compiling has taken by then.
    ///
    /// # Errors
    /// It is not taken, or one of its secrets can not be read; the text says why.
    pub(crate) fn load(
        &self,
        settings: &AppSettings,
        wasm: &[u8],
        hash: &blake3::Hash,
        source: Arc<dyn CodeSource>,
        compiling: &mut dyn FnMut(u64),
    ) -> Result<Program> {
        Ok(self.stock.loader.load_from(wasm, hash, self.stock.spec(settings)?, source, compiling)?)
    }

    /// Serves these versions and no others. Returns once every request that begins is for them; what began before
    /// ends on the version it began with.
    pub(crate) fn install(&self, registry: Registry) {
        let _one_at_a_time = self.stock.seats();
        self.stock.settle(&registry);
        self.shared.current.replace(registry, || self.shared.wake_all());
    }
}

/// A registry of these versions, checked before anything is changed for it; `lacking` can not be served.
///
/// # Errors
/// Two routes match the same requests; the text names both.
pub(crate) fn registry(entries: Vec<Entry>, lacking: &[Lacking]) -> Result<Registry> {
    Ok(Registry::with_lacking(entries, lacking)?)
}
