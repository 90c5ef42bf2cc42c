//! Apps and their versions, and a few words about all of them, in one database.
//!
//! A [`Change`] is one transaction: the whole of it is on the disk when it succeeds, and nothing of it otherwise. It knows
//! nothing of what the records mean, but for one thing: what a version is made of is there before the version is.

use std::collections::HashSet;
use std::sync::Arc;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use crate::database::{Open, Shelf, guarded};
use crate::error::StoreError;
use crate::folder::Folder;
use crate::modules::Modules;
use crate::records::AppRecord;

/// The format of what is in a state folder.
pub(crate) const FORMAT: u64 = 1;
/// The file.
const NAME: &str = "registry.redb";
/// Memory for pages. Records are read when something changes, and seldom else.
const CACHE_BYTES: usize = 4 << 20;

/// Apps: JSON of an [`AppRecord`] by its name.
const APPS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("apps");
/// Words about all of them.
const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
/// Numbers about the file.
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
/// [`FORMAT`] of who wrote it.
const FORMAT_KEY: &str = "format";
/// Changes that were made.
const CHANGES_KEY: &str = "changes";

#[derive(Debug)]
pub(crate) struct Registry {
    shelf: Shelf,
}

impl Registry {
    pub(crate) fn open(folder: &Arc<Folder>) -> Result<Self, StoreError> {
        let shelf = Shelf::open(folder, NAME, CACHE_BYTES, |transaction| {
            transaction.open_table(APPS)?;
            transaction.open_table(META)?;
            transaction.open_table(NUMBERS)?.insert(FORMAT_KEY, FORMAT)?;
            Ok(())
        })?;
        let path = folder.path().join(NAME);
        match shelf.read(|database| number(database, FORMAT_KEY)) {
            Ok(Some(FORMAT)) => Ok(Self { shelf }),
            Ok(Some(found)) => Err(StoreError::Version { path, found, known: FORMAT }),
            // A database without such a table, or with another one of that name.
            Ok(None) | Err(StoreError::Damaged { .. }) => {
                Err(shelf.damaged("it is not the registry of a server".to_owned()))
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn app(&self, name: &str) -> Result<Option<AppRecord>, StoreError> {
        let json = self.shelf.read(|database| {
            let table = database.begin_read()?.open_table(APPS)?;
            Ok(table.get(name)?.map(|json| json.value().to_vec()))
        })?;
        json.map(|json| self.decode(name, &json)).transpose()
    }

    pub(crate) fn apps(&self) -> Result<Vec<AppRecord>, StoreError> {
        let all = self.shelf.read(|database| all_of(&database.begin_read()?.open_table(APPS)?))?;
        all.iter().map(|(name, json)| self.decode(name, json)).collect()
    }

    pub(crate) fn meta(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.shelf.read(|database| {
            let table = database.begin_read()?.open_table(META)?;
            Ok(table.get(key)?.map(|value| value.value().to_owned()))
        })
    }

    /// Hashes of all modules that versions are made of.
    pub(crate) fn modules(&self) -> Result<HashSet<String>, StoreError> {
        let apps = self.apps()?;
        Ok(apps.into_iter().flat_map(|app| app.versions).map(|version| version.module).collect())
    }

    /// Makes a change. The caller sees to it that there is one at a time.
    pub(crate) fn change<R, E: From<StoreError>>(
        &self,
        modules: &Modules,
        make: impl FnOnce(&mut Change<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        let (database, transaction) = self.begin()?;
        let mut change =
            Change { registry: self, modules, transaction: &transaction, is_new: false, failure: None };
        let made = make(&mut change);
        let (is_new, failure) = (change.is_new, change.failure.take());
        if let Some(failure) = failure {
            // Whatever became of it in the caller's hands: what is half written is not committed.
            abort(transaction);
            self.shelf.forget(&database);
            return Err(made.err().unwrap_or_else(|| self.shelf.error(failure).into()));
        }
        if made.is_err() || !is_new {
            abort(transaction);
            return made;
        }
        self.commit(&database, transaction)?;
        made
    }

    fn begin(&self) -> Result<(Arc<Open>, WriteTransaction), StoreError> {
        let mut is_again = false;
        loop {
            let database = self.shelf.database()?;
            let begun = database.call(|database| {
                let mut transaction = database.begin_write()?;
                transaction.set_durability(Durability::Immediate)?;
                transaction.set_two_phase_commit(true);
                Ok(transaction)
            });
            match begun {
                Ok(transaction) => return Ok((database, transaction)),
                Err(error) => {
                    self.shelf.forget(&database);
                    if is_again {
                        return Err(self.shelf.error(error));
                    }
                    is_again = true;
                }
            }
        }
    }

    fn commit(&self, database: &Arc<Open>, transaction: WriteTransaction) -> Result<(), StoreError> {
        let counted = guarded(|| {
            let mut numbers = transaction.open_table(NUMBERS)?;
            let count = numbers.get(CHANGES_KEY)?.map_or(0, |count| count.value()).wrapping_add(1);
            numbers.insert(CHANGES_KEY, count)?;
            Ok(count)
        });
        let committed = match counted {
            Ok(count) => guarded(|| Ok(transaction.commit()?)).map_err(|error| (error, Some(count))),
            Err(error) => {
                abort(transaction);
                Err((error, None))
            }
        };
        let Err((error, count)) = committed else { return Ok(()) };
        self.shelf.forget(database);
        // The failure may have come after the point from which it counts. Opened again, the file says.
        if count.is_some() && self.shelf.read(|database| number(database, CHANGES_KEY)).ok() == Some(count) {
            return Ok(());
        }
        Err(self.shelf.error(error))
    }

    fn decode(&self, name: &str, json: &[u8]) -> Result<AppRecord, StoreError> {
        let record: AppRecord = serde_json::from_slice(json)
            .map_err(|error| self.shelf.damaged(format!("the record of app `{name}`: {error}")))?;
        if record.name == name {
            Ok(record)
        } else {
            Err(self.shelf.damaged(format!("the record of app `{name}` is that of `{}`", record.name)))
        }
    }
}

fn number(database: &Database, key: &str) -> Result<Option<u64>, redb::Error> {
    let table = match database.begin_read()?.open_table(NUMBERS) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        table => table?,
    };
    Ok(table.get(key)?.map(|value| value.value()))
}

fn all_of(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
    let mut all = Vec::new();
    for entry in table.iter()? {
        let (name, json) = entry?;
        all.push((name.value().to_owned(), json.value().to_vec()));
    }
    Ok(all)
}

/// Nothing of it was written that counts, so a failure is none.
fn abort(transaction: WriteTransaction) {
    let _ = guarded(|| Ok(transaction.abort()?));
}

/// A change that is being made.
pub struct Change<'a> {
    registry: &'a Registry,
    modules: &'a Modules,
    transaction: &'a WriteTransaction,
    /// Something was written.
    is_new: bool,
    /// Something could not be: the whole can not be committed.
    failure: Option<redb::Error>,
}

impl Change<'_> {
    /// An app as this change has it.
    ///
    /// # Errors
    /// The registry can not be read, and then the whole change fails; or the record is damaged.
    pub fn app(&mut self, name: &str) -> Result<Option<AppRecord>, StoreError> {
        let json = self.run(|transaction| {
            let table = transaction.open_table(APPS)?;
            let json = table.get(name)?.map(|json| json.value().to_vec());
            Ok(json)
        })?;
        json.map(|json| self.registry.decode(name, &json)).transpose()
    }

    /// All apps as this change has them, by name.
    ///
    /// # Errors
    /// As for [`Self::app`].
    pub fn apps(&mut self) -> Result<Vec<AppRecord>, StoreError> {
        let all = self.run(|transaction| all_of(&transaction.open_table(APPS)?))?;
        all.iter().map(|(name, json)| self.registry.decode(name, json)).collect()
    }

    /// Keeps an app, in place of the record of this name.
    ///
    /// # Errors
    /// [`StoreError::Record`] if it contradicts itself, [`StoreError::NoModule`] if the module of a version that is new is
    /// not there. The change can go on.
    pub fn put(&mut self, app: &AppRecord) -> Result<(), StoreError> {
        check(app)?;
        let before = self.app(&app.name)?;
        let known: HashSet<&str> = before
            .iter()
            .flat_map(|before| &before.versions)
            .map(|version| version.module.as_str())
            .collect();
        for version in app.versions.iter().filter(|version| !known.contains(version.module.as_str())) {
            if !self.modules.has(&version.module) {
                return Err(StoreError::NoModule { hash: version.module.clone() });
            }
        }
        if before.as_ref() == Some(app) {
            return Ok(());
        }
        let record = |what: String| StoreError::Record { app: app.name.clone(), what };
        let json = serde_json::to_vec(app).map_err(|error| record(error.to_string()))?;
        self.run(|transaction| {
            transaction.open_table(APPS)?.insert(app.name.as_str(), json.as_slice())?;
            Ok(())
        })?;
        self.is_new = true;
        Ok(())
    }

    /// Removes an app and all versions of it. False: there is none of that name. Its modules go when the store is
    /// collected.
    ///
    /// # Errors
    /// It can not be written: then the whole change fails.
    pub fn remove(&mut self, name: &str) -> Result<bool, StoreError> {
        let was_there = self.run(|transaction| {
            let mut table = transaction.open_table(APPS)?;
            let was_there = table.remove(name)?.is_some();
            Ok(was_there)
        })?;
        self.is_new |= was_there;
        Ok(was_there)
    }

    /// A word about all apps.
    ///
    /// # Errors
    /// As for [`Self::app`].
    pub fn meta(&mut self, key: &str) -> Result<Option<String>, StoreError> {
        self.run(|transaction| {
            let table = transaction.open_table(META)?;
            let value = table.get(key)?.map(|value| value.value().to_owned());
            Ok(value)
        })
    }

    /// Keeps a word; None removes it.
    ///
    /// # Errors
    /// As for [`Self::remove`].
    pub fn set_meta(&mut self, key: &str, value: Option<&str>) -> Result<(), StoreError> {
        if self.meta(key)?.as_deref() == value {
            return Ok(());
        }
        self.run(|transaction| {
            let mut table = transaction.open_table(META)?;
            match value {
                Some(value) => table.insert(key, value)?,
                None => table.remove(key)?,
            };
            Ok(())
        })?;
        self.is_new = true;
        Ok(())
    }

    fn run<T>(
        &mut self,
        call: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        guarded(|| call(self.transaction)).map_err(|error| {
            let told = self.registry.shelf.error(copy(&error));
            self.failure.get_or_insert(error);
            told
        })
    }
}

/// The same failure again: one for the caller, one for the end of the change.
fn copy(error: &redb::Error) -> redb::Error {
    match error {
        redb::Error::Io(error) => redb::Error::Io(std::io::Error::new(error.kind(), error.to_string())),
        redb::Error::PreviousIo => redb::Error::PreviousIo,
        other => redb::Error::Corrupted(other.to_string()),
    }
}

/// Refuses a record that contradicts itself.
fn check(app: &AppRecord) -> Result<(), StoreError> {
    let wrong = |what: &str| Err(StoreError::Record { app: app.name.clone(), what: what.to_owned() });
    let is_kept = |number: u64| app.versions.iter().any(|version| version.number == number);
    if app.name.is_empty() {
        return wrong("it has no name");
    }
    if !app.versions.is_sorted_by(|one, next| one.number < next.number) {
        return wrong("its versions are not in order");
    }
    if app.versions.last().is_some_and(|last| last.number >= app.next) {
        return wrong("the number of its next version was given");
    }
    if app.active.is_some_and(|active| !is_kept(active)) {
        return wrong("the version that serves is not kept");
    }
    if app.canary.as_ref().is_some_and(|canary| !is_kept(canary.version)) {
        return wrong("the version that is its canary is not kept");
    }
    Ok(())
}
