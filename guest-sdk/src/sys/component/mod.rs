//! Any host of `wasi:http` 0.2: the same calls as those of `tidegate_v1`, made of its resources.
//!
//! What the other hosts do behind a call is done here, in the guest: one state for the request that is being served,
//! and in it what each call needs. Invariants: the state belongs to one call of `wasi:http/incoming-handler#handle`,
//! and nothing of it outlives that; its handles have numbers that no other call has, so that what a handler keeps of a
//! request does nothing to the next.
//!
//! What `wasi:http` has no word for: route parameters, mount, addresses, deadline and usage are absent, the request's
//! id is made here, the version is taken for HTTP/1.1, early hints go nowhere, log records become lines on stderr.

mod fetch;
mod fields;
mod head;
mod incoming;
mod keyvalue;
mod log;
mod outgoing;
mod poll;
mod resource;
mod sink;
mod sockets;

use std::cell::{Cell, RefCell};

use tidegate_abi::errno::{EAGAIN, EBADF, ECONNRESET, EFBIG, EIO, EPROTO, ETIMEDOUT, Errno};
use tidegate_abi::poll::Entry;
use tidegate_abi::request::RequestView;
use tidegate_abi::usage::Usage;
use wasip2::clocks::monotonic_clock;
use wasip2::http::types::{ErrorCode, IncomingRequest, Method, ResponseOutparam, http_error_code};
use wasip2::io::streams::StreamError;
use wasip2::random::random::get_random_u64;

use head::Head;
use incoming::{Incoming, Opened};
use outgoing::Outgoing;
use sink::MOVE_BYTES_MAX;
use sockets::{Lookup, Tcp, Udp};

pub(crate) use super::clock::{instant_of, now, ns_of};
pub(crate) use log::log;

/// The number of the first handle, as a module has it.
const FIRST_HANDLE: u32 = 3;

/// Whether a request to others is given a body of that size with the call: it is written as there is room for it.
pub(crate) fn is_given(body_bytes: usize) -> bool {
    body_bytes == 0
}

/// Bytes of memory in one page.
const PAGE_BYTES: u64 = 64 << 10;

/// The numbers of a call's handles.
#[derive(Clone, Copy)]
struct Handles {
    request_body: u32,
    response_body: u32,
}

impl Handles {
    /// Numbers that no call of this instance had before.
    fn next() -> Self {
        let request_body = NEXT_HANDLE.get();
        // Five hundred million requests: rather a trap than a number twice.
        let next = request_body.checked_add(2).filter(|next| *next < resource::FIRST_HANDLE);
        NEXT_HANDLE.set(next.expect("an instance has handles left"));
        Self { request_body, response_body: request_body + 1 }
    }
}

/// The request that is being served.
struct Call {
    handles: Handles,
    head: Option<Head>,
    id: Option<u64>,
    // Before the request: what was borrowed from a resource goes before it.
    incoming: Incoming,
    outgoing: Outgoing,
    request: IncomingRequest,
}

impl Call {
    fn head(&mut self) -> &Head {
        self.head.get_or_insert_with(|| Head::take(&self.request))
    }
}

fn is_head_request(head: Option<&Head>, request: &IncomingRequest) -> bool {
    head.map_or_else(|| matches!(request.method(), Method::Head), |head| head.method() == "HEAD")
}

thread_local! {
    static NEXT_HANDLE: Cell<u32> = const { Cell::new(FIRST_HANDLE) };
    static CALL: RefCell<Option<Call>> = const { RefCell::new(None) };
}

/// Runs `handle`, which returns what `tidegate_handle` would, for a request.
pub fn serve(request: IncomingRequest, outparam: ResponseOutparam, handle: impl FnOnce() -> i32) {
    CALL.set(Some(Call {
        handles: Handles::next(),
        head: None,
        id: None,
        incoming: Incoming::new(),
        outgoing: Outgoing::new(outparam),
        request,
    }));
    let failed = handle() != 0;
    resource::clear();
    if let Some(mut call) = CALL.take() {
        call.outgoing.end(failed);
    }
}

