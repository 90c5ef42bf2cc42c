//! The folders of the host that an app's components see, and the threads that work on files.
//!
//! A call on a file may take as long as the disk does, so none is made on a loop. wasmtime-wasi hands its own to the tokio
//! runtime that it finds entered: here one that nobody drives, of which only the pool for blocking work is used. Each app
//! with mounts has its own. Its threads start on demand and end when they have nothing to do.
//!
//! Invariant: only what has [`Mounts`] reaches wasmtime-wasi's files, and only while [`Mounts::enter`] holds. Without that
//! wasmtime-wasi would start a runtime of its own, with a thread a core.

use std::fs::File;
use std::io;
use std::sync::atomic::{
    AtomicUsize,
    Ordering::{AcqRel, Relaxed},
};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use signal_hook::consts::SIGXFSZ;
use signal_hook::flag;
use tokio::runtime::{Builder, EnterGuard, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, RwLock, RwLockReadGuard, RwLockWriteGuard, Semaphore};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtx};
use wasmtime_wasi::{FsPerms, WasiCtx};

use crate::config::Mount;

/// Threads that work on files for an app, and calls that are handed to them at a time. A file that never answers keeps
/// threads of the app that asked for it, and of no other.
const THREADS_MAX: usize = 4;
/// How long one of them waits for more to do.
const IDLE: Duration = Duration::from_secs(2);

/// Files and folders that a Store holds open at most. All Stores together: half of what the process may have.
const FILES_MAX: usize = 64;
/// Streams of files, and listings of folders, likewise.
const STREAMS_MAX: usize = 32;
const LISTINGS_MAX: usize = 16;

/// Bytes of the listings of all Stores together. A listing is read whole; how large it becomes is estimated from what the
/// system says that the folder takes, which is another thing on each file system.
const LISTING_BYTES_MAX: usize = 512 << 20;
const LISTING_BYTES_PER_BYTE: usize = 16;

/// What all apps with mounts share, once there is one.
#[derive(Debug, Default)]
pub(crate) struct FileThreads(Mutex<Option<Arc<Pool>>>);

/// Files that may be opened still, and bytes that listings may take, for all apps together.
#[derive(Debug)]
struct Pool {
    files: Arc<AtomicUsize>,
    listings: Arc<AtomicUsize>,
}

/// The threads of an app.
#[derive(Debug)]
struct Threads {
    runtime: Option<Runtime>,
    calls: Arc<Semaphore>,
}

impl Threads {
    fn new() -> io::Result<Self> {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.max_blocking_threads(THREADS_MAX).thread_keep_alive(IDLE).thread_name("files");
        Ok(Self { runtime: Some(runtime.build()?), calls: Arc::new(Semaphore::new(THREADS_MAX)) })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Whoever drops the app does not wait for a disk.
            runtime.shutdown_background();
        }
    }
}

/// One of the calls that an app's threads work on at a time.
#[derive(Debug)]
pub(crate) struct Call {
    permit: Option<OwnedSemaphorePermit>,
    threads: Handle,
}

impl Call {
    /// The threads are done with it.
    pub(crate) fn over(mut self) {
        self.permit = None;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            // It was given up, and may wait still for a thread, or keep one. What comes after it in the queue of the
            // threads tells that it waits no more; so no queue grows without end.
            self.threads.spawn_blocking(move || drop(permit));
        }
    }
}

impl FileThreads {
    fn pool(&self) -> io::Result<Arc<Pool>> {
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = &*pool {
            return Ok(Arc::clone(pool));
        }
        // The other half is for connections. Where there is no limit there is room enough.
        let files = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |most| most as usize / 2);
        // A file that grows past the process's own limit is an error for its guest, and not the end of the server.
        flag::register(SIGXFSZ, Arc::default())?;
        let made = Arc::new(Pool {
            files: Arc::new(AtomicUsize::new(files)),
            listings: Arc::new(AtomicUsize::new(LISTING_BYTES_MAX)),
        });
        *pool = Some(Arc::clone(&made));
        Ok(made)
    }
}

