//! The way out for log lines: a bounded queue, and a thread that writes it to a file.
//!
//! Whoever logs never waits: what does not fit into the queue is dropped and counted. The thread writes to a descriptor
//! of its own and takes no lock of the standard streams, so that a reader who has stopped reading holds up nothing but
//! the log; in the end the rest is waited for, but not for ever. Nothing here logs: what was lost is told by whoever
//! asks with [`Sink::lost`].
//!
//! Invariants: `bytes` and `records` count everything that was taken and is not written yet, what the thread holds
//! included; a record is taken as a whole or not at all.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use tracing_subscriber::fmt::MakeWriter;

/// Bytes and records that wait to be written at most.
const QUEUE_BYTES_MAX: usize = 8 << 20;
const QUEUE_RECORDS_MAX: usize = 64 * 1024;
/// Bytes that are gathered for one write.
const CHUNK_BYTES: usize = 64 * 1024;
/// How long the end waits for what is left.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

/// Records for one write.
#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    records: usize,
}

#[derive(Debug, Default)]
struct Queue {
    chunks: VecDeque<Chunk>,
    /// Storage of a chunk that was written.
    spare: Vec<u8>,
    bytes: usize,
    records: usize,
    dropped: u64,
    /// The first error, until somebody has asked for it.
    failure: Option<io::Error>,
    has_failed: bool,
    /// The thread waits for a record.
    idle: bool,
    ended: bool,
    /// Where to write from here on.
    reopened: Option<File>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// There is something to write, or the end has come.
    filled: Condvar,
    /// Everything is written.
    emptied: Condvar,
}

/// Takes records. Clones share one queue.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    shared: Arc<Shared>,
}

/// Ends the log when it is dropped: waits a moment for what is queued, and then gives it up.
#[derive(Debug)]
#[must_use = "the log ends when this is dropped"]
pub(super) struct SinkGuard {
    sink: Sink,
}

/// What was lost since it was asked for last.
#[derive(Debug)]
pub(super) struct Lost {
    /// Records that never reached the file.
    pub(super) records: u64,
    /// Why writing failed when it first did; told once.
    pub(super) failure: Option<io::Error>,
}

impl Sink {
    /// Writes to `file` on a thread of its own.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn start(file: File, thread: &str) -> io::Result<(Self, SinkGuard)> {
        let sink = Self { shared: Arc::default() };
        let shared = Arc::clone(&sink.shared);
        thread::Builder::new().name(thread.to_owned()).spawn(move || shared.write_all_to(file))?;
        let guard = SinkGuard { sink: sink.clone() };
        Ok((sink, guard))
    }

    /// Takes a record, with the line break that ends it, or drops it.
    pub(super) fn push(&self, record: &[u8]) {
        let mut queue = self.shared.lock();
        let fits = queue.bytes + record.len() <= QUEUE_BYTES_MAX && queue.records < QUEUE_RECORDS_MAX;
        if !fits || queue.ended {
            queue.dropped += 1;
            return;
        }
        queue.append(record);
        if std::mem::take(&mut queue.idle) {
            self.shared.filled.notify_one();
        }
    }

    /// What is not written yet goes to `file`, and what comes later. The one before is closed soon.
    pub(super) fn write_to(&self, file: File) {
        let mut queue = self.shared.lock();
        queue.reopened = Some(file);
        // That the one before could not be written says nothing of this one.
        queue.has_failed = false;
        if std::mem::take(&mut queue.idle) {
            self.shared.filled.notify_one();
        }
    }

    /// What was lost, and forgets it.
    pub(super) fn lost(&self) -> Lost {
        let mut queue = self.shared.lock();
        Lost { records: std::mem::take(&mut queue.dropped), failure: queue.failure.take() }
    }

    /// Waits until everything is written, or until `deadline`. Says whether it is.
    fn wait_until_empty(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let queue = self.shared.lock();
        let waited = self.shared.emptied.wait_timeout_while(queue, left, |queue| queue.records > 0);
        waited.unwrap_or_else(PoisonError::into_inner).0.records == 0
    }
}

