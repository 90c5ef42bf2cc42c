//! Lines about proxies: connections that were closed because of their preamble, and forwarding fields that nobody believed.
//!
//! Anybody can cause both as fast as they can connect: the one is told at a rate, the other once.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::rate::Rate;

const BYTES_PER_S_MAX: u64 = 2 * 1024;
/// What a line counts for.
const LINE_BYTES: u64 = 128;

static PREAMBLES: Rate = Rate::new(BYTES_PER_S_MAX);
static FIELDS_TOLD: AtomicBool = AtomicBool::new(false);

fn shown(peer: Option<SocketAddr>) -> String {
    peer.map_or_else(|| "unix".to_owned(), |addr| addr.to_string())
}

/// A connection was closed before its first request.
pub(crate) fn tell_closed(peer: Option<SocketAddr>, reason: &str) {
    if PREAMBLES.admit(LINE_BYTES) {
        tracing::warn!(target: "tidegate", peer = shown(peer), reason, "connection closed: the PROXY protocol is on");
    }
}

/// Forwarding fields were taken out of a request. Told once: whoever runs a proxy in front has to know, and learns it with
/// the first request.
pub(crate) fn tell_removed(peer: Option<SocketAddr>) {
    if !FIELDS_TOLD.load(Relaxed) && !FIELDS_TOLD.swap(true, Relaxed) {
        tracing::info!(
            target: "tidegate", peer = shown(peer),
            "forwarding fields are taken out of requests of peers that are not named in `proxies`; told once"
        );
    }
}

/// Says how many lines were dropped since it was said last.
pub(crate) fn report() {
    let dropped = PREAMBLES.take_dropped();
    if dropped > 0 {
        tracing::warn!(target: "tidegate", dropped, "connections closed without a line: over the rate");
    }
}
