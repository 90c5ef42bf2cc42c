//! Numbers about the server and its apps, for whoever watches many servers at once.
//!
//! What is counted for an app is kept as long as the app has a [seat](crate::tenants::registry::Seat), whatever its
//! version. Nothing here knows HTTP, and no label comes from a request: the classes of statuses and the outcomes are fixed,
//! and apps have series of their own up to [`APPS_MAX`].
//!
//! On the way of a request nothing is locked and nothing shared is written: each worker has a shard of every app that it
//! has served, which it alone writes to.

mod app;
mod compiled;
mod count;
mod encode;
mod families;
mod kv;
mod server;
mod snapshot;
#[cfg(test)]
mod tests;

pub(crate) use self::app::{AppMetrics, Request};
pub(crate) use self::compiled::{Ending, Ledger};
pub(crate) use self::kv::{KvCounts, KvKind, KvOutcome};
pub(crate) use self::server::{Metrics, PauseReason};
pub(crate) use self::snapshot::{CanaryFacts, CodeFacts, Facts, ServerFacts, Snapshot};

/// So many apps have series of their own: those with the smallest numbers, which are given to apps as they come. The
/// others are summed up.
pub(crate) const APPS_MAX: u32 = 1000;
