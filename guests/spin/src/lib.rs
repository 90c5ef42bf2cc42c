//! Never ends. Its own CPU limit stops it; until then it only gets its fair share, and others go on as before.

use std::hint::black_box;
use tidegate_sdk::{Request, Response, handler};

#[handler]
fn spin(_request: Request) -> Response {
    let mut turns = 0_u64;
    while black_box(true) {
        turns = turns.wrapping_add(1);
    }
    Response::text(format!("{turns}\n"))
}
