//! A host in memory, for every target that is not wasm: what the SDK's own tests run against, and users' through
//! `testing`.
//!
//! One exchange at a time, per thread. It follows the ABI's rules for order, handles and backpressure; time passes only
//! while the handler waits. What it leaves out: limits on CPU and memory, and all but the simplest checks of heads.

use std::cell::RefCell;
use std::collections::VecDeque;
use tidegate_abi::errno::{self, Errno};
use tidegate_abi::fields::FieldList;
use tidegate_abi::poll::{self, Entry};
use tidegate_abi::usage::Usage;

pub(crate) const REQUEST_BODY: u32 = 3;
pub(crate) const RESPONSE_BODY: u32 = 4;
const HEAD_BYTES_MAX: usize = 32 << 10;
const CPU_LIMIT_NS: u64 = 10_000_000_000;
pub(crate) const WALL_LIMIT_NS: u64 = 30_000_000_000;

thread_local! {
    static HOST: RefCell<Host> = RefCell::new(Host::default());
}

/// Puts `host` behind the calls, runs `f`, and gives back what became of it.
pub(crate) fn with_host<R>(host: Host, f: impl FnOnce() -> R) -> (R, Host) {
    HOST.set(host);
    let result = f();
    (result, HOST.take())
}

/// Where the request body or the response body has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum End {
    #[default]
    Open,
    /// The end was read; or `finish` was called.
    Clean,
    /// `close` was called.
    Closed,
}

/// The host's side of one exchange: what is to happen, then what happened.
#[derive(Debug)]
pub(crate) struct Host {
    /// The packed request head.
    pub(crate) head: Vec<u8>,
    /// The request body; each chunk arrives the next time the handler waits for it.
    pub(crate) chunks: VecDeque<Vec<u8>>,
    /// How the body ends after its chunks.
    pub(crate) body_error: Option<Errno>,
    /// The packed trailers of the request.
    pub(crate) request_trailers: Vec<u8>,
    /// Bytes that the response pipe takes while the handler does not wait. Waiting empties it.
    pub(crate) pipe_bytes: usize,
    /// The largest body that `respond` takes.
    pub(crate) respond_bytes_max: usize,
    /// The client goes away when it has had this many bytes.
    pub(crate) client_bytes_max: usize,

    arrived: VecDeque<u8>,
    request_end: End,
    queued_bytes: usize,
    full: bool,
    pub(crate) interim: Vec<Vec<u8>>,
    pub(crate) status: Option<u16>,
    pub(crate) response_head: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) response_trailers: Vec<u8>,
    pub(crate) response_end: End,
    pub(crate) now_ns: u64,
    pub(crate) logs: Vec<(u32, String)>,
    /// Every call except `log`, in order.
    pub(crate) calls: Vec<&'static str>,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            head: Vec::new(),
            chunks: VecDeque::new(),
            body_error: None,
            request_trailers: Vec::new(),
            pipe_bytes: 64 << 10,
            respond_bytes_max: 64 << 10,
            client_bytes_max: usize::MAX,
            arrived: VecDeque::new(),
            request_end: End::Open,
            queued_bytes: 0,
            full: false,
            interim: Vec::new(),
            status: None,
            response_head: Vec::new(),
            body: Vec::new(),
            response_trailers: Vec::new(),
            response_end: End::Open,
            now_ns: 1_000_000,
            logs: Vec::new(),
            calls: Vec::new(),
        }
    }
}

type Outcome<T = usize> = Result<T, Errno>;

impl Host {
    fn set_head(&mut self, status: u16, head: &[u8]) -> Outcome {
        if head.len() > HEAD_BYTES_MAX {
            return Err(errno::EMSGSIZE);
        }
        let list = FieldList::parse(head).ok_or(errno::EINVAL)?;
        for field in list.iter() {
            let (name, _) = field.ok_or(errno::EINVAL)?;
            if matches!(name, b"transfer-encoding" | b"upgrade" | b"keep-alive") {
                return Err(errno::EINVAL);
            }
        }
        match (status, self.status) {
            (_, Some(_)) => return Err(errno::EALREADY),
            (103, None) => self.interim.push(head.to_vec()),
            (200..=599, None) => {
                self.status = Some(status);
                self.response_head = head.to_vec();
            }
            _ => return Err(errno::EINVAL),
        }
        Ok(0)
    }

    fn respond(&mut self, status: u16, head: &[u8], body: &[u8]) -> Outcome {
        if body.len() > self.respond_bytes_max {
            return Err(errno::EMSGSIZE);
        }
        if status < 200 {
            return Err(errno::EINVAL);
        }
        self.set_head(status, head)?;
        self.body = body.to_vec();
        self.response_end = End::Clean;
        Ok(0)
    }