impl SinkGuard {
    /// Waits until everything is written, or until `deadline`.
    pub(super) fn drain(&self, deadline: Instant) {
        self.sink.wait_until_empty(deadline);
    }

    /// Takes no more, and waits for what is left until `deadline`. What is not written then counts as lost: the thread
    /// may hang in a write that nothing but the end of the process ends, so it is not waited for.
    pub(super) fn finish(&self, deadline: Instant) {
        self.sink.shared.lock().ended = true;
        self.sink.shared.filled.notify_one();
        if !self.sink.wait_until_empty(deadline) {
            let mut queue = self.sink.shared.lock();
            queue.dropped += queue.records as u64;
            queue.records = 0;
            queue.chunks.clear();
        }
    }
}

impl Drop for SinkGuard {
    fn drop(&mut self) {
        if !self.sink.shared.lock().ended {
            self.finish(Instant::now() + FAREWELL);
        }
    }
}

/// For `tracing-subscriber`, which writes an event in one call.
impl Write for Sink {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        self.push(record);
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Sink {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Queue {
    fn append(&mut self, record: &[u8]) {
        self.bytes += record.len();
        self.records += 1;
        let fits = |chunk: &&mut Chunk| chunk.bytes.len() + record.len() <= CHUNK_BYTES;
        if let Some(chunk) = self.chunks.back_mut().filter(fits) {
            chunk.bytes.extend_from_slice(record);
            chunk.records += 1;
            return;
        }
        let mut bytes = std::mem::take(&mut self.spare);
        bytes.extend_from_slice(record);
        self.chunks.push_back(Chunk { bytes, records: 1 });
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread: writes until the end has come and nothing is left.
    fn write_all_to(&self, mut file: File) {
        let mut torn = false;
        while let Some((chunk, reopened)) = self.next() {
            if let Some(other) = reopened {
                (file, torn) = (other, false);
            }
            // What follows half a line would be read as its end.
            if torn && write_all(&file, b"\n").is_ok() {
                torn = false;
            }
            let result = write_all(&file, &chunk.bytes);
            if let Err((written, _)) = &result
                && let Some((_, last)) = chunk.bytes.get(..*written).and_then(<[u8]>::split_last_chunk::<1>)
            {
                torn = *last != *b"\n";
            }
            self.done(chunk, result);
        }
    }

    /// The next chunk, waited for, and the file from it on if that is another. None: the end has come.
    fn next(&self) -> Option<(Chunk, Option<File>)> {
        let mut queue = self.lock();
        loop {
            if let Some(chunk) = queue.chunks.pop_front() {
                return Some((chunk, queue.reopened.take()));
            }
            if let Some(file) = queue.reopened.take() {
                return Some((Chunk::default(), Some(file)));
            }
            if queue.ended {
                return None;
            }
            queue.idle = true;
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self, mut chunk: Chunk, result: Result<(), (usize, io::Error)>) {
        let mut queue = self.lock();
        queue.bytes = queue.bytes.saturating_sub(chunk.bytes.len());
        // Nothing is left of what was given up.
        queue.records = queue.records.saturating_sub(chunk.records);
        if let Err((written, error)) = result {
            let lost = chunk.bytes.get(written..).unwrap_or_default();
            queue.dropped += memchr::memchr_iter(b'\n', lost).count() as u64;
            if !std::mem::replace(&mut queue.has_failed, true) {
                queue.failure = Some(error);
            }
        }
        if chunk.bytes.capacity() <= 2 * CHUNK_BYTES {
            chunk.bytes.clear();
            queue.spare = chunk.bytes;
        }
        if queue.records == 0 {
            self.emptied.notify_all();
        }
    }
}

/// Writes all of it, also to a descriptor that somebody has made non-blocking.
///
/// # Errors
/// How many bytes were written before it failed, and why it did.
fn write_all(mut file: &File, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        match file.write(rest) {
            Ok(0) => return Err((at, io::ErrorKind::WriteZero.into())),
            Ok(n) => at += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                // An error of the wait shows again in the write; an interrupted one is only a look too many.
                let _ = poll(&mut [PollFd::new(file, PollFlags::OUT)], None);
            }
            Err(e) => return Err((at, e)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;

    use super::*;

    fn pipe() -> (std::io::PipeReader, File) {
        let (reader, writer) = std::io::pipe().unwrap();
        (reader, File::from(OwnedFd::from(writer)))
    }

    #[test]
    fn what_is_written_arrives_whole_and_in_order() {
        let (mut reader, file) = pipe();
        let (sink, guard) = Sink::start(file, "test").unwrap();
        let reading = thread::spawn(move || {
            let mut all = String::new();
            reader.read_to_string(&mut all).unwrap();
            all
        });
        for i in 0..20_000 {
            sink.clone().write_all(format!("line {i}\n").as_bytes()).unwrap();
        }
        let large = "x".repeat(3 * CHUNK_BYTES) + "\n";
        sink.push(large.as_bytes());
        drop(guard);
        assert_eq!(sink.lost().records, 0);
        let all = reading.join().unwrap();
        let expected: String = (0..20_000).map(|i| format!("line {i}\n")).collect();
        assert!(all == expected + &large);
    }

    #[test]
    fn what_follows_a_reopening_goes_to_the_other_file() {
        let ((mut before, file), (mut after, other)) = (pipe(), pipe());
        let (sink, guard) = Sink::start(file, "test").unwrap();
        sink.push(b"one\n");
        guard.drain(Instant::now() + 10 * FAREWELL);
        sink.write_to(other);
        let mut text = String::new();
        // The end of the pipe says that it was closed, though nothing was written since.
        before.read_to_string(&mut text).unwrap();
        sink.push(b"two\n");
        drop(guard);
        after.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\ntwo\n");
    }

    #[test]
    fn a_reader_who_does_not_read_costs_a_bounded_queue_and_a_short_farewell() {
        let (reader, file) = pipe();
        let (sink, guard) = Sink::start(file, "test").unwrap();
        let line = [b'x'; 1023].iter().chain(b"\n").copied().collect::<Vec<u8>>();
        let sent = 12 * 1024;
        for _ in 0..sent {
            sink.push(&line);
        }
        assert!(sink.shared.lock().bytes <= QUEUE_BYTES_MAX);
        let dropped = sink.lost().records;
        assert!((3 * 1024..5 * 1024).contains(&dropped), "{dropped} of {sent}");
        let started = Instant::now();
        drop(guard);
        let took = started.elapsed();
        assert!(took >= FAREWELL && took < 5 * FAREWELL, "{took:?}");
        let lost = sink.lost();
        assert!(lost.records >= 7 * 1024 && lost.failure.is_none(), "{lost:?}");
        drop(reader);
    }

    #[test]
    fn records_are_bounded_too() {
        let (_reader, file) = pipe();
        let (sink, guard) = Sink::start(file, "test").unwrap();
        for _ in 0..3 * QUEUE_RECORDS_MAX {
            sink.push(b"\n");
        }
        // Some 64 KiB of them fit into the pipe.
        assert!(sink.lost().records > 0);
        guard.finish(Instant::now());
    }

    #[test]
    fn an_error_is_told_once_and_every_loss_is_counted() {
        let file = File::options().write(true).open("/dev/full").unwrap();
        let (sink, guard) = Sink::start(file, "test").unwrap();
        for _ in 0..3 {
            for _ in 0..100 {
                sink.push(b"lost\n");
            }
            guard.drain(Instant::now() + 10 * FAREWELL);
        }
        let lost = sink.lost();
        assert_eq!(lost.records, 300);
        assert_eq!(lost.failure.map(|e| e.kind()), Some(io::ErrorKind::StorageFull));
        sink.push(b"lost\n");
        drop(guard);
        let lost = sink.lost();
        assert!(lost.records == 1 && lost.failure.is_none(), "{lost:?}");
        sink.push(b"after the end\n");
        assert_eq!(sink.lost().records, 1);
    }
}
