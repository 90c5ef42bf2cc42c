//! A line for each thing that a guest was denied, and which rule would allow it. It is for the operator alone: what the
//! guest sees, and its clients, is that access was denied.

use std::fmt::Display;

use super::rate::Rate;

const BYTES_PER_S_MAX: u64 = 16 * 1024;
/// What a line counts for besides its texts.
const LINE_BYTES: u64 = 128;

/// An app's window for denials.
#[derive(Debug)]
pub(crate) struct DenialLog {
    rate: Rate,
}

impl DenialLog {
    pub(crate) const fn new() -> Self {
        Self { rate: Rate::new(BYTES_PER_S_MAX) }
    }

    /// One line: what was denied, why, and what to write into the manifest to allow it. Over the rate it is dropped, and
    /// counted.
    pub(crate) fn tell(&self, app: &str, request: &str, denied: &dyn Display, allow: &str) {
        let reason = denied.to_string();
        if self.rate.admit(LINE_BYTES + (reason.len() + allow.len()) as u64) {
            tracing::warn!(target: "tidegate", app, request, reason, allow, "socket denied");
        }
    }

    /// One line: why what was allowed did not come about, where it is the operator's to put right.
    pub(crate) fn tell_failed(&self, app: &str, request: &str, name: &str, reason: &str) {
        if self.rate.admit(LINE_BYTES + (reason.len() + name.len()) as u64) {
            tracing::warn!(target: "tidegate", app, request, name, reason, "a name could not be looked up");
        }
    }

    /// One line: the app may keep nothing in the key-value store.
    pub(crate) fn tell_store(&self, app: &str, request: &str) {
        if self.rate.admit(LINE_BYTES) {
            tracing::warn!(target: "tidegate", app, request, allow = "kv = true", "key-value store denied");
        }
    }

    /// Says how many lines were dropped since it was said last.
    pub(crate) fn report(&self, app: &str) {
        let dropped = self.rate.take_dropped();
        if dropped > 0 {
            tracing::warn!(target: "tidegate", app, dropped, "denied sockets and failed lookups without a line: over the rate");
        }
    }
}
