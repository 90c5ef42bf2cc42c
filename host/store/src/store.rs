//! A state folder: the lock, the registry, the modules, and the record of who did what.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::audit::{Audit, AuditRecord};
use crate::error::{OpenError, ReceiveError, StoreError};
use crate::folder::Folder;
use crate::lock::Lock;
use crate::modules::{ModuleFile, Modules};
use crate::records::AppRecord;
use crate::registry::{Change, Registry};

/// What a server keeps, and nobody else while it has this.
///
/// Everything may be called from any thread. Whatever says that it is done is on the disk.
#[derive(Debug)]
pub struct Store {
    registry: Registry,
    modules: Modules,
    audit: Audit,
    /// Held by who changes something: what one finds out and then does, no other comes between.
    turn: Mutex<()>,
    folder: Arc<Folder>,
    /// The last to be dropped.
    _lock: Lock,
}

impl Store {
    /// Opens a state folder, and makes it if it is not there, with the folders above it.
    ///
    /// # Errors
    /// Another server has it ([`OpenError::Held`]), it is not ours alone, or what is in it can not be used.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        let opened = Folder::open(folder).map_err(|error| OpenError::of_folder(folder, error))?;
        let opened = Arc::new(opened);
        let lock = Lock::take(&opened)?;
        let of_store = |error| OpenError::of_store(folder, error);
        let registry = Registry::open(&opened).map_err(of_store)?;
        opened.sweep(Duration::ZERO).map_err(|error| OpenError::of_folder(folder, error))?;
        let modules = Modules::open(&opened).map_err(of_store)?;
        let audit = Audit::new(&opened);
        Ok(Self { registry, modules, audit, turn: Mutex::new(()), folder: opened, _lock: lock })
    }

    /// All apps, by name.
    ///
    /// # Errors
    /// The registry can not be read, or is damaged.
    pub fn apps(&self) -> Result<Vec<AppRecord>, StoreError> {
        self.registry.apps()
    }

    /// One of them.
    ///
    /// # Errors
    /// As for [`Self::apps`].
    pub fn app(&self, name: &str) -> Result<Option<AppRecord>, StoreError> {
        self.registry.app(name)
    }

    /// A word about all of them.
    ///
    /// # Errors
    /// As for [`Self::apps`].
    pub fn meta(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.registry.meta(key)
    }

    /// Makes a change: all of it is on the disk when this returns Ok, and nothing of it otherwise. Changes wait for each
    /// other; one in another waits for ever.
    ///
    /// # Errors
    /// What `make` gives, or the registry can not be written ([`StoreError::is_disk_full`] for one).
    pub fn change<R, E: From<StoreError>>(
        &self,
        make: impl FnOnce(&mut Change<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.registry.change(&self.modules, make)
    }

    /// Takes a module in, of `bytes_max` bytes at most.
    ///
    /// # Errors
    /// It is larger than that, it can not be read, or not be written. Nothing of it is kept then.
    pub fn receive_module(&self, read: &mut dyn Read, bytes_max: u64) -> Result<ModuleFile, ReceiveError> {
        self.modules.receive(read, bytes_max)
    }

    /// Whether a module is there. One that was asked for is not collected for an hour.
    pub fn has_module(&self, hash: &str) -> bool {
        self.modules.has(hash)
    }

    /// Opens a module, without verifying it. None: it is not there.
    ///
    /// # Errors
    /// It is there and can not be opened.
    pub fn open_module(&self, hash: &str) -> Result<Option<File>, StoreError> {
        self.modules.open_file(hash)
    }

    /// Reads a module and verifies that it is the one. None: it is not there.
    ///
    /// # Errors
    /// It is there and can not be read, or is damaged ([`StoreError::Damaged`]): another upload mends it.
    pub fn read_module(&self, hash: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.modules.read(hash)
    }

    /// Removes modules that no version is made of and nobody asked for within an hour, and what uploads left behind.
    /// Returns the number of files.
    ///
    /// # Errors
    /// The registry can not be read, or a file not be removed.
    pub fn collect(&self) -> Result<usize, StoreError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let used = self.registry.modules()?;
        self.modules.collect(|hash| used.contains(hash))
    }

    /// Adds to the record of who did what. Refusals beyond some at once, and one each five minutes, are summed: those of
    /// the same actor together.
    ///
    /// # Errors
    /// It can not be written.
    pub fn audit(&self, record: &AuditRecord) -> Result<(), StoreError> {
        self.audit.append(&record.by, record)
    }

    /// Likewise for somebody who may call himself anything: `whose` stands for all of those. What was refused `times` may
    /// be told once.
    ///
    /// # Errors
    /// It can not be written.
    pub fn audit_of(&self, whose: &str, times: u64, record: &AuditRecord) -> Result<(), StoreError> {
        self.audit.append_times(whose, times, record)
    }

    /// The end of it, oldest first.
    ///
    /// # Errors
    /// The files can not be read.
    pub fn audit_tail(&self, lines: usize) -> Result<Vec<Value>, StoreError> {
        self.audit.tail(lines)
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Closes everything and gives the folder back: another process has it from here on. Dropping does the same.
    pub fn release(self) {
        drop(self);
    }
}
