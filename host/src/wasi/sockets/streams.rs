//! A connection as the two streams of `wasi:io`.
//!
//! What a guest may write at once is more than a socket is sure to take. What the socket has no room for stays here, and
//! leaves as soon as there is room: when the guest looks, or by itself when the loop says so, as the guest may well wait for
//! the answer and nothing else. Until then nothing more is permitted.
//!
//! A stream that is dropped ends nothing: the socket does, with `shutdown` or when it is dropped itself.
//!
//! Invariants: at most [`PERMIT_BYTES`] stay here. What was taken is sent before the end of the stream is; a write that
//! failed is told once, and from then on the stream is closed.

use std::future::poll_fn;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use rustix::io::Errno;
use wasmtime::format_err;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError};
use wasmtime_wasi_io::bytes::Bytes;

use super::errors::failed;
use crate::clock::{MS, Nanos};
use crate::guest::cost::moved;
use crate::guest::desk::{Desk, Wish};
use crate::net::hub::Hub;
use crate::net::readiness::Driven;
use crate::net::tcp::TcpStream;

/// Bytes that one write takes at most.
const PERMIT_BYTES: usize = 64 * 1024;
/// Bytes that one read gives at most, and how many it makes room for at first: what is read mostly comes in small pieces,
/// and room is filled with zeros.
const READ_BYTES_MAX: usize = 64 * 1024;
const READ_BYTES_FIRST: usize = 8 * 1024;
/// How long a stream that is dropped waits for what was written to it to leave.
const DROP_WAIT_MAX: Nanos = 1_000 * MS;

/// How writing goes on.
#[derive(Debug)]
enum Stage {
    Open,
    /// The guest has ended it. Its end is sent once everything before it was.
    Ending,
    /// It has failed, and nobody was told yet.
    Failed(Errno),
    Over,
}

#[derive(Debug)]
struct Writing {
    stage: Stage,
    /// What the socket had no room for.
    rest: Bytes,
    /// The loop goes on with it.
    driven: bool,
}

impl Writing {
    /// Sends what can be sent of what is here, and the end behind it.
    fn advance(&mut self, stream: &TcpStream) {
        while !self.rest.is_empty() {
            match stream.try_write(&self.rest) {
                Ok(sent) => drop(self.rest.split_to(sent)),
                Err(Errno::AGAIN) => return,
                Err(errno) => {
                    self.rest = Bytes::new();
                    // Of a stream that its own side has ended nobody is told: nobody can write to it.
                    let told = matches!(self.stage, Stage::Open) && errno != Errno::PIPE;
                    self.stage = if told { Stage::Failed(errno) } else { Stage::Over };
                    return;
                }
            }
            if !stream.is_writable() {
                break;
            }
        }
        if matches!(self.stage, Stage::Ending) && self.rest.is_empty() {
            // That the peer is gone already is no concern of the guest's.
            let _ = stream.shutdown(Shutdown::Write);
            self.stage = Stage::Over;
        }
    }

    /// Fails if there is no more writing.
    fn check(&mut self) -> Result<(), StreamError> {
        match self.stage {
            Stage::Open => Ok(()),
            Stage::Ending | Stage::Over => Err(StreamError::Closed),
            Stage::Failed(errno) => {
                self.stage = Stage::Over;
                Err(failed(errno))
            }
        }
    }
}

/// A connection: what its socket and both of its streams have in common.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    desk: Arc<Desk>,
    /// There is no more reading.
    read: AtomicBool,
    writing: Mutex<Writing>,
}

impl Connection {
    /// With its streams.
    pub(super) fn new(stream: TcpStream, desk: &Arc<Desk>) -> (Arc<Self>, Reader, Writer) {
        let writing = Writing { stage: Stage::Open, rest: Bytes::new(), driven: false };
        let desk = Arc::clone(desk);
        let this =
            Arc::new(Self { stream, desk, read: AtomicBool::new(false), writing: Mutex::new(writing) });
        let reader = Reader { connection: Arc::clone(&this), room: READ_BYTES_FIRST };
        let writer = Writer { connection: Arc::clone(&this) };
        (this, reader, writer)
    }

