//! The backend that keeps everything in one file of this machine, or in memory.
//!
//! Two threads, started by the first request. One writes: it takes what waits, does it in one transaction, and answers
//! when that is on the disk; so a hundred writes that come at once cost one sync. The other reads what was committed.
//! The file is opened by the first batch, and again after a failure, so that a disk with room again is used again.
//!
//! Several processes may have the file open: a server that hands over to its successor goes on using it until it ends.
//!
//! Invariants: an answer to a write is given after its transaction is durable; a batch that fails is answered with why,
//! each request of it, and has changed nothing.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use redb::backends::InMemoryBackend;
use redb::{Builder, ConcurrencyMode, Database, ReadableDatabase};

use super::apply::{Reader, Writer};
use super::line::{Line, Taken};
use super::{Answer, Backend, Error, Operation, Reply, Request};

/// Bytes of pages that are kept in memory.
const CACHE_BYTES: usize = 32 << 20;
/// Requests of one transaction, and bytes from which on it takes no more.
const BATCH_REQUESTS_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 4 << 20;

/// Where the pairs are.
#[derive(Debug)]
enum Place {
    File(PathBuf),
    /// For this run.
    Memory,
}

/// The database, while it is open.
#[derive(Debug)]
struct Store {
    place: Place,
    database: Mutex<Option<Arc<Database>>>,
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Database>>> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens it if it is not open.
    fn open(&self) -> Result<Arc<Database>, Error> {
        let mut open = self.lock();
        if let Some(database) = &*open {
            return Ok(Arc::clone(database));
        }
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES);
        let database = match &self.place {
            Place::Memory => builder.create_with_backend(InMemoryBackend::new())?,
            Place::File(path) => {
                make_file(path)?;
                // Each commit says what is free, too: so a start after a crash takes no time.
                builder.set_concurrency_mode(ConcurrencyMode::MultiWriter).create(path)?
            }
        };
        // The tables are there from now on, and a reader finds them.
        let transaction = database.begin_write()?;
        drop(Writer::new(&transaction)?);
        transaction.commit()?;
        let database = Arc::new(database);
        *open = Some(Arc::clone(&database));
        Ok(database)
    }

    /// It has failed: who comes next opens it again. What is in memory only is not given up for that.
    fn give_up(&self) {
        if matches!(self.place, Place::File(_)) {
            *self.lock() = None;
        }
    }

    fn read(&self, batch: Vec<Request>) {
        let reader = self.open().and_then(|database| Reader::new(&database.begin_read()?));
        let mut failed = reader.as_ref().is_err_and(Error::is_backends);
        for Request { space, operation, reply, .. } in batch {
            let answer = match &reader {
                Ok(reader) => reader.read(&space, &operation),
                Err(error) => Err(error.clone()),
            };
            failed |= answer.as_ref().is_err_and(Error::is_backends);
            reply(answer);
        }
        if failed {
            self.give_up();
        }
    }

    fn write(&self, batch: Vec<Request>) {
        let mut answers = Vec::with_capacity(batch.len());
        let (replies, requests): (Vec<Reply>, Vec<_>) = batch
            .into_iter()
            .map(|Request { space, pool, operation, reply }| (reply, (space, pool, operation)))
            .unzip();
        let mut work = || {
            let database = self.open()?;
            let transaction = database.begin_write()?;
            let mut writer = Writer::new(&transaction)?;
            let mut changed = false;
            for (space, pool, operation) in &requests {
                answers.push(match writer.write(space, pool.as_deref(), operation) {
                    Ok((answer, changes)) => {
                        changed |= changes;
                        Ok(answer)
                    }
                    Err(error) if error.is_backends() => return Err(error),
                    Err(error) => Err(error),
                });
            }
            drop(writer);
            if changed {
                transaction.commit()?
            } else {
                transaction.abort()?
            }
            Ok(())
        };
        let done: Result<(), Error> = work();
        if let Err(error) = &done {
            self.give_up();
            answers = vec![Err(error.clone()); replies.len()];
        }
        for (reply, answer) in replies.into_iter().zip(answers) {
            reply(answer);
        }
    }

    /// Sweeps some of what removed spaces have left. False: nothing is left.
    fn sweep(&self) -> Result<bool, Error> {
        let database = self.open()?;
        let transaction = database.begin_write()?;
        let mut writer = Writer::new(&transaction)?;
        let swept = writer.sweep()?;
        drop(writer);
        if swept {
            transaction.commit()?
        } else {
            transaction.abort()?
        }
        Ok(swept)
    }
}

