//! The real host: raw imports of `tidegate_v1`, each behind a safe function that takes slices.
//!
//! The only place of the SDK with `unsafe`. What makes the calls sound: the host reads and writes nothing but the bytes
//! between pointer and pointer plus length, and only until the call returns.
#![allow(unsafe_code)]

use tidegate_abi::poll::Entry;
use tidegate_abi::request::RequestView;

pub(crate) use super::clock::{instant_of, now, ns_of};

mod raw {
    use tidegate_abi::poll::Entry;

    #[link(wasm_import_module = "tidegate_v1")]
    unsafe extern "C" {
        pub(super) fn request_head(buf: *mut u8, cap: usize) -> i32;
        pub(super) fn respond(
            status: u32,
            head: *const u8,
            len: usize,
            body: *const u8,
            body_len: usize,
        ) -> i32;
        pub(super) fn response_head(status: u32, head: *const u8, len: usize) -> i32;
        pub(super) fn read(handle: u32, buf: *mut u8, len: usize) -> i32;
        pub(super) fn write(handle: u32, bytes: *const u8, len: usize) -> i32;
        pub(crate) safe fn forward(from: u32, to: u32, n: i64) -> i64;
        pub(super) fn finish(handle: u32, trailers: *const u8, len: usize) -> i32;
        pub(super) fn trailers(handle: u32, buf: *mut u8, cap: usize) -> i32;
        pub(super) fn poll(entries: *mut Entry, n: usize, timeout_ns: i64) -> i32;
        pub(crate) safe fn close(handle: u32) -> i32;
        pub(super) fn usage(buf: *mut u8, cap: usize) -> i32;
        pub(super) fn log(level: u32, text: *const u8, len: usize) -> i32;
        pub(super) fn connect(kind: u32, addr: *const u8, len: usize) -> i32;
        pub(super) fn resolve(name: *const u8, len: usize) -> i32;
        pub(super) fn socket_address(handle: u32, which: u32, buf: *mut u8, cap: usize) -> i32;
        pub(crate) safe fn error(handle: u32) -> i32;
    }

    #[link(wasm_import_module = "tidegate_fetch_v1")]
    unsafe extern "C" {
        pub(super) fn request(head: *const u8, len: usize, body: *const u8, body_len: usize) -> i32;
        pub(super) fn head(handle: u32, buf: *mut u8, cap: usize) -> i32;
        pub(super) fn reason(handle: u32, buf: *mut u8, cap: usize) -> i32;
    }

    #[link(wasm_import_module = "tidegate_kv_v1")]
    unsafe extern "C" {
        #[link_name = "get"]
        pub(super) fn kv_get(key: *const u8, len: usize) -> i32;
        #[link_name = "set"]
        pub(super) fn kv_set(key: *const u8, len: usize, value: *const u8, value_len: usize) -> i32;
        #[link_name = "delete"]
        pub(super) fn kv_delete(key: *const u8, len: usize) -> i32;
        #[link_name = "exists"]
        pub(super) fn kv_exists(key: *const u8, len: usize) -> i32;
        #[link_name = "increment"]
        pub(super) fn kv_increment(key: *const u8, len: usize, delta: i64) -> i32;
        #[link_name = "swap"]
        pub(super) fn kv_swap(
            key: *const u8,
            len: usize,
            old: *const u8,
            old_len: usize,
            new: *const u8,
            new_len: usize,
            flags: u32,
        ) -> i32;
        #[link_name = "list"]
        pub(super) fn kv_list(prefix: *const u8, len: usize, after: *const u8, after_len: usize) -> i32;
    }

    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        pub(super) fn clock_time_get(clock: u32, precision_ns: u64, time_ns: *mut u64) -> i32;
    }
}

/// Whether a request to others is given a body of that size with the call; larger ones are streamed.
pub(crate) fn is_given(body_bytes: usize) -> bool {
    body_bytes <= super::RESPOND_BODY_BYTES_MAX
}

pub(crate) use raw::{close, error, forward};

pub(crate) fn request_head(buf: &mut [u8]) -> i32 {
    // SAFETY: pointer and length are those of a slice that the host may write.
    unsafe { raw::request_head(buf.as_mut_ptr(), buf.len()) }
}

/// The id of a request that has none: the host has given it one.
pub(crate) fn make_id() -> String {
    String::new()
}

/// Whether a body follows.
pub(crate) fn has_body(view: &RequestView<'_>) -> bool {
    view.has_body()
}

pub(crate) fn respond(status: u16, head: &[u8], body: &[u8]) -> i32 {
    // SAFETY: pointers and lengths are those of slices, only read.
    unsafe { raw::respond(status.into(), head.as_ptr(), head.len(), body.as_ptr(), body.len()) }
}

pub(crate) fn response_head(status: u16, head: &[u8]) -> i32 {
    // SAFETY: pointer and length are those of a slice, only read.
    unsafe { raw::response_head(status.into(), head.as_ptr(), head.len()) }
}

pub(crate) fn read(handle: u32, buf: &mut [u8]) -> i32 {
    // SAFETY: pointer and length are those of a slice that the host may write.
    unsafe { raw::read(handle, buf.as_mut_ptr(), buf.len()) }
}

pub(crate) fn write(handle: u32, bytes: &[u8]) -> i32 {
    // SAFETY: pointer and length are those of a slice, only read.
    unsafe { raw::write(handle, bytes.as_ptr(), bytes.len()) }
}

