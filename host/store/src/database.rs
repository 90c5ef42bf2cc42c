//! A database file that outlives its failures.
//!
//! After a failed write the database library takes nothing any more, until its file is opened again. That is done here,
//! when it is needed next: a disk that was full costs what did not fit, and nothing else. What the library says of damage
//! is an error, and so is a panic of it.
//!
//! Invariants: only who holds the folder's lock opens a file, so it is not locked a second time, and one that failed may
//! still be read by whoever began to while the next is open. What was committed is on the disk; the pages of a commit
//! are written and synced before the header that makes them valid (two-phase commit), so damage is never taken for a
//! commit that was cut off, and never silently undone.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{Database, StorageBackend, WriteTransaction};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::error::StoreError;
use crate::folder::{Access, Folder};

/// A database in a folder.
#[derive(Debug)]
pub(crate) struct Shelf {
    folder: Arc<Folder>,
    name: &'static str,
    /// Bytes of memory for pages of it.
    cache_bytes: usize,
    /// None: it failed, and is to be opened again.
    open: Mutex<Option<Arc<Open>>>,
}

impl Shelf {
    /// Opens a database. If there is none, one is made, with what `begin` puts in, and appears whole.
    pub(crate) fn open(
        folder: &Arc<Folder>,
        name: &'static str,
        cache_bytes: usize,
        begin: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<Self, StoreError> {
        let shelf = Self { folder: Arc::clone(folder), name, cache_bytes, open: Mutex::new(None) };
        if folder.open_file(name, Access::Read)?.is_none() {
            shelf.make(begin)?;
        }
        shelf.database()?;
        Ok(shelf)
    }

    fn make(
        &self,
        begin: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let aside = self.folder.aside()?;
        let file = aside.file.try_clone().map_err(|error| self.folder.error(aside.name(), error))?;
        let backend = Backend { file, has_failed: Arc::default() };
        let made = guarded(|| {
            let database = self.builder().create_with_backend(backend)?;
            let transaction = database.begin_write()?;
            begin(&transaction)?;
            transaction.commit()?;
            Ok(database.close()?)
        });
        made.map_err(|error| self.error(error))?;
        Ok(aside.keep(self.name)?)
    }

    /// The open database. Opens it again after a failure.
    pub(crate) fn database(&self) -> Result<Arc<Open>, StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*open {
            return Ok(Arc::clone(database));
        }
        let path = self.folder.path().join(self.name);
        let damaged = |what: &str| StoreError::Damaged { path: path.clone(), what: what.to_owned() };
        let file = self.folder.open_file(self.name, Access::Write)?.ok_or_else(|| damaged("it is gone"))?;
        // The library would begin anew with it.
        if file.metadata().map_err(|error| self.folder.error(self.name, error))?.len() == 0 {
            return Err(damaged("it is empty"));
        }
        let has_failed = Arc::new(AtomicBool::new(false));
        let backend = Backend { file, has_failed: Arc::clone(&has_failed) };
        let database = guarded(|| Ok(self.builder().create_with_backend(backend)?));
        let database = Some(database.map_err(|error| self.error(error))?);
        let database = Arc::new(Open { database, has_failed });
        *open = Some(Arc::clone(&database));
        Ok(database)
    }

    /// After a failure: nothing is done with it any more, and it is opened again before it is used again.
    pub(crate) fn forget(&self, failed: &Arc<Open>) {
        failed.has_failed.store(true, Ordering::Release);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.as_ref().is_some_and(|open| Arc::ptr_eq(open, failed)) {
            *open = None;
        }
    }

    /// Reads, and once more if the file had to be opened again.
    pub(crate) fn read<T>(
        &self,
        read: impl Fn(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let mut is_again = false;
        loop {
            let database = self.database()?;
            match database.call(&read) {
                Ok(read) => return Ok(read),
                Err(error) => {
                    self.forget(&database);
                    if is_again {
                        return Err(self.error(error));
                    }
                    is_again = true;
                }
            }
        }
    }

    pub(crate) fn error(&self, error: redb::Error) -> StoreError {
        StoreError::database(&self.folder.path().join(self.name), error)
    }

    /// What is wrong with what is in it.
    pub(crate) fn damaged(&self, what: String) -> StoreError {
        StoreError::Damaged { path: self.folder.path().join(self.name), what }
    }

    fn builder(&self) -> redb::Builder {
        let mut builder = redb::Builder::new();
        builder.set_cache_size(self.cache_bytes).set_check_integrity_on_open(true);
        builder
    }
}

/// An open database.
pub(crate) struct Open {
    /// Always there but while this is dropped.
    database: Option<Database>,
    has_failed: Arc<AtomicBool>,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("has_failed", &self.has_failed).finish_non_exhaustive()
    }
}

impl Open {
    /// Calls the library with it.
    pub(crate) fn call<T>(
        &self,
        call: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        let database = self.database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
        guarded(|| call(database))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // What is closed is committed once more.
        let database = self.database.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
    }
}

/// Calls the database library: a panic is an error like any other.
pub(crate) fn guarded<T>(call: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let what = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("it can not be read");
        Err(redb::Error::Corrupted(what.to_owned()))
    })
}

/// A file whose space is there before it is written to, so that what is overwritten in place never lacks room.
#[derive(Debug)]
struct Backend {
    file: File,
    /// Nothing is to reach the file any more: what is in memory can not be trusted, and closing would write it.
    has_failed: Arc<AtomicBool>,
}

impl Backend {
    fn check(&self) -> io::Result<()> {
        if self.has_failed.load(Ordering::Acquire) {
            return Err(io::Error::other("it failed before"));
        }
        Ok(())
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.check()?;
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        let before = self.len()?;
        if len <= before {
            return self.file.set_len(len);
        }
        loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), before, len - before) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                // Not every file system can.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return self.file.set_len(len),
                Err(errno) => {
                    // Some of it may have been given.
                    let _ = self.file.set_len(before);
                    return Err(errno.into());
                }
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        self.file.write_all_at(data, offset)
    }
}
