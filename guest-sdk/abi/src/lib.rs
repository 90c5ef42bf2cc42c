//! The module ABI of tidegate, version 1: every number and layout that crosses the boundary, laid out once.
//!
//! The host and the SDK both build on this crate, and `tidegate.h` repeats it for C. It must stay `no_std`, free of
//! allocation and of anything that knows how either side is built. All numbers are little-endian; offsets count from
//! the start of the packed layout that holds them. Later versions of a layout only append: a reader goes by the
//! sizes that the layout states, never by those it was compiled with.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod bytes;
pub mod errno;
pub mod fetch;
pub mod fields;
pub mod kv;
pub mod poll;
pub mod request;
pub mod socket;
pub mod usage;

/// The import module of version 1.
pub const MODULE: &str = "tidegate_v1";

/// The import module of requests to others, see [`names::fetch`].
pub const FETCH_MODULE: &str = "tidegate_fetch_v1";

/// The import module of the key-value store, see [`names::kv`].
pub const KV_MODULE: &str = "tidegate_kv_v1";

/// The version that packed layouts carry.
pub const VERSION: u16 = 1;

/// What a guest exports and imports, by name.
pub mod names {
    /// The guest's linear memory (export).
    pub const MEMORY: &str = "memory";
    /// `() -> i32`: handles one request; 0 is done, anything else is `guest-error` (export).
    pub const HANDLE: &str = "tidegate_handle";
    /// `(handle) -> i32`: serves one connection of a listener that is the app's; 0 is done, anything else is `guest-error`
    /// (export).
    pub const CONNECTION: &str = "tidegate_connection";
    /// `() -> ()`: called once per instance before the first request, if present (export).
    pub const INITIALIZE: &str = "_initialize";
    /// A command's entry point. A module that has only this one is refused (export).
    pub const START: &str = "_start";

    /// `(buf, cap) -> len`: packs the request's head, see [`crate::request`].
    pub const REQUEST_HEAD: &str = "request_head";
    /// `(status, head, head_len, body, body_len) -> 0 | -errno`: head and whole body at once.
    pub const RESPOND: &str = "respond";
    /// `(status, head, head_len) -> 0 | -errno`: the response's head, or an interim one (103).
    pub const RESPONSE_HEAD: &str = "response_head";
    /// `(handle, ptr, len) -> n | 0 at the end | -errno`: never waits.
    pub const READ: &str = "read";
    /// `(handle, ptr, len) -> n | -errno`: never waits; a short count, then `-EAGAIN`.
    pub const WRITE: &str = "write";
    /// `(from, to, n: i64) -> n: i64 | -errno`: moves bytes between handles inside the host.
    pub const FORWARD: &str = "forward";
    /// `(handle, trailers, trailers_len) -> 0 | -errno`: a clean end.
    pub const FINISH: &str = "finish";
    /// `(handle, buf, cap) -> len | -errno`: the trailers of a request body read to its end.
    pub const TRAILERS: &str = "trailers";
    /// `(entries, n, timeout_ns: i64) -> ready | -errno`: the one call that waits.
    pub const POLL: &str = "poll";
    /// `(handle) -> 0 | -errno`.
    pub const CLOSE: &str = "close";
    /// `(handle) -> 0 | errno`: how a handle came to its end.
    pub const ERROR: &str = "error";
    /// `(kind, addr, len) -> handle | -errno`: a socket to `host:port`, at once; writable when it is connected, see
    /// [`crate::socket`].
    pub const CONNECT: &str = "connect";
    /// `(name, len) -> handle | -errno`: looks a name up; readable when that is done, see [`crate::socket::entry`].
    pub const RESOLVE: &str = "resolve";
    /// `(handle, which, buf, cap) -> len | -errno`: an end of a socket as `ip:port`, see [`crate::socket`].
    pub const SOCKET_ADDRESS: &str = "socket_address";
    /// `(buf, cap) -> len`: what the request has used, see [`crate::usage`].
    pub const USAGE: &str = "usage";
    /// `(level, ptr, len) -> 0 | -errno`: one record into the app's log.
    pub const LOG: &str = "log";

    /// Of [`crate::FETCH_MODULE`].
    pub mod fetch {
        /// `(head, len, body, body_len) -> handle | -errno`: sends a request, see [`crate::fetch::Request`].
        pub const REQUEST: &str = "request";
        /// `(handle, buf, cap) -> len | -errno`: packs the response's head, see [`crate::fetch::Response`]. `-EAGAIN`:
        /// it is not there yet.
        pub const HEAD: &str = "head";
        /// `(handle, buf, cap) -> len | -errno`: why the request failed, as text; no bytes: it has not.
        pub const REASON: &str = "reason";
    }

    /// Of [`crate::KV_MODULE`]. Each begins an operation; its handle is readable when that is over, and then `read` gives
    /// what came of it.
    pub mod kv {
        /// `(key, len) -> handle | -errno`: the value; `ENOENT` if there is none.
        pub const GET: &str = "get";
        /// `(key, len, value, value_len) -> handle | -errno`: nothing is to be read.
        pub const SET: &str = "set";
        /// `(key, len) -> handle | -errno`: nothing is to be read, whether or not there was one.
        pub const DELETE: &str = "delete";
        /// `(key, len) -> handle | -errno`: one byte, 1 or 0.
        pub const EXISTS: &str = "exists";
        /// `(key, len, delta: i64) -> handle | -errno`: the sum, eight bytes.
        pub const INCREMENT: &str = "increment";
        /// `(key, len, old, old_len, new, new_len, flags) -> handle | -errno`: one byte, 1 if the value was the old one and
        /// is the new one now, else 0. See [`crate::kv`].
        pub const SWAP: &str = "swap";
        /// `(prefix, len, after, after_len) -> handle | -errno`: keys, see [`crate::kv::Page`].
        pub const LIST: &str = "list";
    }
}

/// A response head that is given as `len == 0` has no fields; a `status` of this value is refused.
pub const STATUS_NONE: u32 = 0;

/// Levels of [`names::LOG`].
pub mod level {
    /// Something failed.
    pub const ERROR: u32 = 1;
    /// Something is odd.
    pub const WARN: u32 = 2;
    /// Something an operator wants to know.
    pub const INFO: u32 = 3;
    /// Something a developer wants to know.
    pub const DEBUG: u32 = 4;
    /// Everything.
    pub const TRACE: u32 = 5;
}
