//! Giving back what a deep recursion has left on a fiber's stack.
//!
//! The pools keep a stack as it was used: a guest that recursed to its limit would leave half a megabyte resident for
//! each of the stacks it happened to get. After a trap the Store still holds its stack, so that one more call, into
//! a function of ours, runs at the very top of it, and what lies far below is nobody's.

use std::ffi::c_void;

use rustix::mm::{Advice, madvise};
use wasmtime::{Func, Store};

/// What stays below the call that trims: far more than the frames of the system call that it makes.
const KEEP_BYTES: usize = 16 * 1024;
/// How far down guests get: their own limit and the host calls at the end of it.
const DEPTH_BYTES: usize = 640 * 1024;
const PAGE_BYTES: usize = 4096;

/// Gives the pages of the Store's stack back. Its guest has failed: recursion ends as one of several traps.
pub(super) async fn trim<T: Send + 'static>(store: &mut Store<T>) {
    let trim = Func::wrap(&mut *store, trim_below);
    // Whether it worked or not, the Store is dropped next.
    if let Ok(trim) = trim.typed::<(), ()>(&*store) {
        let _ = trim.call_async(&mut *store, ()).await;
    }
}

#[allow(unsafe_code)]
fn trim_below() {
    let here = 0u8;
    let top = (&raw const here).addr();
    let end = (top - KEEP_BYTES) & !(PAGE_BYTES - 1);
    let start = (top - DEPTH_BYTES) & !(PAGE_BYTES - 1);
    // SAFETY: this runs near the top of a fiber's stack of 2 MiB, so that the range, from 16 KiB to 640 KiB below this
    // frame, lies within that stack; nothing below the current frame is in use, and the pages are private and
    // anonymous: the next use finds zeroes.
    let _ = unsafe {
        let pointer = std::ptr::without_provenance_mut::<c_void>(start);
        madvise(pointer, end - start, Advice::LinuxDontNeed)
    };
}
