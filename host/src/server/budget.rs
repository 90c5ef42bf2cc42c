//! What the limits allow in the worst case, against the memory that the operator gives.
//!
//! It looks at settings alone, before anything is started. What is used is `pressure`'s business.

use anyhow::{Result, bail};

use crate::config::{AppSettings, ServerSettings, about_bytes};
use crate::guest::engine;

/// What a request of a guest to another server takes at most: two pipes, two heads, trailers, and what TLS holds.
const CALL_BYTES_MAX: u64 = 300 << 10;

/// Multiplies the bounds out and holds them against the budget, if there is one.
pub(super) fn check_budget(server: &ServerSettings, apps: &[AppSettings]) -> Result<()> {
    let Some(budget) = server.memory_budget_bytes else { return Ok(()) };
    let http = &server.http;
    let pipes = apps.iter().map(|app| 2 * app.limits.high_watermark).max().unwrap_or(0);
    let connection = (pipes + 2 * http.head_bytes_max) as u64;
    let connections = connection.saturating_mul(server.connections_max as u64);
    let guests = apps.iter().fold(0u64, |sum, app| {
        let at_once = app.limits.concurrency.min(engine::INSTANCES_MAX);
        let sockets = if app.sockets.connect.is_empty() { 0 } else { u64::from(app.limits.sockets_max) };
        let memory = app.limits.memory_bytes.saturating_mul(u64::from(at_once));
        sum.saturating_add(memory).saturating_add(sockets.saturating_mul(CALL_BYTES_MAX))
    });
    let needed = connections.saturating_add(guests);
    if needed > budget {
        bail!(
            "the limits allow {} of memory, more than the budget of {}: {} for {} connections and {} for guests; lower \
             `connections`, `memory` or `concurrency`, or raise `memory_budget`",
            about_bytes(needed),
            about_bytes(budget),
            about_bytes(connections),
            server.connections_max,
            about_bytes(guests),
        );
    }
    Ok(())
}
