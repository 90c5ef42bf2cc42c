//! Keeps the cache within its bound, on a thread of its own and only after something was added.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use super::entry;
use super::folder::Folder;

/// Age at which an entry that is being written belongs to a server that died over it.
const ASIDE_AGE_MAX: Duration = Duration::from_secs(3600);

/// Starts sweeps, one at a time.
#[derive(Debug, Default)]
pub(super) struct Sweeper {
    is_wanted: Arc<AtomicBool>,
}

impl Sweeper {
    /// Sweeps soon. Whoever asks while a sweep is about to begin has asked for the same one.
    pub(super) fn start(&self, modules: &Arc<Folder>, bytes_max: u64) {
        if self.is_wanted.swap(true, Ordering::AcqRel) {
            return;
        }
        let (wanted, modules) = (Arc::clone(&self.is_wanted), Arc::clone(modules));
        let run = move || {
            wanted.store(false, Ordering::Release);
            if let Err(error) = sweep(&modules, bytes_max, SystemTime::now()) {
                tracing::debug!(%error, "compiled guests that nobody uses can not be listed");
            }
        };
        // Without a thread the next addition sweeps.
        if thread::Builder::new().name("cache".into()).spawn(run).is_err() {
            self.is_wanted.store(false, Ordering::Release);
        }
    }
}

/// Removes what was not used for longest until the entries fit. Files with other names are left alone.
pub(super) fn sweep(modules: &Folder, bytes_max: u64, now: SystemTime) -> io::Result<()> {
    let mut entries = Vec::new();
    for file in modules.list()? {
        if entry::is_name(&file.name) {
            entries.push(file);
        } else if file.is_aside() && now.duration_since(file.modified).is_ok_and(|age| age > ASIDE_AGE_MAX) {
            modules.remove(&file.name);
        }
    }
    let mut total: u64 = entries.iter().map(|file| file.bytes).sum();
    entries.sort_by_key(|file| file.modified);
    for file in entries {
        if total <= bytes_max {
            break;
        }
        tracing::debug!(entry = file.name, bytes = file.bytes, "a compiled guest goes: the cache is full");
        modules.remove(&file.name);
        total -= file.bytes;
    }
    Ok(())
}
