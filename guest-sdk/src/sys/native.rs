//! A host in memory, for every target that is not wasm: what the SDK's own tests run against, and users' through
//! `test`.
//!
//! One exchange at a time, per thread. It follows the ABI's rules for order, handles and backpressure; time passes only
//! while the handler waits, and then at once up to whatever comes next; unless it waits for a socket, which is a real
//! one: that takes real time. What it leaves out: limits on CPU, memory and wall-clock time, and all but the simplest
//! checks of heads.

mod forward;
mod kv;
pub(crate) mod sockets;
pub(crate) mod upstreams;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tidegate_abi::errno::{self, Errno};
use tidegate_abi::fields::{FieldList, ListError};
use tidegate_abi::poll::{self, Entry};
use tidegate_abi::usage::Usage;

pub(crate) const REQUEST_BODY: u32 = 3;
pub(crate) const RESPONSE_BODY: u32 = 4;
const HEAD_BYTES_MAX: usize = 32 << 10;
const TRAILERS_BYTES_MAX: usize = 16 << 10;
const CPU_LIMIT_NS: u64 = 10_000_000_000;
pub(crate) const WALL_LIMIT_NS: u64 = 30_000_000_000;
/// Where the clock begins.
const BEGIN_NS: u64 = 1_000_000;
/// How long a stalled client goes without reading before it is gone: what hosts allow is of this size.
const STALL_NS: u64 = 60_000_000_000;
/// Who looks more often than this without a wait in between sees time pass, or would never get anywhere.
const LOOKS_FREE: u32 = 16;
/// How long each further look takes.
const LOOK_NS: u64 = 1_000;
/// "Not yet" so many times without a wait in between: that handler spins, and would for ever.
const SPINS_MAX: u32 = 1 << 20;

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

/// A piece of the request body.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// So much later than the one before.
    pub(crate) delay_ns: u64,
    pub(crate) bytes: Vec<u8>,
}

/// The host's side of one exchange: what is to happen, then what happened.
#[derive(Debug)]
pub(crate) struct Host {
    /// The packed request head.
    pub(crate) head: Vec<u8>,
    /// The request body; each chunk arrives the next time the handler waits for it.
    pub(crate) chunks: VecDeque<Chunk>,
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
    /// The client reads nothing, and goes away when the pipe has been full for a while.
    pub(crate) stalled: bool,
    /// More handles that can be waited for, and when they are ready.
    #[cfg(test)]
    pub(crate) others: std::collections::BTreeMap<u32, u64>,

    began: Instant,
    /// When the last chunk arrived.
    arrived_ns: u64,
    spins: u32,
    looks: u32,
    full_since_ns: u64,
    arrived: VecDeque<u8>,
    request_end: End,
    queued_bytes: usize,
    pub(crate) queued_bytes_max: usize,
    full: bool,
    pub(crate) interim: Vec<Vec<u8>>,
    pub(crate) status: Option<u16>,
    pub(crate) response_head: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) response_trailers: Vec<u8>,
    pub(crate) response_end: End,
    pub(crate) now_ns: u64,
    pub(crate) logs: Vec<(u32, String)>,
    /// Requests to others.
    fetches: upstreams::Fetches,
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
            stalled: false,
            #[cfg(test)]
            others: std::collections::BTreeMap::new(),
            began: Instant::now(),
            arrived_ns: BEGIN_NS,
            spins: 0,
            looks: 0,
            full_since_ns: 0,
            arrived: VecDeque::new(),
            request_end: End::Open,
            queued_bytes: 0,
            queued_bytes_max: 0,
            full: false,
            interim: Vec::new(),
            status: None,
            response_head: Vec::new(),
            body: Vec::new(),
            response_trailers: Vec::new(),
            response_end: End::Open,
            now_ns: BEGIN_NS,
            logs: Vec::new(),
            fetches: upstreams::Fetches::default(),
            calls: Vec::new(),
        }
    }
}

type Outcome<T = usize> = Result<T, Errno>;

/// The list that a guest gave, with its size bounded before it is looked at.
fn bounded(list: &[u8]) -> Outcome<FieldList<'_>> {
    FieldList::bounded(list).map_err(|error| match error {
        ListError::TooLarge => errno::EMSGSIZE,
        ListError::Malformed => errno::EINVAL,
    })
}