    fn writing(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends one side, or both.
    pub(super) fn shutdown(&self, how: Shutdown) {
        if how != Shutdown::Write && !self.read.swap(true, Relaxed) {
            // As for the other side.
            let _ = self.stream.shutdown(Shutdown::Read);
        }
        if how != Shutdown::Read {
            let mut writing = self.writing();
            if matches!(writing.stage, Stage::Open) {
                writing.stage = Stage::Ending;
                writing.advance(&self.stream);
            }
        }
    }

    /// The loop is to go on with what stays here.
    fn hand_over(self: &Arc<Self>, writing: &mut Writing) {
        if !writing.rest.is_empty() && !writing.driven {
            writing.driven = true;
            let driver: Weak<dyn Driven> = Arc::downgrade(self) as Weak<dyn Driven>;
            self.stream.set_driver(driver);
        }
    }

    /// Ready when everything that was written has left, or never will.
    fn poll_sent(&self, cx: &Context<'_>) -> Poll<()> {
        let mut writing = self.writing();
        writing.advance(&self.stream);
        if writing.rest.is_empty() { Poll::Ready(()) } else { self.stream.poll_writable(cx) }
    }

    /// Ready when more may be written, or never.
    fn poll_permit(&self, cx: &Context<'_>) -> Poll<()> {
        let mut writing = self.writing();
        writing.advance(&self.stream);
        if matches!(writing.stage, Stage::Open) { self.stream.poll_writable(cx) } else { Poll::Ready(()) }
    }
}

impl Driven for Connection {
    fn drive(self: Arc<Self>, _: &Arc<Hub>) {
        self.writing().advance(&self.stream);
    }
}

/// `input-stream` of a connection.
#[derive(Debug)]
pub(super) struct Reader {
    connection: Arc<Connection>,
    /// Bytes that the next read makes room for.
    room: usize,
}

#[async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> Result<Bytes, StreamError> {
        let Connection { stream, desk, read, .. } = &*self.connection;
        if read.load(Relaxed) {
            return Err(StreamError::Closed);
        }
        if size == 0 {
            return Ok(Bytes::new());
        }
        let room = size.min(self.room);
        let mut bytes = vec![0; room];
        match stream.try_read(&mut bytes) {
            Ok(0) => {
                read.store(true, Relaxed);
                Err(StreamError::Closed)
            }
            Ok(count) => {
                desk.spend(moved(count)).map_err(StreamError::Trap)?;
                self.room = if count == self.room {
                    (2 * count).min(READ_BYTES_MAX)
                } else {
                    self.room.min((4 * count).max(READ_BYTES_FIRST))
                };
                bytes.truncate(count);
                Ok(bytes.into())
            }
            Err(Errno::AGAIN) => {
                desk.spend(moved(0)).map_err(StreamError::Trap)?;
                Ok(Bytes::new())
            }
            Err(errno) => {
                read.store(true, Relaxed);
                Err(failed(errno))
            }
        }
    }
}

#[async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        let Connection { stream, read, .. } = &*self.connection;
        poll_fn(|cx| if read.load(Relaxed) { Poll::Ready(()) } else { stream.poll_readable(cx) }).await;
    }
}

/// `output-stream` of a connection.
#[derive(Debug)]
pub(super) struct Writer {
    connection: Arc<Connection>,
}

#[async_trait]
impl OutputStream for Writer {
    fn check_write(&mut self) -> Result<usize, StreamError> {
        let Connection { stream, .. } = &*self.connection;
        let mut writing = self.connection.writing();
        writing.advance(stream);
        writing.check()?;
        Ok(if writing.rest.is_empty() && stream.is_writable() { PERMIT_BYTES } else { 0 })
    }

    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        let Connection { stream, desk, .. } = &*self.connection;
        let mut writing = self.connection.writing();
        writing.check()?;
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.len() > PERMIT_BYTES || !writing.rest.is_empty() {
            return Err(StreamError::Trap(format_err!("more was written than `check-write` permits")));
        }
        desk.spend(moved(bytes.len())).map_err(StreamError::Trap)?;
        writing.rest = bytes;
        writing.advance(stream);
        self.connection.hand_over(&mut writing);
        writing.check()
    }

    /// What stays here leaves as soon as it can in any case, and nothing is permitted before.
    fn flush(&mut self) -> Result<(), StreamError> {
        self.connection.writing().check()
    }

    /// The stream is dropped: what was written to it is waited for, but not for ever. A peer that takes nothing is not to
    /// hold a guest up that is done with it.
    async fn cancel(&mut self) {
        let desk = &self.connection.desk;
        let until = desk.now().saturating_add(DROP_WAIT_MAX);
        poll_fn(|cx| {
            if self.connection.poll_sent(cx).is_ready() || desk.now() >= until {
                return Poll::Ready(());
            }
            desk.wish(Wish::Until(until));
            Poll::Pending
        })
        .await;
    }
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        poll_fn(|cx| self.connection.poll_permit(cx)).await;
    }
}