/// What `f` makes of the request that is being served.
fn with<R>(f: impl FnOnce(&mut Call) -> R) -> R {
    // The panic comes when the borrow is over.
    CALL.with_borrow_mut(|call| call.as_mut().map(f)).expect("the SDK is used while a request is served")
}

/// As [`with`], for those who hold the request's body of this call.
fn reading<R>(handle: u32, f: impl FnOnce(&mut Call) -> Result<R, Errno>) -> Result<R, Errno> {
    with(|call| if handle == call.handles.request_body { f(call) } else { Err(EBADF) })
}

/// The same for the response's body.
fn writing<R>(handle: u32, f: impl FnOnce(&mut Call) -> Result<R, Errno>) -> Result<R, Errno> {
    with(|call| if handle == call.handles.response_body { f(call) } else { Err(EBADF) })
}

/// A count, or an errno, as an import of `tidegate_v1` returns it.
fn returned(result: Result<usize, Errno>) -> i32 {
    result.map_or_else(|errno| -errno, |n| i32::try_from(n).unwrap_or(i32::MAX))
}

pub(crate) fn request_head(buf: &mut [u8]) -> i32 {
    with(|call| {
        let handles = call.handles;
        call.head().pack(handles, buf)
    })
}

/// The id of the request: nobody gave it one.
pub(crate) fn make_id() -> String {
    with(|call| format!("{:016x}", *call.id.get_or_insert_with(get_random_u64)))
}

/// Whether a body follows. Only asked when it matters: without a Content-Length it takes a look at the body, unless the
/// client waits to be asked for it, which only those do who have one (RFC 9110 section 10.1.1).
pub(crate) fn has_body(view: &RequestView<'_>) -> bool {
    view.has_body()
        && with(|call| {
            let told = call.head().tells_of_body();
            told || call.incoming.is_there(&call.request)
        })
}

pub(crate) fn respond(status: u16, head: &[u8], body: &[u8]) -> i32 {
    // Not under the borrow: it may have to wait for the client.
    let begun = with(|call| {
        let is_head_request = || is_head_request(call.head.as_ref(), &call.request);
        call.outgoing.respond(status, head, body, is_head_request)
    });
    let written = begun.and_then(|n| write_rest(&body[n..]));
    match written.and_then(|()| with(|call| call.outgoing.finish(&[]))) {
        Ok(()) => 0,
        Err(errno) => {
            with(|call| call.outgoing.abandon_if(begun.is_ok()));
            -errno
        }
    }
}

