//! A log file for each app: what its guests print, which of its requests failed, and what became of the app.
//!
//! Everything here stands in the server's log, too, and goes there by another way. One thread writes all files; whoever
//! logs hands a record over and never waits. What does not fit into the queue is dropped, counted for its app, and told
//! in its file; an app that logs more than the disk takes fills its own part of the queue and leaves the others theirs.
//!
//! A log belongs to an app and not to a name: once it is [forgotten](AppLogs::forget) its files are gone, and what is
//! still on its way to them, or follows it, meets nothing of an app that has the name later.
//!
//! Files are `NAME.log`, and `NAME.log.1` and so on for the older ones. Names of apps may contain dots, but no two apps
//! meet in a file: the files that are written end in `.log`, the older ones in a number, and what is before that names
//! the app.

mod files;
mod follow;
mod record;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use self::files::Files;
use self::follow::Follower;
pub(crate) use self::follow::{LogReader, Logged};
use self::record::Record;
use self::writer::{Command, Writer};
use super::guest_log::Level;
use super::sink::FAREWELL;
use crate::exchange::RequestId;

/// Bytes and records that wait to be written at most, and how many of the bytes may be one app's.
const QUEUE_BYTES_MAX: usize = 8 << 20;
const QUEUE_RECORDS_MAX: usize = 64 * 1024;
const APP_BYTES_MAX: usize = 1 << 20;
/// How long somebody who wants to follow a log waits for its writer.
const FOLLOW_PATIENCE: Duration = Duration::from_secs(2);

/// How large files grow, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// A file that would grow past this is put aside.
    pub(crate) bytes_max: u64,
    /// Older files that are kept besides the one that is written.
    pub(crate) files: u32,
}

/// All logs. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct AppLogs {
    shared: Arc<Shared>,
}

/// The log of one app. Clones are the same log.
#[derive(Clone, Debug)]
pub(crate) struct AppLog {
    log: Arc<Log>,
    shared: Arc<Shared>,
}

/// Writes what is left when it is dropped, for as long as a moment.
#[derive(Debug)]
#[must_use = "the logs end when this is dropped"]
pub(crate) struct Guard {
    shared: Arc<Shared>,
}

/// What is known of one app's log.
#[derive(Debug)]
struct Log {
    name: Arc<str>,
    /// Bytes of it in the queue.
    queued: AtomicUsize,
    /// Lines that never reached the file: since that was told last, and in all.
    dropped: AtomicU64,
    lost: AtomicU64,
    /// The app is gone: nothing more is written.
    forgotten: AtomicBool,
}

impl Log {
    fn lose(&self, lines: u64) {
        self.dropped.fetch_add(lines, Relaxed);
        self.lost.fetch_add(lines, Relaxed);
    }
}