pub(crate) fn finish(handle: u32, trailers: &[u8]) -> i32 {
    // SAFETY: pointer and length are those of a slice, only read.
    unsafe { raw::finish(handle, trailers.as_ptr(), trailers.len()) }
}

pub(crate) fn trailers(handle: u32, buf: &mut [u8]) -> i32 {
    // SAFETY: pointer and length are those of a slice that the host may write.
    unsafe { raw::trailers(handle, buf.as_mut_ptr(), buf.len()) }
}

pub(crate) fn poll(entries: &mut [Entry], timeout_ns: i64) -> i32 {
    // SAFETY: `Entry` is `repr(C)` and as the ABI lays it out (wasm is little-endian); any bits the host writes into
    // its integers are valid. Pointer and length are those of a slice that the host may write.
    unsafe { raw::poll(entries.as_mut_ptr(), entries.len(), timeout_ns) }
}

pub(crate) fn usage(buf: &mut [u8]) -> i32 {
    // SAFETY: pointer and length are those of a slice that the host may write.
    unsafe { raw::usage(buf.as_mut_ptr(), buf.len()) }
}

pub(crate) fn log(level: u32, text: &[u8]) -> i32 {
    // SAFETY: pointer and length are those of a slice, only read.
    unsafe { raw::log(level, text.as_ptr(), text.len()) }
}

pub(crate) fn connect(kind: u32, addr: &[u8]) -> i32 {
    // SAFETY: pointer and length are those of a slice, only read.
    unsafe { raw::connect(kind, addr.as_ptr(), addr.len()) }
}

pub(crate) fn resolve(name: &[u8]) -> i32 {
    // SAFETY: pointer and length are those of a slice, only read.
    unsafe { raw::resolve(name.as_ptr(), name.len()) }
}

pub(crate) fn socket_address(handle: u32, which: u32, buf: &mut [u8]) -> i32 {
    // SAFETY: pointer and length are those of a slice that the host may write.
    unsafe { raw::socket_address(handle, which, buf.as_mut_ptr(), buf.len()) }
}

pub(crate) fn fetch_request(head: &[u8], body: &[u8]) -> i32 {
    // SAFETY: pointers and lengths are those of slices, only read.
    unsafe { raw::request(head.as_ptr(), head.len(), body.as_ptr(), body.len()) }
}

pub(crate) fn fetch_head(handle: u32, buf: &mut [u8]) -> i32 {
    // SAFETY: pointer and length are those of a slice that the host may write.
    unsafe { raw::head(handle, buf.as_mut_ptr(), buf.len()) }
}

pub(crate) fn fetch_reason(handle: u32, buf: &mut [u8]) -> i32 {
    // SAFETY: pointer and length are those of a slice that the host may write.
    unsafe { raw::reason(handle, buf.as_mut_ptr(), buf.len()) }
}

pub(crate) fn kv_get(key: &[u8]) -> i32 {
    // SAFETY: pointer and length are those of a slice, only read.
    unsafe { raw::kv_get(key.as_ptr(), key.len()) }
}

pub(crate) fn kv_set(key: &[u8], value: &[u8]) -> i32 {
    // SAFETY: pointers and lengths are those of slices, only read.
    unsafe { raw::kv_set(key.as_ptr(), key.len(), value.as_ptr(), value.len()) }
}

pub(crate) fn kv_delete(key: &[u8]) -> i32 {
    // SAFETY: pointer and length are those of a slice, only read.
    unsafe { raw::kv_delete(key.as_ptr(), key.len()) }
}

pub(crate) fn kv_exists(key: &[u8]) -> i32 {
    // SAFETY: pointer and length are those of a slice, only read.
    unsafe { raw::kv_exists(key.as_ptr(), key.len()) }
}

pub(crate) fn kv_increment(key: &[u8], delta: i64) -> i32 {
    // SAFETY: pointer and length are those of a slice, only read.
    unsafe { raw::kv_increment(key.as_ptr(), key.len(), delta) }
}

pub(crate) fn kv_swap(key: &[u8], old: &[u8], new: &[u8], flags: u32) -> i32 {
    // SAFETY: pointers and lengths are those of slices, only read.
    unsafe { raw::kv_swap(key.as_ptr(), key.len(), old.as_ptr(), old.len(), new.as_ptr(), new.len(), flags) }
}

pub(crate) fn kv_list(prefix: &[u8], after: &[u8]) -> i32 {
    // SAFETY: pointers and lengths are those of slices, only read.
    unsafe { raw::kv_list(prefix.as_ptr(), prefix.len(), after.as_ptr(), after.len()) }
}

/// The clock that deadlines count on, in nanoseconds.
pub(crate) fn monotonic_ns() -> u64 {
    const MONOTONIC: u32 = 1;
    let mut now_ns = 0;
    // SAFETY: the host writes eight bytes through a pointer to a `u64`.
    unsafe { raw::clock_time_get(MONOTONIC, 1, &raw mut now_ns) };
    now_ns
}

/// Runs the module's constructors. Called once per instance, before its first request. (That it is called at all keeps
/// the linker from running constructors and destructors around every export.)
pub(crate) fn construct() {
    unsafe extern "C" {
        fn __wasm_call_ctors();
    }
    // SAFETY: made by the linker; the only caller sees to it that it runs once, before anything else of the module.
    unsafe { __wasm_call_ctors() }
}