impl Host {
    fn set_head(&mut self, status: u16, head: &[u8]) -> Outcome {
        if head.len() > HEAD_BYTES_MAX {
            return Err(errno::EMSGSIZE);
        }
        let list = bounded(head)?;
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
        self.queued_bytes_max = self.queued_bytes_max.max(body.len());
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

    /// How the request's body has failed, if it has.
    fn body_failure(&self) -> Option<Errno> {
        self.body_error.filter(|_| self.arrived.is_empty() && self.chunks.is_empty())
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
            (End::Open, _) if self.gone() => Err(errno::ECONNRESET),
            (End::Open, _) if self.full => Err(errno::EAGAIN),
            (End::Open, _) => Ok(self.pipe_bytes - self.queued_bytes),
        }
    }

    fn write(&mut self, handle: u32, bytes: &[u8]) -> Outcome {
        let n = self.permit(handle)?.min(bytes.len());
        self.body.extend_from_slice(&bytes[..n]);
        self.queued_bytes += n;
        self.queued_bytes_max = self.queued_bytes_max.max(self.queued_bytes);
        self.full = self.queued_bytes == self.pipe_bytes;
        self.full_since_ns = self.now_ns;
        Ok(n)
    }

    /// True once there is no client any more.
    fn gone(&self) -> bool {
        self.body.len() >= self.client_bytes_max
            || self.stalled && self.full && self.now_ns >= self.full_since_ns.saturating_add(STALL_NS)
    }

    fn finish(&mut self, handle: u32, trailers: &[u8]) -> Outcome {
        match (handle, self.response_end, self.status) {
            _ if sockets::is_ours(handle) => sockets::finish(handle),
            _ if upstreams::is_ours(handle) => self.fetches.finish(handle, self.now_ns),
            (RESPONSE_BODY, End::Clean, _) => Err(errno::EALREADY),
            (RESPONSE_BODY, End::Open, None) => Err(errno::EPROTO),
            (RESPONSE_BODY, End::Open, Some(_)) => {
                if trailers.len() > TRAILERS_BYTES_MAX {
                    return Err(errno::EMSGSIZE);
                }
                bounded(trailers)?;
                self.response_trailers = trailers.to_vec();
                self.response_end = End::Clean;
                Ok(0)
            }
            _ => Err(errno::EBADF),
        }
    }

