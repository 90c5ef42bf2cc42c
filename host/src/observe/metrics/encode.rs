//! The numbers as text, in the format that Prometheus and all that speak OpenMetrics read.
//!
//! The whole text is made anew for each look at it, on the thread of whoever looks. Families come one after the other,
//! each with the series of all apps, as the format asks for.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::{Registry, Unit};

use super::app::{CLASSES, DURATIONS, OUTCOMES};
use super::compiled::{CPU_BOUNDS, ENDINGS, MEMORY_BOUNDS};
use super::families::{Distribution, Families, in_seconds};
use super::kv::{KINDS, KV_OUTCOMES};
use super::server::{PAUSE_REASONS, TURNS};
use super::snapshot::{AppRow, CanaryFacts, KvRow, Snapshot};

impl Snapshot {
    /// All of it, as text.
    pub(crate) fn text(self) -> String {
        let mut registry = Registry::with_prefix("tidegate");
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        // Writing to memory does not fail, and nothing here does by itself.
        if let Err(error) = text::encode(&mut text, &registry) {
            tracing::error!(%error, "the metrics can not be written: a bug");
        }
        text
    }
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families { encoder };
        self.server(&mut families)?;
        self.workers(&mut families)?;
        self.apps(&mut families)?;
        self.logs_and_loads(&mut families)?;
        self.kv(&mut families)?;
        self.compilations(&mut families)?;
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
        families.gauges(
            "apps_unserved",
            None,
            "Apps that are to be served and can not be: something that they need is gone.",
            one(self.facts.unserved as u64),
        )?;
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
            &Unit::Seconds,
            "Turns of a worker's loop, the wait for events left out: for so long nothing else is looked at.",
            self.workers.iter().map(|(worker, _, turns)| (label(&**worker), turns.distribution(&TURNS))),
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
            &Unit::Seconds,
            "From a request's head to the last byte of its answer.",
            served.map(|(app, row)| (vec![("app", &**app)], row.totals.durations.distribution(&DURATIONS))),
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

    fn kv(&self, families: &mut Families<'_>) -> fmt::Result {
        let operations = self.apps.iter().flat_map(|(app, row)| {
            KINDS.iter().zip(&row.totals.kv).flat_map(move |(kind, counts)| {
                let some = KV_OUTCOMES.iter().zip(counts).filter(|(_, count)| **count > 0);
                some.map(move |(outcome, count)| {
                    (vec![("app", &**app), ("operation", *kind), ("outcome", *outcome)], *count)
                })
            })
        });
        families.counters(
            "kv_operations",
            "Operations on key-value data that are over, by what was asked for and by how they ended.",
            operations,
        )?;
        let each = |value: fn(&KvRow) -> Option<u64>| {
            self.apps
                .iter()
                .filter_map(move |(app, row)| Some((vec![("app", &**app)], value(row.kv.as_ref()?)?)))
        };
        families.gauges(
            "kv_operations_under_way",
            None,
            "Operations on key-value data that are under way.",
            each(|kv| Some(kv.under_way)),
        )?;
        families.gauges("kv_keys", None, "Keys that are kept.", each(|kv| kv.held.map(|(keys, _)| keys)))?;
        families.gauges(
            "kv",
            Some(&Unit::Bytes),
            "Bytes of keys and values that are kept.",
            each(|kv| kv.held.map(|(_, bytes)| bytes)),
        )
    }

    fn compilations(&self, families: &mut Families<'_>) -> fmt::Result {
        let ledger = &self.code.compiled;
        families.counters(
            "compiled",
            "Compilations that are over, by how they ended.",
            ENDINGS.iter().zip(ledger.ended).map(|((_, ending), count)| (vec![("outcome", *ending)], count)),
        )?;
        let (cpu, memory) = (&ledger.cpu, &ledger.memory);
        let cpu = Distribution::of(&CPU_BOUNDS, &cpu.counts, cpu.beyond, cpu.sum, in_seconds);
        families.histograms(
            "compilation_cpu",
            &Unit::Seconds,
            "CPU time of a compilation.",
            [(Vec::new(), cpu)],
        )?;
        let bytes = |bytes| bytes as f64;
        let memory = Distribution::of(&MEMORY_BOUNDS, &memory.counts, memory.beyond, memory.sum, bytes);
        families.histograms(
            "compilation_memory",
            &Unit::Bytes,
            "Most memory that a compilation had at once.",
            [(Vec::new(), memory)],
        )?;
        families.gauges(
            "compilation_memory_max",
            Some(&Unit::Bytes),
            "The largest of all compilations.",
            [(Vec::new(), ledger.memory_bytes_max)],
        )?;
        families.gauge_seconds("compilation_cpu_max", "The longest of all compilations.", ledger.cpu_ns_max)
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