/// What did not fit at once, waiting for room.
fn write_rest(mut rest: &[u8]) -> Result<(), Errno> {
    while !rest.is_empty() {
        match with(|call| call.outgoing.write(rest)) {
            Ok(n) => rest = &rest[n..],
            Err(EAGAIN) => {
                let handle = with(|call| call.handles.response_body);
                super::wait(handle, tidegate_abi::poll::WRITABLE).map_err(|_| ETIMEDOUT)?;
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

pub(crate) fn response_head(status: u16, head: &[u8]) -> i32 {
    const EARLY_HINTS: u16 = 103;
    with(|call| {
        if status == EARLY_HINTS {
            return returned(call.outgoing.hint(head).map(|()| 0));
        }
        let is_head_request = is_head_request(call.head.as_ref(), &call.request);
        returned(call.outgoing.begin(status, head, is_head_request).map(|()| 0))
    })
}

pub(crate) fn read(handle: u32, buf: &mut [u8]) -> i32 {
    if resource::is_ours(handle) {
        return returned(resource::with(handle, |resource| resource.read(buf)));
    }
    returned(reading(handle, |call| call.incoming.read(&call.request, buf)))
}

pub(crate) fn write(handle: u32, bytes: &[u8]) -> i32 {
    if resource::is_ours(handle) {
        return returned(resource::with(handle, |resource| resource.write(bytes)));
    }
    returned(writing(handle, |call| call.outgoing.write(bytes)))
}

pub(crate) fn forward(from: u32, to: u32, n: i64) -> i64 {
    let max = u64::try_from(n).unwrap_or(u64::MAX);
    let moved = match (resource::is_ours(from), resource::is_ours(to)) {
        (false, false) => writing(to, |call| {
            if from != call.handles.request_body {
                return Err(EBADF);
            }
            call.outgoing.forward(&mut call.incoming, &call.request, max)
        }),
        (true, false) => resource::with(from, |from| {
            let incoming = from.incoming()?;
            writing(to, |call| call.outgoing.forward(incoming, &Opened, max))
        }),
        (false, true) => resource::with(to, |to| {
            let sink = to.sink()?;
            reading(from, |call| sink.forward(&mut call.incoming, &call.request, max.min(MOVE_BYTES_MAX)))
        }),
        (true, true) => forward_between(from, to, max.min(MOVE_BYTES_MAX)),
    };
    moved.map_or_else(|errno| (-errno).into(), |n| i64::try_from(n).unwrap_or(i64::MAX))
}

/// As [`forward`], with neither end a body of the request that is served.
fn forward_between(from: u32, to: u32, max: u64) -> Result<u64, Errno> {
    let mut source = resource::take(from).ok_or(EBADF)?;
    let moved = source
        .incoming()
        .and_then(|incoming| resource::with(to, |to| to.sink()?.forward(incoming, &Opened, max)));
    resource::put_back(from, source);
    moved
}

pub(crate) fn finish(handle: u32, trailers: &[u8]) -> i32 {
    if resource::is_ours(handle) {
        return returned(resource::with(handle, |resource| resource.finish(trailers).map(|()| 0)));
    }
    returned(writing(handle, |call| call.outgoing.finish(trailers).map(|()| 0)))
}

pub(crate) fn trailers(handle: u32, buf: &mut [u8]) -> i32 {
    if resource::is_ours(handle) {
        return returned(resource::with(handle, |resource| Ok(pack(&resource.trailers()?, buf))));
    }
    returned(reading(handle, |call| Ok(pack(call.incoming.trailers(&call.request)?, buf))))
}

/// Packs a list if it fits, and gives its size either way.
fn pack(list: &[(String, Vec<u8>)], buf: &mut [u8]) -> usize {
    if list.is_empty() {
        return 0;
    }
    let pairs = || list.iter().map(|(name, value)| (name.as_bytes(), value.as_slice()));
    let (count, text_bytes) = tidegate_abi::fields::measure(pairs());
    tidegate_abi::fields::pack(pairs(), buf);
    tidegate_abi::fields::packed_bytes(count, text_bytes)
}

pub(crate) fn connect(kind: u32, addr: &[u8]) -> i32 {
    returned(if kind == tidegate_abi::socket::UDP {
        Udp::begin(addr).map(|socket| resource::open(Box::new(socket)))
    } else {
        Tcp::begin(addr).map(|socket| resource::open(Box::new(socket)))
    })
}

pub(crate) fn resolve(name: &[u8]) -> i32 {
    returned(Lookup::begin(name).map(|lookup| resource::open(Box::new(lookup))))
}

pub(crate) fn socket_address(handle: u32, which: u32, buf: &mut [u8]) -> i32 {
    returned(resource::with(handle, |socket| {
        Ok(copy_out(socket.address(which)?.to_string().as_bytes(), buf))
    }))
}

/// How a handle failed; 0 if it has not.
pub(crate) fn error(handle: u32) -> i32 {
    if resource::is_ours(handle) {
        return resource::with(handle, |resource| Ok(resource.error())).unwrap_or(EBADF);
    }
    let end = reading(handle, |call| Ok(call.incoming.end()));
    end.map_or(EBADF, |end| end.and_then(Result::err).unwrap_or(0))
}

pub(crate) fn fetch_request(head: &[u8], body: &[u8]) -> i32 {
    returned(fetch::Call::begin(head, body).map(|call| resource::open(Box::new(call))))
}

pub(crate) fn fetch_head(handle: u32, buf: &mut [u8]) -> i32 {
    returned(resource::with(handle, |call| {
        let (status, fields) = call.head()?;
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_slice()));
        let size = tidegate_abi::fetch::Response { status, fields }.pack(buf).ok_or(EIO)?;
        Ok(size as usize)
    }))
}

pub(crate) fn fetch_reason(handle: u32, buf: &mut [u8]) -> i32 {
    returned(resource::with(handle, |call| Ok(copy_out(call.reason().as_bytes(), buf))))
}

pub(crate) fn kv_get(key: &[u8]) -> i32 {
    returned(keyvalue::get(key))
}

pub(crate) fn kv_set(key: &[u8], value: &[u8]) -> i32 {
    returned(keyvalue::set(key, value))
}

pub(crate) fn kv_delete(key: &[u8]) -> i32 {
    returned(keyvalue::delete(key))
}

pub(crate) fn kv_exists(key: &[u8]) -> i32 {
    returned(keyvalue::exists(key))
}

pub(crate) fn kv_increment(key: &[u8], delta: i64) -> i32 {
    returned(keyvalue::increment(key, delta))
}

pub(crate) fn kv_swap(key: &[u8], old: &[u8], new: &[u8], flags: u32) -> i32 {
    returned(keyvalue::swap(key, old, new, flags))
}

pub(crate) fn kv_list(prefix: &[u8], after: &[u8]) -> i32 {
    returned(keyvalue::list(prefix, after))
}

/// Copies `bytes` into `buf` if they fit, and gives their length either way.
fn copy_out(bytes: &[u8], buf: &mut [u8]) -> usize {
    if let Some(room) = buf.get_mut(..bytes.len()) {
        room.copy_from_slice(bytes);
    }
    bytes.len()
}

pub(crate) fn poll(entries: &mut [Entry], timeout_ns: i64) -> i32 {
    if entries.is_empty() {
        CALL.with_borrow_mut(|call| call.iter_mut().for_each(|call| call.outgoing.flush()));
        resource::flush();
        poll::sleep(timeout_ns);
        return 0;
    }
    poll::poll(entries, timeout_ns)
}

pub(crate) fn close(handle: u32) -> i32 {
    if resource::is_ours(handle) {
        return if resource::take(handle).is_some() { 0 } else { -EBADF };
    }
    with(|call| {
        if handle == call.handles.request_body {
            call.incoming = Incoming::new();
        } else if handle == call.handles.response_body {
            call.outgoing.abandon_if(true);
        } else {
            return -EBADF;
        }
        0
    })
}

/// Nobody says what is used and what is left: nothing, and no end to it. But for the memory, which can be seen.
pub(crate) fn usage(buf: &mut [u8]) -> i32 {
    let memory_bytes = core::arch::wasm32::memory_size::<0>() as u64 * PAGE_BYTES;
    let usage = Usage {
        cpu_used_ns: 0,
        cpu_left_ns: u64::MAX,
        wall_left_ns: u64::MAX,
        memory_bytes,
        memory_bytes_max: u64::MAX,
    };
    returned(Ok(copy_out(&usage.to_bytes(), buf)))
}

/// The clock that timers count on, in nanoseconds.
pub(crate) fn monotonic_ns() -> u64 {
    monotonic_clock::now()
}

/// A component's constructors have run before anything of it is called.
pub(crate) fn construct() {}

/// Why a stream failed, from the side of this handler's client.
fn why(error: &StreamError) -> Errno {
    match error {
        StreamError::Closed => ECONNRESET,
        // A host that gives no reason has lost the connection: nothing else ends a body early without a name.
        StreamError::LastOperationFailed(error) => {
            http_error_code(error).as_ref().map_or(ECONNRESET, errno_of)
        }
    }
}

fn errno_of(code: &ErrorCode) -> Errno {
    match code {
        ErrorCode::HttpRequestBodySize(_) => EFBIG,
        ErrorCode::HttpResponseBodySize(_) | ErrorCode::HttpResponseIncomplete => EPROTO,
        ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => ETIMEDOUT,
        ErrorCode::ConnectionTerminated | ErrorCode::HttpProtocolError => ECONNRESET,
        _ => EIO,
    }
}