#[derive(Debug, Default)]
struct Queue {
    records: VecDeque<Record>,
    commands: Vec<Command>,
    /// Of what waits, and of what the thread holds.
    bytes: usize,
    count: usize,
    /// Logs that have dropped something, each at most once until that was told.
    owing: Vec<Arc<Log>>,
    /// The thread waits.
    idle: bool,
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// There is something to do, or the end has come.
    filled: Condvar,
    /// Everything is written.
    emptied: Condvar,
    by_name: Mutex<HashMap<Arc<str>, Arc<Log>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AppLogs {
    /// Writes logs into `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// The folder can not be made or opened, it is not ours alone to write to, or there is no thread to be had.
    pub(crate) fn open(folder: &Path, rotation: Rotation) -> io::Result<(Self, Guard)> {
        let files = Files::open(folder, rotation)?;
        let shared = Arc::<Shared>::default();
        let writer = Writer::new(Arc::clone(&shared), files);
        thread::Builder::new().name("app-logs".into()).spawn(move || writer.run())?;
        Ok((Self { shared: Arc::clone(&shared) }, Guard { shared }))
    }

    /// The log of an app, the same for all who ask, until it is forgotten.
    pub(crate) fn of(&self, app: &str) -> AppLog {
        let mut by_name = lock(&self.shared.by_name);
        let log = match by_name.get(app) {
            Some(log) => Arc::clone(log),
            None => {
                let log = Arc::new(Log {
                    name: app.into(),
                    queued: AtomicUsize::new(0),
                    dropped: AtomicU64::new(0),
                    lost: AtomicU64::new(0),
                    forgotten: AtomicBool::new(false),
                });
                by_name.insert(Arc::clone(&log.name), Arc::clone(&log));
                log
            }
        };
        AppLog { log, shared: Arc::clone(&self.shared) }
    }

    /// An app is new: files of its name, which somebody left, are not its own. Whoever has its log already goes on with it.
    pub(crate) fn begin(&self, app: &str) {
        self.shared.command(Command::Begin(app.into()));
    }

    /// The app is gone, and its log with it: files, followers, and what is still to come. An app of that name has
    /// another log from now on.
    pub(crate) fn forget(&self, app: &str) {
        let AppLog { log, .. } = self.of(app);
        // The command is on its way before another log of that name can be.
        let mut by_name = lock(&self.shared.by_name);
        log.forgotten.store(true, Relaxed);
        by_name.remove(app);
        self.shared.command(Command::Forget(log));
    }

    /// Opens all files anew: somebody has moved them away.
    pub(crate) fn reopen(&self) {
        self.shared.command(Command::Reopen);
    }

    /// The last `lines` of an app's log, and then what comes.
    ///
    /// # Errors
    /// The writer does not answer: the disk hangs.
    pub(crate) fn follow(&self, app: &str, lines: usize) -> io::Result<LogReader> {
        let AppLog { log, .. } = self.of(app);
        let follower = Arc::new(Follower::default());
        let (tell, told) = sync_channel(1);
        self.shared.command(Command::Follow { log, follower: Arc::clone(&follower), tell });
        let slow = |_| {
            io::Error::new(io::ErrorKind::TimedOut, "the thread that writes the apps' logs does not answer")
        };
        let files = told.recv_timeout(FOLLOW_PATIENCE).map_err(slow)?;
        LogReader::new(follower, &files, lines)
    }
}

impl AppLog {
    /// What a guest says.
    pub(crate) fn say(&self, level: Level, request: &RequestId, version: u64, text: &str) {
        self.push(Record { request: Some(request.clone()), version, ..self.record(level, text) });
    }

    /// A request has failed.
    pub(crate) fn fail(
        &self,
        level: Level,
        request: &RequestId,
        version: u64,
        failure: (&str, u16),
        detail: &str,
    ) {
        let (code, status) = failure;
        let (error, request) = (Some((code.into(), status)), Some(request.clone()));
        self.push(Record { request, version, error, ..self.record(level, detail) });
    }

    /// What became of the app: a deploy, a version that is gone, a guest that was started again. 0: of no version.
    pub(crate) fn tell(&self, level: Level, version: u64, text: &str) {
        self.push(Record { version, ..self.record(level, text) });
    }

    /// Lines that never reached the file.
    pub(crate) fn lost(&self) -> u64 {
        self.log.lost.load(Relaxed)
    }

    fn record(&self, level: Level, text: &str) -> Record {
        Record {
            log: Arc::clone(&self.log),
            at: SystemTime::now(),
            level,
            request: None,
            version: 0,
            error: None,
            text: text.into(),
        }
    }

    fn push(&self, record: Record) {
        let log = &self.log;
        if log.forgotten.load(Relaxed) {
            return;
        }
        let bytes = record.bytes();
        let mut queue = lock(&self.shared.queue);
        let own = log.queued.load(Relaxed) + bytes;
        let fits = queue.bytes + bytes <= QUEUE_BYTES_MAX && queue.count < QUEUE_RECORDS_MAX;
        if queue.ended || !fits || own > APP_BYTES_MAX {
            if log.dropped.load(Relaxed) == 0 {
                queue.owing.push(Arc::clone(log));
            }
            log.lose(1);
            return;
        }
        log.queued.fetch_add(bytes, Relaxed);
        queue.bytes += bytes;
        queue.count += 1;
        queue.records.push_back(record);
        self.shared.wake(&mut queue);
    }
}

impl Shared {
    fn wake(&self, queue: &mut Queue) {
        if std::mem::take(&mut queue.idle) {
            self.filled.notify_one();
        }
    }

    fn command(&self, command: Command) {
        let mut queue = lock(&self.queue);
        if !queue.ended {
            queue.commands.push(command);
            self.wake(&mut queue);
        }
    }
}

impl Guard {
    /// Waits until everything is written, or until `deadline`.
    fn drain(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let busy = |queue: &mut Queue| queue.count > 0 || !queue.commands.is_empty();
        drop(self.shared.emptied.wait_timeout_while(lock(&self.shared.queue), left, busy));
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut queue = lock(&self.shared.queue);
        queue.ended = true;
        queue.idle = false;
        drop(queue);
        self.shared.filled.notify_one();
        self.drain(Instant::now() + FAREWELL);
    }
}
