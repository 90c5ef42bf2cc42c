//! The thread that writes the apps' logs.
//!
//! What waits is taken all at once and sorted by app, each app's lines in the order they came, so that many lines make
//! few writes. A disk that takes nothing costs lines and never time: they are counted, the server's log is told once, and
//! the file once it takes lines again.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::files::Files;
use super::follow::Follower;
use super::record::{Record, note};
use super::{Log, Shared, lock};

/// Bytes that are gathered for one write.
const CHUNK_BYTES: usize = 64 * 1024;

/// The server's log hears no sooner again that writing fails.
const TELL_INTERVAL: Duration = Duration::from_secs(60);
/// Writing that has not failed for so long is well again.
const STEADY: Duration = Duration::from_secs(1);

/// What the thread is asked for besides writing.
#[derive(Debug)]
pub(super) enum Command {
    /// Tells of the files as they are, and from then on of every line.
    Follow {
        log: Arc<Log>,
        follower: Arc<Follower>,
        tell: SyncSender<Vec<(File, u64)>>,
    },
    /// What there is of a log by this name goes.
    Begin(Box<str>),
    Forget(Arc<Log>),
    Reopen,
}

/// What was taken at once.
struct Batch {
    records: VecDeque<Record>,
    commands: Vec<Command>,
    owing: Vec<Arc<Log>>,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    files: Files,
    followers: Vec<(Arc<Log>, Weak<Follower>)>,
    /// The server's log was told that writing fails, and not yet that it does no more.
    failing: bool,
    told: Option<Instant>,
    failed: Option<Instant>,
    lines: Vec<u8>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, files: Files) -> Self {
        Self {
            shared,
            files,
            followers: Vec::new(),
            failing: false,
            told: None,
            failed: None,
            lines: Vec::new(),
        }
    }

    /// Writes until the end has come and nothing is left.
    pub(super) fn run(mut self) {
        while let Some(Batch { records, commands, owing }) = self.next() {
            // What is forgotten goes first: the records may be of another app of that name.
            let (forget, others): (Vec<_>, Vec<_>) = commands
                .into_iter()
                .partition(|command| matches!(command, Command::Begin(_) | Command::Forget(_)));
            forget.into_iter().for_each(|command| self.obey(command));
            let (count, bytes) = (records.len(), records.iter().map(Record::bytes).sum::<usize>());
            self.write(records.into());
            owing.iter().for_each(|log| self.write_of(log, &[]));
            others.into_iter().for_each(|command| self.obey(command));
            let mut queue = lock(&self.shared.queue);
            queue.count -= count;
            queue.bytes -= bytes;
            if queue.count == 0 {
                self.shared.emptied.notify_all();
            }
        }
        for (_, follower) in &self.followers {
            follower.upgrade().iter().for_each(|follower| follower.end());
        }
    }

    /// What waits, all of it. None: the end has come.
    fn next(&self) -> Option<Batch> {
        let mut queue = lock(&self.shared.queue);
        loop {
            let some = !queue.records.is_empty() || !queue.commands.is_empty() || !queue.owing.is_empty();
            if some {
                let (records, commands) =
                    (std::mem::take(&mut queue.records), std::mem::take(&mut queue.commands));
                return Some(Batch { records, commands, owing: std::mem::take(&mut queue.owing) });
            }
            if queue.ended {
                self.shared.emptied.notify_all();
                return None;
            }
            queue.idle = true;
            queue = self.shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Follow { log, follower, tell } => {
                self.followers.retain(|(_, follower)| follower.strong_count() > 0);
                let files = if log.forgotten.load(Relaxed) {
                    follower.end();
                    Vec::new()
                } else {
                    self.followers.push((Arc::clone(&log), Arc::downgrade(&follower)));
                    self.files.read(&log.name)
                };
                // Whoever asked may have lost patience.
                let _ = tell.try_send(files);
            }
            Command::Begin(name) => self.files.forget(&name),
            Command::Forget(log) => {
                self.files.forget(&log.name);
                self.followers.retain(|(followed, follower)| {
                    let ends = Arc::ptr_eq(followed, &log);
                    if ends {
                        follower.upgrade().iter().for_each(|follower| follower.end());
                    }
                    !ends
                });
            }
            Command::Reopen => self.files.close_all(),
        }
    }

    /// Writes records, app by app.
    fn write(&mut self, mut records: Vec<Record>) {
        records.sort_by_key(|record| Arc::as_ptr(&record.log));
        for own in records.chunk_by(|one, other| Arc::ptr_eq(&one.log, &other.log)) {
            let Some(log) = own.first().map(|record| Arc::clone(&record.log)) else { continue };
            let bytes = own.iter().map(Record::bytes).sum();
            self.write_of(&log, own);
            log.queued.fetch_sub(bytes, Relaxed);
        }
    }

    /// Writes what one app has to say, and before it what was dropped.
    fn write_of(&mut self, log: &Arc<Log>, records: &[Record]) {
        if log.forgotten.load(Relaxed) {
            return;
        }
        let mut chunk = std::mem::take(&mut self.lines);
        let mut count = 0;
        let dropped = log.dropped.swap(0, Relaxed);
        if dropped > 0 {
            note(&mut chunk, &format!("{dropped} lines are missing here: they could not be written"));
            self.show(log, &chunk);
        }
        let mut wrote = true;
        for record in records {
            let begin = chunk.len();
            record.write(&mut chunk);
            self.show(log, chunk.get(begin..).unwrap_or_default());
            count += 1;
            if self.files.room(&log.name).is_ok_and(|room| chunk.len() as u64 > room) {
                let line = chunk.split_off(begin);
                wrote &= self.put(log, &chunk, count - 1);
                chunk = line;
                count = 1;
                if let Err(error) = self.files.rotate(&log.name) {
                    self.fails(log, &error);
                }
            }
            if chunk.len() >= CHUNK_BYTES {
                wrote &= self.put(log, &chunk, count);
                chunk.clear();
                count = 0;
            }
        }
        wrote &= self.put(log, &chunk, count);
        if !wrote {
            // What was to tell of them is lost, too.
            log.dropped.fetch_add(dropped, Relaxed);
        }
        chunk.clear();
        chunk.shrink_to(2 * CHUNK_BYTES);
        self.lines = chunk;
    }

    /// Writes so many lines. False: they are lost.
    fn put(&mut self, log: &Log, lines: &[u8], count: u64) -> bool {
        if lines.is_empty() {
            return true;
        }
        match self.files.write(&log.name, lines) {
            Ok(()) => {
                // A disk that is all but full takes one line and refuses the next.
                let steady = self.failed.is_none_or(|failed| failed.elapsed() >= STEADY);
                if self.failing && steady {
                    self.failing = false;
                    tracing::info!(target: "tidegate", app = &*log.name, "the apps' logs are written again");
                }
                true
            }
            Err(error) => {
                log.lose(count);
                self.fails(log, &error);
                false
            }
        }
    }

    fn fails(&mut self, log: &Log, error: &io::Error) {
        let now = Instant::now();
        self.failed = Some(now);
        let lately = self.told.is_some_and(|told| now - told < TELL_INTERVAL);
        if !self.failing && !lately {
            (self.failing, self.told) = (true, Some(now));
            let folder = self.files.folder().display();
            let app = &*log.name;
            tracing::warn!(target: "tidegate", app, %folder, %error, "the log of an app can not be written: lines are lost");
        }
    }

    /// Lines reach those who follow, whatever the disk does.
    fn show(&self, log: &Arc<Log>, lines: &[u8]) {
        for (_, follower) in self.followers.iter().filter(|(followed, _)| Arc::ptr_eq(followed, log)) {
            follower.upgrade().iter().for_each(|follower| follower.push(lines));
        }
    }
}
