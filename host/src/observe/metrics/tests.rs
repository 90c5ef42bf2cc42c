use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;

use super::app::{AppMetrics, DURATIONS, OUTCOMES, Request, Totals};
use super::kv::{KINDS, KV_OUTCOMES, KvCounts, KvKind, KvOutcome};
use super::server::Metrics;
use super::snapshot::{AppRow, CanaryFacts, Facts, KvRow, Snapshot};
use super::*;
use crate::clock::MS;

/// A sample: its labels and its value.
type Sample = (BTreeMap<String, String>, f64);

#[derive(Debug, Default)]
struct Family {
    kind: String,
    unit: Option<String>,
    help: bool,
    samples: Vec<(String, Sample)>,
}

/// Reads OpenMetrics text, and refuses whatever the format does not allow.
fn read(text: &str) -> BTreeMap<String, Family> {
    let body = text.strip_suffix("# EOF\n").expect("the end is told");
    assert!(body.lines().all(|line| line != "# EOF"));
    assert!(!text.contains("{}"), "braces around nothing");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let (word, rest) = rest.split_once(' ').expect("a word");
            let (name, value) = rest.split_once(' ').expect("a name");
            if name != current {
                assert!(is_name(name), "{line}");
                assert!(!families.contains_key(name), "the family {name} is there twice");
                families.insert(name.to_owned(), Family::default());
                current = name.to_owned();
            }
            let family = families.get_mut(name).unwrap();
            assert!(family.samples.is_empty(), "metadata behind samples: {line}");
            match word {
                "TYPE" => assert!(std::mem::replace(&mut family.kind, value.to_owned()).is_empty(), "{line}"),
                "UNIT" => {
                    assert!(name.ends_with(&format!("_{value}")), "{line}");
                    assert!(family.unit.replace(value.to_owned()).is_none(), "{line}");
                }
                "HELP" => assert!(!std::mem::replace(&mut family.help, true), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (name, sample) = sample(line);
        let family = families.get_mut(&current).expect("metadata first");
        let suffix = name.strip_prefix(&current).unwrap_or_else(|| panic!("{line} is in {current}"));
        let allowed: &[&str] = match &*family.kind {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_sum", "_count"],
            kind => panic!("{kind}"),
        };
        assert!(allowed.contains(&suffix), "{line} in a {}", family.kind);
        assert!(sample.1 >= 0.0 && sample.1.is_finite(), "{line}");
        family.samples.push((suffix.to_owned(), sample));
    }
    for (name, family) in &families {
        assert!(family.help && !family.kind.is_empty(), "{name}");
        let series: Vec<_> = family.samples.iter().map(|(suffix, (labels, _))| (suffix, labels)).collect();
        assert_eq!(series.iter().collect::<BTreeSet<_>>().len(), series.len(), "{name} has a series twice");
        if family.kind == "histogram" {
            histogram(name, family);
        }
    }
    families
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn sample(line: &str) -> (String, Sample) {
    let end = line.find(['{', ' ']).expect("a name");
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, value) = rest.split_once("=\"").expect("a label");
            assert!(is_name(label), "{line}");
            let mut text = String::new();
            let mut characters = value.chars();
            loop {
                match characters.next().expect("an end") {
                    '"' => break,
                    '\\' => text.push(match characters.next() {
                        Some('n') => '\n',
                        Some(other @ ('\\' | '"')) => other,
                        other => panic!("{other:?} in {line}"),
                    }),
                    other => text.push(other),
                }
            }
            assert!(labels.insert(label.to_owned(), text).is_none(), "{line}");
            rest = characters.as_str();
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        rest = rest.strip_prefix('}').unwrap();
    }
    let value = rest.strip_prefix(' ').expect("a value");
    (name.to_owned(), (labels, value.parse().unwrap_or_else(|_| panic!("{line}"))))
}

/// A histogram's buckets, and its count.
type Series = (Vec<(f64, f64)>, f64);

/// Buckets ascend, and the last has all.
fn histogram(name: &str, family: &Family) {
    let mut by_series: BTreeMap<BTreeMap<String, String>, Series> = BTreeMap::new();
    for (suffix, (labels, value)) in &family.samples {
        let mut labels = labels.clone();
        let bound = labels.remove("le");
        let series = by_series.entry(labels).or_default();
        match &**suffix {
            "_bucket" => {
                let bound = bound.expect("a bound");
                let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
                series.0.push((bound, *value));
            }
            "_count" => series.1 = *value,
            _ => {}
        }
    }
    for (labels, (buckets, count)) in by_series {
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name} {labels:?}: {buckets:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)), "{name} {labels:?}");
    }
}

