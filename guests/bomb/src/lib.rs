//! Takes memory until its limit stops it.

use std::hint::black_box;
use tidegate_sdk::{Request, Response, handler};

#[handler]
fn bomb(_request: Request) -> Response {
    let mut all = Vec::new();
    while black_box(true) {
        // Written to, so that it is memory and not just a promise of it.
        all.push(vec![1_u8; 1 << 20]);
    }
    Response::text(format!("{} MiB\n", all.len()))
}