    fn read(&mut self, handle: u32, buf: &mut [u8]) -> Outcome {
        self.source(handle)?;
        if buf.is_empty() {
            return Err(errno::EINVAL);
        }
        let n = self.take(buf.len())?;
        for (to, from) in buf.iter_mut().zip(self.arrived.drain(..n)) {
            *to = from;
        }
        Ok(n)
    }

    /// The handle must be the request body's.
    fn source(&self, handle: u32) -> Outcome<()> {
        if handle == REQUEST_BODY && self.request_end != End::Closed { Ok(()) } else { Err(errno::EBADF) }
    }

    /// How many bytes are there, at most `max`; 0 at the end.
    fn take(&mut self, max: usize) -> Outcome {
        match (self.arrived.len().min(max), self.chunks.is_empty(), self.body_error) {
            (0, false, _) => Err(errno::EAGAIN),
            (0, true, Some(errno)) => Err(errno),
            (0, true, None) => {
                self.request_end = End::Clean;
                Ok(0)
            }
            (n, _, _) => Ok(n),
        }
    }

    /// Bytes that a write may take now, after the checks that come before that.
    fn permit(&mut self, handle: u32) -> Outcome {
        if handle != RESPONSE_BODY {
            return Err(errno::EBADF);
        }
        match (self.response_end, self.status) {
            (End::Closed, _) => Err(errno::EBADF),
            (End::Clean, _) => Err(errno::EPIPE),
            (End::Open, None) => Err(errno::EPROTO),
            (End::Open, _) if self.body.len() >= self.client_bytes_max => Err(errno::ECONNRESET),
            (End::Open, _) if self.full => Err(errno::EAGAIN),
            (End::Open, _) => Ok(self.pipe_bytes - self.queued_bytes),
        }
    }

    fn write(&mut self, handle: u32, bytes: &[u8]) -> Outcome {
        let n = self.permit(handle)?.min(bytes.len());
        self.body.extend_from_slice(&bytes[..n]);
        self.queued_bytes += n;
        self.full = self.queued_bytes == self.pipe_bytes;
        Ok(n)
    }

    fn forward(&mut self, from: u32, to: u32, n: i64) -> Outcome {
        self.source(from)?;
        let asked = usize::try_from(n).unwrap_or(usize::MAX);
        let room = self.permit(to)?;
        let n = self.take(room.min(asked))?;
        let bytes: Vec<u8> = self.arrived.drain(..n).collect();
        self.write(to, &bytes)
    }

    fn finish(&mut self, handle: u32, trailers: &[u8]) -> Outcome {
        match (handle, self.response_end, self.status) {
            (RESPONSE_BODY, End::Clean, _) => Err(errno::EALREADY),
            (RESPONSE_BODY, End::Open, None) => Err(errno::EPROTO),
            (RESPONSE_BODY, End::Open, Some(_)) => {
                self.response_trailers = trailers.to_vec();
                self.response_end = End::Clean;
                Ok(0)
            }
            _ => Err(errno::EBADF),
        }
    }

    fn close(&mut self, handle: u32) -> Outcome {
        let end = match handle {
            REQUEST_BODY => &mut self.request_end,
            RESPONSE_BODY => &mut self.response_end,
            _ => return Err(errno::EBADF),
        };
        if *end == End::Closed {
            return Err(errno::EBADF);
        }
        *end = End::Closed;
        Ok(0)
    }

    fn ready(&self, entry: Entry) -> u16 {
        let gone = self.body.len() >= self.client_bytes_max;
        match entry.handle {
            REQUEST_BODY if self.request_end != End::Closed => {
                let readable = !self.arrived.is_empty() || self.chunks.is_empty();
                if readable { entry.interest & poll::READABLE } else { 0 }
            }
            RESPONSE_BODY if gone => poll::HANGUP,
            RESPONSE_BODY if self.response_end != End::Closed => {
                if self.full {
                    0
                } else {
                    entry.interest & poll::WRITABLE
                }
            }
            _ => poll::ERROR,
        }
    }

    fn poll(&mut self, entries: &mut [Entry], timeout_ns: i64) -> Outcome {
        if entries.len() > poll::ENTRIES_MAX {
            return Err(errno::EINVAL);
        }
        for waited in [false, true] {
            if waited {
                self.pass_time(entries, timeout_ns);
            }
            for entry in entries.iter_mut() {
                entry.ready = self.ready(*entry);
            }
            let ready = entries.iter().filter(|entry| entry.ready != 0).count();
            if ready > 0 || timeout_ns == 0 {
                return Ok(ready);
            }
        }
        assert!(timeout_ns >= 0, "the handler waits for ever: {entries:?}");
        Ok(0)
    }