/// The value of a series.
#[track_caller]
fn value(families: &BTreeMap<String, Family>, name: &str, suffix: &str, labels: &[(&str, &str)]) -> f64 {
    let family = families.get(&format!("tidegate_{name}")).unwrap_or_else(|| panic!("no {name}"));
    let wanted: BTreeMap<_, _> =
        labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
    let found = family.samples.iter().find(|(s, (labels, _))| s == suffix && *labels == wanted);
    found.unwrap_or_else(|| panic!("no {name}{suffix}{labels:?} in {family:?}")).1.1
}

fn request(status: u16, outcome: Option<&'static str>, took: u64) -> Request {
    Request { status, outcome, took, queued: 0, bytes_in: 3, bytes_out: 5 }
}

/// The store does not say what `b` holds, and `idle` may keep nothing.
fn kv(app: &str) -> Option<KvRow> {
    let held = (app != "b").then_some((3, 700));
    (app != "idle").then_some(KvRow { under_way: 4, held })
}

fn text(apps: &[(&str, &AppMetrics)]) -> String {
    let rows = apps.iter().map(|(name, metrics)| {
        (
            (*name).to_owned(),
            AppRow { totals: Totals::of(metrics), running: 1, waiting: 2, log_lost: 0, kv: kv(name) },
        )
    });
    let canary = CanaryFacts { app: "a".into(), version: 7, requests: 9, failures: 1 };
    Snapshot::of(rows.collect(), Facts { ready: true, unserved: 0, canaries: vec![canary] }).text()
}

#[test]
fn the_text_is_what_the_format_asks_for() {
    let metrics = Metrics::new(2);
    let (a, evil, idle) = (metrics.app(0), metrics.app(1), metrics.app(2));
    a.shard(0).request(&request(200, None, MS / 2));
    a.shard(1).request(&request(200, None, 3 * MS));
    a.shard(1).request(&Request { queued: 2 * MS, ..request(503, Some("overloaded"), 60_000 * MS) });
    a.shard(1).request(&request(0, Some("no word of ours"), 0));
    a.shard(0).cpu(1_500_000_000);
    evil.shard(0).request(&request(999, None, 1));
    let families = read(&text(&[("a", &a), ("x\"\\\n# EOF", &evil), ("idle", &idle)]));
    let requests = |class, outcome| {
        value(&families, "requests", "_total", &[("app", "a"), ("class", class), ("outcome", outcome)])
    };
    assert_eq!(
        (requests("2xx", "ok"), requests("5xx", "overloaded"), requests("none", "other")),
        (2.0, 1.0, 1.0)
    );
    let own = |name, suffix| value(&families, name, suffix, &[("app", "a")]);
    assert_eq!((own("cpu_seconds", "_total"), own("queue_seconds", "_total")), (1.5, 0.002));
    assert_eq!((own("request_body_bytes", "_total"), own("response_body_bytes", "_total")), (12.0, 20.0));
    assert_eq!((own("requests_running", ""), own("requests_waiting", "")), (1.0, 2.0));
    assert_eq!(own("request_duration_seconds", "_count"), 4.0);
    let within = |le| value(&families, "request_duration_seconds", "_bucket", &[("app", "a"), ("le", le)]);
    assert_eq!((within("0.001"), within("0.01"), within("30.0"), within("+Inf")), (2.0, 3.0, 3.0, 4.0));
    assert_eq!(value(&families, "canary_failures", "", &[("app", "a"), ("version", "7")]), 1.0);
    assert_eq!(value(&families, "ready", "", &[]), 1.0);
    let evil = [("app", "x\"\\\n# EOF"), ("class", "none"), ("outcome", "ok")];
    assert_eq!(value(&families, "requests", "_total", &evil), 1.0);
    // One that has served nothing has no histogram of nothing.
    let durations = &families["tidegate_request_duration_seconds"];
    assert!(durations.samples.iter().all(|(_, (labels, _))| labels["app"] != "idle"));
    assert_eq!(value(&families, "instances_created", "_total", &[("app", "idle")]), 0.0);
}

#[test]
fn durations_that_meet_a_bound_are_within_it() {
    let metrics = Metrics::new(1);
    let app = metrics.app(0);
    for bound in DURATIONS {
        app.shard(0).request(&request(200, None, bound));
        app.shard(0).request(&request(200, None, bound + 1));
    }
    let totals = Totals::of(&app);
    assert_eq!((totals.durations.counts, totals.durations.beyond), ([1, 2, 2, 2, 2, 2, 2, 2], 1));
}

#[test]
fn words_are_there_once() {
    assert_eq!(OUTCOMES.iter().collect::<BTreeSet<_>>().len(), OUTCOMES.len());
    assert_eq!(OUTCOMES.last(), Some(&"other"));
    // Whatever clients are told of, and what else the access log says.
    use crate::guest::outcome as told;
    let failures = [
        told::NO_SUCH_APP,
        told::OVERLOADED,
        told::LOAD_FAILED,
        told::APP_UNAVAILABLE,
        told::RATE_LIMITED,
        told::RESPONSE_TOO_LARGE,
        told::GUEST_TRAP,
        told::GUEST_MEMORY,
        told::GUEST_ERROR,
        told::CPU_LIMIT,
        told::WALL_LIMIT,
        told::NO_RESPONSE,
        told::BAD_RESPONSE,
        told::CANCELLED,
    ];
    let words = failures.iter().map(|failure| failure.code);
    let others =
        ["unfinished", "cancelled", "slow-reader", "drained", "dev-build", "starting", "bad-request"];
    for word in words.chain(others) {
        assert!(OUTCOMES.contains(&word), "{word} would count as `other`");
    }
}

