//! Counts the requests that its instance has handled. In a fresh sandbox for each request, the default, that is always
//! 1; served with `--reuse N` it goes up to N. Whatever must outlive a request does not belong in a static.

use std::sync::atomic::{AtomicU64, Ordering};
use tidegate_sdk::{Request, handler};

static HANDLED: AtomicU64 = AtomicU64::new(0);

#[handler]
fn count(_request: Request) -> String {
    format!("{}\n", HANDLED.fetch_add(1, Ordering::Relaxed) + 1)
}