    fn close(&mut self, handle: u32) -> Outcome {
        let end = match handle {
            _ if sockets::is_ours(handle) => return sockets::close(handle),
            _ if upstreams::is_ours(handle) => return self.fetches.close(handle),
            _ if kv::is_ours(handle) => return kv::close(handle),
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
        match entry.handle {
            handle if sockets::is_ours(handle) => sockets::ready(entry),
            handle if upstreams::is_ours(handle) => self.fetches.ready(entry, self.now_ns),
            handle if kv::is_ours(handle) => kv::ready(entry),
            REQUEST_BODY if self.request_end != End::Closed => {
                let readable = !self.arrived.is_empty() || self.chunks.is_empty();
                if readable { entry.interest & poll::READABLE } else { 0 }
            }
            RESPONSE_BODY if self.gone() => poll::HANGUP,
            RESPONSE_BODY if self.response_end != End::Closed => {
                if self.full {
                    0
                } else {
                    entry.interest & poll::WRITABLE
                }
            }
            #[cfg(test)]
            other if self.others.contains_key(&other) => {
                if self.now_ns >= self.others[&other] {
                    entry.interest
                } else {
                    0
                }
            }
            _ => poll::ERROR,
        }
    }

    fn poll(&mut self, entries: &mut [Entry], timeout_ns: i64) -> Outcome {
        if entries.len() > poll::ENTRIES_MAX {
            return Err(errno::EINVAL);
        }
        self.spins = 0;
        self.looks = if timeout_ns == 0 { self.looks + 1 } else { 0 };
        if self.looks > LOOKS_FREE {
            self.now_ns = self.now_ns.saturating_add(LOOK_NS);
        }
        let is_real = entries.iter().any(|entry| sockets::is_ours(entry.handle));
        let over_ns = self.now_ns.saturating_add(u64::try_from(timeout_ns).unwrap_or(u64::MAX));
        let mut waited = false;
        loop {
            for entry in entries.iter_mut() {
                entry.ready = self.ready(*entry);
            }
            let ready = entries.iter().filter(|entry| entry.ready != 0).count();
            if ready > 0 || timeout_ns == 0 && waited {
                return Ok(ready);
            }
            if is_real {
                if self.now_ns >= over_ns {
                    return Ok(0);
                }
                self.pass_real_time(entries, over_ns);
            } else if waited {
                assert!(timeout_ns >= 0, "the handler waits for ever: {entries:?}");
                return Ok(0);
            } else {
                self.pass_time(entries, timeout_ns);
            }
            waited = true;
        }
    }

    /// A socket is waited for: time is what it is, and what else is due comes when it is.
    fn pass_real_time(&mut self, entries: &[Entry], over_ns: u64) {
        let due_ns = entries.iter().filter_map(|entry| self.due_ns(entry)).min().unwrap_or(u64::MAX);
        let until_ns = due_ns.min(over_ns).saturating_sub(self.now_ns);
        let began = Instant::now();
        sockets::wait(entries, Duration::from_nanos(until_ns));
        let passed_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.pass_time(entries, i64::try_from(passed_ns).unwrap_or(i64::MAX));
    }

    /// When that which the entry waits for comes about, if ever.
    fn due_ns(&self, entry: &Entry) -> Option<u64> {
        match entry.handle {
            handle if upstreams::is_ours(handle) => self.fetches.due_ns(entry),
            REQUEST_BODY if entry.interest & poll::READABLE != 0 => {
                Some(self.arrived_ns.saturating_add(self.chunks.front()?.delay_ns))
            }
            RESPONSE_BODY if entry.interest & poll::WRITABLE != 0 && self.stalled => {
                Some(self.full_since_ns.saturating_add(STALL_NS))
            }
            RESPONSE_BODY if entry.interest & poll::WRITABLE != 0 => Some(self.now_ns),
            #[cfg(test)]
            other => self.others.get(&other).copied(),
            #[cfg(not(test))]
            _ => None,
        }
    }

    /// The handler waits: time goes on to what comes first, or to the timeout. The client sends its next chunk, and
    /// reads what is queued.
    fn pass_time(&mut self, entries: &[Entry], timeout_ns: i64) {
        let over_ns = u64::try_from(timeout_ns).ok().map(|timeout_ns| self.now_ns.saturating_add(timeout_ns));
        let due_ns = entries.iter().filter_map(|entry| self.due_ns(entry)).min();
        let next_ns = due_ns.into_iter().chain(over_ns).min().unwrap_or(self.now_ns);
        self.fetches.drain();
        // While time passes the client goes on, whether or not the handler waits for that.
        let passes = next_ns > self.now_ns;
        self.now_ns = self.now_ns.max(next_ns);
        let is_due = |entry: Entry| {
            let is_waited_for =
                entries.iter().any(|e| e.handle == entry.handle && e.interest & entry.interest != 0);
            (passes || is_waited_for) && self.due_ns(&entry).is_some_and(|due_ns| due_ns <= self.now_ns)
        };
        let (arrives, drains) = (
            is_due(Entry::new(REQUEST_BODY, poll::READABLE)),
            is_due(Entry::new(RESPONSE_BODY, poll::WRITABLE)),
        );
        if arrives && self.arrived.is_empty() {
            self.arrived.extend(self.chunks.pop_front().map(|chunk| chunk.bytes).unwrap_or_default());
            self.arrived_ns = self.now_ns;
        }
        if drains && !self.stalled {
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
    use super::{BEGIN_NS, Entry, HOST, Host, Outcome, RESPONSE_BODY, copy_out, errno};
    use std::time::{Duration, Instant};
    use tidegate_abi::request::RequestView;

    fn call(name: &'static str, f: impl FnOnce(&mut Host) -> Outcome) -> i32 {
        HOST.with_borrow_mut(|host| {
            host.calls.push(name);
            match f(host) {
                Ok(n) => i32::try_from(n).expect("counts fit"),
                Err(errno) => {
                    host.spins += u32::from(errno == errno::EAGAIN);
                    assert!(
                        host.spins < super::SPINS_MAX,
                        "the handler tries `{name}` again and again without waiting"
                    );
                    -errno
                }
            }
        })
    }

    pub(crate) fn request_head(buf: &mut [u8]) -> i32 {
        call("request_head", |host| copy_out(&host.head, buf))
    }

    pub(crate) fn make_id() -> String {
        String::new()
    }

    pub(crate) fn has_body(view: &RequestView<'_>) -> bool {
        view.has_body()
    }

    pub(crate) fn respond(status: u16, head: &[u8], body: &[u8]) -> i32 {
        call("respond", |host| host.respond(status, head, body))
    }

    pub(crate) fn response_head(status: u16, head: &[u8]) -> i32 {
        call("response_head", |host| host.set_head(status, head))
    }

    pub(crate) fn read(handle: u32, buf: &mut [u8]) -> i32 {
        call("read", |host| host.read_any(handle, buf))
    }

    pub(crate) fn write(handle: u32, bytes: &[u8]) -> i32 {
        call("write", |host| host.write_any(handle, bytes))
    }

    pub(crate) fn forward(from: u32, to: u32, n: i64) -> i64 {
        call("forward", |host| host.forward(from, to, n)).into()
    }

    pub(crate) fn finish(handle: u32, trailers: &[u8]) -> i32 {
        call("finish", |host| host.finish(handle, trailers))
    }

    pub(crate) fn trailers(handle: u32, buf: &mut [u8]) -> i32 {
        call("trailers", |host| match (handle, host.request_end) {
            _ if super::upstreams::is_ours(handle) => Ok(0),
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

    pub(crate) fn connect(kind: u32, addr: &[u8]) -> i32 {
        call("connect", |_| super::sockets::connect(kind, addr))
    }

    pub(crate) fn resolve(name: &[u8]) -> i32 {
        call("resolve", |_| super::sockets::resolve(name))
    }

    pub(crate) fn socket_address(handle: u32, which: u32, buf: &mut [u8]) -> i32 {
        call("socket_address", |_| copy_out(super::sockets::address(handle, which)?.as_bytes(), buf))
    }

    pub(crate) fn error(handle: u32) -> i32 {
        if super::upstreams::is_ours(handle) {
            return HOST.with_borrow_mut(|host| host.fetches.error(handle, host.now_ns));
        }
        if super::kv::is_ours(handle) {
            return super::kv::error(handle);
        }
        if handle == super::REQUEST_BODY {
            return HOST.with_borrow(|host| host.body_failure().unwrap_or(0));
        }
        super::sockets::error(handle)
    }

    /// Whether a request to others is given a body of that size with the call.
    pub(crate) fn is_given(body_bytes: usize) -> bool {
        body_bytes <= crate::sys::RESPOND_BODY_BYTES_MAX
    }

    pub(crate) fn fetch_request(head: &[u8], body: &[u8]) -> i32 {
        call("request", |host| host.fetches.begin(head, body, host.respond_bytes_max, host.now_ns))
    }

    pub(crate) fn fetch_head(handle: u32, buf: &mut [u8]) -> i32 {
        call("head", |host| copy_out(&host.fetches.head(handle, host.now_ns)?, buf))
    }

    pub(crate) fn fetch_reason(handle: u32, buf: &mut [u8]) -> i32 {
        call("reason", |host| copy_out(host.fetches.reason(handle, host.now_ns)?.as_bytes(), buf))
    }

    pub(crate) fn kv_get(key: &[u8]) -> i32 {
        call("get", |_| super::kv::get(key))
    }

    pub(crate) fn kv_set(key: &[u8], value: &[u8]) -> i32 {
        call("set", |_| super::kv::set(key, value))
    }

    pub(crate) fn kv_delete(key: &[u8]) -> i32 {
        call("delete", |_| super::kv::delete(key))
    }

    pub(crate) fn kv_exists(key: &[u8]) -> i32 {
        call("exists", |_| super::kv::exists(key))
    }

    pub(crate) fn kv_increment(key: &[u8], delta: i64) -> i32 {
        call("increment", |_| super::kv::increment(key, delta))
    }

    pub(crate) fn kv_swap(key: &[u8], old: &[u8], new: &[u8], flags: u32) -> i32 {
        call("swap", |_| super::kv::swap(key, old, new, flags))
    }

    pub(crate) fn kv_list(prefix: &[u8], after: &[u8]) -> i32 {
        call("list", |_| super::kv::list(prefix, after))
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

    pub(crate) fn now() -> Instant {
        instant_of(monotonic_ns()).unwrap_or_else(Instant::now)
    }

    pub(crate) fn instant_of(at_ns: u64) -> Option<Instant> {
        let began = HOST.with_borrow(|host| host.began);
        began.checked_add(Duration::from_nanos(at_ns.saturating_sub(BEGIN_NS)))
    }

    pub(crate) fn ns_of(at: Instant) -> u64 {
        let since = at.saturating_duration_since(HOST.with_borrow(|host| host.began));
        BEGIN_NS.saturating_add(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}
