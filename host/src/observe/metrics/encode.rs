//! The numbers as text, in the format that Prometheus and all that speak OpenMetrics read.
//!
//! The whole text is made anew for each look at it, on the thread of whoever looks. Families come one after the other,
//! each with the series of all apps, as the format asks for.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::app::{CLASSES, DURATIONS, OUTCOMES, Totals};
use super::count::Observed;
use super::server::{PAUSE_REASONS, ServerFacts, TURNS};
use crate::clock::Nanos;
use crate::guest::compile;
use crate::shared::Shared;

/// The name under which apps without series of their own are summed up. No app can have it.
const OTHERS: &str = "~other";
/// And that of requests without an app, as in the logs.
const NO_APP: &str = "-";

/// What this part of the server does not know by itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Requests that begin now are served.
    pub(crate) ready: bool,
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

/// All numbers, as text.
pub(crate) fn encode(shared: &Shared, facts: Facts) -> String {
    Snapshot::take(shared, facts).text()
}

/// An app's numbers, or those of several.
#[derive(Debug, Default)]
pub(super) struct AppRow {
    pub(super) totals: Totals,
    pub(super) running: u64,
    pub(super) waiting: u64,
    /// Lines that never reached its log file.
    pub(super) log_lost: u64,
}

/// Everything at one time.
#[derive(Debug)]
pub(super) struct Snapshot {
    server: ServerFacts,
    facts: Facts,
    apps: BTreeMap<String, AppRow>,
    workers: Vec<(String, u64, Observed<{ TURNS.len() }>)>,
    pauses: [u64; PAUSE_REASONS.len()],
    code: CodeFacts,
}

/// Of the code of programs.
#[derive(Debug, Default)]
struct CodeFacts {
    loaded: u64,
    loads: u64,
    failures: u64,
    evictions: u64,
    /// Children that compile now.
    compiling: u64,
}

impl Snapshot {
    /// Of apps alone.
    #[cfg(test)]
    pub(super) fn of(apps: BTreeMap<String, AppRow>, facts: Facts) -> Self {
        let server = ServerFacts { version: "1.2.3", ..ServerFacts::default() };
        let workers = vec![("0".to_owned(), 1, Observed::default())];
        Self { server, facts, apps, workers, pauses: [0; PAUSE_REASONS.len()], code: CodeFacts::default() }
    }

    pub(super) fn text(self) -> String {
        let mut registry = Registry::with_prefix("tidegate");
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        // Writing to memory does not fail, and nothing here does by itself.
        if let Err(error) = text::encode(&mut text, &registry) {
            tracing::error!(%error, "the metrics can not be written: a bug");
        }
        text
    }

    fn take(shared: &Shared, facts: Facts) -> Self {
        let metrics = &shared.metrics;
        let (residency, (loads, failures)) = (shared.loading.residency(), shared.loading.counts());
        let mut apps = BTreeMap::new();
        let mut others = AppRow { totals: metrics.rest.lock().clone(), ..AppRow::default() };
        let mut summed = others.totals.durations.count() > 0;
        let mut seen = HashSet::new();
        // Versions of one app share a seat.
        for app in shared.current.registry().apps().iter().filter(|app| seen.insert(app.id)) {
            let seat = &app.seat;
            let (running, waiting) = seat.gate.counts();
            let row: &mut AppRow = if seat.metrics.is_shown() {
                apps.entry((*app.program.name).to_owned()).or_default()
            } else {
                summed = true;
                &mut others
            };
            row.totals.add(&seat.metrics);
            row.running += u64::from(running);
            row.waiting += u64::from(waiting);
            row.log_lost += seat.log.as_ref().map_or(0, |log| log.lost());
        }
        if summed {
            apps.insert(OTHERS.to_owned(), others);
        }
        apps.insert(
            NO_APP.to_owned(),
            AppRow { totals: Totals::of(&metrics.without_app), ..AppRow::default() },
        );
        let workers = metrics.workers.iter().enumerate().map(|(number, worker)| {
            let mut turns = Observed::default();
            turns.add(&worker.turns);
            (number.to_string(), worker.accepted.get(), turns)
        });
        Self {
            server: ServerFacts::of(shared),
            facts,
            apps,
            workers: workers.collect(),
            pauses: std::array::from_fn(|at| metrics.pauses[at].get()),
            code: CodeFacts {
                loaded: residency.count() as u64,
                loads,
                failures,
                evictions: residency.evictions(),
                compiling: compile::children(),
            },
        }
    }
}

/// Labels of a series.
type Labels<'a> = [(&'a str, &'a str)];