/// The folders of an app, opened: what is put in the place of one later is not seen.
pub(crate) struct Mounts {
    folders: WasiFilesystemCtx,
    pool: Arc<Pool>,
    threads: Threads,
    /// What is opened is looked at before: meanwhile none of the app's guests puts something else in its place.
    paths: RwLock<()>,
}

impl Mounts {
    /// None: the app has no mounts.
    ///
    /// # Errors
    /// A folder can not be opened.
    pub(super) fn open(mounts: &[Mount], threads: &FileThreads) -> Result<Option<Self>, String> {
        if mounts.is_empty() {
            return Ok(None);
        }
        let mut builder = WasiCtx::builder();
        for Mount { host, guest, write } in mounts {
            let perms = if *write { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
            builder
                .preopened_dir(host, guest, perms)
                .map_err(|error| format!("`{}`: {error:#}", host.display()))?;
        }
        let folders = builder.build().filesystem().clone();
        let no_threads = |error| format!("no threads for files: {error}");
        let pool = threads.pool().map_err(no_threads)?;
        let threads = Threads::new().map_err(no_threads)?;
        Ok(Some(Self { folders, pool, threads, paths: RwLock::new(()) }))
    }

    /// The folders, for one Store.
    pub(crate) fn folders(&self) -> WasiFilesystemCtx {
        self.folders.clone()
    }

    /// For as long as this is held, what paths lead to stays as it is, as far as the app's own guests go.
    pub(crate) async fn keep_paths(&self) -> RwLockReadGuard<'_, ()> {
        self.paths.read().await
    }

    /// For as long as this is held, nobody opens anything.
    pub(crate) async fn change_paths(&self) -> RwLockWriteGuard<'_, ()> {
        self.paths.write().await
    }

    /// Waits until the app's threads may be given another call. None: they have ended.
    pub(crate) async fn call(&self) -> Option<Call> {
        let permit = Arc::clone(&self.threads.calls).acquire_owned().await.ok()?;
        let threads = self.threads.runtime.as_ref()?.handle().clone();
        Some(Call { permit: Some(permit), threads })
    }

    /// For as long as this is held, files are worked on by our threads.
    pub(crate) fn enter(&self) -> Option<EnterGuard<'_>> {
        self.threads.runtime.as_ref().map(Runtime::enter)
    }
}

/// What a Store holds open, counted so that no guest uses up the process's descriptors. A stream keeps its file open when
/// the guest has closed the file, so files are counted by what still owns them.
#[derive(Debug, Default)]
pub(crate) struct OpenFiles {
    files: Vec<(Weak<File>, Permit)>,
    streams: Option<Arc<()>>,
    listings: Vec<Permit>,
}

/// A part of what the apps may have together.
#[derive(Debug)]
pub(crate) struct Permit {
    room: Arc<AtomicUsize>,
    amount: usize,
}

impl Permit {
    fn take(room: &Arc<AtomicUsize>, amount: usize) -> Option<Self> {
        let taken = room.fetch_update(AcqRel, Relaxed, |left| left.checked_sub(amount));
        taken.is_ok().then(|| Self { room: Arc::clone(room), amount })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.room.fetch_add(self.amount, AcqRel);
    }
}

/// A stream is open for as long as this is.
#[derive(Debug)]
pub(crate) struct OpenStream {
    _one: Arc<()>,
}

impl OpenFiles {
    /// One more file may be opened. None: this Store has too many, or all together have.
    pub(crate) fn permit(&mut self, mounts: &Mounts) -> Option<Permit> {
        self.look();
        (self.files.len() < FILES_MAX).then(|| Permit::take(&mounts.pool.files, 1))?
    }

    pub(crate) fn opened(&mut self, descriptor: &Descriptor, permit: Permit) {
        let file = match descriptor {
            Descriptor::File(file) => &file.file,
            Descriptor::Dir(folder) => &folder.dir,
        };
        self.files.push((Arc::downgrade(file), permit));
    }

    /// Something may have been closed.
    pub(crate) fn look(&mut self) {
        self.files.retain(|(file, _)| file.strong_count() > 0);
    }