#[test]
fn what_workers_count_at_once_is_all_there() {
    const EACH: u64 = 50_000;
    let metrics = Metrics::new(4);
    let app = metrics.app(0);
    thread::scope(|scope| {
        for worker in 0..4 {
            let app = &app;
            scope.spawn(move || {
                for _ in 0..EACH {
                    app.shard(worker).request(&request(200, None, 1));
                    app.shard(worker).cpu(2);
                }
            });
        }
    });
    let totals = Totals::of(&app);
    assert_eq!((totals.ok[2], totals.durations.sum_ns, totals.cpu_ns), (4 * EACH, 4 * EACH, 8 * EACH));
}

/// However many apps there are, and however often they come and go: so many have series, and the sum of the others grows.
#[test]
fn the_sum_of_the_others_never_shrinks() {
    let metrics = Metrics::new(1);
    let serve = |app: &Arc<AppMetrics>| app.shard(0).request(&request(200, None, 1));
    let (shown, others) = (metrics.app(APPS_MAX - 1), [metrics.app(APPS_MAX), metrics.app(u32::MAX)]);
    assert!(shown.is_shown() && !others[0].is_shown() && !others[1].is_shown());
    others.iter().chain([&shown]).for_each(serve);
    let gone = |metrics: &Metrics| metrics.rest.lock().ok[2];
    assert_eq!(gone(&metrics), 0);
    drop(shown);
    drop(others);
    assert_eq!(gone(&metrics), 2);
}

#[test]
fn key_value_data_has_its_numbers() {
    let metrics = Metrics::new(1);
    let (a, b, idle) = (metrics.app(0), metrics.app(1), metrics.app(2));
    let counts = Arc::<KvCounts>::default();
    a.follow_kv(&counts);
    a.follow_kv(&counts);
    counts.add(KvKind::Get, KvOutcome::Ok);
    counts.add(KvKind::Swap, KvOutcome::Failed);
    // A version without data came between: what was counted before is not lost.
    let counts = Arc::<KvCounts>::default();
    a.follow_kv(&counts);
    counts.add(KvKind::Get, KvOutcome::Ok);
    let families = read(&text(&[("a", &a), ("b", &b), ("idle", &idle)]));
    let operations = |operation, outcome| {
        let labels = [("app", "a"), ("operation", operation), ("outcome", outcome)];
        value(&families, "kv_operations", "_total", &labels)
    };
    assert_eq!((operations("get", "ok"), operations("swap", "failed")), (2.0, 1.0));
    assert_eq!(families["tidegate_kv_operations"].samples.len(), 2, "nothing of what never was");
    let own = |name| value(&families, name, "", &[("app", "a")]);
    assert_eq!((own("kv_operations_under_way"), own("kv_keys"), own("kv_bytes")), (4.0, 3.0, 700.0));
    for (name, series) in [("kv_operations_under_way", 2), ("kv_keys", 1), ("kv_bytes", 1)] {
        assert_eq!(families[&format!("tidegate_{name}")].samples.len(), series, "{name}");
    }
    // Those without series of their own are not forgotten when they go.
    let other = metrics.app(APPS_MAX);
    other.follow_kv(&counts);
    drop(other);
    assert_eq!(metrics.rest.lock().kv[KvKind::Get as usize][KvOutcome::Ok as usize], 1);
    assert_eq!((KINDS[KvKind::Swap as usize], KV_OUTCOMES[KvOutcome::Failed as usize]), ("swap", "failed"));
}

/// The tables of the operator's guide have each family by its name, and no other.
#[test]
fn the_guide_lists_what_there_is() {
    let guide = include_str!("../../../../docs/operating.md");
    let rows = guide.lines().filter(|line| line.starts_with("| `tidegate_"));
    let cells = rows.filter_map(|line| line.split('|').nth(1));
    let names = cells.flat_map(|cell| cell.split('`').filter(|part| part.starts_with("tidegate_")));
    let listed: Vec<&str> = names.map(|name| name.split('{').next().unwrap_or_default()).collect();
    let families = read(&text(&[]));
    let told: BTreeSet<String> = families
        .iter()
        .map(|(name, family)| if family.kind == "counter" { format!("{name}_total") } else { name.clone() })
        .collect();
    let set: BTreeSet<String> = listed.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(set, told);
    assert_eq!(set.len(), listed.len(), "each once");
}