    /// The handler waits: what it waits for comes about. The client sends its next chunk, and reads what is queued.
    fn pass_time(&mut self, entries: &[Entry], timeout_ns: i64) {
        let waits_for =
            |handle, interest| entries.iter().any(|e| e.handle == handle && e.interest & interest != 0);
        if entries.is_empty() {
            self.now_ns = self.now_ns.saturating_add(timeout_ns.unsigned_abs());
        }
        if waits_for(REQUEST_BODY, poll::READABLE) {
            self.arrived.extend(self.chunks.pop_front().unwrap_or_default());
        }
        if waits_for(RESPONSE_BODY, poll::WRITABLE) {
            self.queued_bytes = 0;
            self.full = false;
        }
    }

    fn usage(&self) -> Usage {
        Usage {
            cpu_used_ns: 0,
            cpu_left_ns: CPU_LIMIT_NS,
            wall_left_ns: if self.status.is_some() {
                u64::MAX
            } else {
                WALL_LIMIT_NS.saturating_sub(self.now_ns)
            },
            memory_bytes: 0,
            memory_bytes_max: 64 << 20,
        }
    }
}

/// Copies `bytes` into `buf` if they fit, and gives their length either way.
fn copy_out(bytes: &[u8], buf: &mut [u8]) -> Outcome {
    if let Some(room) = buf.get_mut(..bytes.len()) {
        room.copy_from_slice(bytes);
    }
    Ok(bytes.len())
}

/// The imports, with the signatures of `sys::wasm`.
pub(crate) mod calls {
    use super::{Entry, HOST, Host, Outcome, RESPONSE_BODY, copy_out, errno};

    fn call(name: &'static str, f: impl FnOnce(&mut Host) -> Outcome) -> i32 {
        HOST.with_borrow_mut(|host| {
            host.calls.push(name);
            match f(host) {
                Ok(n) => i32::try_from(n).expect("counts fit"),
                Err(errno) => -errno,
            }
        })
    }

    pub(crate) fn request_head(buf: &mut [u8]) -> i32 {
        call("request_head", |host| copy_out(&host.head, buf))
    }

    pub(crate) fn respond(status: u16, head: &[u8], body: &[u8]) -> i32 {
        call("respond", |host| host.respond(status, head, body))
    }

    pub(crate) fn response_head(status: u16, head: &[u8]) -> i32 {
        call("response_head", |host| host.set_head(status, head))
    }

    pub(crate) fn read(handle: u32, buf: &mut [u8]) -> i32 {
        call("read", |host| host.read(handle, buf))
    }

    pub(crate) fn write(handle: u32, bytes: &[u8]) -> i32 {
        call("write", |host| host.write(handle, bytes))
    }

    pub(crate) fn forward(from: u32, to: u32, n: i64) -> i64 {
        call("forward", |host| host.forward(from, to, n)).into()
    }

    pub(crate) fn finish(handle: u32, trailers: &[u8]) -> i32 {
        call("finish", |host| host.finish(handle, trailers))
    }

    pub(crate) fn trailers(handle: u32, buf: &mut [u8]) -> i32 {
        call("trailers", |host| match (handle, host.request_end) {
            (RESPONSE_BODY, _) | (_, super::End::Closed) => Err(errno::EBADF),
            (_, super::End::Open) => Err(errno::EAGAIN),
            (_, super::End::Clean) => copy_out(&host.request_trailers, buf),
        })
    }

    pub(crate) fn poll(entries: &mut [Entry], timeout_ns: i64) -> i32 {
        call("poll", |host| host.poll(entries, timeout_ns))
    }

    pub(crate) fn close(handle: u32) -> i32 {
        call("close", |host| host.close(handle))
    }

    pub(crate) fn usage(buf: &mut [u8]) -> i32 {
        call("usage", |host| copy_out(&host.usage().to_bytes(), buf))
    }

    pub(crate) fn log(level: u32, text: &[u8]) -> i32 {
        let text = String::from_utf8_lossy(text).into_owned();
        eprintln!("[{level}] {text}");
        HOST.with_borrow_mut(|host| host.logs.push((level, text)));
        0
    }

    pub(crate) fn monotonic_ns() -> u64 {
        HOST.with_borrow(|host| host.now_ns)
    }
}