    /// One more stream. None: there are too many.
    pub(crate) fn stream(&mut self) -> Option<OpenStream> {
        let streams = self.streams.get_or_insert_default();
        (Arc::strong_count(streams) <= STREAMS_MAX).then(|| OpenStream { _one: Arc::clone(streams) })
    }

    /// One more listing, of a folder that takes `size` bytes. None: there are too many, or it is too large beside others.
    pub(crate) fn permit_listing(&self, mounts: &Mounts, size: u64) -> Option<Permit> {
        let bytes = usize::try_from(size).unwrap_or(usize::MAX).saturating_mul(LISTING_BYTES_PER_BYTE);
        (self.listings.len() < LISTINGS_MAX).then(|| Permit::take(&mounts.pool.listings, bytes))?
    }

    pub(crate) fn listed(&mut self, permit: Permit) {
        self.listings.push(permit);
    }

    /// A listing was closed. Which one is not known: the largest is counted longest.
    pub(crate) fn listing_closed(&mut self) {
        let smallest = self.listings.iter().enumerate().min_by_key(|(_, permit)| permit.amount);
        if let Some((at, _)) = smallest {
            self.listings.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use wasmtime_wasi::OpenMode;
    use wasmtime_wasi::filesystem::File as OpenFile;

    use super::*;

    #[test]
    fn files_are_counted_until_nobody_has_them() {
        let mut open = OpenFiles::default();
        let null = || {
            let file = File::open("/dev/null").unwrap();
            OpenFile::new(file, FsPerms::ReadOnly, OpenMode::READ, false)
        };
        let mut files: Vec<_> = (0..FILES_MAX).map(|_| null()).collect();
        let (_folder, mounts) = mounted();
        let room = || mounts.pool.files.load(Relaxed);
        let before = room();
        for file in &files {
            let permit = open.permit(&mounts).unwrap();
            open.opened(&Descriptor::File(file.clone()), permit);
        }
        assert!(open.permit(&mounts).is_none());
        assert_eq!(room(), before - FILES_MAX);
        // A stream still has the file that the guest has closed.
        let stream = files.pop();
        assert!(open.permit(&mounts).is_none());
        drop(stream);
        assert!(open.permit(&mounts).is_some());
        drop(open);
        assert_eq!(room(), before);
    }

    #[test]
    fn files_of_all_stores_are_counted_together() {
        let (_folder, mounts) = mounted();
        mounts.pool.files.store(1, Relaxed);
        let (mut one, mut other) = (OpenFiles::default(), OpenFiles::default());
        let permit = one.permit(&mounts).unwrap();
        assert!(other.permit(&mounts).is_none());
        drop(permit);
        assert!(other.permit(&mounts).is_some());
    }

    #[test]
    fn listings_are_counted_by_what_they_take() {
        let (_folder, mounts) = mounted();
        let mut open = OpenFiles::default();
        let large = (LISTING_BYTES_MAX / LISTING_BYTES_PER_BYTE) as u64;
        assert!(open.permit_listing(&mounts, large + 1).is_none());
        assert!(open.permit_listing(&mounts, u64::MAX).is_none());
        let permit = open.permit_listing(&mounts, large).unwrap();
        assert!(open.permit_listing(&mounts, 1).is_none());
        drop(permit);
        for _ in 0..LISTINGS_MAX {
            let permit = open.permit_listing(&mounts, 4096).unwrap();
            open.listed(permit);
        }
        assert!(open.permit_listing(&mounts, 4096).is_none());
        open.listing_closed();
        assert!(open.permit_listing(&mounts, 4096).is_some());
        drop(open);
        assert_eq!(mounts.pool.listings.load(Relaxed), LISTING_BYTES_MAX);
    }

    /// Whether a call may be handed over now.
    fn has_room(mounts: &Mounts) -> bool {
        let mut waits = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(mounts.call()).poll(&mut waits) {
            std::task::Poll::Ready(call) => {
                call.unwrap().over();
                true
            }
            std::task::Poll::Pending => false,
        }
    }

    fn until(what: &str, condition: impl Fn() -> bool) {
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while !condition() {
            assert!(std::time::Instant::now() < end, "{what}");
            std::thread::yield_now();
        }
    }

    /// Calls that were given up and never end keep the threads of their app, and neither more of them nor another's.
    #[test]
    fn what_hangs_is_the_apps_own() {
        let ((_one, hanging), (_other, other)) = (mounted(), mounted());
        let ready = |mounts: &Mounts| {
            let mut waits = std::task::Context::from_waker(std::task::Waker::noop());
            match std::pin::pin!(mounts.call()).poll(&mut waits) {
                std::task::Poll::Ready(call) => call.unwrap(),
                std::task::Poll::Pending => panic!("there is room"),
            }
        };
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let blocked = Arc::new(Mutex::new(blocked));
        for _ in 0..THREADS_MAX {
            until("a call that was given up makes room once it waits no more", || has_room(&hanging));
            let call = ready(&hanging);
            let _guard = hanging.enter();
            let blocked = Arc::clone(&blocked);
            // As wasmtime-wasi does; it is not waited for, as when the guest is stopped.
            tokio::task::spawn_blocking(move || {
                let _ = blocked.lock().unwrap_or_else(PoisonError::into_inner).recv();
            });
            drop(call);
        }
        // The last one's room is not given back, as all threads are kept; nor is that of what is given up now.
        let room = || hanging.threads.calls.available_permits();
        until("room for what can be handed over", || room() == THREADS_MAX - 1);
        for _ in 1..THREADS_MAX {
            drop(ready(&hanging));
        }
        assert!(!has_room(&hanging));
        assert!(has_room(&other));
        {
            let _guard = other.enter();
            let (told, heard) = std::sync::mpsc::channel();
            tokio::task::spawn_blocking(move || told.send(()));
            heard.recv_timeout(Duration::from_secs(30)).expect("another app's threads work");
        }
        drop(release);
        until("threads that are free again give all rooms back", || room() == THREADS_MAX);
    }

    fn mounted() -> (tempfile::TempDir, Mounts) {
        let folder = tempfile::tempdir().unwrap();
        let mount = Mount { host: folder.path().into(), guest: "/x".into(), write: false };
        let mounts = Mounts::open(&[mount], &FileThreads::default()).unwrap().unwrap();
        (folder, mounts)
    }

    #[test]
    fn streams_are_counted() {
        let mut open = OpenFiles::default();
        let streams: Vec<_> = std::iter::from_fn(|| open.stream()).collect();
        assert_eq!(streams.len(), STREAMS_MAX);
        drop(streams);
        assert!(open.stream().is_some());
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let mount = Mount { host: "/no/such/folder".into(), guest: "/x".into(), write: false };
        let threads = FileThreads::default();
        let error = Mounts::open(&[mount], &threads).err().unwrap();
        assert!(error.contains("`/no/such/folder`: "), "{error}");
        assert!(Mounts::open(&[], &threads).unwrap().is_none());
        assert!(threads.0.lock().unwrap().is_none(), "nothing is made that nobody needs");
    }

    #[test]
    fn blocking_work_is_done_by_our_threads_and_wakes_whoever_waits() {
        let (_folder, mounts) = mounted();
        let guard = mounts.enter();
        let work =
            wasmtime_wasi::runtime::spawn_blocking(|| std::thread::current().name().map(str::to_owned));
        drop(guard);
        let (told, woken) = std::sync::mpsc::channel();
        struct Tell(std::sync::mpsc::Sender<()>);
        impl std::task::Wake for Tell {
            fn wake(self: Arc<Self>) {
                let _ = self.0.send(());
            }
        }
        let waker = Arc::new(Tell(told)).into();
        let mut work = std::pin::pin!(work);
        let name = loop {
            match work.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
                std::task::Poll::Ready(name) => break name,
                std::task::Poll::Pending => woken.recv_timeout(Duration::from_secs(30)).expect("a wake"),
            }
        };
        assert_eq!(name.as_deref(), Some("files"));
    }
}
