//! Looking at all of a server: its numbers and facts at one time.
//!
//! It happens on the thread of whoever looks, and holds nobody up. Nothing is counted here.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::shortage::resident_bytes;
use crate::guest::compile;
use crate::kv;
use crate::observe::metrics::{CodeFacts, Facts, ServerFacts, Snapshot};
use crate::shared::Shared;

/// So long the store may take to say what apps hold: else it is left out.
const KV_PATIENCE: Duration = Duration::from_secs(1);

/// All numbers, as OpenMetrics text.
pub(crate) fn metrics(shared: &Shared, facts: Facts) -> String {
    take(shared, facts).text()
}

/// Facts about a server, as its admin side shows them.
pub(crate) fn server_facts(shared: &Shared) -> ServerFacts {
    ServerFacts {
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        // Clocks begin with their servers.
        uptime_ms: Shared::ms(shared.clock.now()),
        workers: shared.wakers.len(),
        connections: shared.connections(),
        connections_max: shared.settings.connections_max,
        apps: shared.current.registry().apps().len(),
        memory_bytes: resident_bytes(),
        descriptors: open_descriptors(),
        draining: shared.is_draining(),
    }
}

fn take(shared: &Shared, facts: Facts) -> Snapshot {
    let mut snapshot = Snapshot::new(&shared.metrics, server_facts(shared), facts, code_facts(shared));
    let registry = shared.current.registry();
    let (mut seen, mut with_kv) = (HashSet::new(), Vec::new());
    // Versions of one app share a seat.
    for app in registry.apps().iter().filter(|app| seen.insert(app.id)) {
        let seat = &app.seat;
        let (running, waiting) = seat.gate.counts();
        let row = snapshot.app(&app.program.name, &seat.metrics);
        row.running += u64::from(running);
        row.waiting += u64::from(waiting);
        row.log_lost += seat.log.as_ref().map_or(0, |log| log.lost());
        if let Some(kv) = &app.program.kv {
            row.kv.get_or_insert_default().under_way += u64::from(kv.under_way());
            with_kv.push((app, Arc::clone(kv)));
        }
    }
    let (apps, with_kv): (Vec<_>, Vec<_>) = with_kv.into_iter().unzip();
    for (app, usage) in apps.iter().zip(kv::usages(&with_kv, KV_PATIENCE)) {
        let row = snapshot.row(&app.program.name, &app.seat.metrics);
        if let (Some(kv), Some(usage)) = (row.kv.as_mut(), usage) {
            let (keys, bytes) = kv.held.unwrap_or_default();
            kv.held = Some((keys + usage.keys, bytes + usage.bytes));
        }
    }
    snapshot
}

fn code_facts(shared: &Shared) -> CodeFacts {
    let (residency, (loads, failures)) = (shared.loading.residency(), shared.loading.counts());
    CodeFacts {
        loaded: residency.count() as u64,
        loads,
        failures,
        evictions: residency.evictions(),
        compiling: compile::children(),
        compiled: compile::ledger(),
    }
}

/// Descriptors of this process. The look itself takes one, which is left out.
fn open_descriptors() -> Option<u64> {
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    Some(count.saturating_sub(1))
}
