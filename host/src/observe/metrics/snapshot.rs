//! All numbers at one time, as plain data: what is counted here, and what is told to it of everything else.

use std::collections::BTreeMap;

use serde::Serialize;

use super::app::{AppMetrics, Totals};
use super::compiled::Ledger;
use super::count::Observed;
use super::server::{Metrics, PAUSE_REASONS, TURNS};

/// The name under which apps without series of their own are summed up. No app can have it.
const OTHERS: &str = "~other";
/// And that of requests without an app, as in the logs.
const NO_APP: &str = "-";
/// What this part of the server does not know by itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Requests that begin now are served.
    pub(crate) ready: bool,
    /// Apps that are to be served and can not be.
    pub(crate) unserved: usize,
    pub(crate) canaries: Vec<CanaryFacts>,
}

/// A canary that is under way.
#[derive(Clone, Debug)]
pub(crate) struct CanaryFacts {
    pub(crate) app: String,
    pub(crate) version: u64,
    pub(crate) requests: u64,
    pub(crate) failures: u64,
}

/// Facts about a server, as its admin side shows them.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct ServerFacts {
    pub(crate) version: &'static str,
    pub(crate) pid: u32,
    pub(crate) uptime_ms: u64,
    pub(crate) workers: usize,
    pub(crate) connections: usize,
    pub(crate) connections_max: usize,
    pub(crate) apps: usize,
    /// None: the system does not say.
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) descriptors: Option<u64>,
    pub(crate) draining: bool,
}

/// An app's numbers, or those of several.
#[derive(Debug, Default)]
pub(crate) struct AppRow {
    pub(super) totals: Totals,
    pub(crate) running: u64,
    pub(crate) waiting: u64,
    /// Lines that never reached its log file.
    pub(crate) log_lost: u64,
    /// Where it may keep data.
    pub(crate) kv: Option<KvRow>,
}

/// Of an app's key-value data, now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KvRow {
    pub(crate) under_way: u64,
    /// Keys, and bytes of keys and values. None: the store does not say.
    pub(crate) held: Option<(u64, u64)>,
}

/// Everything at one time.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(super) server: ServerFacts,
    pub(super) facts: Facts,
    pub(super) apps: BTreeMap<String, AppRow>,
    /// What apps without series of their own have had that are gone.
    rest: Totals,
    pub(super) workers: Vec<(String, u64, Observed<{ TURNS.len() }>)>,
    pub(super) pauses: [u64; PAUSE_REASONS.len()],
    pub(super) code: CodeFacts,
}

/// Of the code of programs.
#[derive(Debug)]
pub(crate) struct CodeFacts {
    pub(crate) loaded: u64,
    pub(crate) loads: u64,
    pub(crate) failures: u64,
    pub(crate) evictions: u64,
    /// Children that compile now.
    pub(crate) compiling: u64,
    pub(crate) compiled: Ledger,
}

impl Snapshot {
    /// What is counted for the server, and for apps that are gone. Those that are there are to be [added](Self::app).
    pub(crate) fn new(metrics: &Metrics, server: ServerFacts, facts: Facts, code: CodeFacts) -> Self {
        let rest = metrics.rest.lock().clone();
        let without_app = AppRow { totals: Totals::of(&metrics.without_app), ..AppRow::default() };
        let mut apps = BTreeMap::from([(NO_APP.to_owned(), without_app)]);
        if rest.durations.count() > 0 {
            apps.insert(OTHERS.to_owned(), AppRow { totals: rest.clone(), ..AppRow::default() });
        }
        let workers = metrics.workers.iter().enumerate().map(|(number, worker)| {
            let mut turns = Observed::default();
            turns.add(&worker.turns);
            (number.to_string(), worker.accepted.get(), turns)
        });
        Self {
            server,
            facts,
            apps,
            rest,
            workers: workers.collect(),
            pauses: std::array::from_fn(|at| metrics.pauses[at].get()),
            code,
        }
    }

    /// The row of an app: its own, or that of all that have none.
    pub(crate) fn row(&mut self, app: &str, metrics: &AppMetrics) -> &mut AppRow {
        if metrics.is_shown() {
            return self.apps.entry(app.to_owned()).or_default();
        }
        let rest = &self.rest;
        let first = || AppRow { totals: rest.clone(), ..AppRow::default() };
        self.apps.entry(OTHERS.to_owned()).or_insert_with(first)
    }

    /// Adds what was counted for an app, and gives its row for the rest.
    pub(crate) fn app(&mut self, app: &str, metrics: &AppMetrics) -> &mut AppRow {
        let row = self.row(app, metrics);
        row.totals.add(metrics);
        row
    }

    /// Of apps alone.
    #[cfg(test)]
    pub(super) fn of(apps: BTreeMap<String, AppRow>, facts: Facts) -> Self {
        let server = ServerFacts { version: "1.2.3", ..ServerFacts::default() };
        let workers = vec![("0".to_owned(), 1, Observed::default())];
        let code = CodeFacts {
            loaded: 0,
            loads: 0,
            failures: 0,
            evictions: 0,
            compiling: 0,
            compiled: Ledger::new(),
        };
        let rest = Totals::default();
        Self { server, facts, apps, rest, workers, pauses: [0; PAUSE_REASONS.len()], code }
    }
}