/// Writes one family after the other.
struct Families<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Families<'_> {
    fn begin(
        &mut self,
        name: &'static str,
        unit: Option<&'static Unit>,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'_>, fmt::Error> {
        self.encoder.encode_descriptor(name, help, unit, kind)
    }

    fn counters<'l>(
        &mut self,
        name: &'static str,
        help: &str,
        series: impl IntoIterator<Item = (Vec<(&'l str, &'l str)>, u64)>,
    ) -> fmt::Result {
        let mut family = self.begin(name, None, help, MetricType::Counter)?;
        for (labels, value) in series {
            counter(&mut family, &labels, &value)?;
        }
        Ok(())
    }

    fn seconds<'l>(
        &mut self,
        name: &'static str,
        help: &str,
        series: impl IntoIterator<Item = (Vec<(&'l str, &'l str)>, Nanos)>,
    ) -> fmt::Result {
        let mut family = self.begin(name, Some(&Unit::Seconds), help, MetricType::Counter)?;
        for (labels, value) in series {
            counter(&mut family, &labels, &in_seconds(value))?;
        }
        Ok(())
    }

    fn gauges<'l>(
        &mut self,
        name: &'static str,
        unit: Option<&'static Unit>,
        help: &str,
        series: impl IntoIterator<Item = (Vec<(&'l str, &'l str)>, u64)>,
    ) -> fmt::Result {
        let mut family = self.begin(name, unit, help, MetricType::Gauge)?;
        for (labels, value) in series {
            if labels.is_empty() {
                family.encode_gauge(&value)?;
            } else {
                family.encode_family(&&*labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    fn histograms<'l, const N: usize>(
        &mut self,
        name: &'static str,
        help: &str,
        bounds_ns: &[Nanos; N],
        series: impl IntoIterator<Item = (Vec<(&'l str, &'l str)>, &'l Observed<N>)>,
    ) -> fmt::Result {
        let mut family = self.begin(name, Some(&Unit::Seconds), help, MetricType::Histogram)?;
        for (labels, observed) in series {
            let bounds = bounds_ns.iter().map(|ns| in_seconds(*ns)).chain([f64::INFINITY]);
            let counts = observed.counts.iter().copied().chain([observed.beyond]);
            let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
            let (sum, count) = (in_seconds(observed.sum_ns), observed.count());
            family.encode_family(&&*labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

fn counter(
    family: &mut MetricEncoder<'_>,
    labels: &Labels<'_>,
    value: &impl prometheus_client::encoding::EncodeCounterValue,
) -> fmt::Result {
    if labels.is_empty() {
        return family.encode_counter::<NoLabelSet, _, u64>(value, None);
    }
    family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(value, None)
}

/// Whole nanoseconds are kept for a hundred days.
fn in_seconds(ns: Nanos) -> f64 {
    ns as f64 / 1e9
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families { encoder };
        self.server(&mut families)?;
        self.workers(&mut families)?;
        self.apps(&mut families)?;
        self.logs_and_loads(&mut families)?;
        self.canaries(&mut families)
    }
}

impl Snapshot {
    fn server(&self, families: &mut Families<'_>) -> fmt::Result {
        let server = &self.server;
        let one = |value| [(Vec::new(), value)];
        families.gauges(
            "build",
            None,
            "The version of the server, as a label.",
            [(vec![("version", server.version)], 1)],
        )?;
        families.gauges(
            "ready",
            None,
            "1 while requests that begin are served.",
            one(u64::from(self.facts.ready && !server.draining)),
        )?;
        families.gauges(
            "uptime",
            Some(&Unit::Seconds),
            "Since the server began.",
            one(server.uptime_ms / 1000),
        )?;
        families.gauges("connections", None, "Connections of clients.", one(server.connections as u64))?;
        families.gauges(
            "connections_limit",
            None,
            "Most connections at once.",
            one(server.connections_max as u64),
        )?;
        families.gauges("apps", None, "Apps that are served.", one(server.apps as u64))?;
        let code = &self.code;
        families.gauges("programs_loaded", None, "Programs whose code is in memory.", one(code.loaded))?;
        families.counters("loads", "Times that code was loaded because a request came.", one(code.loads))?;
        families.counters("failed_loads", "Loads that failed.", one(code.failures))?;
        families.counters("evictions", "Times that code was given up to make room.", one(code.evictions))?;
        families.gauges("compilations", None, "Children that compile now.", one(code.compiling))?;
        families.gauges(
            "memory",
            Some(&Unit::Bytes),
            "Memory of the process that is in use.",
            server.memory_bytes.map(|bytes| (Vec::new(), bytes)),
        )?;
        families.gauges(
            "descriptors",
            None,
            "Descriptors of the process.",
            server.descriptors.map(|count| (Vec::new(), count)),
        )?;
        let pauses = PAUSE_REASONS.iter().zip(self.pauses);
        families.counters(
            "accept_pauses",
            "Times that accepting was paused.",
            pauses.map(|((_, reason), count)| (vec![("reason", *reason)], count)),
        )
    }

    fn workers(&self, families: &mut Families<'_>) -> fmt::Result {
        let label = |worker| vec![("worker", worker)];
        families.counters(
            "accepted",
            "Connections that were let in.",
            self.workers.iter().map(|(worker, accepted, _)| (label(&**worker), *accepted)),
        )?;
        families.histograms(
            "worker_turn",
            "Turns of a worker's loop, the wait for events left out: for so long nothing else is looked at.",
            &TURNS,
            self.workers.iter().map(|(worker, _, turns)| (label(&**worker), turns)),
        )
    }

    /// The same number of each app.
    fn each<'a>(
        &'a self,
        value: impl Fn(&AppRow) -> u64 + 'a,
    ) -> impl Iterator<Item = (Vec<(&'a str, &'a str)>, u64)> + 'a {
        self.apps.iter().map(move |(app, row)| (vec![("app", &**app)], value(row)))
    }

    fn apps(&self, families: &mut Families<'_>) -> fmt::Result {
        let requests = self.apps.iter().flat_map(|(app, row)| {
            let by_class = move |outcome: &'static str, counts: &[u64; CLASSES.len()]| {
                let some = CLASSES.into_iter().zip(*counts).filter(|(_, count)| *count > 0);
                some.map(move |(class, count)| {
                    (vec![("app", &**app), ("class", class), ("outcome", outcome)], count)
                })
            };
            let failed = OUTCOMES.iter().zip(&row.totals.failed);
            by_class("ok", &row.totals.ok)
                .chain(failed.flat_map(move |(outcome, counts)| by_class(outcome, counts)))
        });
        families.counters(
            "requests",
            "Requests that are over, by the class of their status and by how they ended.",
            requests,
        )?;
        let served = self.apps.iter().filter(|(_, row)| row.totals.durations.count() > 0);
        families.histograms(
            "request_duration",
            "From a request's head to the last byte of its answer.",
            &DURATIONS,
            served.map(|(app, row)| (vec![("app", &**app)], &row.totals.durations)),
        )?;
        families.counters(
            "requests_queued",
            "Requests that waited for admission.",
            self.each(|row| row.totals.queued),
        )?;
        families.seconds(
            "queue",
            "Time that requests waited for admission.",
            self.each(|row| row.totals.queued_ns),
        )?;
        families.gauges(
            "requests_running",
            None,
            "Requests whose guests are at work.",
            self.each(|row| row.running),
        )?;
        families.gauges(
            "requests_waiting",
            None,
            "Requests that wait for admission.",
            self.each(|row| row.waiting),
        )?;
        families.seconds("cpu", "CPU time of guests.", self.each(|row| row.totals.cpu_ns))?;
        families.counters(
            "instances_created",
            "Instances that were made.",
            self.each(|row| row.totals.created),
        )?;
        families.counters(
            "instances_reused",
            "Requests that an instance served which had served before.",
            self.each(|row| row.totals.reused),
        )?;
        families.counters(
            "request_body_bytes",
            "Bytes of request bodies that were received.",
            self.each(|row| row.totals.bytes_in),
        )?;
        families.counters(
            "response_body_bytes",
            "Bytes of response bodies that guests wrote.",
            self.each(|row| row.totals.bytes_out),
        )
    }

    fn logs_and_loads(&self, families: &mut Families<'_>) -> fmt::Result {
        families.counters(
            "log_records_dropped",
            "Records of guests that were over the rate of their app.",
            self.each(|row| row.totals.log_dropped),
        )?;
        families.counters(
            "log_lines_lost",
            "Lines that the app's log file did not take.",
            self.each(|row| row.log_lost),
        )?;
        families.counters(
            "cold_requests",
            "Requests that found their app's code not in memory.",
            self.each(|row| row.totals.cold),
        )
    }

    fn canaries(&self, families: &mut Families<'_>) -> fmt::Result {
        let canaries: Vec<_> =
            self.facts.canaries.iter().map(|canary| (canary, canary.version.to_string())).collect();
        let each = |value: fn(&CanaryFacts) -> u64| {
            canaries.iter().map(move |(canary, version)| {
                (vec![("app", &*canary.app), ("version", &**version)], value(canary))
            })
        };
        families.gauges(
            "canary_requests",
            None,
            "Requests that a canary has had.",
            each(|canary| canary.requests),
        )?;
        families.gauges("canary_failures", None, "How many of them failed.", each(|canary| canary.failures))
    }
}