/// Makes an empty file that is its user's alone, if there is none, and sees to it that it is found after a crash.
fn make_file(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        },
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// The two lines, and who works them off.
#[derive(Default)]
struct Threads {
    reading: Arc<Line>,
    writing: Arc<Line>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    fn start(&mut self, store: &Arc<Store>) -> io::Result<()> {
        for (name, run) in [("kv-read", run_reads as fn(&Store, &Line)), ("kv-write", run_writes)] {
            let line = Arc::clone(if name == "kv-read" { &self.reading } else { &self.writing });
            let store = Arc::clone(store);
            self.handles.push(thread::Builder::new().name(name.into()).spawn(move || {
                let _abandoned = Abandoned(&line);
                run(&store, &line);
            })?);
        }
        Ok(())
    }

    /// What was asked for by now is done.
    fn end(self) {
        self.reading.close();
        self.writing.close();
        for handle in self.handles {
            // One that panicked has told so on its way.
            let _ = handle.join();
        }
    }
}

/// However a thread ends, nobody waits for it.
struct Abandoned<'l>(&'l Line);

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Does one batch. A panic would be a bug, of ours or of the database, and costs that batch: its requests are dropped.
fn guarded(store: &Store, work: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        store.give_up();
    }
}

fn run_reads(store: &Store, line: &Line) {
    while let Taken::Batch(batch) = line.take(true, BATCH_REQUESTS_MAX, usize::MAX) {
        guarded(store, || store.read(batch));
    }
}

fn run_writes(store: &Store, line: &Line) {
    // Something may be left from before, once anything is written at all.
    let (mut written, mut litter) = (false, true);
    loop {
        match line.take(!(written && litter), BATCH_REQUESTS_MAX, BATCH_BYTES_MAX) {
            Taken::Closed => return,
            Taken::Nothing => litter = store.sweep().unwrap_or(false),
            Taken::Batch(batch) => {
                written = true;
                litter |= batch.iter().any(|request| request.operation == Operation::RemoveSpace);
                guarded(store, || store.write(batch));
            }
        }
    }
}

/// Keeps spaces in a file, or in memory. It takes up nothing before the first request.
pub struct Embedded {
    store: Arc<Store>,
    threads: Mutex<Threads>,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("place", &self.store.place).finish_non_exhaustive()
    }
}

impl Embedded {
    /// In the file `path`, which is made when it is not there. Its folder has to be.
    #[must_use]
    pub fn file(path: &Path) -> Self {
        Self::at(Place::File(path.to_path_buf()))
    }

    /// In memory, for as long as this lives.
    #[must_use]
    pub fn memory() -> Self {
        Self::at(Place::Memory)
    }

    fn at(place: Place) -> Self {
        let store = Arc::new(Store { place, database: Mutex::new(None) });
        Self { store, threads: Mutex::default() }
    }

    /// The line that leads to a thread which does such things.
    fn line(&self, operation: &Operation) -> io::Result<Arc<Line>> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if threads.handles.is_empty()
            && let Err(error) = threads.start(&self.store)
        {
            // One without the other is of no use; the next request tries again.
            std::mem::take(&mut *threads).end();
            return Err(error);
        }
        Ok(Arc::clone(if operation.writes() { &threads.writing } else { &threads.reading }))
    }
}

#[cfg(test)]
impl Embedded {
    /// Pairs of all spaces, removed ones included.
    pub(super) fn pairs_in_all(&self) -> u64 {
        let database = self.store.open().unwrap();
        Reader::new(&database.begin_read().unwrap()).unwrap().pairs_in_all()
    }
}

impl Backend for Embedded {
    fn submit(&self, request: Request) {
        if let Err(error) = request.operation.check() {
            return (request.reply)(Err(error));
        }
        match self.line(&request.operation) {
            Ok(line) => line.push(request),
            Err(error) => {
                let text = format!("its threads cannot be started: {error}");
                (request.reply)(Err::<Answer, _>(Error::Unavailable(text.into())));
            }
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        std::mem::take(self.threads.get_mut().unwrap_or_else(PoisonError::into_inner)).end();
    }
}
