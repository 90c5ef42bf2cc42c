//! Calls itself until it runs out of stack.

use std::hint::black_box;
use tidegate_sdk::{Request, Response, handler};

/// The result of each call is used after it, so none can become a loop.
#[inline(never)]
fn deeper(depth: u64) -> u64 {
    let here = black_box([depth; 4]);
    if black_box(false) {
        return depth;
    }
    deeper(depth + 1).wrapping_add(black_box(here)[0])
}

#[handler]
fn recurse(_request: Request) -> Response {
    Response::text(format!("{}\n", deeper(0)))
}
